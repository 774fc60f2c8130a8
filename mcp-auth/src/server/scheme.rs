use std::fmt;

use async_trait::async_trait;
use http::{Extensions, HeaderMap};

use super::{Identity, Refusal};

/// What a request presents to show who makes it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Presented<'a> {
    /// The bearer token.
    pub bearer: Option<&'a str>,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The extensions of the request, where a listener puts what it knows about the connection.
    pub extensions: &'a Extensions,
}

impl<'a> Presented<'a> {
    /// Describes a request.
    #[must_use]
    pub const fn new(
        bearer: Option<&'a str>,
        headers: &'a HeaderMap,
        extensions: &'a Extensions,
    ) -> Self {
        Self {
            bearer,
            headers,
            extensions,
        }
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("bearer", &self.bearer.map(|_| "[redacted]"))
            .finish_non_exhaustive()
    }
}

/// A method of authentication. Several can stand side by side: the first whose
/// [`takes`](Scheme::takes) answers yes decides alone.
#[async_trait]
pub trait Scheme: fmt::Debug + Send + Sync + 'static {
    /// A fixed name, for logs and audit.
    fn name(&self) -> &'static str;

    /// Names the headers other than `Authorization` in which this scheme's credential may stand, in lower case.
    /// Default is none.
    ///
    /// A request that carries one of them beside another credential is refused with 400, and they are removed from
    /// requests that pass.
    fn headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns whether its credentials are issued by an authorization server, which clients have to be told of. Default is
    /// no.
    fn needs_issuer(&self) -> bool {
        false
    }

    /// Returns whether the request presents something for this scheme to judge. Must be quick and prove nothing.
    ///
    /// The verdict of a scheme that takes a request also without its bearer token is not remembered for that token.
    fn takes(&self, presented: &Presented<'_>) -> bool;

    /// Judges what is presented.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which ends the request: no other scheme is asked.
    async fn verify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal>;
}
