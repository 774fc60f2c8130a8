//! One endpoint of an authorization server, asked as a client of it.

use std::{sync::Arc, time::SystemTime};

use mcp_core::{http_client::HttpClient, secret::Secret};
use oauth2::{
    AccessToken, AuthType, AuthorizationCode, ClientId, ClientSecret, DeviceAuthorizationUrl,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RevocationUrl, Scope,
    StandardDeviceAuthorizationResponse, StandardErrorResponse, StandardRevocableToken, TokenUrl,
};
use url::Url;

use super::{ClientAuth, DpopKey, OAuthClient, OAuthError, TokenSet, token};
use crate::wire::{Client, Tokens, Wire, WireError};

/// What is asked for beyond what a grant is made of.
type More<'a> = &'a [(&'static str, &'a str)];

/// An endpoint that answers forms from authenticated clients.
pub(super) struct Endpoint<'a> {
    pub(super) http: &'a Arc<dyn HttpClient>,
    pub(super) url: &'a Url,
    pub(super) issuer: &'a str,
    pub(super) client: &'a OAuthClient,
    pub(super) now: SystemTime,
    /// The key that tokens are to be bound to.
    pub(super) key: Option<Binding<'a>>,
}

/// A key that tokens are to be bound to (RFC 9449).
#[derive(Clone, Copy)]
pub(super) struct Binding<'a> {
    pub(super) key: &'a DpopKey,
    /// Whether a token that is not bound is of no use.
    pub(super) required: bool,
}

/// Describes a client to the crate `oauth2`.
pub(super) fn client(own: &OAuthClient) -> Client {
    let client = Client::new(ClientId::new(own.id.clone()));
    let secret = |secret: &Secret| ClientSecret::new(secret.secret().to_owned());
    match &own.auth {
        ClientAuth::None | ClientAuth::Assertion(_) => client.set_auth_type(AuthType::RequestBody),
        ClientAuth::Basic(own) => client.set_client_secret(secret(own)),
        ClientAuth::Post(own) => client
            .set_client_secret(secret(own))
            .set_auth_type(AuthType::RequestBody),
    }
}

