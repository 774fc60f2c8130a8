//! Which calls keep failing permanently: a bounded table, values and the time in, values out.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::keys::Key;

#[derive(Debug)]
struct Seen {
    failures: u32,
    last: Instant,
    text: Box<str>,
}

#[derive(Debug)]
pub(super) struct Loops {
    seen: HashMap<Key, Seen>,
    failures: u32,
    pause: Duration,
    most: usize,
}

/// A call that has failed often enough.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    pub(super) failures: u32,
    pub(super) wait: Duration,
    /// What it failed with.
    pub(super) text: Box<str>,
}

impl Loops {
    pub(super) fn new(failures: u32, pause: Duration, most: usize) -> Self {
        Self {
            seen: HashMap::new(),
            failures,
            pause,
            most,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    pub(super) fn check(&self, key: &Key, now: Instant) -> Option<Stuck> {
        let seen = self
            .seen
            .get(key)
            .filter(|seen| seen.failures >= self.failures)?;
        let wait = self
            .pause
            .checked_sub(now.saturating_duration_since(seen.last))?;
        (!wait.is_zero()).then(|| Stuck {
            failures: seen.failures,
            wait,
            text: seen.text.clone(),
        })
    }

    pub(super) fn failed(&mut self, key: Key, text: &str, now: Instant) {
        let text: String = text.chars().take(200).collect();
        if !self.seen.contains_key(&key) && self.seen.len() >= self.most {
            self.sweep(now);
            if self.seen.len() >= self.most {
                return;
            }
        }
        let pause = self.pause;
        let seen = self.seen.entry(key).or_insert(Seen {
            failures: 0,
            last: now,
            text: Box::default(),
        });
        if now.saturating_duration_since(seen.last) >= pause {
            // It was left alone for as long as it was asked to be.
            seen.failures = 0;
        }
        *seen = Seen {
            failures: seen.failures.saturating_add(1),
            last: now,
            text: text.into(),
        };
    }

    pub(super) fn succeeded(&mut self, key: &Key) {
        self.seen.remove(key);
    }

    fn sweep(&mut self, now: Instant) {
        let pause = self.pause;
        self.seen
            .retain(|_, seen| now.saturating_duration_since(seen.last) < pause);
        self.seen.shrink_to(self.seen.len() * 2);
    }
}
