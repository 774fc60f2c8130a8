//! Server-initiated requests that wait for a call through which their client can be asked.
//!
//! Servers ask for roots right after `initialized`, while a gateway's own listing is all that is in flight. The client is
//! known by then, and can be asked a moment later: with its first call, or when it listens.

use std::collections::VecDeque;

use crate::{Error, Json, Method, SessionKey, jsonrpc::Id};

use super::{cannot_ask, inbox::Arrival};

/// How many requests of one server are held at once; more are refused at once.
const MOST: usize = 16;

/// A request of a server's that is held. It is refused by [`Inbox::refuse`](super::Inbox::refuse).
#[derive(Debug)]
pub struct Held(u64);

/// What the server is to be sent for a message of its own.
#[derive(Debug)]
#[non_exhaustive]
pub enum Owed {
    /// The answer to its request.
    Answer(Id, Result<Json, Error>),
    /// A refusal, unless the request finds its client within [`HOLD`](super::HOLD).
    Later(Held),
}

/// The requests that are held, oldest first.
#[derive(Default)]
pub(super) struct Holding {
    last: u64,
    requests: VecDeque<HeldRequest>,
}

struct HeldRequest {
    number: u64,
    client: SessionKey,
    id: Id,
    method: Method,
    params: Option<Json>,
}

impl Holding {
    /// Holds a request for a client, if there is room.
    pub(super) fn hold(
        &mut self,
        client: SessionKey,
        id: Id,
        method: Method,
        params: Option<Json>,
    ) -> Owed {
        if self.requests.len() >= MOST || client.is_closed() {
            let refusal = Err(cannot_ask(&method));
            return Owed::Answer(id, refusal);
        }
        self.last += 1;
        self.requests.push_back(HeldRequest {
            number: self.last,
            client,
            id,
            method,
            params,
        });
        Owed::Later(Held(self.last))
    }

    /// Takes out what waits for a client.
    pub(super) fn take_for(&mut self, client: Option<&SessionKey>) -> Vec<Arrival> {
        let Some(client) = client.filter(|_| !self.requests.is_empty()) else {
            return Vec::new();
        };
        let (found, rest) = std::mem::take(&mut self.requests)
            .into_iter()
            .partition::<VecDeque<_>, _>(|held| held.client == *client);
        self.requests = rest;
        let arrivals = found.into_iter().map(|held| Arrival::Request {
            id: held.id,
            method: held.method,
            params: held.params,
            shared: true,
        });
        arrivals.collect()
    }

    /// Takes out a request that has waited long enough, and refuses it.
    pub(super) fn refuse(&mut self, held: &Held) -> Option<(Id, Error)> {
        let of = |request: &HeldRequest| request.number == held.0;
        let place = self.requests.iter().position(of)?;
        let request = self.requests.remove(place)?;
        Some((request.id, cannot_ask(&request.method)))
    }

    /// Forgets a request that the server has withdrawn.
    pub(super) fn withdraw(&mut self, id: &Id) {
        self.requests.retain(|held| held.id != *id);
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use bytes::Bytes;

    use super::*;
    use crate::{Asker, Notifier, Request, SubscriptionFilter, jsonrpc::Message, pipe::Inbox};

    fn asks_for_roots(id: u32) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#);
        Message::parse(&Bytes::from(text)).unwrap()
    }

    fn listing(client: &SessionKey) -> Request {
        let request = Request::new(Method::TOOLS_LIST, None).unwrap();
        request.with_session(client.clone())
    }

    fn askable(client: &SessionKey) -> Request {
        let (notifier, _stream) = Notifier::channel(NonZeroUsize::MIN);
        listing(client).with_asker(Asker::from(notifier))
    }

    fn listener() -> SubscriptionFilter {
        let all = r#"{"notifications":{"toolsListChanged":true}}"#;
        let all = Request::new(
            Method::SUBSCRIPTIONS_LISTEN,
            Some(Json::parse(all).unwrap()),
        );
        SubscriptionFilter::read(&all.unwrap())
    }

    fn is_asked(ticket: &mut crate::pipe::Ticket<'_>) -> bool {
        matches!(ticket.try_arrival(), Some(Arrival::Request { .. }))
    }

    #[test]
    fn a_request_beside_a_listing_of_the_gateways_own_waits_for_a_call_or_listener_of_its_client() {
        for listens in [false, true] {
            let (inbox, client) = (Inbox::new(), SessionKey::new("a"));
            let _listing = inbox.admit(&listing(&client)).unwrap();
            let owed = inbox.deliver(asks_for_roots(1), None);
            let Some(Owed::Later(held)) = owed else {
                panic!("{owed:?}")
            };
            let mut own = inbox.admit(&listing(&client)).unwrap();
            assert!(!is_asked(&mut own), "it cannot be asked through");
            let call = askable(&client);
            let mut asked = match listens {
                true => inbox.attach(&call, listener()).unwrap(),
                false => inbox.admit(&call).unwrap(),
            };
            assert!(is_asked(&mut asked));
            assert!(inbox.refuse(&held).is_none(), "it has found its client");
        }
    }

    #[test]
    fn a_request_of_the_first_moment_is_for_the_client_the_conversation_was_opened_for() {
        let (inbox, client) = (Inbox::new(), SessionKey::new("a"));
        let unknown = inbox.deliver(asks_for_roots(1), None);
        assert!(matches!(unknown, Some(Owed::Answer(..))), "{unknown:?}");
        inbox.set_client(Some(client.clone()));
        let owed = inbox.deliver(asks_for_roots(2), None);
        assert!(matches!(owed, Some(Owed::Later(_))), "{owed:?}");
        let mut asked = inbox.admit(&askable(&client)).unwrap();
        assert!(is_asked(&mut asked) && !is_asked(&mut asked));
    }

    #[test]
    fn a_request_is_never_put_to_another_client_and_is_refused_in_the_end() {
        let (inbox, client) = (Inbox::new(), SessionKey::new("a"));
        let own = inbox.admit(&listing(&client)).unwrap();
        // Whether or not the transport knows the call.
        let held: Vec<_> = [None, Some(own.id())]
            .into_iter()
            .map(|cause| inbox.deliver(asks_for_roots(1), cause))
            .collect();
        let mut foreign = inbox.admit(&askable(&SessionKey::new("b"))).unwrap();
        assert!(!is_asked(&mut foreign));
        for owed in held {
            let Some(Owed::Later(held)) = owed else {
                panic!("{owed:?}")
            };
            assert!(inbox.refuse(&held).is_some());
            assert!(inbox.refuse(&held).is_none(), "refused once");
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_can_be_withdrawn() {
        let (inbox, client) = (Inbox::new(), SessionKey::new("a"));
        inbox.set_client(Some(client.clone()));
        for id in 0..MOST {
            let owed = inbox.deliver(asks_for_roots(u32::try_from(id).unwrap()), None);
            assert!(matches!(owed, Some(Owed::Later(_))), "{owed:?}");
        }
        let owed = inbox.deliver(asks_for_roots(99), None);
        assert!(matches!(owed, Some(Owed::Answer(_, Err(_)))), "{owed:?}");
        let withdrawn =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#;
        let withdrawn = Message::parse(&Bytes::from_static(withdrawn.as_bytes())).unwrap();
        inbox.deliver(withdrawn, None);
        let mut asked = inbox.admit(&askable(&client)).unwrap();
        let mut count = 0;
        while let Some(arrival) = asked.try_arrival() {
            count += usize::from(matches!(arrival, Arrival::Request { .. }));
        }
        assert_eq!(count, MOST - 1);
    }
}
