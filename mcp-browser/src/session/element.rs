//! Finding what a caller means, and saying why nothing could be done with it.

use std::time::Duration;

use super::{Session, lock};
use crate::{
    BrowserError, BrowserErrorKind,
    page::{Element, Page},
    snapshot,
};

/// What goes into a frame, for callers and for the driver.
const INTO_FRAME: (&str, &str) = (" >>> ", " >> internal:control=enter-frame >> ");

impl Session {
    /// Says why an element could not be acted on.
    pub(crate) async fn why_not(
        &self,
        element: &Element,
        target: &str,
        error: BrowserError,
    ) -> BrowserError {
        let found = tokio::time::timeout(Duration::from_millis(500), element.count()).await;
        match (found, error.reason()) {
            (Ok(Ok(0)), _) if snapshot::is_reference(target) => stale(target),
            (Ok(Ok(0)), _) => not_found(target),
            (Ok(Ok(_)), Some(reason)) => BrowserError::new(
                BrowserErrorKind::Timeout,
                format!("{target:?} is there but cannot be acted on: {reason}"),
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
        Ok(page.element(&target.replace(INTO_FRAME.0, INTO_FRAME.1)))
    }
}

pub(crate) fn not_found(target: &str) -> BrowserError {
    BrowserError::new(
        BrowserErrorKind::ElementNotFound,
        format!("no element matches {target:?}: take a snapshot and use a reference from it"),
    )
}

fn stale(reference: &str) -> BrowserError {
    BrowserError::new(
        BrowserErrorKind::StaleReference,
        format!(
            "the reference {reference} is not in the last snapshot of this page: take a new one"
        ),
    )
}
