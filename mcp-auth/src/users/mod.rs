//! Accounts of people: names, passwords, second factors, roles, tokens.
//!
//! For deployments without an identity provider. Everything lies in a [`StateStore`](mcp_core::store::StateStore): memory, a
//! redb file, PostgreSQL or Redis; secrets of second factors are sealed in the [`Vault`](crate::vault::Vault) over it.
//!
//! 1. A user has a name that is unique within a tenant, an id that never changes, roles, and an argon2id hash of a password.
//!    Passwords are hashed on threads for blocking work, a few at once.
//! 2. [`Users::log_in`] answers with an access token (15 minutes) and a refresh token (30 days). Both are random; the store
//!    holds their SHA-256 only. A refresh token is good for one use: one that is used again ends the login that it is of,
//!    since one of the two who hold it has stolen it.
//! 3. Failed attempts lock the account, and the address, for a while. Names that are not there cost as much as wrong
//!    passwords.
//! 4. A second factor (TOTP, RFC 6238) has recovery codes. Roles that [`UsersBuilder::second_factor_for`] names are held only
//!    in logins that had one. Default is `admin`.
//! 5. Disabling a user, another password, a reset and [`Users::log_out`] end logins for all replicas at once, apart from
//!    what a [`ResourceServer`](crate::server::ResourceServer) remembers for up to 30 s; revocations that replicas share
//!    ([`UsersBuilder::revocations`]) end that too.
//!
//! A [`UserScheme`] judges the access tokens at a resource server. Roles are scopes of the principal with the prefix `role:`,
//! so that `RbacBuilder::assign_scope("role:admin", "admin")` gives them permissions, and the tenant is the principal's.
//!
//! # Security
//!
//! Nothing here sends mail: [`Users::reset_token`] returns a token that proves its holder to be the user; hand it over by a way
//! that only the user reads. Locks by account let anybody lock a user out for some minutes; limit attempts by address
//! outside, with an [`AttemptLimitLayer`](crate::edge::AttemptLimitLayer), too.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use mcp_auth::{users::{Attempt, NewUser, Users}, vault::{ValueKey, Vault}};
//! use mcp_core::{secret::Secret, store::MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = ValueKey::new(Secret::new("at least 32 random bytes, please"));
//! let vault = Vault::open(Arc::new(MemoryStore::default()), &key).await?;
//! let users = Users::builder("https://gw.example", vault).build()?;
//! let password = Secret::new("correct horse battery");
//! users.create(NewUser::new("alice", password.clone()).with_role("reader")).await?;
//! let login = users.log_in(&Attempt::new("alice", password)).await?;
//! let who = users.who(&login.access).await?.expect("the login is valid");
//! assert!(who.principal().has_scope("role:reader"));
//! # Ok(())
//! # }
//! ```

mod builder;
mod error;
mod factor;
mod hash;
mod lock;
mod login;
mod record;
#[cfg(feature = "axum")]
mod routes;
mod scheme;
mod table;
mod tenants;
mod tokens;

pub use self::{
    builder::{Users, UsersBuilder},
    error::UserError,
    factor::{Enrolment, RecoveryCodes},
    login::{Attempt, LoginEvent, LoginResult},
    record::{NewUser, User},
    scheme::UserScheme,
    tenants::UserPage,
    tokens::{Login, Who},
};
