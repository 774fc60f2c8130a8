//! What sessions leave behind: traces and downloads.

use std::path::PathBuf;

use bytes::Bytes;
use playwright_rs::{TracingStartOptions, TracingStopOptions};

use super::{Session, lock};
use crate::{BrowserError, BrowserErrorKind, Downloads};

impl Session {
    /// Begins a trace, which Playwright's trace viewer shows.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if one is being written already.
    pub async fn start_trace(&self) -> Result<(), BrowserError> {
        let work = async {
            if lock(&self.0.traffic.tracing).is_some() {
                return Err(BrowserError::new(
                    BrowserErrorKind::InvalidInput,
                    "a trace is being written already",
                ));
            }
            let folder = tempfile::TempDir::with_prefix("mcp-browser-trace-").map_err(|error| {
                BrowserError::new(BrowserErrorKind::Driver, "no folder for the trace")
                    .with_source(error)
            })?;
            let options = TracingStartOptions::default()
                .screenshots(true)
                .snapshots(true);
            self.0.context.tracing().await?.start(options).await?;
            *lock(&self.0.traffic.tracing) = Some(folder);
            Ok(())
        };
        self.run(
            "browser.start_trace",
            "",
            self.0.config.action_timeout,
            work,
        )
        .await
    }

    /// Ends the trace and returns it as a ZIP file.
    ///
    /// # Security
    ///
    /// A trace holds everything that happened, typed secrets included: [`Session::start_trace`] is the operator's tool.
    /// No trace is answered in a session into which a secret was typed.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if none is being written, `Denied` where a secret was typed.
    pub async fn stop_trace(&self) -> Result<Bytes, BrowserError> {
        let work = async {
            let folder = lock(&self.0.traffic.tracing).take().ok_or_else(|| {
                BrowserError::new(BrowserErrorKind::InvalidInput, "no trace is being written")
            })?;
            let path = folder.path().join("trace.zip");
            let options = TracingStopOptions::default().path(path.display().to_string());
            self.0.context.tracing().await?.stop(options).await?;
            self.no_secret("its trace is not shown")?;
            tokio::fs::read(&path)
                .await
                .map(Bytes::from)
                .map_err(|error| {
                    BrowserError::new(BrowserErrorKind::Driver, "the trace was not written")
                        .with_source(error)
                })
        };
        self.run(
            "browser.stop_trace",
            "",
            self.0.config.navigation_timeout,
            work,
        )
        .await
    }

    /// Copies the downloads so far into the session's folder and returns where they are, with the names that the
    /// server gave them.
    ///
    /// # Errors
    ///
    /// `Denied` unless the operator allows downloads, `TooLarge`.
    pub async fn downloads(&self) -> Result<Vec<(String, PathBuf)>, BrowserError> {
        let work = async {
            let Downloads::Keep { folder, max_bytes } = &self.0.config.downloads else {
                return Err(BrowserError::new(
                    BrowserErrorKind::Denied,
                    "downloads are not allowed by the operator",
                ));
            };
            let folder = folder.join(&self.0.id);
            let failed = |error: std::io::Error| {
                BrowserError::new(BrowserErrorKind::Driver, "a download cannot be kept")
                    .with_source(error)
            };
            tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
            let mut kept = Vec::new();
            for (index, download) in self.0.hub.downloads().into_iter().enumerate() {
                // Waits until it is complete. What failed is not there.
                let Some(path) = self.0.hub.complete(&download).await else {
                    continue;
                };
                let size = tokio::fs::metadata(&path).await.map_err(failed)?.len();
                if size > *max_bytes {
                    self.0.hub.discard(&download).await?;
                    return Err(BrowserError::new(
                        BrowserErrorKind::TooLarge,
                        format!("a download has {size} bytes, more than {max_bytes}"),
                    ));
                }
                let name = plain_name(&download.name);
                let place = folder.join(format!("{index}-{name}"));
                tokio::fs::copy(&path, &place).await.map_err(failed)?;
                kept.push((name, place));
            }
            Ok(kept)
        };
        self.run(
            "browser.downloads",
            "",
            self.0.config.navigation_timeout,
            work,
        )
        .await
    }
}

/// A file name without folders, dots at its beginning, and what file systems dislike.
fn plain_name(name: &str) -> String {
    let keep = |c: char| {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ') {
            c
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(keep).take(100).collect();
    match name.trim_start_matches('.').trim() {
        "" => "download".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_downloads_stay_in_their_folder() {
        for (name, plain) in [
            ("../../etc/passwd", "_.._etc_passwd"),
            ("", "download"),
            ("..", "download"),
            ("a b.pdf", "a b.pdf"),
            ("x\0\n", "x__"),
        ] {
            assert_eq!(plain_name(name), plain);
        }
    }
}
