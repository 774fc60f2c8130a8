//! Revisions with sessions: 2025-03-26, 2025-06-18 and 2025-11-25 over Streamable HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts};

use super::{
    HttpConfig,
    body::ResponseBody,
    log::{From, parse_event_id, priming_id},
    pulse::Pulse,
    pump::{self, Detach},
    registry::Registry,
    reply::{self, HttpResponse},
    rules,
    session::{HttpSession, STANDALONE},
};
use crate::{
    Era, Error, ErrorKind, Json, Method, Object, Partition, Principal, ProtocolVersion, Response,
    Seam, SessionKey,
    jsonrpc::{self, Id, Malformed, Message},
    transport::{
        call::{Calls, Cancelled},
        caller::Caller,
        exchange::Step,
        initialize::Opening,
        session::{Session, is_own},
        standalone,
    },
};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The transport's side of the session era.
pub(super) struct Sessions<'a, S> {
    pub(super) service: &'a S,
    pub(super) config: &'a HttpConfig,
    pub(super) registry: &'a Arc<Registry>,
    pub(super) pulse: &'a Pulse,
}

impl<S: Seam> Sessions<'_, S> {
    /// Answers a POST.
    pub(super) async fn post(
        &self,
        parts: &Parts,
        body: &Bytes,
        message: Result<Message, Malformed>,
    ) -> HttpResponse {
        if let Ok(Message::Request(id, Method::INITIALIZE, params)) = &message {
            return match parts.headers.contains_key(&SESSION_ID) {
                false => self.initialize(parts, id, params.as_ref()).await,
                true => reply::failure(
                    Some(id),
                    &Error::new(
                        ErrorKind::InvalidRequest,
                        "the session is initialized already; open another without Mcp-Session-Id",
                    )
                    .with_status(StatusCode::BAD_REQUEST),
                    Era::Session,
                ),
            };
        }
        let session = match self.find(parts) {
            Ok(session) => session,
            Err(refusal) => return *refusal,
        };
        let caller = Caller::of(&parts.extensions);
        session.session.heard_from(caller.clone());
        if body.trim_ascii_start().starts_with(b"[") {
            return self.batch(&session, body);
        }
        match message {
            Ok(Message::Request(id, method, params)) => {
                self.call(&session, &caller, id, method, params).await
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

    /// Opens the standalone stream, or goes on with a stream that broke.
    pub(super) fn get(&self, parts: &Parts) -> HttpResponse {
        let session = match self.find(parts) {
            Ok(session) => session,
            Err(refusal) => return *refusal,
        };
        let wanted = match parts.headers.get(&LAST_EVENT_ID) {
            None => None,
            Some(id) => match id.to_str().ok().and_then(parse_event_id) {
                Some(wanted) => Some(wanted),
                None => return bad_request("Last-Event-ID was not issued here"),
            },
        };
        let (stream, from) = wanted.unwrap_or((STANDALONE, From::Unread));
        if stream == STANDALONE {
            standalone::listen(self.service, &session.session, session.standalone());
        }
        let Some(log) = session.stream(stream) else {
            return bad_request("the stream of Last-Event-ID is no longer kept");
        };
        let body = log.read(from, None, self.pulse);
        reply::events(ResponseBody::stream(body))
    }

    /// Ends a session at the client's wish.
    pub(super) fn delete(&self, parts: &Parts) -> HttpResponse {
        match self.find(parts) {
            Ok(_) => {
                if let Ok(Some(id)) = session_id(&parts.headers) {
                    self.registry.remove(id);
                }
                reply::status(StatusCode::NO_CONTENT)
            }
            Err(refusal) => *refusal,
        }
    }

    fn find(&self, parts: &Parts) -> Result<Arc<HttpSession>, Box<HttpResponse>> {
        let id = match session_id(&parts.headers) {
            Ok(Some(id)) => id,
            Ok(None) => {
                return Err(Box::new(bad_request(
                    "Mcp-Session-Id is missing; open a session with initialize first",
                )));
            }
            Err(message) => return Err(Box::new(bad_request(message))),
        };
        let owner = parts
            .extensions
            .get::<Principal>()
            .map(Principal::partition)
            .or_else(|| self.config.single_user.then(local));
        let Some(session) = self.registry.find(id, owner) else {
            let error = Error::new(
                ErrorKind::SessionNotFound,
                "there is no such session; open another with initialize",
            );
            let refusal = reply::refusal(StatusCode::NOT_FOUND, &error, Era::Session);
            return Err(Box::new(refusal));
        };
        match rules::version_header(&parts.headers) {
            Ok(None) => Ok(session),
            Ok(Some(version)) if version == session.session.version.as_str() => Ok(session),
            Ok(Some(_)) | Err(_) => Err(Box::new(bad_request(
                "MCP-Protocol-Version is not the revision that was negotiated",
            ))),
        }
    }

    async fn initialize(&self, parts: &Parts, id: &Id, params: Option<&Object>) -> HttpResponse {
        match self.open(parts, params).await {
            Ok((session_id, result)) => {
                let mut response = reply::answer(id, Ok(Response::new(result)), Era::Session);
                if let Ok(value) = HeaderValue::try_from(session_id) {
                    response.headers_mut().insert(SESSION_ID, value);
                }
                response
            }
            Err(error) => reply::failure(Some(id), &error, Era::Session),
        }
    }

    async fn open(&self, parts: &Parts, params: Option<&Object>) -> Result<(String, Json), Error> {
        let opening = Opening::read(params)?;
        let wire_id = Registry::new_id();
        // The key is not the id of the wire: whoever sees a key in a log cannot use the session.
        let key = SessionKey::new(&Registry::new_id());
        let principal = match parts.extensions.get::<Principal>() {
            Some(principal) => principal.clone(),
            None if self.config.single_user => Principal::local(),
            None => Principal::session(&key),
        };
        let session = Session::new(key, principal, opening, Calls::new(usize::MAX));
        session.heard_from(Caller::of(&parts.extensions));
        let result = session.open(self.service).await?;
        self.registry.insert(
            &wire_id,
            HttpSession::new(session),
            self.config.sessions.get(),
            self.config.idle,
        )?;
        Ok((wire_id, result))
    }

    async fn call(
        &self,
        session: &Arc<HttpSession>,
        caller: &Caller,
        id: Id,
        method: Method,
        params: Option<Object>,
    ) -> HttpResponse {
        if !is_own(&method) {
            return self.exchange(session, caller, id, method, params).await;
        }
        let own = &session.session;
        let answer = own
            .answer(self.service, &method, params, session.standalone())
            .await;
        reply::answer(&id, answer, Era::Session)
    }

    async fn exchange(
        &self,
        session: &Arc<HttpSession>,
        caller: &Caller,
        id: Id,
        method: Method,
        params: Option<Object>,
    ) -> HttpResponse {
        let own = &session.session;
        let call = own.call_by(caller, self.service, &id, method, params);
        let mut call = match call {
            Ok(call) => Detach::new(call),
            Err(error) => return reply::failure(Some(&id), &error, Era::Session),
        };
        let first = match self.pulse.within(call.next()).await {
            Some(Ok(Step::Answer(answer))) => return reply::answer(&id, answer, Era::Session),
            // A cancelled request gets no answer: the stream ends without one.
            Some(Err(Cancelled)) => {
                return reply::events(ResponseBody::stream(futures_util::stream::empty()));
            }
            Some(Ok(Step::Outgoing(outgoing))) => Some(outgoing),
            None => None,
        };
        let log = session.open_stream();
        let first_id = priming(&session.session, log.id());
        let body = log.read(From::Start, first_id, self.pulse);
        if let Some(call) = call.take() {
            let session = Arc::clone(&session.session);
            tokio::spawn(pump::run(session, call, id, first, log));
        }
        reply::events(ResponseBody::stream(body))
    }

    /// Answers a batch with a stream of all its answers (revision 2025-03-26; later ones have no batches).
    fn batch(&self, session: &Arc<HttpSession>, body: &Bytes) -> HttpResponse {
        if session.session.version != ProtocolVersion::V_2025_03_26 {
            return bad_request("this session's revision has no batches; send one message");
        }
        let messages = match Message::parse_batch(body) {
            Ok(messages) => messages,
            Err(malformed) => {
                let error = malformed.error.with_status(StatusCode::BAD_REQUEST);
                return reply::failure(None, &error, Era::Session);
            }
        };
        let wants_answer =
            |message: &Result<_, _>| matches!(message, Ok(Message::Request(..)) | Err(_));
        if !messages.iter().any(wants_answer) {
            let (service, session) = (self.service.clone(), Arc::clone(session));
            tokio::spawn(
                async move { pump::one_way_all(&service, &session.session, messages).await },
            );
            return reply::status(StatusCode::ACCEPTED);
        }
        let log = session.open_stream();
        let body = log.read(From::Start, None, self.pulse);
        let (service, session) = (self.service.clone(), Arc::clone(session));
        tokio::spawn(async move { pump::batch(&service, &session, messages, &log).await });
        reply::events(ResponseBody::stream(body))
    }

    async fn one_way(&self, session: &HttpSession, message: Message) {
        if let Some(notification) = session.session.receive(message) {
            pump::notify(self.service, notification).await;
        }
    }
}

/// An event without a message, from which a client whose connection breaks at once can go on
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
