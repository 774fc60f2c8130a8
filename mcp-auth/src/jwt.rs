//! Checking JSON Web Tokens (RFC 7519, RFC 8725, RFC 9068).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, crypto};
use serde::Deserialize;
use serde_json::Value;

use crate::jwk::{Key, KeySource, NoKey};

/// The header of a token, as far as it may influence anything. `jku`, `jwk`, `x5u` and `x5c` may not.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
}

/// Reads a member that counts as present also where it is `null` (RFC 7515, section 4.1.11 wants a list).
pub(crate) fn present<'de, D: serde::Deserializer<'de>>(
    reader: D,
) -> Result<Option<Value>, D::Error> {
    Value::deserialize(reader).map(Some)
}

/// The claims of a token.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: Option<String>,
    pub(crate) sub: Option<String>,
    #[serde(default)]
    aud: OneOrMany,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    pub(crate) jti: Option<String>,
    #[serde(flatten)]
    pub(crate) rest: HashMap<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let slice = match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many.as_slice(),
        };
        slice.iter().map(String::as_str)
    }
}

impl Claims {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.rest.get(name)?.as_str()
    }

    pub(crate) fn expires(&self) -> Option<SystemTime> {
        date(self.exp?)
    }

    pub(crate) fn issued(&self) -> Option<SystemTime> {
        date(self.iat?)
    }

    /// Returns the scopes of `scope` (a text, RFC 9068) or `scp` (a list or a text, Microsoft and Okta).
    pub(crate) fn scopes(&self) -> Vec<String> {
        let split = |text: &str| -> Vec<String> {
            text.split(' ')
                .filter(|scope| !scope.is_empty())
                .map(str::to_owned)
                .collect()
        };
        match self.rest.get("scope").or_else(|| self.rest.get("scp")) {
            Some(Value::String(text)) => split(text),
            Some(Value::Array(list)) => list
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Returns who acts for the subject, the present actor first (RFC 8693, section 4.1).
    pub(crate) fn actors(&self) -> Vec<String> {
        let mut actors = Vec::new();
        let mut next = self.rest.get("act");
        while let (Some(act), true) = (next, actors.len() < 8) {
            if let Some(subject) = act.get("sub").and_then(Value::as_str) {
                actors.push(subject.to_owned());
            }
            next = act.get("act");
        }
        actors
    }
}

pub(crate) fn date(seconds: f64) -> Option<SystemTime> {
    // A date that no clock will ever show is as good as none.
    (seconds.is_finite() && (0.0..1e11).contains(&seconds))
        .then(|| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

/// What a token has to be.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) types: &'static [&'static str],
    pub(crate) leeway: Duration,
}

/// The algorithms that are taken unless others are named.
pub(crate) fn usual_algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
        Algorithm::RS256,
        Algorithm::PS256,
    ]
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Token(&'static str),
    Unavailable,
}

/// Splits a token into its signed part, its signature, its header and its claims, and proves nothing.
fn split(token: &str) -> Option<(&str, &str, Header, Claims)> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    if claims.contains('.') {
        return None;
    }
    let header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some((message, signature, header, claims))
}

/// Returns the issuer that a token claims to be of, if it has the shape of one. Proves nothing.
pub(crate) fn claimed_issuer(token: &str) -> Option<String> {
    split(token)?.3.iss
}

/// Checks a token: signature, type, issuer, audience and times.
pub(crate) async fn verify(
    token: &str,
    rules: &Rules,
    keys: &Arc<KeySource>,
    now: SystemTime,
) -> Result<(Claims, Arc<Key>), Bad> {
    let (message, signature, header, claims) =
        split(token).ok_or(Bad::Token("the token is not a JSON Web Token"))?;
    if header.crit.is_some() {
        // None of the extensions is known here (RFC 7515, section 4.1.11).
        return Err(Bad::Token(
            "the token demands an extension that is not known here",
        ));
    }
    if let Some(kind) = &header.typ
        && !rules.types.iter().any(|own| is_type(kind, own))
    {
        return Err(Bad::Token("the token is of another type"));
    }
    // `none` and everything else that is not on the list ends here, before any key is looked for.
    let algorithm = header
        .alg
        .parse::<Algorithm>()
        .ok()
        .filter(|algorithm| rules.algorithms.contains(algorithm))
        .ok_or(Bad::Token(
            "the token is signed by an algorithm that is not allowed",
        ))?;
    // Cheap checks first: a token that is not meant for us does not cost a signature or a fetch.
    check_claims(&claims, rules, now)?;
    let key =
        keys.find(header.kid.as_deref(), algorithm)
            .await
            .map_err(|missing| match missing {
                NoKey::Unknown => Bad::Token("the token is signed by an unknown key"),
                NoKey::Unavailable => Bad::Unavailable,
            })?;
    match crypto::verify(signature, message.as_bytes(), &key.decoding, algorithm) {
        Ok(true) => Ok((claims, key)),
        _ => Err(Bad::Token("the signature of the token is wrong")),
    }
}

pub(crate) fn is_type(found: &str, own: &str) -> bool {
    let bare = found.strip_prefix("application/").unwrap_or(found);
    bare.eq_ignore_ascii_case(own)
}

/// Checks everything but the signature. Claims that are not there are as wrong as wrong ones.
fn check_claims(claims: &Claims, rules: &Rules, now: SystemTime) -> Result<(), Bad> {
    if claims.iss.as_deref() != Some(&rules.issuer) {
        return Err(Bad::Token("the token is of another issuer"));
    }
    if !claims
        .aud
        .iter()
        .any(|own| rules.audiences.iter().any(|us| us == own))
    {
        return Err(Bad::Token("the token is not meant for this server"));
    }
    let end = claims
        .expires()
        .ok_or(Bad::Token("the token does not say when it expires"))?;
    if now >= end + rules.leeway {
        return Err(Bad::Token("the token has expired"));
    }
    let begins = match claims.nbf {
        Some(begin) => Some(date(begin).ok_or(Bad::Token("the token's `nbf` is not a date"))?),
        None => None,
    };
    let issued = match claims.iat {
        Some(issued) => Some(date(issued).ok_or(Bad::Token("the token's `iat` is not a date"))?),
        None => None,
    };
    if [begins, issued]
        .into_iter()
        .flatten()
        .any(|date| date > now + rules.leeway)
    {
        return Err(Bad::Token("the token is not valid yet"));
    }
    match claims.sub.as_deref() {
        Some(subject) if !subject.is_empty() => Ok(()),
        _ => Err(Bad::Token("the token does not say whom it is about")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_critical_member_counts_as_present_also_where_it_is_null() {
        for (text, present) in [
            (r#"{"alg":"ES256"}"#, false),
            (r#"{"alg":"ES256","crit":null}"#, true),
            (r#"{"alg":"ES256","crit":[]}"#, true),
        ] {
            let header: Header = serde_json::from_str(text).unwrap();
            assert_eq!(header.crit.is_some(), present, "{text}");
        }
    }
}
