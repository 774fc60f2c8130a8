//! Revisions with sessions: 2025-03-26, 2025-06-18 and 2025-11-25 over Streamable HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts};

use super::{
    Shared,
    accept::Accepted,
    body::ResponseBody,
    pump::{self, Detach},
    replay::{ReplayFrom, parse_event_id, priming_id},
    reply::{self, HttpResponse},
    rules,
    session::{HttpSession, STANDALONE},
    table::{Owner, PeerAddr, SessionTable},
};
use crate::{
    Era, Error, ErrorKind, Json, Method, Object, Partition, Principal, ProtocolVersion, Response,
    Seam, SessionKey,
    handshake::Opening,
    jsonrpc::{self, Id, Malformed, Message},
    transport::{
        call::{Calls, Cancelled},
        caller::Caller,
        exchange::Step,
        outlet,
        own::{self, is_own},
        params,
        session::{Limits, Session},
        standalone,
    },
};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One request of a client of the session era.
pub(super) struct Sessions<'a, S> {
    pub(super) shared: &'a Shared<S>,
    pub(super) parts: &'a Parts,
}

/// A call of a session.
struct SessionCall<'a> {
    session: &'a Arc<HttpSession>,
    caller: &'a Caller,
    accepted: Accepted,
    id: Id,
    method: Method,
}

/// Whether a request names a session.
pub(super) fn names_session(headers: &HeaderMap) -> bool {
    headers.contains_key(&SESSION_ID)
}

