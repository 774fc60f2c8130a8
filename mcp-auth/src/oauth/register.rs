//! Which client to be at an authorization server (MCP 2026-07-28, client registration).

use data_encoding::HEXLOWER;
use mcp_core::{
    Partition, Shared,
    secret::{Secret, SecretName, SecretScope, SecretStore as _},
    store::Namespace,
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{ClientAuth, Manager, OAuthClient, OAuthError, Relation};
use crate::{discovery::ServerMetadata, net, wire};

#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<Secret>,
    token_endpoint_auth_method: Option<String>,
    /// When the secret ends, in seconds since 1970; zero is never.
    client_secret_expires_at: Option<u64>,
}

impl Registered {
    fn client(self) -> OAuthClient {
        let secret = self.client_secret;
        let method = self.token_endpoint_auth_method.as_deref();
        let auth = match (secret, method) {
            (Some(_), Some("none")) | (None, _) => ClientAuth::None,
            (Some(secret), Some("client_secret_post")) => ClientAuth::Post(secret),
            (Some(secret), _) => ClientAuth::Basic(secret),
        };
        OAuthClient::new(&self.client_id, auth)
    }
}

impl Manager {
    /// Chooses: a client that was registered beforehand, the metadata document, a registration of our own.
    pub(super) async fn client_at(
        &self,
        relation: &Relation,
        metadata: &ServerMetadata,
    ) -> Result<OAuthClient, OAuthError> {
        if let Some(client) = preregistered(relation, metadata) {
            return Ok(client);
        }
        if let Some(document) = &self.0.config.client_document
            && metadata.client_id_metadata_document_supported
        {
            return Ok(OAuthClient::public(document.as_str()));
        }
        if let Some(client) = self.known_registration(&metadata.issuer).await? {
            return Ok(client);
        }
        match &metadata.registration_endpoint {
            Some(_) if relation.dynamic => self.register(metadata).await,
            _ => Err(OAuthError::NoClient(metadata.issuer.clone())),
        }
    }

    /// Where the registration at an issuer is kept. Another issuer has another name, and so another client.
    fn registration(&self, issuer: &str) -> Result<(SecretScope, SecretName), OAuthError> {
        let owner = Partition::shared(Shared::by_operator());
        let namespace = Namespace::new("oauth-client")
            .map_err(|_| OAuthError::Unusable("the namespace of clients"))?;
        let mut print = Sha256::new();
        for part in [issuer, self.0.config.redirect.as_str()] {
            print.update((part.len() as u64).to_be_bytes());
            print.update(part);
        }
        let name = SecretName::new(&HEXLOWER.encode(&print.finalize()))
            .map_err(|_| OAuthError::Unusable("the name of a client"))?;
        Ok((SecretScope::new(namespace, owner), name))
    }

    async fn known_registration(&self, issuer: &str) -> Result<Option<OAuthClient>, OAuthError> {
        let (scope, name) = self.registration(issuer)?;
        let found = self.0.vault.get(&scope, &name).await?;
        let Some(registered) =
            found.and_then(|text| serde_json::from_str::<Registered>(text.secret()).ok())
        else {
            return Ok(None);
        };
        let end = registered.client_secret_expires_at.unwrap_or_default();
        let now = self.now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        if end != 0 && now.unwrap_or_default().as_secs() >= end {
            return Ok(None);
        }
        Ok(Some(registered.client()))
    }

    /// Forgets a registration that its server no longer knows.
    pub(super) async fn forget_registration(&self, issuer: &str) -> Result<(), OAuthError> {
        let (scope, name) = self.registration(issuer)?;
        self.0.vault.delete(&scope, &name).await?;
        Ok(())
    }

    async fn register(&self, metadata: &ServerMetadata) -> Result<OAuthClient, OAuthError> {
        let missing = || OAuthError::NoEndpoint {
            issuer: metadata.issuer.clone(),
            endpoint: "registration_endpoint",
        };
        let url = metadata
            .registration_endpoint
            .as_ref()
            .ok_or_else(missing)?;
        let redirect = &self.0.config.redirect;
        let native = net::is_secure(redirect) && redirect.scheme() == "http";
        let body = json!({
            "client_name": self.0.config.client_name,
            "redirect_uris": [redirect],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method(metadata),
            "application_type": if native { "native" } else { "web" },
        });
        let mut request = http::Request::new(bytes::Bytes::from(body.to_string()));
        *request.method_mut() = http::Method::POST;
        let json = http::HeaderValue::from_static("application/json");
        request
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, json.clone());
        request.headers_mut().insert(http::header::ACCEPT, json);
        let answer = net::send(&self.0.http, url, request).await?;
        if let Some(code) = wire::refusal(&answer, answer.object().ok().as_ref())? {
            return Err(OAuthError::Refused { code });
        }
        let registered: Registered = serde_json::from_slice(answer.json())
            .map_err(|_| answer.shape("a client registration"))?;
        let (scope, name) = self.registration(&metadata.issuer)?;
        let text = Zeroizing::new(String::from_utf8_lossy(&answer.body).into_owned());
        self.0
            .vault
            .put(&scope, &name, Secret::new(text.as_str()))
            .await?;
        Ok(registered.client())
    }
}

fn preregistered(relation: &Relation, metadata: &ServerMetadata) -> Option<OAuthClient> {
    let by_issuer = |wanted: &str| {
        let mut all = relation.clients.iter();
        all.find(|(issuer, _)| crate::discovery::same_issuer(issuer, wanted))
            .map(|(_, client)| client.clone())
    };
    let mut client = by_issuer(&metadata.issuer).or_else(|| by_issuer(""))?;
    // A server that takes secrets in the form alone says so.
    if let (ClientAuth::Basic(secret), Some(methods)) = (
        &client.auth,
        &metadata.token_endpoint_auth_methods_supported,
    ) {
        let takes = |name: &str| methods.iter().any(|method| method == name);
        if !takes("client_secret_basic") && takes("client_secret_post") {
            client.auth = ClientAuth::Post(secret.clone());
        }
    }
    Some(client)
}

/// Chooses how to prove who we are, from what the server takes (RFC 8414 names the default).
fn method(metadata: &ServerMetadata) -> &'static str {
    let Some(methods) = &metadata.token_endpoint_auth_methods_supported else {
        return "client_secret_basic";
    };
    ["client_secret_basic", "client_secret_post", "none"]
        .into_iter()
        .find(|own| methods.iter().any(|method| method == own))
        .unwrap_or("client_secret_basic")
}
