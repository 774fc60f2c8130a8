//! One HTTP exchange with a server.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use mcp_core::{
    ConfigError, CredentialNeed, CredentialOutcome, CredentialProvider, CredentialRefusal,
    CredentialRetry, Error, ErrorKind, Request, UpstreamId, http_client::GuardedClient,
    jsonrpc::Id,
};
use url::{Position, Url};

use super::{error, reply::Reply};

pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// How much of an error answer is read.
const ERROR_BODY: usize = 64 << 10;

/// Room for the protocol's own headers of a call, and for those of the HTTP client.
const OWN: usize = 6;

pub(super) struct Wire {
    pub(super) id: UpstreamId,
    pub(super) limit: usize,
    url: Url,
    uri: Uri,
    client: GuardedClient,
    credentials: Option<Arc<dyn CredentialProvider>>,
    headers: HeaderMap,
    next: AtomicU64,
}

/// An answer that is not a success.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) error: Error,
}

impl Wire {
    pub(super) fn new(
        id: UpstreamId,
        url: &Url,
        client: GuardedClient,
        credentials: Option<Arc<dyn CredentialProvider>>,
        mut headers: HeaderMap,
        limit: usize,
    ) -> Result<Self, ConfigError> {
        let uri = url.as_str().parse().map_err(|_| {
            ConfigError::new(
                "url",
                url.origin().ascii_serialization(),
                "give an absolute http or https address",
            )
        })?;
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        if url.scheme() == "http" {
            // The same for every request; the client would compose it each time. HTTP/2, where the host is not a header,
            // is spoken over TLS only.
            headers.insert(header::HOST, host(url)?);
        }
        Ok(Self {
            id,
            limit,
            url: url.clone(),
            uri,
            client,
            credentials,
            headers,
            next: AtomicU64::new(1),
        })
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Returns an id that no other request to this server has.
    pub(super) fn next_id(&self) -> Id {
        Id::number(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Posts a message and returns the server's answer, as far as its head.
    pub(super) async fn post(
        &self,
        request: &Request,
        own: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        extra: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, Refused> {
        // With room for what the client adds.
        let mut headers = HeaderMap::with_capacity(self.headers.len() + extra.len() + OWN);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        for (name, value) in own {
            headers.insert(name, value);
        }
        headers.extend(extra);
        self.send(HttpMethod::POST, request, headers, body).await
    }

    /// Sends a request without a body: GET for a stream, DELETE to end a session.
    pub(super) async fn bare(
        &self,
        method: HttpMethod,
        request: &Request,
        own: &[(HeaderName, HeaderValue)],
    ) -> Result<Reply, Refused> {
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_TYPE);
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        for (name, value) in own {
            headers.insert(name, value.clone());
        }
        self.send(method, request, headers, Bytes::new()).await
    }

    async fn send(
        &self,
        method: HttpMethod,
        request: &Request,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, Refused> {
        let Some(provider) = &self.credentials else {
            let response = self.once(method, headers, body).await?;
            return self.judge(response).await;
        };
        // Boxed, so that calls without credentials are small.
        Box::pin(self.send_with(provider, method, request, headers, body)).await
    }

    async fn send_with(
        &self,
        provider: &Arc<dyn CredentialProvider>,
        method: HttpMethod,
        request: &Request,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, Refused> {
        let mut need = CredentialNeed::new(request.principal(), &self.id);
        need.resource = Some(self.url.as_str());
        need.request = Some(request);
        let mut repeated = false;
        loop {
            let mut with = headers.clone();
            with.extend(self.credential(provider, &need).await?);
            let response = self.once(method.clone(), with, body.clone()).await?;
            let refused = matches!(
                response.status(),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
            );
            if refused && !repeated {
                let refusal = refusal(&response);
                if provider.refused(&need, &refusal).await? == CredentialRetry::Retry {
                    repeated = true;
                    continue;
                }
            }
            return self.judge(response).await;
        }
    }

    async fn credential(
        &self,
        provider: &Arc<dyn CredentialProvider>,
        need: &CredentialNeed<'_>,
    ) -> Result<HeaderMap, Error> {
        match provider.credential(need).await? {
            CredentialOutcome::Ready(credential) => Ok(credential.as_headers().clone()),
            CredentialOutcome::ConsentRequired(consent) => Err(Error::consent_required(consent)),
            _ => Err(Error::new(
                ErrorKind::Internal,
                "the credential provider answered something unknown",
            )),
        }
    }

    async fn once(
        &self,
        method: HttpMethod,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<http::Response<Incoming>, Error> {
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        self.client.request(request).await.map_err(error::of_client)
    }

    async fn judge(&self, response: http::Response<Incoming>) -> Result<Reply, Refused> {
        if response.status().is_success() {
            return Ok(Reply::new(response, self.limit));
        }
        Err(Box::pin(self.refused(response)).await)
    }

    async fn refused(&self, response: http::Response<Incoming>) -> Refused {
        let status = response.status();
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ERROR_BODY)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        Refused {
            status,
            error: error::of_status(status, &parts.headers, &body),
        }
    }
}

fn refusal(response: &http::Response<Incoming>) -> CredentialRefusal {
    let challenges = response
        .headers()
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .cloned()
        .collect();
    CredentialRefusal::new(response.status(), challenges)
}

fn host(url: &Url) -> Result<HeaderValue, ConfigError> {
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    HeaderValue::from_str(authority).map_err(|_| {
        ConfigError::new(
            "url",
            url.origin().ascii_serialization(),
            "give a host of plain text",
        )
    })
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            status: StatusCode::OK,
            error,
        }
    }
}
