use mcp_core::{Principal, PrincipalKind, SessionKey};
use serde::{Deserialize, Serialize};

/// A principal in writing: who a ticket or a session is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    kind: u8,
    tenant: Option<String>,
    issuer: String,
    subject: String,
}

impl Owner {
    pub(crate) fn of(principal: &Principal) -> Option<Self> {
        let kind = match principal.kind() {
            PrincipalKind::Local => 0,
            PrincipalKind::Session => 1,
            PrincipalKind::Authenticated => 2,
            _ => return None,
        };
        Some(Self {
            kind,
            tenant: principal.tenant().map(str::to_owned),
            issuer: principal.issuer().to_owned(),
            subject: principal.subject().to_owned(),
        })
    }

    pub(crate) fn principal(&self) -> Principal {
        let principal = match self.kind {
            0 => Principal::local(),
            1 => Principal::session(&SessionKey::new(&self.subject)),
            _ => Principal::authenticated(&self.issuer, &self.subject),
        };
        match &self.tenant {
            Some(tenant) => principal.with_tenant(tenant),
            None => principal,
        }
    }
}
