//! Sets of list kinds.

use std::sync::atomic::{AtomicU8, Ordering};

use mcp_core::{CatalogueChange, Method, Notification};
use tokio::sync::Notify;

use crate::catalogue::ListKind;

/// Which lists something is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const ALL: Self = Self(0b1_1111);

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has(self, kind: ListKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the kinds that an upstream's notification announces.
    pub(crate) fn announced_by(method: &Method) -> Self {
        ListKind::announced_by(method).iter().copied().collect()
    }

    /// Returns the kinds that a change of the catalogue touches.
    pub(crate) fn changed_by(change: &CatalogueChange) -> Self {
        let kinds = ListKind::ALL.into_iter();
        kinds
            .filter(|kind| change.touches(kind.entry_kind()))
            .collect()
    }

    /// Returns the notifications that tell a client of changes of these kinds.
    pub(crate) fn notifications(self) -> impl Iterator<Item = Notification> {
        let resources = [ListKind::Resources, ListKind::Templates, ListKind::Skills];
        [
            (self.has(ListKind::Tools), Method::TOOLS_CHANGED),
            (self.has(ListKind::Prompts), Method::PROMPTS_CHANGED),
            (
                resources.into_iter().any(|kind| self.has(kind)),
                Method::RESOURCES_CHANGED,
            ),
        ]
        .into_iter()
        .filter_map(|(touched, method)| touched.then(|| Notification::new(method, None)))
    }
}

impl FromIterator<ListKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = ListKind>>(kinds: I) -> Self {
        let bits = kinds.into_iter().map(|kind| 1 << kind as u8);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// Kinds that wait to be handled, however often they were marked.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bits: AtomicU8,
    marked: Notify,
}

impl Pending {
    /// Set by every mark, so that one without kinds is seen too.
    const MARKED: u8 = 1 << 7;

    pub(crate) fn mark(&self, kinds: Kinds) {
        self.bits.fetch_or(kinds.0 | Self::MARKED, Ordering::AcqRel);
        self.marked.notify_one();
    }

    /// Waits for a mark and takes what is marked. Cancel safe; for one waiter.
    pub(crate) async fn take(&self) -> Kinds {
        loop {
            match self.bits.swap(0, Ordering::AcqRel) {
                0 => self.marked.notified().await,
                bits => return Kinds(bits & Kinds::ALL.0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::EntryKind;

    use super::*;

    #[test]
    fn resources_of_every_kind_are_told_by_one_notification() {
        let methods = |kinds: Kinds| -> Vec<String> {
            kinds
                .notifications()
                .map(|one| one.method().to_string())
                .collect()
        };
        let both: Kinds = [ListKind::Templates, ListKind::Skills]
            .into_iter()
            .collect();
        assert_eq!(methods(both), ["notifications/resources/list_changed"]);
        assert_eq!(methods(Kinds::ALL).len(), 3);
        assert!(methods(Kinds::default()).is_empty());
    }

    #[tokio::test]
    async fn marks_are_taken_together_and_once() {
        let pending = Pending::default();
        pending.mark([ListKind::Tools].into_iter().collect());
        pending.mark([ListKind::Prompts].into_iter().collect());
        let taken = pending.take().await;
        assert!(taken.has(ListKind::Tools) && taken.has(ListKind::Prompts));
        pending.mark(Kinds::default());
        assert!(pending.take().await.is_empty());
        let mut waiting = tokio_test::task::spawn(pending.take());
        assert!(waiting.poll().is_pending());
        pending.mark(Kinds::ALL);
        assert!(waiting.is_woken());
    }

    #[test]
    fn a_change_touches_the_kinds_of_its_entries() {
        let entry =
            mcp_core::ChangedEntry::new(EntryKind::Prompt, "a".into(), mcp_core::Change::Added);
        let kinds = Kinds::changed_by(&CatalogueChange::new(1, vec![entry]));
        assert!(kinds.has(ListKind::Prompts) && !kinds.has(ListKind::Tools));
    }
}
