//! Requests to authorization servers: written and read by the crate `oauth2`, sent by the guarded client.
//!
//! In between, what real servers do otherwise is set right: errors with status 200 and codes of their own, numbers as
//! texts, scopes with commas, no token type.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, StatusCode, header};
use mcp_core::{http_client::HttpClient, secret::Secret};
use oauth2::{
    AsyncHttpClient, ErrorResponse, HttpRequest, HttpResponse, RequestTokenError,
    StandardRevocableToken, StandardTokenIntrospectionResponse, StandardTokenResponse,
    basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenType},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::{Url, form_urlencoded};

use crate::net::{self, FetchError};
#[cfg(feature = "oauth")]
use crate::oauth::dpop::{DPOP, DpopKey};
#[cfg(feature = "oauth")]
use http::Uri;
#[cfg(feature = "oauth")]
use std::time::SystemTime;

/// A client of the crate `oauth2`, whose token responses may have an ID token.
pub(crate) type Client<
    Auth = oauth2::EndpointNotSet,
    Device = oauth2::EndpointNotSet,
    Introspection = oauth2::EndpointNotSet,
    Revocation = oauth2::EndpointNotSet,
    Token = oauth2::EndpointNotSet,
> = oauth2::Client<
    BasicErrorResponse,
    Tokens,
    Introspected,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    Auth,
    Device,
    Introspection,
    Revocation,
    Token,
>;

/// What a server says about a token (RFC 7662, section 2.2).
pub(crate) type Introspected = StandardTokenIntrospectionResponse<Confirmation, BasicTokenType>;

/// What the token is bound to, beyond RFC 7662.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Confirmation {
    #[serde(default)]
    pub(crate) cnf: Option<Value>,
}

impl oauth2::ExtraTokenFields for Confirmation {}

/// A token response.
pub(crate) type Tokens = StandardTokenResponse<More, BasicTokenType>;

/// What token responses have beyond RFC 6749.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct More {
    /// OpenID Connect Core, section 3.1.3.3.
    #[cfg(feature = "oauth")]
    #[serde(default, skip_serializing)]
    pub(crate) id_token: Option<Secret>,
    /// RFC 8693, section 2.2.1.
    #[cfg(feature = "oauth")]
    #[serde(default)]
    pub(crate) issued_token_type: Option<String>,
}

impl oauth2::ExtraTokenFields for More {}

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the authorization server refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[cfg(feature = "oauth")]
    #[error("the key that tokens are bound to cannot sign")]
    Key,
}

/// Sends what the crate `oauth2` writes, to one endpoint and no other.
pub(crate) struct Wire<'a> {
    http: &'a Arc<dyn HttpClient>,
    url: &'a Url,
    /// Put in the place of the grant that was written, for grants that the crate does not know.
    grant: Option<&'static str>,
    /// Proves who the client is, in the place of its id (RFC 7523, section 2.2).
    assertion: Option<Secret>,
    /// Leaves out who the client is.
    #[cfg(feature = "oauth")]
    nameless: bool,
    /// The key that tokens are to be bound to (RFC 9449, section 5), and the time.
    #[cfg(feature = "oauth")]
    key: Option<(&'a DpopKey, SystemTime)>,
}

impl<'a> Wire<'a> {
    pub(crate) const fn new(http: &'a Arc<dyn HttpClient>, url: &'a Url) -> Self {
        Self {
            http,
            url,
            grant: None,
            assertion: None,
            #[cfg(feature = "oauth")]
            nameless: false,
            #[cfg(feature = "oauth")]
            key: None,
        }
    }

    #[cfg(feature = "oauth")]
    pub(crate) const fn with_grant(mut self, grant: Option<&'static str>) -> Self {
        self.grant = grant;
        self
    }

    #[cfg(feature = "oauth")]
    pub(crate) fn with_assertion(mut self, assertion: Option<Secret>) -> Self {
        self.assertion = assertion;
        self
    }

    #[cfg(feature = "oauth")]
    pub(crate) const fn with_key(mut self, key: Option<&'a DpopKey>, now: SystemTime) -> Self {
        self.key = match key {
            Some(key) => Some((key, now)),
            None => None,
        };
        self
    }

