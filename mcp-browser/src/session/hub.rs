//! What happens in a session by itself: requests, messages, dialogs, popups, downloads.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use playwright_rs::{
    BrowserContext, Page, Request,
    protocol::{Dialog, Download},
    server::channel_owner::ChannelOwner,
};
use tokio::sync::{Notify, watch};

/// How many messages and requests are remembered.
const REMEMBERED: usize = 300;
/// The longest message that is remembered, in characters.
const MESSAGE: usize = 2000;
/// After so many dialogs of one session further ones are dismissed unseen.
const DIALOGS: u32 = 20;

/// A line of the console, or an error that a page threw.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) number: u64,
    pub(crate) level: String,
    pub(crate) text: String,
}

/// A request that a page made.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) number: u64,
    /// The driver's name for it.
    id: String,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) kind: String,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Status(u16),
    Failed(String),
}

/// A tab and its number, which stays.
#[derive(Clone)]
pub(crate) struct Tab {
    pub(crate) number: u32,
    pub(crate) page: Page,
}

/// A dialog that waits for an answer.
#[derive(Clone)]
pub(crate) struct OpenDialog {
    pub(crate) dialog: Dialog,
    pub(crate) number: u32,
}

/// Listens to one context. Registered once, since listeners cannot be taken away again.
pub(crate) struct Hub {
    pub(crate) max_tabs: usize,
    dialog_timeout: Duration,
    numbers: AtomicU64,
    messages: Mutex<VecDeque<Message>>,
    exchanges: Mutex<Exchanges>,
    changed: Notify,
    tabs: Mutex<(Vec<Tab>, u32)>,
    next_tab: AtomicU32,
    popups_closed: AtomicU32,
    dialogs: AtomicU32,
    dialog: watch::Sender<Option<OpenDialog>>,
    downloads: Mutex<VecDeque<Download>>,
}

