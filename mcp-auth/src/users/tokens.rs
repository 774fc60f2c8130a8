//! Logins that continue: access tokens, refresh tokens with rotation, and their end.

use std::time::{Duration, SystemTime};

use mcp_core::{Principal, secret::Secret};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{
    User, UserError, Users,
    hash::{print, random},
    record::{Record, seconds},
};

/// What access and refresh tokens begin with, by which scanners of source code recognise them.
pub(super) const ACCESS: &str = "mcpa_";
const REFRESH: &str = "mcpr_";

/// How many access tokens of one login are good at once.
const MOST: usize = 4;

/// In this time after a rotation a second use of the old token is taken for a race of one client with itself, and is only
/// refused.
const RACE: Duration = Duration::from_secs(10);

/// A login that has just begun, or has been refreshed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// Who has logged in.
    pub user: User,
    /// The access token, for `Authorization: Bearer`.
    pub access: Secret,
    /// When the access token ends.
    pub expires: SystemTime,
    /// The refresh token, which is good for one use.
    pub refresh: Secret,
    /// Whether there was a second factor.
    pub second_factor: bool,
}

/// Who an access token stands for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Who {
    /// The user.
    pub user: User,
    /// When the access token ends.
    pub expires: SystemTime,
    /// Whether the login had a second factor.
    pub second_factor: bool,
    pub(super) login: String,
    principal: Principal,
}

impl Who {
    /// Returns the principal: the user's id as its subject, the tenant, and a scope `role:…` for each role that the login holds.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the id of the login, by which a resource server revokes its tokens.
    #[must_use]
    pub fn login(&self) -> &str {
        &self.login
    }
}

/// A login in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session {
    /// The user's epoch when it began: it ends with it.
    epoch: u64,
    factor: bool,
    /// SHA-256 of the refresh token that is good, of the one before, and when it was replaced.
    refresh: String,
    before: Option<String>,
    rotated: u64,
    /// SHA-256 of access tokens, and when each ends.
    access: Vec<(String, u64)>,
}

/// A token, taken apart.
struct Parts<'a> {
    user: &'a str,
    login: &'a str,
    print: String,
}

fn split<'a>(token: &'a str, kind: &str) -> Option<Parts<'a>> {
    let rest = token.strip_prefix(kind)?;
    let mut parts = rest.splitn(3, '.');
    let (user, login) = (parts.next()?, parts.next()?);
    let plain = |text: &str| {
        let own = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (16..=64).contains(&text.len()) && text.bytes().all(own)
    };
    let secret = parts.next()?;
    (plain(user) && plain(login) && plain(secret)).then(|| Parts {
        user,
        login,
        print: print(token),
    })
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

impl Users {
    fn issue(&self, kind: &str, user: &str, login: &str) -> Secret {
        Secret::new(format!("{kind}{user}.{login}.{}", random()))
    }

    /// Begins a login of a user who has proved who they are.
    pub(super) async fn open(&self, record: &Record, factor: bool) -> Result<Login, UserError> {
        let login = random()[..22].to_owned();
        let (made, session) = self.renewed(record, &login, factor);
        let place = ["login", &record.id, &login];
        let ttl = Some(self.0.settings.refresh);
        self.0.table.put(&place, &session, ttl).await?;
        Ok(made)
    }

    /// New tokens of a login, and the login with them in it.
    fn renewed(&self, record: &Record, login: &str, factor: bool) -> (Login, Session) {
        let access = self.issue(ACCESS, &record.id, login);
        let refresh = self.issue(REFRESH, &record.id, login);
        let expires = self.now() + self.0.settings.access;
        let session = Session {
            epoch: record.epoch,
            factor,
            refresh: print(refresh.secret()),
            before: None,
            rotated: seconds(self.now()),
            access: vec![(print(access.secret()), seconds(expires))],
        };
        let made = Login {
            user: record.shown(),
            access,
            expires,
            refresh,
            second_factor: factor,
        };
        (made, session)
    }

