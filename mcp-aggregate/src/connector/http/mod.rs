//! Servers over Streamable HTTP, of both eras.
//!
//! The server is spoken to in the era of the client of each call where it speaks that era, and in the other
//! otherwise. Which eras it speaks is probed at the first call, remembered, and probed again when the
//! server no longer answers as it did.

mod answer;
mod error;
mod listen;
mod reply;
mod session;
mod slot;
mod stateless;
mod wire;

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use mcp_core::{
    ConfigError, CredentialProvider, Era, Error, ErrorKind, Request, Response, Timing, UpstreamId,
    http_client::GuardedClient,
};
use tokio::sync::Mutex as AsyncMutex;
use tower_service::Service;
use url::Url;

use self::{error::Failed, slot::Slot, wire::Wire};
use super::{
    Allowance, SessionScope,
    lifecycle::State,
    meta,
    pool::{Lease, Pool},
    turns::Turns,
};

const SESSIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
const SESSIONS_PER_PRINCIPAL: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// A server over Streamable HTTP as a service of the seam. Clones share connections and sessions.
#[derive(Clone)]
pub struct HttpConnector(Arc<Shared>);

struct Shared {
    wire: Arc<Wire>,
    scope: SessionScope,
    stateless: Spoken,
    sessions: Spoken,
    /// Held while the server is probed for revision 2026-07-28.
    probing: AsyncMutex<()>,
    pool: Pool<Arc<Slot>>,
    turns: Turns,
    state: State,
}

/// Settings of an [`HttpConnector`].
#[must_use]
pub struct HttpConnectorBuilder {
    id: UpstreamId,
    url: Url,
    client: Option<GuardedClient>,
    scope: SessionScope,
    credentials: Option<Arc<dyn CredentialProvider>>,
    headers: HeaderMap,
    limit: usize,
    sessions: Option<Allowance>,
    timing: Timing,
    turns: Turns,
}

/// Whether a server speaks an era, as far as is known.
#[derive(Default)]
struct Spoken(AtomicU8);

impl Spoken {
    fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            known => Some(known == 1),
        }
    }

    fn set(&self, spoken: Option<bool>) {
        let value = spoken.map_or(0, |spoken| if spoken { 1 } else { 2 });
        self.0.store(value, Ordering::Release);
    }
}

impl HttpConnector {
    /// Begins a connector to the server at an address.
    pub fn builder(id: UpstreamId, url: Url) -> HttpConnectorBuilder {
        HttpConnectorBuilder {
            id,
            url,
            client: None,
            scope: SessionScope::PerSession,
            credentials: None,
            headers: HeaderMap::new(),
            limit: 16 << 20,
            sessions: None,
            timing: Timing::default(),
            turns: Turns::default(),
        }
    }

    /// Returns whether calls carry credentials, so that what is offered may differ by principal.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.0.wire.has_credentials()
    }

    pub(super) fn lifecycle_state(&self) -> &State {
        &self.0.state
    }

    /// Returns whether the client of a request has a session with the server.
    pub(super) fn has_slot(&self, request: &Request) -> bool {
        self.0.pool.has(self.0.scope, request)
    }

    /// Returns whether the client of a request has an open session with the server.
    pub(super) fn has_started(&self, request: &Request) -> bool {
        self.0.pool.is(self.0.scope, request, |slot| slot.is_open())
    }

    /// Makes a call of a client whose era is not known to be spoken here.
    async fn find_out(self, request: Request) -> Result<Response, Error> {
        match self.probe(&request).await {
            Ok(Era::Stateless) => self.call_stateless(request).await,
            Ok(Era::Session) => self.call_session(request).await,
            Err(error) => Err(self.named(error)),
        }
    }

    /// Says in an error where it comes from.
    fn named(&self, error: Error) -> Error {
        match error.upstream() {
            Some(_) => error,
            None => error.with_upstream(self.0.wire.id.clone()),
        }
    }

    /// Chooses the era to speak, if that is known: the client's, unless the server does not speak it.
    fn era_for(&self, request: &Request) -> Option<Era> {
        if request.era() == Era::Session && self.0.sessions.get() != Some(false) {
            return Some(Era::Session);
        }
        let stateless = self.0.stateless.get()?;
        Some(if stateless {
            Era::Stateless
        } else {
            Era::Session
        })
    }

    /// Finds out whether the server speaks revision 2026-07-28. Callers that come meanwhile wait.
    async fn probe(&self, request: &Request) -> Result<Era, Error> {
        let _probing = self.0.probing.lock().await;
        let stateless = match self.0.stateless.get() {
            Some(known) => known,
            None => {
                let stateless = stateless::probe(&self.0.wire, request).await?;
                self.0.stateless.set(Some(stateless));
                stateless
            }
        };
        Ok(if stateless {
            Era::Stateless
        } else {
            Era::Session
        })
    }

    async fn call_stateless(self, request: Request) -> Result<Response, Error> {
        let _turn = self.0.turns.wait(&request).await;
        let answer = stateless::call(&self.0.wire, request).await;
        answer.map_err(|error| self.named(error))
    }

    async fn call_session(self, request: Request) -> Result<Response, Error> {
        let slot = self.lease(&request).map_err(|error| self.named(error))?;
        let turn = self.0.turns.wait(&request).await;
        match slot::call(&slot, &request).await {
            Ok(response) => {
                self.0.sessions.set(Some(true));
                Ok(response)
            }
            Err(failed) => {
                // Boxed, so that a call that goes well is small.
                let answer = Box::pin(self.after_failure(failed, request)).await;
                drop(turn);
                answer.map_err(|error| self.named(error))
            }
        }
    }

    async fn after_failure(&self, failed: Failed, request: Request) -> Result<Response, Error> {
        match failed {
            Failed::NotSession(error) => {
                if self.probe(&request).await? == Era::Stateless {
                    self.0.sessions.set(Some(false));
                    return stateless::call(&self.0.wire, request).await;
                }
                // Neither era: whatever is there now, look again at the next call.
                self.0.stateless.set(None);
                Err(error)
            }
            Failed::Expired(error) => Err(Error::new(
                ErrorKind::Unavailable,
                "the server loses its sessions as soon as they are opened",
            )
            .with_source(error)),
            Failed::Error(error) => {
                if error.kind() == ErrorKind::NotSent {
                    self.0.stateless.set(None);
                    self.0.sessions.set(None);
                }
                Err(error)
            }
        }
    }

    fn lease(&self, request: &Request) -> Result<Lease<Arc<Slot>>, Error> {
        let (scope, pool) = (self.0.scope, &self.0.pool);
        pool.lease(scope, request, || {
            let is_shared = scope == SessionScope::Shared;
            Slot::new(Arc::clone(&self.0.wire), is_shared, pool.tasks().clone())
        })
    }

    /// Ends all sessions with the server and waits until it has answered. Later calls in sessions are refused.
    pub async fn shutdown(&self) {
        self.0.pool.shut_down().await;
    }
}

