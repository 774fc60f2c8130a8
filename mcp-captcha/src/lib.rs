//! Captcha solving as a service and as MCP tools: 2Captcha, Anti-Captcha and CapSolver behind one trait, with
//! fail-over, limits on what is spent, and permission by site.
//!
//! [`VendorClient`] speaks to one service, [`Failover`] puts several behind one another, and [`Captcha`] adds who
//! may have what solved and for how much. With the feature `rmcp` there is `CaptchaTools`, an rmcp server.
//!
//! Use it on sites that you may automate: your own, those of customers who asked for it, test systems. A site is
//! refused unless the operator has listed it.
//!
//! # Features
//!
//! | Name | Adds | Default |
//! |---|---|---|
//! | `rmcp` | the MCP tools `solve_captcha`, `captcha_balance`, `report_captcha` | no |
//! | `tls-aws-lc` | TLS for `mcp_core`'s HTTP client | no |
//! | `full` | all of the above | no |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod captcha;
mod challenge;
mod codes;
mod error;
mod failover;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod polling;
mod service;
mod sites;
mod solver;
mod spend;
#[cfg(feature = "rmcp")]
mod tools;
pub mod widget;

#[cfg(feature = "rmcp")]
pub use self::tools::CaptchaTools;
pub use self::{
    captcha::Captcha,
    challenge::{
        Challenge, Charset, ImageChallenge, Kind, MAX_IMAGE, MinScore, TaskProxy, TokenChallenge,
    },
    error::{CaptchaError, CaptchaErrorKind, RetryAdvice},
    failover::{Failover, Preference},
    polling::Polling,
    service::{Vendor, VendorClient},
    sites::Sites,
    solver::{Balance, Reported, Solution, Solver, TaskId, Verdict},
    spend::{Held, Limits, Spending, Spent},
};

/// Compiles and runs the examples of the README.
#[cfg(all(doctest, feature = "rmcp", feature = "tls-aws-lc"))]
#[doc = include_str!("../README.md")]
struct Readme;
