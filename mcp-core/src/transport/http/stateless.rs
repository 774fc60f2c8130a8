//! Revision 2026-07-28: each request stands for itself.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, request::Parts};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Shared,
    accept::Accepted,
    body::ResponseBody,
    pulse::{Lapse, Pulse},
    reply::{self, HttpResponse},
    rules,
    shares::Share,
    table::{Owner, PeerAddr},
};
use crate::{
    Era, Error, ErrorKind, Method, Object, Principal, Request, Response, Seam,
    jsonrpc::{Malformed, Message},
    notifier::Outgoing,
    sse,
    transport::{
        caller::Caller,
        exchange::{Exchange, Step},
        lifecycle::{self, InFlight, Lifecycle, Phase},
        outlet,
        stateless::{self, Origin},
        text,
    },
};

/// How many events may wait for the connection.
const EVENTS: usize = 4;

/// Answers a POST.
pub(super) async fn post<S: Seam>(
    shared: &Shared<S>,
    parts: &Parts,
    accepted: Accepted,
    message: Result<Message, Malformed>,
) -> HttpResponse {
    let (id, method, params) = match message {
        Ok(Message::Request(id, method, params)) => (id, method, params),
        // The revision has no notification from client to server over HTTP: there is nothing to do.
        Ok(Message::Notification(..)) => return reply::status(StatusCode::ACCEPTED),
        Ok(Message::Response(..) | Message::Error(..)) => {
            let error = Error::new(
                ErrorKind::InvalidRequest,
                "a client of this revision sends no responses; answer in `inputResponses`",
            );
            return reply::refusal(StatusCode::BAD_REQUEST, &error, Era::Stateless);
        }
        Err(malformed) => {
            let error = malformed.error.with_status(StatusCode::BAD_REQUEST);
            return reply::failure(malformed.id.as_ref(), &error, Era::Stateless);
        }
    };
    let admitted = admit(shared, parts, accepted, &method, params);
    let (request, held) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            let status = match error.status(Era::Stateless) {
                StatusCode::OK => StatusCode::BAD_REQUEST,
                status => status,
            };
            return reply::failure(Some(&id), &error.with_status(status), Era::Stateless);
        }
    };
    let origin = Origin::new(id, &method);
    let running = Running {
        exchange: Exchange::start_within(shared.lifecycle.stall(), &shared.service, request, false),
        origin,
        pulse: shared.pulse.clone(),
        lifecycle: shared.lifecycle.clone(),
        _held: held,
    };
    match accepted.events {
        true => running.into_response(accepted).await,
        false => running.into_json(accepted).await,
    }
}

/// What a call holds until it has ended.
enum Held {
    InFlight { _guard: InFlight },
    Listener { _share: Share<Owner> },
}

/// Checks a request by the rules of the revision. A subscription does not count as a call in flight: it ends when the
/// transport begins to drain.
fn admit<S: Seam>(
    shared: &Shared<S>,
    parts: &Parts,
    accepted: Accepted,
    method: &Method,
    params: Option<Object>,
) -> Result<(Request, Held), Error> {
    let headers: &HeaderMap = &parts.headers;
    let client = rules::read_client(headers, params.as_ref())?;
    stateless::check_method(method)?;
    rules::check_mirrors(headers, method, params.as_ref())?;
    let mirrored = rules::param_headers(headers)?;
    let caller = Caller::of(&parts.extensions);
    let principal = match (&caller.principal, shared.config.single_user) {
        (Some(principal), _) => principal.clone(),
        (None, true) => Principal::local(),
        (None, false) => Principal::anonymous(),
    };
    let held = match *method {
        Method::SUBSCRIPTIONS_LISTEN if !accepted.events => {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "subscriptions/listen is answered with events; accept text/event-stream",
            )
            .with_status(StatusCode::NOT_ACCEPTABLE));
        }
        Method::SUBSCRIPTIONS_LISTEN => {
            shared.lifecycle.check()?;
            let owner = Owner::new(&principal, parts.extensions.get::<PeerAddr>().copied());
            let share = shared.listeners.take(owner);
            let share = share.ok_or_else(|| {
                Error::new(
                    ErrorKind::Overloaded,
                    "too many subscriptions are open; end one (`listeners_per_principal`)",
                )
            })?;
            Held::Listener { _share: share }
        }
        _ => Held::InFlight {
            _guard: shared.lifecycle.begin()?,
        },
    };
    let request = client.request(method.clone(), params, principal)?;
    Ok((caller.state(request).with_mirrored(mirrored), held))
}

