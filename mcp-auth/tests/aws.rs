//! Secrets in AWS Secrets Manager, with a server that speaks like AWS (moto): once as it is, and once so that it checks
//! signatures with the code of the vendor's own client, and the policies of a user and a role.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{net::TcpListener, path::Path, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use mcp_auth::vault::{AwsCredentials, AwsSecrets, SecretManagerError, SecretManagerErrorKind};
use mcp_core::{
    Partition, Principal, Shared,
    http_client::{GuardedClient, HttpClient, HttpError, ResponseBody},
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::Namespace,
    testing::secret_store_contract,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

struct Moto {
    url: url::Url,
    _child: Child,
}

impl Moto {
    async fn start() -> Self {
        Self::start_with("inf").await
    }

    /// Starts a server that checks signatures and policies after so many requests.
    async fn start_with(unchecked: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/vault-tools");
        let child = Command::new(script)
            .args(["moto", &port.to_string()])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
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
    let credentials = AwsCredentials::from_keys("AKIDEXAMPLE", &Secret::new("wJalrXUtnFEMI"), None);
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
    let other = moto.secrets().with_prefix("other").unwrap();
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

/// Sends what is for hosts of AWS to moto, with the name of the host, which signatures cover.
#[derive(Debug)]
struct ToMoto {
    port: u16,
}

impl ToMoto {
    async fn exchange(&self, request: &Request<Bytes>) -> std::io::Result<Vec<u8>> {
        let host = request.uri().authority().unwrap();
        let path = request.uri().path_and_query().unwrap();
        let length = request.body().len();
        let mut head = format!(
            "{} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\nconnection: close\r\n",
            request.method()
        );
        for (name, value) in request.headers() {
            // A signed host is the one that was written already.
            if name != header::HOST {
                head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("{head}\r\n").as_bytes()).await?;
        stream.write_all(request.body()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

#[async_trait::async_trait]
impl HttpClient for ToMoto {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, HttpError> {
        let answer = String::from_utf8(self.exchange(&request).await.unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        let body = ResponseBody::from(Bytes::from(body.to_owned()));
        Ok(Response::builder().status(status).body(body).unwrap())
    }
}

impl Moto {
    fn client(&self) -> Arc<dyn HttpClient> {
        let port = self.url.port().unwrap();
        Arc::new(ToMoto { port })
    }

    /// Asks the service for identities (IAM), as long as nothing is checked.
    async fn iam(&self, form: &[(&str, &str)]) -> String {
        let form = url::form_urlencoded::Serializer::new("Version=2010-05-08&".to_owned())
            .extend_pairs(form)
            .finish();
        // The service is named by the scope of a signature, which may be any as yet.
        let scope = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, \
                     SignedHeaders=host, Signature=x";
        let request = Request::post("https://iam.amazonaws.com/")
            .header(header::AUTHORIZATION, scope)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into())
            .unwrap();
        let (parts, body) = self.client().send(request).await.unwrap().into_parts();
        let body = body.collect(1 << 20).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(parts.status, 200, "{text}");
        text
    }
}

fn part<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap();
    rest.split_once('<').unwrap().0
}

fn policy(actions: &str) -> String {
    let allow = format!(r#"{{"Effect":"Allow","Action":{actions},"Resource":"*"}}"#);
    format!(r#"{{"Version":"2012-10-17","Statement":[{allow}]}}"#)
}

#[tokio::test]
async fn the_vendors_own_code_takes_the_signatures_of_keys_and_of_an_assumed_role() {
    let moto = Moto::start_with("5").await;
    moto.iam(&[("Action", "CreateUser"), ("UserName", "gw")])
        .await;
    let made = moto
        .iam(&[("Action", "CreateAccessKey"), ("UserName", "gw")])
        .await;
    let (key, secret) = (part(&made, "AccessKeyId"), part(&made, "SecretAccessKey"));
    let of_user = policy(r#"["sts:AssumeRole","secretsmanager:GetSecretValue"]"#);
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
    for form in [
        [
            ("Action", "PutUserPolicy"),
            ("UserName", "gw"),
            ("PolicyDocument", &of_user),
        ],
        [
            ("Action", "CreateRole"),
            ("RoleName", "role"),
            ("AssumeRolePolicyDocument", trust),
        ],
        [
            ("Action", "PutRolePolicy"),
            ("RoleName", "role"),
            ("PolicyDocument", &policy(r#""secretsmanager:*""#)),
        ],
    ] {
        moto.iam(&[&form[..], &[("PolicyName", "own")]].concat())
            .await;
    }
    let store = |credentials| AwsSecrets::new("eu-central-1", credentials, moto.client()).unwrap();
    let keys = |secret: &str| AwsCredentials::from_keys(key, &Secret::new(secret), None);

    // The role may do everything, its user may only read, and the wrong key is no key.
    let role = AwsCredentials::assume_role("arn:aws:iam::123456789012:role/role", keys(secret));
    let by_role = store(role.with_session_name("gateway-1"));
    secret_store_contract(&by_role).await;
    by_role
        .put(&scope(), &name("t"), Secret::new("x"))
        .await
        .unwrap();
    let by_user = store(keys(secret));
    let found = by_user.get(&scope(), &name("t")).await.unwrap();
    assert_eq!(found, Some(Secret::new("x")));
    for refused in [
        by_user.put(&scope(), &name("t"), Secret::new("y")).await,
        store(keys("wrong"))
            .get(&scope(), &name("t"))
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        let reason = SecretManagerError::of(&error).unwrap();
        assert_eq!(reason.kind(), SecretManagerErrorKind::Denied, "{error:?}");
    }
}
