//! The end of a session.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::Session;
use crate::BrowserError;
#[cfg(doc)]
use crate::BrowserErrorKind;

impl Session {
    /// Ends the session: its pages, its proxy, its files. A profile is saved first. Returns the videos, if it
    /// recorded any and no secret was typed. Does nothing the second time.
    ///
    /// # Errors
    ///
    /// [`BrowserErrorKind::StoreAway`] if the profile could not be saved; the session has ended all the same.
    pub async fn close(&self) -> Result<Vec<bytes::Bytes>, BrowserError> {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        let saved = self.save_profile().await;
        // What hangs is not waited for longer than the browser is given to close.
        let closing = tokio::time::timeout(Duration::from_secs(5), self.0.context.close()).await;
        if closing.is_err() && self.0.browser.is_alive() {
            self.0.browser.kill("a session could not be closed");
        }
        let videos = self.videos();
        self.record("browser.close", "", begun, &saved).await;
        saved.map(|()| videos)
    }

    async fn save_profile(&self) -> Result<(), BrowserError> {
        let (Some(name), Some(profiles)) = (&self.0.options.profile, &self.0.config.profiles)
        else {
            return Ok(());
        };
        if !self.0.browser.is_alive() {
            return Err(self.0.browser.gone_error());
        }
        let saving = async {
            let options = playwright_rs::StorageStateOptions::default().indexed_db(true);
            let state = self
                .0
                .context
                .storage_state(options)
                .await
                .map_err(BrowserError::of)?;
            profiles.save(self.owner(), name, &state).await
        };
        self.bounded(Duration::from_secs(10), saving).await
    }

    fn videos(&self) -> Vec<bytes::Bytes> {
        // What fields showed cannot be covered afterwards.
        let hidden = self.no_secret("its videos are not shown").is_err();
        let Some(folder) = self.0.folder.as_ref().filter(|_| !hidden) else {
            return Vec::new();
        };
        let files = std::fs::read_dir(folder.path())
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|file| std::fs::read(file.path()).ok())
            .map(Into::into)
            .collect()
    }
}
