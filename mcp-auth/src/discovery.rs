//! Finding an authorization server's endpoints (RFC 8414, OpenID Connect Discovery 1.0).

use std::sync::Arc;

use mcp_core::http_client::HttpClient;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::net::{self, FetchError};

/// What an authorization server says about itself (RFC 8414, section 2).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ServerMetadata {
    /// The issuer, exactly as written.
    pub issuer: String,
    /// Where the user gives an authorisation.
    pub authorization_endpoint: Option<Url>,
    /// Where tokens are issued.
    pub token_endpoint: Option<Url>,
    /// Where the signing keys are.
    pub jwks_uri: Option<Url>,
    /// Where clients register themselves (RFC 7591).
    pub registration_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where opaque tokens are looked up (RFC 7662).
    pub introspection_endpoint: Option<Url>,
    /// Where a device asks for a code (RFC 8628).
    pub device_authorization_endpoint: Option<Url>,
    /// Where facts about the user are (OpenID Connect Core, section 5.3).
    pub userinfo_endpoint: Option<Url>,
    /// The scopes there are.
    pub scopes_supported: Option<Vec<String>>,
    /// The grants there are.
    pub grant_types_supported: Option<Vec<String>>,
    /// How clients may prove who they are at the token endpoint.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// How a code may be bound to a verifier (RFC 7636).
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// Whether an authorization response names its issuer (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// Whether a client may be named by the address of its document.
    #[serde(default)]
    pub client_id_metadata_document_supported: bool,
}

impl ServerMetadata {
    /// Describes a server whose endpoints are known, without asking it.
    #[must_use]
    pub fn fixed(issuer: &str, authorization: Option<Url>, token: Url) -> Self {
        Self {
            issuer: issuer.to_owned(),
            authorization_endpoint: authorization,
            token_endpoint: Some(token),
            jwks_uri: None,
            registration_endpoint: None,
            revocation_endpoint: None,
            introspection_endpoint: None,
            device_authorization_endpoint: None,
            userinfo_endpoint: None,
            scopes_supported: None,
            grant_types_supported: None,
            token_endpoint_auth_methods_supported: None,
            code_challenge_methods_supported: Some(vec!["S256".to_owned()]),
            authorization_response_iss_parameter_supported: false,
            client_id_metadata_document_supported: false,
        }
    }

    /// Returns whether the server binds codes by `S256`. A server that does not say so is taken not to
    /// (MCP 2026-07-28, authorization, "Authorization Code Protection").
    #[must_use]
    pub fn has_s256(&self) -> bool {
        let methods = self.code_challenge_methods_supported.as_ref();
        methods.is_some_and(|methods| methods.iter().any(|method| method == "S256"))
    }

    /// Leaves out the lists that nothing asks after once the user has been sent to the server.
    #[cfg(feature = "oauth")]
    pub(crate) fn without_lists(mut self) -> Self {
        self.scopes_supported = None;
        self.grant_types_supported = None;
        self
    }

    /// Returns the endpoints that are there.
    fn endpoints(&self) -> impl Iterator<Item = &Url> {
        [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.jwks_uri,
            &self.registration_endpoint,
            &self.revocation_endpoint,
            &self.introspection_endpoint,
            &self.device_authorization_endpoint,
            &self.userinfo_endpoint,
        ]
        .into_iter()
        .filter_map(Option::as_ref)
    }
}

/// Why a server's metadata cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The issuer is not an address.
    #[error("issuer {0:?} is not an https address without query and fragment")]
    Issuer(String),
    /// The document names another issuer than the one it was asked for (RFC 8414, section 3.3).
    #[error("the metadata of {asked} names another issuer; it is not used")]
    Mismatch {
        /// The issuer that was asked for.
        asked: String,
    },
    /// An endpoint is not `https`.
    #[error("the metadata names {0}, which is not an https address")]
    Insecure(String),
    /// There is no document.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Returns where the metadata of an issuer may be, in the order to try
/// (MCP 2026-07-28, authorization server discovery).
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/').to_owned();
    let at = |path: &str| {
        let mut url = issuer.clone();
        url.set_path(path);
        url
    };
    let oauth = "/.well-known/oauth-authorization-server";
    let openid = "/.well-known/openid-configuration";
    if path.is_empty() {
        return vec![at(oauth), at(openid)];
    }
    vec![
        at(&format!("{oauth}{path}")),
        at(&format!("{openid}{path}")),
        at(&format!("{path}{openid}")),
    ]
}

