use std::fmt;

use http::Extensions;

#[cfg(any(feature = "http", feature = "stdio"))]
use crate::{Principal, Request};

/// What an authentication layer knows about the caller besides the [`Principal`](crate::Principal), for the layers of the stack.
///
/// A layer over HTTP puts it into the extensions of the HTTP request; the transport hands it on in
/// [`Request::caller`](crate::Request::caller), where it stays through every request that is made on the caller's
/// behalf.
#[derive(Clone, Default)]
pub struct CallerFacts(Extensions);

impl CallerFacts {
    /// Makes an empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value, in place of an earlier one of its type.
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

impl fmt::Debug for CallerFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerFacts").finish_non_exhaustive()
    }
}

/// Who makes one call, where the call itself came with a credential.
#[cfg(any(feature = "http", feature = "stdio"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) principal: Option<Principal>,
    facts: Option<CallerFacts>,
}

#[cfg(any(feature = "http", feature = "stdio"))]
impl Caller {
    /// Reads what an authentication layer has found out.
    #[cfg(feature = "http")]
    pub(crate) fn of(extensions: &Extensions) -> Self {
        Self {
            principal: extensions.get::<Principal>().cloned(),
            facts: extensions.get::<CallerFacts>().cloned(),
        }
    }

    /// States in a request who makes it.
    pub(crate) fn state(&self, mut request: Request) -> Request {
        if let Some(principal) = &self.principal {
            request = request.with_principal(principal.clone());
        }
        if let Some(facts) = &self.facts {
            request = request.with_caller(facts.clone());
        }
        request
    }
}
