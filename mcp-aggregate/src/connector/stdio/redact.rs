//! Takes secrets out of a stream of bytes.

use std::borrow::Cow;

use memchr::memmem;

/// What stands in place of a secret.
const REDACTED: &[u8] = b"[redacted]";

/// Shorter texts are no secrets: they would be found everywhere.
const SHORTEST: usize = 6;

/// Longer secrets are looked for piece by piece, in bytes.
const PIECE: usize = 1 << 10;

/// Takes secrets out of what passes, before anything is cut off it.
///
/// A secret of several lines is also known by each of its lines, and as JSON writes it. What may be the beginning of a secret
/// is held back until more arrives.
pub(super) struct Redactor {
    /// The longest first.
    secrets: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Redactor {
    pub(super) fn new(secrets: &[String]) -> Self {
        let mut known: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let escaped = serde_json::Value::from(secret.as_str()).to_string();
            let escaped = escaped.trim_matches('"');
            for form in [secret.as_str(), escaped].into_iter().chain(secret.lines()) {
                let form = form.trim().as_bytes();
                let pieces = form.chunks(PIECE).filter(|piece| piece.len() >= SHORTEST);
                known.extend(pieces.map(<[u8]>::to_vec));
            }
        }
        known.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        known.dedup();
        Self {
            secrets: known,
            held: Vec::new(),
        }
    }

    /// Takes the next bytes and returns what may be shown by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(bytes);
        for secret in &self.secrets {
            if let Cow::Owned(clean) = replace(&text, secret) {
                text = clean;
            }
        }
        self.held = text.split_off(text.len() - self.begun(&text));
        text
    }

    /// Returns what was held back, which is no whole secret.
    pub(super) fn finish(self) -> Vec<u8> {
        self.held
    }

    /// Returns how many bytes at the end may be the beginning of a secret.
    fn begun(&self, text: &[u8]) -> usize {
        let of = |secret: &Vec<u8>| {
            let most = text.len().min(secret.len() - 1);
            (1..=most)
                .rev()
                .find(|length| text.ends_with(&secret[..*length]))
        };
        self.secrets.iter().filter_map(of).max().unwrap_or_default()
    }
}

fn replace<'a>(text: &'a [u8], secret: &[u8]) -> Cow<'a, [u8]> {
    let mut found = memmem::find_iter(text, secret).peekable();
    if found.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let mut clean = Vec::with_capacity(text.len());
    let mut rest = 0;
    for at in found {
        clean.extend_from_slice(&text[rest..at]);
        clean.extend_from_slice(REDACTED);
        rest = at + secret.len();
    }
    clean.extend_from_slice(&text[rest..]);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redact(pieces: &[&[u8]], secrets: &[&str]) -> String {
        let secrets: Vec<_> = secrets.iter().copied().map(str::to_owned).collect();
        let mut redactor = Redactor::new(&secrets);
        let mut clean: Vec<u8> = Vec::new();
        for piece in pieces {
            clean.extend(redactor.push(piece));
        }
        clean.extend(redactor.finish());
        String::from_utf8(clean).unwrap()
    }

    #[test]
    fn a_secret_of_several_lines_is_known_by_each_line_and_as_json() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n";
        for shown in [
            key.to_owned(),
            "line MIIEvQIBADANBgkq".to_owned(),
            serde_json::json!({ "key": key }).to_string(),
        ] {
            let clean = redact(&[shown.as_bytes()], &[key]);
            for line in ["MIIEvQ", "hkiG9w"] {
                assert!(!clean.contains(line), "{clean}");
            }
        }
    }

    #[test]
    fn the_longer_of_two_secrets_is_taken_out_whole() {
        let clean = redact(
            &[b"a secret-and-more b secret-"],
            &["secret-", "secret-and-more"],
        );
        assert_eq!(clean, "a [redacted] b [redacted]");
    }

    #[test]
    fn a_very_long_secret_is_taken_out_piece_by_piece() {
        let secret: String = (0..5_000).map(|n| format!("{n:05}")).collect();
        let clean = redact(&[secret.as_bytes()], &[&secret]);
        assert!(clean.len() < secret.len() / 10, "{}", clean.len());
    }

    proptest! {
        #[test]
        fn no_cut_lets_a_secret_through(
            before in "[a-c]{0,20}",
            after in "[a-c]{0,20}",
            cuts in prop::collection::vec(1_usize..6, 0..30),
        ) {
            let secret = "abcabcabb";
            let text = format!("{before}{secret}{after}");
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert!(!redact(&pieces, &[secret]).contains(secret));
        }
    }
}
