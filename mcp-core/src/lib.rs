//! The vocabulary and server transports of an MCP service on tower and rmcp.
//!
//! Everything is a `tower::Service` from [`Request`] to [`Response`] with the error [`Error`]: an rmcp server,
//! an upstream, a whole gateway. A layer written once works on all of them. This crate holds that seam, the
//! types that travel over it, the traits through which the sibling crates meet, and behind features the
//! transports that serve a stack to clients and the adapters to and from rmcp.
//!
//! # Features
//!
//! | Name | Adds | Default |
//! |---|---|---|
//! | `http` | Streamable HTTP transport | no |
//! | `serve` | HTTP server with time limits and orderly shutdown | no |
//! | `stdio` | stdio transport | no |
//! | `rmcp` | adapters from and to rmcp 3, in [`rmcp3`] | no |
//! | `http-client` | guarded HTTP client | no |
//! | `tls-aws-lc` | rustls with aws-lc-rs for the client | no |
//! | `redb` | state store in a file | no |
//! | `postgres` | state store in PostgreSQL | no |
//! | `postgres-tls` | TLS to PostgreSQL, with rustls | no |
//! | `redis` | state store in Redis | no |
//! | `test-util` | contract tests and fakes | no |
//!
//! `__unstable-wire` opens the modules that `mcp-aggregate` builds its connectors on. They change in any release.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod annotations;
mod asker;
mod audit;
mod auth_context;
mod backoff;
mod bounds;
mod budget;
mod change;
pub mod clock;
mod config;
mod context;
mod credential;
mod drain;
pub mod duration;
mod erased;
mod error;
#[cfg(any(feature = "http", feature = "rmcp", feature = "stdio"))]
mod handshake;
pub mod http_client;
mod json;
#[cfg(feature = "__unstable-wire")]
#[doc(hidden)]
pub mod jsonrpc;
#[cfg(not(feature = "__unstable-wire"))]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the connectors of mcp-aggregate use the rest"
)]
mod jsonrpc;
mod lazy;
#[cfg(all(feature = "stdio", feature = "__unstable-wire"))]
#[doc(hidden)]
pub mod lines;
#[cfg(all(feature = "stdio", not(feature = "__unstable-wire")))]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the connectors of mcp-aggregate use the rest"
)]
mod lines;
mod method;
#[cfg(feature = "__unstable-wire")]
#[doc(hidden)]
pub mod mirror;
#[cfg(not(feature = "__unstable-wire"))]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the connectors of mcp-aggregate use the rest"
)]
mod mirror;
mod notifier;
#[cfg(feature = "__unstable-wire")]
#[doc(hidden)]
pub mod pipe;
#[cfg(not(feature = "__unstable-wire"))]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the connectors of mcp-aggregate use the rest"
)]
mod pipe;
mod policy;
mod principal;
mod protocol;
#[cfg(any(feature = "http-client", feature = "serve"))]
mod quiet;
mod request;
mod request_id;
mod response;
#[cfg(feature = "rmcp")]
pub mod rmcp3;
mod schema;
mod seam;
pub mod secret;
#[cfg(feature = "serve")]
pub mod serve;
mod session;
pub mod shapes;
#[cfg(feature = "__unstable-wire")]
#[doc(hidden)]
pub mod sse;
#[cfg(not(feature = "__unstable-wire"))]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the connectors of mcp-aggregate use the rest"
)]
mod sse;
pub mod store;
mod subscription;
#[cfg(feature = "test-util")]
pub mod testing;
mod timing;
pub mod transport;
mod upstream;
mod visibility;
mod whole;
mod wrap;

pub(crate) use self::json::Cursor;
pub use self::{
    annotations::ToolAnnotations,
    asker::{Ask, Asker},
    audit::{AuditEvent, AuditOutcome, AuditSink, MemoryAudit},
    auth_context::AuthContext,
    backoff::Backoff,
    bounds::Bounds,
    budget::{Account, Amount, Budget, MemoryBudget, Reservation},
    change::{
        CatalogueChange, Change, ChangeEvent, ChangeFeed, ChangeStream, ChangedEntry,
        MemoryChangeFeed,
    },
    config::{ConfigCheck, ConfigError, ConfigErrors},
    context::Deadline,
    credential::{
        Consent, Credential, CredentialNeed, CredentialOutcome, CredentialProof,
        CredentialProvider, CredentialRefusal, CredentialRetry, ProvenRequest,
    },
    drain::Drain,
    erased::{BoxSeam, BoxSeamFuture},
    error::{Error, ErrorClass, ErrorKind, RpcCode},
    json::{Json, JsonError, JsonErrorKind, MAX_DEPTH, MAX_MEMBERS, Object},
    method::Method,
    notifier::{Notification, NotificationStream, Notifier},
    policy::{PolicyDecision, PolicyEngine, Verdict},
    principal::{Partition, Principal, PrincipalKind, Shared},
    protocol::{ClientCapabilities, Era, LogLevel, ProtocolVersion, TraceContext, meta},
    request::Request,
    request_id::RequestId,
    response::{Response, ResultType, ToolFailure, ToolFailureClass},
    schema::{SchemaSource, ToolSchemas},
    seam::{Inside, IntoSeam, IntoSeamFuture, Seam, Stack},
    session::{OnClose, SessionKey},
    subscription::SubscriptionFilter,
    timing::Timing,
    upstream::UpstreamId,
    visibility::{Entry, EntryKind, Visibility},
};

/// Compiles and runs the examples of the README.
#[cfg(all(doctest, feature = "serve", feature = "stdio", feature = "rmcp"))]
#[doc = include_str!("../README.md")]
struct Readme;
