//! Records as JSON in a store.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mcp_core::store::{
    Change, Cursor, Expected, Namespace, StateStore, StoreError, StoreErrorKind, StoreKey,
    StorePrefix, Swap, Version,
};
use serde::{Serialize, de::DeserializeOwned};

/// How many records are read at once.
const PAGE: usize = 200;

#[derive(Clone, Debug)]
pub(super) struct Table {
    store: Arc<dyn StateStore>,
    namespace: Namespace,
}

fn invalid(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, message)
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| {
        StoreError::new(StoreErrorKind::Corrupt, "a record of users is malformed")
            .with_source(error)
    })
}

fn write(value: &impl Serialize) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| invalid("a record of users cannot be written").with_source(error))
}

impl Table {
    pub(super) fn new(store: Arc<dyn StateStore>) -> Result<Self, StoreError> {
        let namespace = Namespace::new("user").map_err(|_| invalid("the namespace of users"))?;
        Ok(Self { store, namespace })
    }

    fn key(&self, parts: &[&str]) -> Result<StoreKey, StoreError> {
        StoreKey::new(&self.namespace, parts).map_err(|_| invalid("a name is too long"))
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        parts: &[&str],
    ) -> Result<Option<(T, Version)>, StoreError> {
        let Some(entry) = self.store.get(&self.key(parts)?).await? else {
            return Ok(None);
        };
        Ok(Some((read(&entry.value)?, entry.version)))
    }

    pub(super) async fn put(
        &self,
        parts: &[&str],
        value: &impl Serialize,
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        let key = self.key(parts)?;
        self.store.put(&key, write(value)?, ttl).await.map(drop)
    }

    /// Writes if the record is still what was read; tells if it was.
    pub(super) async fn swap(
        &self,
        parts: &[&str],
        seen: Option<Version>,
        value: &impl Serialize,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let expected = seen.map_or(Expected::Absent, Expected::Version);
        let value = write(value)?;
        let change = Change::Put { value, ttl };
        let key = self.key(parts)?;
        let swap = self.store.compare_and_swap(&key, expected, change).await?;
        Ok(matches!(swap, Swap::Written(_)))
    }

    /// Removes a record if it is still what was read; tells if it was.
    pub(super) async fn take(&self, parts: &[&str], seen: Version) -> Result<bool, StoreError> {
        let key = self.key(parts)?;
        let expected = Expected::Version(seen);
        let swap = self.store.compare_and_swap(&key, expected, Change::Delete);
        Ok(matches!(swap.await?, Swap::Deleted))
    }

    pub(super) async fn delete(&self, parts: &[&str]) -> Result<bool, StoreError> {
        self.store.delete(&self.key(parts)?).await
    }

    /// Reads some of the records below a place, each with the last part of its key, and where the next ones begin.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(String, T)>, Option<Cursor>), StoreError> {
        let prefix = StorePrefix::new(&self.namespace, parts);
        let prefix = prefix.map_err(|_| invalid("a name is too long"))?;
        let page = self.store.scan(&prefix, cursor, limit.max(1)).await?;
        let mut all = Vec::with_capacity(page.entries.len());
        for (key, entry) in page.entries {
            let last = key.parts().pop().unwrap_or_default();
            all.push((last, read(&entry.value)?));
        }
        Ok((all, page.next))
    }

    /// Reads all records below a place, each with the last part of its key.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        parts: &[&str],
    ) -> Result<Vec<(String, T)>, StoreError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (own, next) = self.page(parts, cursor, PAGE).await?;
            all.extend(own);
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        // A scan may bring an entry twice.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.dedup_by(|(one, _), (other, _)| one == other);
        Ok(all)
    }
}
