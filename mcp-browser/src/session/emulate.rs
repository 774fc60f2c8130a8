//! What pages see of their surroundings, changed at run time.

use serde_json::json;

use super::{Session, Viewport};
use crate::{BrowserError, BrowserErrorKind};

/// What to change for the current tab. What is not set stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Emulation {
    /// The size of the page.
    pub viewport: Option<Viewport>,
    /// `screen` or `print`.
    pub media: Option<&'static str>,
    /// `light` or `dark`.
    pub color_scheme: Option<&'static str>,
    /// Whether pages are asked to move less.
    pub reduced_motion: Option<bool>,
    /// Whether pages are shown in forced colors.
    pub forced_colors: Option<bool>,
    /// How many times slower the processor is, 1 to 20.
    pub cpu_slowdown: Option<f64>,
}

impl Session {
    /// Changes what the current tab's page sees of its surroundings.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a size that is not 100 to 4096 in both directions, another medium or scheme, or a slowdown that
    /// is not 1 to 20.
    pub async fn emulate(&self, wanted: &Emulation) -> Result<(), BrowserError> {
        let work = async {
            wanted.check()?;
            let (_, page) = self.page()?;
            if let Some(Viewport { width, height }) = wanted.viewport {
                page.resize(width, height).await?;
            }
            let mut media = serde_json::Map::new();
            let texts = [
                ("media", wanted.media),
                ("colorScheme", wanted.color_scheme),
                (
                    "reducedMotion",
                    wanted
                        .reduced_motion
                        .map(|on| if on { "reduce" } else { "no-preference" }),
                ),
                (
                    "forcedColors",
                    wanted
                        .forced_colors
                        .map(|on| if on { "active" } else { "none" }),
                ),
            ];
            for (name, value) in texts {
                if let Some(value) = value {
                    media.insert(name.to_owned(), value.into());
                }
            }
            if !media.is_empty() {
                page.emulate_media(media.into()).await?;
            }
            if let Some(rate) = wanted.cpu_slowdown {
                let protocol = self.protocol(&page).await?;
                let method = "Emulation.setCPUThrottlingRate";
                protocol.send(method, json!({ "rate": rate })).await?;
            }
            Ok(())
        };
        let limit = self.action_timeout();
        self.run("browser.emulate", "", limit, work).await
    }
}

impl Emulation {
    fn check(&self) -> Result<(), BrowserError> {
        let invalid =
            |message: &'static str| Err(BrowserError::new(BrowserErrorKind::InvalidInput, message));
        let fits = |length| (100..=4096).contains(&length);
        if let Some(Viewport { width, height }) = self.viewport
            && !(fits(width) && fits(height))
        {
            return invalid("viewport is not 100 to 4096 in both directions");
        }
        if self
            .media
            .is_some_and(|media| !matches!(media, "screen" | "print"))
        {
            return invalid("media is not screen or print");
        }
        if self
            .color_scheme
            .is_some_and(|scheme| !matches!(scheme, "light" | "dark"))
        {
            return invalid("color_scheme is not light or dark");
        }
        if self
            .cpu_slowdown
            .is_some_and(|rate| !(1.0..=20.0).contains(&rate))
        {
            return invalid("cpu_slowdown is not 1 to 20");
        }
        Ok(())
    }
}
