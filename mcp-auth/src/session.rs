//! Sessions of people: bound to a principal, ended by idleness, by age, or by being revoked.
//!
//! A session id is 256 random bits; the store holds its SHA-256 only. Looking a session up with another principal
//! than its owner finds nothing, and is what a stolen id gets.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use mcp_auth::session::Sessions;
//! use mcp_core::{Principal, store::MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sessions = Sessions::new(Arc::new(MemoryStore::default()));
//! let alice = Principal::authenticated("https://as.example", "alice");
//! let id = sessions.open(&alice).await?;
//! assert_eq!(sessions.find(&id).await?, Some(alice.clone()));
//! assert_eq!(sessions.revoke_all(&alice).await?, 1);
//! assert_eq!(sessions.find(&id).await?, None);
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcp_core::{
    Partition, Principal,
    clock::{SystemWallClock, WallClock},
    secret::Secret,
    store::{
        Change, Entry, Expected, Namespace, StateStore, StoreError, StoreErrorKind, StoreKey,
        StorePrefix, Swap,
    },
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::owner::Owner;

/// Sessions in a [`StateStore`]. Clones share them.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<dyn StateStore>,
    wall: Arc<dyn WallClock>,
    idle: Duration,
    absolute: Duration,
    rotate: Duration,
}

/// A session, as its owner may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Names the session for [`Sessions::revoke`]; not the id that opens it.
    pub handle: String,
    /// When it was opened.
    pub opened: SystemTime,
    /// When it was used last, to the minute.
    pub used: SystemTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    owner: Owner,
    opened: u64,
    used: u64,
    rotated: u64,
}

fn secs(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn invalid(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, message)
}