/// Fetches the metadata of an issuer.
///
/// # Errors
///
/// There is no document at any of the places, it names another issuer, or an endpoint that is not `https`.
///
/// # Security
///
/// The issuer in the document is compared character by character with the one asked for; only a slash after the host may
/// stand in one of the two and not in the other (RFC 3986, section 6.2.3). What the document says is the issuer from then on.
pub async fn discover(
    client: &Arc<dyn HttpClient>,
    issuer: &str,
) -> Result<ServerMetadata, DiscoveryError> {
    let bad = || DiscoveryError::Issuer(issuer.chars().take(256).collect());
    let url = Url::parse(issuer).map_err(|_| bad())?;
    if !net::is_secure(&url) || url.query().is_some() || url.fragment().is_some() {
        return Err(bad());
    }
    let mut last = None;
    for place in places(&url) {
        let answer = match net::get(client, &place).await {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let metadata: ServerMetadata = match serde_json::from_slice(&answer.body) {
            Ok(metadata) => metadata,
            // Some servers answer every path with a page.
            Err(_) => {
                last = Some(answer.shape("authorization server metadata"));
                continue;
            }
        };
        return check(metadata, issuer);
    }
    Err(last.map_or_else(bad, DiscoveryError::Fetch))
}

/// Returns whether two issuers are the same: equal, or different only by the slash that is an empty path
/// (RFC 3986, section 6.2.3). A trailing slash of a longer path counts.
pub(crate) fn same_issuer(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let bare = |issuer: &str| issuer.strip_suffix('/').unwrap_or(issuer).to_owned();
    let is_root = |url: Url| url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    bare(one) == bare(other) && Url::parse(one).is_ok_and(is_root)
}

fn check(metadata: ServerMetadata, issuer: &str) -> Result<ServerMetadata, DiscoveryError> {
    if !same_issuer(&metadata.issuer, issuer) {
        return Err(DiscoveryError::Mismatch {
            asked: issuer.to_owned(),
        });
    }
    let insecure = metadata.endpoints().find(|url| !net::is_secure(url));
    match insecure.map(net::shown) {
        Some(shown) => Err(DiscoveryError::Insecure(shown)),
        None => Ok(metadata),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_19_places_are_tried_in_the_order_of_the_specification() {
        let of = |issuer: &str| {
            places(&issuer.parse().unwrap())
                .iter()
                .map(|url| url.path().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("https://as.example"),
            [
                "/.well-known/oauth-authorization-server",
                "/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            of("https://as.example/t/1"),
            [
                "/.well-known/oauth-authorization-server/t/1",
                "/.well-known/openid-configuration/t/1",
                "/t/1/.well-known/openid-configuration"
            ]
        );
    }

    #[test]
    fn check_20_another_issuer_is_refused_but_for_the_slash_of_an_empty_path() {
        for (found, asked, fits) in [
            ("https://as.example", "https://as.example", true),
            ("https://as.example/", "https://as.example", true),
            ("https://as.example", "https://as.example/", true),
            ("https://as.example//", "https://as.example", false),
            ("https://as.example/t/", "https://as.example/t", false),
            ("https://as.example/t", "https://as.example/t/", false),
            ("https://as.example?", "https://as.example", false),
            ("https://AS.example", "https://as.example", false),
            ("https://evil.example", "https://as.example", false),
        ] {
            let token = "https://as.example/token".parse().unwrap();
            let metadata = ServerMetadata::fixed(found, None, token);
            assert_eq!(check(metadata, asked).is_ok(), fits, "{found} {asked}");
        }
    }

    #[test]
    fn check_38_endpoints_have_to_be_https() {
        for (endpoint, fits) in [
            ("https://as.example/token", true),
            ("http://as.example/token", false),
            ("http://127.0.0.1:9/token", true),
            ("http://127.0.0.1.evil.example/token", false),
            ("javascript:alert(1)", false),
        ] {
            let url = endpoint.parse().unwrap();
            let metadata = ServerMetadata::fixed("https://as.example", None, url);
            assert_eq!(
                check(metadata, "https://as.example").is_ok(),
                fits,
                "{endpoint}"
            );
        }
    }
}
