use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use mcp_core::AuthContext;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Body, ProtectedResource, Refusal, RefusalKind, RequestBody, ResourceServer, VerifiedIdentity,
    dpop::{self, Shown},
    judge::{Admitted, Quick},
    request_body::Failed,
};

/// Applies a [`ResourceServer`].
#[must_use]
#[derive(Clone, Debug)]
pub struct ResourceServerLayer {
    server: ResourceServer,
}

impl ResourceServerLayer {
    pub(super) fn new(server: ResourceServer) -> Self {
        Self { server }
    }
}

impl<S> Layer<S> for ResourceServerLayer {
    type Service = ResourceServerService<S>;

    fn layer(&self, inner: S) -> ResourceServerService<S> {
        ResourceServerService {
            inner,
            server: self.server.clone(),
        }
    }
}

/// Lets verified requests pass, refuses the others, and serves the metadata document.
#[derive(Clone, Debug)]
pub struct ResourceServerService<S> {
    inner: S,
    server: ResourceServer,
}

impl<S> ResourceServerService<S> {
    mcp_core::inner_service!();
}

impl<S, Q, B> Service<Request<Q>> for ResourceServerService<S>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<B>> + Clone,
{
    type Response = Response<Body<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Q>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        if let Some(document) = document(self.server.resource(), &request) {
            return ResponseFuture::answered(document);
        }
        let (mut parts, body) = request.into_parts();
        match self.server.judge_quickly(&parts) {
            Quick::Open => ResponseFuture::forward(&mut self.inner, parts, body),
            Quick::Known(identity) => {
                admit(&self.server, &mut parts, identity);
                ResponseFuture::forward(&mut self.inner, parts, body)
            }
            Quick::Unknown => {
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                let server = self.server.clone();
                let judging = Box::pin(async move {
                    let verdict = server.judge(&parts).await;
                    (parts, verdict)
                });
                ResponseFuture::new(State::Judge {
                    judging,
                    held: Some((inner, self.server.clone(), body)),
                })
            }
        }
    }
}

/// Answers a request for the metadata document (RFC 9728, section 3.1).
pub(super) fn document<Q>(
    resource: &ProtectedResource,
    request: &Request<Q>,
) -> Option<Response<Bytes>> {
    let document = resource.document()?;
    let path = request.uri().path();
    if !resource.paths().iter().any(|own| own == path) {
        return None;
    }
    let mut response = Response::new(match *request.method() {
        Method::GET => document.clone(),
        _ => Bytes::new(),
    });
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allow);
        return Some(response);
    }
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    // The document is public and read by clients in browsers.
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    Some(response)
}

/// States who calls, and takes the credential out, so that nothing behind can pass it on.
fn admit(
    server: &ResourceServer,
    parts: &mut http::request::Parts,
    identity: Option<VerifiedIdentity>,
) {
    parts.headers.remove(header::AUTHORIZATION);
    parts.headers.remove("x-api-key");
    parts.headers.remove(dpop::DPOP);
    for header in &server.0.headers {
        parts.headers.remove(header);
    }
    if let Some(identity) = identity {
        parts.extensions.insert(identity.principal().clone());
        let facts = parts
            .extensions
            .remove::<AuthContext>()
            .unwrap_or_default()
            .with(identity.clone());
        parts.extensions.insert(facts);
        parts.extensions.insert(identity);
    }
}

