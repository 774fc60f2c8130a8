use std::fmt;

use http::{HeaderMap, Uri, header};
use mcp_core::secret::Secret;
use sha2::{Digest, Sha256};

use super::{Refusal, RefusalKind};

/// The longest token that is looked at, in bytes.
pub(super) const MAX_TOKEN: usize = 16 << 10;

/// The token that a request came with, after it has been verified.
///
/// # Security
///
/// It was issued for this server and proves nothing anywhere else, so there is no way to read it, to write it or
/// to turn it into a [`Credential`](mcp_core::Credential). What may happen to it is that the authorization server
/// exchanges it for another token (RFC 8693), which this crate's token exchange does.
#[derive(Clone)]
pub struct InboundToken(Secret);

impl InboundToken {
    pub(super) fn new(text: &str) -> Self {
        Self(Secret::new(text))
    }

    /// The text, for the token endpoint of the authorization server that issued it and for no one else.
    #[cfg(feature = "oauth")]
    pub(crate) fn for_exchange(&self) -> &Secret {
        &self.0
    }

    #[cfg(not(feature = "oauth"))]
    #[allow(dead_code, reason = "keeps the text alive for the fingerprint's owner")]
    fn text(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for InboundToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboundToken([redacted])")
    }
}

/// SHA-256 of a token: what caches and lists of revoked tokens hold in place of the token.
pub(super) fn fingerprint(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The token of a request, and the scheme that it stands under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Whether a proof comes with it (`Authorization: DPoP`).
    pub(super) proven: bool,
}

/// Reads the token of `Authorization: Bearer` (RFC 6750, section 2.1) or, where that is taken, `Authorization: DPoP`
/// (RFC 9449, section 7.1), the one place where it may stand.
pub(super) fn presented(headers: &HeaderMap, dpop: bool) -> Result<Option<Token<'_>>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::new(
            RefusalKind::SeveralCredentials,
            "there is more than one Authorization header",
        ));
    }
    let text = value
        .to_str()
        .map_err(|_| Refusal::malformed("the Authorization header is not plain text"))?;
    let Some((scheme, token)) = text.split_once(' ') else {
        return Ok(None);
    };
    let proven = dpop && scheme.eq_ignore_ascii_case("dpop");
    if !proven && !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim_start_matches(' ');
    if token.len() > MAX_TOKEN {
        return Err(Refusal::invalid("the token is too long"));
    }
    let bare = token.trim_end_matches('=');
    let is_68 = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    if bare.is_empty() || !bare.bytes().all(is_68) {
        return Err(Refusal::malformed("the token has characters that none has"));
    }
    Ok(Some(Token {
        text: token,
        proven,
    }))
}

/// Refuses a token in the address, where logs and histories keep it (OAuth 2.1, section 5.1).
pub(super) fn check_query(uri: &Uri) -> Result<(), Refusal> {
    let named = uri
        .query()
        .into_iter()
        .flat_map(|query| url::form_urlencoded::parse(query.as_bytes()))
        .any(|(name, _)| name == "access_token");
    match named {
        true => Err(Refusal::malformed(
            "a token must stand in the Authorization header, not in the address",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        presented(&headers, true)
            .map(|token| token.map(|own| own.text.to_owned()))
            .map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn a_bearer_token_is_read_by_its_grammar() {
        assert_eq!(
            read("Bearer abc.def-_~+/=="),
            Ok(Some("abc.def-_~+/==".into()))
        );
        assert_eq!(read("bearer  x"), Ok(Some("x".into())));
        assert_eq!(read("dpop y"), Ok(Some("y".into())));
        assert_eq!(read("Basic x"), Ok(None));
        assert_eq!(read("Bearer"), Ok(None));
        for bad in [
            "Bearer a b",
            "Bearer ",
            "Bearer a,b",
            "Bearer =",
            "Bearer a\"b",
        ] {
            assert_eq!(read(bad), Err(400), "{bad}");
        }
        assert_eq!(
            read(&format!("Bearer {}", "a".repeat(MAX_TOKEN + 1))),
            Err(401)
        );
    }

    #[test]
    fn check_14_a_token_in_the_address_is_refused() {
        for (uri, fits) in [
            ("/mcp", true),
            ("/mcp?x=access_token", true),
            ("/mcp?access_token=abc", false),
            ("/mcp?a=1&access%5Ftoken=abc", false),
        ] {
            assert_eq!(check_query(&uri.parse().unwrap()).is_ok(), fits, "{uri}");
        }
    }

    #[test]
    fn a_token_does_not_show() {
        assert_eq!(
            format!("{:?}", InboundToken::new("abc")),
            "InboundToken([redacted])"
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in "[ -~]{0,100}") {
            let _ = read(&text);
        }
    }
}
