//! Scripts of the caller in pages.

use serde_json::{Value, json};

use super::{Session, read::MAX_EXTRACT};
use crate::{BrowserError, BrowserErrorKind, page::Until};

/// The longest script that runs in every document, in bytes.
const INIT_SCRIPT: usize = 256 * 1024;

impl Session {
    /// Runs a script in the page and answers its value as JSON: an expression, or a function that is called.
    ///
    /// # Errors
    ///
    /// `Denied` unless the operator allows it, `Script` for what it throws, `Timeout` for one that never ends, after
    /// which the page is closed: it would not do anything else any more.
    pub async fn evaluate(&self, script: &str) -> Result<Value, BrowserError> {
        self.evaluate_on(None, script).await
    }

    /// The same with an element, with which a function is called.
    ///
    /// # Errors
    ///
    /// As [`Session::evaluate`], and as [`Session::act`] for the element.
    pub async fn evaluate_on(
        &self,
        target: Option<&str>,
        script: &str,
    ) -> Result<Value, BrowserError> {
        let limit = self.action_timeout();
        let work = async {
            self.may_evaluate()?;
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let element = target
                .map(|target| self.locate(tab, &page, target))
                .transpose()?;
            if let (Some(element), Some(target)) = (&element, target) {
                let there = element.wait(Until::Attached, limit).await;
                if let Err(error) = there {
                    return Err(self.why_not(element, target, error).await);
                }
            }
            // With it a script that never ends can be ended.
            self.protocol(&page).await?;
            let _begun = self.begin();
            let evaluating = async {
                match &element {
                    Some(element) => element.call_with(script).await,
                    None => page.evaluate::<Value>(script, None::<&()>).await,
                }
            };
            let mut dialog = self.0.hub.dialog();
            let evaluated = tokio::select! {
                biased;
                value = tokio::time::timeout(limit, evaluating) => value,
                _ = dialog.wait_for(Option::is_some) => Ok(Ok(Value::Null)),
            };
            match evaluated {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) if error.kind() != BrowserErrorKind::Timeout => {
                    Err(script_error(error))
                }
                // The driver gives up after the same time.
                Ok(Err(_)) | Err(_) => {
                    self.replace(&page).await;
                    Err(BrowserError::new(
                        BrowserErrorKind::Timeout,
                        "the script did not end in time; its tab was closed",
                    ))
                }
            }
        };
        let grace = limit + self.replacing_takes();
        let name = "browser.evaluate";
        let target = target.unwrap_or_default();
        let value = self.run(name, target, limit + grace, work).await?;
        let text = value.to_string();
        if text.len() > MAX_EXTRACT {
            return Err(BrowserError::new(
                BrowserErrorKind::TooLarge,
                "the value of the script is larger than 2 MiB",
            ));
        }
        Ok(serde_json::from_str(&self.shown(&text)).unwrap_or(Value::Null))
    }

    fn may_evaluate(&self) -> Result<(), BrowserError> {
        if self.0.config.evaluate {
            return Ok(());
        }
        Err(BrowserError::new(
            BrowserErrorKind::Denied,
            "scripts may not be evaluated: the operator has not allowed it",
        ))
    }

    /// Has a script run in every document of the session from now on, before the document's own.
    ///
    /// # Errors
    ///
    /// `Denied` unless the operator allows evaluation, `TooLarge` above 256 KiB.
    pub async fn add_init_script(&self, script: &str) -> Result<(), BrowserError> {
        let work = async {
            self.may_evaluate()?;
            if script.len() > INIT_SCRIPT {
                let message = "the script is larger than 256 KiB";
                return Err(BrowserError::new(BrowserErrorKind::TooLarge, message));
            }
            let (_, page) = self.page()?;
            let wanted = json!({ "source": script });
            let added = self
                .0
                .hub
                .remote
                .call(page.context(), "addInitScript", wanted);
            added.await.map(drop)
        };
        let limit = self.action_timeout();
        self.run("browser.init_script", "", limit, work).await
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
