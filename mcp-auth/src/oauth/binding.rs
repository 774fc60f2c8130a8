//! Whether tokens are bound to a key (RFC 9449).

use super::{
    DpopKey, DpopUse, OAuthError, Relation, dpop,
    endpoint::Binding,
    resource::{Bound, Protected},
};
use crate::{challenge::Challenge, discovery::ServerMetadata};

/// A key that was made for tokens.
pub(super) struct Chosen {
    pub(super) key: DpopKey,
    pub(super) required: bool,
}

impl Chosen {
    pub(super) fn binding(&self) -> Binding<'_> {
        Binding {
            key: &self.key,
            required: self.required,
        }
    }
}

/// Makes the key that tokens are to be bound to, where the operator or the upstream wants that.
pub(super) fn key_for(
    relation: &Relation,
    metadata: &ServerMetadata,
    protected: Option<&Protected>,
    challenge: Option<&Challenge>,
) -> Result<Option<Chosen>, OAuthError> {
    let says = protected.map(|own| own.dpop).unwrap_or_default();
    let required = match relation.dpop {
        DpopUse::Never => return Ok(None),
        DpopUse::Always => true,
        DpopUse::WhereAsked => says == Bound::Required,
    };
    let asked = says == Bound::Taken || challenge.is_some_and(Challenge::is_dpop);
    let algorithms = metadata.dpop_signing_alg_values_supported.as_ref();
    let supported = algorithms.is_some_and(|all| all.iter().any(|own| own == dpop::ALGORITHM));
    match (required, asked, supported) {
        (true, _, false) => Err(OAuthError::NoDpop(metadata.issuer.clone())),
        (true, ..) | (_, true, true) => Ok(Some(Chosen {
            key: DpopKey::generate()?,
            required,
        })),
        _ => Ok(None),
    }
}
