//! Checks of elements that wait until they hold.

use std::time::Duration;

use serde_json::json;

use super::Session;
use crate::{BrowserError, BrowserErrorKind};

/// What is expected of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expectation {
    /// It can be seen.
    Visible,
    /// It is not there, or cannot be seen.
    Hidden,
    /// Its text is this, white space aside.
    Text(String),
    /// Its text holds this.
    ContainsText(String),
    /// The value of the field is this.
    Value(String),
    /// The box is checked.
    Checked,
    /// It can be used.
    Enabled,
    /// So many elements match the selector.
    Count(u32),
}

impl Expectation {
    const fn expression(&self) -> &'static str {
        match self {
            Self::Visible => "to.be.visible",
            Self::Hidden => "to.be.hidden",
            Self::Text(_) | Self::ContainsText(_) => "to.have.text",
            Self::Value(_) => "to.have.value",
            Self::Checked => "to.be.checked",
            Self::Enabled => "to.be.enabled",
            Self::Count(_) => "to.have.count",
        }
    }
}

impl Session {
    /// Checks that something holds of an element, or (`not`) that it does not, waiting for as long as an action may take.
    ///
    /// # Errors
    ///
    /// `NotAsExpected` with what was found instead; `Ambiguous` and the like as [`Session::act`].
    pub async fn expect(
        &self,
        target: &str,
        expectation: &Expectation,
        not: bool,
    ) -> Result<(), BrowserError> {
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let element = self.locate(tab, &page, target)?;
            let locators = self.locators(&element).await;
            let mut wanted = json!({ "expression": expectation.expression(), "isNot": not });
            match expectation {
                Expectation::Text(text) => {
                    wanted["expectedText"] =
                        json!([{ "string": text, "normalizeWhiteSpace": true }]);
                }
                Expectation::ContainsText(text) => {
                    wanted["expectedText"] = json!([{ "string": text, "normalizeWhiteSpace": true, "matchSubstring": true }]);
                }
                Expectation::Value(value) => wanted["expectedText"] = json!([{ "string": value }]),
                Expectation::Checked => {
                    wanted["expectedValue"] =
                        json!({ "value": { "o": [], "id": 1 }, "handles": [] });
                }
                Expectation::Count(count) => wanted["expectedNumber"] = (*count).into(),
                Expectation::Visible | Expectation::Hidden | Expectation::Enabled => {}
            }
            let held = element.expect(wanted).await;
            held.map_err(|error| match error.kind() {
                BrowserErrorKind::Timeout => {
                    let not = if not { "not " } else { "" };
                    error
                        .map_kind(BrowserErrorKind::NotAsExpected)
                        .map_message(|found| {
                            format!(
                                "{target:?} was not as expected ({not}{expectation:?}): {found}"
                            )
                        })
                }
                _ => error,
            })?;
            self.record_expectation(locators, expectation, not);
            Ok(())
        };
        let limit = self.action_timeout() + Duration::from_secs(1);
        self.run("browser.expect", target, limit, work).await
    }

    fn record_expectation(&self, locators: Option<[String; 2]>, what: &Expectation, not: bool) {
        let Some([typescript, python]) = locators else {
            return;
        };
        let value = match what {
            Expectation::Text(text)
            | Expectation::ContainsText(text)
            | Expectation::Value(text) => json!(text).to_string(),
            Expectation::Count(count) => count.to_string(),
            _ => String::new(),
        };
        let names = match what {
            Expectation::Visible => ("toBeVisible", "to_be_visible"),
            Expectation::Hidden => ("toBeHidden", "to_be_hidden"),
            Expectation::Text(_) => ("toHaveText", "to_have_text"),
            Expectation::ContainsText(_) => ("toContainText", "to_contain_text"),
            Expectation::Value(_) => ("toHaveValue", "to_have_value"),
            Expectation::Checked => ("toBeChecked", "to_be_checked"),
            Expectation::Enabled => ("toBeEnabled", "to_be_enabled"),
            Expectation::Count(_) => ("toHaveCount", "to_have_count"),
        };
        let (dot, prefix) = if not { (".not", "not_") } else { ("", "") };
        self.record_page(
            format!("await expect(page.{typescript}){dot}.{}({value});", names.0),
            format!("expect(page.{python}).{prefix}{}({value})", names.1),
        );
    }
}
