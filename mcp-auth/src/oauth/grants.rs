//! Tokens that need no user in front of a browser.

use mcp_core::{Principal, secret::Secret};
use oauth2::{StandardDeviceAuthorizationResponse, TokenResponse as _};
use url::Url;

use super::{
    Manager, OAuthClient, OAuthError, Relation, TokenSet,
    binding::{Chosen, key_for},
    endpoint::Endpoint,
    flow::resource_of,
    relation::Target,
    resource::Protected,
    token::Held,
};
use crate::{challenge::Challenge, discovery::ServerMetadata, net};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What an exchange asks for (RFC 8693, section 2.1).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Exchange {
    /// The resource that the new token is meant for.
    pub resource: Option<String>,
    /// The name of its audience.
    pub audience: Option<String>,
    /// The scopes asked for.
    pub scopes: Vec<String>,
}

impl Exchange {
    /// Asks for a token for a resource.
    #[must_use]
    pub fn for_resource(resource: &str) -> Self {
        Self {
            resource: Some(resource.to_owned()),
            ..Self::default()
        }
    }

    /// Names the audience too.
    #[must_use]
    pub fn with_audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.to_owned());
        self
    }

    /// Asks for scopes.
    #[must_use]
    pub fn with_scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.scopes = scopes.into_iter().map(str::to_owned).collect();
        self
    }
}

/// What a user of a device is told (RFC 8628, section 3.2).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceCode {
    /// Where the user goes.
    pub verification: Url,
    /// What the user types there.
    pub user_code: String,
    /// The same with the code in it, where the server offers that.
    pub complete: Option<Url>,
    answer: StandardDeviceAuthorizationResponse,
}

