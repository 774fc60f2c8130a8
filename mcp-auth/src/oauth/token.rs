use std::time::{Duration, SystemTime};

use mcp_core::secret::Secret;
use oauth2::{TokenResponse as _, basic::BasicTokenType};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::DpopKey;
use crate::wire::Tokens;

/// How long a device's user is asked about at most.
pub(super) const LONGEST_DEVICE: Duration = Duration::from_secs(3600);

/// The longest time between two questions, whatever the server wishes.
pub(super) const LONGEST_POLL: Duration = Duration::from_secs(60);

/// What an authorization server has issued.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenSet {
    /// The access token.
    pub access: Secret,
    /// What a new access token is got with.
    pub refresh: Option<Secret>,
    /// What the server says about the user, as a JSON Web Token that has not been verified.
    pub id: Option<Secret>,
    /// When the access token ends; `None` where the server does not say.
    pub expires: Option<SystemTime>,
    /// What it grants, where the server says so.
    pub scopes: Option<Vec<String>>,
    /// The key that the tokens are bound to (RFC 9449); `None` for tokens of a bearer.
    pub key: Option<DpopKey>,
}

/// An access token, with the key that it is bound to, if any.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) token: Secret,
    pub(crate) key: Option<DpopKey>,
}

impl From<&TokenSet> for Access {
    fn from(tokens: &TokenSet) -> Self {
        Self {
            token: tokens.access.clone(),
            key: tokens.key.clone(),
        }
    }
}

impl TokenSet {
    /// Describes an access token that was got elsewhere.
    #[must_use]
    pub const fn new(access: Secret) -> Self {
        Self {
            access,
            refresh: None,
            id: None,
            expires: None,
            scopes: None,
            key: None,
        }
    }

    /// Adds a refresh token.
    #[must_use]
    pub fn with_refresh(mut self, refresh: Secret) -> Self {
        self.refresh = Some(refresh);
        self
    }

    /// Adds an ID token.
    #[must_use]
    pub fn with_id(mut self, id: Secret) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets when the access token ends.
    #[must_use]
    pub const fn with_end(mut self, end: SystemTime) -> Self {
        self.expires = Some(end);
        self
    }

    /// Takes over a token response (RFC 6749, section 5.1; RFC 9449, section 5); `None` for a token of another type than a
    /// bearer's or one that is bound to the key that was shown.
    pub(super) fn of(answer: &Tokens, now: SystemTime, key: Option<&DpopKey>) -> Option<Self> {
        let key = match answer.token_type() {
            BasicTokenType::Bearer => None,
            BasicTokenType::Extension(kind) if kind.eq_ignore_ascii_case("dpop") => Some(key?),
            _ => return None,
        };
        let own = |text: &String| Secret::new(text.clone());
        let scopes = answer.scopes();
        Some(Self {
            access: own(answer.access_token().secret()),
            refresh: answer.refresh_token().map(|token| own(token.secret())),
            id: answer.extra_fields().id_token.clone(),
            expires: answer.expires_in().map(|life| now + life),
            scopes: scopes.map(|all| all.iter().map(|scope| scope.to_string()).collect()),
            key: key.cloned(),
        })
    }
}

/// A token set in the vault, with what is needed to refresh it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) tokens: TokenSet,
    /// The issuer that the tokens are of; no one else is shown them.
    pub(super) issuer: String,
    /// What they are meant for (RFC 8707); `None` where the server refuses to be told at a refresh.
    pub(super) resource: Option<String>,
    /// All scopes that have been asked for.
    pub(super) requested: Vec<String>,
    pub(super) obtained: SystemTime,
    /// When a new access token was got last.
    pub(super) refreshed: Option<SystemTime>,
}

#[derive(Serialize)]
struct Written<'a> {
    access: &'a str,
    refresh: Option<&'a str>,
    id: Option<&'a str>,
    expires: Option<u64>,
    scopes: Option<Vec<String>>,
    issuer: String,
    resource: Option<String>,
    requested: Vec<String>,
    obtained: u64,
    refreshed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Zeroizing<String>>,
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.min(1 << 52))
}

impl Held {
    pub(super) fn write(&self) -> Secret {
        let tokens = &self.tokens;
        let written = Written {
            access: tokens.access.secret(),
            refresh: tokens.refresh.as_ref().map(Secret::secret),
            id: tokens.id.as_ref().map(Secret::secret),
            expires: tokens.expires.map(millis),
            scopes: tokens.scopes.clone(),
            issuer: self.issuer.clone(),
            resource: self.resource.clone(),
            requested: self.requested.clone(),
            obtained: millis(self.obtained),
            refreshed: self.refreshed.map(millis),
            key: tokens.key.as_ref().map(DpopKey::write),
        };
        Secret::new(serde_json::to_string(&written).unwrap_or_default())
    }

