//! One session: a browser context leased to a principal.

mod act;
mod files;
mod go;
mod hub;
mod open;
mod options;
mod read;
mod requests;
mod traffic;

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcp_core::{AuditEvent, AuditOutcome, Partition, Principal, secret::Secret};
use playwright_rs::BrowserContext;
use tokio::{task::AbortHandle, time::Instant};
use zeroize::Zeroizing;

pub use self::{
    act::{Action, Button, Files},
    go::Wait,
    options::{Mode, Position, SessionOptions, Viewport},
    read::{Extract, Screenshot, SnapshotView},
    traffic::{Conditions, Route},
};
pub(crate) use self::{
    hub::{Hub, Prepare},
    open::{Prepared, prepare},
    requests::Outcome,
};
use crate::{
    BrowserConfig, BrowserError, BrowserErrorKind, engine::BrowserHandle, page::Page,
    proxy::FilterProxy, snapshot::HIDDEN,
};

/// A browser session of one principal. Clones are the same session.
///
/// Actions of one session run one after another; who comes meanwhile waits. Dropping an action's future stops waiting
/// for it; the browser may finish it. The session ends when it is closed, when it has not been used for the idle
/// timeout, at its absolute timeout, when its browser ends, or with the service.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: String,
    pub(crate) principal: Principal,
    pub(crate) config: Arc<BrowserConfig>,
    pub(crate) options: SessionOptions,
    pub(crate) browser: Arc<BrowserHandle>,
    pub(crate) context: BrowserContext,
    pub(crate) proxy: FilterProxy,
    pub(crate) hub: Arc<Hub>,
    pub(crate) folder: Option<tempfile::TempDir>,
    turn: tokio::sync::Mutex<()>,
    used: Mutex<Instant>,
    pub(crate) started: Instant,
    pub(crate) closed: AtomicBool,
    secrets: Mutex<Vec<Secret>>,
    seen: Mutex<Seen>,
    /// Who ends the session when its time has come.
    pub(crate) watching: OnceLock<AbortHandle>,
    pub(crate) traffic: traffic::Traffic,
}

/// The last snapshot that the caller was shown.
#[derive(Default)]
struct Seen {
    tab: u32,
    document: u64,
    text: String,
    references: HashSet<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tab as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TabView {
    /// Its number, which stays.
    pub number: u32,
    /// The address of its page.
    pub url: String,
    /// Whether actions go to it.
    pub current: bool,
}

/// A dialog as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DialogView {
    /// `alert`, `confirm` or `prompt`.
    pub kind: String,
    /// What it says.
    pub message: String,
}

impl Session {
    pub(crate) fn new(
        id: String,
        principal: Principal,
        config: Arc<BrowserConfig>,
        options: SessionOptions,
        prepared: Prepared,
    ) -> Self {
        let Prepared {
            browser,
            context,
            proxy,
            hub,
            folder,
        } = prepared;
        let now = Instant::now();
        Self(Arc::new(Inner {
            id,
            principal,
            config,
            options,
            browser,
            context,
            proxy,
            hub,
            folder,
            turn: tokio::sync::Mutex::default(),
            used: Mutex::new(now),
            started: now,
            closed: AtomicBool::new(false),
            secrets: Mutex::default(),
            seen: Mutex::default(),
            watching: OnceLock::new(),
            traffic: traffic::Traffic::default(),
        }))
    }

