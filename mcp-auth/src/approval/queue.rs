use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use data_encoding::HEXLOWER;
use mcp_core::{
    Json, Principal, Request,
    clock::{SystemWallClock, WallClock},
    store::{
        Change, Expected, Namespace, StateStore, StoreError, StoreErrorKind, StoreKey, StorePrefix,
        Swap, Version,
    },
};
use serde::{Deserialize, Serialize};

use super::rule::digest;
use crate::owner::Owner;

/// How long a call waits for an administrator, and how long an approval is good.
const LIFE: Duration = Duration::from_secs(600);

/// How many calls of one principal wait at once.
const MOST: usize = 16;

/// How many records are read at once.
const PAGE: usize = 200;

/// The largest arguments that are shown to an administrator, in bytes. Larger calls are not queued.
const MAX_ARGUMENTS: usize = 64 << 10;

/// Calls that wait for an administrator, in a store that replicas share. Clones share it.
///
/// At most 16 calls of one principal wait at once, each for ten minutes.
#[derive(Clone)]
pub struct ApprovalQueue {
    store: Arc<dyn StateStore>,
    wall: Arc<dyn WallClock>,
}

/// A call that waits, as an administrator sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pending {
    /// Names the call for [`ApprovalQueue::approve`] and [`ApprovalQueue::refuse`].
    pub id: String,
    /// Who wants to call.
    pub principal: Principal,
    /// The tool.
    pub tool: String,
    /// The upstream, where the call is on its way to one.
    pub upstream: Option<String>,
    /// The arguments, as they were sent.
    pub arguments: Json,
    /// Since when it waits.
    pub since: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Waiting,
    Approved,
    Refused,
}

#[derive(Serialize, Deserialize)]
struct Record {
    owner: Owner,
    tool: String,
    upstream: Option<String>,
    arguments: String,
    since: u64,
    state: State,
}

/// What becomes of a call at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was approved, and this is its one use.
    Goes,
    /// An administrator has refused it.
    Refused,
    /// It waits.
    Waits,
    /// Too many calls of the principal wait, or it is too large to be shown.
    NoRoom,
}

