//! What tools answer.

use base64::{Engine, prelude::BASE64_STANDARD};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::json;

use super::params::View;
use crate::{BrowserError, BrowserErrorKind, Session};

/// The greatest length of a text in an answer, in bytes.
pub(super) const MAX_TEXT: usize = 20_000;

pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

pub(super) fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

/// A part of a text, with how to get the next.
pub(super) fn part(part: String, next: Option<usize>) -> CallToolResult {
    match next {
        None => text(part),
        Some(next) => text(format!("{part}\n(goes on: call again with from={next})")),
    }
}

/// An error that the model can act on, as a tool's own error.
pub(super) fn failure(error: &BrowserError) -> CallToolResult {
    let mut answer = CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
    answer.structured_content = Some(json!({ "error": error.kind().name() }));
    answer
}

/// Runs a tool's work; what it fails with is the tool's own error.
pub(super) async fn done(
    work: impl Future<Output = Result<CallToolResult, BrowserError>>,
) -> CallToolResult {
    work.await.unwrap_or_else(|error| failure(&error))
}

/// What a page looks like after an action: what happened by itself, and the snapshot that was asked for.
pub(super) async fn after(
    session: &Session,
    said: &str,
    view: View,
) -> Result<CallToolResult, BrowserError> {
    let mut lines = vec![said.to_owned()];
    lines.extend(
        session
            .take_refusals()
            .into_iter()
            .take(5)
            .map(|refusal| format!("refused: {refusal}")),
    );
    match session.take_closed_popups() {
        0 => {}
        count => lines.push(format!(
            "{count} popups were closed: there are too many tabs"
        )),
    }
    if let Some(dialog) = session.dialog() {
        lines.push(format!(
            "a dialog is open ({}): {:?}; answer it with browser_dialog",
            dialog.kind, dialog.message
        ));
        return Ok(text(lines.join("\n")));
    }
    if session.tabs().len() > 1 {
        lines.push(format!("{} tabs are open", session.tabs().len()));
    }
    if view != View::None {
        match session.snapshot(view == View::Changes, 0, MAX_TEXT).await {
            Ok(view) => lines.push(snapshot(&view)),
            Err(error) if error.kind() == BrowserErrorKind::DialogOpen => {
                lines.push(error.to_string())
            }
            Err(error) => return Err(error),
        }
    }
    Ok(text(lines.join("\n")))
}

pub(super) fn snapshot(view: &crate::SnapshotView) -> String {
    let kind = if view.is_difference {
        "changes since the last snapshot"
    } else {
        "snapshot"
    };
    let mut out = format!(
        "page: {}\ntitle: {}\n{kind}:\n{}",
        view.url, view.title, view.text
    );
    if let Some(next) = view.next {
        out.push_str(&format!("\n(goes on: browser_snapshot with from={next})"));
    }
    out
}
