//! Who makes a request.

use std::borrow::Cow;

use http::{HeaderName, request::Parts};
use mcp_core::{AuditEvent, AuditOutcome, Principal};
use subtle::ConstantTimeEq;

use super::{
    Identity, InboundToken, Presented, Refusal, RefusalKind, ResourceServer, VerifiedIdentity,
    token,
};

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
        let Ok(Some(bearer)) = token::bearer(&parts.headers) else {
            return Quick::Unknown;
        };
        let print = token::fingerprint(bearer);
        match self.remembered(&print) {
            Some(known) if self.check(known.identity(), parts).is_ok() => Quick::Known(Some(known)),
            _ => Quick::Unknown,
        }
    }

    /// Finds out who makes a request.
    pub(super) async fn judge(&self, parts: &Parts) -> Result<Option<VerifiedIdentity>, Refusal> {
        let verdict = self.find_out(parts).await;
        let outcome = match &verdict {
            Ok((Some(_), true)) => AuditOutcome::Succeeded,
            Ok(_) => return verdict.map(|(identity, _)| identity),
            // A client that comes without a credential is about to be told how to get one.
            Err(refusal) if refusal.kind() == RefusalKind::Missing => {
                return Err(refusal.clone());
            }
            Err(refusal) => AuditOutcome::Denied(Cow::Borrowed(refusal.reason())),
        };
        if let Some(sink) = &self.0.audit {
            let principal = match &verdict {
                Ok((Some(identity), _)) => identity.principal().clone(),
                _ => Principal::anonymous(),
            };
            let now = self.0.wall.now();
            let event = AuditEvent::new(now, principal, "auth.verify", outcome);
            if let Err(error) = sink.record(&event).await {
                tracing::error!(%error, "an authentication was not recorded");
                return Err(Refusal::unavailable("the request cannot be recorded now"));
            }
        }
        verdict.map(|(identity, _)| identity)
    }

    /// Finds out who makes a request, and whether that was not known before.
    async fn find_out(&self, parts: &Parts) -> Result<(Option<VerifiedIdentity>, bool), Refusal> {
        token::check_query(&parts.uri)?;
        self.check_single(parts)?;
        let bearer = token::bearer(&parts.headers)?;
        let print = bearer.map(token::fingerprint);
        if let Some(known) = print.and_then(|print| self.remembered(&print)) {
            self.check(known.identity(), parts)?;
            return Ok((Some(known), false));
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
                (true, true) => Ok((None, false)),
                (false, true) => Err(Refusal::new(
                    RefusalKind::Missing,
                    "the request carries no credential",
                )),
                (_, false) => Err(Refusal::invalid("no scheme here takes the credential")),
            };
        };
        let identity = scheme.verify(&presented).await?;
        if !identity.holds(self.0.wall.now()) {
            return Err(Refusal::invalid("the credential has expired"));
        }
        self.check(&identity, parts)?;
        let sealed = bearer.map(InboundToken::new);
        let verified = VerifiedIdentity::new(identity, scheme.name(), sealed);
        // A verdict about anything but the bearer token says nothing about the token.
        let without = Presented::new(None, &parts.headers, &parts.extensions);
        if let Some(print) = print
            && verified.identity().remember
            && !scheme.takes(&without)
        {
            self.0.verdicts.insert(print, verified.clone());
        }
        Ok((Some(verified), true))
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
        if known.identity().holds(self.0.wall.now()) {
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
        if let Some(print) = &identity.bound_to {
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
