//! Finds out who makes each HTTP request, and refuses those that do not show it (OAuth 2.1 resource server).
//!
//! For each request, in this order:
//!
//! 1. `GET` of the metadata document (RFC 9728), at the root and under this server's path: answered here. In an
//!    axum router that is merged with others, add the routes of `ResourceServer::router` (feature `axum`).
//! 2. A path that is open to everybody: passed on, without a principal.
//! 3. A token in the address, a malformed token, two credentials (two `Authorization` headers, or a bearer token beside
//!    `X-API-Key` where a scheme takes API keys): 400.
//! 4. No credential: 401 with a challenge that names the document, unless credentials are optional.
//! 5. A credential that is wrong, expired, revoked, of another issuer, meant for another server, or bound to another
//!    connection: 401 with `error="invalid_token"`.
//! 6. A token that is bound to a key (DPoP, RFC 9449) without a good proof for this very request: 401 with a `DPoP`
//!    challenge. See [`Dpop`]; without it such tokens are refused.
//! 7. A credential without the scopes that every request needs: 403 with `error="insufficient_scope"` and all scopes.
//! 8. The keys, the introspection endpoint or the store of API keys is unavailable: 503 with `Retry-After`. Nothing is let
//!    through on suspicion.
//! 9. Otherwise the [`Principal`](mcp_core::Principal) and the [`VerifiedIdentity`] are put into the extensions, and
//!    the credential is taken out of the headers.
//!
//! Verdicts about bearer tokens are remembered, each for the token that was judged, until the token expires, its key is withdrawn, or it is revoked.
//!
//! # Security
//!
//! Put the layer outside everything that reads bodies. Clones of a [`ResourceServer`] share its verdicts and what has
//! been revoked; processes do if they are told to ([`ResourceServer::share_revocations`]).
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use mcp_auth::server::{ApiKeyScheme, ApiKeys, MemoryApiKeys, ResourceServer};
//! use mcp_core::secret::Secret;
//!
//! let keys = ApiKeys::new("gw", Secret::new("a pepper from the environment"));
//! let (key, record) = keys.issue("alice", ["mcp:read"], None);
//! let auth = ResourceServer::builder("https://gw.example/mcp")
//!     .authorization_server("https://as.example")
//!     .scheme(ApiKeyScheme::new("https://gw.example/keys", keys, Arc::new(MemoryApiKeys::new([record]))))
//!     .build()?;
//! let layer = auth.layer();
//! let document = auth.resource().metadata_url().expect("an authorization server is named");
//! assert_eq!(document.path(), "/.well-known/oauth-protected-resource/mcp");
//! # let _ = (key, layer);
//! # Ok::<(), mcp_core::ConfigError>(())
//! ```

mod api_key;
mod body;
mod config;
mod dpop;
mod identity;
mod introspect;
mod judge;
mod jwt;
mod layer;
mod metadata;
#[cfg(feature = "mtls")]
mod mtls;
mod request_body;
mod revoked;
#[cfg(feature = "axum")]
mod routes;
mod scheme;
mod shared;
mod token;

#[cfg(feature = "mtls")]
pub use self::mtls::{CertificateName, MtlsScheme, PeerCertificate, TlsListener};
pub use self::{
    api_key::{ApiKeyRecord, ApiKeyScheme, ApiKeyStore, ApiKeys, MemoryApiKeys, StoredApiKeys},
    body::Body,
    config::{ResourceServer, ResourceServerBuilder},
    dpop::Dpop,
    identity::{Identity, Refusal, RefusalKind, VerifiedIdentity},
    introspect::IntrospectionScheme,
    jwt::JwtScheme,
    layer::{ResourceServerLayer, ResourceServerService, ResponseFuture},
    metadata::ProtectedResource,
    request_body::RequestBody,
    scheme::{Presented, Scheme},
    shared::SharedRevocations,
    token::InboundToken,
};
pub use crate::alive::Alive;

#[cfg(feature = "__fuzz")]
pub(crate) mod fuzz {
    use http::{HeaderMap, HeaderValue, header};

    /// Reads a proof of possession: none that was not signed is taken.
    pub(crate) fn proof(data: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(data) {
            let _ = super::dpop::fuzz(&value);
        }
    }

    /// Reads a header as every request's is, and the claims of what looks like a token.
    pub(crate) fn bearer(data: &[u8]) {
        let Ok(value) = HeaderValue::from_bytes(data) else {
            return;
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value);
        if let Ok(Some(token)) = super::token::presented(&headers, false) {
            let _ = crate::jwt::claimed_issuer(token.text);
        }
    }
}
