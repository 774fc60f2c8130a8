use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mcp_core::store::{KeyError, Namespace, StateStore, StoreKey, StorePrefix};
use mcp_core::{Error, ErrorKind};

use super::{ErrorQuery, ErrorRecord, ErrorRecorder};

const DAY_MILLIS: u64 = 86_400_000;
const PAGE: usize = 500;
/// How many records one query looks at.
const MOST_SEEN: usize = 100_000;

/// Keeps errors on a [`StateStore`], by day, for a time.
#[derive(Debug)]
pub struct StoreRecorder {
    store: Arc<dyn StateStore>,
    namespace: Namespace,
    keep: Duration,
    /// Tells records of one millisecond and process apart.
    number: AtomicU64,
    process: u64,
}

impl StoreRecorder {
    /// Keeps each error for the given time.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>, namespace: Namespace, keep: Duration) -> Self {
        Self {
            store,
            namespace,
            keep,
            number: AtomicU64::new(0),
            process: rand::random(),
        }
    }

    async fn scan(
        &self,
        prefix: StorePrefix,
        query: &ErrorQuery,
        found: &mut Vec<ErrorRecord>,
    ) -> Result<(), Error> {
        let (mut cursor, mut seen) = (None, 0);
        loop {
            let page = self.store.scan(&prefix, cursor, PAGE).await.map_err(away)?;
            seen += page.entries.len();
            for (_, entry) in page.entries {
                // What cannot be read was written by another version of this program: it is passed over.
                let record = serde_json::from_slice::<ErrorRecord>(&entry.value);
                found.extend(record.ok().filter(|record| query.matches(record)));
            }
            cursor = page.next;
            if cursor.is_none() || seen >= MOST_SEEN {
                return Ok(());
            }
        }
    }
}

fn day(millis: u64) -> String {
    format!("{:08}", millis / DAY_MILLIS)
}

fn away(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the error records cannot be reached",
    )
    .with_source(error)
}

#[async_trait]
impl ErrorRecorder for StoreRecorder {
    async fn record(&self, record: ErrorRecord) -> Result<(), Error> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let part = format!("{:016}-{:016x}-{number:x}", record.at_millis, self.process);
        let key = StoreKey::new(&self.namespace, [&day(record.at_millis), &part]).map_err(away)?;
        let value = serde_json::to_vec(&record).map_err(away)?;
        self.store
            .put(&key, value.into(), Some(self.keep))
            .await
            .map_err(away)?;
        Ok(())
    }

    /// Looks at one day after the other if both ends of the time are given and at most 31 days apart, else at all
    /// that is kept; in each case at 100,000 records at most.
    async fn query(&self, query: &ErrorQuery) -> Result<Vec<ErrorRecord>, Error> {
        let days = query
            .from_millis
            .zip(query.until_millis)
            .map(|(from, until)| from / DAY_MILLIS..=until / DAY_MILLIS);
        let prefix = |parts: &[String]| -> Result<StorePrefix, KeyError> {
            StorePrefix::new(&self.namespace, parts)
        };
        let mut found = Vec::new();
        match days.filter(|days| days.end().saturating_sub(*days.start()) <= 31) {
            Some(days) => {
                for number in days {
                    self.scan(
                        prefix(&[day(number * DAY_MILLIS)]).map_err(away)?,
                        query,
                        &mut found,
                    )
                    .await?;
                }
            }
            None => {
                self.scan(prefix(&[]).map_err(away)?, query, &mut found)
                    .await?
            }
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.at_millis));
        found.truncate(query.most());
        Ok(found)
    }
}