impl<S: Seam> Sessions<'_, S> {
    /// Answers a POST.
    pub(super) async fn post(
        &self,
        accepted: Accepted,
        body: &Bytes,
        message: Result<Message, Malformed>,
    ) -> HttpResponse {
        if let Ok(Message::Request(id, Method::INITIALIZE, params)) = &message {
            return self.initialize(accepted, id, params.as_ref()).await;
        }
        let session = match self.find() {
            Ok(session) => session,
            Err(refusal) => return *refusal,
        };
        let caller = Caller::of(&self.parts.extensions);
        session.session.heard_from(caller.clone());
        if body.trim_ascii_start().starts_with(b"[") {
            return self.batch(&session, accepted, body).await;
        }
        match message {
            Ok(Message::Request(id, method, params)) => {
                let call = SessionCall {
                    session: &session,
                    caller: &caller,
                    accepted,
                    id,
                    method,
                };
                self.call(call, params).await
            }
            Ok(other) => {
                self.one_way(&session, other).await;
                reply::status(StatusCode::ACCEPTED)
            }
            Err(Malformed { id, error, .. }) => {
                let error = error.with_status(StatusCode::BAD_REQUEST);
                reply::failure(id.as_ref(), &error, Era::Session)
            }
        }
    }

    /// Opens the standalone stream, or continues a stream that broke.
    pub(super) fn get(&self) -> HttpResponse {
        let session = match self.find() {
            Ok(session) => session,
            Err(refusal) => return *refusal,
        };
        if let Err(error) = self.shared.lifecycle.check() {
            return reply::failure(None, &error, Era::Session);
        }
        let wanted = match self.parts.headers.get(&LAST_EVENT_ID) {
            None => None,
            Some(id) => match id.to_str().ok().and_then(parse_event_id) {
                Some(wanted) => Some(wanted),
                None => return bad_request("Last-Event-ID was not issued here"),
            },
        };
        let (stream, from) = wanted.unwrap_or((STANDALONE, ReplayFrom::Unread));
        if stream == STANDALONE {
            let outlet = session.standalone();
            standalone::listen(&self.shared.service, &session.session, outlet);
        }
        let Some(buffer) = session.stream(stream) else {
            return bad_request("the stream of Last-Event-ID is no longer kept");
        };
        let body = buffer.read(from, None, &self.shared.pulse);
        reply::events(ResponseBody::stream(body))
    }

    /// Ends a session at the client's wish.
    pub(super) fn delete(&self) -> HttpResponse {
        match self.find() {
            Ok(_) => {
                if let Ok(Some(id)) = session_id(&self.parts.headers) {
                    self.shared.table.remove(id);
                }
                reply::status(StatusCode::NO_CONTENT)
            }
            Err(refusal) => *refusal,
        }
    }

    fn owner(&self) -> Option<Partition> {
        self.parts
            .extensions
            .get::<Principal>()
            .map(Principal::partition)
            .or_else(|| self.shared.config.single_user.then(local))
    }

    fn find(&self) -> Result<Arc<HttpSession>, Box<HttpResponse>> {
        let id = match session_id(&self.parts.headers) {
            Ok(Some(id)) => id,
            Ok(None) => return Err(Box::new(bad_request(self.without_session()))),
            Err(message) => return Err(Box::new(bad_request(message))),
        };
        let Some(session) = self.shared.table.find(id, self.owner()) else {
            let error = Error::new(
                ErrorKind::SessionNotFound,
                "there is no such session; open another with initialize",
            );
            let refusal = reply::refusal(StatusCode::NOT_FOUND, &error, Era::Session);
            return Err(Box::new(refusal));
        };
        match rules::version_header(&self.parts.headers) {
            // Some clients send the newest revision that they know: the one negotiated is served (revision 2025-11-25,
            // Streamable HTTP, "Protocol Version Header", demands 400 for unsupported ones only).
            Ok(named) if named.is_none_or(|named| ProtocolVersion::known(named).is_some()) => {
                Ok(session)
            }
            Ok(_) => Err(Box::new(bad_request(
                "MCP-Protocol-Version is not a revision that is spoken here",
            ))),
            Err(_) => Err(Box::new(bad_request(
                "MCP-Protocol-Version is there twice or not plain text",
            ))),
        }
    }

    /// The refusal of a request that names no session. A GET is how the older transport is opened.
    fn without_session(&self) -> &'static str {
        match self.parts.method {
            http::Method::GET => {
                "Mcp-Session-Id is missing; the HTTP+SSE transport of revision 2024-11-05 is not served here: use \
                 Streamable HTTP, which opens a session by POST of initialize to this address"
            }
            _ => "Mcp-Session-Id is missing; open a session with initialize first",
        }
    }

    async fn initialize(
        &self,
        accepted: Accepted,
        id: &Id,
        params: Option<&Object>,
    ) -> HttpResponse {
        let opened = match self.named_session_is_open() {
            true => Err(Error::new(
                ErrorKind::InvalidRequest,
                "the session is initialized already; open another without Mcp-Session-Id",
            )
            .with_status(StatusCode::BAD_REQUEST)),
            false => self.open(params).await,
        };
        match opened {
            Ok((session_id, result)) => {
                let answer = Ok(Response::new(result));
                let mut response = reply::answer(accepted, id, answer, Era::Session);
                if let Ok(value) = HeaderValue::try_from(session_id) {
                    response.headers_mut().insert(SESSION_ID, value);
                }
                response
            }
            Err(error) => reply::failure(Some(id), &error, Era::Session),
        }
    }

    /// Whether the request names a session of its caller. A client that still sends the id of a session which has ended
    /// gets another.
    fn named_session_is_open(&self) -> bool {
        let id = session_id(&self.parts.headers).ok().flatten();
        id.is_some_and(|id| self.shared.table.find(id, self.owner()).is_some())
    }

    async fn open(&self, params: Option<&Object>) -> Result<(String, Json), Error> {
        let Shared {
            service,
            config,
            lifecycle,
            ..
        } = self.shared;
        let _in_flight = lifecycle.begin()?;
        let opening = Opening::read(params)?;
        let wire_id = SessionTable::new_id();
        // The key is not the id of the wire: whoever sees a key in a log cannot use the session.
        let key = SessionKey::new(&SessionTable::new_id());
        let extensions = &self.parts.extensions;
        let principal = match extensions.get::<Principal>() {
            Some(principal) => principal.clone(),
            None if config.single_user => Principal::local(),
            None => Principal::session(&key),
        };
        let owner = Owner::new(&principal, extensions.get::<PeerAddr>().copied());
        let limits = Limits {
            calls: Calls::new(config.bounds.calls_per_session.get()),
            lifecycle: lifecycle.clone(),
            subscriptions: config.bounds.subscriptions.get(),
        };
        let session = Session::new(key, principal, opening, limits);
        session.heard_from(Caller::of(extensions));
        let result = session.open(service).await?;
        let session = HttpSession::new(session, &self.shared.limits);
        self.shared
            .table
            .insert(&wire_id, owner, session, lifecycle)?;
        Ok((wire_id, result))
    }

    async fn call(&self, call: SessionCall<'_>, params: Option<Object>) -> HttpResponse {
        if !is_own(&call.method) {
            return self.exchange(call, params).await;
        }
        let session = &call.session.session;
        let mut cancellation = match session.calls.begin(&call.id) {
            Ok(cancellation) => cancellation,
            Err(error) => return reply::failure(Some(&call.id), &error, Era::Session),
        };
        let standalone = call.session.standalone();
        let answer = own::answer(
            &self.shared.service,
            session,
            &call.method,
            params,
            standalone,
        );
        match cancellation.answer(answer).await {
            Some(answer) => reply::answer(call.accepted, &call.id, answer, Era::Session),
            None => cancelled(call.accepted),
        }
    }

    async fn exchange(&self, asked: SessionCall<'_>, params: Option<Object>) -> HttpResponse {
        let SessionCall {
            session,
            caller,
            accepted,
            id,
            method,
        } = asked;
        let own = &session.session;
        let call = own.call_by(caller, &self.shared.service, &id, method, params);
        let mut call = match call {
            Ok(call) => Detach::new(call),
            Err(error) => return reply::failure(Some(&id), &error, Era::Session),
        };
        let first = match self.shared.pulse.within(None, call.next()).await {
            Ok(Ok(Step::Answer(answer))) => {
                return reply::answer(accepted, &id, answer, Era::Session);
            }
            Ok(Err(Cancelled)) => return cancelled(accepted),
            Ok(Ok(Step::Outgoing(outgoing))) => Some(outgoing),
            Err(_) => None,
        };
        let Some(call) = call.take() else {
            return cancelled(accepted);
        };
        let lifecycle = &self.shared.lifecycle;
        if !accepted.events {
            // The client takes no events: what the call sends goes to the standalone stream.
            let (session, log) = (Arc::clone(own), Arc::clone(session.standalone()));
            let run = async move { outlet::run(&session, call, &id, first, &*log).await };
            return match lifecycle.spawn_call(run).await {
                Ok(Ok(answer)) => reply::json(StatusCode::OK, ResponseBody::whole(answer)),
                Ok(Err(Cancelled)) | Err(_) => cancelled(accepted),
            };
        }
        let stream = session.open_stream(0);
        let first_id = priming(own, stream.id());
        let body = stream.read(ReplayFrom::Start, first_id, &self.shared.pulse);
        lifecycle.spawn_call(pump::run(Arc::clone(own), call, id, first, stream));
        reply::events(ResponseBody::stream(body))
    }

    /// Answers a batch with a stream of all its answers, or with an array of them (revision 2025-03-26; later ones have
    /// no batches).
    async fn batch(
        &self,
        session: &Arc<HttpSession>,
        accepted: Accepted,
        body: &Bytes,
    ) -> HttpResponse {
        let messages = match self.read_batch(session, body) {
            Ok(messages) => messages,
            Err(refusal) => return *refusal,
        };
        let lifecycle = &self.shared.lifecycle;
        let (service, session) = (self.shared.service.clone(), Arc::clone(session));
        let wants_answer =
            |message: &Result<_, _>| matches!(message, Ok(Message::Request(..)) | Err(_));
        let answers = messages.iter().filter(|own| wants_answer(own)).count();
        if answers == 0 {
            lifecycle.spawn(async move {
                pump::one_way_all(&service, &session.session, messages).await;
            });
            return reply::status(StatusCode::ACCEPTED);
        }
        if !accepted.events {
            let run = async move { pump::batch_whole(&service, &session, messages).await };
            return match lifecycle.spawn_call(run).await {
                Ok(text) => reply::json(StatusCode::OK, ResponseBody::whole(text)),
                Err(_) => cancelled(accepted),
            };
        }
        let stream = session.open_stream(answers);
        let body = stream.read(ReplayFrom::Start, None, &self.shared.pulse);
        lifecycle.spawn_call(async move {
            pump::batch(&service, &session, messages, &stream).await;
        });
        reply::events(ResponseBody::stream(body))
    }

    fn read_batch(
        &self,
        session: &HttpSession,
        body: &Bytes,
    ) -> Result<Vec<Result<Message, Malformed>>, Box<HttpResponse>> {
        if session.session.version != ProtocolVersion::V_2025_03_26 {
            return Err(Box::new(bad_request(
                "this session's revision has no batches; send one message",
            )));
        }
        if let Err(error) = self.shared.lifecycle.check() {
            return Err(Box::new(reply::failure(None, &error, Era::Session)));
        }
        let messages = Message::parse_batch(body).map_err(|malformed| {
            let error = malformed.error.with_status(StatusCode::BAD_REQUEST);
            Box::new(reply::failure(None, &error, Era::Session))
        })?;
        if messages.len() > self.shared.config.bounds.batch.get() {
            return Err(Box::new(bad_request(
                "the batch has too many messages; send fewer at once",
            )));
        }
        let tidy = |message: Result<_, _>| message.map(params::without_nulls);
        Ok(messages.into_iter().map(tidy).collect())
    }

    async fn one_way(&self, session: &HttpSession, message: Message) {
        if let Some(notification) = session.session.receive(message) {
            pump::notify(&self.shared.service, notification).await;
        }
    }
}

