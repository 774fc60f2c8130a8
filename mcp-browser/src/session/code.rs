//! The session's actions as a Playwright script.

use std::{fmt::Write as _, sync::Mutex};

use serde_json::{Value, json};

use super::{Action, Session, hub::lock};
use crate::{BrowserError, BrowserErrorKind, page::Element};

/// How many steps are written down.
const STEPS: usize = 1000;

/// The language of a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Language {
    /// A test for `@playwright/test`.
    #[default]
    TypeScript,
    /// A script for the Python package `playwright`, synchronous.
    Python,
}

impl Language {
    const ALL: [Self; 2] = [Self::TypeScript, Self::Python];

    /// The driver's name for it.
    const fn name(self) -> &'static str {
        match self {
            Self::TypeScript => "javascript",
            Self::Python => "python",
        }
    }
}

/// What has been written down, in both languages, if it is.
#[derive(Default)]
pub(super) struct Recording(Mutex<Option<Vec<[String; 2]>>>);

impl Recording {
    pub(super) fn is_on(&self) -> bool {
        lock(&self.0).is_some()
    }

    fn add(&self, step: [String; 2]) {
        if let Some(steps) = &mut *lock(&self.0)
            && steps.len() < STEPS
        {
            steps.push(step);
        }
    }
}

/// A literal of both languages: JSON is one.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

impl Session {
    /// Writes actions down from now on, forgetting those before.
    pub fn start_recording(&self) {
        *lock(&self.0.recording.0) = Some(Vec::new());
    }

    /// The actions since [`Session::start_recording`] as a script that does the same. Secrets stand in it by their names,
    /// as environment variables. What cannot be written (files, the mouse by coordinates) is a comment.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if nothing is written down.
    pub fn recorded(&self, language: Language) -> Result<String, BrowserError> {
        let steps = lock(&self.0.recording.0).clone();
        let steps = steps.ok_or_else(|| {
            BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "actions are not written down: start that first",
            )
        })?;
        let at = usize::from(language == Language::Python);
        let lines = steps.into_iter().map(|step| self.shown(&step[at]));
        let (head, tail) = match language {
            Language::TypeScript => (
                "import { test, expect } from '@playwright/test';\n\ntest('recorded', async ({ page }) => {\n",
                "});\n",
            ),
            Language::Python => (
                "import os\n\nfrom playwright.sync_api import expect, sync_playwright\n\nwith sync_playwright() as playwright:\n    browser = playwright.chromium.launch()\n    page = browser.new_page()\n",
                "    browser.close()\n",
            ),
        };
        let margin = if at == 1 { "    " } else { "  " };
        let mut script = head.to_owned();
        for line in lines {
            // Writing to a string does not fail.
            let _ = writeln!(script, "{margin}{line}");
        }
        script.push_str(tail);
        Ok(script)
    }

    /// Writes down a call of the page.
    pub(super) fn record_page(&self, typescript: String, python: String) {
        self.0.recording.add([typescript, python]);
    }

    pub(super) fn record_navigation(&self, url: &str) {
        if self.0.recording.is_on() {
            let url = literal(url);
            let [typescript, python] = [
                format!("await page.goto({url});"),
                format!("page.goto({url})"),
            ];
            self.record_page(typescript, python);
        }
    }

    /// How each language names an element, asked before the action changes the page.
    pub(super) async fn locators(&self, element: &Element) -> Option<[String; 2]> {
        if !self.0.recording.is_on() {
            return None;
        }
        // What the driver cannot name is named as the caller did.
        let plain = format!("locator({})", literal(element.selector()));
        let names = Language::ALL.map(|language| element.locator_code(language.name()));
        let [typescript, python] = names;
        let (typescript, python) = futures_util::future::join(typescript, python).await;
        Some([
            typescript.unwrap_or_else(|_| plain.clone()),
            python.unwrap_or(plain),
        ])
    }

    /// Writes down an action that has been done.
    pub(super) fn record_action(&self, locators: Option<[String; 2]>, action: &Action) {
        let Some([typescript, python]) = locators else {
            return;
        };
        let line = |await_: &str, locator: &str, call: String, end: &str| {
            format!("{await_}page.{locator}.{call}{end}")
        };
        let calls = match (calls(action, true), calls(action, false)) {
            (Some(typescript), Some(python)) => (typescript, python),
            _ => {
                let name = action.name();
                let [typescript, python] = [
                    format!("// {name}: {typescript}"),
                    format!("# {name}: {python}"),
                ];
                return self.record_page(typescript, python);
            }
        };
        self.record_page(
            line("await ", &typescript, calls.0, ";"),
            line("", &python, calls.1, ""),
        );
    }
}

