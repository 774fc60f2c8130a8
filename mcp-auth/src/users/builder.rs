use std::{fmt, sync::Arc, time::Duration};

use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, ConfigError, Principal,
    clock::{SystemWallClock, WallClock},
};

use super::{hash::Hasher, record::Record, table::Table};
use crate::{server::SharedRevocations, vault::Vault};

/// Accounts of people. Clones share everything. See the [module](super).
#[derive(Clone)]
pub struct Users(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) issuer: String,
    pub(super) table: Table,
    pub(super) vault: Vault,
    pub(super) hasher: Hasher,
    pub(super) settings: Settings,
    pub(super) wall: Arc<dyn WallClock>,
    audit: Option<Arc<dyn AuditSink>>,
    revocations: Option<Arc<SharedRevocations>>,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) access: Duration,
    pub(super) refresh: Duration,
    pub(super) history: Duration,
    pub(super) least_password: usize,
    pub(super) account_failures: u32,
    pub(super) address_failures: u32,
    pub(super) lock: Duration,
    pub(super) second_factor: Vec<String>,
}

/// Settings of [`Users`].
#[must_use]
pub struct UsersBuilder {
    issuer: String,
    vault: Vault,
    settings: Settings,
    hashes: usize,
    wall: Arc<dyn WallClock>,
    audit: Option<Arc<dyn AuditSink>>,
    revocations: Option<Arc<SharedRevocations>>,
}

impl Users {
    /// Begins with the issuer of the principals, for instance the gateway's own address, and the vault that seals second
    /// factors. Users lie in the vault's store.
    pub fn builder(issuer: &str, vault: Vault) -> UsersBuilder {
        UsersBuilder {
            issuer: issuer.to_owned(),
            vault,
            settings: Settings {
                access: Duration::from_secs(15 * 60),
                refresh: Duration::from_secs(30 * 86_400),
                history: Duration::from_secs(90 * 86_400),
                least_password: 12,
                account_failures: 5,
                address_failures: 50,
                lock: Duration::from_secs(15 * 60),
                second_factor: vec!["admin".to_owned()],
            },
            hashes: 2,
            wall: Arc::new(SystemWallClock::new()),
            audit: None,
            revocations: None,
        }
    }

    pub(super) fn now(&self) -> std::time::SystemTime {
        self.0.wall.now()
    }

    /// Returns the issuer of the principals.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The user as a principal, without roles.
    pub(super) fn bare(&self, record: &Record) -> Principal {
        let who = Principal::authenticated(&self.0.issuer, &record.id);
        match &record.tenant {
            Some(tenant) => who.with_tenant(tenant),
            None => who,
        }
    }

    /// Records what happened to a user. A sink that fails is logged: the change has been made.
    pub(super) async fn note(&self, action: &'static str, record: &Record, done: bool) {
        let Some(sink) = &self.0.audit else { return };
        let outcome = match done {
            true => AuditOutcome::Succeeded,
            false => AuditOutcome::Denied("wrong password or code".into()),
        };
        let mut event = AuditEvent::new(self.now(), self.bare(record), action, outcome);
        event.target = Some(record.name.as_str().into());
        if let Err(error) = sink.record(&event).await {
            tracing::error!(%error, action, "a change of a user was not recorded");
        }
    }

    /// Has resource servers judge the tokens of a user anew, by what is stored now.
    pub(super) async fn forget(&self, record: &Record) {
        let Some(shared) = &self.0.revocations else {
            return;
        };
        let keep = self.0.settings.access;
        if let Err(error) = shared.judge_again(&self.bare(record), keep).await {
            tracing::warn!(%error, "other replicas learn of an ended login within 30 s");
        }
    }

    /// Has resource servers forget what they remember of one login.
    pub(super) async fn forget_login(&self, family: &str) {
        let Some(shared) = &self.0.revocations else {
            return;
        };
        if let Err(error) = shared.revoke(family, self.0.settings.access).await {
            tracing::warn!(%error, "other replicas learn of an ended login within 30 s");
        }
    }
}

