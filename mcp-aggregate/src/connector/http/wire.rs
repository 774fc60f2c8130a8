//! One HTTP exchange with a server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use mcp_core::{
    Backoff, ConfigError, Credential, CredentialNeed, CredentialOutcome, CredentialProvider,
    CredentialRefusal, CredentialRetry, Error, ErrorKind, ProvenRequest, Request, Timing,
    UpstreamId,
    http_client::{GuardedClient, HttpError, HttpErrorKind, IncomingBody, moved_to},
};
use url::{Position, Url};

use super::{error, reply::Reply};

pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// How much of an error answer is read.
const ERROR_BODY: usize = 64 << 10;

/// Room for the protocol's own headers of a call, and for those of the HTTP client.
const OWN: usize = 7;

/// How many redirects to the server's own origin one request follows.
const HOPS: usize = 3;

pub(super) struct Wire {
    pub(super) id: UpstreamId,
    pub(super) limit: usize,
    /// How long the server may take to end a session.
    pub(super) stop: Duration,
    backoff: Backoff,
    url: Url,
    uri: Uri,
    /// The address as errors show it: without the query, which may hold a key.
    shown: String,
    client: GuardedClient,
    credentials: Option<Arc<dyn CredentialProvider>>,
    headers: HeaderMap,
    next: AtomicU64,
}

/// An answer that is not a success.
pub(super) struct Refused {
    /// 200 where there was no answer at all.
    pub(super) status: StatusCode,
    pub(super) error: Error,
    /// Whether the body is about a session, as that of a server is which has lost it.
    pub(super) about_session: bool,
}

/// Sets headers of the protocol, which win over those of the operator.
pub(super) type Own<'a> = &'a (dyn Fn(&mut HeaderMap) + Send + Sync);

/// What is posted.
pub(super) struct Post<'a> {
    pub(super) own: Own<'a>,
    pub(super) body: Bytes,
    /// Whether the server may see it twice without harm.
    pub(super) repeatable: bool,
}

/// What one request says, for as often as it is sent.
struct Outgoing<'a> {
    method: HttpMethod,
    /// Composes the headers.
    headers: &'a (dyn Fn() -> HeaderMap + Send + Sync),
    body: Bytes,
    repeatable: bool,
}

