//! Doing things on pages.

use std::{fmt, time::Duration};

use super::{Session, lock};
use crate::{
    BrowserError, BrowserErrorKind,
    page::{Element, Page},
    snapshot,
};

/// Which mouse button.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Button {
    /// The first.
    #[default]
    Left,
    /// The one for menus.
    Right,
    /// The wheel.
    Middle,
}

/// Something to do with an element.
#[derive(Clone)]
#[non_exhaustive]
pub enum Action {
    /// Clicks it.
    Click(Button),
    /// Clicks it twice.
    DoubleClick,
    /// Moves the mouse over it.
    Hover,
    /// Puts a text into a field, whatever was there.
    Fill(String),
    /// Types a text key by key, behind what is there.
    Type(String),
    /// Puts a secret of the caller's vault into a field, by its name.
    FillSecret(String),
    /// Selects options of a list by value or text.
    Select(Vec<String>),
    /// Checks or unchecks a box.
    Check(bool),
    /// Presses a key or a chord such as `Enter` or `Control+A`.
    Press(String),
    /// Drags it onto another element.
    Drag(String),
    /// Gives files to a file field.
    Upload(Vec<Files>),
    /// Scrolls until it is in view.
    Scroll,
}

/// A file to upload.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Files {
    /// The name that the page sees.
    pub name: String,
    /// The media type.
    pub media_type: String,
    /// The content.
    pub content: bytes::Bytes,
}

impl Files {
    /// Describes a file.
    #[must_use]
    pub fn new(name: &str, media_type: &str, content: impl Into<bytes::Bytes>) -> Self {
        Self {
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            content: content.into(),
        }
    }
}

impl Action {
    /// A fixed name, for audit.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Click(_) => "browser.click",
            Self::DoubleClick => "browser.double_click",
            Self::Hover => "browser.hover",
            Self::Fill(_) => "browser.fill",
            Self::Type(_) => "browser.type",
            Self::FillSecret(_) => "browser.fill_secret",
            Self::Select(_) => "browser.select",
            Self::Check(_) => "browser.check",
            Self::Press(_) => "browser.press",
            Self::Drag(_) => "browser.drag",
            Self::Upload(_) => "browser.upload",
            Self::Scroll => "browser.scroll",
        }
    }
}

