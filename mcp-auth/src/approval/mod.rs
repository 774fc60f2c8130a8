//! Calls that a person has to approve first: exactly this call, once.
//!
//! The [`ApprovalLayer`] holds calls of tools that its rule names; by default those that may destroy something by their
//! annotations (not `readOnlyHint`, and `destructiveHint` is not false, which is its default in the specification).
//!
//! 1. What is approved is one call: a digest of the principal, the tool, the upstream, the tool's schema and the arguments
//!    (whatever the order of their members). Another argument is another call.
//! 2. A client that can be asked is asked, by form elicitation: within the call in a session, by an `input_required` result
//!    in revision 2026-07-28. The client's retry is good for one call within ten minutes.
//! 3. With a [`ApprovalQueue`] the call waits there for an administrator, who sees who wants to call what, and approves or refuses.
//!    The caller gets an error that says to try again; after approval the same call succeeds once, within ten minutes.
//! 4. Without either the call is refused.
//!
//! Whoever asks and whatever is decided is recorded, if there is an audit sink; a call whose approval cannot be recorded is
//! not made. A store that is unavailable refuses.
//!
//! Put it inside of policy and audit, and outside of anything that repeats calls: `rmcp3::serve` and gateways put the
//! annotations into calls before any layer.
//!
//! # Security
//!
//! Asking the client asks whoever sits before it, or a client that answers for them: use the queue where the caller must not
//! approve their own calls. Annotations are claims of the server.

mod layer;
mod queue;
mod rule;

pub use self::{
    layer::{Approval, ApprovalLayer},
    queue::{ApprovalQueue, Pending},
};