impl UsersBuilder {
    /// Sets how long an access token is good. Default is 15 minutes.
    pub fn access_life(mut self, life: Duration) -> Self {
        self.settings.access = life;
        self
    }

    /// Sets how long a login lasts without a refresh. Default is 30 days.
    pub fn refresh_life(mut self, life: Duration) -> Self {
        self.settings.refresh = life;
        self
    }

    /// Sets how long the history of logins is kept. Default is 90 days.
    pub fn history(mut self, time: Duration) -> Self {
        self.settings.history = time;
        self
    }

    /// Sets how many characters a password has at least. Default is 12.
    pub fn least_password(mut self, characters: usize) -> Self {
        self.settings.least_password = characters;
        self
    }

    /// Sets after how many failed attempts an account is locked. Default is 5.
    pub fn lock_account_after(mut self, failures: u32) -> Self {
        self.settings.account_failures = failures;
        self
    }

    /// Sets after how many failed attempts an address is locked, whatever accounts they were for. Default is 50.
    pub fn lock_address_after(mut self, failures: u32) -> Self {
        self.settings.address_failures = failures;
        self
    }

    /// Sets for how long a lock lasts, and failed attempts count. Default is 15 minutes.
    pub fn lock_time(mut self, time: Duration) -> Self {
        self.settings.lock = time;
        self
    }

    /// Names the roles that are held only in logins with a second factor. Default is `admin`.
    pub fn second_factor_for<'a>(mut self, roles: impl IntoIterator<Item = &'a str>) -> Self {
        self.settings.second_factor = roles.into_iter().map(str::to_owned).collect();
        self
    }

    /// Sets how many passwords are hashed at once. Default is 2: each takes a processor and 19 MiB.
    pub fn hashes_at_once(mut self, number: usize) -> Self {
        self.hashes = number;
        self
    }

    /// Records what happens to users. Default is not to.
    pub fn audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(sink);
        self
    }

    /// Ends what resource servers remember of a login with the login, on all replicas that share these. Default is not to:
    /// they remember up to 30 s.
    pub fn revocations(mut self, shared: Arc<SharedRevocations>) -> Self {
        self.revocations = Some(shared);
        self
    }

    /// Uses another clock for dates.
    pub fn wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    /// Checks everything. Nothing is read.
    ///
    /// # Errors
    ///
    /// A time or a number is zero, or passwords may have fewer than 8 characters.
    pub fn build(self) -> Result<Users, ConfigError> {
        let own = &self.settings;
        for (option, time) in [
            ("access_life", own.access),
            ("refresh_life", own.refresh),
            ("history", own.history),
            ("lock_time", own.lock),
        ] {
            if time.as_secs() == 0 {
                return Err(ConfigError::new(
                    option,
                    format!("{time:?}"),
                    "give 1 s or more",
                ));
            }
        }
        for (option, number) in [
            ("lock_account_after", own.account_failures),
            ("lock_address_after", own.address_failures),
        ] {
            if number == 0 {
                return Err(ConfigError::new(
                    option,
                    "0",
                    "allow one failed attempt or more",
                ));
            }
        }
        if own.least_password < 8 {
            let given = own.least_password.to_string();
            return Err(ConfigError::new("least_password", given, "give 8 or more"));
        }
        let table = Table::new(Arc::clone(self.vault.store()));
        let table = table
            .map_err(|error| ConfigError::new("vault", error.to_string(), "give another store"))?;
        Ok(Users(Arc::new(Inner {
            issuer: self.issuer,
            table,
            vault: self.vault,
            hasher: Hasher::new(self.hashes),
            settings: self.settings,
            wall: self.wall,
            audit: self.audit,
            revocations: self.revocations,
        })))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("issuer", &self.0.issuer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UsersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsersBuilder")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
