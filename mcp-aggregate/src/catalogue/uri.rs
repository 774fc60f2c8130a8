//! Matching URIs to templates and to places (RFC 6570, level 1 to 3 expressions as wildcards).

/// Returns whether a URI may have come from a template.
pub(super) fn matches(template: &str, uri: &str) -> bool {
    let mut rest = uri;
    let mut parts = Vec::new();
    let mut text = template;
    while let Some(open) = text.find('{') {
        let Some(close) = text[open..].find('}') else {
            return template == uri;
        };
        parts.push(&text[..open]);
        text = &text[open + close + 1..];
    }
    let Some((first, middle)) = parts.split_first() else {
        return template == uri;
    };
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    for literal in middle {
        match rest.find(literal) {
            Some(at) => rest = &rest[at + literal.len()..],
            None => return false,
        }
    }
    rest.ends_with(text)
}

/// Returns scheme and authority of a URI, or the scheme alone where there is no authority.
pub(super) fn place(uri: &str) -> &str {
    let Some(colon) = uri.find(':') else {
        return "";
    };
    match uri[colon + 1..].strip_prefix("//") {
        Some(rest) => {
            let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            &uri[..colon + 3 + authority]
        }
        None => &uri[..=colon],
    }
}

/// Returns the scheme of a URI.
pub(super) fn scheme(uri: &str) -> &str {
    uri.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_what_they_expand_to() {
        for (template, uri, expected) in [
            ("test://{id}/data", "test://1/data", true),
            ("test://{id}/data", "test://1/other", false),
            ("test://{id}/data", "other://1/data", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("a{x}b{y}c", "a1b2c", true),
            ("a{x}b{y}c", "a1c", false),
            ("plain", "plain", true),
            ("plain", "plains", false),
            ("broken{", "broken{", true),
            ("{x}", "anything", true),
        ] {
            assert_eq!(matches(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn places_are_scheme_and_authority() {
        assert_eq!(place("https://a.example:1/x?y"), "https://a.example:1");
        assert_eq!(place("file:///x"), "file://");
        assert_eq!(place("memo:x"), "memo:");
        assert_eq!(place("x"), "");
        assert_eq!(scheme("memo:x"), "memo");
    }
}
