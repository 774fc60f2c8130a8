//! Against a certified authorization server.

use std::time::Duration;

use axum::{Json, Router, routing::get};
use client_driver::browser::Browser;
use http::{Request, StatusCode};
use mcp_auth::{
    oauth::{Exchange, Manager, OAuthClient, OAuthError, Provider, Relation},
    server::{IntrospectionScheme, JwtScheme, RequestBody, ResourceServer},
    testing::AuthorizationServer,
};
use mcp_core::{Principal, secret::Secret};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt, service_fn};

use crate::{http, manager, param, query, user, vault};

/// A place that the server sends browsers back to, which remembers nothing: the test reads the address.
async fn landing() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/cb", listener.local_addr().unwrap());
    (listener, url)
}

fn serve(listener: TcpListener, app: Router) {
    tokio::spawn(async move { axum::serve(listener, app).await });
}

fn gw() -> OAuthClient {
    OAuthClient::with_secret("gw", Secret::new("gw-secret"))
}

/// Walks a user through an authorisation, and returns the answer that the browser brought.
async fn authorize(manager: &Manager, who: &Principal, relation: &str) -> Result<(), OAuthError> {
    let ticket = manager.ticket(who, relation, &[], None).await?;
    let url = manager.begin(&ticket, None).await?;
    let mut browser = Browser::new(who.subject()).unwrap();
    let page = browser.visit(url.as_str()).await.unwrap();
    let answer = query(page.url.as_str());
    manager.finish(&answer, None).await.map(drop)
}

struct World {
    server: AuthorizationServer,
    manager: Manager,
    resource: String,
}

/// A manager with one relation to the real server, whose tokens are for `resource`.
async fn world(seconds: u32, path: &str) -> World {
    let (listener, callback) = landing().await;
    let server = AuthorizationServer::start(&[&callback], seconds, "").await;
    serve(
        listener,
        Router::new().route("/cb", get(|| async { "back" })),
    );
    let resource = format!("http://127.0.0.1:9{path}");
    let relation = Relation::provider("as", Provider::oidc(&server.issuer()), gw())
        .with_scopes(["offline_access", "mcp:read"])
        .with_resource(&resource);
    let manager = Manager::builder(callback.parse().unwrap(), http(), vault().await)
        .relation(relation)
        .build()
        .unwrap();
    World {
        server,
        manager,
        resource,
    }
}

async fn status(auth: &ResourceServer, token: &str) -> StatusCode {
    let inner = service_fn(|_: Request<RequestBody<()>>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    });
    let request = Request::post("/mcp").header("authorization", format!("Bearer {token}"));
    let answer = auth
        .layer()
        .layer(inner)
        .oneshot(request.body(()).unwrap())
        .await;
    answer.unwrap().status()
}

#[tokio::test]
async fn a_code_becomes_a_token_that_the_resource_server_accepts_and_others_do_not() {
    let world = world(60, "/mcp").await;
    let alice = user("alice");
    authorize(&world.manager, &alice, "as").await.unwrap();
    let token = world.manager.token(&alice, "as").await.unwrap().unwrap();
    let accepts = |audience: &str| {
        ResourceServer::builder(audience)
            .authorization_server(&world.server.issuer())
            .scheme(JwtScheme::new(&world.server.issuer(), audience, http()))
            .build()
            .unwrap()
    };
    assert_eq!(
        status(&accepts(&world.resource), token.secret()).await,
        StatusCode::OK
    );
    let other = accepts("http://127.0.0.1:9/other");
    assert_eq!(
        status(&other, token.secret()).await,
        StatusCode::UNAUTHORIZED
    );
    // Nobody else has it.
    assert_eq!(world.manager.token(&user("bob"), "as").await.unwrap(), None);
    let info = world.manager.user_info(&alice, "as").await;
    // The token is for the resource, and not for the server's own user info.
    assert!(info.is_err());
}

