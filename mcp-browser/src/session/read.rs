//! Looking at pages.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Seen, Session, element::not_found, lock};
use crate::{
    BrowserError, BrowserErrorKind, markdown,
    page::{Page, Until},
    scripts, snapshot,
};

/// The largest snapshot that is kept, in bytes.
const MAX_SNAPSHOT: usize = 4 << 20;
const UNCHANGED: &str = "nothing changed since the last snapshot\n";
/// The most characters that an extraction takes out of a page.
pub(crate) const MAX_EXTRACT: usize = 2 << 20;
/// How many values of password fields are remembered, in case that the page shows them later.
const PASSWORDS: usize = 50;
/// How many frames are looked into for fields to hide.
const MAX_FRAMES: usize = 50;

/// A snapshot as the caller is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotView {
    /// The page's address.
    pub url: String,
    /// The page's title.
    pub title: String,
    /// The text: the whole, a part of it, or what changed.
    pub text: String,
    /// Whether the text is what changed since the last snapshot.
    pub is_difference: bool,
    /// Where the next part begins, if this is not the last.
    pub next: Option<usize>,
}

/// What to describe. Default is the whole page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotQuery {
    /// Only what changed since the last snapshot, where that is shorter.
    pub difference: bool,
    /// Only what is in this element: a reference or a selector.
    pub within: Option<String>,
    /// Only so many levels.
    pub depth: Option<usize>,
    /// Only the lines that hold this text, with what they stand in.
    pub find: Option<String>,
    /// Where the part begins.
    pub from: usize,
}

impl SnapshotQuery {
    /// What of the page's description is asked for, if it is not the whole.
    fn part_of(&self, within: Option<&str>, text: &str) -> Result<Option<String>, BrowserError> {
        let cut = match (&self.within, within) {
            (None, _) => None,
            (Some(_), Some(within)) => Some(within.to_owned()),
            (Some(reference), None) => {
                let cut = snapshot::subtree(text, reference);
                Some(cut.ok_or_else(|| not_found(reference))?)
            }
        };
        let cut = match self.depth {
            None => cut,
            Some(levels) => Some(snapshot::to_depth(cut.as_deref().unwrap_or(text), levels)),
        };
        Ok(match &self.find {
            None => cut,
            Some(wanted) => {
                let found = snapshot::find(cut.as_deref().unwrap_or(text), wanted);
                Some(match found.is_empty() {
                    true => format!("no line holds {wanted:?}\n"),
                    false => found,
                })
            }
        })
    }
}

/// What to take out of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extract {
    /// The text that can be seen; of a field its value, but never a password.
    Text,
    /// The HTML.
    Html,
    /// The attributes as a JSON object.
    Attributes,
    /// The rows of a table as JSON arrays.
    Table,
    /// The content as Markdown, without scripts, styles and hidden parts.
    Markdown,
}

impl Session {
    /// Describes the page by its accessibility tree, with references for [`Session::act`].
    ///
    /// With `difference` only what changed since the last snapshot of this tab is answered, where that is shorter.
    /// `from` is where the part begins ([`SnapshotView::next`] of the part before), `max` its greatest length in
    /// bytes. Parts after the first are of the snapshot that was taken for the first.
    ///
    /// # Errors
    ///
    /// `DialogOpen`, `Timeout`, `BrowserGone`, `PageCrashed`.
    pub async fn snapshot(
        &self,
        difference: bool,
        from: usize,
        max: usize,
    ) -> Result<SnapshotView, BrowserError> {
        let query = SnapshotQuery {
            difference,
            from,
            ..SnapshotQuery::default()
        };
        self.snapshot_of(&query, max).await
    }

