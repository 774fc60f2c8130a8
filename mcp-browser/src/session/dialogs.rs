//! The dialogs of a session's pages: which are open, and which are dismissed without the caller.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::sync::watch;

use super::hub::{MESSAGE, lock, text};

/// After so many dialogs without an action of the caller in between, further ones are dismissed.
const CHAIN: u32 = 20;

/// A dialog that waits for an answer.
#[derive(Clone, Debug)]
pub(crate) struct OpenDialog {
    pub(super) guid: String,
    pub(crate) number: u32,
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// The dialogs of all tabs. The first that opened is the one to answer.
pub(crate) struct Dialogs {
    pub(super) timeout: Duration,
    numbers: AtomicU32,
    /// How many have opened since the caller's last action.
    chain: AtomicU32,
    /// Those that the driver has made: kind and message.
    made: Mutex<HashMap<String, (String, String)>>,
    queue: Mutex<VecDeque<OpenDialog>>,
    first: watch::Sender<Option<OpenDialog>>,
}

impl Dialogs {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            numbers: AtomicU32::new(0),
            chain: AtomicU32::new(0),
            made: Mutex::default(),
            queue: Mutex::default(),
            first: watch::channel(None).0,
        }
    }

    /// The driver has made a dialog's object.
    pub(super) fn known(&self, guid: &str, initial: &Value) {
        let dialog = (
            text(&initial["type"], 20),
            text(&initial["message"], MESSAGE),
        );
        lock(&self.made).insert(guid.to_owned(), dialog);
    }

    /// A dialog has opened. It is to be dismissed if the second value says so.
    pub(super) fn opened(&self, guid: &str) -> Option<(OpenDialog, bool)> {
        let (kind, message) = lock(&self.made).get(guid).cloned()?;
        let dialog = OpenDialog {
            guid: guid.to_owned(),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            kind,
            message,
        };
        let excess = self.chain.fetch_add(1, Ordering::Relaxed) >= CHAIN;
        if !excess {
            let mut queue = lock(&self.queue);
            queue.push_back(dialog.clone());
            self.show(&queue);
        }
        Some((dialog, excess))
    }

    fn show(&self, queue: &VecDeque<OpenDialog>) {
        self.first.send_replace(queue.front().cloned());
    }

    /// The caller has acted: what opens from now on is of that action.
    pub(super) fn acted(&self) {
        self.chain.store(0, Ordering::Relaxed);
    }

    /// The dialog to answer first.
    pub(super) fn first(&self) -> watch::Receiver<Option<OpenDialog>> {
        self.first.subscribe()
    }

    /// Takes a dialog away, and tells whether it was still open.
    pub(super) fn answered(&self, number: u32) -> bool {
        self.remove(|dialog| dialog.number == number).is_some()
    }

    /// The driver reports that a dialog is closed, or lets go of it. Returns one that was still open.
    pub(super) fn closed(&self, guid: &str) -> Option<OpenDialog> {
        self.remove(|dialog| dialog.guid == guid)
    }

    pub(super) fn disposed(&self, guid: &str) -> Option<OpenDialog> {
        lock(&self.made).remove(guid)?;
        self.closed(guid)
    }

    fn remove(&self, wanted: impl Fn(&OpenDialog) -> bool) -> Option<OpenDialog> {
        let mut queue = lock(&self.queue);
        let at = queue.iter().position(wanted)?;
        let dialog = queue.remove(at);
        self.show(&queue);
        dialog
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(dialogs: &Dialogs, guid: &str) -> bool {
        dialogs.known(guid, &json!({ "type": "confirm", "message": guid }));
        dialogs.opened(guid).unwrap().1
    }

    #[test]
    fn actions_in_between_end_a_chain_and_answers_do_not() {
        let dialogs = Dialogs::new(Duration::from_secs(1));
        for n in 0..50 {
            dialogs.acted();
            assert!(!open(&dialogs, &format!("a{n}")));
        }
        dialogs.acted();
        let excess = (0..50).filter(|n| open(&dialogs, &format!("b{n}"))).count();
        assert_eq!(excess, 30);
    }

    #[test]
    fn dialogs_of_two_tabs_are_answered_in_their_order() {
        let dialogs = Dialogs::new(Duration::from_secs(1));
        open(&dialogs, "first");
        open(&dialogs, "second");
        let first = dialogs.first().borrow().clone().unwrap();
        assert_eq!(first.message, "first");
        assert!(dialogs.answered(first.number) && !dialogs.answered(first.number));
        assert_eq!(dialogs.first().borrow().as_ref().unwrap().message, "second");
        assert!(dialogs.disposed("second").is_some() && dialogs.disposed("second").is_none());
        assert!(dialogs.first().borrow().is_none());
    }
}
