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
//! The brands hold in every tab, in frames and in the workers of pages, and in the headers of every request. In a tab that
//! a page opens, a worker that starts within the first instant may still see the browser's own.
//!
//! Nothing else is touched: no canvas noise, no WebGL strings, no fonts, no timing. It is meant for testing one's own
//! bot defences and for sites that turn automated browsers away by mistake.

use std::collections::HashMap;

use playwright_rs::BrowserContext;
use serde_json::{Value, json};

use crate::{
    BrowserError,
    page::{Page, Protocol, Remote},
};

/// The script that runs before any other in every frame. Called with the brands, short and long.
const SCRIPT: &str = r"((brands, fullVersionList) => {
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
  if (window.NavigatorUAData) {
    const copy = list => list.map(entry => ({ ...entry }));
    Object.defineProperty(NavigatorUAData.prototype, 'brands', { get: () => copy(brands), configurable: true, enumerable: true });
    const high = NavigatorUAData.prototype.getHighEntropyValues, toJson = NavigatorUAData.prototype.toJSON;
    NavigatorUAData.prototype.getHighEntropyValues = function (hints) {
      return high.call(this, hints).then(values => {
        values.brands = copy(brands);
        if (values.fullVersionList) values.fullVersionList = copy(fullVersionList);
        return values;
      });
    };
    NavigatorUAData.prototype.toJSON = function () { return { ...toJson.call(this), brands: copy(brands) }; };
  }
  const height = screen.height;
  Object.defineProperty(Screen.prototype, 'availHeight', { get: () => height - 40 });
})";

/// What a browser of this version calls itself outside of automation.
pub(crate) fn user_agent(version: &str) -> String {
    format!(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
        major(version)
    )
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or("0")
}

const BRANDS: [&str; 2] = ["Google Chrome", "Chromium"];

fn brands(version: &str) -> Value {
    let mut all: Vec<Value> = BRANDS
        .iter()
        .map(|brand| json!({ "brand": brand, "version": version }))
        .collect();
    all.push(json!({ "brand": "Not=A?Brand", "version": "24" }));
    all.into()
}

/// The brands as requests name them: a list of strings with a parameter (RFC 8941, section 3.1).
pub(crate) fn headers(version: &str) -> HashMap<String, String> {
    let major = major(version);
    let named = BRANDS.map(|brand| format!("\"{brand}\";v=\"{major}\""));
    let list = format!("{}, \"Not=A?Brand\";v=\"24\"", named.join(", "));
    HashMap::from([("sec-ch-ua".to_owned(), list)])
}

/// Applies what holds for every frame of the context.
pub(crate) async fn context(context: &BrowserContext, version: &str) -> Result<(), BrowserError> {
    let (short, long) = (brands(major(version)), brands(version));
    let script = format!("{SCRIPT}({short}, {long})");
    context
        .add_init_script(&script)
        .await
        .map_err(BrowserError::of)
}

/// Applies what only the browser's own protocol can, for the workers of pages, to each page as it opens.
pub(crate) fn each_page(remote: &Remote, version: &str, locale: &str) -> crate::session::Prepare {
    let parameters = json!({
        "userAgent": user_agent(version),
        "acceptLanguage": languages(locale),
        "platform": "Linux x86_64",
        "userAgentMetadata": {
            "brands": brands(major(version)), "fullVersionList": brands(version), "platform": "Linux", "platformVersion": "6.1.0",
            "architecture": "x86", "model": "", "mobile": false, "bitness": "64", "wow64": false,
        },
    });
    let remote = remote.clone();
    Box::new(move |page: Page| {
        let (remote, parameters) = (remote.clone(), parameters.clone());
        Box::pin(async move {
            let session = Protocol::open(&remote, &page).await?;
            session
                .send("Network.setUserAgentOverride", parameters)
                .await
        })
    })
}

fn languages(locale: &str) -> String {
    match locale.split_once('-') {
        Some((language, _)) => format!("{locale},{language}"),
        None => locale.to_owned(),
    }
}
