//! Contract tests for implementations of this crate's traits, and helpers for tests.
//!
//! The functions panic when the contract is broken, so call them from a test.

mod postgres_server;
mod redis_server;
mod secret;
mod store;

pub use self::postgres_server::PostgresServer;
pub use self::redis_server::RedisServer;
pub use self::secret::secret_store_contract;
pub use self::store::{state_store_contract, state_store_races};
