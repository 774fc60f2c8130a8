//! The OAuth client: against a real authorization server, and against one that does what it should not.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod consent;
mod dpop;
mod fake;
mod hostile;
mod inside;
mod login;
mod providers;
mod real;
mod refresh;
mod rows;

use std::sync::Arc;

use mcp_auth::{
    oauth::{Manager, ManagerBuilder},
    vault::{KeyRing, Vault, VaultKey},
};
use mcp_core::{
    Principal,
    http_client::{GuardedClient, HttpClient},
    store::{MemoryStore, StateStore},
};

pub(crate) fn http() -> Arc<dyn HttpClient> {
    Arc::new(
        GuardedClient::builder()
            .insecure_allow_loopback()
            .build()
            .unwrap(),
    )
}

pub(crate) async fn vault_over(store: Arc<dyn StateStore>) -> Vault {
    let key = VaultKey::from_bytes(&[7; 32]).unwrap();
    Vault::open_with_ring(store, KeyRing::new(key))
        .await
        .unwrap()
}

pub(crate) async fn vault() -> Vault {
    vault_over(Arc::new(MemoryStore::default())).await
}

pub(crate) const CALLBACK: &str = "http://127.0.0.1:1/oauth/callback";

pub(crate) async fn manager() -> ManagerBuilder {
    Manager::builder(CALLBACK.parse().unwrap(), http(), vault().await)
}

pub(crate) fn user(name: &str) -> Principal {
    Principal::authenticated("https://gw.example", name)
}

/// The parameters of an address.
pub(crate) fn query(url: &str) -> Vec<(String, String)> {
    url::Url::parse(url)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

pub(crate) fn param(query: &[(String, String)], name: &str) -> Option<String> {
    let found = query.iter().find(|(own, _)| own == name);
    found.map(|(_, value)| value.clone())
}
