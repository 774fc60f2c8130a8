//! Changing what pages get: interception, network conditions, cookies, storage; and what they leave behind.

use std::{collections::HashMap, path::PathBuf, sync::Mutex};

use bytes::Bytes;
use playwright_rs::{
    Cookie, FulfillOptions, TracingStartOptions, TracingStopOptions,
    protocol::{ContinueOptions, Route as Intercepted},
};
use serde_json::json;

use super::{Session, lock};
use crate::{BrowserError, BrowserErrorKind, Downloads, page::Protocol, scripts};

/// How many rules a session may have.
const MAX_ROUTES: usize = 50;

/// What to do with requests that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// They fail.
    Block,
    /// They are answered without being sent.
    Fulfil {
        /// The status.
        status: u16,
        /// The media type.
        content_type: String,
        /// The body.
        body: String,
    },
    /// They are sent with these headers beside or instead of their own.
    Modify {
        /// Names and values.
        headers: Vec<(String, String)>,
    },
}

/// How the network is. What is not set is as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conditions {
    /// No network.
    pub offline: bool,
    /// Milliseconds until the first byte.
    pub latency_ms: Option<u32>,
    /// Bytes in a second.
    pub download: Option<u32>,
    /// Bytes in a second.
    pub upload: Option<u32>,
}

impl Conditions {
    /// Describes a network.
    #[must_use]
    pub const fn new(
        offline: bool,
        latency_ms: Option<u32>,
        download: Option<u32>,
        upload: Option<u32>,
    ) -> Self {
        Self {
            offline,
            latency_ms,
            download,
            upload,
        }
    }
}

/// What a session has set up.
#[derive(Default)]
pub(crate) struct Traffic {
    routes: Mutex<Vec<(String, Route)>>,
    throttled: tokio::sync::Mutex<HashMap<String, Protocol>>,
    tracing: Mutex<Option<tempfile::TempDir>>,
}

fn invalid(message: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::InvalidInput, message)
}

impl Session {
    /// Applies a rule to requests whose address matches a pattern such as `**/*.png` or `https://shop.example/api/**`.
    /// The newest rule that matches counts.
    ///
    /// # Security
    ///
    /// Rules change what pages get; they are no boundary. The origin policy holds whatever rules say.
    ///
    /// # Errors
    ///
    /// `LimitReached` above 50 rules, `InvalidInput` for an impossible pattern, status or header.
    pub async fn route(&self, pattern: &str, route: Route) -> Result<(), BrowserError> {
        let work = async {
            if pattern.is_empty() || pattern.len() > 1000 {
                return Err(invalid("pattern is empty or longer than 1000 bytes"));
            }
            check(&route)?;
            if lock(&self.0.traffic.routes).len() >= MAX_ROUTES {
                return Err(BrowserError::new(
                    BrowserErrorKind::LimitReached,
                    "the session has all the rules it may have: clear them",
                ));
            }
            let rule = route.clone();
            self.0
                .context
                .route(pattern, move |request| apply(request, rule.clone()))
                .await?;
            lock(&self.0.traffic.routes).push((pattern.to_owned(), route));
            Ok(())
        };
        self.run("browser.route", pattern, self.0.config.action_timeout, work)
            .await
    }

    /// Forgets all rules.
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn clear_routes(&self) -> Result<(), BrowserError> {
        let work = async {
            let patterns: Vec<String> = lock(&self.0.traffic.routes)
                .drain(..)
                .map(|(pattern, _)| pattern)
                .collect();
            for pattern in patterns {
                self.0.context.unroute(&pattern).await?;
            }
            Ok(())
        };
        self.run(
            "browser.clear_routes",
            "",
            self.0.config.action_timeout,
            work,
        )
        .await
    }

    /// The rules, oldest first.
    #[must_use]
    pub fn routes(&self) -> Vec<(String, Route)> {
        lock(&self.0.traffic.routes).clone()
    }

    /// Sets how the network of the current tab is; offline holds for the whole session.
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn set_conditions(&self, conditions: Conditions) -> Result<(), BrowserError> {
        let work = async {
            let (_, page) = self.page()?;
            self.0.context.set_offline(conditions.offline).await?;
            let mut throttled = self.0.traffic.throttled.lock().await;
            let session = match throttled.get(page.guid()) {
                Some(session) => session.clone(),
                None => {
                    let session = Protocol::open(&self.0.hub.remote, &page).await?;
                    session.send("Network.enable", json!({})).await?;
                    throttled.insert(page.guid().to_owned(), session.clone());
                    session
                }
            };
            let rate = |bytes: Option<u32>| bytes.map_or(-1, i64::from);
            let parameters = json!({
                "offline": conditions.offline,
                "latency": conditions.latency_ms.unwrap_or(0),
                "downloadThroughput": rate(conditions.download),
                "uploadThroughput": rate(conditions.upload),
            });
            let method = "Network.emulateNetworkConditions";
            session.send(method, parameters).await
        };
        self.run("browser.conditions", "", self.0.config.action_timeout, work)
            .await
    }

