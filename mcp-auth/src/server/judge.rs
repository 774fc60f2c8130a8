//! Who makes a request.

use std::borrow::Cow;

use http::{HeaderName, request::Parts};
use mcp_core::{AuditEvent, AuditOutcome, Principal};
use subtle::ConstantTimeEq;

use super::{
    Identity, InboundToken, Presented, Refusal, RefusalKind, ResourceServer, VerifiedIdentity,
    dpop::{Dpop, Shown},
    token::{self, Token},
};

/// A request that may pass.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub(super) identity: Option<VerifiedIdentity>,
    /// What its proof of possession has shown.
    pub(super) shown: Option<Shown>,
    /// Whether its credential was not known before.
    new: bool,
}

/// What can be said without waiting.
pub(super) enum Quick {
    /// The path is open to everybody.
    Open,
    /// The credential was judged before, or there is none and none is needed.
    Known(Option<VerifiedIdentity>),
    /// It has to be found out.
    Unknown,
}

impl ResourceServer {
    /// Says what can be said without waiting.
    pub(super) fn judge_quickly(&self, parts: &Parts) -> Quick {
        let path = parts.uri.path();
        if self.0.open.iter().any(|open| is_under(path, open)) {
            return Quick::Open;
        }
        if parts.uri.query().is_some() || self.other_credentials(parts) > 0 {
            return Quick::Unknown;
        }
        let bearer = match token::presented(&parts.headers, self.0.dpop.is_some()) {
            Ok(Some(own)) if !own.proven => own.text,
            _ => return Quick::Unknown,
        };
        let print = token::fingerprint(bearer);
        let Some(known) = self.remembered(&print) else {
            return Quick::Unknown;
        };
        let good = self.check(known.identity(), parts).is_ok()
            && self.check_unproven(&known, true).is_ok();
        match good {
            true => Quick::Known(Some(known)),
            false => Quick::Unknown,
        }
    }

    /// Finds out who makes a request.
    pub(super) async fn judge(&self, parts: &Parts) -> Result<Admitted, Refusal> {
        let verdict = self.find_out(parts).await;
        let outcome = match &verdict {
            Ok(admitted) if admitted.new => AuditOutcome::Succeeded,
            Ok(_) => return verdict,
            // A client that comes without a credential, or without a nonce, is about to be told how to get one.
            Err(refusal)
                if matches!(
                    refusal.kind(),
                    RefusalKind::Missing | RefusalKind::NonceNeeded
                ) =>
            {
                return Err(refusal.clone());
            }
            Err(refusal) => AuditOutcome::Denied(Cow::Borrowed(refusal.reason())),
        };
        if let Some(sink) = &self.0.audit {
            let principal = match &verdict {
                Ok(Admitted {
                    identity: Some(identity),
                    ..
                }) => identity.principal().clone(),
                _ => Principal::anonymous(),
            };
            let now = self.0.wall.now();
            let event = AuditEvent::new(now, principal, "auth.verify", outcome);
            if let Err(error) = sink.record(&event).await {
                tracing::error!(%error, "an authentication was not recorded");
                return Err(Refusal::unavailable("the request cannot be recorded now"));
            }
        }
        verdict
    }

    /// Finds out who makes a request.
    async fn find_out(&self, parts: &Parts) -> Result<Admitted, Refusal> {
        token::check_query(&parts.uri)?;
        self.check_single(parts)?;
        let token = token::presented(&parts.headers, self.0.dpop.is_some())?;
        let mut admitted = self.identify(parts, token.map(|own| own.text)).await?;
        if let Some(identity) = &admitted.identity {
            admitted.shown = self.check_proof(parts, identity, token).await?;
        }
        Ok(admitted)
    }

    /// Checks what a request shows beside its credential.
    async fn check_proof(
        &self,
        parts: &Parts,
        identity: &VerifiedIdentity,
        token: Option<Token<'_>>,
    ) -> Result<Option<Shown>, Refusal> {
        let Some(token) = token.filter(|own| own.proven) else {
            self.check_unproven(identity, token.is_some())?;
            return Ok(None);
        };
        const UNBOUND: Refusal = Refusal::invalid("the token is not bound to a key");
        const NONE: Refusal = Refusal::invalid("proofs are not taken here");
        let dpop = self.0.dpop.as_ref().ok_or(NONE)?;
        let key = identity.identity().bound_to.key.ok_or(UNBOUND)?;
        let (resource, now) = (self.resource().resource(), self.0.wall.now());
        let shown = dpop.check(parts, (token.text, &key), resource, now);
        shown.await.map(Some)
    }

    /// Checks that a credential may come without a proof.
    fn check_unproven(&self, identity: &VerifiedIdentity, is_token: bool) -> Result<(), Refusal> {
        let bound = identity.identity().bound_to.key.is_some();
        let demanded = self.0.dpop.as_ref().is_some_and(Dpop::is_required);
        let issued = is_token && identity.is_of_issuer();
        match (bound, self.0.dpop.is_some()) {
            (true, true) => Err(Refusal::new(
                RefusalKind::InvalidProof,
                "the token is bound to a key: present it with the scheme DPoP and a proof",
            )),
            (true, false) => Err(Refusal::invalid(
                "the token is bound in a way that is not known here",
            )),
            (false, _) if demanded && issued => Err(Refusal::invalid(
                "tokens have to be bound to a key, and this one is not",
            )),
            (false, _) => Ok(()),
        }
    }

