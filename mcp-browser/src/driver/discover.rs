use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{DriverConfig, PLAYWRIGHT_CORE};
use crate::{BrowserError, BrowserErrorKind};

/// Looks for Node, the driver and a browser in the folders that it is given, and nowhere else.
///
/// # Examples
///
/// ```no_run
/// use mcp_browser::Discover;
///
/// # fn main() -> Result<(), mcp_browser::BrowserError> {
/// let driver = Discover::new()
///     .programs_in(&std::env::var_os("PATH").unwrap_or_default())
///     .package_at("node_modules/playwright-core")
///     .find()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Discover {
    folders: Vec<PathBuf>,
    packages: Vec<PathBuf>,
}

/// What browsers are called, the best first.
const BROWSERS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

impl Discover {
    /// Looks nowhere yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for programs in the folders of a list such as the value of `PATH`.
    #[must_use]
    pub fn programs_in(mut self, path: &OsStr) -> Self {
        self.folders.extend(std::env::split_paths(path));
        self
    }

    /// Looks for the npm package `playwright-core` in this folder, which may be relative to the working directory.
    #[must_use]
    pub fn package_at(mut self, folder: impl Into<PathBuf>) -> Self {
        self.packages.push(folder.into());
        self
    }

    /// Finds all three, and `ffmpeg` if it is there.
    ///
    /// # Errors
    ///
    /// [`BrowserErrorKind::NotInstalled`], which names everything that is missing and how to get it;
    /// [`BrowserErrorKind::WrongVersion`].
    pub fn find(&self) -> Result<DriverConfig, BrowserError> {
        let node = self.program("node");
        let browser = BROWSERS.iter().find_map(|name| self.program(name));
        let package = self
            .packages
            .iter()
            .find(|folder| folder.join("cli.js").is_file());
        let mut missing = Vec::new();
        if node.is_none() {
            missing.push("Node.js 20 or later (Debian: apt-get install nodejs)".to_owned());
        }
        if package.is_none() {
            missing.push(format!(
                "the Playwright driver (PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install playwright-core@{PLAYWRIGHT_CORE})"
            ));
        }
        if browser.is_none() {
            missing.push("a Chromium (Debian: apt-get install chromium)".to_owned());
        }
        let (Some(node), Some(package), Some(browser)) = (node, package, browser) else {
            return Err(BrowserError::new(
                BrowserErrorKind::NotInstalled,
                format!("not found in the folders given: {}", missing.join("; ")),
            ));
        };
        let mut config = DriverConfig::new(node, package, browser);
        config.ffmpeg = self.program("ffmpeg");
        config.check()?;
        Ok(config)
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let absolute = |folder: &&PathBuf| folder.is_absolute();
        self.folders
            .iter()
            .filter(absolute)
            .map(|folder| folder.join(name))
            .find(|path| is_program(path))
    }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let error = Discover::new().find().unwrap_err();
        assert_eq!(error.kind(), BrowserErrorKind::NotInstalled);
        for part in [
            "apt-get install nodejs",
            "npm install playwright-core@1.64.0",
            "apt-get install chromium",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn another_version_is_refused_before_it_is_started() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for name in ["node", "chromium"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(folder.path().join("cli.js"), "").unwrap();
        let discover = Discover::new()
            .programs_in(folder.path().as_os_str())
            .package_at(folder.path());
        for (version, fits) in [
            ("{}", false),
            (r#"{"version":"1.60.0"}"#, false),
            (r#"{"version":"1.64.0"}"#, true),
        ] {
            std::fs::write(folder.path().join("package.json"), version).unwrap();
            match discover.find() {
                Ok(_) => assert!(fits),
                Err(error) => {
                    assert!(!fits);
                    assert_eq!(error.kind(), BrowserErrorKind::WrongVersion);
                    assert!(
                        error
                            .to_string()
                            .contains("npm install playwright-core@1.64.0"),
                        "{error}"
                    );
                }
            }
        }
    }
}