#[derive(Default)]
struct Exchanges {
    log: VecDeque<Exchange>,
    /// Requests under way that an action may wait for: the driver's id, and our number.
    open: HashMap<String, u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// What an action is worth waiting for. The rest may go on for ever, or does not change what the page says.
fn is_awaited(kind: &str) -> bool {
    matches!(kind, "document" | "xhr" | "fetch" | "script" | "stylesheet")
}

impl Hub {
    pub(crate) async fn listen(
        context: &BrowserContext,
        max_tabs: usize,
        dialog_timeout: Duration,
    ) -> Result<Arc<Self>, playwright_rs::Error> {
        let hub = Arc::new(Self {
            max_tabs,
            dialog_timeout,
            numbers: AtomicU64::new(1),
            messages: Mutex::default(),
            exchanges: Mutex::default(),
            changed: Notify::new(),
            tabs: Mutex::default(),
            next_tab: AtomicU32::new(1),
            popups_closed: AtomicU32::new(0),
            dialogs: AtomicU32::new(0),
            dialog: watch::channel(None).0,
            downloads: Mutex::default(),
        });
        macro_rules! on {
            ($event:ident, |$hub:ident, $value:ident| $work:expr) => {{
                // Weak: the context's own listeners must not keep the session alive.
                let weak = Arc::downgrade(&hub);
                context.$event(move |$value| {
                    let weak = weak.clone();
                    async move {
                        if let Some($hub) = weak.upgrade() {
                            $work;
                        }
                        Ok(())
                    }
                })
            }};
        }
        // One after another: each is one short message to the driver, and most need no answer.
        on!(on_page, |hub, page| hub.opened(page).await).await?;
        on!(on_request, |hub, request| hub.began(&request)).await?;
        on!(on_request_finished, |hub, request| hub.ended(&request)).await?;
        on!(on_request_failed, |hub, request| hub.ended(&request)).await?;
        on!(on_console, |hub, message| hub
            .said(message.type_(), message.text()))
        .await?;
        on!(on_weberror, |hub, error| hub
            .said("pageerror", error.error()))
        .await?;
        on!(on_dialog, |hub, dialog| hub.asked(dialog).await).await?;
        on!(on_download, |hub, download| push(
            &mut lock(&hub.downloads),
            download
        ))
        .await?;
        Ok(hub)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    async fn opened(self: &Arc<Self>, page: Page) {
        let tab = {
            let mut tabs = lock(&self.tabs);
            tabs.0.retain(|tab| !tab.page.is_closed());
            let known = tabs.0.iter().any(|tab| tab.page.guid() == page.guid());
            if known {
                return;
            }
            if tabs.0.len() >= self.max_tabs {
                None
            } else {
                let number = self.next_tab.fetch_add(1, Ordering::Relaxed);
                tabs.0.push(Tab {
                    number,
                    page: page.clone(),
                });
                if tabs.0.len() == 1 {
                    tabs.1 = number;
                }
                Some(number)
            }
        };
        if tab.is_none() {
            self.popups_closed.fetch_add(1, Ordering::Relaxed);
            // It may be closing by itself.
            let _ = page.close().await;
        }
    }

    /// Takes a page that we opened ourselves, whose event may come late.
    pub(crate) async fn adopt(self: &Arc<Self>, page: &Page) -> Option<u32> {
        self.opened(page.clone()).await;
        let tabs = lock(&self.tabs);
        tabs.0
            .iter()
            .find(|tab| tab.page.guid() == page.guid())
            .map(|tab| tab.number)
    }

    pub(crate) fn tabs(&self) -> (Vec<Tab>, u32) {
        let mut tabs = lock(&self.tabs);
        tabs.0.retain(|tab| !tab.page.is_closed());
        if !tabs.0.iter().any(|tab| tab.number == tabs.1)
            && let Some(last) = tabs.0.last().map(|tab| tab.number)
        {
            tabs.1 = last;
        }
        tabs.clone()
    }

    pub(crate) fn select(&self, number: u32) -> bool {
        let mut tabs = lock(&self.tabs);
        let found = tabs
            .0
            .iter()
            .any(|tab| tab.number == number && !tab.page.is_closed());
        if found {
            tabs.1 = number;
        }
        found
    }

    pub(crate) fn popups_closed(&self) -> u32 {
        self.popups_closed.swap(0, Ordering::Relaxed)
    }

    fn began(&self, request: &Request) {
        let number = self.number();
        let mut exchanges = lock(&self.exchanges);
        let kind = request.resource_type();
        if is_awaited(kind) {
            exchanges.open.insert(request.guid().to_owned(), number);
        }
        let exchange = Exchange {
            number,
            id: request.guid().to_owned(),
            method: request.method().to_owned(),
            url: request.url().chars().take(MESSAGE).collect(),
            kind: kind.to_owned(),
            outcome: None,
        };
        push(&mut exchanges.log, exchange);
    }

    fn ended(&self, request: &Request) {
        let outcome = match request.failure() {
            Some(error) => Outcome::Failed(error),
            None => match request.existing_response() {
                Some(response) => Outcome::Status(response.status()),
                None => Outcome::Failed("no answer".to_owned()),
            },
        };
        let mut exchanges = lock(&self.exchanges);
        exchanges.open.remove(request.guid());
        let found = exchanges
            .log
            .iter_mut()
            .rev()
            .find(|known| known.id == request.guid());
        if let Some(exchange) = found {
            exchange.outcome = Some(outcome);
        }
        drop(exchanges);
        self.changed.notify_waiters();
    }

    /// The number that the next event will have.
    pub(crate) fn mark(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }

    fn is_quiet_since(&self, mark: u64) -> bool {
        !lock(&self.exchanges)
            .open
            .values()
            .any(|number| *number >= mark)
    }

    /// Waits until no request is under way that began at or after the mark; tells whether there was one.
    pub(crate) async fn quiet_since(&self, mark: u64) -> bool {
        let mut waited = false;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_quiet_since(mark) {
                return waited;
            }
            waited = true;
            changed.await;
        }
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.exchanges).log.iter().cloned().collect()
    }

    fn said(&self, level: &str, text: &str) {
        let message = Message {
            number: self.number(),
            level: level.to_owned(),
            text: text.chars().take(MESSAGE).collect(),
        };
        push(&mut lock(&self.messages), message);
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        lock(&self.messages).iter().cloned().collect()
    }

    async fn asked(self: &Arc<Self>, dialog: Dialog) {
        let number = self.dialogs.fetch_add(1, Ordering::Relaxed);
        if dialog.type_() == "beforeunload" {
            // Leaving a page is what was asked for. The page may be gone already.
            let _ = dialog.accept(None).await;
            return;
        }
        if number >= DIALOGS {
            let _ = dialog.dismiss().await;
            return;
        }
        self.said(
            "dialog",
            &format!("{}: {}", dialog.type_(), dialog.message()),
        );
        self.dialog
            .send_replace(Some(OpenDialog { dialog, number }));
        let hub = Arc::downgrade(self);
        let timeout = self.dialog_timeout;
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            let Some(hub) = hub.upgrade() else { return };
            let open = hub.dialog.borrow().clone();
            if let Some(open) = open.filter(|open| open.number == number) {
                hub.answered(number);
                let _ = open.dialog.dismiss().await;
            }
        });
    }

    pub(crate) fn dialog(&self) -> watch::Receiver<Option<OpenDialog>> {
        self.dialog.subscribe()
    }

    pub(crate) fn answered(&self, number: u32) {
        self.dialog.send_if_modified(|open| {
            let same = open.as_ref().is_some_and(|open| open.number == number);
            if same {
                *open = None;
            }
            same
        });
    }

    pub(crate) fn downloads(&self) -> Vec<Download> {
        lock(&self.downloads).iter().cloned().collect()
    }
}