/// A cancelled request gets no answer: its stream ends without one.
fn cancelled(accepted: Accepted) -> HttpResponse {
    match accepted.events {
        true => reply::events(ResponseBody::stream(futures_util::stream::empty())),
        false => reply::status(StatusCode::NO_CONTENT),
    }
}

/// An event without a message, from which a client whose connection breaks at once can continue
/// (revision 2025-11-25, "Sending Messages to the Server", 6).
fn priming(session: &Session, stream: u64) -> Option<Bytes> {
    (session.version >= ProtocolVersion::V_2025_11_25).then(|| {
        let id = priming_id(stream);
        Bytes::from(format!("id: {id}\nretry: 3000\ndata: \n\n"))
    })
}

fn session_id(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    match headers.get(&SESSION_ID) {
        None => Ok(None),
        Some(id) => id
            .to_str()
            .map(Some)
            .map_err(|_| "Mcp-Session-Id is not plain text"),
    }
}

fn local() -> Partition {
    Principal::local().partition()
}

fn bad_request(message: &'static str) -> HttpResponse {
    let error = Error::new(ErrorKind::InvalidRequest, message);
    let text = jsonrpc::write_error(None, &error.to_rpc(Era::Session));
    reply::json(StatusCode::BAD_REQUEST, ResponseBody::whole(text))
}
