//! Pictures and prints of pages.

use bytes::Bytes;

use super::{Session, lock};
use crate::{BrowserError, BrowserErrorKind, page::Picture};

/// The largest picture or document that is answered, in bytes.
const MAX_BINARY: usize = 20 << 20;

/// What to take a picture of, and how. Default is what can be seen now, as PNG, a dot for each of the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Screenshot {
    /// What to show.
    pub area: Area,
    /// JPEG of this quality, 1 to 100, instead of PNG.
    pub jpeg: Option<u8>,
    /// One dot for each CSS pixel, for devices with more: a smaller picture.
    pub css_scale: bool,
}

/// What a picture shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// What can be seen now.
    #[default]
    Viewport,
    /// The whole page.
    FullPage,
    /// One element.
    Element(String),
}

impl Screenshot {
    /// A PNG of an area.
    #[must_use]
    pub fn of(area: Area) -> Self {
        Self {
            area,
            ..Self::default()
        }
    }

    /// The media type of the picture.
    #[must_use]
    pub const fn media_type(&self) -> &'static str {
        match self.jpeg {
            Some(_) => "image/jpeg",
            None => "image/png",
        }
    }
}

impl Session {
    /// Takes a picture. Fields into which a secret was typed are covered where they show it. Large pages may take three
    /// times as long as an action.
    ///
    /// # Errors
    ///
    /// `ElementNotFound`, `InvalidInput` for a quality that is not 1 to 100, `TooLarge`, `Timeout`.
    pub async fn screenshot(&self, what: &Screenshot) -> Result<Bytes, BrowserError> {
        let limit = self.action_timeout() * 3;
        let work = async {
            if what
                .jpeg
                .is_some_and(|quality| !(1..=100).contains(&quality))
            {
                return Err(BrowserError::new(
                    BrowserErrorKind::InvalidInput,
                    "quality is not 1 to 100",
                ));
            }
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let picture = Picture {
                cover: self.covered(),
                jpeg: what.jpeg,
                css_scale: what.css_scale,
                timeout: limit,
            };
            let taken = match &what.area {
                Area::Viewport => page.screenshot(false, &picture).await,
                Area::FullPage => page.screenshot(true, &picture).await,
                Area::Element(target) => {
                    let element = self.locate(tab, &page, target)?;
                    match element.screenshot(&picture).await {
                        Err(error) if error.kind() == BrowserErrorKind::Timeout => {
                            Err(self.why_not(&element, target, error).await)
                        }
                        taken => taken,
                    }
                }
            };
            bounded(taken?)
        };
        let grace = std::time::Duration::from_secs(1);
        self.run("browser.screenshot", "", limit + grace, work)
            .await
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
        self.run("browser.pdf", "", self.navigation_timeout(), work)
            .await
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