impl fmt::Debug for Action {
    /// Leaves texts out: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Session {
    /// Does something with an element: a reference from the last snapshot, or a selector (CSS, `text=`, `role=`,
    /// `xpath=`).
    ///
    /// Returns once the page has dealt with it: what it has requested has been answered, at most for the settle
    /// timeout. Where nothing is requested nothing is waited for. A dialog that opens ends the wait.
    ///
    /// # Errors
    ///
    /// `ElementNotFound`, `Ambiguous`, `StaleReference`, `Timeout`, `DialogOpen`, `Denied`.
    pub async fn act(&self, target: &str, action: Action) -> Result<(), BrowserError> {
        let limit =
            self.0.config.action_timeout + self.0.config.settle_timeout + Duration::from_secs(2);
        let name = action.name();
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let element = self.locate(tab, &page, target)?;
            let mark = self.0.hub.mark();
            self.unless_dialog(async {
                // Boxed: it holds the futures of every kind of action.
                let done = Box::pin(self.perform(tab, &page, &element, &action)).await;
                match done {
                    Err(error) if error.kind() == BrowserErrorKind::Timeout => {
                        return Err(self.why_not(&element, target, error).await);
                    }
                    done => done?,
                }
                self.settle(&page, mark).await;
                Ok(())
            })
            .await
        };
        self.run(name, target, limit, work).await
    }

    async fn perform(
        &self,
        tab: u32,
        page: &Page,
        element: &Element,
        action: &Action,
    ) -> Result<(), BrowserError> {
        match action {
            Action::Click(Button::Left) => element.click("left").await,
            Action::Click(Button::Right) => element.click("right").await,
            Action::Click(Button::Middle) => element.click("middle").await,
            Action::DoubleClick => element.double_click().await,
            Action::Hover => element.hover().await,
            Action::Fill(text) => element.fill(text).await,
            Action::Type(text) => element.type_text(text).await,
            Action::FillSecret(name) => self.fill_secret(element, name).await,
            Action::Select(options) => element.select(options).await,
            Action::Check(on) => element.check(*on).await,
            Action::Press(key) => element.press(key).await,
            Action::Drag(onto) => element.drag_to(&self.locate(tab, page, onto)?).await,
            Action::Upload(files) => self.upload(element, files).await,
            Action::Scroll => element.scroll().await,
        }
    }

    async fn upload(&self, element: &Element, files: &[Files]) -> Result<(), BrowserError> {
        let most = self.0.config.uploads;
        if most == 0 {
            return Err(BrowserError::new(
                BrowserErrorKind::Denied,
                "uploads are not allowed by the operator",
            ));
        }
        let size: u64 = files.iter().map(|file| file.content.len() as u64).sum();
        if size > most {
            return Err(BrowserError::new(
                BrowserErrorKind::TooLarge,
                format!("the files have {size} bytes, more than {most}"),
            ));
        }
        element.upload(files).await
    }

    /// Puts a secret into one element, if it may be typed in the frame that the element is in.
    async fn fill_secret(&self, element: &Element, name: &str) -> Result<(), BrowserError> {
        let secrets = self.0.config.secrets.as_ref().ok_or_else(|| {
            BrowserError::new(
                BrowserErrorKind::Denied,
                "secrets are not available: the operator has configured no vault",
            )
        })?;
        let read = async |frame: String| {
            let url = self.0.hub.frame_url(&frame).unwrap_or_default();
            let secret = secrets.read(self.owner(), name, &url).await?;
            self.remember_secret(secret.clone());
            if self.has_answered() {
                return Err(BrowserError::new(
                    BrowserErrorKind::Denied,
                    "requests of this session were answered by rules: create another one for secrets",
                ));
            }
            Ok(secret)
        };
        element.fill_where(read).await
    }

    /// Says why an element could not be acted on.
    async fn why_not(&self, element: &Element, target: &str, error: BrowserError) -> BrowserError {
        let found = tokio::time::timeout(Duration::from_millis(500), element.count()).await;
        match found {
            Ok(Ok(0)) if snapshot::is_reference(target) => stale(target),
            Ok(Ok(0)) => BrowserError::new(
                BrowserErrorKind::ElementNotFound,
                format!(
                    "no element matches {target:?}: take a snapshot and use a reference from it"
                ),
            ),
            Ok(Ok(_)) => BrowserError::new(
                BrowserErrorKind::Timeout,
                format!(
                    "{target:?} is there but cannot be acted on: it is hidden, disabled, moving, or covered by another element"
                ),
            ),
            _ => error,
        }
    }

    /// Finds what a caller means.
    pub(crate) fn locate(
        &self,
        tab: u32,
        page: &Page,
        target: &str,
    ) -> Result<Element, BrowserError> {
        let target = target.trim();
        let reference = target.strip_prefix("ref=").unwrap_or(target);
        if snapshot::is_reference(reference) {
            let seen = lock(&self.0.seen);
            let same = seen.tab == tab && seen.document == page.documents();
            if !same || !seen.references.contains(reference) {
                return Err(stale(reference));
            }
            return Ok(page.element(&format!("aria-ref={reference}")));
        }
        if target.is_empty() || target.len() > 2000 {
            return Err(BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "the selector is empty or longer than 2000 bytes",
            ));
        }
        Ok(page.element(target))
    }
}

fn stale(reference: &str) -> BrowserError {
    BrowserError::new(
        BrowserErrorKind::StaleReference,
        format!(
            "the reference {reference} is not in the last snapshot of this page: take a new one"
        ),
    )
}
