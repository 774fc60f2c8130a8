//! What happened by itself and has to be said with the next answer.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

/// How many notices wait for the next answer; above it the oldest are counted only.
const MOST: usize = 40;

/// Something that happened in a session without the caller's doing, or that the caller asked for and did not get.
///
/// Nothing is accepted, dismissed, refused or lost without one: see [`Session::take_notices`](crate::Session).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The origin policy refused a request of a page: which, and why.
    Refused(String),
    /// A page opened a tab.
    TabOpened {
        /// The number of the tab.
        number: u32,
        /// Its address now.
        url: String,
    },
    /// A tab was closed by its page.
    TabClosed {
        /// The number that it had.
        number: u32,
        /// The tab that actions go to now.
        current: Option<u32>,
    },
    /// So many popups were closed at once because the session has as many tabs as it may.
    PopupsClosed(u32),
    /// A dialog was dismissed because no answer came in time.
    DialogExpired {
        /// `alert`, `confirm`, `prompt` or `beforeunload`.
        kind: String,
        /// What it said.
        message: String,
    },
    /// So many dialogs were dismissed because they came one after another without an action in between.
    DialogsDismissed(u32),
    /// The page closed its dialog by itself, for instance because it went away.
    DialogGone {
        /// `alert`, `confirm`, `prompt` or `beforeunload`.
        kind: String,
        /// What it said.
        message: String,
    },
    /// A page asks for files.
    FileChooser {
        /// Whether it takes more than one.
        multiple: bool,
        /// Whether the operator allows uploads.
        allowed: bool,
    },
    /// A page began a download.
    Download {
        /// The number under which it is listed.
        number: u32,
        /// The name that the server gave it.
        name: String,
        /// Whether it is kept.
        kept: bool,
    },
    /// The page of a tab crashed.
    Crashed {
        /// The number of the tab.
        number: u32,
    },
    /// So many older notices did not fit.
    Dropped(u32),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::TabOpened { number, url } => write!(
                f,
                "tab {number} was opened: {url}; to act in it, select it with browser_tabs"
            ),
            Self::TabClosed { number, current } => match current {
                Some(current) => write!(
                    f,
                    "tab {number} was closed by its page; tab {current} is the current one"
                ),
                None => write!(
                    f,
                    "tab {number} was closed by its page, and was the last: open one with browser_tabs"
                ),
            },
            Self::PopupsClosed(count) => write!(
                f,
                "{count} popups were closed: the session has as many tabs as it may have"
            ),
            Self::DialogExpired { kind, message } => write!(
                f,
                "a dialog ({kind}: {message:?}) was dismissed because no answer came in time"
            ),
            Self::DialogsDismissed(count) => write!(
                f,
                "{count} dialogs were dismissed unseen: they came one after another without an action in between"
            ),
            Self::DialogGone { kind, message } => write!(
                f,
                "a dialog ({kind}: {message:?}) was closed by the page itself"
            ),
            Self::FileChooser { multiple, allowed } => f.write_str(&choosing(*multiple, *allowed)),
            Self::Download { number, name, kept } => match kept {
                true => write!(
                    f,
                    "download {number} began: {name:?}; read it with browser_downloads"
                ),
                false => write!(
                    f,
                    "a download was refused: {name:?}; downloads are not allowed by the operator"
                ),
            },
            Self::Crashed { number } => write!(
                f,
                "the page of tab {number} crashed: navigate to get a new one"
            ),
            Self::Dropped(count) => write!(f, "{count} older notices were left out"),
        }
    }
}

fn choosing(multiple: bool, allowed: bool) -> String {
    let what = if multiple { "files" } else { "a file" };
    match allowed {
        true => {
            format!("the page asks for {what}: give them with browser_upload without a selector")
        }
        false => format!(
            "the page asked for {what} and got none: uploads are not allowed by the operator"
        ),
    }
}

/// The notices of a session that no answer has shown yet.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<(VecDeque<Notice>, u32)>);

impl Notices {
    pub(crate) fn add(&self, notice: Notice) {
        let mut queue = self.lock();
        let merged = queue.0.iter_mut().find_map(|known| match (known, &notice) {
            (Notice::PopupsClosed(count), Notice::PopupsClosed(more))
            | (Notice::DialogsDismissed(count), Notice::DialogsDismissed(more)) => {
                *count += more;
                Some(())
            }
            _ => None,
        });
        if merged.is_some() {
            return;
        }
        if queue.0.len() == MOST {
            queue.0.pop_front();
            queue.1 += 1;
        }
        queue.0.push_back(notice);
    }

    /// Takes out what the caller knows of.
    pub(crate) fn remove(&self, known: impl Fn(&Notice) -> bool) {
        self.lock().0.retain(|notice| !known(notice));
    }

    pub(crate) fn take(&self) -> Vec<Notice> {
        let mut queue = self.lock();
        let dropped = std::mem::take(&mut queue.1);
        let first = (dropped > 0).then_some(Notice::Dropped(dropped));
        first.into_iter().chain(queue.0.drain(..)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (VecDeque<Notice>, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_what_repeats_is_one_line() {
        let notices = Notices::default();
        notices.add(Notice::PopupsClosed(1));
        notices.add(Notice::PopupsClosed(2));
        assert_eq!(notices.take(), [Notice::PopupsClosed(3)]);
        for number in 0..45 {
            notices.add(Notice::Crashed { number });
        }
        notices.remove(|notice| *notice == Notice::Crashed { number: 44 });
        let all = notices.take();
        assert_eq!(all.len(), 40);
        assert_eq!(all[0], Notice::Dropped(5));
        assert!(notices.take().is_empty());
    }
}
