//! A session with a server of the session era, and calls within it.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode};
use mcp_core::{
    ClientCapabilities, Error, ErrorKind, Method, Notification, Request, Response,
    jsonrpc::{self, Id, Message},
    pipe::{CancelOnDrop, HOLD, Inbox, Outbound, Owed, Replies},
};
use tokio::{task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    answer,
    error::{self, Failed},
    reply::Reply,
    slot::is_repeatable,
    wire::{PROTOCOL_VERSION, Post, Refused, Wire},
};
use crate::connector::handshake;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// An open session with the server.
pub(super) struct Session {
    pub(super) wire: Arc<Wire>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// What `initialize` answered, as `server/discover` would.
    pub(super) discovered: Response,
    /// A request with the context of the client that the session was opened for.
    pub(super) opener: Request,
    /// The task that reads the standalone stream.
    stream: Mutex<Option<AbortHandle>>,
    /// Whether that attempt has been waited for.
    stream_settled: AtomicBool,
    /// Cancelled once the server has answered the first attempt to open that stream.
    pub(super) stream_answered: CancellationToken,
    over: AtomicBool,
}

impl Session {
    /// Opens a session for the client of a request, which is kept: see [`handshake::lasting`].
    pub(super) async fn open(
        wire: &Arc<Wire>,
        request: &Request,
        shared: bool,
    ) -> Result<Self, Failed> {
        let capabilities = match shared {
            true => ClientCapabilities::NONE,
            false => request.capabilities().clone(),
        };
        let opener = request.clone();
        let params = handshake::opening(request, &capabilities);
        let id = wire.next_id();
        let body = jsonrpc::write_request(&Id::number(id), &Method::INITIALIZE, Some(&params));
        let reply = wire
            .post(
                &opener,
                Post {
                    own: &|_| {},
                    body: body.into(),
                    // A second one would open a second session.
                    repeatable: false,
                },
            )
            .await
            .map_err(not_session)?;
        let session_id = reply.headers.get(&SESSION_ID).cloned();
        let answer = answer::first(reply, id)
            .await?
            .map_err(Failed::NotSession)?;
        let discovered = handshake::opened(&answer)?;
        let mut headers = vec![(PROTOCOL_VERSION, handshake::settled(&answer)?)];
        headers.extend(session_id.map(|id| (SESSION_ID, id)));
        let inbox = Arc::new(Inbox::with_standalone_stream());
        inbox.set_client(request.session().filter(|_| !shared).cloned());
        let session = Self {
            wire: Arc::clone(wire),
            inbox,
            headers,
            discovered,
            opener,
            stream: Mutex::default(),
            stream_settled: AtomicBool::new(false),
            stream_answered: CancellationToken::new(),
            over: AtomicBool::new(false),
        };
        let initialized = Notification::new(Method::INITIALIZED, None);
        session.post(&Outbound::Notification(initialized)).await?;
        Ok(session)
    }

    /// Makes one call.
    pub(super) async fn exchange(self: &Arc<Self>, request: &Request) -> Result<Response, Failed> {
        let mut ticket = self.inbox.admit(request).map_err(Failed::Expired)?;
        let repeatable = is_repeatable(request);
        let mut request = request.clone();
        request.remove_client_meta();
        ticket.rename_progress(&mut request);
        let id = Id::number(ticket.id());
        let body = jsonrpc::write_request(&id, request.method(), request.params());
        let replies = Background(Arc::clone(self));
        let guard = CancelOnDrop::new(&replies, ticket.id());
        let posted = self
            .wire
            .post(
                &request,
                Post {
                    own: &|headers| set_headers(headers, &self.headers),
                    body: body.into(),
                    repeatable,
                },
            )
            .await;
        let reply = match posted {
            Ok(reply) => reply,
            Err(refused) => {
                // The server has answered: there is nothing to cancel.
                let _ = guard.settle(Ok(Err(refused.error.clone())));
                return Err(match is_expired(&refused, &self.headers) {
                    true => Failed::Expired(refused.error),
                    false => Failed::Error(refused.error),
                });
            }
        };
        let source = pin!(answer::read(self, reply, ticket.id()));
        let answer = ticket.drive(&request, &replies, source).await;
        guard.settle(answer).map_err(|error| {
            let has_id = self.headers.iter().any(|(name, _)| *name == SESSION_ID);
            match has_id && error::is_lost_session(&error) {
                true => Failed::Expired(error),
                false => Failed::Error(error),
            }
        })
    }

    /// Takes a message that has arrived on the standalone stream.
    pub(super) fn deliver_apart(&self, message: Message) {
        self.reply(self.inbox.deliver_apart(message));
    }