impl Outgoing<'_> {
    fn to_request(
        &self,
        uri: Uri,
        credential: Option<&Credential>,
    ) -> Result<http::Request<Bytes>, Error> {
        let mut headers = (self.headers)();
        if let Some(credential) = credential {
            headers.extend(credential.as_headers().clone());
            if let Some(proof) = credential.proof() {
                let proven = ProvenRequest::new(&self.method, &uri, &self.body);
                headers.extend(proof.prove(&proven)?);
            }
        }
        let mut request = http::Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl Wire {
    pub(super) fn backoff(&self) -> Backoff {
        self.backoff.clone()
    }

    pub(super) fn new(
        id: UpstreamId,
        url: &Url,
        (client, credentials): (GuardedClient, Option<Arc<dyn CredentialProvider>>),
        mut headers: HeaderMap,
        limit: usize,
        timing: &Timing,
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
            shown: url[..Position::AfterPath].chars().take(256).collect(),
            client,
            credentials,
            headers,
            next: AtomicU64::new(1),
            stop: timing.stop,
            backoff: Backoff::new(timing.backoff_first, timing.backoff_longest),
        })
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Returns an id that no other request to this server has.
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Posts a message and returns the server's answer, as far as its head.
    pub(super) async fn post(&self, request: &Request, post: Post<'_>) -> Result<Reply, Refused> {
        let headers = || {
            // With room for what the client adds.
            let mut headers = HeaderMap::with_capacity(self.headers.len() + OWN);
            for (name, value) in &self.headers {
                headers.append(name, value.clone());
            }
            (post.own)(&mut headers);
            headers
        };
        let outgoing = Outgoing {
            method: HttpMethod::POST,
            headers: &headers,
            body: post.body,
            repeatable: post.repeatable,
        };
        self.send(request, &outgoing).await
    }

    /// Sends a request without a body: GET for a stream, DELETE to end a session. Either may be sent twice (RFC 9110,
    /// section 9.2.2).
    pub(super) async fn bare(
        &self,
        method: HttpMethod,
        request: &Request,
        own: &[(HeaderName, HeaderValue)],
    ) -> Result<Reply, Refused> {
        let headers = || {
            let mut headers = self.headers.clone();
            headers.remove(header::CONTENT_TYPE);
            headers.insert(
                header::ACCEPT,
                HeaderValue::from_static("text/event-stream"),
            );
            for (name, value) in own {
                headers.insert(name, value.clone());
            }
            headers
        };
        let outgoing = Outgoing {
            method,
            headers: &headers,
            body: Bytes::new(),
            repeatable: true,
        };
        self.send(request, &outgoing).await
    }

    async fn send(&self, request: &Request, outgoing: &Outgoing<'_>) -> Result<Reply, Refused> {
        let Some(provider) = &self.credentials else {
            let response = self.once(outgoing, None).await?;
            return self.judge(response).await;
        };
        // Boxed, so that calls without credentials are small.
        Box::pin(self.send_with(provider, request, outgoing)).await
    }

    async fn send_with(
        &self,
        provider: &Arc<dyn CredentialProvider>,
        request: &Request,
        outgoing: &Outgoing<'_>,
    ) -> Result<Reply, Refused> {
        let mut need = CredentialNeed::new(request.principal(), &self.id);
        need.resource = Some(self.url.as_str());
        need.request = Some(request);
        let mut repeated = false;
        loop {
            let credential = self.credential(provider, &need).await?;
            let response = self.once(outgoing, Some(&credential)).await?;
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
    ) -> Result<Credential, Error> {
        match provider.credential(need).await? {
            CredentialOutcome::Ready(credential) => Ok(credential),
            CredentialOutcome::ConsentRequired(consent) => Err(Error::consent_required(consent)),
            _ => Err(Error::new(
                ErrorKind::Internal,
                "the credential provider answered something unknown",
            )),
        }
    }

    /// Sends a request and returns the head of its answer. Redirects to the server's own origin are followed.
    async fn once(
        &self,
        outgoing: &Outgoing<'_>,
        credential: Option<&Credential>,
    ) -> Result<http::Response<IncomingBody>, Error> {
        let request = outgoing.to_request(self.uri.clone(), credential)?;
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => {
                let again = self.again(&self.uri, error, outgoing, credential);
                Box::pin(again).await?
            }
        };
        let response = match asks_again(&self.uri, &response, credential) {
            false => response,
            true => Box::pin(self.exchange(&self.uri, outgoing, credential)).await?,
        };
        match moved_to(&self.uri, &response) {
            None => Ok(response),
            Some(target) => Box::pin(self.follow(target, outgoing, credential)).await,
        }
    }

    /// Sends a request to an address, and once more over a new connection where that is harmless.
    async fn exchange(
        &self,
        uri: &Uri,
        outgoing: &Outgoing<'_>,
        credential: Option<&Credential>,
    ) -> Result<http::Response<IncomingBody>, Error> {
        let request = outgoing.to_request(uri.clone(), credential)?;
        match self.client.request(request).await {
            Ok(response) => Ok(response),
            Err(error) => self.again(uri, error, outgoing, credential).await,
        }
    }

    /// Sends a request once more, over a new connection, whose connection broke before anything was answered, if that is
    /// harmless: a server that was started again leaves connections behind that look open.
    async fn again(
        &self,
        uri: &Uri,
        error: HttpError,
        outgoing: &Outgoing<'_>,
        credential: Option<&Credential>,
    ) -> Result<http::Response<IncomingBody>, Error> {
        if !outgoing.repeatable || error.kind() != HttpErrorKind::Protocol {
            return Err(error::of_client(error, &self.shown));
        }
        let request = outgoing.to_request(uri.clone(), credential)?;
        let answer = self.client.request_unpooled(request).await;
        answer.map_err(|error| error::of_client(error, &self.shown))
    }

    async fn follow(
        &self,
        mut target: Uri,
        outgoing: &Outgoing<'_>,
        credential: Option<&Credential>,
    ) -> Result<http::Response<IncomingBody>, Error> {
        for _ in 0..HOPS {
            let mut response = self.exchange(&target, outgoing, credential).await?;
            if asks_again(&target, &response, credential) {
                response = self.exchange(&target, outgoing, credential).await?;
            }
            match moved_to(&target, &response) {
                None => return Ok(response),
                Some(next) => target = next,
            }
        }
        Err(Error::new(
            ErrorKind::BadUpstream,
            format!("{} redirects in a circle, or too often", self.shown),
        ))
    }

    async fn judge(&self, response: http::Response<IncomingBody>) -> Result<Reply, Refused> {
        if response.status().is_success() {
            return Ok(Reply::new(response, self.limit));
        }
        Err(Box::pin(self.refused(response)).await)
    }

    async fn refused(&self, response: http::Response<IncomingBody>) -> Refused {
        let status = response.status();
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ERROR_BODY)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        Refused {
            status,
            error: error::of_status(status, &parts.headers, &body, &self.shown),
            about_session: error::is_about_session(&body),
        }
    }
}

/// Shows an answer to the proof of a credential, and returns whether the request is to be sent once more with another.
fn asks_again(
    uri: &Uri,
    response: &http::Response<IncomingBody>,
    credential: Option<&Credential>,
) -> bool {
    let proof = credential.and_then(Credential::proof);
    proof.is_some_and(|proof| proof.answered(uri, response.status(), response.headers()))
}

fn refusal(response: &http::Response<IncomingBody>) -> CredentialRefusal {
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
            about_session: false,
        }
    }
}