/// The call of a locator for an action.
fn calls(action: &Action, typescript: bool) -> Option<String> {
    Some(match action {
        Action::Click(click) => {
            let modifiers: Vec<&str> = click.modifiers.iter().map(|key| key.name()).collect();
            let mut options = Vec::new();
            let mut option = |ts: &str, py: &str, value: Value| {
                let plain = if typescript {
                    format!("{ts}: {value}")
                } else {
                    format!("{py}={value}")
                };
                options.push(plain);
            };
            if click.button != super::Button::Left {
                option("button", "button", click.button.name().into());
            }
            if click.count > 1 {
                option("clickCount", "click_count", click.count.into());
            }
            if !modifiers.is_empty() {
                option("modifiers", "modifiers", json!(modifiers));
            }
            match (options.is_empty(), typescript) {
                (true, _) => "click()".to_owned(),
                (false, true) => format!("click({{ {} }})", options.join(", ")),
                (false, false) => format!("click({})", options.join(", ")),
            }
        }
        Action::Hover => "hover()".to_owned(),
        Action::Fill(text) | Action::Put(text) => format!("fill({})", literal(text)),
        Action::FillSecret(name) => {
            let name = variable(name);
            match typescript {
                true => format!("fill(process.env.{name}!)"),
                false => format!("fill(os.environ[{}])", literal(&name)),
            }
        }
        Action::Type(text) => match typescript {
            true => format!("pressSequentially({})", literal(text)),
            false => format!("press_sequentially({})", literal(text)),
        },
        Action::Select(options) => match typescript {
            true => format!("selectOption({})", json!(options)),
            false => format!("select_option({})", json!(options)),
        },
        Action::Check(true) => "check()".to_owned(),
        Action::Check(false) => "uncheck()".to_owned(),
        Action::Press(key) => format!("press({})", literal(key)),
        Action::Scroll => match typescript {
            true => "scrollIntoViewIfNeeded()".to_owned(),
            false => "scroll_into_view_if_needed()".to_owned(),
        },
        Action::Drag(_) | Action::Upload(_) | Action::Drop(_) => return None,
    })
}

/// A secret's name as that of an environment variable.
fn variable(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Button, Click, Modifier};

    #[test]
    fn actions_are_calls_of_both_languages() {
        let mut click = Click::with(Button::Middle);
        click.modifiers = vec![Modifier::Shift];
        let click = Action::Click(click);
        assert_eq!(
            calls(&click, true).unwrap(),
            r#"click({ button: "middle", modifiers: ["Shift"] })"#
        );
        assert_eq!(
            calls(&click, false).unwrap(),
            r#"click(button="middle", modifiers=["Shift"])"#
        );
        let secret = Action::FillSecret("shop-password".into());
        assert_eq!(
            calls(&secret, true).unwrap(),
            "fill(process.env.SHOP_PASSWORD!)"
        );
        assert_eq!(
            calls(&secret, false).unwrap(),
            r#"fill(os.environ["SHOP_PASSWORD"])"#
        );
        assert_eq!(
            calls(&Action::Fill("a\"b".into()), true).unwrap(),
            r#"fill("a\"b")"#
        );
    }
}
