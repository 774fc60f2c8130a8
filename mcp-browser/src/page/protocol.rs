use serde_json::{Value, json};

use super::{Page, Remote, guid_of, missing};
use crate::BrowserError;

/// A session of the browser's own protocol (CDP) with one page.
#[derive(Clone)]
pub(crate) struct Protocol {
    remote: Remote,
    guid: String,
}

impl Protocol {
    pub(crate) async fn open(remote: &Remote, page: &Page) -> Result<Self, BrowserError> {
        let wanted = json!({ "page": { "guid": page.guid() } });
        let answer = remote
            .arrange(page.context(), "newCDPSession", wanted)
            .await?;
        let guid =
            guid_of(&answer["session"]).ok_or_else(|| missing("no session with the page"))?;
        Ok(Self {
            remote: remote.clone(),
            guid: guid.to_owned(),
        })
    }

    pub(crate) async fn send(&self, method: &str, parameters: Value) -> Result<(), BrowserError> {
        let wanted = json!({ "method": method, "params": parameters });
        self.remote.call(&self.guid, "send", wanted).await.map(drop)
    }
}
