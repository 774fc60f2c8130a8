use std::time::Duration;

use playwright_rs::protocol::evaluate_conversion::{serialize_argument, serialize_null};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Page, Picture, binary, guid_of, millis, missing, payloads, read};
use crate::{BrowserError, BrowserErrorKind, Click, Files, scripts};

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

/// A text of more bytes is not typed into a text area, for which Chromium lays all of its lines out again and again.
const LONG: usize = 8192;

/// Where the file field is that an element stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileField {
    /// The element is one, or its label.
    Itself,
    /// The only one in the element.
    Inside,
    /// Nowhere near: a click may open a chooser.
    Chosen,
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

    /// Calls a function with the element.
    async fn evaluate<T: DeserializeOwned>(&self, function: &str) -> Result<T, BrowserError> {
        let wanted = json!({ "expression": function, "isFunction": true, "arg": serialize_null() });
        read(&self.call("evaluateExpression", wanted).await?)
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

    pub(crate) fn selector(&self) -> &str {
        &self.selector
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

    pub(crate) async fn click(&self, click: &Click) -> Result<(), BrowserError> {
        let modifiers = click.modifiers.iter().map(|modifier| modifier.name());
        let wanted = json!({ "button": click.button.name(), "clickCount": click.count,
            "modifiers": modifiers.collect::<Vec<_>>() });
        self.call("click", wanted).await.map(drop)
    }

    pub(crate) async fn hover(&self) -> Result<(), BrowserError> {
        self.call("hover", json!({})).await.map(drop)
    }

    pub(crate) async fn fill(&self, text: &str) -> Result<(), BrowserError> {
        if text.len() > LONG && self.set_value(text).await? {
            return Ok(());
        }
        self.call("fill", json!({ "value": text })).await.map(drop)
    }

    /// Sets the value of a field that can be seen and used at once, and tells whether it was one.
    async fn set_value(&self, text: &str) -> Result<bool, BrowserError> {
        self.wait(Until::Visible, self.page.action_timeout())
            .await?;
        let handle = self.handle().await?;
        let wanted = json!({ "expression": scripts::SET_VALUE, "isFunction": true, "arg": serialize_argument(&text) });
        let set = handle.call("evaluateExpression", wanted).await;
        handle.dispose().await;
        read(&set?)
    }

    /// Whether it is a list of options.
    pub(crate) async fn is_list(&self) -> Result<bool, BrowserError> {
        let handle = self.handle().await?;
        let list = handle.evaluate("e => (e.closest('label')?.control ?? e).tagName === 'SELECT'");
        let list = list.await;
        handle.dispose().await;
        list
    }

    /// Types key by key, where the element takes a text.
    pub(crate) async fn type_text(&self, text: &str) -> Result<(), BrowserError> {
        let handle = self.handle().await?;
        let takes = handle.evaluate::<String>(scripts::FOCUS).await;
        handle.dispose().await;
        takes_text(&takes?)?;
        self.page.type_keys(text).await
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
        let wanted = json!({ "payloads": payloads(files) });
        self.call("setInputFiles", wanted).await.map(drop)
    }

    pub(crate) async fn drop_files(&self, files: &[Files]) -> Result<(), BrowserError> {
        let wanted = json!({ "payloads": payloads(files) });
        self.call("drop", wanted).await.map(drop)
    }

    /// Looks for the file field that the element stands for.
    pub(crate) async fn file_field(&self) -> Result<FileField, BrowserError> {
        let handle = self.handle().await?;
        let found = handle.evaluate::<String>(scripts::FILE_FIELD).await;
        handle.dispose().await;
        Ok(match found?.as_str() {
            "itself" => FileField::Itself,
            "inside" => FileField::Inside,
            _ => FileField::Chosen,
        })
    }

    /// What a selector matches inside of the element.
    pub(crate) fn inside(&self, selector: &str) -> Self {
        let selector = format!("{} >> {selector}", self.selector);
        Self::new(self.page.clone(), selector)
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

    /// Calls a function of the caller with the element.
    pub(crate) async fn call_with(&self, function: &str) -> Result<Value, BrowserError> {
        let handle = self.handle().await?;
        let value = handle.evaluate::<Value>(function).await;
        handle.dispose().await;
        value
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

    /// Its accessibility tree with references, as text.
    pub(crate) async fn aria_snapshot(&self) -> Result<String, BrowserError> {
        let wanted = json!({ "mode": "ai", "selector": self.selector });
        let answer = self.page.of_frame("ariaSnapshot", wanted).await?;
        Ok(answer["snapshot"].as_str().unwrap_or_default().to_owned())
    }

    /// How a script in `javascript` or `python` names it.
    pub(crate) async fn locator_code(&self, language: &str) -> Result<String, BrowserError> {
        let wanted = json!({ "selector": self.selector, "sdkLanguage": language });
        let answer = self.page.of_frame("resolveSelector", wanted).await?;
        let code = answer["locatorCode"].as_str();
        code.map(str::to_owned).ok_or_else(|| missing("no locator"))
    }

    /// Waits until what is expected of it holds.
    pub(crate) async fn expect(&self, mut wanted: Value) -> Result<(), BrowserError> {
        wanted["selector"] = self.selector.as_str().into();
        self.page.of_frame("expect", wanted).await.map(drop)
    }

    /// The middle of what is seen of it, in CSS pixels of the page.
    pub(crate) async fn middle(&self) -> Result<(f64, f64), BrowserError> {
        let handle = self.handle().await?;
        let found = async {
            handle.call("scrollIntoViewIfNeeded", json!({})).await?;
            handle.call("boundingBox", json!({})).await
        };
        let found = found.await;
        handle.dispose().await;
        let found = found?;
        let side = |name: &str| found["value"][name].as_f64();
        let middle = || {
            Some((
                side("x")? + side("width")? / 2.0,
                side("y")? + side("height")? / 2.0,
            ))
        };
        middle().ok_or_else(|| {
            let message = "the element cannot be seen and has no place";
            BrowserError::new(BrowserErrorKind::InvalidInput, message)
        })
    }

    pub(crate) async fn scroll(&self) -> Result<(), BrowserError> {
        let handle = self.handle().await?;
        let done = handle.call("scrollIntoViewIfNeeded", json!({})).await;
        handle.dispose().await;
        done.map(drop)
    }

    pub(crate) async fn screenshot(&self, picture: &Picture) -> Result<Vec<u8>, BrowserError> {
        let handle = self.handle().await?;
        let taken = handle.call("screenshot", self.page.picture(picture)).await;
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

/// Says what to do about an element that takes no text.
pub(super) fn takes_text(answer: &str) -> Result<(), BrowserError> {
    let remedy = match answer {
        "" => return Ok(()),
        "readonly" => "it is read-only",
        "disabled" => "it is disabled",
        "field" => "it is a field of another kind: click it, or use select, check or upload",
        _ => {
            "it is not editable: name the field itself, or click it and type at the focus (without a selector)"
        }
    };
    Err(BrowserError::new(
        BrowserErrorKind::InvalidInput,
        format!("the element takes no text: {remedy}"),
    ))
}
