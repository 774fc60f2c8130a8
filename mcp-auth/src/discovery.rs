//! Finding an authorization server's endpoints (RFC 8414, OpenID Connect Discovery 1.0).

use std::{sync::Arc, time::Duration};

use mcp_core::http_client::HttpClient;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::net::{self, FetchError};

/// How long metadata are kept that do not say for how long they are fresh, and how long at most.
const LIFETIME: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What an authorization server says about itself (RFC 8414, section 2).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ServerMetadata {
    /// The issuer, exactly as written.
    pub issuer: String,
    /// Where the user gives an authorisation.
    #[serde(default, deserialize_with = "address")]
    pub authorization_endpoint: Option<Url>,
    /// Where tokens are issued.
    #[serde(default, deserialize_with = "address")]
    pub token_endpoint: Option<Url>,
    /// Where the signing keys are.
    #[serde(default, deserialize_with = "address")]
    pub jwks_uri: Option<Url>,
    /// Where clients register themselves (RFC 7591).
    #[serde(default, deserialize_with = "address")]
    pub registration_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    #[serde(default, deserialize_with = "address")]
    pub revocation_endpoint: Option<Url>,
    /// Where opaque tokens are looked up (RFC 7662).
    #[serde(default, deserialize_with = "address")]
    pub introspection_endpoint: Option<Url>,
    /// Where a device asks for a code (RFC 8628).
    #[serde(default, deserialize_with = "address")]
    pub device_authorization_endpoint: Option<Url>,
    /// Where claims about the user are (OpenID Connect Core, section 5.3).
    #[serde(default, deserialize_with = "address")]
    pub userinfo_endpoint: Option<Url>,
    /// The scopes there are.
    pub scopes_supported: Option<Vec<String>>,
    /// The grants there are.
    pub grant_types_supported: Option<Vec<String>>,
    /// How clients may prove who they are at the token endpoint.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// How a code may be bound to a verifier (RFC 7636).
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// The algorithms that proofs of possession may be signed by (RFC 9449, section 5.1).
    pub dpop_signing_alg_values_supported: Option<Vec<String>>,
    /// Whether an authorization response names its issuer (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// Whether a client may be named by the address of its document.
    #[serde(default)]
    pub client_id_metadata_document_supported: bool,
}

/// Reads an address; an empty text stands for none, as some servers write it.
fn address<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<Url>, D::Error> {
    let text = Option::<String>::deserialize(reader)?;
    let text = text.filter(|text| !text.trim().is_empty());
    text.map(|text| Url::parse(&text).map_err(serde::de::Error::custom))
        .transpose()
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
            dpop_signing_alg_values_supported: None,
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
        self.dpop_signing_alg_values_supported = None;
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
    Ok(fetch(client, issuer).await?.0)
}

/// Fetches the metadata, and says for how long they are fresh.
pub(crate) async fn fetch(
    client: &Arc<dyn HttpClient>,
    issuer: &str,
) -> Result<(ServerMetadata, Duration), DiscoveryError> {
    let bad = || DiscoveryError::Issuer(issuer.chars().take(256).collect());
    let url = Url::parse(issuer).map_err(|_| bad())?;
    if !net::is_secure(&url) || url.query().is_some() || url.fragment().is_some() {
        return Err(bad());
    }
    let mut last = None;
    // A place that does not answer now may be the one that counts, so that the silence of the others proves nothing.
    let mut unanswered = None;
    for place in places(&url) {
        let answer = match net::get(client, &place).await {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => {
                unanswered = unanswered.or(Some(error));
                continue;
            }
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let metadata: ServerMetadata = match serde_json::from_slice(answer.json()) {
            Ok(metadata) => metadata,
            // Some servers answer every path with a page.
            Err(_) => {
                last = Some(answer.shape("authorization server metadata"));
                continue;
            }
        };
        let fresh = net::max_age(&answer.headers).map_or(LIFETIME, |age| age.min(LONGEST));
        return Ok((check(metadata, issuer)?, fresh));
    }
    Err(unanswered.or(last).map_or_else(bad, DiscoveryError::Fetch))
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
    use mcp_core::http_client::{HttpError, ResponseBody};

    use super::*;

    /// Answers each path by a status and a text.
    #[derive(Debug)]
    struct Site(Vec<(&'static str, u16, String)>);

    #[async_trait::async_trait]
    impl HttpClient for Site {
        async fn send(
            &self,
            request: http::Request<bytes::Bytes>,
        ) -> Result<http::Response<ResponseBody>, HttpError> {
            let path = request.uri().path().to_owned();
            let found = self.0.iter().find(|(own, ..)| *own == path);
            let (status, text) = found.map_or((404, ""), |(_, status, text)| (*status, text));
            let body = bytes::Bytes::from(text.to_owned());
            let mut response = http::Response::new(body.into());
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            Ok(response)
        }
    }

    #[tokio::test]
    async fn a_place_in_trouble_does_not_hide_the_next_and_its_silence_proves_nothing() {
        let document = "\u{feff}{\"issuer\":\"https://as.example\"}".to_owned();
        let oauth = "/.well-known/oauth-authorization-server";
        let openid = "/.well-known/openid-configuration";
        let found = async |places: Vec<(&'static str, u16, String)>| {
            let client: Arc<dyn HttpClient> = Arc::new(Site(places));
            discover(&client, "https://as.example").await
        };
        let both = vec![(oauth, 500, String::new()), (openid, 200, document)];
        assert!(found(both).await.is_ok());
        let error = found(vec![(oauth, 503, String::new())]).await.unwrap_err();
        let DiscoveryError::Fetch(error) = error else {
            panic!("{error}");
        };
        assert!(error.is_transient(), "{error}");
    }

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
