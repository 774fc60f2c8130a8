//! What stands before everything else: cross-origin rules for clients in browsers, and limits on attempts.

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use mcp_core::ConfigError;
use pin_project_lite::pin_project;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_layer::Layer;
use tower_service::Service;

/// Lets clients in browsers of these origins use an MCP endpoint. Without the layer none may.
///
/// The headers that such a client has to read are exposed: the session, the challenge, and when to come back. Cookies are
/// not admitted.
///
/// # Errors
///
/// An origin is malformed. `*` is not an origin.
///
/// # Examples
///
/// ```
/// let layer = mcp_auth::edge::cors(["https://app.example"])?;
/// # let _ = layer;
/// assert!(mcp_auth::edge::cors(["*"]).is_err());
/// # Ok::<(), mcp_core::ConfigError>(())
/// ```
pub fn cors<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<CorsLayer, ConfigError> {
    let mut allowed = Vec::new();
    for origin in origins {
        let bad = || {
            ConfigError::new(
                "origin",
                origin,
                "scheme://host, with a port where it is not the usual one",
            )
        };
        let url = url::Url::parse(origin).map_err(|_| bad())?;
        let exact = url.origin().ascii_serialization() == origin;
        if !exact || !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        allowed.push(HeaderValue::try_from(origin).map_err(|_| bad())?);
    }
    let named = |name: &'static str| HeaderName::from_static(name);
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT,
            named("last-event-id"),
            named("mcp-session-id"),
            named("mcp-protocol-version"),
            named("mcp-method"),
            named("mcp-name"),
        ])
        .expose_headers([
            header::WWW_AUTHENTICATE,
            header::RETRY_AFTER,
            named("mcp-session-id"),
            named("mcp-protocol-version"),
        ])
        .max_age(Duration::from_secs(600)))
}

/// Returns what a request is counted under; `None` for one that is not counted.
pub type Account = Arc<dyn Fn(&http::request::Parts) -> Option<String> + Send + Sync>;

/// Limits how often one address, and one account, may try: for login, token and callback endpoints.
///
/// A request over a limit is answered with 429 and `Retry-After`. Addresses of IPv6 count by their /64.
#[derive(Clone)]
pub struct AttemptLimitLayer {
    shared: Arc<Attempts>,
}

struct Attempts {
    quota: Quota,
    address: Account,
    account: Option<Account>,
    by_address: DefaultKeyedRateLimiter<String>,
    by_account: DefaultKeyedRateLimiter<String>,
}

impl AttemptLimitLayer {
    /// Allows so many attempts a minute from one address. `address` finds it in a request: from the connection, or from a
    /// header that one's own proxy sets and no client can.
    #[must_use]
    pub fn per_minute(
        attempts: NonZeroU32,
        address: impl Fn(&http::request::Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        let quota = Quota::per_minute(attempts);
        Self {
            shared: Arc::new(Attempts {
                quota,
                address: Arc::new(move |parts| address(parts).map(network)),
                account: None,
                by_address: RateLimiter::keyed(quota),
                by_account: RateLimiter::keyed(quota),
            }),
        }
    }

    /// Allows so many attempts a minute for one account too, wherever they come from.
    #[must_use]
    pub fn and_account(
        self,
        attempts: NonZeroU32,
        account: impl Fn(&http::request::Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let own = &self.shared;
        Self {
            shared: Arc::new(Attempts {
                quota: own.quota,
                address: Arc::clone(&own.address),
                account: Some(Arc::new(account)),
                by_address: RateLimiter::keyed(own.quota),
                by_account: RateLimiter::keyed(Quota::per_minute(attempts)),
            }),
        }
    }
}

impl Attempts {
    /// Returns how long to wait, if the request may not pass.
    fn check(&self, parts: &http::request::Parts) -> Option<Duration> {
        use governor::clock::Clock as _;
        let wait = |limiter: &DefaultKeyedRateLimiter<String>, key: &String| {
            let now = governor::clock::DefaultClock::default().now();
            limiter
                .check_key(key)
                .err()
                .map(|over| over.wait_time_from(now))
        };
        if self.by_address.len() + self.by_account.len() > 100_000 {
            // Keys that no one has used for a while say nothing any more.
            self.by_address.retain_recent();
            self.by_account.retain_recent();
        }
        // A request whose address is not known shares one count with all of its kind.
        let address = (self.address)(parts).unwrap_or_default();
        wait(&self.by_address, &address).or_else(|| {
            let account = self.account.as_ref()?(parts)?;
            wait(&self.by_account, &account)
        })
    }
}

/// The part of an address that one household or machine has.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}")
        }
    }
}

impl<S> Layer<S> for AttemptLimitLayer {
    type Service = AttemptLimit<S>;

    fn layer(&self, inner: S) -> AttemptLimit<S> {
        AttemptLimit {
            inner,
            layer: self.clone(),
        }
    }
}

/// Applies an [`AttemptLimitLayer`].
#[derive(Clone, Debug)]
pub struct AttemptLimit<S> {
    inner: S,
    layer: AttemptLimitLayer,
}

impl<S> AttemptLimit<S> {
    mcp_core::inner_service!();
}

impl<S, Q, B> Service<Request<Q>> for AttemptLimit<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let state = match self.layer.shared.check(&parts) {
            Some(wait) => State::Refused { wait },
            None => State::Forward {
                future: self.inner.call(Request::from_parts(parts, body)),
            },
        };
        ResponseFuture { state }
    }
}

pin_project! {
    /// The answer of an [`AttemptLimit`].
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        // Within the limits.
        Forward { #[pin] future: F },
        // Over one of them.
        Refused { wait: Duration },
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forward { future } => Poll::Ready(ready!(future.poll(cx))),
            StateProj::Refused { wait } => {
                let mut response = Response::new(B::default());
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let headers = response.headers_mut();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
                Poll::Ready(Ok(response))
            }
        }
    }
}

impl fmt::Debug for AttemptLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptLimitLayer").finish_non_exhaustive()
    }
}