    /// Describes a part of the page, or what changed on it. All references of the page can be used afterwards, also
    /// those that the part does not show.
    ///
    /// # Errors
    ///
    /// As [`Session::snapshot`]; `ElementNotFound`, `Ambiguous` and `StaleReference` for the element.
    pub async fn snapshot_of(
        &self,
        query: &SnapshotQuery,
        max: usize,
    ) -> Result<SnapshotView, BrowserError> {
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            if query.from > 0 {
                return self.more(tab, &page, query, max).await;
            }
            let document = page.documents();
            let within = self.described_within(tab, &page, query).await?;
            let (title, text) = futures_util::try_join!(page.title(), self.describe(&page))?;
            let mut seen = lock(&self.0.seen);
            let changed = match query.difference && seen.tab == tab {
                true => Some(
                    snapshot::difference(&seen.text, &text).unwrap_or_else(|| UNCHANGED.to_owned()),
                ),
                false => None,
            };
            *seen = Seen {
                tab,
                document,
                references: snapshot::references(&text),
                part: query.part_of(within.as_deref(), &text)?,
                text,
            };
            let whole = seen.part.as_ref().unwrap_or(&seen.text);
            let changed = changed.filter(|changed| changed.len() < whole.len().max(64));
            let Some(changed) = changed else {
                let part = snapshot::part(whole, 0, max);
                return Ok(self.view(&page, &title, &part, false));
            };
            let part = snapshot::part(&changed, 0, max);
            let mut answer = self.view(&page, &title, &part, true);
            if answer.next.take().is_some() {
                // What does not fit is better asked for as a whole.
                answer
                    .text
                    .push_str("(more changed: take a whole snapshot)\n");
            }
            Ok(answer)
        };
        let limit = self.action_timeout() * 3;
        self.run("browser.snapshot", "", limit, work).await
    }

    /// The next part of what was shown last.
    async fn more(
        &self,
        tab: u32,
        page: &Page,
        query: &SnapshotQuery,
        max: usize,
    ) -> Result<SnapshotView, BrowserError> {
        let title = page.title().await?;
        let seen = lock(&self.0.seen);
        if seen.tab != tab {
            return Err(BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "there is no snapshot of this tab to continue: take one without from",
            ));
        }
        let whole = seen.part.as_ref().unwrap_or(&seen.text);
        let part = snapshot::part(whole, query.from, max);
        Ok(self.view(page, &title, &part, false))
    }

    /// The description of an element that is named by a selector. The driver's references are of its last description,
    /// so that the whole page is described afterwards.
    async fn described_within(
        &self,
        tab: u32,
        page: &Page,
        query: &SnapshotQuery,
    ) -> Result<Option<String>, BrowserError> {
        let Some(target) = &query.within else {
            return Ok(None);
        };
        if snapshot::is_reference(target) {
            self.locate(tab, page, target)?;
            return Ok(None);
        }
        let element = self.locate(tab, page, target)?;
        match element.count().await? {
            0 => Err(not_found(target)),
            _ => Ok(Some(self.hide(page, element.aria_snapshot().await?).await)),
        }
    }

    fn view(
        &self,
        page: &Page,
        title: &str,
        part: &snapshot::Part<'_>,
        is_difference: bool,
    ) -> SnapshotView {
        SnapshotView {
            url: self.shown(&page.url()),
            title: self.shown(&title.chars().take(300).collect::<String>()),
            text: part.text.to_owned(),
            is_difference,
            next: part.next,
        }
    }

    /// The snapshot's text, what is to be hidden hidden.
    async fn describe(&self, page: &Page) -> Result<String, BrowserError> {
        let text = page.aria_snapshot().await?;
        Ok(self.hide(page, text).await)
    }

    async fn hide(&self, page: &Page, mut text: String) -> String {
        if text.len() > MAX_SNAPSHOT {
            let part = snapshot::part(&text, 0, MAX_SNAPSHOT);
            text = format!("{}(the page continues)\n", part.text);
        }
        if ["textbox", "searchbox", "combobox", "spinbutton"]
            .iter()
            .any(|role| text.contains(role))
        {
            text = match self.hidden_values(page).await {
                Some(values) => snapshot::hide_values(&text, |value| {
                    values.iter().any(|hidden| hidden == value)
                }),
                // Which fields hold passwords is not known.
                None => snapshot::hide_values(&text, |_| true),
            };
        }
        self.shown(&text)
    }

    /// Takes something out of an element, or of the whole page. At most `max` bytes, beginning at `from`; also tells
    /// where the next part begins.
    ///
    /// # Errors
    ///
    /// `ElementNotFound`, `Ambiguous`, `StaleReference`, `InvalidInput` where there is no table.
    pub async fn extract(
        &self,
        target: Option<&str>,
        what: Extract,
        from: usize,
        max: usize,
    ) -> Result<(String, Option<usize>), BrowserError> {
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let element = self.locate(tab, &page, target.unwrap_or("body"))?;
            element
                .wait(Until::Attached, self.action_timeout())
                .await
                .map_err(|error| match error.kind() {
                    BrowserErrorKind::Timeout => not_found(target.unwrap_or("body")),
                    _ => error,
                })?;
            let script = match what {
                Extract::Text => scripts::TEXT,
                Extract::Html => scripts::HTML,
                Extract::Attributes => scripts::ATTRIBUTES,
                Extract::Table => scripts::TABLE,
                Extract::Markdown => scripts::CLEAN_HTML,
            };
            let value: Value = element.evaluate(script, Some(&MAX_EXTRACT)).await?;
            let text = match (what, value) {
                (Extract::Table, Value::Null) => {
                    return Err(BrowserError::new(
                        BrowserErrorKind::InvalidInput,
                        "there is no table in the element",
                    ));
                }
                (Extract::Markdown, value) => {
                    let html = value["html"].as_str().unwrap_or_default().to_owned();
                    // Away from the runtime's threads: a large page takes a while.
                    let converted =
                        tokio::task::spawn_blocking(move || markdown::of_html(&html)).await;
                    let mut text = converted.unwrap_or_default();
                    if value["cut"] == true {
                        text.push_str("\n\n(the page continues)");
                    }
                    text
                }
                (_, Value::String(text)) => text,
                (_, value) => value.to_string(),
            };
            let text = self.hide_fields(&page, self.shown(&text)).await?;
            let part = snapshot::part(&text, from, max);
            Ok((part.text.to_owned(), part.next))
        };
        let limit = self.action_timeout() * 2;
        self.run("browser.extract", target.unwrap_or_default(), limit, work)
            .await
    }

    /// Hides the values of password fields where they stand as an attribute.
    async fn hide_fields(&self, page: &Page, text: String) -> Result<String, BrowserError> {
        if !text.contains("value=") {
            return Ok(text);
        }
        let values = self.hidden_values(page).await.ok_or_else(|| {
            let message = "the page does not say which of its fields hold passwords: try again";
            BrowserError::new(BrowserErrorKind::Timeout, message)
        })?;
        Ok(values.iter().fold(text, |text, value| {
            text.replace(
                &format!("value=\"{value}\""),
                &format!("value=\"{}\"", snapshot::HIDDEN),
            )
        }))
    }

    /// The values of fields to hide, in every frame; and those that password fields held before, since a page may turn
    /// such a field into one that shows its text.
    /// Nothing where the page's main frame does not answer.
    async fn hidden_values(&self, page: &Page) -> Option<Vec<String>> {
        let frames = self.0.hub.frames_of(page, MAX_FRAMES);
        let looks = frames.iter().map(|frame| {
            page.evaluate_in::<Vec<String>>(frame, scripts::HIDDEN_VALUES, None::<&()>)
        });
        let found = futures_util::future::join_all(looks).await;
        found.first().filter(|main| main.is_ok())?;
        // Another frame that went away meanwhile shows nothing any more.
        let found: Vec<String> = found.into_iter().flatten().flatten().collect();
        let mut known = lock(&self.0.passwords);
        for value in &found {
            if !known.iter().any(|old| **old == *value) {
                if known.len() == PASSWORDS {
                    known.remove(0);
                }
                known.push(Zeroizing::new(value.clone()));
            }
        }
        Some(known.iter().map(|value| value.to_string()).collect())
    }
}
