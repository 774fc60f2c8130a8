//! The stealth profile: an opt-in that makes a session's properties consistent with an ordinary desktop Chrome.
//!
//! | Property | Without | With |
//! |---|---|---|
//! | `navigator.webdriver` | `true` | `false` |
//! | `User-Agent`, `navigator.userAgent` | `HeadlessChrome/N` | `Chrome/N`, the same version and system |
//! | `sec-ch-ua`, `navigator.userAgentData.brands` | `HeadlessChrome` | `Google Chrome`, `Chromium`, the same version |
//! | `navigator.languages` | of the locale | the locale and its language |
//! | `window.chrome` | absent when headless | an object with `runtime` absent, as on pages without extensions |
//! | `Notification.permission` | `denied` when headless | `default`, in step with `permissions.query` |
//! | `screen` | the viewport | the viewport with a task bar |
//!
//! Nothing else is touched: no canvas noise, no WebGL strings, no fonts, no timing. It is meant for testing one's own
//! bot defences and for sites that turn automated browsers away by mistake.

use playwright_rs::{BrowserContext, Page};
use serde_json::json;

use crate::BrowserError;

/// The script that runs before any other in every frame.
const SCRIPT: &str = r"(() => {
  Object.defineProperty(Navigator.prototype, 'webdriver', { get: () => false, configurable: true, enumerable: true });
  if (!window.chrome) Object.defineProperty(window, 'chrome', { value: {}, writable: true, enumerable: true, configurable: false });
  if (window.Notification && Notification.permission === 'denied') {
    Object.defineProperty(Notification, 'permission', { get: () => 'default' });
    const query = Permissions.prototype.query;
    Permissions.prototype.query = function (descriptor) {
      return descriptor && descriptor.name === 'notifications'
        ? query.call(this, { name: 'geolocation' }).then(status => { Object.defineProperty(status, 'state', { value: 'prompt' }); return status; })
        : query.call(this, descriptor);
    };
  }
  const height = screen.height;
  Object.defineProperty(Screen.prototype, 'availHeight', { get: () => height - 40 });
})()";

/// What a browser of this version calls itself outside of automation.
pub(crate) fn user_agent(version: &str) -> String {
    let major = version.split('.').next().unwrap_or("0");
    format!(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0 Safari/537.36"
    )
}

/// Applies what holds for the context.
pub(crate) async fn context(context: &BrowserContext) -> Result<(), BrowserError> {
    Ok(context.add_init_script(SCRIPT).await?)
}

/// Applies what holds for one page: the brands, which only the protocol can set.
pub(crate) async fn page(
    context: &BrowserContext,
    page: &Page,
    version: &str,
    locale: &str,
) -> Result<(), BrowserError> {
    let major = version.split('.').next().unwrap_or("0");
    let brands = |version: &str| {
        json!([
            { "brand": "Google Chrome", "version": version },
            { "brand": "Chromium", "version": version },
            { "brand": "Not=A?Brand", "version": "24" },
        ])
    };
    let session = context.new_cdp_session(page).await?;
    let parameters = json!({
        "userAgent": user_agent(version),
        "acceptLanguage": languages(locale),
        "platform": "Linux x86_64",
        "userAgentMetadata": {
            "brands": brands(major), "fullVersionList": brands(version), "platform": "Linux", "platformVersion": "6.1.0",
            "architecture": "x86", "model": "", "mobile": false, "bitness": "64", "wow64": false,
        },
    });
    session
        .send("Network.setUserAgentOverride", Some(parameters))
        .await?;
    Ok(())
}

fn languages(locale: &str) -> String {
    match locale.split_once('-') {
        Some((language, _)) => format!("{locale},{language}"),
        None => locale.to_owned(),
    }
}