    pub(super) fn read(text: &Secret) -> Option<Self> {
        #[derive(Deserialize)]
        struct Read {
            access: Secret,
            refresh: Option<Secret>,
            id: Option<Secret>,
            expires: Option<u64>,
            scopes: Option<Vec<String>>,
            issuer: String,
            resource: Option<String>,
            requested: Vec<String>,
            obtained: u64,
            refreshed: Option<u64>,
            key: Option<Secret>,
        }
        let read: Read = serde_json::from_str(text.secret()).ok()?;
        // Tokens without the key that they are bound to are of no use.
        let key = read.key.map(|key| DpopKey::read(key.secret()));
        let key = match key {
            Some(key) => Some(key?),
            None => None,
        };
        Some(Self {
            tokens: TokenSet {
                access: read.access,
                refresh: read.refresh,
                id: read.id,
                expires: read.expires.map(time),
                scopes: read.scopes,
                key,
            },
            issuer: read.issuer,
            resource: read.resource,
            requested: read.requested,
            obtained: time(read.obtained),
            refreshed: read.refreshed.map(time),
        })
    }

    /// Returns whether the access token still works, with some time to travel.
    pub(super) fn works(&self, now: SystemTime) -> bool {
        let travel = Duration::from_secs(2);
        self.tokens.expires.is_none_or(|end| now + travel < end)
    }

    /// Returns whether a new access token should be got: half of its life is left, at most `ahead`.
    pub(super) fn is_due(&self, now: SystemTime, ahead: Duration) -> bool {
        let Some(end) = self.tokens.expires else {
            return false;
        };
        let from = self.refreshed.unwrap_or(self.obtained);
        let life = end.duration_since(from).unwrap_or_default();
        now + ahead.min(life / 2) >= end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Option<TokenSet> {
        let answer: Tokens = serde_json::from_str(answer).unwrap();
        TokenSet::of(&answer, SystemTime::UNIX_EPOCH, None)
    }

    #[test]
    fn a_response_is_taken_over_if_it_is_of_a_bearer() {
        let tokens = read(
            r#"{ "access_token": "a", "token_type": "Bearer", "expires_in": 3600, "scope": "repo gist", "id_token": "i" }"#,
        )
        .unwrap();
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        assert_eq!(tokens.expires, Some(end));
        assert_eq!(tokens.scopes, Some(vec!["repo".into(), "gist".into()]));
        assert_eq!(tokens.id, Some(Secret::new("i")));
        assert!(tokens.refresh.is_none());
        assert!(read(r#"{ "access_token": "a", "token_type": "DPoP" }"#).is_none());
    }

    #[test]
    fn what_is_held_survives_the_vault() {
        let mut tokens = TokenSet::new(Secret::new("a\"b"));
        tokens.key = Some(DpopKey::generate().unwrap());
        let held = Held {
            tokens: tokens
                .with_refresh(Secret::new("r"))
                .with_end(SystemTime::UNIX_EPOCH + Duration::from_millis(1500)),
            issuer: "https://as.example".into(),
            resource: None,
            requested: vec!["x".into()],
            obtained: SystemTime::UNIX_EPOCH,
            refreshed: None,
        };
        let again = Held::read(&held.write()).unwrap();
        assert_eq!(again.tokens.access, held.tokens.access);
        assert_eq!(again.tokens.refresh, held.tokens.refresh);
        assert_eq!(again.tokens.expires, held.tokens.expires);
        assert_eq!(again.tokens.key, held.tokens.key);
        assert!(!format!("{held:?}").contains("a\\\"b"));
        assert!(Held::read(&Secret::new("{}")).is_none());
    }

    #[test]
    fn a_token_is_due_30_seconds_before_its_end_or_at_half_its_life() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (life, due) in [(3600, 3570), (100, 70), (60, 30), (10, 5)] {
            let held = Held {
                tokens: TokenSet::new(Secret::new("a")).with_end(at(life)),
                issuer: String::new(),
                resource: None,
                requested: Vec::new(),
                obtained: at(0),
                refreshed: None,
            };
            let ahead = super::super::client::AHEAD;
            assert!(!held.is_due(at(due - 1), ahead), "{life}");
            assert!(held.is_due(at(due), ahead), "{life}");
        }
    }
}
