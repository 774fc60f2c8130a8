//! Adapters between rmcp and the seam, in both directions.
//!
//! [`serve`] turns any rmcp `ServerHandler` into a service of the seam, so that layers go around it and a transport
//! serves it. [`RmcpServer`] turns any service of the seam into something that rmcp's stdio and custom transports
//! can serve.
//!
//! A handler sees what it would see behind rmcp's own transports: the client's capabilities, `_meta`, progress,
//! logging, cancellation, and in the session era sampling, elicitation and roots. Its
//! `RequestContext::extensions` hold the [`Principal`](crate::Principal) and, where there is one, the
//! [`SessionKey`] of the call.
//!
//! # Eras
//!
//! A handler is shown the revision that the client of each call speaks. A stateless call runs in the caller's
//! future. Calls of a session share one rmcp peer, which lives as long as the session.
//!
//! # Cancellation
//!
//! A dropped call cancels the `ct` of the handler's `RequestContext`, as rmcp does. The handler of a stateless call
//! then has 5 s to see it and tidy up, after which its future is dropped; that of a session call ends itself. What
//! either still sends goes nowhere.

mod convert;
mod describe;
mod params;
mod server;
mod session;
mod stateless;

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use rmcp::ServerHandler;
use tower_layer::Identity;
use tower_service::Service;

use self::session::Session;
pub use self::{
    describe::{Describe, DescribeLayer},
    server::RmcpServer,
};
use crate::{Era, Error, ErrorKind, Inside, Request, Response, SessionKey, Stack};

/// Starts a stack around an rmcp server.
///
/// Layers find a tool's annotations in [`Request::annotations`] and its schemas in [`Request::schemas`].
///
/// All clients share the handler. Use [`RmcpService::per_session`] for a server that keeps state per session.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mcp_core::{Method, Request, rmcp3::serve};
/// use rmcp::ServerHandler;
/// use tower::{ServiceExt, timeout::TimeoutLayer};
///
/// #[derive(Clone)]
/// struct MyServer;
/// impl ServerHandler for MyServer {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), mcp_core::Error> {
/// let service = serve(MyServer)
///     .layer(TimeoutLayer::new(Duration::from_secs(30)))
///     .into_service();
/// let meta = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
///     "io.modelcontextprotocol/clientCapabilities":{}}}"#;
/// let request = Request::new(Method::DISCOVER, Some(mcp_core::Json::parse(meta)?))?;
/// assert!(service.oneshot(request).await?.result().member("capabilities").is_some());
/// # Ok(())
/// # }
/// ```
pub fn serve<H: ServerHandler>(handler: H) -> Served<H> {
    let server = RmcpService::new(handler);
    Stack::new(server.clone()).layer(DescribeLayer::new(server))
}

/// The stack around an rmcp server: each call knows the annotations and schemas of its tool before any layer sees it.
pub type Served<H> = Stack<RmcpService<H>, Inside<DescribeLayer<H>, Identity>>;

/// An rmcp server as a service of the seam. Clones share its sessions.
pub struct RmcpService<H>(Arc<Shared<H>>);

struct Shared<H> {
    handler: Factory<H>,
    /// Answers stateless calls, once there has been one.
    stateless: std::sync::OnceLock<Arc<H>>,
    sessions: Mutex<HashMap<SessionKey, Arc<Opening>>>,
}

type Factory<H> = Box<dyn Fn() -> io::Result<Arc<H>> + Send + Sync>;

/// A session that is being opened by the first call that needs it, while others wait.
type Opening = tokio::sync::OnceCell<Arc<Session>>;

impl<H: ServerHandler> RmcpService<H> {
    /// Wraps a handler that all clients share.
    pub fn new(handler: H) -> Self {
        let handler = Arc::new(handler);
        Self::with(Box::new(move || Ok(Arc::clone(&handler))))
    }

    /// Wraps a server that makes a handler of its own for each session. Stateless calls share one more.
    ///
    /// An error of `make` fails the call that needed the handler.
    pub fn per_session(make: impl Fn() -> io::Result<H> + Send + Sync + 'static) -> Self {
        Self::with(Box::new(move || make().map(Arc::new)))
    }

    fn with(handler: Factory<H>) -> Self {
        Self(Arc::new(Shared {
            handler,
            stateless: std::sync::OnceLock::new(),
            sessions: Mutex::default(),
        }))
    }

    async fn answer(self, request: Request) -> Result<Response, Error> {
        params::check(&request, |tool| {
            let handler = self.shared_handler().ok()?;
            Some(handler.get_tool(tool)?.input_schema)
        })?;
        match (request.era(), request.session()) {
            (Era::Stateless, _) => stateless::call(self.shared_handler()?, request).await,
            (Era::Session, Some(key)) => {
                let session = self.session(key, &request).await?;
                session.call(request).await
            }
            (Era::Session, None) => Err(Error::new(
                ErrorKind::Internal,
                "a call of the session era has no session: a transport must set one",
            )),
        }
    }

    fn shared_handler(&self) -> Result<Arc<H>, Error> {
        if let Some(handler) = self.0.stateless.get() {
            return Ok(Arc::clone(handler));
        }
        let handler = make(&self.0.handler)?;
        Ok(Arc::clone(self.0.stateless.get_or_init(|| handler)))
    }

    /// Returns the session of a key, opening it for the first call.
    async fn session(&self, key: &SessionKey, request: &Request) -> Result<Arc<Session>, Error> {
        let opening = {
            let mut sessions = self.lock();
            match sessions.get(key) {
                Some(opening) => Arc::clone(opening),
                None => {
                    let opening = Arc::default();
                    sessions.insert(key.clone(), Arc::clone(&opening));
                    drop(sessions);
                    self.forget_when_closed(key);
                    opening
                }
            }
        };
        opening
            .get_or_try_init(|| async {
                let handler = make(&self.0.handler)?;
                Session::open(handler, request).await.map(Arc::new)
            })
            .await
            .map(Arc::clone)
    }

    /// Registers the removal. A key that is closed already runs it at once.
    fn forget_when_closed(&self, key: &SessionKey) {
        let shared = Arc::downgrade(&self.0);
        // Without the key itself, which would keep its own hooks alive.
        let name = SessionKey::new(key.id());
        let forget = move || {
            if let Some(shared) = shared.upgrade() {
                let removed = Self(shared).lock().remove(&name);
                drop(removed);
            }
        };
        key.on_close(forget).keep();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionKey, Arc<Opening>>> {
        self.0
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn make<H>(factory: &Factory<H>) -> Result<Arc<H>, Error> {
    factory().map_err(|error| {
        Error::new(ErrorKind::Internal, "the server could not make a handler").with_source(error)
    })
}

impl<H> Clone for RmcpService<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H> fmt::Debug for RmcpService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RmcpService")
    }
}

impl<H: ServerHandler> Service<Request> for RmcpService<H> {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits the handler's own future, whose type has no name.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}
