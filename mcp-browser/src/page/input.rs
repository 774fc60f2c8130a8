//! Keys and the mouse of a page, wherever the focus or the pointer is; and its file choosers.

use serde_json::{Value, json};

use super::{Page, element::takes_text, payloads};
use crate::{BrowserError, Click, Files, scripts};

impl Page {
    /// Types key by key where the focus is, whatever it is.
    pub(super) async fn type_keys(&self, text: &str) -> Result<(), BrowserError> {
        let wanted = json!({ "text": text });
        self.of_page("keyboardType", wanted).await.map(drop)
    }

    /// Types key by key, if the focus is on something that takes keys.
    pub(crate) async fn type_at_focus(&self, text: &str) -> Result<(), BrowserError> {
        let takes: String = self.evaluate(scripts::AT_FOCUS, None::<&()>).await?;
        takes_text(&takes)?;
        self.type_keys(text).await
    }

    pub(crate) async fn press_key(&self, key: &str) -> Result<(), BrowserError> {
        let wanted = json!({ "key": key });
        self.of_page("keyboardPress", wanted).await.map(drop)
    }

    pub(crate) async fn mouse_move(
        &self,
        (x, y): (f64, f64),
        steps: u32,
    ) -> Result<(), BrowserError> {
        let wanted = json!({ "x": x, "y": y, "steps": steps });
        self.of_page("mouseMove", wanted).await.map(drop)
    }

    pub(crate) async fn mouse_click(
        &self,
        (x, y): (f64, f64),
        click: &Click,
    ) -> Result<(), BrowserError> {
        let button = click.button.name();
        let wanted = json!({ "x": x, "y": y, "button": button, "clickCount": click.count });
        self.of_page("mouseClick", wanted).await.map(drop)
    }

    /// `mouseDown` or `mouseUp` with the left button.
    pub(crate) async fn mouse_button(&self, method: &str) -> Result<(), BrowserError> {
        self.of_page(method, json!({})).await.map(drop)
    }

    pub(crate) async fn mouse_wheel(&self, right: f64, down: f64) -> Result<(), BrowserError> {
        let wanted = json!({ "deltaX": right, "deltaY": down });
        self.of_page("mouseWheel", wanted).await.map(drop)
    }

    pub(crate) async fn emulate_media(&self, wanted: Value) -> Result<(), BrowserError> {
        self.of_page("emulateMedia", wanted).await.map(drop)
    }

    /// Has the driver report file choosers, which then open no window.
    pub(crate) async fn intercept_choosers(&self) -> Result<(), BrowserError> {
        let wanted = json!({ "event": "fileChooser", "enabled": true });
        self.of_page("updateSubscription", wanted).await.map(drop)
    }

    /// Gives files to the field that a file chooser was opened for.
    pub(crate) async fn choose(&self, field: &str, files: &[Files]) -> Result<(), BrowserError> {
        let wanted = json!({ "payloads": payloads(files) });
        let given = self.remote.call(field, "setInputFiles", wanted).await;
        // It ends with its page otherwise.
        let _ = self.remote.call(field, "dispose", json!({})).await;
        given.map(drop)
    }
}
