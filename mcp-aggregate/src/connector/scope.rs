/// Who shares a session with a server of the session era, or a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionScope {
    /// Each session of a client has one of its own with the server. Default for HTTP.
    PerSession,
    /// All sessions of a principal whose clients have the same capabilities share one. Default for child
    /// processes.
    PerPrincipal,
    /// All clients share one, opened without any client capability.
    ///
    /// # Security
    ///
    /// Whatever the server keeps for the session is seen by all clients.
    Shared,
}
