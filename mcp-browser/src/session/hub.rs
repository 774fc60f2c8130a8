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

use super::{
    dialogs::{Dialogs, OpenDialog},
    notice::{Notice, Notices},
    requests::Requests,
};
use crate::{
    BrowserError,
    driver::{Listen, Tap},
    page::{Frame, Page, Remote, guid_of},
};

/// How many messages and requests are remembered.
pub(super) const REMEMBERED: usize = 300;
/// The longest message that is remembered, in characters.
pub(super) const MESSAGE: usize = 2000;
/// How many downloads are remembered.
const DOWNLOADS: usize = 50;
/// What the driver reports only to who asks for it.
const EVENTS: [&str; 6] = [
    "console",
    "dialog",
    "dialogClosed",
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
    /// Its renderer has ended.
    pub(crate) crashed: bool,
}

/// A page's request for files.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    /// The driver's name of the file field.
    pub(crate) field: String,
}

/// What a hub is to allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HubConfig {
    pub(crate) max_tabs: usize,
    pub(crate) dialog_timeout: Duration,
    pub(crate) uploads: bool,
    pub(crate) downloads: bool,
    /// Whether files are chosen by the caller. A person at a window chooses them there.
    pub(crate) choosers: bool,
}

/// A file that a page has begun to load.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    /// Its number in the session, from 1.
    pub(crate) number: u32,
    /// The driver's name for the file.
    pub(crate) artifact: String,
    pub(crate) name: String,
}

/// What is done with each page as it opens.
pub(crate) type Prepare =
    Box<dyn Fn(Page) -> BoxFuture<'static, Result<(), BrowserError>> + Send + Sync>;

/// Listens to one context.
pub(crate) struct Hub {
    pub(crate) config: HubConfig,
    pub(crate) remote: Remote,
    context: Arc<str>,
    prepare: Option<Prepare>,
    numbers: AtomicU64,
    messages: Mutex<VecDeque<Message>>,
    pub(crate) requests: Requests,
    pub(super) pages: Mutex<Pages>,
    next_tab: AtomicU32,
    pub(crate) notices: Notices,
    pub(super) dialogs: Dialogs,
    pub(super) chooser: watch::Sender<Option<Chooser>>,
    downloads: Mutex<(VecDeque<Download>, u32)>,
    me: Weak<Self>,
}

