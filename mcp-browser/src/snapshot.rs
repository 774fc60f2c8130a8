//! Accessibility snapshots as text: references, hiding, pages, differences.

use std::{collections::HashSet, fmt::Write as _, time::Duration};

use similar::{Algorithm, ChangeTag, TextDiff};

/// What stands for a text that is not shown.
pub(crate) const HIDDEN: &str = "[hidden]";
/// How long a difference may be searched for before a coarse one is taken.
const DIFF_TIME: Duration = Duration::from_millis(200);

/// The references in a snapshot.
pub(crate) fn references(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    for line in text.lines() {
        // What a page says stands in quotes or behind the brackets; a page that writes a reference into its text
        // gains nothing, since the driver looks the reference up in the page's own elements.
        for (_, rest) in line
            .match_indices("[ref=")
            .map(|(at, mark)| line.split_at(at + mark.len()))
        {
            if let Some((reference, _)) = rest.split_once(']')
                && is_reference(reference)
            {
                found.insert(reference.to_owned());
            }
        }
    }
    found
}

/// Whether a text looks like a reference: `e12`, `f3e12`.
pub(crate) fn is_reference(text: &str) -> bool {
    let rest = text.strip_prefix('f').map_or(text, |rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit())
    });
    let digits = rest.strip_prefix('e').unwrap_or_default();
    text.len() <= 24 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Hides the values of fields: those of a text box whose value is one of `values`.
pub(crate) fn hide_values(text: &str, values: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches('\n');
        match field_value(body) {
            Some((head, value)) if values.iter().any(|hidden| *hidden == unquote(value)) => {
                out.push_str(head);
                out.push_str(HIDDEN);
                out.push_str(&line[body.len()..]);
            }
            _ => out.push_str(line),
        }
    }
    out
}

/// Splits the line of a text box behind the colon.
fn field_value(line: &str) -> Option<(&str, &str)> {
    let item = line
        .trim_start()
        .strip_prefix("- ")?
        .trim_start_matches('\'');
    let field = ["textbox", "searchbox", "spinbutton", "combobox"]
        .iter()
        .any(|role| item.starts_with(role));
    let at = line.rfind("]: ")? + 3;
    field.then(|| line.split_at(at))
}

fn unquote(value: &str) -> String {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match inner {
        // YAML's double quotes are JSON's but for a few escapes that no password field needs.
        Some(_) => serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()),
        None => value.to_owned(),
    }
}

/// A part of a text that fits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) text: &'a str,
    /// Where to go on, in bytes.
    pub(crate) next: Option<usize>,
}

/// Cuts a part of at most `max` bytes that begins at `from`, between lines where there are any.
pub(crate) fn part(text: &str, from: usize, max: usize) -> Part<'_> {
    let start = floor(text, from.min(text.len()));
    let rest = &text[start..];
    if rest.len() <= max {
        return Part {
            text: rest,
            next: None,
        };
    }
    let hard = floor(rest, max.max(4));
    let end = rest[..hard].rfind('\n').map_or(hard, |line| line + 1);
    Part {
        text: &rest[..end],
        next: Some(start + end),
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What changed from one snapshot to the next, or `None` if nothing did. Lines that went begin with `-`, new ones
/// with `+`, each block with the number of its first line.
pub(crate) fn difference(old: &str, new: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .timeout(DIFF_TIME)
        .diff_lines(old, new);
    let mut out = String::new();
    for group in diff.grouped_ops(0) {
        if let Some(first) = group.first() {
            // Writing to a string does not fail.
            let _ = writeln!(out, "@@ line {}", first.new_range().start + 1);
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            out.push(sign);
            out.push_str(change.value().trim_end_matches('\n'));
            out.push('\n');
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SNAPSHOT: &str = "- heading \"Log in\" [level=1] [ref=e2]\n- textbox \"Password\" [ref=e5]: hunter2\n- textbox \"Name\" [ref=f1e6]: \"a: b\"\n- paragraph [ref=e7]: hunter2\n";

    #[test]
    fn references_are_found_and_told_from_selectors() {
        let found = references(SNAPSHOT);
        assert_eq!(found, ["e2", "e5", "f1e6", "e7"].map(str::to_owned).into());
        for (text, is) in [
            ("e1", true),
            ("f12e3", true),
            ("e", false),
            ("em", false),
            ("f1", false),
            ("ref", false),
            ("e1 > a", false),
        ] {
            assert_eq!(is_reference(text), is, "{text}");
        }
    }

    #[test]
    fn only_fields_are_hidden() {
        let hidden = hide_values(SNAPSHOT, &["hunter2".into(), "a: b".into()]);
        assert!(
            hidden.contains("Password\" [ref=e5]: [hidden]\n")
                && hidden.contains("[ref=f1e6]: [hidden]\n"),
            "{hidden}"
        );
        assert!(hidden.contains("paragraph [ref=e7]: hunter2"));
    }

    #[test]
    fn an_unchanged_page_costs_next_to_nothing() {
        let page: String = (0..10_000)
            .map(|n| format!("- link \"Item {n}\" [ref=e{n}]\n"))
            .collect();
        assert_eq!(difference(&page, &page), None);
        let changed = page.replace("\"Item 5000\"", "\"Sold\"");
        let diff = difference(&page, &changed).unwrap();
        assert!(
            diff.len() < 200 && diff.contains("@@ line 5001") && diff.contains("+- link \"Sold\""),
            "{diff}"
        );
    }

    proptest! {
        #[test]
        fn parts_make_the_whole(text in "(\\PC{0,20}\n?){0,20}", max in 1usize..50) {
            let (mut from, mut whole) = (0, String::new());
            loop {
                let part = part(&text, from, max);
                prop_assert!(part.text.len() <= max.max(4));
                whole.push_str(part.text);
                match part.next {
                    Some(next) => { prop_assert!(next > from); from = next; }
                    None => break,
                }
            }
            prop_assert_eq!(whole, text);
        }

        #[test]
        fn nothing_panics(text in "(- textbox \"?\\PC{0,8}\"? \\[ref=\\PC{0,4}\\]: \\PC{0,8}\n){0,5}") {
            let _ = references(&text);
            let _ = hide_values(&text, &["x".into()]);
            let _ = difference(&text, "- a\n");
        }
    }
}
