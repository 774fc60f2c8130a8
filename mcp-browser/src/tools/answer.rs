//! What tools answer.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::json;

use super::params::View;
use crate::{BrowserError, BrowserErrorKind, Session};

/// The greatest length of a text in an answer, in bytes.
pub(super) const MAX_TEXT: usize = 20_000;
/// How many refusals one answer names.
const NOTICES: usize = 10;

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
        Some(next) => text(format!("{part}\n(continues: call again with from={next})")),
    }
}

/// The end of a long list: the newest lines.
pub(super) fn tail(lines: &[String]) -> CallToolResult {
    if lines.is_empty() {
        return text("nothing");
    }
    let mut size = 0;
    let fits = lines.iter().rev().take_while(|line| {
        size += line.len() + 1;
        size <= MAX_TEXT
    });
    let skipped = lines.len() - fits.count();
    let mut out = match skipped {
        0 => String::new(),
        skipped => format!("({skipped} older lines)\n"),
    };
    out.push_str(&lines[skipped..].join("\n"));
    text(out)
}

/// An error that the model can act on, as a tool's own error.
pub(super) fn failure(error: &BrowserError) -> CallToolResult {
    let mut answer = CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
    answer.structured_content = Some(json!({ "error": error.kind().name() }));
    answer
}

/// The same with what happened in the session meanwhile, which may be why.
pub(super) fn failure_in(session: &Session, error: &BrowserError) -> CallToolResult {
    let mut answer = failure(error);
    let notices = notices(session);
    if !notices.is_empty() {
        answer.content.push(ContentBlock::text(notices.join("\n")));
    }
    answer
}

/// Runs a tool's work; what it fails with is the tool's own error.
pub(super) async fn done(
    work: impl Future<Output = Result<CallToolResult, BrowserError>>,
) -> CallToolResult {
    work.await.unwrap_or_else(|error| failure(&error))
}

/// The session with the bounds that a call sets for itself.
pub(super) fn paced(
    session: &Session,
    timeout_ms: Option<u64>,
    settle_ms: Option<u64>,
) -> Result<Session, BrowserError> {
    let mut session = session.clone();
    if let Some(timeout) = timeout_ms {
        session = session.with_timeout(Duration::from_millis(timeout))?;
    }
    if let Some(settle) = settle_ms {
        session = session.with_settle_timeout(Duration::from_millis(settle))?;
    }
    Ok(session)
}

/// What happened by itself, a line for each.
fn notices(session: &Session) -> Vec<String> {
    let all = session.take_notices();
    let more = all.len().saturating_sub(NOTICES);
    let mut lines: Vec<String> = all.iter().take(NOTICES).map(ToString::to_string).collect();
    if more > 0 {
        lines.push(format!("({more} more notices)"));
    }
    lines
}

/// What a page looks like after an action: what happened by itself, and the snapshot that was asked for.
pub(super) async fn after(
    session: &Session,
    said: &str,
    view: View,
) -> Result<CallToolResult, BrowserError> {
    let mut lines = vec![said.to_owned()];
    lines.extend(notices(session));
    if let Some(dialog) = session.dialog() {
        lines.push(format!(
            "{}; answer it with browser_dialog",
            dialog.demand()
        ));
        return Ok(text(lines.join("\n")));
    }
    if view != View::None {
        match session.snapshot(view == View::Changes, 0, MAX_TEXT).await {
            Ok(view) => lines.push(snapshot(&view)),
            // A dialog may have opened meanwhile.
            Err(error) if error.kind() == BrowserErrorKind::DialogOpen => {
                lines.push(error.to_string());
            }
            // What was asked for has been done.
            Err(error) => lines.push(format!(
                "no snapshot could be taken: {error}; call browser_snapshot"
            )),
        }
        // What came while the snapshot was taken.
        lines.extend(notices(session));
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
        out.push_str(&format!("\n(continues: browser_snapshot with from={next})"));
    }
    out
}
