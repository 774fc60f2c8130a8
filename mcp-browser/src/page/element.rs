use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use playwright_rs::protocol::evaluate_conversion::{serialize_argument, serialize_null};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Page, binary, guid_of, millis, missing, read};
use crate::{BrowserError, Files};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Attached,
    #[cfg(feature = "captcha")]
    Detached,
    Hidden,
    Visible,
}

impl Until {
    const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            #[cfg(feature = "captcha")]
            Self::Detached => "detached",
            Self::Hidden => "hidden",
            Self::Visible => "visible",
        }
    }
}

/// The one element of a page that a selector matches; several are an error.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    page: Page,
    selector: String,
}

/// Lets go of an element's handle.
struct Handle<'a> {
    page: &'a Page,
    guid: String,
}

impl Handle<'_> {
    async fn call(&self, method: &str, parameters: Value) -> Result<Value, BrowserError> {
        self.page.remote.call(&self.guid, method, parameters).await
    }

    async fn dispose(self) {
        // It ends with its page otherwise.
        let _ = self.call("dispose", json!({})).await;
    }
}

impl Element {
    pub(super) fn new(page: Page, selector: String) -> Self {
        Self { page, selector }
    }

    /// The first where there are several.
    pub(crate) fn first(self) -> Self {
        let selector = format!("{} >> nth=0", self.selector);
        Self { selector, ..self }
    }

    async fn call(&self, method: &str, mut parameters: Value) -> Result<Value, BrowserError> {
        parameters["selector"] = self.selector.as_str().into();
        parameters["strict"] = true.into();
        self.page.of_frame(method, parameters).await
    }

    /// Clicks with a button: `left`, `right` or `middle`.
    pub(crate) async fn click(&self, button: &str) -> Result<(), BrowserError> {
        self.call("click", json!({ "button": button }))
            .await
            .map(drop)
    }

    pub(crate) async fn double_click(&self) -> Result<(), BrowserError> {
        self.call("dblclick", json!({})).await.map(drop)
    }

    pub(crate) async fn hover(&self) -> Result<(), BrowserError> {
        self.call("hover", json!({})).await.map(drop)
    }

    pub(crate) async fn fill(&self, text: &str) -> Result<(), BrowserError> {
        self.call("fill", json!({ "value": text })).await.map(drop)
    }

    /// Types key by key.
    pub(crate) async fn type_text(&self, text: &str) -> Result<(), BrowserError> {
        self.call("type", json!({ "text": text })).await.map(drop)
    }

    /// Selects options by value or label.
    pub(crate) async fn select(&self, options: &[String]) -> Result<(), BrowserError> {
        let options = options.iter();
        let options: Vec<Value> = options
            .map(|option| json!({ "valueOrLabel": option }))
            .collect();
        let wanted = json!({ "options": options });
        self.call("selectOption", wanted).await.map(drop)
    }

    pub(crate) async fn check(&self, on: bool) -> Result<(), BrowserError> {
        let method = if on { "check" } else { "uncheck" };
        self.call(method, json!({})).await.map(drop)
    }

    pub(crate) async fn press(&self, key: &str) -> Result<(), BrowserError> {
        self.call("press", json!({ "key": key })).await.map(drop)
    }

    pub(crate) async fn drag_to(&self, onto: &Self) -> Result<(), BrowserError> {
        let wanted = json!({ "source": self.selector, "target": onto.selector, "strict": true });
        self.page.of_frame("dragAndDrop", wanted).await.map(drop)
    }

    pub(crate) async fn upload(&self, files: &[Files]) -> Result<(), BrowserError> {
        let files = files.iter().map(|file| {
            json!({ "name": file.name, "mimeType": file.media_type, "buffer": BASE64_STANDARD.encode(&file.content) })
        });
        let wanted = json!({ "payloads": files.collect::<Vec<_>>() });
        self.call("setInputFiles", wanted).await.map(drop)
    }

    pub(crate) async fn count(&self) -> Result<u64, BrowserError> {
        let wanted = json!({ "selector": self.selector });
        let answer = self.page.of_frame("queryCount", wanted).await?;
        Ok(answer["value"].as_u64().unwrap_or_default())
    }

    #[cfg(feature = "captcha")]
    pub(crate) async fn input_value(&self) -> Result<String, BrowserError> {
        let answer = self.call("inputValue", json!({})).await?;
        Ok(answer["value"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn wait(&self, until: Until, timeout: Duration) -> Result<(), BrowserError> {
        let wanted =
            json!({ "state": until.name(), "timeout": millis(timeout), "omitReturnValue": true });
        self.call("waitForSelector", wanted).await.map(drop)
    }

    /// Calls a function with the element and an argument.
    pub(crate) async fn evaluate<T: DeserializeOwned>(
        &self,
        function: &str,
        argument: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, BrowserError> {
        let argument = argument.map_or_else(serialize_null, serialize_argument);
        let wanted = json!({ "expression": function, "isFunction": true, "arg": argument });
        read(&self.call("evalOnSelector", wanted).await?)
    }

    async fn handle(&self) -> Result<Handle<'_>, BrowserError> {
        let wanted = json!({ "state": "attached" });
        let answer = self.call("waitForSelector", wanted).await?;
        let guid = guid_of(&answer["element"]).ok_or_else(|| missing("no such element"))?;
        Ok(Handle {
            page: &self.page,
            guid: guid.to_owned(),
        })
    }

    pub(crate) async fn scroll(&self) -> Result<(), BrowserError> {
        let handle = self.handle().await?;
        let done = handle.call("scrollIntoViewIfNeeded", json!({})).await;
        handle.dispose().await;
        done.map(drop)
    }

    pub(crate) async fn screenshot(&self, cover: Option<&str>) -> Result<Vec<u8>, BrowserError> {
        let handle = self.handle().await?;
        let taken = handle.call("screenshot", self.page.picture(cover)).await;
        handle.dispose().await;
        binary(&taken?, "binary")
    }

    /// Fills this very element, if `text` wants to for the frame that it is in. What the selector finds a moment later
    /// does not matter: a page could move to another origin in between, but an element cannot.
    pub(crate) async fn fill_where<F>(
        &self,
        text: impl FnOnce(String) -> F,
    ) -> Result<(), BrowserError>
    where
        F: Future<Output = Result<mcp_core::secret::Secret, BrowserError>>,
    {
        let handle = self.handle().await?;
        let done = async {
            let answer = handle.call("ownerFrame", json!({})).await?;
            let frame = guid_of(&answer["frame"]).ok_or_else(|| missing("no such frame"))?;
            let secret = text(frame.to_owned()).await?;
            handle
                .call("fill", json!({ "value": secret.secret() }))
                .await
        }
        .await;
        handle.dispose().await;
        done.map(drop)
    }
}