impl HttpConnectorBuilder {
    /// Sets who shares a session with a server of the session era. Default is [`SessionScope::PerSession`].
    pub fn scope(mut self, scope: SessionScope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets where credentials come from. Default is none.
    pub fn credentials(mut self, credentials: Arc<dyn CredentialProvider>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Adds headers to every request. Default is none. The protocol's own headers win.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Sets the HTTP client. Default is one that reaches this address as it is written.
    pub fn client(mut self, client: GuardedClient) -> Self {
        self.client = Some(client);
        self
    }

    /// Sets the largest message that is accepted from the server, in bytes. Default is 16 MiB.
    pub fn message_limit(mut self, bytes: NonZeroUsize) -> Self {
        self.limit = bytes.get();
        self
    }

    /// Sets the bound on sessions with servers that this connector shares with others. Default is 10,000 in all and 256 for
    /// each principal, of this connector alone.
    pub fn sessions(mut self, sessions: Allowance) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Sets the durations: [`Timing::idle`], after which a session is ended that has neither a call nor a listener,
    /// [`Timing::stop`] and the backoff are the connector's.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Lets one call at a time reach the server, whichever session it is for. For servers that lose what is written at the
    /// same moment. Default is all at once. Pings and listeners run beside calls.
    ///
    /// A call that hangs holds up all others: give the upstream a deadline for its calls.
    pub fn one_call_at_a_time(mut self) -> Self {
        self.turns = Turns::one_at_a_time();
        self
    }

    /// Builds the connector. Nothing is sent.
    ///
    /// # Errors
    ///
    /// The address is not one of `http` or `https`, or TLS cannot be set up.
    pub fn build(self) -> Result<HttpConnector, ConfigError> {
        let client = match self.client {
            Some(client) => client,
            None => GuardedClient::operator(self.url.as_str())?,
        };
        let sessions = self
            .sessions
            .unwrap_or_else(|| Allowance::of_sessions(SESSIONS, SESSIONS_PER_PRINCIPAL));
        let wire = Wire::new(
            self.id,
            &self.url,
            (client, self.credentials),
            self.headers,
            self.limit,
            &self.timing,
        )?;
        Ok(HttpConnector(Arc::new(Shared {
            wire: Arc::new(wire),
            scope: self.scope,
            stateless: Spoken::default(),
            sessions: Spoken::default(),
            probing: AsyncMutex::new(()),
            pool: Pool::new(sessions, self.timing.idle),
            turns: self.turns,
            state: State::default(),
        })))
    }
}

impl Service<Request> for HttpConnector {
    type Response = Response;
    type Error = Error;
    /// Boxed: an exchange over HTTP has no type with a name.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let connector = self.clone();
        meta::drop_nulls(&mut request);
        // Distinguished here, so that no call is larger than its own way needs.
        match self.era_for(&request) {
            Some(Era::Stateless) => Box::pin(connector.call_stateless(request)),
            Some(Era::Session) => Box::pin(connector.call_session(request)),
            None => Box::pin(connector.find_out(request)),
        }
    }
}

impl fmt::Debug for HttpConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpConnector")
            .field(&self.0.wire.id)
            .finish()
    }
}

impl fmt::Debug for HttpConnectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpConnectorBuilder")
            .field(&self.id)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::Method;

    use super::*;

    #[test]
    fn calls_are_small_since_each_is_moved_into_its_box() {
        let url = "http://127.0.0.1:1/mcp".parse().unwrap();
        let builder = HttpConnector::builder(UpstreamId::new("a").unwrap(), url);
        let mut connector = builder.build().unwrap();
        connector.0.stateless.set(Some(true));
        let request = Request::new(Method::TOOLS_LIST, None).unwrap();
        let stateless = size_of_val(&*connector.call(request.clone()));
        connector.0.stateless.set(Some(false));
        let session = size_of_val(&*connector.call(request));
        assert!(
            stateless <= 3 << 10 && session <= 5 << 10,
            "{stateless} {session}"
        );
    }
}
