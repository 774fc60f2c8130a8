//! Shared parts of the benchmarks.
//!
//! Four programs take part in a measurement, each a process of its own, so that the processor time
//! of each can be read from the system: an upstream (`echo-upstream`), what stands between
//! (`forwarder`, which only passes bytes on and so is the limit, or a gateway), the load
//! (`loadgen`), and `compare`, which starts them, lets them run in turns and prints the table.

pub mod calls;
pub mod load;
pub mod process;
pub mod serve;
pub mod stats;
