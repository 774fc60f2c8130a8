//! What the driver's log of a call knows about why it failed.
//!
//! The driver sends the log beside the error. The client library drops it, so that it is put into the error's message on
//! the way, between two marks.

use serde_json::Value;

/// Stands before and behind the log in a message, and between its lines.
const MARK: char = '\u{1e}';
/// How many elements are named that an ambiguous selector matches.
const MATCHES: usize = 5;
/// The longest description of an element, in characters.
const DESCRIPTION: usize = 200;

/// Puts the log of a failed call into its error's message.
pub(crate) fn keep(answer: &mut Value) {
    let lines = answer["log"].as_array().into_iter().flatten();
    let lines = lines.filter_map(Value::as_str);
    let mut log: Vec<String> = lines.map(|line| line.replace(MARK, " ")).collect();
    // What a check found is beside the error.
    if let Some(received) = received(&answer["errorDetails"]["received"]["value"]) {
        log.push(format!("unexpected value {}", received.replace(MARK, " ")));
    }
    let message = &mut answer["error"]["error"]["message"];
    if let Some(text) = message.as_str()
        && !log.is_empty()
    {
        let text = text.replace(MARK, " ");
        *message = format!("{text}{MARK}{}{MARK}", log.join("\n")).into();
    }
}

/// A plain value in the driver's notation.
fn received(value: &Value) -> Option<String> {
    let text = value["s"].as_str().map(|text| format!("{text:?}"));
    text.or_else(|| Some(value["n"].as_number()?.to_string()))
        .or_else(|| Some(value["b"].as_bool()?.to_string()))
}

/// A message without its log, and the log.
pub(crate) fn split(message: &str) -> (&str, &str) {
    let mut parts = message.splitn(3, MARK);
    let text = parts.next().unwrap_or_default();
    (text, parts.next().unwrap_or_default())
}

/// The last line that names a cause.
pub(crate) fn reason(log: &str) -> Option<String> {
    let causes = [
        "intercepts pointer events",
        "element is not ",
        "element is outside of the viewport",
        "element was detached",
        "did not find some options",
        "unexpected value",
    ];
    let line = |line: &str| {
        let line = line.trim_start_matches([' ', '-']);
        // "2 × " tells how often.
        let line = line.split_once(" \u{d7} ").map_or(line, |(_, rest)| rest);
        line.trim().to_owned()
    };
    let lines: Vec<String> = log.lines().map(line).collect();
    let found = lines
        .iter()
        .rev()
        .find(|line| causes.iter().any(|cause| line.contains(cause)))?;
    let element = lines
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("locator resolved to "));
    let found = described(found);
    Some(match element {
        Some(element) => format!("{found}; it is {}", described(element)),
        None => found,
    })
}

/// The elements that an ambiguous selector matches, as the driver lists them.
pub(crate) fn matches(text: &str) -> String {
    let listed = text.lines().skip(1).map(str::trim_start);
    let listed = listed.filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let listed = listed.filter(|line| line.contains(") <")).take(MATCHES);
    listed
        .map(|line| format!("\n{}", described(line)))
        .collect()
}

/// A description of an element that fits, without the value of a field.
fn described(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, value)) = rest.split_once(" value=\"") {
        out.push_str(before);
        rest = value.split_once('"').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out.chars().take(DESCRIPTION).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_cause_is_taken_from_the_log_and_values_are_not() {
        let mut answer = json!({ "error": { "error": { "message": "Timeout 5000ms exceeded." } }, "log": [
            "  - waiting for locator('#a')", "  -   - locator resolved to <input id=\"a\" value=\"hunter2\"/>",
            "  - attempting click action", "  2 \u{d7} waiting for element to be visible, enabled and stable",
            "    - element is visible, enabled and stable", "    - <div id=\"banner\"></div> intercepts pointer events",
            "    - retrying click action" ] });
        keep(&mut answer);
        let message = answer["error"]["error"]["message"].as_str().unwrap();
        let (text, log) = split(message);
        assert_eq!(text, "Timeout 5000ms exceeded.");
        let reason = reason(log).unwrap();
        assert_eq!(
            reason,
            "<div id=\"banner\"></div> intercepts pointer events; it is <input id=\"a\"/>"
        );
        assert_eq!(split("no log"), ("no log", ""));
    }

    #[test]
    fn matches_of_an_ambiguous_selector_are_listed() {
        let text = "strict mode violation: locator('a') resolved to 2 elements:\n    1) <a>One</a> aka getByText('One')\n    2) <a>Two</a>\n\n    at x (/home/me/a.js:1)";
        assert_eq!(
            matches(text),
            "\n1) <a>One</a> aka getByText('One')\n2) <a>Two</a>"
        );
    }
}
