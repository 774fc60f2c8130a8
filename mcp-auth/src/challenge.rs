//! `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750, section 3; RFC 9728, section 5.1).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header};
use url::Url;

/// The longest header value that is read, in bytes.
const MAX_LEN: usize = 8 << 10;

/// How many challenges, and how many parameters of one, are read.
const MAX_PARTS: usize = 32;

/// One challenge: a scheme and its parameters.
///
/// Reading follows the grammar, so that a `scope=` inside a quoted text is not taken for a parameter.
///
/// # Examples
///
/// ```
/// use mcp_auth::Challenge;
///
/// let value = r#"Bearer error_description="add scope=admin", scope="read write""#.parse()?;
/// let challenges = Challenge::parse_all([&value]);
/// assert_eq!(challenges[0].param("scope"), Some("read write"));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    params: Vec<(String, String)>,
}

impl Challenge {
    /// Begins a `Bearer` challenge.
    #[must_use]
    pub fn bearer() -> Self {
        Self {
            scheme: "Bearer".to_owned(),
            params: Vec::new(),
        }
    }

    /// Begins a `DPoP` challenge (RFC 9449, section 7.1).
    #[must_use]
    pub fn dpop() -> Self {
        Self {
            scheme: "DPoP".to_owned(),
            params: Vec::new(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the scheme, as it was written.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns whether the scheme is `Bearer`.
    #[must_use]
    pub fn is_bearer(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("bearer")
    }

    /// Returns whether the scheme is `DPoP` (RFC 9449, section 7.1).
    #[must_use]
    pub fn is_dpop(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("dpop")
    }

    /// Returns a parameter. Names are compared without regard to case; the first of two of a name counts.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self
            .params
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the scopes of the parameter `scope`.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.param("scope")
            .unwrap_or_default()
            .split(' ')
            .filter(|scope| !scope.is_empty())
    }

    /// Returns the address in `resource_metadata` (RFC 9728, section 5.1), if it is one.
    #[must_use]
    pub fn resource_metadata(&self) -> Option<Url> {
        Url::parse(self.param("resource_metadata")?).ok()
    }

    /// Returns every address in `resource_metadata`, for servers that name several.
    #[cfg(feature = "oauth")]
    pub(crate) fn resource_metadata_all(&self) -> impl Iterator<Item = Url> {
        let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("resource_metadata");
        let values = self.params.iter().filter(named);
        values.filter_map(|(_, value)| Url::parse(value).ok())
    }

    /// Writes the header value. Characters that a header cannot carry are left out.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        let mut text = self.scheme.clone();
        for (index, (name, value)) in self.params.iter().enumerate() {
            let separator = if index == 0 { " " } else { ", " };
            let _ = write!(text, "{separator}{name}=\"");
            for character in value.chars().filter(|c| matches!(c, ' '..='~')) {
                if matches!(character, '"' | '\\') {
                    text.push('\\');
                }
                text.push(character);
            }
            text.push('"');
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
    }

    /// Reads all challenges of all `WWW-Authenticate` headers.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Vec<Self> {
        Self::parse_all(headers.get_all(header::WWW_AUTHENTICATE))
    }

    /// Reads all challenges of header values. What cannot be read ends the value it stands in.
    #[must_use]
    pub fn parse_all<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<Self> {
        let mut found = Vec::new();
        for value in values.into_iter().take(MAX_PARTS) {
            if let Ok(text) = value.to_str()
                && text.len() <= MAX_LEN
            {
                parse_into(text, &mut found);
            }
        }
        found
    }
}

fn parse_into(text: &str, found: &mut Vec<Challenge>) {
    let mut rest = text;
    while found.len() < MAX_PARTS {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        // A name followed by `=` is a parameter of the challenge before it; anything else begins a challenge.
        match (spaced.strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) if !value.starts_with('=') => {
                let Some((value, after)) = read_value(value.trim_start_matches([' ', '\t'])) else {
                    return;
                };
                if challenge.params.len() < MAX_PARTS {
                    challenge.params.push((word.to_owned(), value));
                }
                rest = after;
            }
            _ => {
                found.push(Challenge {
                    scheme: word.to_owned(),
                    params: Vec::new(),
                });
                rest = skip_token68(after);
            }
        }
    }
}

/// Skips the opaque text that schemes such as `Negotiate` have in place of parameters.
fn skip_token68(after: &str) -> &str {
    let spaced = after.trim_start_matches([' ', '\t']);
    let is_68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let end = spaced.find(|c| !is_68(c)).unwrap_or(spaced.len());
    let tail = spaced[end..].trim_start_matches('=');
    let closed = tail.trim_start_matches([' ', '\t']);
    match end > 0 && (closed.is_empty() || closed.starts_with(',')) {
        true => tail,
        false => after,
    }
}

/// Splits off a token (RFC 9110, section 5.6.2).
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// Reads a token or a quoted string (RFC 9110, section 5.6.4).
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, after) = token(text);
        return Some((word.to_owned(), after));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, character) in quoted.char_indices() {
        match character {
            _ if escaped => {
                value.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Vec<Challenge> {
        Challenge::parse_all([&HeaderValue::try_from(text).unwrap()])
    }

    #[test]
    fn several_challenges_and_opaque_texts_are_told_apart() {
        let found = parse(
            r#"Negotiate abc/def==, Basic realm="a, b", Bearer scope="x y" , error=invalid_token"#,
        );
        let schemes: Vec<_> = found.iter().map(Challenge::scheme).collect();
        assert_eq!(schemes, ["Negotiate", "Basic", "Bearer"]);
        assert_eq!(found[1].param("realm"), Some("a, b"));
        assert_eq!(found[2].scopes().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(found[2].param("ERROR"), Some("invalid_token"));
    }

    #[test]
    fn a_parameter_inside_a_text_is_not_one() {
        let found = parse(r#"Bearer error_description="needs scope=\"admin\"", scope="read""#);
        assert_eq!(found[0].param("scope"), Some("read"));
        assert_eq!(
            found[0].param("error_description"),
            Some(r#"needs scope="admin""#)
        );
    }

    #[test]
    fn what_is_malformed_is_left_out() {
        assert!(parse("").is_empty());
        assert!(parse("=,=").is_empty());
        assert_eq!(parse(r#"Bearer scope="open"#)[0].param("scope"), None);
        assert_eq!(parse("Bearer")[0].params.len(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(values in prop::collection::vec("[ -~]{0,20}", 0..4)) {
            let mut challenge = Challenge::bearer();
            for (index, value) in values.iter().enumerate() {
                challenge = challenge.with(&format!("p{index}"), value);
            }
            prop_assert_eq!(Challenge::parse_all([&challenge.to_header()]), vec![challenge]);
        }

        #[test]
        fn nothing_makes_the_parser_panic(text in "[ -~]{0,200}") {
            parse(&text);
        }
    }
}
