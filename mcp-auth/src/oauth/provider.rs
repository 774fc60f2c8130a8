//! What is peculiar to known providers, as data.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, header};
use mcp_core::{Credential, ProvenRequest, http_client::HttpClient, secret::Secret};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::directory::Directory;
use super::{OAuthError, endpoint::Endpoint};
use crate::{discovery::ServerMetadata, net, wire};

/// An authorization server whose peculiarities are known.
#[derive(Clone, Debug)]
#[must_use]
pub struct Provider {
    pub(super) endpoints: Endpoints,
    pub(super) scopes: Vec<String>,
    /// More parameters of the authorization request.
    pub(super) extra: Vec<(&'static str, &'static str)>,
    /// Whether `resource` is sent (RFC 8707). Entra refuses it.
    pub(super) sends_resource: bool,
    /// Whether scopes are sent with a refresh too.
    pub(super) scope_at_refresh: bool,
    /// Whether it is known to have PKCE, though its document does not say so.
    has_pkce: bool,
    pub(super) revocation: Revocation,
    pub(super) user: UserSource,
}

#[derive(Clone, Debug)]
pub(super) enum Endpoints {
    /// To be found out from the issuer.
    Discovered(String),
    /// Known.
    Fixed(Box<ServerMetadata>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revocation {
    /// RFC 7009, as the client.
    Standard,
    /// RFC 7009 in form, without saying who the client is (Google).
    TokenAlone,
    /// `DELETE /applications/{client_id}/token` (GitHub).
    GitHub,
    /// There is none (Entra).
    None,
}

#[derive(Clone, Debug)]
pub(super) enum UserSource {
    /// The endpoint of the metadata (OpenID Connect Core, section 5.3).
    Standard,
    /// An endpoint of the provider's own, and the member that names the user there.
    Own(Url, &'static str),
}

/// What a provider says about a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UserInfo {
    /// The user's id at the provider, which never changes.
    pub subject: String,
    /// The name to show.
    pub name: Option<String>,
    /// The e-mail address, which may change owners: do not use it as an id.
    pub email: Option<String>,
}

fn fixed(text: &'static str) -> Url {
    Url::parse(text).expect("the addresses of known providers are well formed")
}

impl Provider {
    fn new(endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            scopes: Vec::new(),
            extra: Vec::new(),
            sends_resource: true,
            scope_at_refresh: false,
            has_pkce: false,
            revocation: Revocation::Standard,
            user: UserSource::Standard,
        }
    }

    /// GitHub: fixed endpoints, errors with status 200, scopes with commas, its own way to revoke.
    pub fn github() -> Self {
        Self::github_at(
            &fixed("https://github.com"),
            &fixed("https://api.github.com"),
        )
    }

    /// GitHub Enterprise Server, or whatever speaks like GitHub, with its site and its API.
    pub fn github_at(site: &Url, api: &Url) -> Self {
        let under = |base: &Url, path: &str| {
            let mut url = base.clone();
            url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
            url
        };
        let mut metadata = ServerMetadata::fixed(
            &net::shown(site),
            Some(under(site, "/login/oauth/authorize")),
            under(site, "/login/oauth/access_token"),
        );
        metadata.revocation_endpoint = Some(under(api, "/applications/"));
        metadata.device_authorization_endpoint = Some(under(site, "/login/device/code"));
        Self {
            sends_resource: false,
            revocation: Revocation::GitHub,
            user: UserSource::Own(under(api, "/user"), "id"),
            ..Self::new(Endpoints::Fixed(Box::new(metadata)))
        }
    }

    /// Google: a refresh token only with `access_type=offline`, and surely only after asking the user again.
    pub fn google() -> Self {
        Self::google_at("https://accounts.google.com")
    }

    /// Whatever speaks like Google, by its issuer.
    pub fn google_at(issuer: &str) -> Self {
        Self {
            scopes: vec!["openid".to_owned(), "email".to_owned()],
            extra: vec![("access_type", "offline"), ("prompt", "consent")],
            sends_resource: false,
            has_pkce: true,
            revocation: Revocation::TokenAlone,
            ..Self::new(Endpoints::Discovered(issuer.to_owned()))
        }
    }

    /// Microsoft Entra v2 for a tenant: no `resource`, `scope` with each refresh, no way to revoke.
    pub fn microsoft(tenant: &str) -> Self {
        Self::microsoft_at(&format!("https://login.microsoftonline.com/{tenant}/v2.0"))
    }

    /// Whatever speaks like Entra v2, by its issuer.
    pub fn microsoft_at(issuer: &str) -> Self {
        Self {
            scopes: vec!["openid".to_owned(), "offline_access".to_owned()],
            sends_resource: false,
            scope_at_refresh: true,
            has_pkce: true,
            revocation: Revocation::None,
            ..Self::new(Endpoints::Discovered(issuer.to_owned()))
        }
    }

    /// GitLab, by its address: `https://gitlab.com` or a server of one's own.
    pub fn gitlab(address: &str) -> Self {
        Self {
            sends_resource: false,
            has_pkce: true,
            ..Self::new(Endpoints::Discovered(address.to_owned()))
        }
    }

    /// Any OpenID Connect provider, by its issuer.
    pub fn oidc(issuer: &str) -> Self {
        Self {
            scopes: vec!["openid".to_owned()],
            ..Self::new(Endpoints::Discovered(issuer.to_owned()))
        }
    }

    /// Any OAuth 2 server whose endpoints are known.
    pub fn oauth2(metadata: ServerMetadata) -> Self {
        Self::new(Endpoints::Fixed(Box::new(metadata)))
    }

    /// Sets whether `resource` is sent (RFC 8707).
    pub fn with_resource_parameter(mut self, sent: bool) -> Self {
        self.sends_resource = sent;
        self
    }

    /// Returns the endpoints, asking the issuer where they are not fixed.
    pub(super) async fn metadata(
        &self,
        directory: &Directory,
    ) -> Result<ServerMetadata, OAuthError> {
        match &self.endpoints {
            Endpoints::Fixed(metadata) => Ok(ServerMetadata::clone(metadata)),
            Endpoints::Discovered(issuer) => {
                let mut metadata = directory.discover(issuer).await?;
                // The big providers have PKCE and some of them do not say so in their documents.
                if self.has_pkce {
                    let methods = &mut metadata.code_challenge_methods_supported;
                    methods.get_or_insert_with(|| vec!["S256".to_owned()]);
                }
                Ok(metadata)
            }
        }
    }
}

/// Tells the server that a token is not needed any more.
pub(super) async fn revoke(
    way: Revocation,
    endpoint: &Endpoint<'_>,
    token: &Secret,
    refreshes: bool,
) -> Result<(), OAuthError> {
    let answer = match way {
        Revocation::None => return Ok(()),
        Revocation::Standard => return endpoint.revoke(token, refreshes).await,
        Revocation::TokenAlone => {
            let fields = [("token", token.secret())];
            net::post_form(endpoint.http, endpoint.url, &fields, None).await?
        }
        Revocation::GitHub => delete_github(endpoint, token).await?,
    };
    match answer.status.as_u16() {
        // A token that is not known any more is as good as revoked.
        200..=299 | 404 | 422 => Ok(()),
        _ => read(&answer).map(drop),
    }
}

/// Reads an answer, taking refusals for refusals whatever their status is.
fn read(answer: &net::Answer) -> Result<Map<String, Value>, OAuthError> {
    let object = answer.object();
    match wire::refusal(answer, object.as_ref().ok())? {
        Some(code) => Err(OAuthError::Refused { code }),
        None => Ok(object?),
    }
}

async fn delete_github(endpoint: &Endpoint<'_>, token: &Secret) -> Result<net::Answer, OAuthError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    const UNUSABLE: OAuthError = OAuthError::Unusable("GitHub's clients need a secret to revoke");
    let (super::ClientAuth::Basic(secret) | super::ClientAuth::Post(secret)) =
        &endpoint.client.auth
    else {
        return Err(UNUSABLE);
    };
    let mut url = endpoint.url.clone();
    url.path_segments_mut()
        .map_err(|()| UNUSABLE)?
        .pop_if_empty()
        .extend([&*endpoint.client.id, "token"]);
    let body = json!({ "access_token": token.secret() }).to_string();
    let mut request = Request::new(body.into());
    *request.method_mut() = Method::DELETE;
    let pair = STANDARD.encode(format!("{}:{}", endpoint.client.id, secret.secret()));
    let mut basic = HeaderValue::try_from(format!("Basic {pair}")).map_err(|_| UNUSABLE)?;
    basic.set_sensitive(true);
    let headers = request.headers_mut();
    headers.insert(header::AUTHORIZATION, basic);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("mcp-auth"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(net::send(endpoint.http, &url, request).await?)
}

/// Asks who the user is that an access token is for.
const UNSENT: OAuthError = OAuthError::Unusable("the access token cannot be sent");

pub(super) async fn user_info(
    http: &Arc<dyn HttpClient>,
    source: &UserSource,
    metadata: &ServerMetadata,
    credential: &Credential,
) -> Result<UserInfo, OAuthError> {
    let (url, id) = match source {
        UserSource::Own(url, id) => (url, *id),
        UserSource::Standard => {
            let url = metadata.userinfo_endpoint.as_ref();
            let missing = || OAuthError::NoEndpoint {
                issuer: metadata.issuer.clone(),
                endpoint: "userinfo_endpoint",
            };
            (url.ok_or_else(missing)?, "sub")
        }
    };
    let uri: http::Uri = url.as_str().parse().map_err(|_| UNSENT)?;
    let mut repeated = false;
    let answer = loop {
        let mut request = Request::new(bytes::Bytes::new());
        let headers = request.headers_mut();
        headers.extend(credential.as_headers().clone());
        if let Some(proof) = credential.proof() {
            let proven = ProvenRequest::new(&Method::GET, &uri, b"");
            headers.extend(proof.prove(&proven).map_err(|_| UNSENT)?);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("mcp-auth"));
        let answer = net::send(http, url, request).await?;
        let again = credential
            .proof()
            .is_some_and(|proof| proof.answered(&uri, answer.status, &answer.headers));
        match again && !repeated {
            true => repeated = true,
            false => break answer,
        }
    };
    let user = read(&answer)?;
    read_user(&user, id).ok_or_else(|| answer.shape("facts about a user").into())
}

fn read_user(user: &Map<String, Value>, id: &str) -> Option<UserInfo> {
    let text = |name: &str| user.get(name).and_then(Value::as_str).map(str::to_owned);
    let subject = match user.get(id)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(UserInfo {
        subject,
        name: text("name").or_else(|| text("login")),
        email: text("email"),
    })
}
