//! Governed browser sessions on Playwright, as a service and as MCP tools.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod driver;
mod engine;
mod error;
mod markdown;
mod profile;
mod proxy;
mod scripts;
mod secrets;
mod service;
mod session;
mod snapshot;
mod stealth;

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