fn invalid(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, message)
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn text(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

impl ApprovalQueue {
    /// Keeps waiting calls in a store.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self {
            store,
            wall: Arc::new(SystemWallClock::new()),
        }
    }

    /// Uses another clock for dates.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    fn namespace() -> Result<Namespace, StoreError> {
        Namespace::new("approval").map_err(|_| invalid("the namespace of approvals"))
    }

    fn key(owner: &str, id: &str) -> Result<StoreKey, StoreError> {
        StoreKey::new(&Self::namespace()?, [owner, id])
            .map_err(|_| invalid("the id of a waiting call is too long"))
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<(Record, Version)>, StoreError> {
        let Some(entry) = self.store.get(key).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&entry.value).map_err(|error| {
            StoreError::new(StoreErrorKind::Corrupt, "a waiting call is malformed")
                .with_source(error)
        })?;
        Ok(Some((record, entry.version)))
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expected: Expected,
        record: Option<&Record>,
    ) -> Result<bool, StoreError> {
        let change = match record {
            None => Change::Delete,
            Some(record) => {
                let value = serde_json::to_vec(record).map_err(|error| {
                    invalid("a waiting call cannot be written").with_source(error)
                })?;
                Change::Put {
                    value: value.into(),
                    ttl: Some(LIFE),
                }
            }
        };
        let swap = self.store.compare_and_swap(key, expected, change).await?;
        Ok(!matches!(swap, Swap::Conflict(_)))
    }

    async fn all(&self, owner: Option<&str>) -> Result<Vec<(StoreKey, Record)>, StoreError> {
        let parts: Vec<_> = owner.into_iter().collect();
        let prefix = StorePrefix::new(&Self::namespace()?, parts.as_slice());
        let prefix = prefix.map_err(|_| invalid("the place of waiting calls"))?;
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.store.scan(&prefix, cursor, PAGE).await?;
            for (key, entry) in page.entries {
                if let Ok(record) = serde_json::from_slice(&entry.value) {
                    all.push((key, record));
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Takes a call's turn: puts it into the queue, or uses up what was decided.
    pub(super) async fn turn(&self, request: &Request) -> Result<Turn, StoreError> {
        let owner = request.principal().partition().to_string();
        let key = Self::key(&owner, &text(&digest(request)))?;
        if let Some((record, version)) = self.read(&key).await? {
            let expected = Expected::Version(version);
            return Ok(match record.state {
                State::Waiting => Turn::Waits,
                // Of two equal calls at once one has the approval.
                State::Approved => match self.swap(&key, expected, None).await? {
                    true => Turn::Goes,
                    false => Turn::Waits,
                },
                State::Refused => {
                    self.swap(&key, expected, None).await?;
                    Turn::Refused
                }
            });
        }
        let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
        let Some(who) = Owner::of(request.principal()) else {
            return Ok(Turn::NoRoom);
        };
        if arguments.len() > MAX_ARGUMENTS || self.all(Some(&owner)).await?.len() >= MOST {
            return Ok(Turn::NoRoom);
        }
        let record = Record {
            owner: who,
            tool: request.tool().unwrap_or_default().to_owned(),
            upstream: request.upstream().map(|own| own.as_str().to_owned()),
            arguments: arguments.as_str().to_owned(),
            since: seconds(self.wall.now()),
            state: State::Waiting,
        };
        self.swap(&key, Expected::Absent, Some(&record)).await?;
        Ok(Turn::Waits)
    }

    /// Returns the calls that wait, the oldest first.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        let all = self.all(None).await?;
        let waiting = all
            .into_iter()
            .filter(|(_, record)| record.state == State::Waiting);
        let mut waiting: Vec<_> = waiting
            .map(|(key, record)| Pending {
                id: key.parts().join("/"),
                principal: record.owner.principal(),
                tool: record.tool,
                upstream: record.upstream,
                arguments: Json::parse(record.arguments).unwrap_or(Json::NULL),
                since: SystemTime::UNIX_EPOCH + Duration::from_secs(record.since),
            })
            .collect();
        waiting.sort_by_key(|own| own.since);
        Ok(waiting)
    }

    /// Approves a waiting call: the same call, once, within ten minutes. Returns whether it was waiting.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn approve(&self, id: &str) -> Result<bool, StoreError> {
        self.decide(id, State::Approved).await
    }

    /// Refuses a waiting call: the next attempt gets an error that says so. Returns whether it was waiting.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn refuse(&self, id: &str) -> Result<bool, StoreError> {
        self.decide(id, State::Refused).await
    }

    async fn decide(&self, id: &str, state: State) -> Result<bool, StoreError> {
        let Some((owner, call)) = id.split_once('/') else {
            return Ok(false);
        };
        let key = Self::key(owner, call)?;
        let Some((mut record, version)) = self.read(&key).await? else {
            return Ok(false);
        };
        if record.state != State::Waiting {
            return Ok(false);
        }
        record.state = state;
        let expected = Expected::Version(version);
        self.swap(&key, expected, Some(&record)).await
    }

    /// Marks something as used; tells if it was not before.
    pub(super) async fn use_once(
        store: &Arc<dyn StateStore>,
        owner: &str,
        nonce: &str,
    ) -> Result<bool, StoreError> {
        let namespace = Namespace::new("approval-used")
            .map_err(|_| invalid("the namespace of used approvals"))?;
        let key = StoreKey::new(&namespace, [owner, nonce])
            .map_err(|_| invalid("the id of an approval is too long"))?;
        let change = Change::Put {
            value: bytes::Bytes::new(),
            ttl: Some(LIFE + LIFE),
        };
        let swap = store
            .compare_and_swap(&key, Expected::Absent, change)
            .await?;
        Ok(matches!(swap, Swap::Written(_)))
    }
}

/// How long an approval is good, in seconds.
pub(super) const fn life() -> u64 {
    LIFE.as_secs()
}

impl fmt::Debug for ApprovalQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApprovalQueue").finish_non_exhaustive()
    }
}
