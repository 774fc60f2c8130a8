//! What happens in a session by itself: requests, messages, dialogs, popups, downloads.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use playwright_rs::{BrowserContext, server::channel_owner::ChannelOwner};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::requests::{Exchange, Requests};
use crate::{
    BrowserError,
    driver::{Listen, Tap},
    page::{Frame, Page, Remote, guid_of},
};

/// How many messages and requests are remembered.
pub(super) const REMEMBERED: usize = 300;
/// The longest message that is remembered, in characters.
pub(super) const MESSAGE: usize = 2000;
/// The longest address of a frame that is remembered, in bytes; longer ones have no place in an answer.
const ADDRESS: usize = 64 * 1024;
/// After so many dialogs of one session further ones are dismissed unseen.
const DIALOGS: u32 = 20;
/// How many downloads are remembered.
const DOWNLOADS: usize = 50;
/// What the driver reports only to who asks for it.
const EVENTS: [&str; 5] = [
    "console",
    "dialog",
    "request",
    "requestFailed",
    "requestFinished",
];

/// A line of the console, or an error that a page threw.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) number: u64,
    pub(crate) level: String,
    pub(crate) text: String,
}

/// A tab and its number, which stays.
#[derive(Clone)]
pub(crate) struct Tab {
    pub(crate) number: u32,
    pub(crate) page: Page,
}

/// A dialog that waits for an answer.
#[derive(Clone, Debug)]
pub(crate) struct OpenDialog {
    guid: String,
    pub(crate) number: u32,
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// A file that a page has begun to load.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    /// The driver's name for the file.
    pub(crate) artifact: String,
    pub(crate) name: String,
}

/// What is done with each page as it opens.
pub(crate) type Prepare =
    Box<dyn Fn(Page) -> BoxFuture<'static, Result<(), BrowserError>> + Send + Sync>;

/// Listens to one context.
pub(crate) struct Hub {
    pub(crate) max_tabs: usize,
    dialog_timeout: Duration,
    pub(crate) remote: Remote,
    context: Arc<str>,
    prepare: Option<Prepare>,
    numbers: AtomicU64,
    messages: Mutex<VecDeque<Message>>,
    requests: Requests,
    pages: Mutex<Pages>,
    next_tab: AtomicU32,
    popups_closed: AtomicU32,
    dialogs: AtomicU32,
    dialog: watch::Sender<Option<OpenDialog>>,
    downloads: Mutex<VecDeque<Download>>,
    me: Weak<Self>,
}

#[derive(Default)]
struct Pages {
    tabs: Vec<Tab>,
    current: u32,
    frames: HashMap<String, Frame>,
    /// Pages and their main frames.
    main: HashMap<String, String>,
    /// Dialogs: kind and message.
    dialogs: HashMap<String, (String, String)>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

pub(super) fn text(value: &Value, most: usize) -> String {
    value
        .as_str()
        .unwrap_or_default()
        .chars()
        .take(most)
        .collect()
}

impl Hub {
    /// Listens to a context from now on, in which nothing has happened yet.
    pub(crate) async fn listen(
        tap: &Tap,
        context: &BrowserContext,
        remote: Remote,
        limits: (usize, Duration),
        prepare: Option<Prepare>,
    ) -> Result<Arc<Self>, BrowserError> {
        let hub = Arc::new_cyclic(|me| Self {
            max_tabs: limits.0,
            dialog_timeout: limits.1,
            remote,
            context: context.guid().into(),
            prepare,
            numbers: AtomicU64::new(1),
            messages: Mutex::default(),
            requests: Requests::default(),
            pages: Mutex::default(),
            next_tab: AtomicU32::new(1),
            popups_closed: AtomicU32::new(0),
            dialogs: AtomicU32::new(0),
            dialog: watch::channel(None).0,
            downloads: Mutex::default(),
            me: me.clone(),
        });
        let listener: Weak<dyn Listen> = hub.me.clone();
        tap.listen(&hub.context, listener);
        let asked = EVENTS.map(|event| {
            let wanted = json!({ "event": event, "enabled": true });
            hub.remote
                .arrange(&hub.context, "updateSubscription", wanted)
        });
        futures_util::future::try_join_all(asked).await?;
        Ok(hub)
    }

