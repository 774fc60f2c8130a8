//! A record of who did what, that shows when somebody has changed it.
//!
//! Every line of a [`FileAudit`] holds the hash of the line before it, so that a line that is changed, removed or put in
//! breaks the chain: [`verify`] finds where. [`AuditLayer`] records every call; the other parts of this crate record
//! authentications, uses of credentials and consents into the same sink.
//!
//! # What is lost
//!
//! Lines are written and synced to the disk every 100 ms at most: `kill -9` or a power failure loses what came in that time.
//! Cutting lines off the end leaves a chain that is whole; [`verify`] returns the last hash, which can be compared with
//! one kept elsewhere ([`FileAudit::head`]).
//!
//! # When it cannot be written
//!
//! [`OnFailure`] says: refuse (the default: what cannot be recorded does not happen) or go on and count what was dropped.

mod chain;
mod file;
mod layer;
mod trace;

pub use self::{
    chain::{AuditBreak, Verified, verify},
    file::{FileAudit, OnFailure},
    layer::{AuditLayer, AuditService},
    trace::{Everywhere, TracingAudit},
};