    /// Finds out whose a credential is.
    async fn identify(&self, parts: &Parts, bearer: Option<&str>) -> Result<Admitted, Refusal> {
        let print = bearer.map(token::fingerprint);
        if let Some(known) = print.and_then(|print| self.remembered(&print)) {
            self.check(known.identity(), parts)?;
            return Ok(Admitted {
                identity: Some(known),
                ..Admitted::default()
            });
        }
        let presented = Presented::new(bearer, &parts.headers, &parts.extensions);
        let scheme = self
            .0
            .schemes
            .iter()
            .find(|scheme| scheme.takes(&presented));
        let Some(scheme) = scheme else {
            let shows_nothing = !parts.headers.contains_key(http::header::AUTHORIZATION);
            return match (self.0.optional, shows_nothing) {
                (true, true) => Ok(Admitted::default()),
                (false, true) => Err(Refusal::new(
                    RefusalKind::Missing,
                    "the request carries no credential",
                )),
                (_, false) => Err(Refusal::invalid("no scheme here takes the credential")),
            };
        };
        let begun = self.0.wall.now();
        let identity = scheme.verify(&presented).await?;
        if !identity.holds(self.0.wall.now()) {
            return Err(Refusal::invalid("the credential has expired"));
        }
        self.check(&identity, parts)?;
        let sealed = bearer.map(InboundToken::new);
        let by = (scheme.name(), scheme.needs_issuer());
        let verified = VerifiedIdentity::new(identity, by, sealed, begun);
        // A verdict about anything but the bearer token says nothing about the token.
        let without = Presented::new(None, &parts.headers, &parts.extensions);
        if let Some(print) = print
            && verified.identity().remember
            && !scheme.takes(&without)
        {
            self.0.verdicts.insert(print, verified.clone());
        }
        Ok(Admitted {
            identity: Some(verified),
            shown: None,
            new: true,
        })
    }

    /// Refuses a request that carries two credentials: which of them counts must not depend on the order of schemes.
    fn check_single(&self, parts: &Parts) -> Result<(), Refusal> {
        let authorization = parts.headers.contains_key(http::header::AUTHORIZATION);
        match usize::from(authorization) + self.other_credentials(parts) > 1 {
            true => Err(Refusal::new(
                RefusalKind::SeveralCredentials,
                "the request carries more than one credential",
            )),
            false => Ok(()),
        }
    }

    /// Counts the values of headers other than `Authorization` that schemes take credentials from.
    fn other_credentials(&self, parts: &Parts) -> usize {
        let values = |name: &HeaderName| parts.headers.get_all(name).iter().count();
        self.0.headers.iter().map(values).sum()
    }

    /// Returns an earlier verdict that still holds.
    fn remembered(&self, print: &[u8; 32]) -> Option<VerifiedIdentity> {
        let known = self.0.verdicts.get(print)?;
        let outdated = self.0.revoked.is_outdated(&known);
        if !outdated && known.identity().holds(self.0.wall.now()) {
            return Some(known);
        }
        self.0.verdicts.invalidate(print);
        None
    }

    /// Checks what may be different from request to request.
    fn check(&self, identity: &Identity, parts: &Parts) -> Result<(), Refusal> {
        if self.0.revoked.covers(identity) {
            return Err(Refusal::invalid("the credential has been revoked"));
        }
        if let Some(print) = &identity.bound_to.certificate {
            let same = peer_thumbprint(parts).is_some_and(|peer| peer.ct_eq(print).into());
            if !same {
                return Err(Refusal::invalid(
                    "the token is bound to a certificate that this connection did not show",
                ));
            }
        }
        let missing = self
            .0
            .hierarchy
            .missing(&identity.principal, &self.0.required);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Refusal::new(
                RefusalKind::InsufficientScope,
                "the token does not grant the scopes that every request needs",
            )),
        }
    }
}

/// Returns whether a path is another or lies below it.
fn is_under(path: &str, open: &str) -> bool {
    let rest = path.strip_prefix(open.trim_end_matches('/'));
    // A path with dots may lead elsewhere, for whoever resolves them later.
    let plain = !path.split('/').any(|part| matches!(part, "." | ".."));
    plain && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(feature = "mtls")]
fn peer_thumbprint(parts: &Parts) -> Option<[u8; 32]> {
    super::PeerCertificate::of(&parts.extensions)?.thumbprint()
}

#[cfg(not(feature = "mtls"))]
fn peer_thumbprint(_: &Parts) -> Option<[u8; 32]> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_open_as_a_whole_or_not() {
        for (path, open, fits) in [
            ("/oauth", "/oauth", true),
            ("/oauth/start", "/oauth", true),
            ("/oauth/start", "/oauth/", true),
            ("/oauthx", "/oauth", false),
            ("/oauth/../mcp", "/oauth", false),
            ("/mcp/oauth", "/oauth", false),
            ("/anything", "/", true),
        ] {
            assert_eq!(is_under(path, open), fits, "{path} {open}");
        }
    }
}