impl Manager {
    fn endpoint<'a>(
        &'a self,
        metadata: &'a ServerMetadata,
        client: &'a OAuthClient,
    ) -> Result<Endpoint<'a>, OAuthError> {
        let url = metadata.token_endpoint.as_ref();
        let missing = || OAuthError::NoEndpoint {
            issuer: metadata.issuer.clone(),
            endpoint: "token_endpoint",
        };
        Ok(Endpoint {
            http: &self.0.http,
            url: url.ok_or_else(missing)?,
            issuer: &metadata.issuer,
            client,
            now: self.now(),
            key: None,
        })
    }

    /// Gets a token as the client itself (RFC 6749, section 4.4; MCP extension OAuth client credentials).
    ///
    /// # Errors
    ///
    /// The server is unavailable, or refuses.
    pub async fn client_credentials(
        &self,
        relation: &str,
        scopes: &[String],
    ) -> Result<TokenSet, OAuthError> {
        self.client_credentials_for(relation, scopes, None).await
    }

    pub(super) async fn client_credentials_for(
        &self,
        relation: &str,
        scopes: &[String],
        asked: Option<&Challenge>,
    ) -> Result<TokenSet, OAuthError> {
        let relation = self.relation(relation)?;
        let (metadata, protected) = self.server_of(relation, asked).await?;
        let client = self.client_at(relation, &metadata).await?;
        let resource = resource_of(relation, protected.as_ref());
        let wanted = wanted(relation, protected.as_ref(), scopes);
        let mut more = Vec::new();
        if let Some(resource) = &resource {
            more.push(("resource", resource.as_str()));
        }
        let key = key_for(relation, &metadata, protected.as_ref(), asked)?;
        let mut endpoint = self.endpoint(&metadata, &client)?;
        endpoint.key = key.as_ref().map(Chosen::binding);
        endpoint.grant(None, &wanted, &more).await
    }

    /// Gets a token by the JSON Web Token that the platform of this workload has issued to it (RFC 7523, section 2.1; MCP
    /// extension workload identity federation, a draft): no client has to be registered, and none is named.
    ///
    /// # Errors
    ///
    /// The server is unavailable, or refuses; then nothing else is tried.
    pub async fn workload_identity(
        &self,
        relation: &str,
        assertion: &Secret,
        scopes: &[String],
    ) -> Result<TokenSet, OAuthError> {
        self.workload_identity_for(relation, assertion, scopes, None)
            .await
    }

    pub(super) async fn workload_identity_for(
        &self,
        relation: &str,
        assertion: &Secret,
        scopes: &[String],
        asked: Option<&Challenge>,
    ) -> Result<TokenSet, OAuthError> {
        let relation = self.relation(relation)?;
        let (metadata, protected) = self.server_of(relation, asked).await?;
        let wanted = wanted(relation, protected.as_ref(), scopes);
        let resource = resource_of(relation, protected.as_ref());
        let mut more = vec![("assertion", assertion.secret())];
        more.extend(resource.iter().map(|own| ("resource", own.as_str())));
        let key = key_for(relation, &metadata, protected.as_ref(), asked)?;
        let client = OAuthClient::public("");
        let mut endpoint = self.endpoint(&metadata, &client)?;
        endpoint.key = key.as_ref().map(Chosen::binding);
        endpoint.grant_nameless(JWT_BEARER, &wanted, &more).await
    }

    /// Exchanges a token for one that is meant for someone else (RFC 8693). `issuer` decides.
    ///
    /// # Errors
    ///
    /// The server is unavailable, or refuses.
    pub async fn exchange_token(
        &self,
        issuer: &str,
        client: &OAuthClient,
        subject: &Secret,
        wanted: &Exchange,
    ) -> Result<TokenSet, OAuthError> {
        let metadata = self.0.directory.discover(issuer).await?;
        let mut more = vec![
            ("subject_token", subject.secret()),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
        ];
        if let Some(resource) = &wanted.resource {
            more.push(("resource", resource));
        }
        if let Some(audience) = &wanted.audience {
            more.push(("audience", audience));
        }
        let endpoint = self.endpoint(&metadata, client)?;
        endpoint.grant(Some(EXCHANGE), &wanted.scopes, &more).await
    }

    /// Exchanges a token in the manner of Microsoft Entra, which does not know RFC 8693 ("on behalf of").
    ///
    /// # Errors
    ///
    /// The server is unavailable, or refuses.
    pub async fn on_behalf_of(
        &self,
        issuer: &str,
        client: &OAuthClient,
        subject: &Secret,
        scopes: &[String],
    ) -> Result<TokenSet, OAuthError> {
        let metadata = self.0.directory.discover(issuer).await?;
        let more = [
            ("assertion", subject.secret()),
            ("requested_token_use", "on_behalf_of"),
        ];
        let endpoint = self.endpoint(&metadata, client)?;
        endpoint.grant(Some(JWT_BEARER), scopes, &more).await
    }

    /// Gets a token for an MCP server through the enterprise's identity provider (MCP extension enterprise-managed
    /// authorization): an ID token becomes an identity assertion for the server's issuer, and that a token.
    ///
    /// # Errors
    ///
    /// One of the two servers is unavailable, or refuses.
    pub async fn enterprise_managed(
        &self,
        relation: &str,
        idp: &EnterpriseIdp,
        id_token: &Secret,
    ) -> Result<TokenSet, OAuthError> {
        self.enterprise_managed_for(relation, idp, id_token, None)
            .await
    }

    pub(super) async fn enterprise_managed_for(
        &self,
        relation: &str,
        idp: &EnterpriseIdp,
        id_token: &Secret,
        asked: Option<&Challenge>,
    ) -> Result<TokenSet, OAuthError> {
        let relation = self.relation(relation)?;
        let (metadata, protected) = self.server_of(relation, asked).await?;
        let client = self.client_at(relation, &metadata).await?;
        let resource = resource_of(relation, protected.as_ref()).unwrap_or_default();
        let more = [
            ("requested_token_type", ID_JAG),
            ("audience", metadata.issuer.as_str()),
            ("resource", resource.as_str()),
            ("subject_token", id_token.secret()),
            ("subject_token_type", ID_TOKEN),
        ];
        let scopes = &relation.scopes;
        let endpoint = Endpoint {
            http: &self.0.http,
            url: &idp.token_endpoint,
            issuer: &idp.issuer,
            client: &idp.client,
            now: self.now(),
            key: None,
        };
        let answer = endpoint.grant_raw(Some(EXCHANGE), scopes, &more).await?;
        if answer.extra_fields().issued_token_type.as_deref() != Some(ID_JAG) {
            return Err(OAuthError::Unusable(
                "the identity provider issued something else than an identity assertion",
            ));
        }
        let more = [("assertion", answer.access_token().secret().as_str())];
        let key = key_for(relation, &metadata, protected.as_ref(), asked)?;
        let mut endpoint = self.endpoint(&metadata, &client)?;
        endpoint.key = key.as_ref().map(Chosen::binding);
        endpoint.grant(Some(JWT_BEARER), scopes, &more).await
    }

    /// Begins an authorisation on another device (RFC 8628).
    ///
    /// # Errors
    ///
    /// The server is unavailable, or has no such endpoint.
    pub async fn device_begin(
        &self,
        relation: &str,
        scopes: &[String],
    ) -> Result<DeviceCode, OAuthError> {
        let relation = self.relation(relation)?;
        let (metadata, protected) = self.server_of(relation, None).await?;
        let client = self.client_at(relation, &metadata).await?;
        let missing = || OAuthError::NoEndpoint {
            issuer: metadata.issuer.clone(),
            endpoint: "device_authorization_endpoint",
        };
        let mut endpoint = self.endpoint(&metadata, &client)?;
        endpoint.url = metadata
            .device_authorization_endpoint
            .as_ref()
            .ok_or_else(missing)?;
        let resource = resource_of(relation, protected.as_ref());
        let mut more = Vec::new();
        if let Some(resource) = &resource {
            more.push(("resource", resource.as_str()));
        }
        let answer = endpoint.device_code(scopes, &more).await?;
        const INSECURE: OAuthError =
            OAuthError::Unusable("the page that the user is to open is not at an https address");
        let verification = answer.verification_uri().url().clone();
        let complete = answer.verification_uri_complete();
        let complete = complete.and_then(|url| Url::parse(url.secret()).ok());
        Ok(DeviceCode {
            verification: Some(verification).filter(net::is_secure).ok_or(INSECURE)?,
            user_code: answer.user_code().secret().clone(),
            complete: complete.filter(net::is_secure),
            answer,
        })
    }

    /// Waits until the user has agreed on the other device, and stores the tokens.
    ///
    /// # Errors
    ///
    /// The user refuses or takes too long, or the server is unavailable.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops asking; the code can be waited for again.
    pub async fn device_finish(
        &self,
        principal: &Principal,
        relation: &str,
        device: &DeviceCode,
    ) -> Result<(), OAuthError> {
        let own = self.relation(relation)?;
        let (metadata, protected) = self.server_of(own, None).await?;
        let client = self.client_at(own, &metadata).await?;
        let challenge = self.challenge(principal, relation);
        let key = key_for(own, &metadata, protected.as_ref(), challenge.as_ref())?;
        let mut endpoint = self.endpoint(&metadata, &client)?;
        endpoint.key = key.as_ref().map(Chosen::binding);
        let tokens = match endpoint.device_token(&device.answer).await {
            Err(OAuthError::Refused { code }) => return Err(OAuthError::NotGiven { code }),
            tokens => tokens?,
        };
        let held = Held {
            requested: tokens.scopes.clone().unwrap_or_default(),
            tokens,
            issuer: metadata.issuer.clone(),
            resource: resource_of(own, protected.as_ref()),
            obtained: self.now(),
            refreshed: None,
        };
        self.store_new(principal, relation, held).await
    }

    /// Returns whether a relation is that of an MCP server, which is asked without a token first.
    pub(super) fn asks_first(&self, relation: &str) -> bool {
        let own = self.relation(relation);
        own.is_ok_and(|own| matches!(own.target, Target::Mcp(_)))
    }
}

/// The scopes to ask for: those of the caller, else the operator's, else all that the resource lists.
fn wanted(relation: &Relation, protected: Option<&Protected>, scopes: &[String]) -> Vec<String> {
    let listed = || protected.and_then(|own| own.scopes.clone());
    match (scopes.is_empty(), relation.scopes.is_empty()) {
        (false, _) => scopes.to_vec(),
        (true, false) => relation.scopes.clone(),
        (true, true) => listed().unwrap_or_default(),
    }
}

/// The identity provider of an enterprise, at which the gateway is a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnterpriseIdp {
    /// Who it is.
    pub issuer: String,
    /// Where it issues assertions.
    pub token_endpoint: Url,
    /// Which client the gateway is there.
    pub client: OAuthClient,
}

impl EnterpriseIdp {
    /// Describes an identity provider.
    #[must_use]
    pub fn new(issuer: &str, token_endpoint: Url, client: OAuthClient) -> Self {
        Self {
            issuer: issuer.to_owned(),
            token_endpoint,
            client,
        }
    }
}