/// A call on its way.
struct Running {
    exchange: Exchange,
    origin: Origin,
    pulse: Pulse,
    lifecycle: Lifecycle,
    _held: Held,
}

impl Running {
    /// Returns the next step, and an end where the transport ends; `None` after a keep-alive time without one.
    async fn next(&mut self) -> Option<Step> {
        let until = match self.origin.subscription {
            true => Phase::Draining,
            false => Phase::Closed,
        };
        match self.pulse.within(Some(until), self.exchange.next()).await {
            Ok(step) => Some(step),
            Err(Lapse::Quiet) => None,
            Err(Lapse::Ended) if self.origin.subscription => {
                Some(Step::Answer(Ok(Response::empty())))
            }
            Err(Lapse::Ended) => Some(Step::Answer(Err(lifecycle::closed()))),
        }
    }

    /// Answers with one JSON text where nothing comes before the answer, else with events.
    async fn into_response(mut self, accepted: Accepted) -> HttpResponse {
        let first = match self.next().await {
            Some(Step::Answer(answer)) => {
                let answer = self.origin.answer(answer);
                return reply::answer(accepted, &self.origin.id, answer, Era::Stateless);
            }
            Some(Step::Outgoing(outgoing)) => Some(outgoing),
            None => None,
        };
        reply::events(ResponseBody::stream(self.into_events(first)))
    }

    /// Answers with one JSON text. What the call sends before is lost: the client takes no events.
    async fn into_json(mut self, accepted: Accepted) -> HttpResponse {
        loop {
            if let Some(Step::Answer(answer)) = self.next().await {
                let answer = self.origin.answer(answer);
                return reply::answer(accepted, &self.origin.id, answer, Era::Stateless);
            }
        }
    }
}

impl Running {
    /// Turns the call into events. It runs in a task of its own, since a connection whose client does not read polls
    /// nothing: who does not read for [`Timing::stall`](crate::Timing::stall) loses the call. A client that disconnects
    /// cancels it.
    fn into_events(
        self,
        first: Option<Outgoing>,
    ) -> impl futures_core::Stream<Item = Bytes> + Send + use<> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let (end, ended) = oneshot::channel();
        let lifecycle = self.lifecycle.clone();
        lifecycle.spawn_call(self.write(first, sender, end));
        stream::unfold(
            (receiver, Some(ended)),
            async |(mut receiver, mut ended)| {
                let bytes = match receiver.recv().await {
                    Some(bytes) => bytes,
                    None => ended.take()?.await.ok()?,
                };
                Some((bytes, (receiver, ended)))
            },
        )
    }

    /// Writes events until the answer; `end` takes what there is no room for.
    async fn write(
        mut self,
        mut first: Option<Outgoing>,
        events: mpsc::Sender<Bytes>,
        end: oneshot::Sender<Bytes>,
    ) {
        let stall = self.lifecycle.stall();
        loop {
            let step = match first.take() {
                Some(outgoing) => Some(Step::Outgoing(outgoing)),
                None => tokio::select! {
                    biased;
                    () = events.closed() => return,
                    step = self.next() => step,
                },
            };
            let bytes = match step {
                None => Bytes::from_static(b": keep-alive\n\n"),
                Some(Step::Outgoing(Outgoing::Notification(notification))) => {
                    let message = self.origin.notification(notification).to_message();
                    sse::write_event(None, &[message.as_bytes()])
                }
                // A stateless call has no asker, so there is no request to its client.
                Some(Step::Outgoing(Outgoing::ServerRequest(_))) => continue,
                // Fails where the client has disconnected, which wants no answer.
                Some(Step::Answer(answer)) => return drop(end.send(self.event_of(answer))),
            };
            match timeout(stall, events.send(bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    let answer = self.event_of(Err(outlet::stalled(stall)));
                    return drop(end.send(answer));
                }
            }
        }
    }

    fn event_of(&mut self, answer: Result<Response, Error>) -> Bytes {
        let answer = self.origin.answer(answer);
        let text = text::answer(&self.origin.id, answer, Era::Stateless);
        sse::write_event(None, &[&text])
    }
}
