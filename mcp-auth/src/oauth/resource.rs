//! What a protected MCP server says about itself (RFC 9728).

use std::sync::Arc;

use mcp_core::http_client::HttpClient;
use serde::Deserialize;
use url::Url;

use super::OAuthError;
use super::directory::Directory;
use crate::{
    challenge::Challenge,
    discovery::{self, DiscoveryError, ServerMetadata},
    net::{self, FetchError},
};

/// How many addresses of a challenge are asked.
const MAX_NAMED: usize = 4;

#[derive(Deserialize)]
struct Document {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    dpop_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    dpop_bound_access_tokens_required: bool,
}

/// What is known about how to be authorised at an MCP server.
#[derive(Clone, Debug)]
pub(super) struct Protected {
    /// What tokens are to be meant for (RFC 8707).
    pub(super) resource: String,
    pub(super) servers: Vec<String>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) dpop: Bound,
}

/// Whether tokens for a resource have to be bound to a key (RFC 9728, section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bound {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// They may.
    Taken,
    /// They must.
    Required,
}

impl Protected {
    /// Returns whether an authorization server is one of those that the document names.
    pub(super) fn names(&self, issuer: &str) -> bool {
        self.servers
            .iter()
            .any(|own| discovery::same_issuer(own, issuer))
    }
}

/// The address of a server as a resource: without a fragment, and without a slash that only says "root".
pub(super) fn canonical(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    let text = url.as_str();
    match url.path() == "/" && url.query().is_none() {
        true => text.trim_end_matches('/').to_owned(),
        false => text.to_owned(),
    }
}

/// Finds the document of a server: where the challenge points, under the server's path, at the root. A place that has no
/// document is passed over; a document about another resource ends the search.
pub(super) async fn find(
    client: &Arc<dyn HttpClient>,
    server: &Url,
    challenge: Option<&Challenge>,
) -> Result<Option<Protected>, OAuthError> {
    let at = |path: &str| {
        let mut url = server.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(path);
        url
    };
    let well_known = "/.well-known/oauth-protected-resource";
    let path = server.path().trim_end_matches('/');
    let mut places = Vec::new();
    let named = challenge
        .into_iter()
        .flat_map(Challenge::resource_metadata_all);
    places.extend(named.take(MAX_NAMED).map(|named| (named, false)));
    if !path.is_empty() {
        places.push((at(&format!("{well_known}{path}")), false));
    }
    places.push((at(well_known), true));
    // A place that does not answer now may be the one that counts, so nothing is concluded from the others' silence.
    let mut unanswered = None;
    for (place, root) in places {
        let answer = match net::get(client, &place).await {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => {
                unanswered = unanswered.or(Some(error));
                continue;
            }
            Err(FetchError::Status { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let document: Document = match serde_json::from_slice(answer.json()) {
            Ok(document) => document,
            Err(_) => continue,
        };
        return check(document, server, root).map(Some);
    }
    unanswered.map_or(Ok(None), |error| Err(error.into()))
}

/// Accepts a document only for the server that it is about. One at the root may be about the whole origin.
fn check(document: Document, server: &Url, root: bool) -> Result<Protected, OAuthError> {
    let other = || OAuthError::OtherResource(net::shown(server));
    let resource = Url::parse(&document.resource).map_err(|_| other())?;
    let same = |a: &Url, b: &Url| {
        a.origin() == b.origin()
            && a.query() == b.query()
            && a.path().trim_end_matches('/') == b.path().trim_end_matches('/')
    };
    let whole_origin = root
        && resource.origin() == server.origin()
        && resource.path() == "/"
        && resource.query().is_none();
    if !same(&resource, server) && !whole_origin {
        return Err(other());
    }
    if document.authorization_servers.is_empty() {
        return Err(OAuthError::NoServer(net::shown(server)));
    }
    let dpop = match document.dpop_bound_access_tokens_required {
        true => Bound::Required,
        false if document.dpop_signing_alg_values_supported.is_empty() => Bound::Unsaid,
        false => Bound::Taken,
    };
    Ok(Protected {
        dpop,
        resource: document.resource,
        servers: document.authorization_servers,
        scopes: document.scopes_supported,
    })
}

/// Finds out how servers of revision 2025-03-26 are authorised at: the origin itself is the authorization server, with
/// endpoints at fixed places if it says nothing about them.
pub(super) async fn of_2025_03_26(
    directory: &Directory,
    server: &Url,
) -> Result<ServerMetadata, OAuthError> {
    let origin = net::shown(server);
    match directory.discover(&origin).await {
        Ok(metadata) => Ok(metadata),
        Err(DiscoveryError::Fetch(FetchError::Status { status, .. }))
            if status.is_client_error() =>
        {
            let at = |path: &str| {
                let mut url = server.clone();
                url.set_query(None);
                url.set_path(path);
                url
            };
            let mut metadata = ServerMetadata::fixed(&origin, Some(at("/authorize")), at("/token"));
            metadata.registration_endpoint = Some(at("/register"));
            Ok(metadata)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_33_the_canonical_address_has_no_fragment_and_no_lone_slash() {
        for (url, expected) in [
            ("https://MCP.example/", "https://mcp.example"),
            ("https://mcp.example/mcp#x", "https://mcp.example/mcp"),
            (
                "https://mcp.example:8443/a/b",
                "https://mcp.example:8443/a/b",
            ),
            (
                "HTTPS://mcp.example/mcp?tenant=1",
                "https://mcp.example/mcp?tenant=1",
            ),
        ] {
            assert_eq!(canonical(&url.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_document_about_another_resource_is_refused() {
        let server: Url = "https://mcp.example/mcp".parse().unwrap();
        for (resource, root, fits) in [
            ("https://mcp.example/mcp", false, true),
            ("https://mcp.example/mcp/", false, true),
            ("https://mcp.example", true, true),
            ("https://mcp.example", false, false),
            ("https://mcp.example/m", true, false),
            ("https://mcp.example/mcp2", false, false),
            ("https://evil.example/mcp", true, false),
            ("http://mcp.example/mcp", false, false),
            ("nonsense", true, false),
        ] {
            let document = Document {
                resource: resource.to_owned(),
                authorization_servers: vec!["https://as.example".to_owned()],
                scopes_supported: None,
                dpop_signing_alg_values_supported: Vec::new(),
                dpop_bound_access_tokens_required: false,
            };
            assert_eq!(check(document, &server, root).is_ok(), fits, "{resource}");
        }
    }
}
