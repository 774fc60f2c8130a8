use std::{
    borrow::Cow,
    io::{self, BufRead},
    time::SystemTime,
};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use mcp_core::{AuditEvent, AuditOutcome, PrincipalKind};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The hash that the first line follows.
pub(super) const GENESIS: [u8; 32] = [0; 32];

/// The longest line that is read, in bytes. Lines that are written here stay below 256 KiB, because every text in an
/// event is bounded; earlier versions wrote texts of any length that a request could have.
const MAX_LINE: usize = 64 << 20;

/// The longest text in an event that is recorded as it is, in bytes.
const MAX_TEXT: usize = 1 << 10;

/// How many actors of a principal are recorded.
const MAX_ACTORS: usize = 16;

/// Returns a text as it is recorded: whole up to 1 KiB, else its beginning with its length and SHA-256, by which the
/// whole can be recognised. A caller chooses many of these texts.
pub(super) fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    let mut end = MAX_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let start = &text[..end];
    let digest = HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
    Cow::Owned(format!(
        "{start}... ({} bytes, sha256 {digest})",
        text.len()
    ))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// Writes an event as JSON.
pub(super) fn describe(event: &AuditEvent) -> serde_json::Value {
    let since = event.time.duration_since(SystemTime::UNIX_EPOCH);
    let millis = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let who = &event.principal;
    let kind = match who.kind() {
        PrincipalKind::Local => "local",
        PrincipalKind::Anonymous => "anonymous",
        PrincipalKind::Session => "session",
        PrincipalKind::Authenticated => "authenticated",
        _ => "other",
    };
    let (outcome, reason) = match &event.outcome {
        AuditOutcome::Succeeded => ("succeeded", None),
        AuditOutcome::Failed(reason) => ("failed", Some(reason.as_ref())),
        AuditOutcome::Denied(rule) => ("denied", Some(rule.as_ref())),
        _ => ("other", None),
    };
    let mut line = json!({
        "time": millis,
        "who": { "kind": kind, "issuer": bounded(who.issuer()), "subject": bounded(who.subject()) },
        "action": bounded(&event.action),
        "outcome": outcome,
    });
    if let Some(tenant) = who.tenant() {
        line["who"]["tenant"] = bounded(tenant).into();
    }
    let actors: Vec<_> = who.actors().take(MAX_ACTORS).map(bounded).collect();
    if !actors.is_empty() {
        line["who"]["actors"] = actors.into();
    }
    if let Some(reason) = reason {
        line["reason"] = bounded(reason).into();
    }
    if let Some(id) = &event.request_id {
        line["request"] = id.to_string().into();
    }
    if let Some(target) = &event.target {
        line["target"] = bounded(target).into();
    }
    if let Some(upstream) = &event.upstream {
        line["upstream"] = upstream.as_str().into();
    }
    if let Some(digest) = &event.digest {
        line["digest"] = HEXLOWER.encode(digest).into();
    }
    if let Some(duration) = event.duration {
        line["micros"] = u64::try_from(duration.as_micros())
            .unwrap_or(u64::MAX)
            .into();
    }
    line
}

/// Adds an event to the end of a chain: `{"event":{…},"hash":"…"}` and a line feed.
pub(super) fn append(into: &mut Vec<u8>, before: &[u8; 32], event: &serde_json::Value) -> [u8; 32] {
    let text = event.to_string();
    let hash = link(before, text.as_bytes());
    into.extend_from_slice(b"{\"event\":");
    into.extend_from_slice(text.as_bytes());
    into.extend_from_slice(b",\"hash\":\"");
    into.extend_from_slice(HEXLOWER.encode(&hash).as_bytes());
    into.extend_from_slice(b"\"}\n");
    hash
}

pub(super) fn link(before: &[u8; 32], text: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(before)
        .chain_update(text)
        .finalize()
        .into()
}

/// Splits a line into the event as it was written and its hash.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], [u8; 32])> {
    let rest = line.strip_prefix(b"{\"event\":")?.strip_suffix(b"\"}")?;
    let at = rest.len().checked_sub(64)?;
    let text = rest[..at].strip_suffix(b",\"hash\":\"")?;
    Some((text, unhex(str::from_utf8(&rest[at..]).ok()?)?))
}

/// A chain that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// How many events there are.
    pub events: u64,
    /// The hash of the last one, in hexadecimal. Compare it with one that was kept elsewhere to see whether events were
    /// cut off the end.
    pub head: String,
}

/// A chain that is broken, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditBreak {
    /// A line does not follow the one before it.
    #[error("line {line} was changed, or lines before it were removed or put in")]
    Broken {
        /// Which line, from 1.
        line: u64,
    },
    /// The last line is not complete: the process ended while it wrote.
    #[error("line {line} is not complete")]
    Incomplete {
        /// Which line, from 1.
        line: u64,
    },
    /// A line is longer than any that is written (64 MiB).
    #[error("line {line} is too long")]
    TooLong {
        /// Which line, from 1.
        line: u64,
    },
    /// The record cannot be read.
    #[error("the record cannot be read")]
    Io(#[from] io::Error),
}

/// Reads a record to its end and checks every line.
///
/// # Errors
///
/// [`AuditBreak`] with the first line that does not fit.
pub fn verify(mut record: impl BufRead) -> Result<Verified, AuditBreak> {
    let mut before = GENESIS;
    let mut line = 0;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = io::Read::take(&mut record, limit).read_until(b'\n', &mut buffer)?;
        if read == 0 {
            return Ok(Verified {
                events: line,
                head: HEXLOWER.encode(&before),
            });
        }
        line += 1;
        if buffer.pop() != Some(b'\n') {
            if read == MAX_LINE {
                return Err(AuditBreak::TooLong { line });
            }
            return Err(AuditBreak::Incomplete { line });
        }
        let (text, hash) = split(&buffer).ok_or(AuditBreak::Broken { line })?;
        if link(&before, text) != hash {
            return Err(AuditBreak::Broken { line });
        }
        before = hash;
    }
}

/// Reads a hash that [`verify`] returned.
pub(super) fn unhex_head(head: &str) -> Option<[u8; 32]> {
    unhex(head)
}
