//! Doing things on pages.

use std::{fmt, time::Duration};

use super::{Files, Session, settle::Rounds};
use crate::{
    BrowserError, BrowserErrorKind,
    page::{Element, Page},
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

impl Button {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Middle => "middle",
        }
    }
}

/// A key that is held during a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Modifier {
    /// Alt, Option on macOS.
    Alt,
    /// Control.
    Control,
    /// Control, and Command on macOS.
    ControlOrMeta,
    /// Meta: Windows, or Command on macOS.
    Meta,
    /// Shift.
    Shift,
}

impl Modifier {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Alt => "Alt",
            Self::Control => "Control",
            Self::ControlOrMeta => "ControlOrMeta",
            Self::Meta => "Meta",
            Self::Shift => "Shift",
        }
    }
}

/// How to click. Default is once with the left button.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Click {
    /// Which button.
    pub button: Button,
    /// How often, 1 to 3.
    pub count: u8,
    /// What is held meanwhile.
    pub modifiers: Vec<Modifier>,
}

impl Default for Click {
    fn default() -> Self {
        Self {
            button: Button::Left,
            count: 1,
            modifiers: Vec::new(),
        }
    }
}

impl Click {
    /// Clicks once with a button.
    #[must_use]
    pub fn with(button: Button) -> Self {
        Self {
            button,
            ..Self::default()
        }
    }

    /// Clicks twice.
    #[must_use]
    pub fn double() -> Self {
        Self {
            count: 2,
            ..Self::default()
        }
    }
}

/// Something to do with an element.
#[derive(Clone)]
#[non_exhaustive]
pub enum Action {
    /// Clicks it.
    Click(Click),
    /// Moves the mouse over it.
    Hover,
    /// Puts a text into a field, whatever was there.
    Fill(String),
    /// Puts a text into a field, or selects the option with it where the element is a list.
    Put(String),
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
    /// Gives files to a file field: to the element, to the one inside of it or of its label, or through the file
    /// chooser that a click on it opens.
    Upload(Vec<Files>),
    /// Drops files onto it, as from another window.
    Drop(Vec<Files>),
    /// Scrolls until it is in view.
    Scroll,
}

impl Action {
    /// Clicks once with the left button.
    #[must_use]
    pub fn click() -> Self {
        Self::Click(Click::default())
    }

    /// A fixed name, for audit.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Click(_) => "browser.click",
            Self::Hover => "browser.hover",
            Self::Fill(_) | Self::Put(_) => "browser.fill",
            Self::Type(_) => "browser.type",
            Self::FillSecret(_) => "browser.fill_secret",
            Self::Select(_) => "browser.select",
            Self::Check(_) => "browser.check",
            Self::Press(_) => "browser.press",
            Self::Drag(_) => "browser.drag",
            Self::Upload(_) => "browser.upload",
            Self::Drop(_) => "browser.drop",
            Self::Scroll => "browser.scroll",
        }
    }

    /// What the length of its text adds to the time that it may take.
    fn extra(&self) -> Duration {
        let extra = match self {
            Self::Type(text) => typing(text),
            Self::Fill(text) | Self::Put(text) => Duration::from_micros(500) * bytes(text),
            _ => Duration::ZERO,
        };
        extra.min(LONGEST)
    }
}

/// The most that the length of a text adds to the time that an action may take.
const LONGEST: Duration = Duration::from_secs(120);

