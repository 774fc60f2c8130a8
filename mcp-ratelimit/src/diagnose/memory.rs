use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mcp_core::Error;

use super::record::millis;
use super::{ErrorQuery, ErrorRecord, ErrorRecorder};

/// Keeps the last errors in memory; clones share them.
#[derive(Debug, Clone)]
pub struct MemoryRecorder {
    records: Arc<Mutex<VecDeque<ErrorRecord>>>,
    most: usize,
}

/// The same failure, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pattern {
    /// The kind of the errors, by name.
    pub kind: String,
    /// What they are about.
    pub name: Option<String>,
    /// The upstream they came from.
    pub upstream: Option<String>,
    /// Their message, with every number replaced by `#`.
    pub message: String,
    /// How many there are.
    pub count: usize,
    /// How many principals they happened to.
    pub principals: usize,
    /// The first of them, in milliseconds since 1970.
    pub first_millis: u64,
    /// The last of them, in milliseconds since 1970.
    pub last_millis: u64,
}

impl MemoryRecorder {
    /// Keeps the last `most` errors, at about 1 KiB each at most.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            records: Arc::default(),
            most,
        }
    }

    /// Finds failures that happened at least `least` times within `window` before the newest error, the most
    /// frequent first.
    #[must_use]
    pub fn patterns(&self, least: usize, window: Duration) -> Vec<Pattern> {
        let records = self.lock();
        let from = records
            .back()
            .map_or(0, |newest| newest.at_millis.saturating_sub(millis(window)));
        let mut found: HashMap<_, (Pattern, HashSet<&str>)> = HashMap::new();
        for record in records.iter().filter(|record| record.at_millis >= from) {
            let shape = shape(&record.message);
            let key = (&record.kind, &record.name, &record.upstream, shape.clone());
            let (pattern, who) = found.entry(key).or_insert_with(|| {
                let pattern = Pattern {
                    kind: record.kind.clone(),
                    name: record.name.clone(),
                    upstream: record.upstream.clone(),
                    message: shape,
                    count: 0,
                    principals: 0,
                    first_millis: record.at_millis,
                    last_millis: record.at_millis,
                };
                (pattern, HashSet::new())
            });
            pattern.count += 1;
            pattern.first_millis = pattern.first_millis.min(record.at_millis);
            pattern.last_millis = pattern.last_millis.max(record.at_millis);
            who.insert(&record.partition);
            pattern.principals = who.len();
        }
        let mut patterns: Vec<_> = found
            .into_values()
            .map(|(pattern, _)| pattern)
            .filter(|pattern| pattern.count >= least)
            .collect();
        patterns.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| a.message.cmp(&b.message))
        });
        patterns
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<ErrorRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message without its numbers, which differ from one time to the next.
fn shape(message: &str) -> String {
    let mut shape = String::with_capacity(message.len());
    for c in message.chars() {
        if !c.is_ascii_digit() {
            shape.push(c);
        } else if !shape.ends_with('#') {
            shape.push('#');
        }
    }
    shape
}

#[async_trait]
impl ErrorRecorder for MemoryRecorder {
    async fn record(&self, record: ErrorRecord) -> Result<(), Error> {
        let mut records = self.lock();
        while records.len() >= self.most.max(1) {
            records.pop_front();
        }
        records.push_back(record);
        Ok(())
    }

    async fn query(&self, query: &ErrorQuery) -> Result<Vec<ErrorRecord>, Error> {
        let records = self.lock();
        Ok(records
            .iter()
            .rev()
            .filter(|record| query.matches(record))
            .take(query.most())
            .cloned()
            .collect())
    }
}
