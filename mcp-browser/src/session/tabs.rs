//! Tabs.

use super::{Notice, Session};
use crate::{BrowserError, BrowserErrorKind};

impl Session {
    /// Opens a tab and makes it the current one.
    ///
    /// # Errors
    ///
    /// `LimitReached` if there are too many.
    pub async fn open_tab(&self) -> Result<u32, BrowserError> {
        let work = async {
            if self.0.hub.tabs().0.len() >= self.0.hub.config.max_tabs {
                return Err(BrowserError::new(
                    BrowserErrorKind::LimitReached,
                    "the session has all the tabs it may have: close one",
                ));
            }
            let number = self.0.hub.open().await?;
            self.0.hub.select(number);
            Ok(number)
        };
        let limit = self.0.config.navigation_timeout;
        self.run("browser.open_tab", "", limit, work).await
    }

    /// Makes a tab the current one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no such tab.
    pub async fn select_tab(&self, number: u32) -> Result<(), BrowserError> {
        let work = async {
            if !self.0.hub.select(number) {
                return Err(no_tab(number));
            }
            match self.page() {
                Ok((_, page)) => page.bring_to_front().await,
                // It is selected all the same, to be loaded again.
                Err(error) if error.kind() == BrowserErrorKind::PageCrashed => Ok(()),
                Err(error) => Err(error),
            }
        };
        let limit = self.0.config.action_timeout;
        let target = number.to_string();
        self.run("browser.select_tab", &target, limit, work).await
    }

    /// Closes a tab without asking its page. The last one may be closed too; the session stays.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is no such tab.
    pub async fn close_tab(&self, number: u32) -> Result<(), BrowserError> {
        let work = async {
            let (tabs, _) = self.0.hub.tabs();
            let tab = tabs.into_iter().find(|tab| tab.number == number);
            let tab = tab.ok_or_else(|| no_tab(number))?;
            let closed = tab.page.close().await;
            // The caller asked for it.
            let own = |notice: &Notice| matches!(notice, Notice::TabClosed { number: of, .. } if *of == number);
            self.0.hub.notices.remove(own);
            closed
        };
        let limit = self.0.config.action_timeout;
        let target = number.to_string();
        self.run("browser.close_tab", &target, limit, work).await
    }
}

fn no_tab(number: u32) -> BrowserError {
    BrowserError::new(
        BrowserErrorKind::InvalidInput,
        format!("there is no tab {number}: list the tabs"),
    )
}
