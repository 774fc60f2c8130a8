//! Governed browser sessions on Playwright, as a service and as MCP tools.
//!
//! [`BrowserService`] leases [`Session`]s to principals: contexts of a Chromium that the Playwright driver controls,
//! each behind a filtering proxy of its own that enforces an [`OriginPolicy`]. With the feature `rmcp` there is
//! `BrowserTools`, an rmcp server; with `captcha` sessions find captchas and hand over answers.
//!
//! Nothing is downloaded, read from the environment or looked for: Node, the driver (version [`PLAYWRIGHT_CORE`] of
//! `playwright-core`) and the browser are named by a [`DriverConfig`], or found by [`Discover`] in folders that it is
//! given. Set `PLAYWRIGHT_SKIP_DRIVER_DOWNLOAD=1` when building, for instance in `.cargo/config.toml`.
//!
//! # Features
//!
//! | Name | Adds | Default |
//! |---|---|---|
//! | `rmcp` | the MCP tools | no |
//! | `captcha` | captchas on pages | no |
//! | `full` | all of the above | no |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod call_log;
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
mod page;
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
pub use self::captcha::{CaptchaOutcome, FoundCaptcha};
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
        Action, Area, Button, Click, Conditions, ConsoleLevel, CookieQuery, DialogView, Emulation,
        Expectation, Extract, Files, KeptDownload, Language, LoadState, Mode, Modifier, NewCookie,
        Notice, Place, Pointer, Position, RequestPart, RequestView, Route, Screenshot, Session,
        SessionOptions, SnapshotQuery, SnapshotView, TabView, Viewport, Wait,
    },
};

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "rmcp"))]
#[doc = include_str!("../README.md")]
struct Readme;