#[tokio::test]
async fn an_opaque_token_is_introspected_and_refused_once_it_is_revoked() {
    let world = world(60, "/opaque").await;
    let alice = user("alice");
    authorize(&world.manager, &alice, "as").await.unwrap();
    let token = world.manager.token(&alice, "as").await.unwrap().unwrap();
    let issuer = world.server.issuer();
    let auth = ResourceServer::builder(&world.resource)
        .authorization_server(&issuer)
        .scheme(
            IntrospectionScheme::new(
                &issuer,
                format!("{issuer}/token/introspection").parse().unwrap(),
                &world.resource,
                ("rs", Secret::new("rs-secret")),
                http(),
            )
            .with_longest(Duration::ZERO),
        )
        .build()
        .unwrap();
    assert_eq!(status(&auth, token.secret()).await, StatusCode::OK);
    assert!(world.manager.revoke(&alice, "as").await.unwrap());
    assert_eq!(
        status(&auth, token.secret()).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(world.manager.token(&alice, "as").await.unwrap(), None);
    assert!(!world.manager.revoke(&alice, "as").await.unwrap());
}

#[tokio::test]
async fn a_refresh_token_is_rotated_and_its_loss_asks_for_consent() {
    let world = world(3, "/mcp").await;
    let alice = user("alice");
    authorize(&world.manager, &alice, "as").await.unwrap();
    let first = world.manager.token(&alice, "as").await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let second = world.manager.token(&alice, "as").await.unwrap().unwrap();
    assert_ne!(first, second);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let third = world.manager.token(&alice, "as").await.unwrap().unwrap();
    assert_ne!(second, third, "the rotated refresh token works");
}

#[tokio::test]
async fn the_gateway_itself_gets_a_token_and_exchanges_those_of_users() {
    let world = world(60, "/mcp").await;
    let own = world
        .manager
        .client_credentials("as", &["mcp:read".into()])
        .await
        .unwrap();
    assert!(own.refresh.is_none());
    let alice = user("alice");
    authorize(&world.manager, &alice, "as").await.unwrap();
    let token = world.manager.token(&alice, "as").await.unwrap().unwrap();
    let target = "http://127.0.0.1:9/upstream";
    let wanted = Exchange::for_resource(target).with_scopes(["mcp:read"]);
    let issuer = world.server.issuer();
    let exchanged = world
        .manager
        .exchange_token(&issuer, &gw(), &token, &wanted)
        .await
        .unwrap();
    assert_ne!(exchanged.access, token);
    let upstream = ResourceServer::builder(target)
        .authorization_server(&issuer)
        .scheme(JwtScheme::new(&issuer, target, http()))
        .build()
        .unwrap();
    assert_eq!(
        status(&upstream, token.secret()).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        status(&upstream, exchanged.access.secret()).await,
        StatusCode::OK
    );
    let broad = Exchange::for_resource("https://elsewhere.example");
    let refused = world
        .manager
        .exchange_token(&issuer, &gw(), &token, &broad)
        .await;
    assert!(
        matches!(refused, Err(OAuthError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn check_23_and_24_a_client_is_named_by_its_document() {
    let (listener, callback) = landing().await;
    let base = callback.trim_end_matches("/cb").to_owned();
    let server = AuthorizationServer::start(&[], 60, &base).await;
    let resource = format!("{base}/mcp");
    let document = json!({ "resource": resource, "authorization_servers": [server.issuer()] });
    let client: url::Url = "https://client.test/oauth/client.json".parse().unwrap();
    let manager = Manager::builder(callback.parse().unwrap(), http(), vault().await)
        .relation(Relation::mcp("mcp", resource.parse().unwrap()).without_registration())
        .client_document(client.clone())
        .build()
        .unwrap();
    let own = manager.client_document().unwrap();
    assert_eq!(own["client_id"], client.as_str());
    assert_eq!(own["redirect_uris"], json!([callback]));
    assert!(own["client_name"].is_string());
    serve(
        listener,
        Router::new()
            .route("/cb", get(|| async { "back" }))
            .route("/oauth/client.json", get(move || async move { Json(own) }))
            .route(
                "/.well-known/oauth-protected-resource/mcp",
                get(move || async move { Json(document) }),
            ),
    );
    let alice = user("alice");
    authorize(&manager, &alice, "mcp").await.unwrap();
    assert!(manager.token(&alice, "mcp").await.unwrap().is_some());
    // A document elsewhere than at an https address with a path is no name.
    for bad in [
        "http://client.test/x",
        "https://client.test/",
        "https://client.test/x#y",
    ] {
        let builder = crate::manager().await.client_document(bad.parse().unwrap());
        assert!(builder.build().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn check_28_and_29_a_registration_belongs_to_its_issuer() {
    let (listener, callback) = landing().await;
    let base = callback.trim_end_matches("/cb").to_owned();
    let first = AuthorizationServer::start(&[], 60, "").await;
    let second = AuthorizationServer::start(&[], 60, "").await;
    let issuers = [first.issuer(), second.issuer()];
    let document = |path: &str, issuer: &str| {
        let document = json!({
            "resource": format!("{base}/{path}"), "authorization_servers": [issuer],
        });
        get(move || async move { Json(document) })
    };
    let well_known = "/.well-known/oauth-protected-resource";
    serve(
        listener,
        Router::new()
            .route("/cb", get(|| async { "back" }))
            .route(&format!("{well_known}/a"), document("a", &issuers[0]))
            .route(&format!("{well_known}/b"), document("b", &issuers[1])),
    );
    let relation = |name: &str| Relation::mcp(name, format!("{base}/{name}").parse().unwrap());
    let manager = Manager::builder(callback.parse().unwrap(), http(), vault().await)
        .relation(relation("a"))
        .relation(relation("b"))
        .build()
        .unwrap();
    let mut clients = Vec::new();
    for name in ["a", "a", "b"] {
        let ticket = manager
            .ticket(&user("alice"), name, &[], None)
            .await
            .unwrap();
        let url = manager.begin(&ticket, None).await.unwrap();
        clients.push(param(&query(url.as_str()), "client_id").unwrap());
    }
    assert_eq!(clients[0], clients[1], "registered once at one issuer");
    assert_ne!(clients[0], clients[2], "and anew at another");
    authorize(&manager, &user("alice"), "b").await.unwrap();
}

#[tokio::test]
async fn a_device_without_a_browser_is_authorised_from_another() {
    let server = AuthorizationServer::start(&[], 60, "").await;
    let relation = Relation::provider(
        "as",
        Provider::oidc(&server.issuer()),
        OAuthClient::public("device"),
    )
    .with_resource("http://127.0.0.1:9/mcp");
    let manager = manager().await.relation(relation).build().unwrap();
    let device = manager
        .device_begin("as", &["openid".into(), "mcp:read".into()])
        .await
        .unwrap();
    let shown = format!("{device:?}");
    assert!(!shown.contains("code: Secret"), "{shown}");
    let address = device.complete.clone().unwrap();
    let alice = user("alice");
    let mut browser = Browser::new("alice").unwrap();
    let page = browser.visit(address.as_str()).await.unwrap();
    let finish = manager.device_finish(&alice, "as", &device);
    let finished = tokio::time::timeout(Duration::from_secs(15), finish).await;
    finished
        .unwrap_or_else(|_| panic!("{}", page.text))
        .unwrap();
    assert!(manager.token(&alice, "as").await.unwrap().is_some());
}

#[tokio::test]
async fn check_32_the_resource_is_in_every_request() {
    let world = world(60, "/mcp").await;
    let ticket = world
        .manager
        .ticket(&user("alice"), "as", &[], None)
        .await
        .unwrap();
    let url = world.manager.begin(&ticket, None).await.unwrap();
    let sent = query(url.as_str());
    assert_eq!(param(&sent, "resource"), Some(world.resource.clone()));
    assert_eq!(
        param(&sent, "code_challenge_method").as_deref(),
        Some("S256")
    );
    assert!(param(&sent, "state").unwrap().len() >= 32);
    assert_eq!(param(&sent, "response_type").as_deref(), Some("code"));
}