    /// Sends the server what it is owed for a message of its own.
    pub(super) fn reply(&self, owed: Option<Owed>) {
        let Some(owed) = owed else { return };
        let (wire, opener) = (Arc::clone(&self.wire), self.opener.clone());
        let (headers, inbox) = (self.headers.clone(), Arc::downgrade(&self.inbox));
        tokio::spawn(async move {
            let answer = match owed {
                Owed::Answer(id, answer) => Some((id, answer)),
                Owed::Later(held) => {
                    sleep(HOLD).await;
                    let refused = inbox.upgrade().and_then(|inbox| inbox.refuse(&held));
                    refused.map(|(id, error)| (id, Err(error)))
                }
                _ => None,
            };
            let Some((id, answer)) = answer else { return };
            let body = Outbound::Answer(id, answer).to_message();
            // A server that is gone needs no answer.
            let post = Post {
                own: &|own| set_headers(own, &headers),
                body,
                repeatable: true,
            };
            if let Ok(reply) = wire.post(&opener, post).await {
                reply.discard();
            }
        });
    }

    /// Posts a message that wants no answer.
    pub(super) async fn post(&self, message: &Outbound) -> Result<(), Failed> {
        let post = Post {
            own: &|headers| set_headers(headers, &self.headers),
            body: message.to_message(),
            repeatable: true,
        };
        match self.wire.post(&self.opener, post).await {
            Ok(reply) => {
                reply.discard();
                Ok(())
            }
            Err(refused) if is_expired(&refused, &self.headers) => {
                Err(Failed::Expired(refused.error))
            }
            Err(refused) => Err(Failed::Error(refused.error)),
        }
    }

    /// Opens the standalone stream, as far as its head.
    pub(super) async fn standalone(&self, last: Option<&str>) -> Result<Reply, Refused> {
        let mut headers = self.headers.clone();
        let last = last.and_then(|id| HeaderValue::try_from(id).ok());
        headers.extend(last.map(|id| (LAST_EVENT_ID, id)));
        self.wire
            .bare(HttpMethod::GET, &self.opener, &headers)
            .await
    }

    pub(super) fn is_expired_by(&self, refused: &Refused) -> bool {
        is_expired(refused, &self.headers)
    }

    /// Takes the handle of the task that reads the standalone stream, unless there is one.
    pub(super) fn stream(&self, start: impl FnOnce() -> AbortHandle) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if stream.is_none() && !self.over.load(Ordering::Acquire) {
            *stream = Some(start());
        }
    }

    /// Returns whether the standalone stream has been waited for.
    pub(super) fn is_stream_settled(&self) -> bool {
        self.stream_settled.load(Ordering::Acquire)
    }

    pub(super) fn settle_stream(&self) {
        self.stream_settled.store(true, Ordering::Release);
    }

    /// Returns whether the session has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Release);
        let stream = self
            .stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(stream) = stream {
            stream.abort();
        }
        self.inbox.close(&Error::new(
            ErrorKind::Unavailable,
            "the session with the server has ended",
        ));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

/// Posts what a call sends beside its request, without the call waiting longer than it must.
#[derive(Clone)]
pub(super) struct Background(pub(super) Arc<Session>);

impl Replies for Background {
    fn send(&self, message: Outbound) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.0.post(&message).await.map_err(|failed| match failed {
                Failed::Error(error) | Failed::NotSession(error) => error,
                Failed::Expired(_) => {
                    Error::new(ErrorKind::Unavailable, "the server has lost the session")
                }
            })
        })
    }

    fn try_send(&self, message: Outbound) {
        let session = Arc::clone(&self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // It may be lost: a server that is gone has cancelled by itself.
                let _ = session.post(&message).await;
            });
        }
    }
}

fn set_headers(headers: &mut HeaderMap, own: &[(HeaderName, HeaderValue)]) {
    for (name, value) in own {
        headers.insert(name, value.clone());
    }
}

/// Whether a refusal says that the session is unknown: 404 and 410, or any other of the client's errors or 503 with words
/// about it.
fn is_expired(refused: &Refused, headers: &[(HeaderName, HeaderValue)]) -> bool {
    let with_session = headers.iter().any(|(name, _)| *name == SESSION_ID);
    with_session
        && match refused.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => true,
            StatusCode::SERVICE_UNAVAILABLE => refused.about_session,
            status => status.is_client_error() && refused.about_session,
        }
}

/// Tells a server that does not know `initialize` from one that is out of reach.
fn not_session(refused: Refused) -> Failed {
    match refused.status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            Failed::NotSession(refused.error)
        }
        _ => Failed::Error(refused.error),
    }
}
