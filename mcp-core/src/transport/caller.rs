//! Who makes one call, where the call itself came with a credential.

#[cfg(feature = "http")]
use http::Extensions;

use crate::{AuthContext, Principal, Request};

/// The authenticated caller of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) principal: Option<Principal>,
    context: Option<AuthContext>,
}

impl Caller {
    /// Reads what an authentication layer put into the extensions of an HTTP request.
    #[cfg(feature = "http")]
    pub(crate) fn of(extensions: &Extensions) -> Self {
        Self {
            principal: extensions.get::<Principal>().cloned(),
            context: extensions.get::<AuthContext>().cloned(),
        }
    }

    /// Sets the caller of a request.
    pub(crate) fn state(&self, mut request: Request) -> Request {
        if let Some(principal) = &self.principal {
            request = request.with_principal(principal.clone());
        }
        if let Some(context) = &self.context {
            request = request.with_auth_context(context.clone());
        }
        request
    }
}
