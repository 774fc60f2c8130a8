use serde::{Deserialize, Serialize};

/// Whether a window is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rmcp", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// No window.
    #[default]
    Headless,
    /// A window on the operator's display.
    Headed,
}

/// The size of the page in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rmcp", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Viewport {
    /// Width, 100 to 4096.
    pub width: u32,
    /// Height, 100 to 4096.
    pub height: u32,
}

impl Viewport {
    /// Names a size.
    #[must_use]
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
}

/// A place on earth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "rmcp", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Position {
    /// Degrees, -90 to 90.
    pub latitude: f64,
    /// Degrees, -180 to 180.
    pub longitude: f64,
}

impl Position {
    /// Names a place.
    #[must_use]
    pub const fn new(latitude: f64, longitude: f64) -> Self {
        Self {
            latitude,
            longitude,
        }
    }
}

/// What a session shall be like. What is not set is as Chromium has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "rmcp", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SessionOptions {
    /// headless (default) or headed, which the operator has to allow.
    pub mode: Mode,
    /// Size of the page. Default is 1280 x 720.
    pub viewport: Option<Viewport>,
    /// A device to emulate, by Playwright's name for it, such as "Pixel 7" or "iPhone 15".
    pub device: Option<String>,
    /// Language and region, such as "de-DE".
    pub locale: Option<String>,
    /// Time zone, such as "Europe/Berlin".
    pub timezone: Option<String>,
    /// Where the session says it is; grants the permission geolocation.
    pub geolocation: Option<Position>,
    /// Permissions granted to pages, such as "clipboard-read".
    pub permissions: Vec<String>,
    /// The User-Agent header and navigator.userAgent.
    pub user_agent: Option<String>,
    /// "light" or "dark".
    pub color_scheme: Option<String>,
    /// The name of a proxy that the operator has configured.
    pub proxy: Option<String>,
    /// Keeps cookies and storage under this name from one session to the next. Default is to keep nothing.
    pub profile: Option<String>,
    /// Only these origins may be reached, within what the operator allows, such as `https://shop.example`.
    pub allow_origins: Option<Vec<String>>,
    /// These origins may not be reached.
    pub deny_origins: Vec<String>,
    /// Records a video of each tab, to be had when the session is closed, unless a secret was typed.
    pub video: bool,
    /// Looks like an ordinary browser, where the operator allows it: see the crate's documentation.
    pub stealth: bool,
}
