//! A record of who did what, that shows when someone has changed it.
//!
//! Every line of a [`FileAudit`], and every row of a table of PostgreSQL (`SqlAudit`, with the feature `postgres`), holds
//! the hash of the one before it, so that one that is changed, removed or put in breaks the chain: [`verify`] finds where. [`AuditLayer`] records every call; the other parts of this crate record
//! authentications, uses of credentials and consents into the same sink.
//!
//! Method, target, reason and the names of the principal are recorded whole up to 1 KiB each; of a longer one the
//! beginning, the length and the SHA-256 are.
//!
//! # What is lost
//!
//! A table loses nothing: it is written when recording returns. Lines of a file are written and synced to the disk every 100 ms at most: `kill -9` or a power failure loses what came in that time.
//! Cutting lines off the end leaves a chain that is whole; [`verify`] returns the last hash, which can be compared with
//! one kept elsewhere ([`FileAudit::head`]).
//!
//! # When it cannot be written
//!
//! [`OnFailure`] says: refuse (the default: what cannot be recorded does not happen) or continue and count what was dropped.

mod chain;
mod file;
mod layer;
#[cfg(feature = "postgres")]
mod sql;
mod trace;

#[cfg(feature = "postgres")]
pub use self::sql::SqlAudit;
pub use self::{
    chain::{AuditBreak, Verified, verify},
    file::{FileAudit, OnFailure},
    layer::{Audit, AuditLayer},
    trace::{Everywhere, TracingAudit},
};
