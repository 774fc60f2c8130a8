//! Looking at pages.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Outcome, Seen, Session, lock};
use crate::{
    BrowserError, BrowserErrorKind, markdown,
    page::{Page, Protocol, Until},
    scripts, snapshot,
};

/// The largest snapshot that is kept, in bytes.
const MAX_SNAPSHOT: usize = 4 << 20;
const UNCHANGED: &str = "nothing changed since the last snapshot\n";
/// The most characters that an extraction takes out of a page.
pub(crate) const MAX_EXTRACT: usize = 2 << 20;
/// The largest picture or document that is answered, in bytes.
const MAX_BINARY: usize = 20 << 20;
/// How long a page that does not answer may take to close.
const CLOSE: std::time::Duration = std::time::Duration::from_secs(5);
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

/// What to take a picture of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Screenshot {
    /// What can be seen now.
    #[default]
    Viewport,
    /// The whole page.
    FullPage,
    /// One element.
    Element(String),
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
    /// `DialogOpen`, `Timeout`, `BrowserGone`.
    pub async fn snapshot(
        &self,
        difference: bool,
        from: usize,
        max: usize,
    ) -> Result<SnapshotView, BrowserError> {
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            if from > 0 {
                let title = page.title().await?;
                let seen = lock(&self.0.seen);
                if seen.tab != tab {
                    return Err(BrowserError::new(
                        BrowserErrorKind::InvalidInput,
                        "there is no snapshot of this tab to go on with",
                    ));
                }
                let part = snapshot::part(&seen.text, from, max);
                return Ok(self.view(&page, &title, &part, false));
            }
            let document = page.documents();
            let (title, text) = futures_util::try_join!(page.title(), self.describe(&page))?;
            let mut seen = lock(&self.0.seen);
            let changed = match difference && seen.tab == tab {
                true => Some(
                    snapshot::difference(&seen.text, &text).unwrap_or_else(|| UNCHANGED.to_owned()),
                ),
                false => None,
            };
            *seen = Seen {
                tab,
                document,
                references: snapshot::references(&text),
                text,
            };
            let changed = changed.filter(|changed| changed.len() < seen.text.len().max(64));
            let Some(changed) = changed else {
                let part = snapshot::part(&seen.text, 0, max);
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
        self.run(
            "browser.snapshot",
            "",
            self.0.config.action_timeout * 2,
            work,
        )
        .await
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
        let mut text = page.aria_snapshot().await?;
        if text.len() > MAX_SNAPSHOT {
            let part = snapshot::part(&text, 0, MAX_SNAPSHOT);
            text = format!("{}(the page goes on)\n", part.text);
        }
        if ["textbox", "searchbox", "combobox", "spinbutton"]
            .iter()
            .any(|role| text.contains(role))
        {
            let values = self.hidden_values(page).await;
            if !values.is_empty() {
                text = snapshot::hide_values(&text, &values);
            }
        }
        Ok(self.shown(&text))
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
                .wait(Until::Attached, self.0.config.action_timeout)
                .await
                .map_err(|error| match error {
                    error if error.kind() == BrowserErrorKind::Timeout => BrowserError::new(
                        BrowserErrorKind::ElementNotFound,
                        format!(
                            "no element matches {:?}: take a snapshot",
                            target.unwrap_or("body")
                        ),
                    ),
                    error => error,
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
                        text.push_str("\n\n(the page goes on)");
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
        let limit = self.0.config.action_timeout * 2;
        self.run("browser.extract", target.unwrap_or_default(), limit, work)
            .await
    }

    /// Hides the values of password fields where they stand as an attribute.
    async fn hide_fields(&self, page: &Page, text: String) -> Result<String, BrowserError> {
        if !text.contains("value=") {
            return Ok(text);
        }
        let values = self.hidden_values(page).await;
        Ok(values.iter().fold(text, |text, value| {
            text.replace(
                &format!("value=\"{value}\""),
                &format!("value=\"{}\"", snapshot::HIDDEN),
            )
        }))
    }

    /// The values of fields to hide, in every frame.
    async fn hidden_values(&self, page: &Page) -> Vec<String> {
        let frames = self.0.hub.frames_of(page, MAX_FRAMES);
        let looks = frames.iter().map(|frame| {
            page.evaluate_in::<Vec<String>>(frame, scripts::HIDDEN_VALUES, None::<&()>)
        });
        let found = futures_util::future::join_all(looks).await;
        // A frame that went away meanwhile shows nothing any more.
        found.into_iter().flatten().flatten().collect()
    }

    /// Takes a picture as PNG. Fields into which a secret was typed are covered where they show it.
    ///
    /// # Errors
    ///
    /// `ElementNotFound`, `TooLarge`, `Timeout`.
    pub async fn screenshot(&self, what: &Screenshot) -> Result<Bytes, BrowserError> {
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let cover = self.covered();
            let picture = match what {
                Screenshot::Viewport => page.screenshot(false, cover).await?,
                Screenshot::FullPage => page.screenshot(true, cover).await?,
                Screenshot::Element(target) => {
                    self.locate(tab, &page, target)?.screenshot(cover).await?
                }
            };
            bounded(picture)
        };
        let limit = self.0.config.action_timeout * 2 + std::time::Duration::from_secs(5);
        self.run("browser.screenshot", "", limit, work).await
    }

    /// Elements that a picture must not show.
    pub(crate) fn covered(&self) -> Option<&'static str> {
        // Text fields only: passwords show dots. Which field it was is known by what it holds now; the page may have
        // moved the text on. Values cannot be matched by a selector, so every other text field is covered.
        let fields = "input:not([type]), input[type=text], input[type=search], input[type=tel], input[type=email], input[type=url], input[type=number], textarea";
        (!lock(&self.0.secrets).is_empty()).then_some(fields)
    }

    /// Prints the page as PDF. Headless sessions only.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `Timeout`, `Denied` where a secret was typed, and `Driver` where the browser cannot.
    pub async fn pdf(&self) -> Result<Bytes, BrowserError> {
        let work = async {
            self.no_dialog()?;
            self.no_secret("its pages are not printed")?;
            let (_, page) = self.page()?;
            bounded(page.pdf().await?)
        };
        self.run("browser.pdf", "", self.0.config.navigation_timeout, work)
            .await
    }

    /// Runs a script in the page and answers its value as JSON: an expression, or a function that is called.
    ///
    /// # Errors
    ///
    /// `Denied` unless the operator allows it, `Script` for what it throws, `Timeout` for one that never ends, after
    /// which the page is closed: it would not do anything else any more.
    pub async fn evaluate(&self, script: &str) -> Result<Value, BrowserError> {
        let limit = self.0.config.action_timeout;
        let work = async {
            if !self.0.config.evaluate {
                return Err(BrowserError::new(
                    BrowserErrorKind::Denied,
                    "scripts may not be evaluated: the operator has not allowed it",
                ));
            }
            self.no_dialog()?;
            let (_, page) = self.page()?;
            let mut dialog = self.0.hub.dialog();
            let evaluated = tokio::select! {
                biased;
                value = tokio::time::timeout(limit, page.evaluate::<Value>(script, None::<&()>)) => value,
                _ = dialog.wait_for(Option::is_some) => Ok(Ok(Value::Null)),
            };
            match evaluated {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => Err(script_error(error)),
                Err(_) => {
                    self.replace(&page).await;
                    Err(BrowserError::new(
                        BrowserErrorKind::Timeout,
                        "the script did not end in time; its tab was closed",
                    ))
                }
            }
        };
        let grace = CLOSE + self.0.config.navigation_timeout;
        let value = self
            .run("browser.evaluate", "", limit + grace, work)
            .await?;
        let text = value.to_string();
        if text.len() > MAX_EXTRACT {
            return Err(BrowserError::new(
                BrowserErrorKind::TooLarge,
                "the value of the script is larger than 2 MiB",
            ));
        }
        Ok(serde_json::from_str(&self.shown(&text)).unwrap_or(Value::Null))
    }

    /// Closes a page that does not answer any more, and opens an empty one so that the session has a tab.
    async fn replace(&self, page: &Page) {
        let closing = async {
            // A script that runs for ever keeps the page from closing, and perhaps other pages of its process from
            // loading. One that has ended meanwhile needs no end.
            if let Ok(session) = Protocol::open(&self.0.hub.remote, page).await {
                let _ = session.send("Runtime.terminateExecution", json!({})).await;
            }
            page.close().await
        };
        // One that does not close within the time is ended with the browser by whoever closes the session.
        let _ = tokio::time::timeout(CLOSE, closing).await;
        self.0.hub.abandon(page);
        if self.0.hub.tabs().0.is_empty() {
            // Where that fails the next action says that there is no tab.
            let _ = self.0.hub.open().await;
        }
    }

    /// What pages wrote to the console and threw, oldest first: number, level and text.
    #[must_use]
    pub fn console(&self, errors_only: bool) -> Vec<(u64, String, String)> {
        let wanted = |level: &str| !errors_only || matches!(level, "error" | "pageerror");
        let messages = self
            .0
            .hub
            .messages()
            .into_iter()
            .filter(|message| wanted(&message.level));
        messages
            .map(|message| (message.number, message.level, self.shown(&message.text)))
            .collect()
    }

    /// What pages requested, oldest first, as `method url kind outcome`.
    #[must_use]
    pub fn network(&self) -> Vec<String> {
        let exchanges = self.0.hub.exchanges().into_iter();
        exchanges
            .map(|exchange| {
                let outcome = match &exchange.outcome {
                    None => "pending".to_owned(),
                    Some(Outcome::Status(status)) => status.to_string(),
                    Some(Outcome::Failed(error)) => {
                        format!("failed: {}", error.lines().next().unwrap_or_default())
                    }
                };
                let line = format!(
                    "{} {} {} {} {outcome}",
                    exchange.number, exchange.method, exchange.url, exchange.kind
                );
                self.shown(&line)
            })
            .collect()
    }
}

fn script_error(error: BrowserError) -> BrowserError {
    match error.kind() {
        BrowserErrorKind::Driver => {
            let text = error.to_string();
            BrowserError::new(
                BrowserErrorKind::Script,
                format!("the script threw: {text}"),
            )
        }
        _ => error,
    }
}

fn bounded(content: Vec<u8>) -> Result<Bytes, BrowserError> {
    if content.len() > MAX_BINARY {
        return Err(BrowserError::new(
            BrowserErrorKind::TooLarge,
            format!(
                "the result has {} bytes, more than {MAX_BINARY}: take a picture of a part",
                content.len()
            ),
        ));
    }
    Ok(content.into())
}
