use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Identifies one call in logs, spans, audit records and the `data` of error answers.
///
/// A server transport gives each call one. Unique in this process, and with a random part that differs between processes. It
/// is not the id of JSON-RPC, which every client chooses for itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    process: u32,
    number: u64,
}

impl RequestId {
    /// Returns an id that no other call of this process has.
    #[must_use]
    pub fn next() -> Self {
        static PROCESS: LazyLock<u64> =
            LazyLock::new(|| RandomState::new().build_hasher().finish());
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            // The low half is as random as the whole.
            process: (*PROCESS & u64::from(u32::MAX)) as u32,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.process, self.number)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let (first, second) = (RequestId::next(), RequestId::next());
        assert_ne!(first, second);
        assert_eq!(first.to_string().split('-').next().unwrap().len(), 8);
    }
}
