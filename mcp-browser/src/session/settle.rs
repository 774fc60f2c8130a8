//! Waiting for what an action set off, and for nothing else.

use std::{collections::HashSet, time::Duration};

use super::{Session, requests::Acting};
use crate::page::Page;

/// Lets the event loop of the page run once, and the frame be drawn where it is drawn.
const TURN: &str = "() => new Promise(done => { requestAnimationFrame(() => setTimeout(done, 0)); setTimeout(done, 25); })";
/// How long that may take on a page that is busy.
const TURN_LIMIT: Duration = Duration::from_millis(1000);

/// An action that has begun: requests from its mark on may be its doing.
pub(crate) struct Begun<'a> {
    mark: u64,
    _acting: Acting<'a>,
}

/// How often the page is looked at again for requests that the answers to others set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounds {
    /// After an action: the page runs once before the first look.
    Action,
    /// After a document has been loaded.
    Navigation,
}

impl Session {
    /// Begins an action of the caller.
    pub(crate) fn begin(&self) -> Begun<'_> {
        self.0.hub.dialogs.acted();
        self.continue_action()
    }

    /// The same for an answer that lets an action continue.
    pub(crate) fn continue_action(&self) -> Begun<'_> {
        Begun {
            mark: self.0.hub.mark(),
            _acting: self.0.hub.requests.acting(),
        }
    }

    /// Waits for the requests that the action began within the page's first turn, then for those that their answers set
    /// off, a few times at most and never longer than the settle timeout. A page that polls costs nothing: what it asks
    /// for by itself, or a second time, is not waited for.
    pub(crate) async fn settle(&self, page: &Page, begun: &Begun<'_>, rounds: Rounds) {
        let most = match rounds {
            Rounds::Action => 3,
            Rounds::Navigation => 5,
        };
        let settling = async {
            let mut before = HashSet::new();
            let mut from = begun.mark;
            for round in 0..=most {
                if round > 0 || rounds == Rounds::Action {
                    turn(page).await;
                }
                let to = self.0.hub.mark();
                let is_last = round == most;
                if is_last || !self.0.hub.requests.done(from, to, &mut before).await {
                    return;
                }
                from = to;
            }
        };
        // What takes longer is not waited for.
        let _ = tokio::time::timeout(self.settle_timeout(), settling).await;
    }
}

async fn turn(page: &Page) {
    // A page that is being replaced answers with an error: then there is a request to wait for.
    let turned = page.evaluate::<serde_json::Value>(TURN, None::<&()>);
    let _ = tokio::time::timeout(TURN_LIMIT, turned).await;
}
