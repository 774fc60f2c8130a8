//! Secrets in the secret managers of clouds, and of HashiCorp Vault.
//!
//! What they share: names that cannot meet ([`names`]), answers of bounded size ([`api`]), lists that end ([`pages`]), and
//! errors that repeat nothing of an answer ([`error`]).

mod api;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
mod error;
#[cfg(feature = "google")]
mod google;
#[cfg(feature = "hashicorp")]
mod hashicorp;
mod names;
#[cfg(any(feature = "aws", feature = "azure", feature = "google"))]
mod pages;
#[cfg(any(feature = "aws", feature = "google"))]
mod roles;

#[cfg(feature = "aws")]
pub use self::aws::{AwsCredentials, AwsSecrets};
#[cfg(feature = "azure")]
pub use self::azure::{AzureCredentials, AzureSecrets};
pub use self::error::{SecretManagerError, SecretManagerErrorKind};
#[cfg(feature = "google")]
pub use self::google::{GoogleCredentials, GoogleSecrets};
#[cfg(feature = "hashicorp")]
pub use self::hashicorp::{HashicorpLogin, HashicorpSecrets};

#[cfg(test)]
fn all_rules() -> Vec<&'static names::Rules> {
    vec![
        #[cfg(feature = "aws")]
        &aws::RULES,
        #[cfg(feature = "azure")]
        &azure::RULES,
        #[cfg(feature = "google")]
        &google::RULES,
        #[cfg(feature = "hashicorp")]
        &hashicorp::RULES,
    ]
}