impl Sessions {
    /// Keeps sessions in a store. They end after 30 minutes without use and after 8 hours in any case.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self {
            store,
            wall: Arc::new(SystemWallClock::new()),
            idle: Duration::from_secs(30 * 60),
            absolute: Duration::from_secs(8 * 3600),
            rotate: Duration::from_secs(15 * 60),
        }
    }

    /// Sets after how long without use a session ends, and after how long in any case.
    #[must_use]
    pub fn with_timeouts(mut self, idle: Duration, absolute: Duration) -> Self {
        self.idle = idle;
        self.absolute = absolute;
        self
    }

    /// Sets after how long [`Sessions::renew`] gives a session another id. Default is 15 minutes.
    #[must_use]
    pub fn with_rotation(mut self, after: Duration) -> Self {
        self.rotate = after;
        self
    }

    /// Uses another clock for dates.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    /// Opens a session and returns its id, which no one else may see.
    ///
    /// # Errors
    ///
    /// The principal is anonymous, or the store is unavailable.
    pub async fn open(&self, principal: &Principal) -> Result<Secret, StoreError> {
        let owner = Owner::of(principal)
            .ok_or_else(|| invalid("an anonymous caller cannot have a session"))?;
        let now = secs(self.wall.now());
        let record = Record {
            owner,
            opened: now,
            used: now,
            rotated: now,
        };
        self.write_new(&record).await
    }

    async fn write_new(&self, record: &Record) -> Result<Secret, StoreError> {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let id = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
        let handle = handle(&id);
        let owner = record.owner.principal().partition();
        let change = Change::Put {
            value: write(record)?,
            ttl: self.life(record),
        };
        let key = key(&handle)?;
        self.store
            .compare_and_swap(&key, Expected::Absent, change)
            .await?;
        let index = index(owner, &handle)?;
        self.store
            .put(&index, bytes::Bytes::new(), self.life(record))
            .await?;
        Ok(id)
    }

    /// How long a session has left if no one uses it.
    fn life(&self, record: &Record) -> Option<Duration> {
        let now = secs(self.wall.now());
        let idle = (record.used + self.idle.as_secs()).saturating_sub(now);
        let absolute = (record.opened + self.absolute.as_secs()).saturating_sub(now);
        Some(Duration::from_secs(idle.min(absolute).max(1)))
    }

    fn is_over(&self, record: &Record) -> bool {
        let now = secs(self.wall.now());
        now >= record.used + self.idle.as_secs() || now >= record.opened + self.absolute.as_secs()
    }

    async fn read(&self, handle: &str) -> Result<Option<(Record, Entry)>, StoreError> {
        let Some(entry) = self.store.get(&key(handle)?).await? else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&entry.value).map_err(|error| {
            StoreError::new(StoreErrorKind::Corrupt, "a session is malformed").with_source(error)
        })?;
        Ok((!self.is_over(&record)).then_some((record, entry)))
    }

    /// Finds whose session this is, and takes note that it is used.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn find(&self, id: &Secret) -> Result<Option<Principal>, StoreError> {
        let handle = handle(id);
        let Some((mut record, entry)) = self.read(&handle).await? else {
            return Ok(None);
        };
        let now = secs(self.wall.now());
        // To the minute: not every use is a write.
        if now >= record.used + 60 {
            record.used = now;
            let change = Change::Put {
                value: write(&record)?,
                ttl: self.life(&record),
            };
            let expected = Expected::Version(entry.version);
            // A conflict is another use, or the end of the session: both have been written.
            let swap = self
                .store
                .compare_and_swap(&key(&handle)?, expected, change)
                .await?;
            if matches!(swap, Swap::Conflict(None)) {
                return Ok(None);
            }
            let owner = record.owner.principal().partition();
            let index = index(owner, &handle)?;
            self.store
                .put(&index, bytes::Bytes::new(), self.life(&record))
                .await?;
        }
        Ok(Some(record.owner.principal()))
    }

    /// Finds a session only if it is this principal's.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn belongs(&self, id: &Secret, principal: &Principal) -> Result<bool, StoreError> {
        Ok(self.find(id).await?.as_ref() == Some(principal))
    }

    /// Gives a session another id if the present one has been in use for long; the old one ends at once.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn renew(&self, id: &Secret) -> Result<Option<Secret>, StoreError> {
        let old = handle(id);
        let Some((mut record, entry)) = self.read(&old).await? else {
            return Ok(None);
        };
        let now = secs(self.wall.now());
        if now < record.rotated + self.rotate.as_secs() {
            return Ok(None);
        }
        let expected = Expected::Version(entry.version);
        // Of two that renew at once one gets the new id; the other's old one has ended.
        match self
            .store
            .compare_and_swap(&key(&old)?, expected, Change::Delete)
            .await?
        {
            Swap::Deleted => {}
            _ => return Ok(None),
        }
        let owner = record.owner.principal().partition();
        self.store.delete(&index(owner, &old)?).await?;
        record.rotated = now;
        record.used = now;
        self.write_new(&record).await.map(Some)
    }

    /// Ends a session by its id, and tells if there was one.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn close(&self, id: &Secret) -> Result<bool, StoreError> {
        let handle = handle(id);
        match self.read(&handle).await? {
            Some((record, _)) => self.revoke(&record.owner.principal(), &handle).await,
            None => Ok(false),
        }
    }

    /// Ends a session of a principal by its handle, and tells if it was there and theirs.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn revoke(&self, principal: &Principal, handle: &str) -> Result<bool, StoreError> {
        match self.read(handle).await? {
            Some((record, _)) if record.owner.principal() == *principal => {
                let there = self.store.delete(&key(handle)?).await?;
                self.store
                    .delete(&index(principal.partition(), handle)?)
                    .await?;
                Ok(there)
            }
            _ => Ok(false),
        }
    }

    /// Ends all sessions of a principal, and returns how many there were.
    ///
    /// # Errors
    ///
    /// The store is unavailable. Some may have been ended.
    pub async fn revoke_all(&self, principal: &Principal) -> Result<usize, StoreError> {
        let mut ended = 0;
        for info in self.list(principal).await? {
            ended += usize::from(self.revoke(principal, &info.handle).await?);
        }
        Ok(ended)
    }

    /// Lists the sessions of a principal, the oldest first.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let owner = principal.partition().to_string();
        let prefix = StorePrefix::new(&namespace()?, ["owner", &owner])
            .map_err(|_| invalid("the key of a session is too long"))?;
        let mut all: Vec<SessionInfo> = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.store.scan(&prefix, cursor, 64).await?;
            for (key, _) in page.entries {
                let handle = key.parts().pop().unwrap_or_default();
                let known = all.iter().any(|info| info.handle == handle);
                if let Some((record, _)) = self.read(&handle).await?
                    && !known
                {
                    let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
                    all.push(SessionInfo {
                        handle,
                        opened: at(record.opened),
                        used: at(record.used),
                    });
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        all.sort_by_key(|info| info.opened);
        Ok(all)
    }
}

fn write(record: &Record) -> Result<bytes::Bytes, StoreError> {
    serde_json::to_vec(record)
        .map(Into::into)
        .map_err(|error| invalid("the session cannot be written").with_source(error))
}

fn handle(id: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(id.secret().as_bytes()))
}

fn namespace() -> Result<Namespace, StoreError> {
    Namespace::new("session").map_err(|_| invalid("the namespace of sessions"))
}

fn key(handle: &str) -> Result<StoreKey, StoreError> {
    StoreKey::new(&namespace()?, ["id", handle])
        .map_err(|_| invalid("the key of a session is too long"))
}

fn index(owner: Partition, handle: &str) -> Result<StoreKey, StoreError> {
    StoreKey::new(&namespace()?, ["owner", &owner.to_string(), handle])
        .map_err(|_| invalid("the key of a session is too long"))
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("idle", &self.idle)
            .field("absolute", &self.absolute)
            .finish_non_exhaustive()
    }
}
