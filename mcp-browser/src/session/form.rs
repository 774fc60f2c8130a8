//! Filling several fields in one call.

use std::time::Duration;

use super::{Action, Session};
use crate::{BrowserError, BrowserErrorKind};

/// How many fields one call fills.
const FIELDS: usize = 100;

impl Session {
    /// Does something with each of several elements, in their order, as [`Session::act`] does; only after the last one is
    /// waited for what it set off.
    ///
    /// # Errors
    ///
    /// As [`Session::act`], with the place of the field; those before it have been dealt with, those after it have not.
    /// `InvalidInput` for more than 100.
    pub async fn fill_form(&self, fields: Vec<(String, Action)>) -> Result<(), BrowserError> {
        let count = fields.len();
        if count == 0 || count > FIELDS {
            let message = "fields has no entry, or more than 100";
            return Err(BrowserError::new(BrowserErrorKind::InvalidInput, message));
        }
        let hasty = self.clone().with_settle_timeout(Duration::ZERO)?;
        for (index, (target, action)) in fields.into_iter().enumerate() {
            let session = if index + 1 == count { self } else { &hasty };
            let filled = session.act(&target, action).await.map_err(|error| {
                error.map_message(|message| {
                    let place = index + 1;
                    format!("field {place} of {count} ({target}): {message}; the fields before it are filled")
                })
            });
            filled?;
            if index + 1 < count {
                self.no_dialog()?;
            }
        }
        Ok(())
    }
}
