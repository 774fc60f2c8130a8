//! The stores in secret managers: one set of tests for all four, against servers that follow the published protocols and
//! check signatures and tokens; then what each has of its own.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod aws;
mod azure;
mod contract;
mod google;
mod hashicorp;
mod hostile;
mod net;

use std::sync::Arc;

use mcp_core::{
    Partition, Shared,
    secret::{SecretName, SecretScope, SecretStore},
    store::Namespace,
};

use self::net::Net;

/// A store in front of a server that is empty, but for secrets of others.
struct Stand {
    /// Where the secrets are, as an origin.
    origin: &'static str,
    store: Arc<dyn SecretStore>,
    /// The same with another prefix.
    other: Arc<dyn SecretStore>,
    net: Net,
}

type Make = fn() -> Stand;

/// The stores, by name.
const ALL: [(&str, Make); 4] = [
    ("aws", aws::stand),
    ("azure", azure::stand),
    ("google", google::stand),
    ("hashicorp", hashicorp::stand),
];

fn shared() -> SecretScope {
    let owner = Partition::shared(Shared::by_operator());
    SecretScope::new(Namespace::new("oauth").unwrap(), owner)
}

fn name(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}