impl Endpoint<'_> {
    fn wire(&self) -> Result<Wire<'_>, OAuthError> {
        let assertion = match &self.client.auth {
            // RFC 7523 wants the server, and its issuer is the one name of it that cannot be another's.
            ClientAuth::Assertion(key) => Some(key.sign(&self.client.id, self.issuer, self.now)?),
            _ => None,
        };
        Ok(Wire::new(self.http, self.url)
            .with_assertion(assertion)
            .with_key(self.key.map(|own| own.key), self.now))
    }

    fn tokens(
        &self,
    ) -> Client<
        oauth2::EndpointNotSet,
        oauth2::EndpointNotSet,
        oauth2::EndpointNotSet,
        oauth2::EndpointNotSet,
        oauth2::EndpointSet,
    > {
        client(self.client).set_token_uri(TokenUrl::from_url(self.url.clone()))
    }

    fn failed<T>(
        wire: &Wire<'_>,
        error: oauth2::RequestTokenError<WireError, StandardErrorResponse<T>>,
    ) -> OAuthError
    where
        T: oauth2::ErrorResponseType + AsRef<str> + std::fmt::Display + 'static,
    {
        let code = |refusal: &StandardErrorResponse<T>| refusal.error().as_ref().to_owned();
        wire.failed(error, code, "an answer of its protocol").into()
    }

    fn read(&self, tokens: &Tokens) -> Result<TokenSet, OAuthError> {
        let shape = |expected| {
            let host = crate::net::shown(self.url);
            crate::net::FetchError::Shape { host, expected }
        };
        let read = TokenSet::of(tokens, self.now, self.key.map(|own| own.key));
        let read = read.ok_or_else(|| shape("a bearer token"))?;
        match self.key {
            Some(own) if own.required && read.key.is_none() => {
                Err(shape("a token that is bound to the key").into())
            }
            _ => Ok(read),
        }
    }

    /// Redeems a code (RFC 6749, section 4.1.3; RFC 7636, section 4.5).
    pub(super) async fn code(
        &self,
        code: &str,
        verifier: &str,
        redirect: &Url,
        more: More<'_>,
    ) -> Result<TokenSet, OAuthError> {
        let wire = self.wire()?;
        let client = self
            .tokens()
            .set_redirect_uri(RedirectUrl::from_url(redirect.clone()));
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()));
        for (name, value) in more {
            request = request.add_extra_param(*name, *value);
        }
        let tokens = request.request_async(&wire).await;
        self.read(&tokens.map_err(|error| Self::failed(&wire, error))?)
    }

    /// Exchanges a refresh token (RFC 6749, section 6).
    pub(super) async fn refresh(
        &self,
        refresh: &Secret,
        more: More<'_>,
    ) -> Result<TokenSet, OAuthError> {
        let wire = self.wire()?;
        let (client, refresh) = (
            self.tokens(),
            RefreshToken::new(refresh.secret().to_owned()),
        );
        let mut request = client.exchange_refresh_token(&refresh);
        for (name, value) in more {
            request = request.add_extra_param(*name, *value);
        }
        let tokens = request.request_async(&wire).await;
        self.read(&tokens.map_err(|error| Self::failed(&wire, error))?)
    }

    /// Asks for tokens as the client itself (RFC 6749, section 4.4), or by a grant of another name.
    pub(super) async fn grant(
        &self,
        grant: Option<&'static str>,
        scopes: &[String],
        more: More<'_>,
    ) -> Result<TokenSet, OAuthError> {
        self.read(&self.grant_raw(grant, scopes, more).await?)
    }

    /// As [`Endpoint::grant`], with all that the answer says, and of whatever type the token is.
    pub(super) async fn grant_raw(
        &self,
        grant: Option<&'static str>,
        scopes: &[String],
        more: More<'_>,
    ) -> Result<Tokens, OAuthError> {
        self.grant_on(self.wire()?.with_grant(grant), scopes, more)
            .await
    }

    /// Asks for tokens by an assertion that says who asks: without the client's id (RFC 7523, section 2.1).
    pub(super) async fn grant_nameless(
        &self,
        grant: &'static str,
        scopes: &[String],
        more: More<'_>,
    ) -> Result<TokenSet, OAuthError> {
        let wire = self.wire()?.with_grant(Some(grant)).without_client(true);
        self.read(&self.grant_on(wire, scopes, more).await?)
    }

    async fn grant_on(
        &self,
        wire: Wire<'_>,
        scopes: &[String],
        more: More<'_>,
    ) -> Result<Tokens, OAuthError> {
        let client = self.tokens();
        let mut request = client
            .exchange_client_credentials()
            .add_scopes(scopes.iter().cloned().map(Scope::new));
        for (name, value) in more {
            request = request.add_extra_param(*name, *value);
        }
        let tokens = request.request_async(&wire).await;
        tokens.map_err(|error| Self::failed(&wire, error))
    }

    /// Tells the server that a token is not needed any more (RFC 7009).
    pub(super) async fn revoke(&self, token: &Secret, refreshes: bool) -> Result<(), OAuthError> {
        const UNUSABLE: OAuthError = OAuthError::Unusable("the token cannot be revoked there");
        let wire = self.wire()?;
        // The crate takes `https` alone; what is sent goes to the endpoint itself, which may be on this machine.
        let mut url = self.url.clone();
        url.set_scheme("https").map_err(|()| UNUSABLE)?;
        let client = client(self.client).set_revocation_url(RevocationUrl::from_url(url));
        let token = token.secret().to_owned();
        let token = match refreshes {
            true => StandardRevocableToken::RefreshToken(RefreshToken::new(token)),
            false => StandardRevocableToken::AccessToken(AccessToken::new(token)),
        };
        let request = client.revoke_token(token).map_err(|_| UNUSABLE)?;
        let done = request.request_async(&wire).await;
        done.map_err(|error| Self::failed(&wire, error))
    }

    /// Begins an authorisation on another device (RFC 8628, section 3.1).
    pub(super) async fn device_code(
        &self,
        scopes: &[String],
        more: More<'_>,
    ) -> Result<StandardDeviceAuthorizationResponse, OAuthError> {
        let wire = self.wire()?;
        let url = DeviceAuthorizationUrl::from_url(self.url.clone());
        let client = client(self.client).set_device_authorization_url(url);
        let mut request = client
            .exchange_device_code()
            .add_scopes(scopes.iter().cloned().map(Scope::new));
        for (name, value) in more {
            request = request.add_extra_param(*name, *value);
        }
        let device = request.request_async(&wire).await;
        device.map_err(|error| Self::failed(&wire, error))
    }

    /// Asks until the user has agreed on the other device (RFC 8628, section 3.4).
    pub(super) async fn device_token(
        &self,
        device: &StandardDeviceAuthorizationResponse,
    ) -> Result<TokenSet, OAuthError> {
        let wire = self.wire()?;
        let client = self.tokens();
        let tokens = client.exchange_device_access_token(device).request_async(
            &wire,
            |wait| tokio::time::sleep(wait.min(token::LONGEST_POLL)),
            Some(device.expires_in().min(token::LONGEST_DEVICE)),
        );
        self.read(&tokens.await.map_err(|error| Self::failed(&wire, error))?)
    }
}
