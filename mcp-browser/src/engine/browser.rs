use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use playwright_rs::{Browser, LaunchOptions, protocol::ProxySettings};
use tokio::{sync::watch, task::AbortHandle};

use super::{EngineConfig, Sandbox, Slot, watch::Watched};
use crate::{BrowserError, BrowserErrorKind, driver::Driver};

/// How long a browser may take to close before it is killed.
const CLOSE: Duration = Duration::from_secs(5);

/// A running browser.
#[derive(Debug)]
pub(crate) struct BrowserHandle {
    browser: Browser,
    driver: Arc<Driver>,
    slot: Slot,
    sandboxed: bool,
    process: Option<Watched>,
    gone: watch::Receiver<bool>,
    /// Why it was killed, if we did it.
    reason: Arc<OnceLock<String>>,
    watching: AbortHandle,
}

impl BrowserHandle {
    pub(super) async fn launch(
        driver: Arc<Driver>,
        config: &EngineConfig,
        slot: Slot,
    ) -> Result<Self, BrowserError> {
        let root = is_root();
        let sandbox = match config.sandbox {
            Sandbox::Off => false,
            Sandbox::Auto => !root,
            Sandbox::Required if root => {
                return Err(failed(
                    "Chromium has no sandbox as root: run this program as an ordinary user",
                ));
            }
            Sandbox::Required => true,
        };
        if slot.headed && !config.driver.has_display() {
            return Err(failed(
                "a headed browser needs a display: pass DISPLAY with DriverConfig::with_environment",
            ));
        }
        let id = format!("{:016x}", rand::random::<u64>());
        let first = start(&driver, config, slot, &id, sandbox).await;
        let (browser, sandboxed) = match first {
            Ok(browser) => (browser, sandbox),
            Err(error) if sandbox && config.sandbox == Sandbox::Auto => {
                tracing::warn!(%error, "the browser does not start in a sandbox; trying without");
                (start(&driver, config, slot, &id, false).await?, false)
            }
            Err(error) => return Err(error),
        };
        if !sandboxed {
            tracing::warn!(root, "the browser runs without the system's sandbox");
        }
        let (going, gone) = watch::channel(false);
        let disconnected = going.clone();
        browser
            .on_disconnected(move || {
                disconnected.send_replace(true);
                async { Ok(()) }
            })
            .await
            .map_err(BrowserError::of)?;
        let process = Watched::find(driver.pid(), &id);
        let reason = Arc::new(OnceLock::new());
        let watching = tokio::spawn(watch_over(
            driver.ended(),
            going,
            process.clone(),
            config.limits,
            Arc::clone(&reason),
        ))
        .abort_handle();
        Ok(Self {
            browser,
            driver,
            slot,
            sandboxed,
            process,
            gone,
            reason,
            watching,
        })
    }

    pub(crate) fn browser(&self) -> &Browser {
        &self.browser
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) fn sandboxed(&self) -> bool {
        self.sandboxed
    }

    pub(crate) fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }

    pub(crate) fn is_alive(&self) -> bool {
        !*self.gone.borrow() && self.driver.is_alive() && self.browser.is_connected()
    }

    /// The error for whoever needed it.
    pub(crate) fn gone_error(&self) -> BrowserError {
        match self.reason.get() {
            Some(reason) => BrowserError::new(
                BrowserErrorKind::BrowserGone,
                format!("the browser was ended: {reason}; create a new session"),
            ),
            None => BrowserError::gone(),
        }
    }

    /// Process id and memory of the browser, where the system tells.
    pub(crate) fn usage(&self) -> Option<(u32, u64)> {
        let process = self.process.as_ref()?;
        Some((process.pid(), process.usage().memory))
    }

    pub(crate) async fn close(&self) {
        let closed = tokio::time::timeout(CLOSE, self.browser.close()).await;
        if !matches!(closed, Ok(Ok(())))
            && let Some(process) = &self.process
        {
            process.kill();
        }
    }

    /// Ends it at once, for whoever cannot be closed otherwise.
    pub(crate) fn kill(&self, reason: &str) {
        // The first reason stays.
        let _ = self.reason.set(reason.to_owned());
        if let Some(process) = &self.process {
            process.kill();
        }
    }
}

impl Drop for BrowserHandle {
    fn drop(&mut self) {
        self.watching.abort();
        if self.is_alive()
            && let Some(process) = &self.process
        {
            process.kill();
        }
    }
}

/// Waits for the end of the driver, and looks at what the browser uses.
async fn watch_over(
    mut driver: watch::Receiver<bool>,
    going: watch::Sender<bool>,
    process: Option<Watched>,
    limits: super::BrowserLimits,
    reason: Arc<OnceLock<String>>,
) {
    let over = async {
        match &process {
            Some(process) if limits.any() => process.until_over(&limits).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = driver.wait_for(|ended| *ended) => {}
        over = over => {
            tracing::warn!(over, "a browser is killed");
            // It is set here only.
            let _ = reason.set(over);
        }
    }
    if let Some(process) = &process {
        process.kill();
    }
    going.send_replace(true);
}

async fn start(
    driver: &Driver,
    config: &EngineConfig,
    slot: Slot,
    id: &str,
    sandbox: bool,
) -> Result<Browser, BrowserError> {
    let options = LaunchOptions::new()
        .executable_path(config.driver.browser.display().to_string())
        .headless(!slot.headed)
        .chromium_sandbox(sandbox)
        .handle_sigint(false)
        .handle_sigterm(false)
        .handle_sighup(false)
        // What belongs to no session goes nowhere: port 9 of this machine.
        .proxy(ProxySettings::new("http://127.0.0.1:9"))
        .timeout(config.driver.start_timeout.as_millis() as f64)
        .args(arguments(id));
    let launching = driver.playwright().chromium().launch_with_options(options);
    match tokio::time::timeout(config.driver.start_timeout, launching).await {
        Ok(Ok(browser)) => Ok(browser),
        Ok(Err(error)) => Err(failed("the browser does not start").with_source(error)),
        Err(_) => Err(failed("the browser did not start in time")),
    }
}

/// What Chromium would do by itself: Playwright's own list for this version of it, since the last such argument is the
/// one that counts, and after it what sends parts of pages, or asks for lists, elsewhere.
const DISABLED: [&str; 21] = [
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "DialMediaRouteProvider",
    "GlobalMediaControls",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "BlockOriginHeaderModificationOnRedirect",
    "Translate",
    "AutoDeElevate",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "msForceBrowserSignIn",
    "msEdgeUpdateLaunchServicesPreferredVersion",
    "AutofillServerCommunication",
    "CertificateTransparencyComponentUpdater",
    "OptimizationGuideModelDownloading",
    "OptimizationHintsFetching",
];

fn arguments(id: &str) -> Vec<String> {
    let disabled = format!("--disable-features={}", DISABLED.join(","));
    [
        disabled.as_str(),
        "--disable-domain-reliability",
        "--safebrowsing-disable-auto-update",
        "--variations-server-url=http://127.0.0.1:9/",
        // How its process is found again.
        format!("--mcp-browser={id}").as_str(),
        // Every connection goes through the session's proxy, or not at all.
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
        "--disable-quic",
        "--dns-prefetch-disable",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

fn failed(message: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::StartFailed, message)
}
