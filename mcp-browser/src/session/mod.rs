//! One session: a browser context leased to a principal.

mod act;
mod close;
mod code;
mod dialogs;
mod element;
mod emulate;
mod events;
mod expect;
mod files;
mod form;
mod go;
mod hiding;
mod hub;
mod logs;
mod notice;
mod open;
mod options;
mod picture;
mod pointer;
mod read;
mod requests;
mod script;
mod settle;
mod stuck;
mod tabs;
mod traffic;
mod upload;
mod wait;

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

#[cfg(feature = "captcha")]
pub(crate) use self::settle::Rounds;
pub use self::{
    act::{Action, Button, Click, Modifier},
    code::Language,
    emulate::Emulation,
    expect::Expectation,
    files::KeptDownload,
    logs::{ConsoleLevel, RequestPart, RequestView},
    notice::Notice,
    options::{Mode, Position, SessionOptions, Viewport},
    picture::{Area, Screenshot},
    pointer::{Place, Pointer},
    read::{Extract, SnapshotQuery, SnapshotView},
    traffic::{Conditions, CookieQuery, NewCookie, Route},
    upload::Files,
    wait::{LoadState, Wait},
};
pub(crate) use self::{
    hub::{Hub, Prepare},
    open::{Prepared, prepare},
    requests::Outcome,
};
use crate::{
    BrowserConfig, BrowserError, BrowserErrorKind, engine::BrowserHandle, page::Page,
    proxy::FilterProxy,
};

/// A browser session of one principal. Clones are the same session.
///
/// Actions of one session run one after another; who comes meanwhile waits. Dropping an action's future stops waiting
/// for it; the browser may finish it. The session ends when it is closed, when it has not been used for the idle
/// timeout, at its absolute timeout, when its browser ends, or with the service.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Inner>, Pace);

/// How long the calls through one handle of a session may take, where that is not the operator's default.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    action: Option<Duration>,
    settle: Option<Duration>,
}

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
    /// What password fields have held.
    passwords: Mutex<Vec<Zeroizing<String>>>,
    seen: Mutex<Seen>,
    /// Who ends the session when its time has come.
    pub(crate) watching: OnceLock<AbortHandle>,
    pub(crate) traffic: traffic::Traffic,
    recording: code::Recording,
}

/// The last snapshot that the caller was shown.
#[derive(Default)]
struct Seen {
    tab: u32,
    document: u64,
    text: String,
    /// What of it was shown, if not the whole.
    part: Option<String>,
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
    /// `alert`, `confirm`, `prompt`, or `beforeunload` where a page asks whether to leave it.
    pub kind: String,
    /// What it says.
    pub message: String,
}

impl DialogView {
    /// What to do about it.
    pub(crate) fn demand(&self) -> String {
        match self.kind.as_str() {
            "beforeunload" => "the page asks whether to leave it, which may lose what was entered (beforeunload): accept to \
                leave, dismiss to stay"
                .to_owned(),
            kind => format!(
                "the page shows a dialog that has to be answered first: {kind}: {:?}",
                self.message
            ),
        }
    }
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
        let inner = Inner {
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
            passwords: Mutex::default(),
            seen: Mutex::default(),
            watching: OnceLock::new(),
            traffic: traffic::Traffic::default(),
            recording: code::Recording::default(),
        };
        Self::of(Arc::new(inner))
    }

    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner, Pace::default())
    }

    /// The same session with another bound for each action and navigation through this handle.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is more than [`BrowserConfig::with_max_timeout`] allows.
    pub fn with_timeout(mut self, timeout: Duration) -> Result<Self, BrowserError> {
        self.1.action = Some(self.allowed("timeout", timeout)?);
        Ok(self)
    }

    /// The same session with another bound for what is waited for after each action through this handle. Zero waits
    /// for nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is more than [`BrowserConfig::with_max_timeout`] allows.
    pub fn with_settle_timeout(mut self, timeout: Duration) -> Result<Self, BrowserError> {
        self.1.settle = Some(self.allowed("settle timeout", timeout)?);
        Ok(self)
    }

    fn allowed(&self, what: &str, timeout: Duration) -> Result<Duration, BrowserError> {
        let most = self.0.config.max_timeout;
        if timeout > most {
            return Err(BrowserError::new(
                BrowserErrorKind::InvalidInput,
                format!(
                    "the {what} is more than {} s, the most that the operator allows",
                    most.as_secs_f64()
                ),
            ));
        }
        Ok(timeout)
    }

    pub(crate) fn action_timeout(&self) -> Duration {
        self.1.action.unwrap_or(self.0.config.action_timeout)
    }

    pub(crate) fn navigation_timeout(&self) -> Duration {
        self.1.action.unwrap_or(self.0.config.navigation_timeout)
    }

    pub(crate) fn settle_timeout(&self) -> Duration {
        self.1.settle.unwrap_or(self.0.config.settle_timeout)
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

    /// Takes what happened by itself since the last call: refusals, tabs, dialogs, downloads, crashes.
    ///
    /// Chromium's own background traffic that the policy refused is left out, unless a page asked the same host.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        let refused = self.0.proxy.take_trouble().into_iter();
        let refused = refused
            .filter(|trouble| trouble.error.kind() == BrowserErrorKind::Denied)
            .filter(|trouble| {
                !trouble.is_background() || self.0.hub.requests.asked_for(&trouble.host)
            })
            .map(|trouble| Notice::Refused(self.shown(&trouble.error.to_string())));
        let tabs = self.tabs();
        let shown = |notice: Notice| match notice {
            Notice::TabOpened { number, .. } => {
                let tab = tabs.iter().find(|tab| tab.number == number);
                let url = tab.map_or_else(|| "closed again".to_owned(), |tab| tab.url.clone());
                Notice::TabOpened { number, url }
            }
            Notice::Download { number, name, kept } => {
                let name = self.shown(&name);
                Notice::Download { number, name, kept }
            }
            Notice::DialogExpired { kind, message } => {
                let message = self.shown(&message);
                Notice::DialogExpired { kind, message }
            }
            Notice::DialogGone { kind, message } => {
                let message = self.shown(&message);
                Notice::DialogGone { kind, message }
            }
            other => other,
        };
        let own = self.0.hub.notices.take().into_iter().map(shown);
        refused.chain(own).collect()
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
        let tab = tab.ok_or_else(|| {
            BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "the session has no tab: open one",
            )
        })?;
        if tab.crashed {
            return Err(BrowserError::new(
                BrowserErrorKind::PageCrashed,
                "the page crashed: navigate, or reload it, to get a new one",
            ));
        }
        let page = tab
            .page
            .within(self.action_timeout(), self.navigation_timeout());
        Ok((tab.number, page))
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