    /// The session's cookies as JSON, values included.
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn cookies(&self) -> Result<serde_json::Value, BrowserError> {
        let work = async {
            let cookies = self.0.context.cookies(None).await?;
            let text = serde_json::to_string(&cookies).unwrap_or_default();
            Ok(serde_json::from_str(&self.shown(&text)).unwrap_or_default())
        };
        self.run("browser.cookies", "", self.0.config.action_timeout, work)
            .await
    }

    /// Sets a cookie for an address.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, `Denied` for an address that the session may not reach.
    pub async fn set_cookie(&self, url: &str, name: &str, value: &str) -> Result<(), BrowserError> {
        let work = async {
            self.0.proxy.policy().check(url)?;
            let cookie = Cookie::new(name, value).url(url);
            Ok(self.0.context.add_cookies(&[cookie]).await?)
        };
        self.run(
            "browser.set_cookie",
            name,
            self.0.config.action_timeout,
            work,
        )
        .await
    }

    /// Forgets all cookies.
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn clear_cookies(&self) -> Result<(), BrowserError> {
        let work = async { Ok(self.0.context.clear_cookies(None).await?) };
        self.run(
            "browser.clear_cookies",
            "",
            self.0.config.action_timeout,
            work,
        )
        .await
    }

    /// The items of the page's local storage (or session storage) as pairs.
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn storage(&self, local: bool) -> Result<Vec<(String, String)>, BrowserError> {
        let work = async {
            let (_, page) = self.page()?;
            let items: Vec<(String, String)> = page.evaluate(scripts::STORED, Some(&local)).await?;
            Ok(items
                .into_iter()
                .map(|(name, value)| (self.shown(&name), self.shown(&value)))
                .collect())
        };
        self.run("browser.storage", "", self.0.config.action_timeout, work)
            .await
    }

    /// Sets (a value) or removes (`None`) an item of the page's local storage (or session storage).
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn set_storage(
        &self,
        local: bool,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), BrowserError> {
        let work = async {
            let (_, page) = self.page()?;
            let item = json!({ "local": local, "name": name, "value": value });
            page.evaluate(scripts::STORE, Some(&item)).await
        };
        self.run(
            "browser.set_storage",
            name,
            self.0.config.action_timeout,
            work,
        )
        .await
    }

    /// Begins a trace, which Playwright's trace viewer shows.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if one is being written already.
    pub async fn start_trace(&self) -> Result<(), BrowserError> {
        let work = async {
            if lock(&self.0.traffic.tracing).is_some() {
                return Err(invalid("a trace is being written already"));
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
            let folder = lock(&self.0.traffic.tracing)
                .take()
                .ok_or_else(|| invalid("no trace is being written"))?;
            let path = folder.path().join("trace.zip");
            let options = TracingStopOptions::default().path(path.display().to_string());
            self.0.context.tracing().await?.stop(options).await?;
            if !lock(&self.0.secrets).is_empty() {
                return Err(BrowserError::new(
                    BrowserErrorKind::Denied,
                    "a secret was typed in this session: its trace is not shown",
                ));
            }
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

fn check(route: &Route) -> Result<(), BrowserError> {
    match route {
        Route::Block => Ok(()),
        Route::Fulfil { status, .. } if !(100..=599).contains(status) => {
            Err(invalid("status is not 100 to 599"))
        }
        Route::Fulfil { body, .. } if body.len() > 1 << 20 => {
            Err(invalid("body is larger than 1 MiB"))
        }
        Route::Fulfil { .. } => Ok(()),
        Route::Modify { headers } => {
            let valid = |(name, value): &(String, String)| {
                http::HeaderName::try_from(name.as_str()).is_ok()
                    && http::HeaderValue::try_from(value.as_str()).is_ok()
            };
            if headers.iter().all(valid) {
                Ok(())
            } else {
                Err(invalid(
                    "headers has a name or a value that HTTP does not allow",
                ))
            }
        }
    }
}

async fn apply(request: Intercepted, route: Route) -> Result<(), playwright_rs::Error> {
    match route {
        Route::Block => request.abort(Some("blockedbyclient")).await,
        Route::Fulfil {
            status,
            content_type,
            body,
        } => {
            let options = FulfillOptions::builder()
                .status(status)
                .content_type(content_type)
                .body_string(body);
            request.fulfill(options.build()).await
        }
        Route::Modify { headers } => {
            let mut all = request.request().headers();
            all.extend(
                headers
                    .into_iter()
                    .map(|(name, value)| (name.to_ascii_lowercase(), value)),
            );
            request
                .continue_(Some(ContinueOptions::builder().headers(all).build()))
                .await
        }
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
