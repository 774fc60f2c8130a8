//! The text of a YAML file of SOPS: its documents, its dates, and changes that leave the comments.

use std::{collections::HashSet, fmt::Write as _};

use super::Node;

/// Reads a document. Numbers may be infinite or none, as they are to the program.
pub(super) fn parse(text: &str) -> Result<Node, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// Whether two documents say the same; a number that is none is the same as another.
fn same(one: &Node, other: &Node) -> bool {
    match (one, other) {
        (Node::Float(one), Node::Float(other)) => one.total_cmp(other).is_eq(),
        (Node::List(one), Node::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Node::Map(one), Node::Map(other)) => {
            let pairs = || one.iter().zip(other);
            one.len() == other.len()
                && pairs().all(|((name, one), (own, other))| name == own && same(one, other))
        }
        (one, other) => one == other,
    }
}

/// Splits a text into its documents. A line within a block of text is no mark: it is indented.
pub(super) fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(text.len());
    let pieces: Vec<_> = starts.windows(2).map(|own| &text[own[0]..own[1]]).collect();
    let says = |piece: &&str| {
        let mut lines = piece.lines().map(str::trim);
        lines.any(|line| !line.is_empty() && line != "---" && !line.starts_with('#'))
    };
    pieces.into_iter().filter(says)
}

/// Writes a date, or a date and a time, as the program counts a time (RFC 3339); `None` for another text.
pub(super) fn time(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| {
        bytes
            .get(from..to)
            .is_some_and(|own| own.iter().all(u8::is_ascii_digit))
    };
    let date = digits(0, 4)
        && digits(5, 7)
        && digits(8, 10)
        && bytes.get(4) == Some(&b'-')
        && bytes.get(7) == Some(&b'-');
    if !date {
        return None;
    }
    if text.len() == 10 {
        return Some(format!("{text}T00:00:00Z"));
    }
    let clock = matches!(bytes.get(10), Some(b'T' | b't' | b' '))
        && digits(11, 13)
        && digits(14, 16)
        && digits(17, 19);
    clock.then(|| {
        let mut own = text.to_owned();
        own.replace_range(10..11, "T");
        match own.ends_with('z') {
            true => own.to_uppercase(),
            false => own,
        }
    })
}

/// The dates of a text that stand without quotes, which are times to the program: the member's name (or none, in a list) and
/// what is written.
#[derive(Debug, Default)]
pub(super) struct Dates(HashSet<(String, String)>);

impl Dates {
    /// Writes a text as the program counts it, if it is a time to it.
    pub(super) fn time(&self, name: &str, own: &str) -> Option<String> {
        let written = time(own)?;
        let of = |name: &str| self.0.contains(&(name.to_owned(), own.to_owned()));
        (of(name) || of("")).then_some(written)
    }
}

/// Finds the dates without quotes in a text.
pub(super) fn dates(text: &str) -> Dates {
    let mut found = HashSet::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.split(" #").next().unwrap_or_default().trim_end();
        let (name, value) = match line.strip_prefix("- ") {
            Some(value) => ("", value),
            None => line.split_once(": ").unwrap_or_default(),
        };
        if time(value.trim()).is_some() {
            let name = name.trim_matches(['"', '\'']);
            found.insert((name.to_owned(), value.trim().to_owned()));
        }
    }
    Dates(found)
}

/// Changes a text so that it says what a document says, line by line; `None` where that is not possible.
///
/// The result is read again: only one that says exactly the same is returned.
pub(super) fn edit(text: &str, document: &Node) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let before = parse(text).ok()?;
    apply(&mut lines, &before, document, &mut Vec::new())?;
    let mut edited = lines.join("\n");
    edited.push('\n');
    let again = parse(&edited).ok()?;
    same(&again, document).then_some(edited)
}

