//! Going to pages, waiting for them, and their tabs and dialogs.

use std::time::Duration;

use super::Session;
use crate::{
    BrowserError, BrowserErrorKind,
    page::{Page, Until},
};

/// Lets the event loop of the page run once, and the frame be drawn where it is drawn.
const TURN: &str = "() => new Promise(done => { requestAnimationFrame(() => setTimeout(done, 0)); setTimeout(done, 25); })";
/// How long that may take on a page that is busy.
const TURN_LIMIT: Duration = Duration::from_millis(1000);

impl Session {
    /// Opens an address in the current tab and waits until its document is there and what it loads at once.
    ///
    /// # Errors
    ///
    /// `Denied` for what the policy refuses, `Navigation` for what cannot be loaded, `Timeout`.
    pub async fn navigate(&self, url: &str) -> Result<(), BrowserError> {
        let limit = self.0.config.navigation_timeout;
        let work = async {
            self.0.proxy.policy().check(url)?;
            self.no_dialog()?;
            let (_, page) = self.page()?;
            self.0.proxy.take_trouble();
            self.unless_dialog(self.goto(&page, url)).await
        };
        self.run(
            "browser.navigate",
            url,
            limit + Duration::from_secs(1),
            work,
        )
        .await
    }

    async fn goto(&self, page: &Page, url: &str) -> Result<(), BrowserError> {
        let mark = self.0.hub.mark();
        let mut tries = 0;
        loop {
            let result = tokio::select! {
                result = page.goto(url) => result,
                // The page would wait for the rest of its document.
                full = self.0.proxy.exhausted() => return Err(full),
            };
            tries += 1;
            match result {
                // The page that Chromium shows after a refusal may still be on its way.
                Err(error) if tries < 4 && error.is_interruption() => {
                    tokio::time::sleep(Duration::from_millis(20 * tries)).await;
                }
                Err(error) => return Err(self.explain(error)),
                Ok(()) => break,
            }
        }
        self.quiet(mark).await;
        if page.url().starts_with("chrome-error:") {
            let message = "the page could not be loaded";
            return Err(self.explain(BrowserError::new(BrowserErrorKind::Navigation, message)));
        }
        Ok(())
    }

    /// Says why a connection was not made, which the browser shows as a broken one.
    fn explain(&self, error: BrowserError) -> BrowserError {
        let trouble = self.0.proxy.take_trouble();
        let (denied, other): (Vec<_>, Vec<_>) = trouble
            .into_iter()
            .partition(|error| error.kind() == BrowserErrorKind::Denied);
        match denied.into_iter().chain(other).next() {
            Some(reason) if error.kind() == BrowserErrorKind::Navigation => reason,
            _ => error,
        }
    }

    /// Goes back (a negative number), forward, or loads the page again (zero).
    ///
    /// # Errors
    ///
    /// As [`Session::navigate`]; `InvalidInput` where there is no such page.
    pub async fn travel(&self, steps: i32) -> Result<(), BrowserError> {
        let work = async {
            self.no_dialog()?;
            let (_, page) = self.page()?;
            let mark = self.0.hub.mark();
            let way = match steps {
                0 => "reload",
                ..0 => "goBack",
                _ => "goForward",
            };
            let going = async {
                for _ in 0..steps.unsigned_abs().clamp(1, 20) {
                    let moved = page.travel(way).await;
                    let moved = moved.map_err(|error| self.explain(error))?;
                    if steps != 0 && !moved {
                        return Err(BrowserError::new(
                            BrowserErrorKind::InvalidInput,
                            "there is no page in that direction",
                        ));
                    }
                }
                self.quiet(mark).await;
                Ok(())
            };
            self.unless_dialog(going).await
        };
        let limit = self.0.config.navigation_timeout + Duration::from_secs(1);
        self.run("browser.travel", &steps.to_string(), limit, work)
            .await
    }

    /// Waits for what an action set off.
    pub(crate) async fn settle(&self, page: &Page, mark: u64) {
        let turn = || async {
            // A page that is being replaced answers with an error: then there is a request to wait for.
            let _ = tokio::time::timeout(
                TURN_LIMIT,
                page.evaluate::<serde_json::Value>(TURN, None::<&()>),
            )
            .await;
        };
        turn().await;
        if self.quiet(mark).await {
            turn().await;
        }
    }

    /// Waits until no request is under way that began since the mark; tells whether there was one.
    pub(crate) async fn quiet(&self, mark: u64) -> bool {
        let quiet = self.0.hub.quiet_since(mark);
        tokio::time::timeout(self.0.config.settle_timeout, quiet)
            .await
            .unwrap_or(true)
    }

    /// Refuses to do anything while a dialog is open: the page stands still.
    pub(crate) fn no_dialog(&self) -> Result<(), BrowserError> {
        match self.dialog() {
            None => Ok(()),
            Some(dialog) => Err(BrowserError::new(
                BrowserErrorKind::DialogOpen,
                format!(
                    "the page shows a dialog that has to be answered first: {}: {}",
                    dialog.kind, dialog.message
                ),
            )),
        }
    }

