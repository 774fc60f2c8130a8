//! Secrets in AWS Secrets Manager, with a server that speaks like it (moto).
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{net::TcpListener, path::Path, process::Stdio, sync::Arc, time::Duration};

use mcp_auth::vault::{AwsCredentials, AwsSecrets};
use mcp_core::{
    Partition, Principal, Shared,
    clock::FakeClock,
    http_client::GuardedClient,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{Namespace, StoreErrorKind},
    testing::secret_store_contract,
};
use tokio::process::{Child, Command};

struct Moto {
    url: url::Url,
    _child: Child,
}

impl Moto {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/vault-tools");
        let child = Command::new(script)
            .args(["moto", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
            {
                let url = format!("http://127.0.0.1:{port}/").parse().unwrap();
                return Self { url, _child: child };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server that speaks like AWS does not start; run .ci/test");
    }

    fn secrets(&self) -> AwsSecrets {
        secrets().with_endpoint(self.url.clone())
    }
}

fn secrets() -> AwsSecrets {
    let http = GuardedClient::builder()
        .insecure_allow_loopback()
        .build()
        .unwrap();
    let credentials = AwsCredentials::new("AKIDEXAMPLE", Secret::new("wJalrXUtnFEMI"));
    AwsSecrets::new("eu-central-1", credentials, Arc::new(http)).unwrap()
}

fn scope() -> SecretScope {
    let owner = Partition::shared(Shared::by_operator());
    SecretScope::new(Namespace::new("oauth").unwrap(), owner)
}

fn name(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

#[tokio::test]
async fn it_keeps_the_contract_of_secret_stores() {
    let moto = Moto::start().await;
    secret_store_contract(&moto.secrets()).await;
    let secrets = moto.secrets();
    let token = name("a token/ä");
    secrets
        .put(&scope(), &token, Secret::new("one"))
        .await
        .unwrap();
    secrets
        .put(&scope(), &token, Secret::new("two"))
        .await
        .unwrap();
    assert_eq!(
        secrets.get(&scope(), &token).await.unwrap(),
        Some(Secret::new("two"))
    );
    // Another prefix is another place.
    let other = moto.secrets().with_prefix("other");
    assert_eq!(other.get(&scope(), &token).await.unwrap(), None);
    assert!(other.list(&scope()).await.unwrap().is_empty());
    // Deleted and written again at once.
    assert!(secrets.delete(&scope(), &token).await.unwrap());
    secrets
        .put(&scope(), &token, Secret::new("three"))
        .await
        .unwrap();
    assert_eq!(secrets.list(&scope()).await.unwrap(), [token]);
    // More than one page.
    let many = SecretScope::new(
        Namespace::new("many").unwrap(),
        Partition::of(&Principal::local()),
    );
    for n in 0..120 {
        let name = name(&format!("n{n:03}"));
        secrets.put(&many, &name, Secret::new("x")).await.unwrap();
    }
    assert_eq!(secrets.list(&many).await.unwrap().len(), 120);
}

/// A server that remembers the one request it is sent.
async fn once(
    status: u16,
    body: &'static str,
) -> (url::Url, tokio::sync::oneshot::Receiver<http::HeaderMap>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
    let app = axum::Router::new().fallback(move |headers: http::HeaderMap| {
        if let Some(sender) = sender.lock().unwrap().take() {
            let _ = sender.send(headers);
        }
        async move { (http::StatusCode::from_u16(status).unwrap(), body) }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url.parse().unwrap(), receiver)
}

#[tokio::test]
async fn a_request_is_signed_for_its_day_its_region_and_its_session() {
    let (url, headers) = once(200, r#"{"SecretString":"x"}"#).await;
    let secrets = secrets()
        .with_endpoint(url)
        .with_wall_clock(Arc::new(FakeClock::new()));
    let credentials = AwsCredentials::new("ASIATEMP", Secret::new("s"));
    secrets.replace_credentials(credentials.with_session(Secret::new("session-token")));
    let found = secrets.get(&scope(), &name("t")).await.unwrap();
    assert_eq!(found, Some(Secret::new("x")));
    let headers = headers.await.unwrap();
    let authorization = headers["authorization"].to_str().unwrap();
    let date = headers["x-amz-date"].to_str().unwrap();
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=ASIATEMP/{}/eu-central-1/secretsmanager/aws4_request, SignedHeaders=content-type;\
         host;x-amz-date;x-amz-security-token;x-amz-target, Signature=",
        &date[..8]
    );
    let signature = authorization.strip_prefix(&expected);
    assert_eq!(signature.map(str::len), Some(64), "{authorization}");
    assert_eq!(headers["x-amz-target"], "secretsmanager.GetSecretValue");
    assert_eq!(headers["x-amz-security-token"], "session-token");
}

#[tokio::test]
async fn what_aws_refuses_is_told_by_kind_and_nothing_of_it_is_repeated() {
    for (status, body, kind) in [
        (
            400,
            r#"{"__type":"AccessDeniedException","Message":"hunter2"}"#,
            StoreErrorKind::Invalid,
        ),
        (
            400,
            r#"{"__type":"com.amazonaws#ThrottlingException:http://x"}"#,
            StoreErrorKind::Unavailable,
        ),
        (
            400,
            r#"{"__type":"LimitExceededException"}"#,
            StoreErrorKind::Full,
        ),
        (500, "<html>hunter2", StoreErrorKind::Unavailable),
        (200, "{}", StoreErrorKind::Corrupt),
    ] {
        let (url, _) = once(status, body).await;
        let error = secrets()
            .with_endpoint(url)
            .get(&scope(), &name("t"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{body}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    for gone in ["ResourceNotFoundException", "InvalidRequestException"] {
        let body = format!(r#"{{"__type":"{gone}"}}"#);
        let (url, _) = once(400, body.leak()).await;
        let found = secrets().with_endpoint(url).get(&scope(), &name("t")).await;
        assert_eq!(found.unwrap(), None);
    }
    // Nobody there, and an address that is not encrypted.
    for url in ["http://127.0.0.1:1/", "http://aws.example/"] {
        let secrets = secrets().with_endpoint(url.parse().unwrap());
        let error = secrets.get(&scope(), &name("t")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{url}");
    }
    let http = Arc::new(GuardedClient::builder().build().unwrap());
    for region in ["", "eu central", "x.evil.example/", "EU"] {
        let credentials = AwsCredentials::new("a", Secret::new("s"));
        assert!(
            AwsSecrets::new(region, credentials, http.clone()).is_err(),
            "{region}"
        );
    }
    let shown = format!(
        "{:?} {:?}",
        secrets(),
        AwsCredentials::new("a", Secret::new("s3cr3t"))
    );
    assert!(
        !shown.contains("wJalr") && !shown.contains("s3cr3t"),
        "{shown}"
    );
}
