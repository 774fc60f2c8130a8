//! Pages that do not answer any more: a script that never ends keeps its page from everything else.

use std::time::Duration;

use futures_util::future::join;
use serde_json::json;

use super::{Notice, Session};
use crate::{BrowserError, BrowserErrorKind, page::Page};

/// How long a page may take to show that it is alive.
const ALIVE: Duration = Duration::from_secs(1);
/// How long a page that does not answer may take to close.
const CLOSE: Duration = Duration::from_secs(5);

/// How often a page is asked that is between two documents.
const AGAIN: Duration = Duration::from_millis(50);

/// What a page is found to be when it is spoken to.
#[derive(PartialEq)]
enum Probed {
    /// It is alive, or closed, which the next call to it reports.
    Answers,
    Crashed,
    Silent,
}

async fn probe(page: &Page) -> Probed {
    let asking = async {
        loop {
            match page.evaluate::<u32>("1", None::<&()>).await {
                Ok(_) => return Probed::Answers,
                Err(error) => match error.kind() {
                    BrowserErrorKind::PageCrashed => return Probed::Crashed,
                    BrowserErrorKind::BrowserGone => return Probed::Answers,
                    // That the document is leaving says nothing about its script.
                    _ => tokio::time::sleep(AGAIN).await,
                },
            }
        }
    };
    let probed = tokio::time::timeout(ALIVE, asking).await;
    probed.unwrap_or(Probed::Silent)
}

/// A page before a navigation.
pub(super) struct Left {
    answers: bool,
    url: String,
}

impl Session {
    /// How long it takes at most to find that a page does not answer, and to replace it.
    pub(super) fn replacing_takes(&self) -> Duration {
        ALIVE + CLOSE + self.0.config.navigation_timeout
    }

    /// Whether a page crashed, which may be known only when it is spoken to.
    pub(super) async fn is_crashed(&self, page: &Page) -> bool {
        probe(page).await == Probed::Crashed
    }

    /// How a page is before it is left.
    pub(super) async fn look_at(&self, page: &Page) -> Left {
        Left {
            answers: probe(page).await != Probed::Silent,
            url: page.url(),
        }
    }

    /// What came of a navigation; where it took too long because the page does not answer, it is replaced.
    pub(super) async fn unless_stuck(
        &self,
        page: &Page,
        left: &Left,
        navigated: Result<(), BrowserError>,
    ) -> Result<(), BrowserError> {
        let late = |error: &BrowserError| error.kind() == BrowserErrorKind::Timeout;
        if !navigated.as_ref().is_err_and(late) {
            return navigated;
        }
        // While a document is on its way the page before it answers nothing.
        let on_its_way = left.answers && left.url == page.url();
        if on_its_way || probe(page).await != Probed::Silent {
            return navigated;
        }
        self.replace(page).await;
        Err(BrowserError::new(
            BrowserErrorKind::Timeout,
            "the page does not answer: a script in it does not end; its tab was closed",
        ))
    }

    /// Closes a page that does not answer any more, and opens an empty one so that the session has a tab.
    pub(super) async fn replace(&self, page: &Page) {
        // Closing ends the renderer, unless it has other pages: then the script has to end, or they would not load.
        // A page that is busy answers only to a session in the browser's protocol that was there before.
        let terminating = async {
            if let Some(session) = self.open_protocol(page).await {
                let _ = session.send("Runtime.terminateExecution", json!({})).await;
            }
        };
        // One that does not close within the time is ended with the browser by whoever closes the session.
        let _ = tokio::time::timeout(CLOSE, join(terminating, page.close())).await;
        self.0.hub.abandon(page);
        // The error says it.
        let closed = |notice: &Notice| matches!(notice, Notice::TabClosed { .. });
        self.0.hub.notices.remove(closed);
        if self.0.hub.tabs().0.is_empty()
            // Where that fails the next action says that there is no tab.
            && let Ok(number) = self.0.hub.open().await
        {
            self.0.hub.select(number);
        }
    }
}
