//! Giving files to pages.

use std::time::Duration;

use super::{Session, hub::Chooser, settle::Rounds};
use crate::{
    BrowserError, BrowserErrorKind,
    page::{Element, FileField, Page},
};

/// How long a file chooser may take to open after a click.
const CHOOSER: Duration = Duration::from_secs(3);

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

impl Session {
    /// Gives files to the file chooser that a page has opened, for instance after a click.
    ///
    /// # Errors
    ///
    /// `Denied` unless the operator allows uploads, `TooLarge`, `InvalidInput` if no chooser is open or it takes one file
    /// only.
    pub async fn choose_files(&self, files: &[Files]) -> Result<(), BrowserError> {
        let limit = self.action_timeout() + self.settle_timeout() + Duration::from_secs(2);
        let work = async {
            self.check_files(files)?;
            self.no_dialog()?;
            let (_, page) = self.page()?;
            let chooser = self.0.hub.chooser.send_replace(None);
            let chooser = chooser.ok_or_else(|| {
                BrowserError::new(
                    BrowserErrorKind::InvalidInput,
                    "no file chooser is open: name the button that opens one, or the file field",
                )
            })?;
            let begun = self.begin();
            self.unless_dialog(async {
                page.choose(&chooser.field, files).await?;
                self.settle(&page, &begun, Rounds::Action).await;
                Ok(())
            })
            .await
        };
        self.run("browser.choose_files", "", limit, work).await
    }

    pub(super) fn check_files(&self, files: &[Files]) -> Result<(), BrowserError> {
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
        Ok(())
    }

    /// Gives files to the field that an element is or stands for.
    pub(super) async fn give_files(
        &self,
        page: &Page,
        element: &Element,
        files: &[Files],
    ) -> Result<(), BrowserError> {
        self.check_files(files)?;
        match element.file_field().await? {
            FileField::Itself => element.upload(files).await,
            FileField::Inside => element.inside("input[type=file]").upload(files).await,
            FileField::Chosen => {
                // In a session with a window people choose files there.
                page.intercept_choosers().await?;
                self.0.hub.chooser.send_replace(None);
                element.click(&super::Click::default()).await?;
                let chooser = self.chooser().await?;
                page.choose(&chooser.field, files).await
            }
        }
    }

    async fn chooser(&self) -> Result<Chooser, BrowserError> {
        let mut opened = self.0.hub.chooser.subscribe();
        let opened = tokio::time::timeout(CHOOSER, opened.wait_for(Option::is_some)).await;
        let is_open = opened.is_ok();
        drop(opened);
        let chooser = self.0.hub.chooser.send_replace(None);
        // It has been answered.
        self.0
            .hub
            .notices
            .remove(|notice| matches!(notice, super::Notice::FileChooser { .. }));
        chooser.filter(|_| is_open).ok_or_else(|| {
            BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "the element was clicked, which opened no file chooser, and there is no file field in it: name the field \
                 with a selector such as input[type=file], or drop the file onto an area that takes it",
            )
        })
    }
}
