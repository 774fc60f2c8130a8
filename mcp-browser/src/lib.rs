//! Governed browser sessions on Playwright, as a service and as MCP tools.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "captcha")]
mod captcha;
mod config;
mod driver;
mod engine;
mod error;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod markdown;
mod profile;
mod proxy;
mod scripts;
mod secrets;
mod service;
mod session;
mod snapshot;
mod stealth;
#[cfg(feature = "rmcp")]
mod tools;

#[cfg(feature = "rmcp")]
pub use self::tools::{BrowserTools, Capability};

#[cfg(feature = "captcha")]
pub use self::captcha::FoundCaptcha;
pub use self::{
    config::{BrowserConfig, Downloads, Isolation},
    driver::{Discover, DriverConfig, PLAYWRIGHT_CORE},
    engine::{BrowserLimits, Sandbox},
    error::{BrowserError, BrowserErrorKind},
    profile::ProfileStore,
    proxy::OriginPolicy,
    secrets::Secrets,
    service::BrowserService,
    session::{
        Action, Button, Conditions, DialogView, Extract, Files, Mode, Position, Route, Screenshot,
        Session, SessionOptions, SnapshotView, TabView, Viewport, Wait,
    },
};