fn bytes(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// Every key is a message to the page and back.
fn typing(text: &str) -> Duration {
    (Duration::from_millis(20) * bytes(text)).min(LONGEST)
}

impl fmt::Debug for Action {
    /// Leaves texts out: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Session {
    /// Does something with an element: a reference from the last snapshot, or a selector (CSS, `text=`, `role=`,
    /// `xpath=`). CSS goes into open shadow roots by itself; `frame >>> selector` goes into a frame.
    ///
    /// Returns once the page has dealt with it: what it has requested has been answered, at most for the settle
    /// timeout. Where nothing is requested nothing is waited for. A dialog that opens ends the wait. Typing and filling
    /// have more time for longer texts: 20 ms for each byte typed, 0.5 ms for each filled, two minutes at most.
    ///
    /// # Errors
    ///
    /// `ElementNotFound`, `Ambiguous`, `StaleReference`, `InvalidInput`, `Timeout`, `DialogOpen`, `Denied`. What the
    /// driver knows of the cause is in the message.
    pub async fn act(&self, target: &str, action: Action) -> Result<(), BrowserError> {
        let name = action.name();
        let time = self.action_timeout() + action.extra();
        let limit = time + self.settle_timeout() + Duration::from_secs(2);
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let page = page.within(time, self.navigation_timeout());
            let element = self.locate(tab, &page, target)?;
            let locators = self.locators(&element).await;
            let begun = self.begin();
            self.unless_dialog(async {
                // Boxed: it holds the futures of every kind of action.
                let done = Box::pin(self.perform(tab, &page, &element, &action)).await;
                match done {
                    Err(error) if error.kind() == BrowserErrorKind::Timeout => {
                        return Err(self.why_not(&element, target, error).await);
                    }
                    done => done?,
                }
                self.record_action(locators, &action);
                self.settle(&page, &begun, Rounds::Action).await;
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
            Action::Click(click) => element.click(click).await,
            Action::Hover => element.hover().await,
            Action::Fill(text) => element.fill(text).await,
            Action::Put(text) => match element.is_list().await? {
                true => element.select(std::slice::from_ref(text)).await,
                false => element.fill(text).await,
            },
            Action::Type(text) => element.type_text(text).await,
            Action::FillSecret(name) => self.fill_secret(element, name).await,
            Action::Select(options) => element.select(options).await,
            Action::Check(on) => element.check(*on).await,
            Action::Press(key) => element.press(key).await,
            Action::Drag(onto) => element.drag_to(&self.locate(tab, page, onto)?).await,
            Action::Upload(files) => self.give_files(page, element, files).await,
            Action::Drop(files) => {
                self.check_files(files)?;
                element.drop_files(files).await
            }
            Action::Scroll => element.scroll().await,
        }
    }

    /// Presses a key or a chord such as `Enter` or `Control+A` where the focus is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a key that there is not, `Timeout`, `DialogOpen`.
    pub async fn press_key(&self, key: &str) -> Result<(), BrowserError> {
        let time = self.action_timeout();
        self.at_focus("browser.press_key", time, async |page| {
            page.press_key(key).await?;
            let key = serde_json::Value::from(key);
            self.record_page(
                format!("await page.keyboard.press({key});"),
                format!("page.keyboard.press({key})"),
            );
            Ok(())
        })
        .await
    }

    /// Types a text key by key where the focus is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if nothing has the focus that takes a text, `Timeout`, `DialogOpen`.
    pub async fn type_text(&self, text: &str) -> Result<(), BrowserError> {
        let time = self.action_timeout() + typing(text);
        self.at_focus("browser.type_text", time, async |page| {
            page.type_at_focus(text).await?;
            let text = serde_json::Value::from(text);
            self.record_page(
                format!("await page.keyboard.type({text});"),
                format!("page.keyboard.type({text})"),
            );
            Ok(())
        })
        .await
    }

    async fn at_focus(
        &self,
        name: &'static str,
        time: Duration,
        work: impl AsyncFnOnce(&Page) -> Result<(), BrowserError>,
    ) -> Result<(), BrowserError> {
        let limit = time + self.settle_timeout() + Duration::from_secs(2);
        let work = async {
            self.no_dialog()?;
            let (_, page) = self.page()?;
            let page = page.within(time, self.navigation_timeout());
            let begun = self.begin();
            self.unless_dialog(async {
                work(&page).await?;
                self.settle(&page, &begun, Rounds::Action).await;
                Ok(())
            })
            .await
        };
        self.run(name, "", limit, work).await
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
}