    /// Runs work until a dialog opens: then the page stands still, and the work is as good as done.
    pub(crate) async fn unless_dialog(
        &self,
        work: impl Future<Output = Result<(), BrowserError>>,
    ) -> Result<(), BrowserError> {
        let mut dialog = self.0.hub.dialog();
        tokio::select! {
            biased;
            result = work => result,
            _ = dialog.wait_for(Option::is_some) => Ok(()),
        }
    }

    /// Answers the dialog that is open.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is none.
    pub async fn answer_dialog(
        &self,
        accept: bool,
        text: Option<&str>,
    ) -> Result<(), BrowserError> {
        let work = async {
            let open = self.0.hub.dialog().borrow().clone().ok_or_else(|| {
                BrowserError::new(BrowserErrorKind::InvalidInput, "no dialog is open")
            })?;
            let mark = self.0.hub.mark();
            self.0.hub.answered(open.number);
            self.0.hub.answer(&open, accept, text).await?;
            let (_, page) = self.page()?;
            self.unless_dialog(async {
                self.settle(&page, mark).await;
                Ok(())
            })
            .await
        };
        let limit = self.0.config.action_timeout + self.0.config.settle_timeout;
        self.run(
            "browser.dialog",
            if accept { "accept" } else { "dismiss" },
            limit,
            work,
        )
        .await
    }

    /// Waits for an element to be there (or gone), for a text to be on the page, or for a time.
    ///
    /// # Errors
    ///
    /// `Timeout`.
    pub async fn wait(&self, wait: &Wait) -> Result<(), BrowserError> {
        let most = Duration::from_secs(60);
        let limit = match wait {
            Wait::Time(time) => (*time).min(most) + Duration::from_secs(1),
            _ => self.0.config.navigation_timeout,
        };
        let work = async {
            if let Wait::Time(time) = wait {
                tokio::time::sleep((*time).min(most)).await;
                return Ok(());
            }
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let (element, until) = match wait {
                Wait::Gone(target) => (self.locate(tab, &page, target)?, Until::Hidden),
                Wait::Text(text) => (page.with_text(text), Until::Visible),
                Wait::Element(target) => (self.locate(tab, &page, target)?.first(), Until::Visible),
                Wait::Time(_) => return Ok(()),
            };
            element.wait(until, limit).await
        };
        self.run("browser.wait", "", limit + Duration::from_secs(1), work)
            .await
    }

    /// Opens a tab and makes it the current one.
    ///
    /// # Errors
    ///
    /// `LimitReached` if there are too many.
    pub async fn open_tab(&self) -> Result<u32, BrowserError> {
        let work = async {
            if self.0.hub.tabs().0.len() >= self.0.hub.max_tabs {
                return Err(BrowserError::new(
                    BrowserErrorKind::LimitReached,
                    "the session has all the tabs it may have: close one",
                ));
            }
            let number = self.0.hub.open().await?;
            self.0.hub.select(number);
            Ok(number)
        };
        self.run(
            "browser.open_tab",
            "",
            self.0.config.navigation_timeout,
            work,
        )
        .await
    }

    /// Makes a tab the current one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no such tab.
    pub async fn select_tab(&self, number: u32) -> Result<(), BrowserError> {
        let work = async {
            if self.0.hub.select(number) {
                let (_, page) = self.page()?;
                return page.bring_to_front().await;
            }
            Err(no_tab(number))
        };
        self.run(
            "browser.select_tab",
            &number.to_string(),
            self.0.config.action_timeout,
            work,
        )
        .await
    }

    /// Closes a tab. The last one may be closed too; the session stays.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no such tab.
    pub async fn close_tab(&self, number: u32) -> Result<(), BrowserError> {
        let work = async {
            let (tabs, _) = self.0.hub.tabs();
            let tab = tabs
                .into_iter()
                .find(|tab| tab.number == number)
                .ok_or_else(|| no_tab(number))?;
            tab.page.close().await
        };
        self.run(
            "browser.close_tab",
            &number.to_string(),
            self.0.config.action_timeout,
            work,
        )
        .await
    }

    /// Changes the size of the page.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is not 100 to 4096 in both directions.
    pub async fn resize(&self, viewport: super::Viewport) -> Result<(), BrowserError> {
        let work = async {
            let fits = |length| (100..=4096).contains(&length);
            if !fits(viewport.width) || !fits(viewport.height) {
                return Err(BrowserError::new(
                    BrowserErrorKind::InvalidInput,
                    "viewport is not 100 to 4096 in both directions",
                ));
            }
            let (_, page) = self.page()?;
            page.resize(viewport.width, viewport.height).await
        };
        self.run("browser.resize", "", self.0.config.action_timeout, work)
            .await
    }
}

/// What to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// An element that can be seen.
    Element(String),
    /// No such element that can be seen.
    Gone(String),
    /// A text on the page.
    Text(String),
    /// A time, at most a minute.
    Time(Duration),
}

fn no_tab(number: u32) -> BrowserError {
    BrowserError::new(
        BrowserErrorKind::InvalidInput,
        format!("there is no tab {number}: list the tabs"),
    )
}
