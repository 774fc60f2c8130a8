//! What a client takes as an answer.

use http::{HeaderMap, header};

pub(super) const JSON: &str = "application/json";
pub(super) const EVENTS: &str = "text/event-stream";

/// The types that a client accepts, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) json: bool,
    pub(super) events: bool,
}

impl Accepted {
    /// Reads `Accept`. Without the header a client takes anything (RFC 9110, section 12.5.1); `None` where it takes
    /// neither of the two types.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        // What clients send, letter by letter.
        const USUAL: &[u8] = b"application/json, text/event-stream";
        let own = headers.get(header::ACCEPT);
        if own.is_none_or(|accept| accept.as_bytes() == USUAL) {
            return Some(Self {
                json: true,
                events: true,
            });
        }
        let (json, events) = (accepts(headers, JSON), accepts(headers, EVENTS));
        (json || events).then_some(Self { json, events })
    }
}

/// Whether `Accept` admits a type (RFC 9110, section 12.5.1). The most specific range decides where its quality is 0.
fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let family = wanted.split('/').next().unwrap_or_default();
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?;
            let rank = if name.eq_ignore_ascii_case(wanted) {
                2
            } else if name
                .strip_suffix("/*")
                .is_some_and(|own| own.eq_ignore_ascii_case(family))
            {
                1
            } else if name == "*/*" {
                0
            } else {
                return None;
            };
            let refused = parts
                .filter_map(|part| part.split_once('='))
                .any(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0_f32)
                });
            Some((rank, !refused))
        })
        .max()
        .is_some_and(|(_, accepted)| accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_qualities() {
        for (accept, expected) in [
            (None, Some((true, true))),
            (Some("application/json"), Some((true, false))),
            (Some("text/event-stream"), Some((false, true))),
            (Some("text/*, Application/JSON;q=0.5"), Some((true, true))),
            (Some("*/*"), Some((true, true))),
            (Some("*/*, text/event-stream;q=0"), Some((true, false))),
            (Some("text/html"), None),
            (Some(""), None),
            (Some("application/json;q=0.0"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            let accepted = Accepted::of(&headers).map(|own| (own.json, own.events));
            assert_eq!(accepted, expected, "{accept:?}");
        }
    }
}
