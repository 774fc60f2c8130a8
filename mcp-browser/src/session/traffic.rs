//! Changing what pages get: interception, network conditions, cookies, storage.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use playwright_rs::{
    FulfillOptions,
    protocol::{ContinueOptions, Route as Intercepted},
};
use serde_json::json;

use super::{Session, lock};
use crate::{
    BrowserError, BrowserErrorKind,
    page::{Page, Protocol},
    scripts,
};

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

/// A cookie to set: for an address, or for a domain and a path.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NewCookie {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// The address that it is for.
    pub url: Option<String>,
    /// The domain that it is for, with a dot in front for its subdomains too.
    pub domain: Option<String>,
    /// With a domain: the path. Default is `/`.
    pub path: Option<String>,
    /// When it expires, in seconds since 1970. Default is with the session.
    pub expires: Option<f64>,
    /// Hidden from scripts.
    pub http_only: bool,
    /// Sent over https only.
    pub secure: bool,
    /// `Strict`, `Lax` or `None`.
    pub same_site: Option<&'static str>,
}

impl NewCookie {
    /// A cookie of an address.
    #[must_use]
    pub fn new(url: &str, name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_owned(),
            url: Some(url.to_owned()),
            ..Self::default()
        }
    }
}

/// Which cookies. Default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CookieQuery {
    /// Those of this name.
    pub name: Option<String>,
    /// Those of this domain.
    pub domain: Option<String>,
    /// Those of this path.
    pub path: Option<String>,
}

/// What a session has set up.
#[derive(Default)]
pub(crate) struct Traffic {
    routes: Mutex<Vec<(String, Route)>>,
    /// Whether a page of the session may hold what the caller wrote.
    answered: AtomicBool,
    /// By the names of their pages.
    protocols: tokio::sync::Mutex<HashMap<String, Protocol>>,
    /// Downloads that were thrown away for their size, by their numbers.
    pub(super) too_large: Mutex<HashMap<u32, u64>>,
    /// Where the trace is written to that is being written.
    pub(super) tracing: Mutex<Option<tempfile::TempDir>>,
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
    /// Rules change what pages get; they are no boundary. The origin policy holds whatever rules say. A session that
    /// answers requests itself types no secrets, and one that has typed a secret answers none: what it answered could
    /// read the secret in the page.
    ///
    /// # Errors
    ///
    /// `LimitReached` above 50 rules, `InvalidInput` for an impossible pattern, status or header, `Denied` for an answer
    /// where a secret was typed.
    pub async fn route(&self, pattern: &str, route: Route) -> Result<(), BrowserError> {
        let work = async {
            if pattern.is_empty() || pattern.len() > 1000 {
                return Err(invalid("pattern is empty or longer than 1000 bytes"));
            }
            check(&route)?;
            if matches!(route, Route::Fulfil { .. }) {
                self.answers_itself()?;
            }
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
                .await
                .map_err(BrowserError::of)?;
            lock(&self.0.traffic.routes).push((pattern.to_owned(), route));
            Ok(())
        };
        self.run("browser.route", pattern, self.action_timeout(), work)
            .await
    }

    /// Notes that requests are answered here.
    fn answers_itself(&self) -> Result<(), BrowserError> {
        // Before the look at the secrets, which are remembered before the look at this.
        self.0.traffic.answered.store(true, Ordering::SeqCst);
        self.no_secret("requests are not answered for it")
    }

    /// Whether requests of this session have been answered here, ever.
    pub(super) fn has_answered(&self) -> bool {
        self.0.traffic.answered.load(Ordering::SeqCst)
    }

