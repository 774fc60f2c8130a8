//! What sessions leave behind: traces and downloads.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use playwright_rs::{TracingStartOptions, TracingStopOptions};

use super::{Session, hub::Download, lock};
use crate::{BrowserError, BrowserErrorKind, Downloads};

/// A file that a page has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptDownload {
    /// Its number in the session, from 1.
    pub number: u32,
    /// The name that the server gave it, without what file systems dislike.
    pub name: String,
    /// Its size in bytes, if it is complete.
    pub size: Option<u64>,
    /// Where it is kept, if it is.
    pub path: Option<PathBuf>,
    /// Why it is not.
    pub problem: Option<String>,
}

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
            self.0
                .context
                .tracing()
                .await
                .map_err(BrowserError::of)?
                .start(options)
                .await
                .map_err(BrowserError::of)?;
            *lock(&self.0.traffic.tracing) = Some(folder);
            Ok(())
        };
        self.run("browser.start_trace", "", self.action_timeout(), work)
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
            self.0
                .context
                .tracing()
                .await
                .map_err(BrowserError::of)?
                .stop(options)
                .await
                .map_err(BrowserError::of)?;
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

    /// The downloads so far. What is complete is copied into the session's folder.
    ///
    /// # Errors
    ///
    /// `Denied` unless the operator allows downloads.
    pub async fn downloads(&self) -> Result<Vec<KeptDownload>, BrowserError> {
        let work = async {
            self.may_download()?;
            let mut kept = Vec::new();
            for download in self.0.hub.downloads() {
                kept.push(self.keep(&download).await?);
            }
            Ok(kept)
        };
        let limit = self.navigation_timeout();
        self.run("browser.downloads", "", limit, work).await
    }

    /// The content of a download, by its number.
    ///
    /// # Errors
    ///
    /// `Denied` unless the operator allows downloads, `InvalidInput` for one that is not there or not complete,
    /// `TooLarge`.
    pub async fn read_download(&self, number: u32) -> Result<(KeptDownload, Bytes), BrowserError> {
        let work = async {
            self.may_download()?;
            let mut all = self.0.hub.downloads().into_iter();
            let download = all.find(|download| download.number == number);
            let download = download.ok_or_else(|| {
                let message = "there is no download with this number: list them";
                BrowserError::new(BrowserErrorKind::InvalidInput, message)
            })?;
            let kept = self.keep(&download).await?;
            let Some(path) = &kept.path else {
                let why = kept.problem.clone().unwrap_or_default();
                let kind = match kept.size {
                    Some(_) => BrowserErrorKind::TooLarge,
                    None => BrowserErrorKind::InvalidInput,
                };
                return Err(BrowserError::new(kind, why));
            };
            let content = tokio::fs::read(path).await.map_err(not_kept)?;
            Ok((kept, content.into()))
        };
        let target = number.to_string();
        let limit = self.navigation_timeout();
        self.run("browser.read_download", &target, limit, work)
            .await
    }

    /// The operator's folder for downloads and the largest one in bytes.
    fn may_download(&self) -> Result<(&Path, u64), BrowserError> {
        match &self.0.config.downloads {
            Downloads::Keep { folder, max_bytes } => Ok((folder, *max_bytes)),
            Downloads::Deny => Err(BrowserError::new(
                BrowserErrorKind::Denied,
                "downloads are not allowed by the operator",
            )),
        }
    }

    async fn keep(&self, download: &Download) -> Result<KeptDownload, BrowserError> {
        let (folder, max_bytes) = self.may_download()?;
        let name = plain_name(&download.name);
        let mut kept = KeptDownload {
            number: download.number,
            name: name.clone(),
            size: None,
            path: None,
            problem: None,
        };
        let place = folder.join(&self.0.id);
        let place = place.join(format!("{}-{name}", download.number));
        if let Ok(found) = tokio::fs::metadata(&place).await {
            kept.size = Some(found.len());
            kept.path = Some(place);
            return Ok(kept);
        }
        if let Some(size) = lock(&self.0.traffic.too_large).get(&download.number) {
            kept.size = Some(*size);
            kept.problem = Some(too_large(*size, max_bytes));
            return Ok(kept);
        }
        // Waits until it is complete, for as long as an action may take.
        let path = match self.0.hub.complete(download).await {
            Ok(path) => path,
            Err(error) => {
                kept.problem = Some(match error.kind() {
                    BrowserErrorKind::Timeout => "it is not complete yet".to_owned(),
                    _ => format!("it failed: {error}"),
                });
                return Ok(kept);
            }
        };
        let size = tokio::fs::metadata(&path).await.map_err(not_kept)?.len();
        kept.size = Some(size);
        if size > max_bytes {
            self.0.hub.discard(download).await?;
            lock(&self.0.traffic.too_large).insert(download.number, size);
            kept.problem = Some(too_large(size, max_bytes));
            return Ok(kept);
        }
        let folder = folder.join(&self.0.id);
        tokio::fs::create_dir_all(&folder).await.map_err(not_kept)?;
        tokio::fs::copy(&path, &place).await.map_err(not_kept)?;
        kept.path = Some(place);
        Ok(kept)
    }
}

fn too_large(size: u64, most: u64) -> String {
    format!("it has {size} bytes, more than the {most} that the operator allows")
}

fn not_kept(error: std::io::Error) -> BrowserError {
    BrowserError::new(BrowserErrorKind::Driver, "a download cannot be kept").with_source(error)
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
