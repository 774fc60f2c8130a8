//! Pages and elements, spoken to in the driver's own protocol.
//!
//! `playwright-rs` has types for them. Theirs refer to themselves and are never freed, see `driver/tap.rs`; here a page
//! is the names of two objects of the driver.

mod element;
mod input;
mod protocol;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use playwright_rs::{
    protocol::evaluate_conversion::{parse_result, serialize_argument, serialize_null},
    server::connection::ConnectionLike,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(crate) use self::{
    element::{Element, FileField, Until},
    protocol::Protocol,
};
use crate::{BrowserError, BrowserErrorKind, Files};

/// Calls methods of the driver's objects.
#[derive(Clone)]
pub(crate) struct Remote {
    connection: Arc<dyn ConnectionLike>,
    /// How long an action may take, and a navigation.
    action: Duration,
    navigation: Duration,
}

impl Remote {
    pub(crate) fn new(
        connection: Arc<dyn ConnectionLike>,
        action: Duration,
        navigation: Duration,
    ) -> Self {
        Self {
            connection,
            action,
            navigation,
        }
    }

    /// The same for what makes or ends something large: a page, a session of the browser's own protocol.
    pub(crate) async fn arrange(
        &self,
        guid: &str,
        method: &str,
        mut parameters: Value,
    ) -> Result<Value, BrowserError> {
        parameters["timeout"] = millis(self.navigation).into();
        self.call(guid, method, parameters).await
    }

    /// Calls a method of an object. The driver gives up after the time for an action, unless `timeout` is among the
    /// parameters.
    pub(crate) async fn call(
        &self,
        guid: &str,
        method: &str,
        mut parameters: Value,
    ) -> Result<Value, BrowserError> {
        if let Some(fields) = parameters.as_object_mut() {
            let most = millis(self.action);
            fields.entry("timeout").or_insert_with(|| most.into());
        }
        self.connection
            .send_message(guid, method, parameters)
            .await
            .map_err(BrowserError::of)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The name of an object in an answer.
pub(crate) fn guid_of(value: &Value) -> Option<&str> {
    value["guid"].as_str()
}

fn missing(what: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::Driver, what)
}

fn binary(answer: &Value, field: &str) -> Result<Vec<u8>, BrowserError> {
    let text = answer[field].as_str().unwrap_or_default();
    let bytes = BASE64_STANDARD.decode(text);
    bytes.map_err(|error| missing("the driver answered no file").with_source(error))
}

/// How a picture is to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture {
    /// What it must not show.
    pub(crate) cover: Option<&'static str>,
    /// JPEG of this quality, 1 to 100, instead of PNG.
    pub(crate) jpeg: Option<u8>,
    /// One dot for each CSS pixel instead of each of the device.
    pub(crate) css_scale: bool,
    pub(crate) timeout: Duration,
}

fn payloads(files: &[Files]) -> Vec<Value> {
    let payload = |file: &Files| json!({ "name": file.name, "mimeType": file.media_type, "buffer": BASE64_STANDARD.encode(&file.content) });
    files.iter().map(payload).collect()
}

/// A frame: its name, and the address of its document by the browser's word.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) guid: Arc<str>,
    pub(crate) parent: Option<Arc<str>>,
    /// The address, and how many documents there have been.
    document: Arc<RwLock<(String, u64)>>,
}

impl Frame {
    pub(crate) fn new(guid: &str, parent: Option<&str>, url: &str) -> Self {
        Self {
            guid: guid.into(),
            parent: parent.map(Into::into),
            document: Arc::new(RwLock::new((url.to_owned(), 0))),
        }
    }

    pub(crate) fn url(&self) -> String {
        let own = self.document.read().unwrap_or_else(PoisonError::into_inner);
        own.0.clone()
    }

    fn documents(&self) -> u64 {
        let own = self.document.read().unwrap_or_else(PoisonError::into_inner);
        own.1
    }

    /// The frame has another address, and perhaps another document.
    pub(crate) fn moved(&self, url: String, to_document: bool) {
        let mut own = self
            .document
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *own = (url, own.1 + u64::from(to_document));
    }
}

/// One page. Clones are the same page.
#[derive(Clone)]
pub(crate) struct Page {
    remote: Remote,
    context: Arc<str>,
    guid: Arc<str>,
    frame: Frame,
}

impl Page {
    pub(crate) fn new(remote: Remote, context: &Arc<str>, guid: &str, frame: Frame) -> Self {
        Self {
            remote,
            context: Arc::clone(context),
            guid: guid.into(),
            frame,
        }
    }

    /// The same page with other bounds for an action and a navigation.
    pub(crate) fn within(&self, action: Duration, navigation: Duration) -> Self {
        let mut page = self.clone();
        page.remote.action = action;
        page.remote.navigation = navigation;
        page
    }

    pub(crate) fn action_timeout(&self) -> Duration {
        self.remote.action
    }

    /// The name of the context that it belongs to.
    pub(crate) fn context(&self) -> &str {
        &self.context
    }

    pub(crate) fn guid(&self) -> &str {
        &self.guid
    }

    pub(crate) fn main_frame(&self) -> &str {
        &self.frame.guid
    }

    pub(crate) fn url(&self) -> String {
        self.frame.url()
    }

