//! The Playwright driver: a Node program that speaks to browsers.

mod discover;
mod process;
mod tap;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::discover::Discover;
pub(crate) use self::{
    process::Driver,
    tap::{Listen, Tap},
};
use crate::{BrowserError, BrowserErrorKind};

/// The version of the npm package `playwright-core` that this crate speaks with.
pub const PLAYWRIGHT_CORE: &str = "1.64.0";

/// Where Node, the Playwright driver and the browser are, and how to start them.
///
/// Nothing is looked for, read from the environment or downloaded: what is not given here is not used. See
/// [`Discover`] for looking in places that you name.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    pub(crate) node: PathBuf,
    pub(crate) package: PathBuf,
    pub(crate) browser: PathBuf,
    pub(crate) ffmpeg: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) start_timeout: Duration,
}

impl DriverConfig {
    /// Names the Node program, the folder of the npm package `playwright-core`, and the browser's program
    /// (Chromium or Chrome). Relative paths are of the working directory at this call: the driver has another one.
    #[must_use]
    pub fn new(
        node: impl Into<PathBuf>,
        playwright_core: impl Into<PathBuf>,
        browser: impl Into<PathBuf>,
    ) -> Self {
        Self {
            node: absolute(node.into()),
            package: absolute(playwright_core.into()),
            browser: absolute(browser.into()),
            ffmpeg: None,
            environment: Vec::new(),
            start_timeout: Duration::from_secs(30),
        }
    }

    /// Names another browser program, for instance than [`Discover`] has found.
    #[must_use]
    pub fn with_browser(mut self, browser: impl Into<PathBuf>) -> Self {
        self.browser = absolute(browser.into());
        self
    }

    /// Names the `ffmpeg` program, which videos need. Default is none.
    #[must_use]
    pub fn with_ffmpeg(mut self, ffmpeg: impl Into<PathBuf>) -> Self {
        self.ffmpeg = Some(absolute(ffmpeg.into()));
        self
    }

    /// Passes a variable to the driver and the browsers, for instance `DISPLAY` for headed sessions. They see
    /// nothing of this process's environment; `PATH` is the system's usual one unless it is set here.
    #[must_use]
    pub fn with_environment(
        mut self,
        name: impl Into<OsString>,
        value: impl Into<OsString>,
    ) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Bounds the start of the driver, and that of each browser. Default is 30 s.
    #[must_use]
    pub const fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    pub(crate) fn has_display(&self) -> bool {
        let names = ["DISPLAY", "WAYLAND_DISPLAY"];
        cfg!(not(target_os = "linux"))
            || self
                .environment
                .iter()
                .any(|(name, _)| names.iter().any(|display| name == *display))
    }

    pub(crate) fn cli(&self) -> PathBuf {
        self.package.join("cli.js")
    }

    /// Checks that the three are there and that the driver has the right version. Starts nothing.
    ///
    /// # Errors
    ///
    /// [`BrowserErrorKind::NotInstalled`] or [`BrowserErrorKind::WrongVersion`], with how to get what is missing.
    pub fn check(&self) -> Result<(), BrowserError> {
        let missing = |what: &str, path: &Path, how: &str| {
            BrowserError::new(
                BrowserErrorKind::NotInstalled,
                format!("{what} is not at {}: {how}", path.display()),
            )
        };
        if !self.node.is_file() {
            return Err(missing(
                "Node.js",
                &self.node,
                "install Node 20 or later (Debian: apt-get install nodejs)",
            ));
        }
        if !self.cli().is_file() {
            let how = format!(
                "run PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install playwright-core@{PLAYWRIGHT_CORE} and name node_modules/playwright-core"
            );
            return Err(missing("the Playwright driver", &self.package, &how));
        }
        let found = self.package_version();
        if found.as_deref() != Some(PLAYWRIGHT_CORE) {
            return Err(BrowserError::new(
                BrowserErrorKind::WrongVersion,
                format!(
                    "the Playwright driver at {} is {}, not {PLAYWRIGHT_CORE}: run npm install playwright-core@{PLAYWRIGHT_CORE}",
                    self.package.display(),
                    found.as_deref().unwrap_or("of no readable version"),
                ),
            ));
        }
        if !self.browser.is_file() {
            return Err(missing(
                "the browser",
                &self.browser,
                "install Chromium (Debian: apt-get install chromium)",
            ));
        }
        match &self.ffmpeg {
            Some(ffmpeg) if !ffmpeg.is_file() => Err(missing(
                "ffmpeg",
                ffmpeg,
                "install it (Debian: apt-get install ffmpeg)",
            )),
            _ => Ok(()),
        }
    }

    fn package_version(&self) -> Option<String> {
        let text = std::fs::read(self.package.join("package.json")).ok()?;
        let package: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some(package.get("version")?.as_str()?.to_owned())
    }
}

/// A path that means the same in another folder.
fn absolute(path: PathBuf) -> PathBuf {
    // Without a working directory no relative path leads anywhere: `check` says so.
    std::path::absolute(&path).unwrap_or(path)
}
