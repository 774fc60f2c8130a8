//! What the fuzz targets and the benchmarks run.

use crate::{OriginPolicy, proxy::Target, snapshot};

/// Reads a snapshot: references, hiding, parts, differences. Nothing may panic.
pub fn snapshot_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = snapshot::references(&text);
    let hidden = snapshot::hide_values(&text, |value| value == "x");
    let _ = snapshot::difference(&text, &hidden);
    let (mut from, mut rounds) = (0, 0);
    while let Some(next) = snapshot::part(&text, from, 40).next {
        assert!(next > from, "a part is never empty");
        (from, rounds) = (next, rounds + 1);
        if rounds > 1000 {
            break;
        }
    }
}

/// Reads an address as a policy and a proxy do. What passes is public.
pub fn address(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Target::of_authority(&text);
    let _ = OriginPolicy::only([text.as_ref()]);
    if OriginPolicy::public().check(&text).is_ok()
        && let Some(target) = Target::of_url(&text)
        && let Ok(address) = target.host.parse()
    {
        assert!(
            mcp_core::http_client::blocked(address).is_none(),
            "{target}"
        );
    }
}

/// How many references a snapshot has.
#[must_use]
pub fn references(text: &str) -> usize {
    snapshot::references(text).len()
}

/// A snapshot without these values.
#[must_use]
pub fn hide_values(text: &str, values: &[String]) -> String {
    snapshot::hide_values(text, |value| values.iter().any(|hidden| hidden == value))
}

/// How long the text is that says what changed.
#[must_use]
pub fn difference(old: &str, new: &str) -> usize {
    snapshot::difference(old, new).map_or(0, |text| text.len())
}
