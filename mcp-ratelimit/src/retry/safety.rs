use mcp_core::Request;

/// Whether a call may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeat {
    /// It may: a second time does no more than the first.
    Safe,
    /// It may if it is certain that no one has seen the first.
    IfNotSent,
    /// It may not.
    Never,
}

impl Repeat {
    /// What is known without a policy of one's own.
    ///
    /// Safe are methods that only read by their definition, and tools whose annotations in the catalogue say
    /// `readOnlyHint` or `idempotentHint`. Everything else may be sent again only if no one has seen it.
    /// Notifications are never repeated.
    ///
    /// # Security
    ///
    /// Annotations are claims of the upstream. One that lies gets its own calls repeated, and no one else's.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        if request.is_notification() {
            return Self::Never;
        }
        let hinted = request
            .annotations()
            .is_some_and(|hints| hints.is_repeatable());
        if request.method().is_read() || (request.tool().is_some() && hinted) {
            Self::Safe
        } else {
            Self::IfNotSent
        }
    }
}
