//! Hashes of passwords (argon2id) and of random tokens (SHA-256).

use std::{sync::Arc, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcp_core::secret::Secret;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::UserError;

/// How long a password waits for its turn to be checked.
const TURN: Duration = Duration::from_secs(10);

/// The longest password that is hashed, in bytes.
const LONGEST: usize = 1024;

/// Hashes passwords by argon2id with the parameters that its crate recommends (19 MiB, two passes), never on a thread of
/// the runtime and a few at once.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    turns: Arc<Semaphore>,
}

impl Hasher {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(at_once.clamp(1, 1024))),
        }
    }

    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, UserError> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let turn = tokio::time::timeout(TURN, turn).await;
        let turn = turn.map_err(|_| UserError::Busy)?;
        let turn = turn.map_err(|_| UserError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // A caller who has gone does not let others begin before this has ended.
            let _turn = turn;
            work()
        });
        done.await.map_err(|_| UserError::Busy)
    }

    pub(super) async fn hash(&self, password: Secret) -> Result<String, UserError> {
        let hashed = self
            .aside(move || {
                let text = password.secret().as_bytes();
                Argon2::default()
                    .hash_password(text)
                    .map(|hash| hash.to_string())
            })
            .await?;
        hashed.map_err(|_| UserError::unusable("the password", "give a shorter one"))
    }

    /// Checks a password. Without a hash, for a user who is not there, it takes as long and fails.
    pub(super) async fn verify(
        &self,
        password: &Secret,
        hash: Option<&str>,
    ) -> Result<bool, UserError> {
        if password.secret().len() > LONGEST {
            return Ok(false);
        }
        let (password, hash) = (password.clone(), hash.map(str::to_owned));
        self.aside(move || {
            let text = password.secret().as_bytes();
            let argon = Argon2::default();
            match hash.as_deref().and_then(|own| PasswordHash::new(own).ok()) {
                Some(own) => argon.verify_password(text, &own).is_ok(),
                None => {
                    let _ = std::hint::black_box(argon.hash_password(text));
                    false
                }
            }
        })
        .await
    }
}

/// Refuses passwords that are too short, too long, or the name itself.
pub(super) fn check(password: &Secret, name: &str, least: usize) -> Result<(), UserError> {
    let text = password.secret();
    if text.chars().count() < least {
        return Err(UserError::unusable("the password", "give a longer one"));
    }
    if text.len() > LONGEST {
        return Err(UserError::unusable("the password", "give a shorter one"));
    }
    match text.to_lowercase() == name {
        true => Err(UserError::unusable(
            "the password",
            "give another one than the name",
        )),
        false => Ok(()),
    }
}

/// Makes a text of 256 random bits.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What the store holds of a random token.
pub(super) fn print(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}
