//! Waiting for pages.

use std::time::Duration;

use super::Session;
use crate::{
    BrowserError, BrowserErrorKind,
    page::{Page, Until},
};

/// The longest time that one call waits.
const LONGEST: Duration = Duration::from_secs(60);
/// How often a page is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// How long nothing may be in flight before the network counts as idle.
const IDLE: Duration = Duration::from_millis(500);
/// How many frames are looked into for a text.
const FRAMES: usize = 50;

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// An element that can be seen.
    Element(String),
    /// No such element that can be seen.
    Gone(String),
    /// A text that can be seen in the page or one of its frames.
    Text(String),
    /// No such text that can be seen.
    TextGone(String),
    /// The page's document has been loaded so far.
    Load(LoadState),
    /// A time, at most a minute.
    Time(Duration),
}

/// How far a document has been loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadState {
    /// Its text has been read (`DOMContentLoaded`).
    Parsed,
    /// It has been loaded with what it names (`load`).
    Loaded,
    /// Beside that no request that changes it has been in flight for half a second. A page that polls never is.
    Idle,
}

impl Session {
    /// Waits for an element or a text to be there or gone, for a load state, or for a time.
    ///
    /// # Errors
    ///
    /// `Timeout`; `InvalidInput` for a time of more than a minute.
    pub async fn wait(&self, wait: &Wait) -> Result<(), BrowserError> {
        let limit = match wait {
            Wait::Time(time) => *time + Duration::from_secs(1),
            _ => self.navigation_timeout(),
        };
        let work = async {
            if let Wait::Time(time) = wait {
                if *time > LONGEST {
                    let message = "one call waits for at most 60 s: call again for more";
                    return Err(BrowserError::new(BrowserErrorKind::InvalidInput, message));
                }
                tokio::time::sleep(*time).await;
                return Ok(());
            }
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            match wait {
                Wait::Gone(target) => {
                    let element = self.locate(tab, &page, target)?;
                    element.wait(Until::Hidden, limit).await
                }
                Wait::Element(target) => {
                    let element = self.locate(tab, &page, target)?.first();
                    element.wait(Until::Visible, limit).await
                }
                Wait::Text(text) => self.wait_for_text(&page, text, true, limit).await,
                Wait::TextGone(text) => self.wait_for_text(&page, text, false, limit).await,
                Wait::Load(state) => self.wait_for_state(&page, *state, limit).await,
                Wait::Time(_) => Ok(()),
            }
        };
        self.run("browser.wait", "", limit + Duration::from_secs(1), work)
            .await
    }

    /// Looks into every frame, again and again: frames come and go.
    async fn wait_for_text(
        &self,
        page: &Page,
        text: &str,
        there: bool,
        limit: Duration,
    ) -> Result<(), BrowserError> {
        let looking = async {
            loop {
                let frames = self.0.hub.frames_of(page, FRAMES);
                let looks = frames.iter().map(|frame| page.shows_text(frame, text));
                let looks = futures_util::future::join_all(looks).await;
                if looks.into_iter().flatten().any(|shown| shown) == there {
                    return;
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        let looked = tokio::time::timeout(limit, looking).await;
        looked.map_err(|_| {
            let what = if there {
                "did not appear"
            } else {
                "did not go away"
            };
            let message = format!(
                "the text {text:?} {what} within {} s: take a snapshot",
                limit.as_secs_f64()
            );
            BrowserError::new(BrowserErrorKind::Timeout, message)
        })
    }

    async fn wait_for_state(
        &self,
        page: &Page,
        state: LoadState,
        limit: Duration,
    ) -> Result<(), BrowserError> {
        let wanted: &[&str] = match state {
            LoadState::Parsed => &["interactive", "complete"],
            LoadState::Loaded | LoadState::Idle => &["complete"],
        };
        let looking = async {
            loop {
                // A page that is being replaced is not loaded.
                let ready = page
                    .evaluate::<String>("document.readyState", None::<&()>)
                    .await;
                if ready.is_ok_and(|ready| wanted.contains(&ready.as_str())) {
                    break;
                }
                tokio::time::sleep(EVERY).await;
            }
            if state == LoadState::Idle {
                self.idle().await;
            }
        };
        let looked = tokio::time::timeout(limit, looking).await;
        looked.map_err(|_| {
            let message = format!(
                "the page was not loaded so far within {} s",
                limit.as_secs_f64()
            );
            BrowserError::new(BrowserErrorKind::Timeout, message)
        })
    }

    /// Waits until nothing has been in flight for a while.
    async fn idle(&self) {
        let requests = &self.0.hub.requests;
        loop {
            let mark = requests.began_so_far();
            requests.idle().await;
            tokio::time::sleep(IDLE).await;
            if requests.began_so_far() == mark {
                return;
            }
        }
    }
}
