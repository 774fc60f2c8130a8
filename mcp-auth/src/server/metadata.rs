use bytes::Bytes;
use mcp_core::{ConfigError, Error, ErrorKind};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Refusal, RefusalKind, dpop};
use crate::{challenge::Challenge, net};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What this server says about itself as a protected resource (RFC 9728), and the challenges that point there.
///
/// Everything is made from the address that the operator configured, never from the `Host` of a request, so it is
/// the same behind a proxy that ends TLS.
#[derive(Clone, Debug)]
pub struct ProtectedResource {
    resource: Url,
    /// None of the three where no authorization server is named: there is nowhere to send clients to.
    metadata_url: Option<Url>,
    paths: Vec<String>,
    document: Option<Bytes>,
    base_scopes: Vec<String>,
    /// Whether tokens that are bound to a key are taken, and whether no others are.
    dpop: Option<bool>,
}

impl ProtectedResource {
    pub(super) fn new(
        resource: &str,
        servers: &[String],
        scopes: &[String],
        base_scopes: Vec<String>,
        (dpop, more): (Option<bool>, Map<String, Value>),
    ) -> Result<Self, ConfigError> {
        let bad = |remedy| ConfigError::new("resource", resource, remedy);
        let url = Url::parse(resource).map_err(|_| bad("give an absolute address"))?;
        if !net::is_secure(&url) || url.fragment().is_some() || url.query().is_some() {
            return Err(bad(
                "give an https address (http only for this machine) without query and fragment",
            ));
        }
        if servers.is_empty() {
            return Ok(Self {
                resource: url,
                metadata_url: None,
                paths: Vec::new(),
                document: None,
                base_scopes,
                dpop,
            });
        }
        let path = url.path().trim_end_matches('/').to_owned();
        let mut metadata_url = url.clone();
        metadata_url.set_path(&format!("{WELL_KNOWN}{path}"));
        let mut document = Map::from_iter([
            ("resource".to_owned(), resource.into()),
            ("authorization_servers".to_owned(), servers.into()),
            ("bearer_methods_supported".to_owned(), json!(["header"])),
        ]);
        // `offline_access` is between a client and its authorization server.
        let offered: Vec<_> = scopes
            .iter()
            .filter(|scope| *scope != "offline_access")
            .collect();
        if !offered.is_empty() {
            document.insert("scopes_supported".to_owned(), json!(offered));
        }
        if let Some(required) = dpop {
            let algorithms = json!(dpop::ALGORITHMS);
            document.insert("dpop_signing_alg_values_supported".to_owned(), algorithms);
            let name = "dpop_bound_access_tokens_required".to_owned();
            document.insert(name, required.into());
        }
        document.extend(more);
        Ok(Self {
            resource: url,
            paths: vec![metadata_url.path().to_owned(), WELL_KNOWN.to_owned()],
            metadata_url: Some(metadata_url),
            document: Some(Value::Object(document).to_string().into()),
            base_scopes,
            dpop,
        })
    }

    /// Returns the address of this server.
    #[must_use]
    pub fn resource(&self) -> &Url {
        &self.resource
    }

    /// Returns where the document is; `None` without an authorization server.
    #[must_use]
    pub fn metadata_url(&self) -> Option<&Url> {
        self.metadata_url.as_ref()
    }

    /// Returns the paths at which the document is served: that of this server, and the root. None without an authorization
    /// server.
    #[must_use]
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Returns the document, a JSON object; `None` without an authorization server.
    #[must_use]
    pub fn document(&self) -> Option<&Bytes> {
        self.document.as_ref()
    }

    /// Returns the challenges that go with a refusal: of `Bearer`, of `DPoP` where only that is taken or a proof was wrong,
    /// of both where there was no credential and both are taken (RFC 9449, section 7.2).
    #[must_use]
    pub fn challenges(&self, refusal: &Refusal) -> Vec<Challenge> {
        let of_proof = matches!(
            refusal.kind(),
            RefusalKind::InvalidProof | RefusalKind::NonceNeeded
        );
        let begin: &[fn() -> Challenge] = match self.dpop {
            _ if of_proof => &[Challenge::dpop],
            Some(true) => &[Challenge::dpop],
            Some(false) if refusal.kind() == RefusalKind::Missing => {
                &[Challenge::bearer, Challenge::dpop]
            }
            _ => &[Challenge::bearer],
        };
        begin
            .iter()
            .map(|begin| self.challenge(begin(), refusal))
            .collect()
    }

    fn challenge(&self, mut challenge: Challenge, refusal: &Refusal) -> Challenge {
        if challenge.is_dpop() {
            challenge = challenge.with("algs", &dpop::ALGORITHMS.join(" "));
        }
        if let Some(code) = refusal.code() {
            challenge = challenge
                .with("error", code)
                .with("error_description", refusal.reason());
        }
        self.complete(challenge, &self.base_scopes)
    }

    /// Returns the challenge that asks for more scopes, all of them at once.
    #[must_use]
    pub fn step_up(&self, scopes: &[String]) -> Challenge {
        let reason = "the operation needs more scopes than the token grants";
        let refusal = Refusal::new(RefusalKind::InsufficientScope, reason);
        let challenge = match self.dpop {
            Some(true) => Challenge::dpop(),
            _ => Challenge::bearer(),
        };
        let challenge = challenge
            .with("error", "insufficient_scope")
            .with("error_description", refusal.reason());
        self.complete(challenge, scopes)
    }

    /// Returns the error that asks for more scopes: 403 with the challenge.
    #[must_use]
    pub fn insufficient_scope(&self, scopes: &[String]) -> Error {
        let message = format!("this needs the scopes {}", scopes.join(" "));
        let data = json!({ "kind": "insufficient_scope", "requiredScopes": scopes });
        Error::new(ErrorKind::PermissionDenied, message)
            .with_status(http::StatusCode::FORBIDDEN)
            .with_header(
                http::header::WWW_AUTHENTICATE,
                self.step_up(scopes).to_header(),
            )
            .with_data(data.into())
    }

    fn complete(&self, challenge: Challenge, scopes: &[String]) -> Challenge {
        let scopes: Vec<_> = scopes
            .iter()
            .map(String::as_str)
            .filter(|scope| *scope != "offline_access")
            .collect();
        let challenge = match scopes.is_empty() {
            true => challenge,
            false => challenge.with("scope", &scopes.join(" ")),
        };
        match &self.metadata_url {
            Some(url) => challenge.with("resource_metadata", url.as_str()),
            None => challenge.with("realm", self.resource.as_str()),
        }
    }
}