#[derive(Default)]
pub(super) struct Pages {
    pub(super) tabs: Vec<Tab>,
    current: u32,
    pub(super) frames: HashMap<String, Frame>,
    /// Pages and their main frames.
    pub(super) main: HashMap<String, String>,
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
        config: HubConfig,
        prepare: Option<Prepare>,
    ) -> Result<Arc<Self>, BrowserError> {
        let hub = Arc::new_cyclic(|me| Self {
            config,
            remote,
            context: context.guid().into(),
            prepare,
            numbers: AtomicU64::new(1),
            messages: Mutex::default(),
            requests: Requests::default(),
            pages: Mutex::default(),
            next_tab: AtomicU32::new(1),
            notices: Notices::default(),
            dialogs: Dialogs::new(config.dialog_timeout),
            chooser: watch::channel(None).0,
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
        // The caller asked for it.
        self.notices.remove(
            |notice| matches!(notice, Notice::TabOpened { number, .. } if *number == tab.number),
        );
        // Also begun when it was reported; here it is waited for.
        self.furnish(tab.page).await?;
        Ok(tab.number)
    }

    /// Makes a page as the session wants it.
    fn furnish(&self, page: Page) -> BoxFuture<'static, Result<(), BrowserError>> {
        let preparing = self.prepare.as_ref().map(|prepare| prepare(page.clone()));
        let choosers = self.config.choosers;
        Box::pin(async move {
            if choosers {
                page.intercept_choosers().await?;
            }
            match preparing {
                Some(preparing) => preparing.await,
                None => Ok(()),
            }
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn opened(&self, guid: &str) {
        let mut pages = lock(&self.pages);
        let Some(frame) = pages.main.get(guid).and_then(|main| pages.frames.get(main)) else {
            return;
        };
        let page = Page::new(self.remote.clone(), &self.context, guid, frame.clone());
        if pages.tabs.len() >= self.config.max_tabs {
            self.notices.add(Notice::PopupsClosed(1));
            // It may be closing by itself.
            tokio::spawn(async move { page.close().await });
            return;
        }
        let number = self.next_tab.fetch_add(1, Ordering::Relaxed);
        let shown = page.clone();
        pages.tabs.push(Tab {
            number,
            page,
            crashed: false,
        });
        if pages.tabs.len() == 1 {
            pages.current = number;
        }
        drop(pages);
        let url = String::new();
        self.notices.add(Notice::TabOpened { number, url });
        let preparing = self.furnish(shown);
        tokio::spawn(async move {
            if let Err(error) = preparing.await {
                tracing::debug!(%error, "a page could not be prepared");
            }
        });
    }

    /// Takes a page out of the tabs. Returns its number, and the tab that is current now.
    fn remove(&self, guid: &str) -> Option<(u32, Option<u32>)> {
        let mut pages = lock(&self.pages);
        pages.main.remove(guid);
        let at = pages.tabs.iter().position(|tab| tab.page.guid() == guid)?;
        let number = pages.tabs.remove(at).number;
        let last = pages.tabs.last().map(|tab| tab.number);
        if pages.current == number
            && let Some(last) = last
        {
            pages.current = last;
        }
        let current = last.map(|_| pages.current);
        Some((number, current))
    }

    pub(super) fn closed(&self, guid: &str) {
        if let Some((number, current)) = self.remove(guid) {
            self.notices.add(Notice::TabClosed { number, current });
        }
    }

    /// Takes a page that does not answer any more, or that the caller closes, out of the tabs.
    pub(crate) fn abandon(&self, page: &Page) {
        self.remove(page.guid());
    }

    pub(super) fn crashed(&self, guid: &str) {
        let mut pages = lock(&self.pages);
        let tab = pages.tabs.iter_mut().find(|tab| tab.page.guid() == guid);
        if let Some(tab) = tab.filter(|tab| !tab.crashed) {
            tab.crashed = true;
            let number = tab.number;
            self.notices.add(Notice::Crashed { number });
        }
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

    /// The driver's name of the context.
    pub(crate) fn context(&self) -> &str {
        &self.context
    }

    /// The address of the current tab, also of one that crashed.
    pub(crate) fn current_url(&self) -> Option<String> {
        let (tabs, current) = self.tabs();
        let tab = tabs.into_iter().find(|tab| tab.number == current);
        tab.map(|tab| tab.page.url())
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

    /// The number that the next event will have.
    pub(crate) fn mark(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }

    pub(super) fn said(&self, level: &str, text: String) {
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

    /// A page shows a dialog, which the caller is to answer in time.
    pub(super) fn asked(&self, guid: &str) {
        let Some((dialog, excess)) = self.dialogs.opened(guid) else {
            return;
        };
        if excess {
            self.notices.add(Notice::DialogsDismissed(1));
        } else {
            self.said("dialog", format!("{}: {}", dialog.kind, dialog.message));
        }
        let (hub, timeout) = (self.me.clone(), self.dialogs.timeout);
        tokio::spawn(async move {
            if !excess {
                tokio::time::sleep(timeout).await;
            }
            let Some(hub) = hub.upgrade() else { return };
            if !excess {
                if !hub.dialogs.answered(dialog.number) {
                    return;
                }
                let (kind, message) = (dialog.kind.clone(), dialog.message.clone());
                hub.notices.add(Notice::DialogExpired { kind, message });
            }
            // The page may be gone already.
            let _ = hub.answer(&dialog, false, None).await;
        });
    }

    /// A dialog is closed; if the caller had not answered it, that is said.
    pub(super) fn dialog_closed(&self, closed: Option<OpenDialog>) {
        if let Some(OpenDialog { kind, message, .. }) = closed {
            self.notices.add(Notice::DialogGone { kind, message });
        }
    }

    pub(crate) fn dialog(&self) -> watch::Receiver<Option<OpenDialog>> {
        self.dialogs.first()
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
        lock(&self.downloads).0.iter().cloned().collect()
    }

    /// Waits until a download is complete, and answers where it is.
    pub(crate) async fn complete(&self, download: &Download) -> Result<String, BrowserError> {
        let file = &download.artifact;
        let answer = self
            .remote
            .call(file, "pathAfterFinished", json!({}))
            .await?;
        Ok(answer["value"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn discard(&self, download: &Download) -> Result<(), BrowserError> {
        let gone = self
            .remote
            .call(&download.artifact, "delete", json!({}))
            .await;
        gone.map(drop)
    }

    pub(super) fn downloading(&self, details: &Value) {
        let Some(artifact) = guid_of(&details["artifact"]) else {
            return;
        };
        let name = text(&details["suggestedFilename"], 300);
        let mut downloads = lock(&self.downloads);
        downloads.1 += 1;
        let download = Download {
            number: downloads.1,
            artifact: artifact.to_owned(),
            name,
        };
        self.notices.add(Notice::Download {
            number: download.number,
            name: download.name.clone(),
            kept: self.config.downloads,
        });
        push(&mut downloads.0, download, DOWNLOADS);
    }

    pub(super) fn chooser_opened(&self, details: &Value) {
        let Some(field) = guid_of(&details["element"]) else {
            return;
        };
        let multiple = details["isMultiple"] == true;
        let allowed = self.config.uploads;
        self.notices.add(Notice::FileChooser { multiple, allowed });
        let field = field.to_owned();
        self.chooser.send_replace(Some(Chooser { field }));
    }
}
