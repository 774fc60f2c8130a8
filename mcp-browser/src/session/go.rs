//! Going to pages, and answering their dialogs.

use std::time::Duration;

use super::{Session, settle::Rounds};
use crate::{BrowserError, BrowserErrorKind, page::Page};

impl Session {
    /// Opens an address in the current tab and waits until its document is there and what it loads at once.
    ///
    /// # Errors
    ///
    /// `Denied` for what the policy refuses, `Navigation` for what cannot be loaded, `Timeout`. Where the page before
    /// or the new one runs a script that never ends, its tab is closed, and the error says so.
    pub async fn navigate(&self, url: &str) -> Result<(), BrowserError> {
        let limit = self.navigation_timeout();
        let work = async {
            self.0.proxy.policy().check(url)?;
            self.no_dialog()?;
            let page = self.living_page().await?;
            self.0.proxy.take_trouble();
            self.record_navigation(url);
            self.load(&page, url).await
        };
        self.run(
            "browser.navigate",
            url,
            limit + self.replacing_takes(),
            work,
        )
        .await
    }

    /// Loads an address, in another page if this one crashes meanwhile, or did so a moment ago. A page that does not
    /// answer any more is replaced.
    async fn load(&self, page: &Page, url: &str) -> Result<(), BrowserError> {
        let left = self.look_at(page).await;
        // Boxed: it would be a part of every future that navigates.
        match Box::pin(self.unless_dialog(self.goto(page, url))).await {
            Err(error) if self.has_crashed(page, &error).await => {
                self.0.hub.crashed(page.guid());
                let page = self.living_page().await?;
                Box::pin(self.unless_dialog(self.goto(&page, url))).await
            }
            loaded => self.unless_stuck(page, &left, loaded).await,
        }
    }

    /// Whether an error came from a crash: a navigation may be reported as broken off before the crash is.
    async fn has_crashed(&self, page: &Page, error: &BrowserError) -> bool {
        match error.kind() {
            BrowserErrorKind::PageCrashed => true,
            BrowserErrorKind::Navigation => self.is_crashed(page).await,
            _ => false,
        }
    }

    /// The current page; one that crashed is replaced.
    async fn living_page(&self) -> Result<Page, BrowserError> {
        match self.page() {
            Err(error) if error.kind() == BrowserErrorKind::PageCrashed => {}
            other => return other.map(|(_, page)| page),
        }
        let (tabs, current) = self.0.hub.tabs();
        let dead = tabs.into_iter().find(|tab| tab.number == current);
        if let Some(tab) = dead {
            self.0.hub.abandon(&tab.page);
            // It may not answer; the context takes it along in the end.
            tokio::spawn(async move { tab.page.close().await });
        }
        let number = self.0.hub.open().await?;
        self.0.hub.select(number);
        self.page().map(|(_, page)| page)
    }

    async fn goto(&self, page: &Page, url: &str) -> Result<(), BrowserError> {
        let begun = self.begin();
        self.0.hub.requests.fresh();
        let mut attempts = 0;
        loop {
            let result = tokio::select! {
                result = page.goto(url) => result,
                // The page would wait for the rest of its document.
                full = self.0.proxy.exhausted() => return Err(full),
            };
            attempts += 1;
            match result {
                // The page that Chromium shows after a refusal may still be on its way.
                Err(error) if attempts < 4 && error.is_interruption() => {
                    tokio::time::sleep(Duration::from_millis(20 * attempts)).await;
                }
                Err(error) => return Err(self.explain(error)),
                Ok(()) => break,
            }
        }
        self.settle(page, &begun, Rounds::Navigation).await;
        if page.url().starts_with("chrome-error:") {
            let message = "the page could not be loaded";
            return Err(self.explain(BrowserError::new(BrowserErrorKind::Navigation, message)));
        }
        Ok(())
    }

    /// Says why a connection was not made, which the browser shows as a broken one.
    fn explain(&self, error: BrowserError) -> BrowserError {
        let trouble = self.0.proxy.take_trouble().into_iter();
        let trouble = trouble.map(|trouble| trouble.error);
        let (denied, other): (Vec<_>, Vec<_>) =
            trouble.partition(|error| error.kind() == BrowserErrorKind::Denied);
        match denied.into_iter().chain(other).next() {
            Some(reason) if error.kind() == BrowserErrorKind::Navigation => reason,
            _ => error,
        }
    }

    /// Goes back (a negative number), forward, or loads the page again (zero).
    ///
    /// # Errors
    ///
    /// As [`Session::navigate`], and `InvalidInput` where there is no such page.
    pub async fn travel(&self, steps: i32) -> Result<(), BrowserError> {
        let work = async {
            self.no_dialog()?;
            if steps == 0
                && self
                    .page()
                    .is_err_and(|error| error.kind() == BrowserErrorKind::PageCrashed)
            {
                let url = self.0.hub.current_url().unwrap_or_default();
                let page = self.living_page().await?;
                return self.load(&page, &url).await;
            }
            let (_, page) = self.page()?;
            let left = self.look_at(&page).await;
            let begun = self.begin();
            self.0.hub.requests.fresh();
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
                self.settle(&page, &begun, Rounds::Navigation).await;
                Ok(())
            };
            let gone = self.unless_dialog(going).await;
            self.unless_stuck(&page, &left, gone).await
        };
        let limit = self.navigation_timeout() + self.replacing_takes();
        self.run("browser.travel", &steps.to_string(), limit, work)
            .await
    }

    /// Refuses to do anything while a dialog is open: the page stands still.
    pub(crate) fn no_dialog(&self) -> Result<(), BrowserError> {
        match self.dialog() {
            None => Ok(()),
            Some(dialog) => Err(BrowserError::new(
                BrowserErrorKind::DialogOpen,
                dialog.demand(),
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
            let begun = self.continue_action();
            self.0.hub.dialogs.answered(open.number);
            self.0.hub.answer(&open, accept, text).await?;
            let (_, page) = self.page()?;
            self.unless_dialog(async {
                self.settle(&page, &begun, Rounds::Action).await;
                Ok(())
            })
            .await
        };
        let limit = self.action_timeout() + self.settle_timeout();
        self.run(
            "browser.dialog",
            if accept { "accept" } else { "dismiss" },
            limit,
            work,
        )
        .await
    }
}