    /// How many documents the page has had: references are of one.
    pub(crate) fn documents(&self) -> u64 {
        self.frame.documents()
    }

    async fn of_page(&self, method: &str, parameters: Value) -> Result<Value, BrowserError> {
        self.remote.call(&self.guid, method, parameters).await
    }

    async fn of_frame(&self, method: &str, parameters: Value) -> Result<Value, BrowserError> {
        self.remote.call(&self.frame.guid, method, parameters).await
    }

    /// Opens an address and waits until its document is there.
    pub(crate) async fn goto(&self, url: &str) -> Result<(), BrowserError> {
        let timeout = millis(self.remote.navigation);
        let wanted = json!({ "url": url, "waitUntil": "domcontentloaded", "timeout": timeout });
        self.of_frame("goto", wanted).await.map(drop)
    }

    /// `reload`, `goBack` or `goForward`. Tells whether there was a page to go to.
    pub(crate) async fn travel(&self, method: &str) -> Result<bool, BrowserError> {
        let before = self.url();
        let timeout = millis(self.remote.navigation);
        let wanted = json!({ "waitUntil": "domcontentloaded", "timeout": timeout });
        let answer = self.of_page(method, wanted).await?;
        Ok(guid_of(&answer["response"]).is_some() || self.url() != before)
    }

    pub(crate) async fn title(&self) -> Result<String, BrowserError> {
        let answer = self.of_frame("title", json!({})).await?;
        Ok(answer["value"].as_str().unwrap_or_default().to_owned())
    }

    /// Evaluates an expression, or calls a function, in the main frame.
    pub(crate) async fn evaluate<T: DeserializeOwned>(
        &self,
        expression: &str,
        argument: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, BrowserError> {
        self.evaluate_in(&self.frame.guid, expression, argument)
            .await
    }

    /// The same in any frame.
    pub(crate) async fn evaluate_in<T: DeserializeOwned>(
        &self,
        frame: &str,
        expression: &str,
        argument: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, BrowserError> {
        let argument = argument.map_or_else(serialize_null, serialize_argument);
        let wanted = json!({ "expression": expression, "arg": argument });
        let answer = self
            .remote
            .call(frame, "evaluateExpression", wanted)
            .await?;
        read(&answer)
    }

    /// The accessibility tree with references, as text.
    pub(crate) async fn aria_snapshot(&self) -> Result<String, BrowserError> {
        let answer = self
            .of_frame("ariaSnapshot", json!({ "mode": "ai" }))
            .await?;
        Ok(answer["snapshot"].as_str().unwrap_or_default().to_owned())
    }

    /// A picture of what can be seen, or of the whole page.
    pub(crate) async fn screenshot(
        &self,
        full: bool,
        picture: &Picture,
    ) -> Result<Vec<u8>, BrowserError> {
        let mut wanted = self.picture(picture);
        wanted["fullPage"] = full.into();
        binary(&self.of_page("screenshot", wanted).await?, "binary")
    }

    fn picture(&self, picture: &Picture) -> Value {
        let frame = json!({ "guid": &*self.frame.guid });
        let covered = picture.cover.iter();
        let covered = covered.map(|selector| json!({ "frame": frame, "selector": selector }));
        let covered: Vec<Value> = covered.collect();
        let mut wanted = json!({ "type": "png", "mask": covered, "maskColor": "#808080",
            "scale": if picture.css_scale { "css" } else { "device" }, "timeout": millis(picture.timeout) });
        if let Some(quality) = picture.jpeg {
            wanted["type"] = "jpeg".into();
            wanted["quality"] = quality.into();
        }
        wanted
    }

    pub(crate) async fn pdf(&self) -> Result<Vec<u8>, BrowserError> {
        let timeout = millis(self.remote.navigation);
        let wanted = json!({ "printBackground": true, "timeout": timeout });
        binary(&self.of_page("pdf", wanted).await?, "pdf")
    }

    pub(crate) async fn close(&self) -> Result<(), BrowserError> {
        self.of_page("close", json!({})).await.map(drop)
    }

    pub(crate) async fn bring_to_front(&self) -> Result<(), BrowserError> {
        self.of_page("bringToFront", json!({})).await.map(drop)
    }

    pub(crate) async fn resize(&self, width: u32, height: u32) -> Result<(), BrowserError> {
        let wanted = json!({ "viewportSize": { "width": width, "height": height } });
        self.of_page("setViewportSize", wanted).await.map(drop)
    }

    /// The element that a selector matches, looked for when something is done with it.
    pub(crate) fn element(&self, selector: &str) -> Element {
        Element::new(self.clone(), selector.to_owned())
    }

    /// Whether a frame shows a text.
    pub(crate) async fn shows_text(&self, frame: &str, text: &str) -> Result<bool, BrowserError> {
        let quoted = Value::from(text);
        let wanted = json!({ "selector": format!("internal:text={quoted}i >> visible=true") });
        let answer = self.remote.call(frame, "queryCount", wanted).await?;
        Ok(answer["value"].as_u64() > Some(0))
    }
}

/// The value of a script.
fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, BrowserError> {
    serde_json::from_value(parse_result(&answer["value"]))
        .map_err(|error| missing("the page answered something else").with_source(error))
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Page").field(&self.guid).finish()
    }
}
