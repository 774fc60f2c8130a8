use std::fmt;

use http::Extensions;

/// What an authentication layer knows about the caller besides the [`Principal`](crate::Principal): typed values
/// for the layers of the stack.
///
/// A layer over HTTP puts it into the extensions of the HTTP request; the server transport passes it on in
/// [`Request::auth_context`](crate::Request::auth_context), and every request made on the caller's behalf carries it.
#[derive(Clone, Default)]
pub struct AuthContext(Extensions);

impl AuthContext {
    /// Creates an empty context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value. Replaces an earlier one of the same type.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.0.insert(value);
        self
    }

    /// Returns the value of a type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get()
    }
}

impl fmt::Debug for AuthContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthContext").finish_non_exhaustive()
    }
}
