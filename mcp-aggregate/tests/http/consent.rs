//! A gateway in front of a server that each user has to be authorised at.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use mcp_aggregate::{Gateway, Running, Upstream};
use mcp_core::{
    Consent, Credential, CredentialNeed, CredentialOutcome, CredentialProvider, Error, ErrorKind,
    Method, Principal, Request, Response,
};
use tower::ServiceExt as _;

use crate::fixture::{PATIENCE, Server};

/// Asks every principal for a consent of its own, until all have given it.
struct Consents(AtomicBool);

#[async_trait]
impl CredentialProvider for Consents {
    async fn credential(&self, need: &CredentialNeed<'_>) -> Result<CredentialOutcome, Error> {
        let user = need.principal.subject();
        Ok(match self.0.load(Ordering::SeqCst) {
            true => CredentialOutcome::Ready(Credential::none()),
            false => CredentialOutcome::ConsentRequired(Consent::new(
                user,
                "consent",
                format!("https://login.example/{user}"),
            )),
        })
    }
}

async fn list(running: &Running, user: &str) -> Result<Response, Error> {
    let request = Request::new(Method::TOOLS_LIST, None)
        .unwrap()
        .with_principal(Principal::authenticated("https://issuer.example", user));
    running.service().oneshot(request).await
}

#[tokio::test]
async fn a_list_that_wants_consent_says_to_each_principal_where_it_gives_its_own() {
    let consents = Arc::new(Consents(AtomicBool::new(false)));
    let server = Server::start(|_| None).await;
    let upstream = Upstream::http("up", server.url()).credentials(consents.clone());
    let running = Gateway::builder("gw").upstream(upstream).build().unwrap();
    let running = running.start();
    assert!(running.settled(PATIENCE).await);
    for user in ["alice", "bob"] {
        let error = list(&running, user).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConsentRequired);
        let url = format!("https://login.example/{user}");
        assert_eq!(error.consent().unwrap().url, url);
    }
    consents.0.store(true, Ordering::SeqCst);
    list(&running, "alice").await.unwrap();
    running.shutdown().await;
}
