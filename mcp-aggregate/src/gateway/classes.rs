//! Listings of clients with the same capabilities.
//!
//! A server may offer more to clients that can sample or elicit. Clients are therefore put into classes, and the first
//! client of a class reads the lists for all: a second one costs no session and no process until it calls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcp_core::{Error, Json, Partition, Request};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    catalogue::Listing,
    digest::{Digest, Digester},
    node::Lists,
};

/// How many classes one upstream has. The oldest makes room: its clients read their lists again.
const MOST: usize = 64;

/// How long after a failed reading the next client of the class tries again.
const RETRY: Duration = Duration::from_secs(15);

/// Clients that are offered the same by an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClassKey {
    capabilities: Digest,
    owner: Option<Partition>,
}

impl ClassKey {
    /// Returns the class of a request's client; `None` for clients that are offered what the gateway itself is.
    pub(crate) fn of(lists: Lists, request: &Request) -> Option<Self> {
        let owner = match lists {
            Lists::Everyone => return None,
            Lists::Capabilities if is_bare(request.capabilities().as_json()) => return None,
            Lists::Capabilities => None,
            Lists::Principal => Some(request.principal().partition()),
        };
        let mut digester = Digester::default();
        digester.put_json(request.capabilities().as_json());
        Some(Self {
            capabilities: digester.finish(),
            owner,
        })
    }
}

fn is_bare(capabilities: &Json) -> bool {
    let text = capabilities.as_bytes();
    text.iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .count()
        == 2
}

/// The classes of one upstream's clients.
#[derive(Debug, Default)]
pub(crate) struct Classes(Mutex<HashMap<ClassKey, Class>>);

/// What clients of a class are offered, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    started: Instant,
    outcome: watch::Receiver<Outcome>,
}

/// What came of reading the lists of a class.
#[derive(Clone, Debug, Default)]
pub(crate) enum Outcome {
    /// They are being read.
    #[default]
    Reading,
    Listed(Arc<Listing>),
    Failed,
    /// The upstream wants its user's authorization, which may be given at any moment.
    Unauthorized(Error),
}

/// Where the outcome of reading a class is put.
pub(crate) type Reading = watch::Sender<Outcome>;

impl Classes {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClassKey, Class>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a class, and where to put its listing if the caller has to read it.
    pub(crate) fn enter(&self, key: ClassKey) -> (Class, Option<Reading>) {
        let mut classes = self.lock();
        if let Some(known) = classes.get(&key)
            && !known.may_be_tried_again()
        {
            return (known.clone(), None);
        }
        if classes.len() >= MOST && !classes.contains_key(&key) {
            let oldest = classes.iter().min_by_key(|(_, class)| class.started);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                classes.remove(&oldest);
            }
        }
        let (reading, outcome) = watch::channel(Outcome::Reading);
        let class = Class {
            started: Instant::now(),
            outcome,
        };
        classes.insert(key, class.clone());
        (class, Some(reading))
    }

    /// Returns which authorization an upstream wants before it lists for a class.
    pub(crate) fn refusal(&self, key: ClassKey) -> Option<Error> {
        let class = self.lock().get(&key).cloned()?;
        match &*class.outcome.borrow() {
            Outcome::Unauthorized(error) => Some(error.clone()),
            Outcome::Reading | Outcome::Listed(_) | Outcome::Failed => None,
        }
    }

    /// Forgets every listing, since the upstream announced a change: each is read again when it is next wanted.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}

impl Class {
    fn may_be_tried_again(&self) -> bool {
        match &*self.outcome.borrow() {
            Outcome::Failed => self.started.elapsed() > RETRY,
            Outcome::Unauthorized(_) => true,
            // The reader is gone without a word: its client's session may have ended.
            Outcome::Reading => self.outcome.has_changed().is_err(),
            Outcome::Listed(_) => false,
        }
    }

    fn listing(&self) -> Option<Arc<Listing>> {
        match &*self.outcome.borrow() {
            Outcome::Listed(listing) => Some(Arc::clone(listing)),
            Outcome::Reading | Outcome::Failed | Outcome::Unauthorized(_) => None,
        }
    }