/// Brings the members of one mapping to what they shall be.
fn apply(
    lines: &mut Vec<String>,
    before: &Node,
    after: &Node,
    path: &mut Vec<String>,
) -> Option<()> {
    for (name, _) in before.members() {
        if after.get(name).is_none() {
            path.push(name.clone());
            let (from, to) = block(lines, path)?;
            lines.drain(from..to);
            path.pop();
        }
    }
    for (name, node) in after.members() {
        path.push(name.clone());
        match before.get(name) {
            Some(own) if same(own, node) => {}
            Some(own) if !own.members().is_empty() && !node.members().is_empty() => {
                apply(lines, own, node, path)?;
            }
            Some(_) => {
                let (from, to) = block(lines, path)?;
                let indent = indent_of(&lines[from]);
                lines.splice(from..to, written(name, node, indent)?);
            }
            None => {
                let (at, indent) = end_of(lines, &path[..path.len() - 1])?;
                let new = written(name, node, indent)?;
                lines.splice(at..at, new);
            }
        }
        path.pop();
    }
    Some(())
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn says_nothing(line: &str) -> bool {
    let own = line.trim();
    own.is_empty() || own.starts_with('#') || own == "---"
}

/// Whether a line begins a member.
fn begins(line: &str, name: &str) -> bool {
    let own = line.trim_start();
    let plain = own.strip_prefix(name);
    let quoted = || own.strip_prefix('"')?.strip_prefix(name)?.strip_prefix('"');
    let rest = plain.filter(|rest| rest.starts_with(':')).or_else(quoted);
    rest.is_some_and(|rest| rest == ":" || rest.starts_with(": "))
}

/// The lines of the member at a path.
fn block(lines: &[String], path: &[String]) -> Option<(usize, usize)> {
    let (mut from, mut to) = (0, lines.len());
    for (depth, name) in path.iter().enumerate() {
        let mut inner = (from..to).filter(|&at| !says_nothing(&lines[at]));
        let start = match depth {
            0 => inner.next()?,
            _ => inner.nth(1)?,
        };
        let indent = indent_of(&lines[start]);
        let own = |at: &usize| indent_of(&lines[*at]) == indent && begins(&lines[*at], name);
        let at = (start..to).find(own)?;
        let ends = |at: &usize| {
            !lines[*at].trim().is_empty()
                && indent_of(&lines[*at]) <= indent
                && !lines[*at].trim_start().starts_with("- ")
        };
        (from, to) = (at, (at + 1..to).find(ends).unwrap_or(to));
    }
    Some((from, to))
}

/// Where a new member of the mapping at a path goes, and how far it is indented. The metadata stay last.
fn end_of(lines: &[String], path: &[String]) -> Option<(usize, usize)> {
    if path.is_empty() {
        let at = lines
            .iter()
            .position(|line| begins(line, "sops") && indent_of(line) == 0);
        return Some((at.unwrap_or(lines.len()), 0));
    }
    let (from, to) = block(lines, path)?;
    let mut inner = (from + 1..to).filter(|&at| !says_nothing(&lines[at]));
    let first = inner.next()?;
    Some((to, indent_of(&lines[first])))
}

/// The lines of a member.
fn written(name: &str, node: &Node, indent: usize) -> Option<Vec<String>> {
    let own = Node::Map(vec![(name.to_owned(), node.clone())]);
    let text = serde_saphyr::to_string(&own).ok()?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut own = String::new();
        let _ = write!(own, "{:indent$}{line}", "");
        lines.push(own);
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart_by_their_marks() {
        let of = |text: &str| documents(text).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of("a: 1\n").len(), 1);
        assert_eq!(of("---\na: 1\n---\nb: |\n    ---\n    x\n").len(), 2);
        assert_eq!(of("# only\n---\n").len(), 0);
    }

    #[test]
    fn dates_are_counted_as_times() {
        for (text, expected) in [
            ("2024-01-02", Some("2024-01-02T00:00:00Z")),
            ("2024-01-02T03:04:05Z", Some("2024-01-02T03:04:05Z")),
            ("2024-01-02 03:04:05Z", Some("2024-01-02T03:04:05Z")),
            ("2024-1-2", None),
            ("20240102", None),
            ("a", None),
            ("2024-01-02x", None),
        ] {
            assert_eq!(time(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_change_leaves_comments_and_whatever_it_is_not_about() {
        let text =
            "# top\na: 1\nb:\n    # inside\n    c: x\n    d: y\n# before\nsops:\n    mac: z\n";
        let mut node = parse(text).unwrap();
        node.set(&["b", "c"], Node::text("new"));
        node.set(&["b", "e"], Node::text("more"));
        node.set(&["n", "m"], Node::text("deep"));
        node.set(&["sops", "mac"], Node::text("q"));
        // A new member of the document comes before the metadata, as readers expect.
        if let Node::Map(members) = &mut node {
            let last = members.pop().unwrap();
            members.insert(2, last);
        }
        let edited = edit(text, &node).unwrap();
        for comment in ["# top", "    # inside", "# before"] {
            assert!(edited.contains(comment), "{edited}");
        }
        let mut fewer = node.clone();
        assert!(fewer.remove(&["b"]));
        assert!(edit(&edited, &fewer).is_some_and(|own| own.contains("# top")));
        assert_eq!(edit("{a: 1}\n", &node), None, "not line by line");
    }

    #[test]
    fn numbers_that_the_program_writes_are_read() {
        for text in [
            "1.2345678901234568e+29",
            ".inf",
            "-.inf",
            ".nan",
            "123456789012345678901234567890",
            "15",
            "0.1",
        ] {
            let read = parse(&format!("a: {text}\n"));
            let read = read.unwrap_or_else(|error| panic!("{text}: {error}"));
            let number = read.get("a").unwrap();
            assert!(matches!(number, Node::Int(_) | Node::Float(_)), "{text}");
        }
    }
}