    /// Opens a page and answers the number of its tab.
    pub(crate) async fn open(&self) -> Result<u32, BrowserError> {
        let answer = self
            .remote
            .arrange(&self.context, "newPage", json!({}))
            .await?;
        let guid = guid_of(&answer["page"]).unwrap_or_default();
        // The tab was there before the answer: messages come in order.
        let (tabs, _) = self.tabs();
        let tab = tabs.into_iter().find(|tab| tab.page.guid() == guid);
        let tab = tab.ok_or_else(BrowserError::gone)?;
        if let Some(prepare) = &self.prepare {
            // Also begun when it was reported; here it is waited for.
            prepare(tab.page).await?;
        }
        Ok(tab.number)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn opened(&self, guid: &str) {
        let mut pages = lock(&self.pages);
        let Some(frame) = pages.main.get(guid).and_then(|main| pages.frames.get(main)) else {
            return;
        };
        let page = Page::new(self.remote.clone(), &self.context, guid, frame.clone());
        if pages.tabs.len() >= self.max_tabs {
            self.popups_closed.fetch_add(1, Ordering::Relaxed);
            // It may be closing by itself.
            tokio::spawn(async move { page.close().await });
            return;
        }
        let number = self.next_tab.fetch_add(1, Ordering::Relaxed);
        let shown = page.clone();
        pages.tabs.push(Tab { number, page });
        if pages.tabs.len() == 1 {
            pages.current = number;
        }
        drop(pages);
        if let Some(prepare) = &self.prepare {
            let preparing = prepare(shown);
            tokio::spawn(async move {
                if let Err(error) = preparing.await {
                    tracing::debug!(%error, "a page could not be prepared");
                }
            });
        }
    }

    fn closed(&self, guid: &str) {
        let mut pages = lock(&self.pages);
        pages.main.remove(guid);
        pages.tabs.retain(|tab| tab.page.guid() != guid);
        let current = pages.current;
        if !pages.tabs.iter().any(|tab| tab.number == current) {
            pages.current = pages.tabs.last().map_or(current, |tab| tab.number);
        }
    }

    /// Takes a page that does not answer any more out of the tabs.
    pub(crate) fn abandon(&self, page: &Page) {
        self.closed(page.guid());
    }

    /// The tabs, and the number of the one that actions go to.
    pub(crate) fn tabs(&self) -> (Vec<Tab>, u32) {
        let pages = lock(&self.pages);
        (pages.tabs.clone(), pages.current)
    }

    pub(crate) fn select(&self, number: u32) -> bool {
        let mut pages = lock(&self.pages);
        let found = pages.tabs.iter().any(|tab| tab.number == number);
        if found {
            pages.current = number;
        }
        found
    }

    /// The address of a frame's document.
    pub(crate) fn frame_url(&self, guid: &str) -> Option<String> {
        lock(&self.pages).frames.get(guid).map(Frame::url)
    }

    /// A page's frames, the main one first.
    pub(crate) fn frames_of(&self, page: &Page, most: usize) -> Vec<String> {
        let pages = lock(&self.pages);
        let mut found = vec![page.main_frame().to_owned()];
        let mut next = 0;
        while let Some(parent) = found.get(next).cloned() {
            next += 1;
            let below = pages.frames.values();
            let below = below.filter(|frame| frame.parent.as_deref() == Some(&parent));
            found.extend(below.map(|frame| frame.guid.to_string()));
            found.truncate(most);
        }
        found
    }

    pub(crate) fn popups_closed(&self) -> u32 {
        self.popups_closed.swap(0, Ordering::Relaxed)
    }

    /// The number that the next event will have.
    pub(crate) fn mark(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }

    /// Waits until no request is under way that began at or after the mark; tells whether there was one.
    pub(crate) async fn quiet_since(&self, mark: u64) -> bool {
        self.requests.quiet_since(mark).await
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.requests.all()
    }

    fn said(&self, level: &str, text: String) {
        let message = Message {
            number: self.number(),
            level: level.to_owned(),
            text,
        };
        push(&mut lock(&self.messages), message, REMEMBERED);
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        lock(&self.messages).iter().cloned().collect()
    }

    fn asked(&self, guid: &str) {
        let Some((kind, message)) = lock(&self.pages).dialogs.get(guid).cloned() else {
            return;
        };
        let number = self.dialogs.fetch_add(1, Ordering::Relaxed);
        let dialog = OpenDialog {
            guid: guid.to_owned(),
            number,
            kind,
            message,
        };
        // Leaving a page is what was asked for; and there is an end to what one page may ask.
        let leaving = dialog.kind == "beforeunload";
        if leaving || number >= DIALOGS {
            let hub = self.me.clone();
            tokio::spawn(async move {
                if let Some(hub) = hub.upgrade() {
                    // The page may be gone already.
                    let _ = hub.answer(&dialog, leaving, None).await;
                }
            });
            return;
        }
        self.said("dialog", format!("{}: {}", dialog.kind, dialog.message));
        self.dialog.send_replace(Some(dialog.clone()));
        let (hub, timeout) = (self.me.clone(), self.dialog_timeout);
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            let Some(hub) = hub.upgrade() else { return };
            if hub.answered(dialog.number) {
                let _ = hub.answer(&dialog, false, None).await;
            }
        });
    }