    /// Waits for the listing until so long after the first client of the class asked for it.
    pub(crate) async fn listed(&mut self, patience: Duration) -> Option<Arc<Listing>> {
        let left = patience.saturating_sub(self.started.elapsed());
        let outcome = &mut self.outcome;
        let read = outcome.wait_for(|outcome| !matches!(outcome, Outcome::Reading));
        // Nothing to do about either failure but to answer with what there is.
        drop(timeout(left, read).await);
        self.listing()
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::{ClientCapabilities, ErrorKind, Method, Principal};

    use super::*;

    fn request(capabilities: &str, user: &str) -> Request {
        let capabilities = ClientCapabilities::new(Json::parse(capabilities.to_owned()).unwrap());
        Request::new(Method::TOOLS_LIST, None)
            .unwrap()
            .with_principal(Principal::authenticated("i", user))
            .with_capabilities(capabilities)
    }

    fn key(lists: Lists, capabilities: &str, user: &str) -> Option<ClassKey> {
        ClassKey::of(lists, &request(capabilities, user))
    }

    #[test]
    fn spelling_and_order_of_capabilities_do_not_matter() {
        let one = key(
            Lists::Capabilities,
            r#"{"roots":{},"sampling":{"a":1}}"#,
            "a",
        );
        assert!(one.is_some());
        for same in [
            r#"{"sampling":{"a":1},"roots":{}}"#,
            "{ \"sampling\" : {\"a\": 1},\n\"roots\":{} }",
            r#"{"r\u006fots":{},"sampling":{"a":1}}"#,
        ] {
            assert_eq!(key(Lists::Capabilities, same, "b"), one, "{same}");
        }
        assert_ne!(key(Lists::Capabilities, r#"{"roots":{}}"#, "a"), one);
        assert_eq!(key(Lists::Capabilities, "{ }", "a"), None);
    }

    #[test]
    fn principals_share_only_where_no_credential_goes_to_the_upstream() {
        assert_ne!(
            key(Lists::Principal, "{}", "a"),
            key(Lists::Principal, "{}", "b")
        );
        assert_eq!(key(Lists::Everyone, r#"{"roots":{}}"#, "a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_client_of_a_class_reads_for_all_and_none_waits_twice() {
        let classes = Classes::default();
        let key = key(Lists::Capabilities, r#"{"roots":{}}"#, "a").unwrap();
        let (mut first, reading) = classes.enter(key);
        let reading = reading.expect("the first one reads");
        let (mut second, none) = classes.enter(key);
        assert!(none.is_none());
        let patience = Duration::from_secs(5);
        assert!(first.listed(patience).await.is_none());
        let waited = Instant::now();
        assert!(second.listed(patience).await.is_none());
        assert!(waited.elapsed().is_zero(), "the time of the class is over");
        reading.send_replace(Outcome::Listed(Arc::default()));
        assert!(second.listed(patience).await.is_some());
        classes.clear();
        assert!(classes.enter(key).1.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_that_failed_is_read_again_after_a_while() {
        let classes = Classes::default();
        let key = key(Lists::Capabilities, r#"{"roots":{}}"#, "a").unwrap();
        let (_, reading) = classes.enter(key);
        reading.unwrap().send_replace(Outcome::Failed);
        assert!(classes.enter(key).1.is_none());
        tokio::time::advance(RETRY + Duration::from_secs(1)).await;
        let (_, reading) = classes.enter(key);
        drop(reading.expect("it is read again"));
        assert!(
            classes.enter(key).1.is_some(),
            "and when the reader is gone"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_that_wants_authorization_is_read_again_at_once() {
        let classes = Classes::default();
        let key = key(Lists::Principal, "{}", "a").unwrap();
        let (_, reading) = classes.enter(key);
        let refusal = Error::new(ErrorKind::Unauthenticated, "log in");
        reading
            .unwrap()
            .send_replace(Outcome::Unauthorized(refusal));
        assert_eq!(classes.refusal(key).unwrap().message(), "log in");
        let other = ClassKey::of(Lists::Principal, &request("{}", "b")).unwrap();
        assert!(
            classes.refusal(other).is_none(),
            "it is said to its user alone"
        );
        assert!(classes.enter(key).1.is_some());
    }

    #[test]
    fn a_hostile_client_cannot_make_more_classes_than_the_bound() {
        let classes = Classes::default();
        for number in 0..10 * MOST {
            let capabilities = format!(r#"{{"experimental":{{"x{number}":{{}}}}}}"#);
            classes.enter(key(Lists::Capabilities, &capabilities, "mallory").unwrap());
        }
        assert_eq!(classes.lock().len(), MOST);
    }
}
