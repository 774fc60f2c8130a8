//! Addresses inside, by every way in which one can be named, at everything that goes out.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use http::Request;
use mcp_auth::{
    oauth::{Manager, OAuthClient, Provider, Relation, TokenSet},
    server::{IntrospectionScheme, JwtScheme, RequestBody, ResourceServer},
};
use mcp_core::{
    http_client::{GuardedClient, HttpClient, Resolve},
    secret::Secret,
};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{CALLBACK, fake::Fake, param, query, user, vault};

/// Something inside that counts who knocks.
async fn inside() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let knocks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&knocks);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, knocks)
}

/// Says that a name is somewhere outside the first time, and inside from then on.
#[derive(Debug, Default)]
struct Rebinding(AtomicUsize);

#[async_trait]
impl Resolve for Rebinding {
    async fn resolve(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        let outside = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
        Ok(match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), outside],
            _ => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        })
    }
}

fn names(port: u16) -> Vec<String> {
    let mut names = vec![
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
    ];
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
        "rebind.test",
    ] {
        names.push(format!("https://{host}:{port}"));
    }
    names.extend(
        [
            "https://169.254.169.254",
            "https://10.0.0.1",
            "https://[fd00::1]",
        ]
        .map(String::from),
    );
    names
}

/// A client of an operator who has allowed one origin on this machine and nothing else there.
fn client(fake: &Fake) -> Arc<dyn HttpClient> {
    let builder = GuardedClient::builder().allow_origin(&fake.url).unwrap();
    let builder = builder.with_resolver(Arc::new(Rebinding::default()));
    Arc::new(builder.build().unwrap())
}

async fn manager(fake: &Fake, relation: Relation) -> Manager {
    Manager::builder(CALLBACK.parse().unwrap(), client(fake), vault().await)
        .relation(relation)
        .build()
        .unwrap()
}

fn mcp(fake: &Fake) -> Relation {
    Relation::mcp("up", format!("{}/mcp", fake.url).parse().unwrap())
}

async fn begin(manager: &Manager) -> Option<Vec<(String, String)>> {
    let ticket = manager
        .ticket(&user("alice"), "up", &[], None)
        .await
        .unwrap();
    let url = manager.begin(&ticket, None).await.ok()?;
    Some(query(url.as_str()))
}

#[tokio::test]
async fn a_server_that_names_addresses_inside_gets_nothing_from_there() {
    let (port, knocks) = inside().await;
    for name in names(port) {
        // Who issues its tokens.
        let fake = Fake::start().await;
        fake.script.lock().unwrap().issuer = Some(name.clone());
        assert!(
            begin(&manager(&fake, mcp(&fake)).await).await.is_none(),
            "issuer {name}"
        );
        // Where clients register, where codes are redeemed, where tokens are revoked and refreshed, who the user is.
        for member in [
            "registration_endpoint",
            "token_endpoint",
            "revocation_endpoint",
            "userinfo_endpoint",
        ] {
            let fake = Fake::start().await;
            fake.change(member, json!(format!("{name}/x")));
            let relation = match member {
                "registration_endpoint" => mcp(&fake),
                _ => Relation::provider("up", Provider::oidc(&fake.url), OAuthClient::public("c")),
            };
            let manager = manager(&fake, relation).await;
            if let Some(sent) = begin(&manager).await {
                assert_ne!(member, "registration_endpoint", "{name}");
                let state = param(&sent, "state").unwrap();
                let answer = [
                    ("state".to_owned(), state),
                    ("code".to_owned(), "c".to_owned()),
                ];
                let done = manager.finish(&answer, None).await;
                assert_eq!(done.is_ok(), member != "token_endpoint", "{member} {name}");
            }
            let tokens = TokenSet::new(Secret::new("at")).with_refresh(Secret::new("rt"));
            manager
                .import(&user("bob"), "up", &fake.url, tokens)
                .await
                .unwrap();
            if member == "userinfo_endpoint" {
                assert!(
                    manager.user_info(&user("bob"), "up").await.is_err(),
                    "{name}"
                );
            }
            if member == "revocation_endpoint" {
                assert!(manager.revoke(&user("bob"), "up").await.is_err(), "{name}");
            }
        }
        assert_eq!(knocks.load(Ordering::SeqCst), 0, "{name}");
    }
}

#[tokio::test]
async fn a_redirect_inside_is_not_followed() {
    let (port, knocks) = inside().await;
    for name in names(port) {
        for status in [301, 302, 303, 307, 308] {
            let fake = Fake::start().await;
            fake.script.lock().unwrap().redirect = Some((status, format!("{name}/x")));
            let client = client(&fake);
            let found = mcp_auth::discovery::discover(&client, &fake.url).await;
            assert!(found.is_err(), "{status} {name}");
        }
    }
    assert_eq!(knocks.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn keys_and_introspection_inside_are_not_asked() {
    let (port, knocks) = inside().await;
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = jsonwebtoken::EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    for name in names(port) {
        let fake = Fake::start().await;
        fake.change("jwks_uri", json!(format!("{name}/jwks")));
        let own = "https://gw.example/mcp";
        let address = format!("{name}/x").parse().unwrap();
        let by_metadata = JwtScheme::new(&fake.url, own, client(&fake));
        let by_address = JwtScheme::with_key_address(
            &name,
            own,
            format!("{name}/jwks").parse().unwrap(),
            client(&fake),
        );
        let credentials = ("rs", Secret::new("s"));
        let opaque = IntrospectionScheme::new(&fake.url, address, own, credentials, client(&fake));
        let server = ResourceServer::builder(own)
            .authorization_server(&fake.url)
            .scheme(by_metadata)
            .scheme(by_address)
            .scheme(opaque)
            .build()
            .unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let sign = |issuer: &str| {
            let claims = json!({ "iss": issuer, "sub": "a", "aud": own, "exp": now + 60 });
            let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
            jsonwebtoken::encode(&header, &claims, &key).unwrap()
        };
        for token in [sign(&fake.url), sign(&name), "opaque".to_owned()] {
            let inner = service_fn(|_: Request<RequestBody<()>>| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
            });
            let request = Request::post("/mcp").header("authorization", format!("Bearer {token}"));
            let answer = server
                .layer()
                .layer(inner)
                .oneshot(request.body(()).unwrap())
                .await;
            // It cannot be found out whether the token is good: nobody passes.
            assert_eq!(answer.unwrap().status(), 503, "{name}");
        }
    }
    assert_eq!(knocks.load(Ordering::SeqCst), 0);
}