    pub(crate) fn dialog(&self) -> watch::Receiver<Option<OpenDialog>> {
        self.dialog.subscribe()
    }

    /// Takes a dialog away, and tells whether it was still open.
    pub(crate) fn answered(&self, number: u32) -> bool {
        self.dialog.send_if_modified(|open| {
            let same = open.as_ref().is_some_and(|open| open.number == number);
            if same {
                *open = None;
            }
            same
        })
    }

    pub(crate) async fn answer(
        &self,
        dialog: &OpenDialog,
        accept: bool,
        with: Option<&str>,
    ) -> Result<(), BrowserError> {
        let (method, parameters) = match (accept, with) {
            (true, Some(text)) => ("accept", json!({ "promptText": text })),
            (true, None) => ("accept", json!({})),
            (false, _) => ("dismiss", json!({})),
        };
        let answer = self.remote.call(&dialog.guid, method, parameters).await;
        answer.map(drop)
    }

    pub(crate) fn downloads(&self) -> Vec<Download> {
        lock(&self.downloads).iter().cloned().collect()
    }

    /// Waits until a download is complete, and answers where it is.
    pub(crate) async fn complete(&self, download: &Download) -> Option<String> {
        let file = &download.artifact;
        let answer = self.remote.call(file, "pathAfterFinished", json!({})).await;
        Some(answer.ok()?["value"].as_str()?.to_owned())
    }

    pub(crate) async fn discard(&self, download: &Download) -> Result<(), BrowserError> {
        let gone = self
            .remote
            .call(&download.artifact, "delete", json!({}))
            .await;
        gone.map(drop)
    }

    fn downloading(&self, details: &Value) {
        let Some(artifact) = guid_of(&details["artifact"]) else {
            return;
        };
        let download = Download {
            artifact: artifact.to_owned(),
            name: text(&details["suggestedFilename"], 300),
        };
        push(&mut lock(&self.downloads), download, DOWNLOADS);
    }
}

impl Listen for Hub {
    fn created(&self, kind: &str, guid: &str, initial: &Value) {
        match kind {
            "Frame" => {
                let url = text(&initial["url"], ADDRESS);
                let frame = Frame::new(guid, guid_of(&initial["parentFrame"]), &url);
                lock(&self.pages).frames.insert(guid.to_owned(), frame);
            }
            "Page" => {
                let main = guid_of(&initial["mainFrame"]).unwrap_or_default();
                let main = main.to_owned();
                lock(&self.pages).main.insert(guid.to_owned(), main);
            }
            "Dialog" => {
                let dialog = (
                    text(&initial["type"], 20),
                    text(&initial["message"], MESSAGE),
                );
                lock(&self.pages).dialogs.insert(guid.to_owned(), dialog);
            }
            "Request" => self.requests.known(guid, initial),
            "Response" => self.requests.responded(initial),
            _ => {}
        }
    }

    fn happened(&self, guid: &str, event: &str, details: &Value) {
        let request = || guid_of(&details["request"]).unwrap_or_default();
        match event {
            "page" => self.opened(guid_of(&details["page"]).unwrap_or_default()),
            "close" => self.closed(guid),
            "crash" => self.said("pageerror", "the page crashed".to_owned()),
            "navigated" if details["error"].is_null() => {
                if let Some(frame) = lock(&self.pages).frames.get(guid) {
                    let to_document = !details["newDocument"].is_null();
                    frame.moved(text(&details["url"], ADDRESS), to_document);
                }
            }
            "frameDetached" => {
                let frame = guid_of(&details["frame"]).unwrap_or_default();
                lock(&self.pages).frames.remove(frame);
            }
            "request" => self.requests.began(request(), self.number()),
            "requestFinished" => self.requests.ended(request(), None),
            "requestFailed" => {
                let failure = details["failureText"].as_str().unwrap_or("failed");
                self.requests.ended(request(), Some(failure));
            }
            "console" => {
                let level = details["type"].as_str().unwrap_or("log");
                self.said(level, text(&details["text"], MESSAGE));
            }
            "pageError" => {
                let thrown = &details["error"];
                let message = &thrown["error"]["message"];
                let said = if message.is_string() {
                    message
                } else {
                    &thrown["value"]["s"]
                };
                self.said("pageerror", text(said, MESSAGE));
            }
            "dialog" => self.asked(guid_of(&details["dialog"]).unwrap_or_default()),
            "download" => self.downloading(details),
            _ => {}
        }
    }

    fn disposed(&self, guid: &str) {
        self.requests.forget(guid);
        let is_page = {
            let mut pages = lock(&self.pages);
            pages.dialogs.remove(guid);
            pages.frames.remove(guid);
            pages.main.contains_key(guid)
        };
        if is_page {
            self.closed(guid);
        }
    }
}
