//! What the driver reports about a session, in its order.

use serde_json::Value;

use super::hub::{Hub, MESSAGE, lock, text};
use crate::{
    driver::Listen,
    page::{Frame, guid_of},
};

/// The longest address of a frame that is remembered, in bytes; longer ones have no place in an answer.
const ADDRESS: usize = 64 * 1024;

impl Listen for Hub {
    fn created(&self, kind: &str, guid: &str, initial: &Value) {
        match kind {
            "Frame" => {
                let url = text(&initial["url"], ADDRESS);
                let frame = Frame::new(guid, guid_of(&initial["parentFrame"]), &url);
                lock(&self.pages).frames.insert(guid.to_owned(), frame);
            }
            "Page" => {
                let main = guid_of(&initial["mainFrame"]).unwrap_or_default();
                let main = main.to_owned();
                lock(&self.pages).main.insert(guid.to_owned(), main);
            }
            "Dialog" => self.dialogs.known(guid, initial),
            "Request" => self.requests.known(guid, initial),
            "Response" => self.requests.responded(guid, initial),
            _ => {}
        }
    }

    fn happened(&self, guid: &str, event: &str, details: &Value) {
        let request = || guid_of(&details["request"]).unwrap_or_default();
        let dialog = || guid_of(&details["dialog"]).unwrap_or_default();
        match event {
            "page" => self.opened(guid_of(&details["page"]).unwrap_or_default()),
            "close" => self.closed(guid),
            "crash" => {
                self.said("pageerror", "the page crashed".to_owned());
                self.crashed(guid);
            }
            "navigated" if details["error"].is_null() => {
                if let Some(frame) = lock(&self.pages).frames.get(guid) {
                    let to_document = !details["newDocument"].is_null();
                    frame.moved(text(&details["url"], ADDRESS), to_document);
                }
            }
            "frameDetached" => {
                let frame = guid_of(&details["frame"]).unwrap_or_default();
                lock(&self.pages).frames.remove(frame);
            }
            "request" => self.requests.began(request(), self.number()),
            "requestFinished" => self.requests.ended(request(), None),
            "requestFailed" => {
                let failure = details["failureText"].as_str().unwrap_or("failed");
                self.requests.ended(request(), Some(failure));
            }
            "console" => {
                let level = details["type"].as_str().unwrap_or("log");
                self.said(level, text(&details["text"], MESSAGE));
            }
            "pageError" => {
                let thrown = &details["error"];
                let message = &thrown["error"]["message"];
                let said = if message.is_string() {
                    message
                } else {
                    &thrown["value"]["s"]
                };
                self.said("pageerror", text(said, MESSAGE));
            }
            "dialog" => self.asked(dialog()),
            "dialogClosed" => self.dialog_closed(self.dialogs.closed(dialog())),
            "fileChooser" => self.chooser_opened(details),
            "download" => self.downloading(details),
            _ => {}
        }
    }

    fn disposed(&self, guid: &str) {
        self.requests.forget(guid);
        self.dialog_closed(self.dialogs.disposed(guid));
        let is_page = {
            let mut pages = lock(&self.pages);
            pages.frames.remove(guid);
            pages.main.contains_key(guid)
        };
        if is_page {
            self.closed(guid);
        }
    }
}