fn refuse(server: &ResourceServer, refusal: Refusal) -> Response<Bytes> {
    let body = serde_json::json!({
        "error": refusal.code().unwrap_or("unauthorized"),
        "error_description": refusal.reason(),
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match refusal.kind() {
        RefusalKind::Unavailable => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {
            for challenge in server.resource().challenges(&refusal) {
                headers.append(header::WWW_AUTHENTICATE, challenge.to_header());
            }
        }
    }
    if matches!(
        refusal.kind(),
        RefusalKind::NonceNeeded | RefusalKind::InvalidProof
    ) {
        add_nonce(server, headers);
    }
    response.extensions_mut().insert(refusal);
    response
}

/// Hands out the nonce that the next proof has to contain (RFC 9449, section 8.2).
fn add_nonce(server: &ResourceServer, headers: &mut HeaderMap) {
    let now = server.0.wall.now();
    if let Some(nonce) = server.0.dpop.as_ref().and_then(|own| own.nonce(now)) {
        headers.insert(dpop::NONCE, nonce);
    }
}

type Judging = BoxFuture<'static, (http::request::Parts, Result<Admitted, Refusal>)>;

/// What is done with the answer to a request that came with a proof.
struct Proven {
    server: ResourceServer,
    /// Whether the body was another than the proof was about.
    failed: Option<Failed>,
}

impl Proven {
    /// Puts a refusal in the place of an answer to another body, and the newest nonce into any.
    fn finish<B>(self, response: Response<B>) -> Response<Body<B>> {
        const OTHER: Refusal = Refusal::new(
            RefusalKind::InvalidProof,
            "the body is not the one that the proof is about, or too long to tell",
        );
        if self.failed.is_some_and(|own| own.get()) {
            return refuse(&self.server, OTHER).map(Body::own);
        }
        let mut response = response.map(Body::inner);
        add_nonce(&self.server, response.headers_mut());
        response
    }
}

pin_project! {
    /// The answer of a [`ResourceServerService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Q>
    where
        S: Service<Request<RequestBody<Q>>>,
    {
        #[pin]
        state: State<S, Q>,
    }
}

pin_project! {
    #[project = StateProj]
    #[allow(clippy::large_enum_variant, reason = "boxing would cost the quick path an allocation")]
    enum State<S, Q>
    where
        S: Service<Request<RequestBody<Q>>>,
    {
        // Answered here.
        Answered { response: Option<Response<Bytes>> },
        // Let through; the inner service answers.
        Forward { #[pin] future: S::Future, proven: Option<Box<Proven>> },
        // The credential has not been seen before. Boxed: it awaits schemes whose types have no names.
        Judge { judging: Judging, held: Option<(S, ResourceServer, Q)> },
    }
}

impl<S: Service<Request<RequestBody<Q>>>, Q> ResponseFuture<S, Q> {
    fn forward(inner: &mut S, parts: http::request::Parts, body: Q) -> Self {
        let request = Request::from_parts(parts, RequestBody::plain(body));
        Self::new(State::Forward {
            future: inner.call(request),
            proven: None,
        })
    }

    fn answered(response: Response<Bytes>) -> Self {
        Self::new(State::Answered {
            response: Some(response),
        })
    }

    fn new(state: State<S, Q>) -> Self {
        Self { state }
    }
}

impl<S, Q, B> Future for ResponseFuture<S, Q>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<B>>,
{
    type Output = Result<Response<Body<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Answered { response } => {
                    let response = response.take().expect("polled after it was ready");
                    return Poll::Ready(Ok(response.map(Body::own)));
                }
                StateProj::Forward { future, proven } => {
                    let response = match (ready!(future.poll(cx)), proven.take()) {
                        (Ok(response), Some(proven)) => proven.finish(response),
                        (answer, _) => answer?.map(Body::inner),
                    };
                    return Poll::Ready(Ok(response));
                }
                StateProj::Judge { judging, held } => {
                    let (mut parts, verdict) = ready!(judging.as_mut().poll(cx));
                    let (mut inner, server, body) = held.take().expect("held until it is judged");
                    match verdict {
                        Ok(admitted) => {
                            admit(&server, &mut parts, admitted.identity);
                            let (body, proven) = held_to(server, body, admitted.shown);
                            let future = inner.call(Request::from_parts(parts, body));
                            State::Forward { future, proven }
                        }
                        Err(refusal) => State::Answered {
                            response: Some(refuse(&server, refusal)),
                        },
                    }
                }
            };
            state.set(next);
        }
    }
}

/// Holds a body to what the proof of its request says of it.
fn held_to<Q>(
    server: ResourceServer,
    body: Q,
    shown: Option<Shown>,
) -> (RequestBody<Q>, Option<Box<Proven>>) {
    let (Some(shown), Some(dpop)) = (shown, &server.0.dpop) else {
        return (RequestBody::plain(body), None);
    };
    let (body, failed) = match shown.digest {
        Some(digest) => {
            let (body, failed) = RequestBody::checked(body, digest, dpop.longest_body());
            (body, Some(failed))
        }
        None => (RequestBody::plain(body), None),
    };
    (body, Some(Box::new(Proven { server, failed })))
}

impl<S: Service<Request<RequestBody<Q>>>, Q> fmt::Debug for ResponseFuture<S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("server::ResponseFuture")
    }
}