    /// Refuses what could show a secret that was typed.
    pub(super) fn no_secret(&self, consequence: &'static str) -> Result<(), BrowserError> {
        if lock(&self.0.secrets).is_empty() {
            return Ok(());
        }
        Err(BrowserError::new(
            BrowserErrorKind::Denied,
            format!("a secret was typed in this session: {consequence}"),
        ))
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
                self.0
                    .context
                    .unroute(&pattern)
                    .await
                    .map_err(BrowserError::of)?;
            }
            Ok(())
        };
        self.run("browser.clear_routes", "", self.action_timeout(), work)
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
            self.0
                .context
                .set_offline(conditions.offline)
                .await
                .map_err(BrowserError::of)?;
            let session = self.protocol(&page).await?;
            session.send("Network.enable", json!({})).await?;
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
        self.run("browser.conditions", "", self.action_timeout(), work)
            .await
    }

    /// The session with a page in the browser's own protocol, in which what is set lasts as long as the page.
    pub(crate) async fn protocol(&self, page: &Page) -> Result<Protocol, BrowserError> {
        let mut open = self.0.traffic.protocols.lock().await;
        if let Some(session) = open.get(page.guid()) {
            return Ok(session.clone());
        }
        let session = Protocol::open(&self.0.hub.remote, page).await?;
        let (tabs, _) = self.0.hub.tabs();
        open.retain(|guid, _| tabs.iter().any(|tab| tab.page.guid() == guid));
        open.insert(page.guid().to_owned(), session.clone());
        Ok(session)
    }

    /// The same where it is open already.
    pub(super) async fn open_protocol(&self, page: &Page) -> Option<Protocol> {
        let open = self.0.traffic.protocols.lock().await;
        open.get(page.guid()).cloned()
    }

    /// The session's cookies as JSON, values included.
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn cookies(&self) -> Result<serde_json::Value, BrowserError> {
        let work = async {
            let cookies = self
                .0
                .context
                .cookies(None)
                .await
                .map_err(BrowserError::of)?;
            let text = serde_json::to_string(&cookies).unwrap_or_default();
            Ok(serde_json::from_str(&self.shown(&text)).unwrap_or_default())
        };
        self.run("browser.cookies", "", self.action_timeout(), work)
            .await
    }

    /// Sets a cookie.
    ///
    /// # Errors
    ///
    /// `InvalidInput` without an address or a domain and path, `Denied` for a host that the session may not reach.
    pub async fn set_cookie(&self, cookie: &NewCookie) -> Result<(), BrowserError> {
        let work = async {
            match (&cookie.url, &cookie.domain) {
                (Some(url), None) => self.0.proxy.policy().check(url)?,
                // A domain stands for any scheme and port of it. It is sent to those that the session may reach.
                (None, Some(_)) => {}
                _ => return Err(invalid("give the cookie an address, or a domain")),
            }
            let mut wanted = json!({ "name": cookie.name, "value": cookie.value,
                "httpOnly": cookie.http_only, "secure": cookie.secure });
            let fields = [
                ("url", cookie.url.clone()),
                ("domain", cookie.domain.clone()),
                ("sameSite", cookie.same_site.map(str::to_owned)),
            ];
            for (name, value) in fields {
                if let Some(value) = value {
                    wanted[name] = value.into();
                }
            }
            if cookie.domain.is_some() {
                wanted["path"] = cookie.path.as_deref().unwrap_or("/").into();
            }
            if let Some(expires) = cookie.expires {
                wanted["expires"] = expires.into();
            }
            let remote = &self.0.hub.remote;
            let cookies = json!({ "cookies": [wanted] });
            let added = remote.call(self.0.hub.context(), "addCookies", cookies);
            added.await.map(drop).map_err(|error| match error.kind() {
                BrowserErrorKind::Driver => error.map_kind(BrowserErrorKind::InvalidInput),
                _ => error,
            })
        };
        let limit = self.action_timeout();
        let name = &cookie.name;
        self.run("browser.set_cookie", name, limit, work).await
    }

    /// Forgets cookies: all, or those of a name, a domain, a path.
    ///
    /// # Errors
    ///
    /// `BrowserGone`, `Timeout`.
    pub async fn clear_cookies(&self, which: &CookieQuery) -> Result<(), BrowserError> {
        let work = async {
            let mut wanted = json!({});
            let fields = [
                ("name", &which.name),
                ("domain", &which.domain),
                ("path", &which.path),
            ];
            for (name, value) in fields {
                if let Some(value) = value {
                    wanted[name] = value.as_str().into();
                }
            }
            let remote = &self.0.hub.remote;
            let cleared = remote.call(self.0.hub.context(), "clearCookies", wanted);
            cleared.await.map(drop)
        };
        let limit = self.action_timeout();
        self.run("browser.clear_cookies", "", limit, work).await
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
        self.run("browser.storage", "", self.action_timeout(), work)
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
        self.run("browser.set_storage", name, self.action_timeout(), work)
            .await
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
