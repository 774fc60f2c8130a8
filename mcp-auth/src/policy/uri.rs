use std::borrow::Cow;

use mcp_core::{EntryKind, Verdict};

/// Returns the refusal of an entry whose URI can be read in two ways, so that a pattern and the server that resolves it
/// may mean different resources: dot segments (RFC 3986, section 5.2.4), also with parameters or percent-encoded once
/// or more, encoded slashes in the path, backslashes, and control characters, which URL parsers leave out.
pub(super) fn ambiguous(kind: EntryKind, uri: &str) -> Option<Verdict> {
    let is_uri = matches!(kind, EntryKind::Resource | EntryKind::ResourceTemplate);
    (is_uri && is_ambiguous(uri)).then(|| {
        Verdict::new(
            "policy:uri",
            "the URI has dot segments, encoded separators or characters that make it ambiguous",
        )
    })
}

pub(super) fn is_ambiguous(uri: &str) -> bool {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let decoded = decode(rest);
    // The scheme's colon is gone; a dot segment may follow at once, as in `file:../x`.
    let dots = decoded.split(['/', '?', '#', '&', '=']).any(|segment| {
        let bare = segment.split(';').next().unwrap_or_default();
        matches!(bare, "." | "..")
    });
    let separators = |text: &str| text.matches(['.', '/', '\\']).count();
    let encoded = separators(&decode(path)) != separators(path);
    dots || encoded || decoded.contains('\\') || uri.chars().any(char::is_control)
}

/// Decodes ASCII characters, as often as they were encoded.
fn decode(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('%') else {
        return Cow::Borrowed(text);
    };
    let mut out = text[..first].to_owned();
    for character in text[first..].chars() {
        out.push(character);
        // What was decoded may complete another escape: `%25` and `2e` are `%2e`.
        while let Some(start) = out.len().checked_sub(3)
            && let Some(plain) = out.get(start..).and_then(plain)
        {
            out.truncate(start);
            out.push(plain);
        }
    }
    Cow::Owned(out)
}

fn plain(escape: &str) -> Option<char> {
    let byte = u8::from_str_radix(escape.strip_prefix('%')?, 16).ok()?;
    byte.is_ascii().then(|| char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_and_encoded_separators_are_ambiguous() {
        for uri in [
            "doc://public/../private/b",
            "doc://public/./b",
            "doc://public/..",
            "doc://public/%2e%2e/private/b",
            "doc://public/.%2E/private/b",
            "doc://public/..%2fprivate/b",
            "doc://public/a%2Fb",
            "doc://public/%252e%252e/private/b",
            "doc://public/%25252e./private/b",
            "doc://public/%%32e%%32%65/private/b",
            "doc://public/\\..\\private",
            "doc://public/..%5cprivate",
            "doc://public/..;a=b/private",
            "doc://public/.\t./private",
            "doc://public/?/../../private/b",
            "doc://public/x?file=..%2f..%2fprivate",
            "file:../x",
        ] {
            assert!(is_ambiguous(uri), "{uri}");
        }
    }

    #[test]
    fn plain_uris_are_not_ambiguous() {
        for uri in [
            "file:///data/report.v1.2.txt",
            "doc://public/...",
            "doc://public/.hidden/a..b",
            "doc://public/a%20b",
            "doc://search?url=https%3A%2F%2Fexample.com%2Fa.b",
            "doc://public/{+path}",
            "urn:isbn:0451450523",
        ] {
            assert!(!is_ambiguous(uri), "{uri}");
        }
    }
}
