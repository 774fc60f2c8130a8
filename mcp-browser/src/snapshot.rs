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

/// Hides the values of text boxes that are to be hidden.
pub(crate) fn hide_values(text: &str, hidden: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches('\n');
        match field_value(body) {
            Some((head, value)) if hidden(&unquote(value)) => {
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
    /// Where to continue, in bytes.
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
/// with `+`, each block with the number of its first line and the heading that it stands under.
///
/// Where the focus is does not count as a change: it moves with every action.
pub(crate) fn difference(old: &str, new: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let (old, new) = (without_focus(old), without_focus(new));
    if old == new {
        return None;
    }
    let (old, new) = (old.as_str(), new.as_str());
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .timeout(DIFF_TIME)
        .diff_lines(old, new);
    let mut out = String::new();
    let lines: Vec<&str> = new.lines().collect();
    for group in diff.grouped_ops(0) {
        if let Some(first) = group.first() {
            let at = first.new_range().start;
            let under =
                context(&lines, at).map_or_else(String::new, |line| format!(", under {line}"));
            // Writing to a string does not fail.
            let _ = writeln!(out, "@@ line {}{under}", at + 1);
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

/// The lines of an element and what is in it, by its reference, at the left margin.
pub(crate) fn subtree(text: &str, reference: &str) -> Option<String> {
    let mark = format!("[ref={reference}]");
    let mut lines = text.lines().skip_while(|line| !line.contains(&mark));
    let first = lines.next()?;
    let depth = indent(first);
    let below = lines.take_while(|line| indent(line) > depth);
    let lines = std::iter::once(first).chain(below);
    Some(lines.map(|line| format!("{}\n", &line[depth..])).collect())
}

/// The lines down to a level, with how many are left out below each.
pub(crate) fn to_depth(text: &str, levels: usize) -> String {
    let most = levels.saturating_sub(1) * 2;
    let mut out = String::new();
    let mut left_out = 0;
    for line in text.lines().map(Some).chain([None]) {
        let deep = line.is_some_and(|line| indent(line) > most);
        if deep {
            left_out += 1;
            continue;
        }
        if left_out > 0 {
            let margin = " ".repeat(most + 2);
            let _ = writeln!(out, "{margin}({left_out} more lines)");
            left_out = 0;
        }
        if let Some(line) = line {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The lines that hold a text in any case, with the lines that they stand in.
pub(crate) fn find(text: &str, wanted: &str) -> String {
    let wanted = wanted.to_lowercase();
    let mut path: Vec<(&str, bool)> = Vec::new();
    let mut out = String::new();
    for line in text.lines() {
        let depth = indent(line);
        while path.last().is_some_and(|(above, _)| indent(above) >= depth) {
            path.pop();
        }
        path.push((line, false));
        if line.to_lowercase().contains(&wanted) {
            for (line, shown) in &mut path {
                if !*shown {
                    out.push_str(line);
                    out.push('\n');
                    *shown = true;
                }
            }
        }
    }
    out
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// What a line stands under: the last heading before it, or else the nearest line above that has a name.
fn context<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let before = lines.get(..at)?;
    let name = |line: &'a str| {
        let item = line.trim_start().strip_prefix("- ")?;
        let end = item
            .rfind('"')
            .filter(|end| *end > item.find('"').unwrap_or(*end))?;
        Some(&item[..=end])
    };
    let heading = before
        .iter()
        .rev()
        .find(|line| line.trim_start().starts_with("- heading "));
    if let Some(heading) = heading {
        return name(heading);
    }
    let mut depth = indent(lines.get(at)?);
    for line in before.iter().rev() {
        if indent(line) < depth {
            depth = indent(line);
            if let Some(name) = name(line) {
                return Some(name);
            }
        }
    }
    None
}

fn without_focus(text: &str) -> String {
    text.replace(" [active]", "")
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
        let hidden = hide_values(SNAPSHOT, |value| ["hunter2", "a: b"].contains(&value));
        assert!(
            hidden.contains("Password\" [ref=e5]: [hidden]\n")
                && hidden.contains("[ref=f1e6]: [hidden]\n"),
            "{hidden}"
        );
        assert!(hidden.contains("paragraph [ref=e7]: hunter2"));
    }

    #[test]
    fn parts_of_a_snapshot_are_cut_out_by_reference_depth_and_text() {
        let text = "- main [ref=e1]:\n  - heading \"Basket\" [level=2] [ref=e2]\n  - list [ref=e3]:\n    - listitem [ref=e4]: Tea\n    - listitem [ref=e5]: Milk\n- contentinfo [ref=e6]\n";
        assert_eq!(
            subtree(text, "e3").unwrap(),
            "- list [ref=e3]:\n  - listitem [ref=e4]: Tea\n  - listitem [ref=e5]: Milk\n"
        );
        assert_eq!(subtree(text, "e9"), None);
        assert_eq!(
            to_depth(text, 1),
            "- main [ref=e1]:\n  (4 more lines)\n- contentinfo [ref=e6]\n"
        );
        assert_eq!(to_depth(text, 9), text);
        assert_eq!(
            find(text, "TEA"),
            "- main [ref=e1]:\n  - list [ref=e3]:\n    - listitem [ref=e4]: Tea\n"
        );
        assert_eq!(find(text, "coffee"), "");
        let diff = difference(text, &text.replace("Milk", "Cream")).unwrap();
        assert!(
            diff.starts_with("@@ line 5, under heading \"Basket\"\n"),
            "{diff}"
        );
        let focused = text.replace("[ref=e4]", "[active] [ref=e4]");
        assert_eq!(difference(text, &focused), None);
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
            let _ = hide_values(&text, |value| value == "x");
            let _ = difference(&text, "- a\n");
            let _ = (find(&text, "x"), to_depth(&text, 2), subtree(&text, "e1"));
        }
    }
}