    /// Leaves out the client's id, for grants in which the assertion says everything.
    #[cfg(feature = "oauth")]
    pub(crate) const fn without_client(mut self, nameless: bool) -> Self {
        self.nameless = nameless;
        self
    }

    /// Returns whether the client's id is left out of forms.
    fn is_nameless(&self) -> bool {
        #[cfg(feature = "oauth")]
        let nameless = self.nameless;
        #[cfg(not(feature = "oauth"))]
        let nameless = false;
        nameless || self.assertion.is_some()
    }

    /// Writes into a form what the crate cannot.
    fn fill(&self, form: Vec<u8>) -> Bytes {
        if self.grant.is_none() && !self.is_nameless() {
            return form.into();
        }
        let mut filled = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(&form) {
            match (&*name, self.grant) {
                ("grant_type", Some(grant)) => drop(filled.append_pair("grant_type", grant)),
                ("client_id", _) if self.is_nameless() => {}
                _ => drop(filled.append_pair(&name, &value)),
            }
        }
        if let Some(assertion) = &self.assertion {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            filled.append_pair("client_assertion_type", kind);
            filled.append_pair("client_assertion", assertion.secret());
        }
        filled.finish().into()
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, WireError> {
        let (mut parts, form) = request.into_parts();
        if let Some(value) = parts.headers.get_mut(header::AUTHORIZATION) {
            value.set_sensitive(true);
        }
        let form = self.fill(form);
        #[cfg(feature = "oauth")]
        if let Some(key) = self.key {
            return self.exchange_bound(key, &parts, form).await;
        }
        let request = Request::from_parts(parts, form);
        standard(&net::send(self.http, self.url, request).await?)
    }

    /// Sends a form with a proof for the key, once more where the server wants its nonce in it (RFC 9449, section 8).
    #[cfg(feature = "oauth")]
    async fn exchange_bound(
        &self,
        (key, now): (&DpopKey, SystemTime),
        parts: &http::request::Parts,
        form: Bytes,
    ) -> Result<HttpResponse, WireError> {
        let bad = || FetchError::Insecure(net::shown(self.url));
        let uri: Uri = self.url.as_str().parse().map_err(|_| bad())?;
        let mut repeated = false;
        loop {
            let mut parts = parts.clone();
            let proof = key.for_token(&uri, now).ok_or(WireError::Key)?;
            parts.headers.insert(DPOP, proof);
            let request = Request::from_parts(parts, form.clone());
            let answer = net::send(self.http, self.url, request).await?;
            let new = key.note(&uri, &answer.headers);
            let code = answer.object().ok();
            let code = code.as_ref().and_then(|own| own.get("error")?.as_str());
            if code == Some("use_dpop_nonce") && new && !repeated {
                repeated = true;
                continue;
            }
            return standard(&answer);
        }
    }

    /// Says what went wrong, without a word of the answer but its code.
    pub(crate) fn failed<T: ErrorResponse>(
        &self,
        error: RequestTokenError<WireError, T>,
        code: impl FnOnce(&T) -> String,
        expected: &'static str,
    ) -> WireError {
        match error {
            RequestTokenError::Request(error) => error,
            RequestTokenError::ServerResponse(refusal) => WireError::Refused(code(&refusal)),
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => FetchError::Shape {
                host: net::shown(self.url),
                expected,
            }
            .into(),
        }
    }
}

impl<'c> AsyncHttpClient<'c> for Wire<'_> {
    type Error = WireError;
    type Future = BoxFuture<'c, Result<HttpResponse, WireError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request))
    }
}

/// Makes an answer one of the standards: 200, or 400 with a code.
fn standard(answer: &net::Answer) -> Result<HttpResponse, WireError> {
    let object = answer.object().ok();
    if let Some(code) = refusal(answer, object.as_ref())? {
        return Ok(respond(
            StatusCode::BAD_REQUEST,
            json!({ "error": code }).to_string().into(),
        ));
    }
    let body = match object {
        Some(object) => Value::Object(tidy(object)).to_string().into(),
        None => answer.json().to_vec(),
    };
    Ok(respond(StatusCode::OK, body))
}