    /// The id, which cannot be guessed.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> Partition {
        self.0.principal.partition()
    }

    /// Whether the browser runs in the operating system's sandbox.
    #[must_use]
    pub fn is_sandboxed(&self) -> bool {
        self.0.browser.sandboxed()
    }

    /// Whether it can still be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.closed.load(Ordering::Acquire) && self.0.browser.is_alive()
    }

    /// The browser's process id and the memory that its processes have for themselves, where the system tells.
    #[must_use]
    pub fn browser_usage(&self) -> Option<(u32, u64)> {
        self.0.browser.usage()
    }

    /// How many bytes the session has received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.0.proxy.received()
    }

    /// Requests that the origin policy has refused since the last call.
    #[must_use]
    pub fn take_refusals(&self) -> Vec<String> {
        let trouble = self.0.proxy.take_trouble().into_iter();
        let refused = trouble.filter(|error| error.kind() == BrowserErrorKind::Denied);
        refused.map(|error| error.to_string()).collect()
    }

    /// How many popups were closed since the last call because there were too many tabs.
    #[must_use]
    pub fn take_closed_popups(&self) -> u32 {
        self.0.hub.popups_closed()
    }

    /// The dialog that waits for an answer.
    #[must_use]
    pub fn dialog(&self) -> Option<DialogView> {
        let open = self.0.hub.dialog().borrow().clone()?;
        Some(DialogView {
            message: self.shown(&open.message),
            kind: open.kind,
        })
    }

    /// The tabs, in the order they were opened.
    #[must_use]
    pub fn tabs(&self) -> Vec<TabView> {
        let (tabs, current) = self.0.hub.tabs();
        tabs.into_iter()
            .map(|tab| TabView {
                number: tab.number,
                url: self.shown(&tab.page.url()),
                current: tab.number == current,
            })
            .collect()
    }

    pub(crate) fn deadline(&self) -> Instant {
        let idle = *lock(&self.0.used) + self.0.config.idle_timeout;
        idle.min(self.0.started + self.0.config.session_timeout)
    }

    fn touch(&self) {
        *lock(&self.0.used) = Instant::now();
    }

    fn check_open(&self) -> Result<(), BrowserError> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(BrowserError::new(
                BrowserErrorKind::SessionNotFound,
                "the session has ended: create a new one",
            ));
        }
        if !self.0.browser.is_alive() {
            return Err(self.0.browser.gone_error());
        }
        Ok(())
    }

    /// The tab that actions go to.
    pub(crate) fn page(&self) -> Result<(u32, Page), BrowserError> {
        let (tabs, current) = self.0.hub.tabs();
        let tab = tabs.into_iter().find(|tab| tab.number == current);
        tab.map(|tab| (tab.number, tab.page)).ok_or_else(|| {
            BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "the session has no tab: open one",
            )
        })
    }

    /// Hides the secrets that were typed in this session.
    pub(crate) fn shown(&self, text: &str) -> String {
        let secrets = lock(&self.0.secrets);
        let mut text = text.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.secret().is_empty()) {
            for form in spellings(secret.secret()) {
                if text.contains(form.as_str()) {
                    text = text.replace(form.as_str(), HIDDEN);
                }
            }
        }
        text
    }

    pub(crate) fn remember_secret(&self, secret: Secret) {
        let mut secrets = lock(&self.0.secrets);
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }

    /// Waits for the session's turn and runs work under a time limit; the end of the browser ends it.
    pub(crate) async fn run<T>(
        &self,
        action: &'static str,
        target: &str,
        limit: Duration,
        work: impl Future<Output = Result<T, BrowserError>>,
    ) -> Result<T, BrowserError> {
        let begun = Instant::now();
        self.touch();
        let result = async {
            self.check_open()?;
            let _turn = self.0.turn.lock().await;
            self.bounded(limit, work).await
        }
        .await
        .map_err(|error: BrowserError| error.map_message(|message| self.shown(message)));
        self.touch();
        self.record(action, target, begun, &result).await;
        result
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, BrowserError>>,
    ) -> Result<T, BrowserError> {
        let mut gone = self.0.browser.gone();
        tokio::select! {
            biased;
            _ = gone.wait_for(|gone| *gone) => Err(self.0.browser.gone_error()),
            result = tokio::time::timeout(limit, work) => result.unwrap_or_else(|_| {
                Err(BrowserError::new(BrowserErrorKind::Timeout, format!("nothing came of it within {} s", limit.as_secs_f64())))
            }),
        }
    }

    async fn record<T>(
        &self,
        action: &'static str,
        target: &str,
        begun: Instant,
        result: &Result<T, BrowserError>,
    ) {
        let Some(audit) = &self.0.config.audit else {
            return;
        };
        let outcome = match result {
            Ok(_) => AuditOutcome::Succeeded,
            Err(error) if error.kind() == BrowserErrorKind::Denied => {
                AuditOutcome::Denied(error.kind().name().into())
            }
            Err(error) => AuditOutcome::Failed(error.kind().name().into()),
        };
        let now = std::time::SystemTime::now();
        let mut event = AuditEvent::new(now, self.0.principal.clone(), action, outcome);
        let target: String = self.shown(target).chars().take(512).collect();
        event.target = Some(format!("{} {target}", &self.0.id[..8]).trim_end().into());
        event.duration = Some(begun.elapsed());
        if let Err(error) = audit.record(&event).await {
            tracing::error!(%error, action, "a browser action could not be audited");
        }
    }

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
            let state = self.0.context.storage_state(options).await?;
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

impl Drop for Inner {
    fn drop(&mut self) {
        // It would wait for the end of a session that is gone.
        if let Some(watching) = self.watching.get() {
            watching.abort();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("owner", &self.0.principal)
            .finish_non_exhaustive()
    }
}

/// What `encodeURIComponent` leaves as it is (ECMA-262, section 19.2.6.4).
const COMPONENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A text as it stands by itself, in JSON, in HTML, in addresses and in forms.
fn spellings(value: &str) -> Vec<Zeroizing<String>> {
    let json = serde_json::to_string(value).unwrap_or_default();
    let json = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default();
    let html = value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    let mut all = vec![
        value.to_owned(),
        json.to_owned(),
        html,
        percent_encoding::utf8_percent_encode(value, COMPONENT).to_string(),
        url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
    ];
    all.retain(|form| !form.is_empty());
    all.dedup();
    all.into_iter().map(Zeroizing::new).collect()
}