    /// Exchanges a refresh token for new tokens. The old one is used up.
    ///
    /// A refresh token that was used before ends the login, since two hold it; within 10 s it is only refused, since a client
    /// may race with itself.
    ///
    /// # Errors
    ///
    /// [`UserError::BadToken`], or the store is unavailable.
    pub async fn refresh(&self, token: &Secret) -> Result<Login, UserError> {
        let parts = split(token.secret(), REFRESH).ok_or(UserError::BadToken)?;
        let place = ["login", parts.user, parts.login];
        let record = self.record(parts.user).await?.ok_or(UserError::BadToken)?;
        loop {
            let found = self.0.table.get::<Session>(&place).await?;
            let (old, version) = found.ok_or(UserError::BadToken)?;
            if record.disabled || record.epoch != old.epoch {
                self.0.table.delete(&place).await?;
                return Err(UserError::BadToken);
            }
            let now = seconds(self.now());
            if !same(&parts.print, &old.refresh) {
                let is_last = old
                    .before
                    .as_deref()
                    .is_some_and(|own| same(&parts.print, own));
                if !is_last || now >= old.rotated + RACE.as_secs() {
                    tracing::warn!(
                        user = parts.user,
                        "a refresh token was used twice: the login ends"
                    );
                    self.0.table.delete(&place).await?;
                    self.forget_login(parts.login).await;
                    self.note("user.refresh-reused", &record, false).await;
                }
                return Err(UserError::BadToken);
            }
            let (made, mut new) = self.renewed(&record, parts.login, old.factor);
            new.before = Some(old.refresh);
            let still = old.access.into_iter().filter(|(_, end)| *end > now);
            new.access.extend(still.take(MOST - 1));
            let ttl = Some(self.0.settings.refresh);
            // Of two that refresh at once one gets new tokens; the other finds that its own is the one before.
            if self.0.table.swap(&place, Some(version), &new, ttl).await? {
                return Ok(made);
            }
        }
    }

    /// Finds out who an access token stands for now; `None` if it is not good.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn who(&self, token: &Secret) -> Result<Option<Who>, UserError> {
        let Some(parts) = split(token.secret(), ACCESS) else {
            return Ok(None);
        };
        let place = ["login", parts.user, parts.login];
        let Some((session, _)) = self.0.table.get::<Session>(&place).await? else {
            return Ok(None);
        };
        let now = seconds(self.now());
        let mut known = session.access.iter();
        let Some((_, end)) = known.find(|(own, end)| now < *end && same(own, &parts.print)) else {
            return Ok(None);
        };
        let Some(record) = self.record(parts.user).await? else {
            return Ok(None);
        };
        if record.disabled || record.epoch != session.epoch {
            return Ok(None);
        }
        let held = |role: &&String| {
            let second = &self.0.settings.second_factor;
            session.factor || !second.contains(role)
        };
        let roles: Vec<_> = record.roles.iter().filter(held).collect();
        let scopes: Vec<_> = roles.iter().map(|role| format!("role:{role}")).collect();
        let principal = self
            .bare(&record)
            .with_scopes(scopes.iter().map(String::as_str));
        Ok(Some(Who {
            user: record.shown(),
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(*end),
            second_factor: session.factor,
            login: parts.login.to_owned(),
            principal,
        }))
    }

    /// Ends the login that an access token belongs to. Returns whether it was valid until now.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn log_out(&self, token: &Secret) -> Result<bool, UserError> {
        let Some(who) = self.who(token).await? else {
            return Ok(false);
        };
        let place = ["login", who.user.id.as_str(), who.login.as_str()];
        let ended = self.0.table.delete(&place).await?;
        self.forget_login(&who.login).await;
        Ok(ended)
    }

    /// Ends all logins of a user.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], or the store is unavailable.
    pub async fn log_out_everywhere(&self, id: &str) -> Result<(), UserError> {
        let (record, ()) = self
            .edit(id, |record| {
                record.epoch += 1;
                Ok(())
            })
            .await?;
        self.forget(&record).await;
        self.note("user.logout", &record, true).await;
        Ok(())
    }
}