fn respond(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Returns the code of a refusal, if the answer is one, whatever its status is: some providers refuse with 200.
pub(crate) fn refusal(
    answer: &net::Answer,
    object: Option<&Map<String, Value>>,
) -> Result<Option<String>, FetchError> {
    let code = object
        .filter(|object| !object.contains_key("access_token"))
        .and_then(|object| object.get("error")?.as_str());
    match (code, answer.status) {
        (Some(code), _) => Ok(Some(standard_code(code))),
        (None, status) if status.is_success() => Ok(None),
        // A refusal without a code is one all the same, unless the server itself is in trouble.
        (None, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Ok(Some("invalid_request".to_owned()))
        }
        (None, status) => Err(FetchError::Status {
            host: answer.host.clone(),
            status,
        }),
    }
}

/// Maps codes of providers that have their own to those of RFC 6749.
fn standard_code(code: &str) -> String {
    let standard = match code {
        "bad_refresh_token" | "invalid_refresh_token" | "bad_verification_code" => "invalid_grant",
        "incorrect_client_credentials" => "invalid_client",
        "redirect_uri_mismatch" => "invalid_request",
        other => other,
    };
    // The code reaches messages: nothing but what codes are made of.
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    standard.chars().filter(plain).take(64).collect()
}

/// Writes a token response as RFC 6749, section 5.1 has it. Other answers have none of these members but `scope`.
fn tidy(mut object: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Array(all)) = object.get("scope") {
        let all = all.iter().filter_map(Value::as_str);
        let text = all.collect::<Vec<_>>().join(" ");
        object.insert("scope".to_owned(), text.into());
    }
    if let Some(Value::String(scopes)) = object.get("scope") {
        let scopes: Vec<_> = scopes
            .split([' ', ','])
            .filter(|own| !own.is_empty())
            .collect();
        match scopes.join(" ") {
            none if none.is_empty() => drop(object.remove("scope")),
            scopes => drop(object.insert("scope".to_owned(), scopes.into())),
        }
    }
    if !object.contains_key("access_token") {
        return object;
    }
    for member in ["refresh_token", "id_token"] {
        if object.get(member) == Some(&Value::String(String::new())) {
            object.remove(member);
        }
    }
    let kind = object.get("token_type").and_then(Value::as_str);
    if kind.is_none_or(|kind| kind.is_empty() || kind.eq_ignore_ascii_case("n_a")) {
        object.insert("token_type".to_owned(), "bearer".into());
    }
    let life = match object.remove("expires_in") {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    // A life that no clock will see the end of is as good as none.
    if let Some(life) = life.filter(|life| (0.0..1e10).contains(life)) {
        let life = std::time::Duration::from_secs_f64(life);
        object.insert("expires_in".to_owned(), life.as_secs().into());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> net::Answer {
        net::Answer {
            host: "https://as.example".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn refusals_are_refusals_whatever_their_status_is() {
        for (status, body, code) in [
            (200, r#"{"error":"bad_refresh_token"}"#, "invalid_grant"),
            (400, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
            (400, r#"{"error":"invalid_refresh_token"}"#, "invalid_grant"),
            (
                401,
                r#"{"error":"incorrect_client_credentials"}"#,
                "invalid_client",
            ),
            (400, "<html>", "invalid_request"),
            (403, "", "invalid_request"),
            (400, r#"{"error":"<b>x\u0000"}"#, "bx"),
        ] {
            let response = standard(&answer(status, body)).unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
            let read: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(read["error"], code, "{body}");
        }
        assert!(standard(&answer(503, "{}")).is_err());
        assert!(standard(&answer(404, "")).is_err());
    }

    #[test]
    fn token_responses_are_read_as_servers_write_them() {
        let read = |body: &str| {
            let response = standard(&answer(200, body)).unwrap();
            serde_json::from_slice::<Value>(response.body()).unwrap()
        };
        let tidy = read(
            r#"{"access_token":"a","expires_in":"3600","scope":"repo,gist","refresh_token":""}"#,
        );
        let expected = json!({
            "access_token": "a", "expires_in": 3600, "scope": "repo gist", "token_type": "bearer",
        });
        assert_eq!(tidy, expected);
        let tidy = read(r#"{"access_token":"a","expires_in":-5,"scope":"","token_type":"DPoP"}"#);
        assert_eq!(tidy, json!({ "access_token": "a", "token_type": "DPoP" }));
        // What is no token response is left as it is.
        assert_eq!(read(r#"{"expires_in":"5"}"#), json!({ "expires_in": "5" }));
    }
}
