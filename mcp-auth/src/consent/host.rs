//! Which hosts the consent pages answer for.

use std::sync::Arc;

use axum::{extract::State, middleware, response::Response};
use http::{StatusCode, header};
use url::Url;

use super::{pages, router::Shared};

/// Returns what `Host` may say for an address: the port may be left out where it is the scheme's own.
pub(super) fn hosts_of(base: &Url) -> Vec<String> {
    let host = base.host_str().unwrap_or_default();
    let mut hosts = Vec::new();
    if base.port().is_none() {
        hosts.push(host.to_owned());
    }
    if let Some(port) = base.port_or_known_default() {
        hosts.push(format!("{host}:{port}"));
    }
    hosts
}

/// Refuses requests that are addressed to another host: a page whose name was pointed at this server (DNS rebinding) is
/// of the same origin for its browser, and could read the pages.
pub(super) async fn check_host(
    State(own): State<Arc<Shared>>,
    request: axum::extract::Request,
    next: middleware::Next,
) -> Response {
    let mut values = request.headers().get_all(header::HOST).iter();
    let host = match (values.next(), values.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/2 and HTTP/3 have it in the address (RFC 9113, section 8.3.1).
        (None, _) => request.uri().authority().map(|own| own.as_str()),
        _ => None,
    };
    let fits = |host: &str| own.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    match host.is_some_and(fits) {
        true => next.run(request).await,
        false => pages::problem(
            StatusCode::MISDIRECTED_REQUEST,
            "This page is at another address. Open the link again as it was given to you.",
        ),
    }
}
