//! Rows of the checklist that need a whole strategy, or a server that answers where it is asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::Request as HttpRequest, response::IntoResponse as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use client_driver::Client;
use http::{HeaderValue, StatusCode};
use mcp_auth::{
    Challenge,
    oauth::{
        AssertionKey, BypassAuth, ClientAuth, Exchange, Manager, MasterOauth, OAuthClient,
        OAuthError, Provider, Relation, TokenSet, UserOauth,
    },
    server::{ApiKeyScheme, ApiKeys, MemoryApiKeys, ResourceServer},
};
use mcp_core::{
    CredentialNeed, CredentialOutcome, CredentialProvider, CredentialRefusal, CredentialRetry,
    Error, Method, Principal, Request, Response, UpstreamId,
    secret::Secret,
    store::{MemoryStore, Namespace, StateStore, StorePrefix},
    transport::http::{HttpConfig, HttpTransport},
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tower::service_fn;

use crate::{CALLBACK, fake::Fake, http, manager, param, query, user, vault, vault_over};

async fn begin(manager: &Manager, relation: &str) -> Result<Vec<(String, String)>, OAuthError> {
    let ticket = manager.ticket(&user("alice"), relation, &[], None).await?;
    Ok(query(manager.begin(&ticket, None).await?.as_str()))
}

async fn finish(manager: &Manager, sent: &[(String, String)]) -> Result<(), OAuthError> {
    let state = param(sent, "state").unwrap();
    let answer = [
        ("state".to_owned(), state),
        ("code".to_owned(), "c".to_owned()),
    ];
    manager.finish(&answer, None).await.map(drop)
}

/// A strategy before an upstream, told who calls by a resource server in front of it.
async fn behind_a_gate(strategy: Arc<dyn CredentialProvider>) -> (String, Secret, Principal) {
    let keys = ApiKeys::new("gw", Secret::new("pepper"));
    let (inbound, record) = keys.issue("alice", [], None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let upstream = UpstreamId::new("up").unwrap();
    let service = service_fn(move |request: Request| {
        let (strategy, upstream) = (Arc::clone(&strategy), upstream.clone());
        async move {
            if *request.method() != Method::TOOLS_CALL {
                let result = json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"],
                    "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "private" });
                return Ok::<_, Error>(Response::new(result.into()));
            }
            let mut need = CredentialNeed::new(request.principal(), &upstream);
            need.request = Some(&request);
            let sent = match strategy.credential(&need).await? {
                CredentialOutcome::Ready(credential) => {
                    let value = credential.as_headers().get("authorization").cloned();
                    value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
                }
                _ => "consent".to_owned(),
            };
            let content = json!([{ "type": "text", "text": sent }]);
            Ok(Response::new(
                json!({ "resultType": "complete", "content": content }).into(),
            ))
        }
    });
    let auth = ResourceServer::builder(&url)
        .authorization_server("https://as.example")
        .scheme(ApiKeyScheme::new(
            "https://gw.example",
            keys,
            Arc::new(MemoryApiKeys::new([record])),
        ))
        .build()
        .unwrap();
    let transport = HttpTransport::new(service, HttpConfig::default());
    let app = Router::new()
        .route_service("/mcp", transport)
        .layer(auth.layer());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (
        url,
        inbound,
        Principal::authenticated("https://gw.example", "alice"),
    )
}

type Strategies = [(Arc<dyn CredentialProvider>, &'static str); 5];

/// Every strategy, and what it sends.
async fn strategies(fake: &Fake) -> (Manager, Strategies) {
    let relation = Relation::provider("up", Provider::oidc(&fake.url), OAuthClient::public("c"));
    let manager = manager().await.relation(relation).build().unwrap();
    let base: url::Url = "http://127.0.0.1:1/oauth".parse().unwrap();
    let own = HeaderValue::from_static("Bearer operators");
    let operators = BypassAuth::with_headers(
        [("authorization".parse().unwrap(), own)]
            .into_iter()
            .collect(),
    );
    let wanted = Exchange::for_resource("https://up.example");
    let client = OAuthClient::with_secret("gw", Secret::new("s"));
    let strategies: Strategies = [
        (Arc::new(BypassAuth::none()), ""),
        (Arc::new(operators), "Bearer operators"),
        (
            Arc::new(UserOauth::delegate(manager.clone(), "up", base.clone())),
            "Bearer at-alice",
        ),
        (
            Arc::new(MasterOauth::client_credentials(manager.clone(), "up", &[])),
            "Bearer at-0",
        ),
        (
            Arc::new(MasterOauth::exchange(
                manager.clone(),
                &fake.url,
                client,
                wanted,
            )),
            "Bearer at-0",
        ),
    ];
    (manager, strategies)
}

#[tokio::test]
async fn check_07_an_upstream_is_sent_a_token_of_its_own_and_never_the_clients() {
    let fake = Fake::start().await;
    let (manager, strategies) = strategies(&fake).await;
    for (strategy, expected) in strategies {
        let (url, inbound, alice) = behind_a_gate(strategy).await;
        let tokens = TokenSet::new(Secret::new("at-alice"));
        manager
            .import(&alice, "up", &fake.url, tokens)
            .await
            .unwrap();
        let known = Some(("alice", inbound.secret()));
        let mut client = Client::open_as(&url, "2026-07-28", false, known)
            .await
            .unwrap();
        let params = Map::from_iter([
            ("name".to_owned(), json!("x")),
            ("arguments".to_owned(), json!({})),
        ]);
        let answer = client.call("tools/call", params).await.unwrap();
        let sent = answer["content"][0]["text"].as_str().unwrap();
        assert_eq!(sent, expected);
        assert!(!sent.contains(inbound.secret()));
        // It went to the issuer that exchanges it, and in no other request.
        for asked in fake.asked() {
            for (name, value) in &asked.form {
                assert!(
                    name == "subject_token" || !value.contains(inbound.secret()),
                    "{name}"
                );
            }
        }
    }
    assert!(
        fake.asked()
            .iter()
            .any(|asked| asked.form.contains_key("subject_token"))
    );
}

#[tokio::test]
async fn check_15_tokens_lie_sealed_and_do_not_show() {
    let fake = Fake::start().await;
    let secret = json!({
        "access_token": "s3cret-access", "refresh_token": "s3cret-refresh", "id_token": "s3cret-id",
        "token_type": "Bearer", "expires_in": 60,
    });
    fake.answer(200, secret);
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let relation = Relation::provider("up", Provider::oidc(&fake.url), OAuthClient::public("c"));
    let manager = Manager::builder(
        CALLBACK.parse().unwrap(),
        http(),
        vault_over(store.clone()).await,
    )
    .relation(relation)
    .build()
    .unwrap();
    let sent = begin(&manager, "up").await.unwrap();
    let sealed = |at: &'static str| {
        let store = store.clone();
        async move {
            let mut records = 0;
            for namespace in ["vault", "oauth-lease", "vault-check"] {
                let prefix =
                    StorePrefix::new::<&str>(&Namespace::new(namespace).unwrap(), []).unwrap();
                for (key, entry) in store.scan(&prefix, None, 1000).await.unwrap().entries {
                    records += 1;
                    let text = String::from_utf8_lossy(&entry.value).into_owned() + key.as_str();
                    assert!(
                        !text.contains("s3cret") && !text.contains("verifier"),
                        "{at}: {text}"
                    );
                }
            }
            records
        }
    };
    assert!(sealed("begun").await >= 2);
    finish(&manager, &sent).await.unwrap();
    assert!(sealed("finished").await >= 2);
    let token = manager.token(&user("alice"), "up").await.unwrap().unwrap();
    assert_eq!(token.secret(), "s3cret-access");
    let shown = format!("{manager:?} {token:?} {:?}", TokenSet::new(token.clone()));
    assert!(!shown.contains("s3cret"), "{shown}");
}

/// A server that answers with documents at some paths and remembers where it was asked.
struct Places {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn places(documents: &[(&str, Value)]) -> Places {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let documents: HashMap<String, String> = documents
        .iter()
        .map(|(path, own)| ((*path).to_owned(), own.to_string().replace("HERE", &url)))
        .collect();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    let app = Router::new().fallback(move |request: HttpRequest| {
        let path = request.uri().path().to_owned();
        let document = documents.get(&path).cloned();
        log.lock().unwrap().push(path);
        async move {
            match document {
                Some(own) => Json(serde_json::from_str::<Value>(&own).unwrap()).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    Places { url, asked }
}

fn metadata() -> Value {
    json!({
        "issuer": "HERE", "authorization_endpoint": "HERE/authorize", "token_endpoint": "HERE/token",
        "code_challenge_methods_supported": ["S256"],
    })
}

#[tokio::test]
async fn check_16_17_and_18_the_issuer_is_found_where_the_challenge_says_else_at_the_path_else_at_the_root()
 {
    let root = "/.well-known/oauth-protected-resource";
    let path = "/.well-known/oauth-protected-resource/deep/mcp";
    let issuer = "/.well-known/oauth-authorization-server";
    let named = json!({ "resource": "HERE/deep/mcp", "authorization_servers": ["HERE"] });
    let whole = json!({ "resource": "HERE", "authorization_servers": ["HERE"] });
    for (documents, challenged, expected) in [
        (
            vec![("/meta", named.clone()), (path, whole.clone())],
            true,
            vec!["/meta", issuer],
        ),
        (
            vec![(path, named.clone()), (root, whole.clone())],
            false,
            vec![path, issuer],
        ),
        (vec![(root, whole.clone())], false, vec![path, root, issuer]),
    ] {
        let documents = [documents, vec![(issuer, metadata())]].concat();
        let places = places(&documents).await;
        let server = format!("{}/deep/mcp", places.url).parse().unwrap();
        let relation = Relation::mcp("up", server).with_client_anywhere(OAuthClient::public("c"));
        let manager = manager().await.relation(relation).build().unwrap();
        let base = "http://127.0.0.1:1/oauth".parse().unwrap();
        let strategy = UserOauth::proxy(manager.clone(), "up", base);
        let (alice, upstream) = (user("alice"), UpstreamId::new("up").unwrap());
        let need = CredentialNeed::new(&alice, &upstream);
        // An MCP server is asked without a token first, and its challenge is acted on.
        let first = strategy.credential(&need).await.unwrap();
        assert!(matches!(first, CredentialOutcome::Ready(own) if own.as_headers().is_empty()));
        let mut challenge = Challenge::bearer()
            .with(
                "error_description",
                "scope=\"admin\", resource_metadata=\"http://127.0.0.1:1/\"",
            )
            .with("scope", "mcp:read");
        if challenged {
            challenge = challenge.with("resource_metadata", &format!("{}/meta", places.url));
        }
        let refusal = CredentialRefusal::new(StatusCode::UNAUTHORIZED, vec![challenge.to_header()]);
        let again = strategy.refused(&need, &refusal).await.unwrap();
        assert_eq!(again, CredentialRetry::Retry);
        let CredentialOutcome::ConsentRequired(consent) = strategy.credential(&need).await.unwrap()
        else {
            panic!("the user is asked");
        };
        places.asked.lock().unwrap().clear();
        let sent = query(manager.begin(&consent.id, None).await.unwrap().as_str());
        assert_eq!(*places.asked.lock().unwrap(), expected);
        assert_eq!(param(&sent, "scope").as_deref(), Some("mcp:read"));
    }
    // Nowhere: nobody is guessed.
    let nowhere = places(&[(issuer, metadata())]).await;
    let server = format!("{}/deep/mcp", nowhere.url).parse().unwrap();
    let relation = Relation::mcp("up", server).with_client_anywhere(OAuthClient::public("c"));
    let manager = manager().await.relation(relation).build().unwrap();
    assert!(matches!(
        begin(&manager, "up").await,
        Err(OAuthError::NoServer(_))
    ));
}

#[tokio::test]
async fn check_22_a_client_is_one_that_is_registered_else_a_document_else_registered_here_else_there_is_none()
 {
    let document: url::Url = "https://client.test/oauth/client.json".parse().unwrap();
    let registered = json!({ "client_id": "by-registration", "client_secret": "s" });
    for (own, takes_documents, takes_registrations, expected) in [
        (true, true, true, Some("own")),
        (false, true, true, Some(document.as_str())),
        (false, false, true, Some("by-registration")),
        (false, false, false, None),
    ] {
        let places = places(&[
            (
                "/.well-known/oauth-protected-resource",
                json!({ "resource": "HERE", "authorization_servers": ["HERE"] }),
            ),
            ("/.well-known/oauth-authorization-server", {
                let mut own = metadata();
                own["client_id_metadata_document_supported"] = takes_documents.into();
                if takes_registrations {
                    own["registration_endpoint"] = json!("HERE/register");
                }
                own
            }),
            ("/register", registered.clone()),
        ])
        .await;
        let mut relation = Relation::mcp("up", places.url.parse().unwrap());
        if own {
            relation = relation.with_client(&places.url, OAuthClient::public("own"));
        }
        let manager = manager()
            .await
            .relation(relation)
            .client_document(document.clone())
            .build()
            .unwrap();
        let sent = begin(&manager, "up").await;
        match expected {
            Some(id) => assert_eq!(param(&sent.unwrap(), "client_id").as_deref(), Some(id)),
            None => assert!(matches!(sent, Err(OAuthError::NoClient(_)))),
        }
        let was_registered = places
            .asked
            .lock()
            .unwrap()
            .contains(&"/register".to_owned());
        assert_eq!(was_registered, expected == Some("by-registration"));
    }
}

#[tokio::test]
async fn check_25_a_client_signs_who_it_is_in_every_request() {
    let fake = Fake::start().await;
    let tokens = json!({ "access_token": "at", "token_type": "Bearer", "expires_in": 0, "refresh_token": "rt" });
    fake.answer(200, tokens);
    let pair = rcgen::KeyPair::generate().unwrap();
    let pem = Secret::new(pair.serialize_pem());
    let key = AssertionKey::from_pem(&pem, "ES256", Some("k1")).unwrap();
    let client = OAuthClient::new("gw", ClientAuth::Assertion(Arc::new(key)));
    let relation = Relation::provider("up", Provider::oidc(&fake.url), client);
    let manager = manager().await.relation(relation).build().unwrap();
    let sent = begin(&manager, "up").await.unwrap();
    finish(&manager, &sent).await.unwrap();
    manager.token(&user("alice"), "up").await.unwrap();
    manager.client_credentials("up", &[]).await.unwrap();
    let asked = fake.asked();
    assert!(asked.len() >= 3, "{asked:?}");
    let mut ids = std::collections::HashSet::new();
    for asked in asked {
        assert!(
            !asked.form.contains_key("client_id") && asked.authorization.is_none(),
            "{asked:?}"
        );
        assert_eq!(
            asked.form["client_assertion_type"],
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );
        let claims = asked.form["client_assertion"].split('.').nth(1).unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("gw"), &json!("gw"))
        );
        assert_eq!(claims["aud"], fake.url);
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            300
        );
        assert!(
            ids.insert(claims["jti"].to_string()),
            "each is good for one request"
        );
    }
    for (pem, algorithm) in [
        ("nonsense", "ES256"),
        (pem.secret(), "RS256"),
        (pem.secret(), "HS256"),
        (pem.secret(), "none"),
    ] {
        assert!(
            AssertionKey::from_pem(&Secret::new(pem), algorithm, None).is_err(),
            "{algorithm}"
        );
    }
}

fn step(scope: &str) -> CredentialRefusal {
    let challenge = Challenge::bearer()
        .with("error", "insufficient_scope")
        .with("scope", scope);
    CredentialRefusal::new(StatusCode::FORBIDDEN, vec![challenge.to_header()])
}

#[tokio::test]
async fn check_42_the_user_is_asked_for_the_union_of_scopes_a_few_times_and_no_more() {
    let fake = Fake::start().await;
    let relation = Relation::provider("up", Provider::oidc(&fake.url), OAuthClient::public("c"))
        .with_scopes(["mcp:read"]);
    let manager = manager().await.relation(relation).build().unwrap();
    finish(&manager, &begin(&manager, "up").await.unwrap())
        .await
        .unwrap();
    let strategy = UserOauth::delegate(
        manager.clone(),
        "up",
        "http://127.0.0.1:1/oauth".parse().unwrap(),
    );
    let (alice, upstream) = (user("alice"), UpstreamId::new("up").unwrap());
    let need = CredentialNeed::new(&alice, &upstream);
    for (round, asked) in ["mcp:write", "mcp:admin", "mcp:other"]
        .into_iter()
        .enumerate()
    {
        assert_eq!(
            strategy.refused(&need, &step(asked)).await.unwrap(),
            CredentialRetry::Retry
        );
        let CredentialOutcome::ConsentRequired(consent) = strategy.credential(&need).await.unwrap()
        else {
            panic!("the user is asked, round {round}");
        };
        let sent = query(manager.begin(&consent.id, None).await.unwrap().as_str());
        let scope = param(&sent, "scope").unwrap();
        let scopes: Vec<_> = scope.split(' ').collect();
        assert!(
            scopes.contains(&"mcp:read") && scopes.contains(&asked),
            "{scope}"
        );
        finish(&manager, &sent).await.unwrap();
    }
    assert_eq!(
        strategy.refused(&need, &step("mcp:more")).await.unwrap(),
        CredentialRetry::GiveUp
    );
    // A refusal that asks for no scopes is one.
    let plain = CredentialRefusal::new(StatusCode::FORBIDDEN, Vec::new());
    assert_eq!(
        strategy.refused(&need, &plain).await.unwrap(),
        CredentialRetry::GiveUp
    );
}

#[tokio::test]
async fn check_43_a_client_of_its_own_steps_up_a_few_times_and_no_more() {
    let fake = Fake::start().await;
    let client = OAuthClient::with_secret("gw", Secret::new("s"));
    let relation = Relation::provider("up", Provider::oidc(&fake.url), client);
    let manager = manager().await.relation(relation).build().unwrap();
    let strategy = MasterOauth::client_credentials(manager, "up", &["mcp:read"]);
    let (alice, upstream) = (user("alice"), UpstreamId::new("up").unwrap());
    let need = CredentialNeed::new(&alice, &upstream);
    strategy.credential(&need).await.unwrap();
    for more in ["mcp:write", "mcp:admin", "mcp:other"] {
        assert_eq!(
            strategy.refused(&need, &step(more)).await.unwrap(),
            CredentialRetry::Retry
        );
        strategy.credential(&need).await.unwrap();
        let asked = fake.asked().pop().unwrap();
        let scopes: Vec<_> = asked.form["scope"].split(' ').collect();
        assert!(
            scopes.contains(&"mcp:read") && scopes.contains(&more),
            "{scopes:?}"
        );
    }
    assert_eq!(
        strategy.refused(&need, &step("mcp:more")).await.unwrap(),
        CredentialRetry::GiveUp
    );
    // What was granted already is not asked for again.
    assert_eq!(
        strategy.refused(&need, &step("mcp:read")).await.unwrap(),
        CredentialRetry::GiveUp
    );
    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn entra_exchanges_on_behalf_of_a_user_in_its_own_way() {
    let fake = Fake::start().await;
    let client = OAuthClient::with_secret("gw", Secret::new("s"));
    let relation = Relation::provider("up", Provider::microsoft_at(&fake.url), client.clone());
    let manager = manager().await.relation(relation).build().unwrap();
    let scopes = ["https://graph.microsoft.com/.default".to_owned()];
    let subject = Secret::new("inbound");
    let tokens = manager
        .on_behalf_of(&fake.url, &client, &subject, &scopes)
        .await
        .unwrap();
    assert_eq!(tokens.access, Secret::new("at-0"));
    let asked = &fake.asked()[0];
    let mut form: Vec<_> = asked
        .form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    form.sort_unstable();
    let expected = [
        ("assertion", "inbound"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("requested_token_use", "on_behalf_of"),
        ("scope", "https://graph.microsoft.com/.default"),
    ];
    assert_eq!(
        form, expected,
        "nothing else: no resource, no subject token, no secret"
    );
    assert!(asked.authorization.as_ref().unwrap().starts_with("Basic "));
    // Consent that is missing there is told as a refusal, and not answered with another token.
    fake.answer(
        400,
        json!({ "error": "interaction_required", "error_description": "AADSTS50079 inbound" }),
    );
    let error = manager
        .on_behalf_of(&fake.url, &client, &subject, &scopes)
        .await
        .unwrap_err();
    assert!(matches!(&error, OAuthError::Refused { code } if code == "interaction_required"));
    assert!(!format!("{error:?}").contains("inbound"));
}

#[tokio::test]
async fn an_issuer_is_found_with_or_without_the_slash_after_the_host() {
    for (named, own) in [("/", ""), ("", "/")] {
        let fake = Fake::start().await;
        let issuer = format!("{}{own}", fake.url);
        fake.script.lock().unwrap().issuer = Some(format!("{}{named}", fake.url));
        fake.change("issuer", json!(issuer));
        let server = format!("{}/mcp", fake.url).parse().unwrap();
        let client = OAuthClient::public("c");
        let relation = Relation::mcp("up", server).with_client(&fake.url, client);
        let manager = Manager::builder(CALLBACK.parse().unwrap(), http(), vault().await)
            .relation(relation)
            .build()
            .unwrap();
        let ticket = manager
            .ticket(&user("alice"), "up", &[], None)
            .await
            .unwrap();
        let url = manager.begin(&ticket, None).await.unwrap();
        let state = param(&query(url.as_str()), "state").unwrap();
        // The answer carries the issuer as the metadata has it (RFC 9207).
        let answer = |iss: &str| {
            [("code", "c"), ("state", &state), ("iss", iss)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        manager.finish(&answer(&issuer), None).await.unwrap();
        assert!(manager.has_authorized(&user("alice"), "up").await.unwrap());
    }
}

#[tokio::test]
async fn a_document_that_is_not_where_the_challenge_says_is_found_at_the_next_place() {
    let path = "/.well-known/oauth-protected-resource/mcp";
    let issuer = "/.well-known/oauth-authorization-server";
    let named = json!({ "resource": "HERE/mcp", "authorization_servers": ["HERE"] });
    for (found, expected) in [
        (path, vec!["/stale", "/also", path, issuer]),
        ("/also", vec!["/stale", "/also", issuer]),
    ] {
        let places = places(&[(found, named.clone()), (issuer, metadata())]).await;
        let server = format!("{}/mcp", places.url).parse().unwrap();
        let relation = Relation::mcp("up", server).with_client_anywhere(OAuthClient::public("c"));
        let manager = manager().await.relation(relation).build().unwrap();
        let base = "http://127.0.0.1:1/oauth".parse().unwrap();
        let strategy = UserOauth::proxy(manager.clone(), "up", base);
        let (alice, upstream) = (user("alice"), UpstreamId::new("up").unwrap());
        let need = CredentialNeed::new(&alice, &upstream);
        let challenge = Challenge::bearer()
            .with("resource_metadata", &format!("{}/stale", places.url))
            .with("resource_metadata", &format!("{}/also", places.url));
        // A bare challenge before the one that says more.
        let all = vec![HeaderValue::from_static("Bearer"), challenge.to_header()];
        let refusal = CredentialRefusal::new(StatusCode::UNAUTHORIZED, all);
        strategy.refused(&need, &refusal).await.unwrap();
        let CredentialOutcome::ConsentRequired(consent) = strategy.credential(&need).await.unwrap()
        else {
            panic!("the user is asked");
        };
        places.asked.lock().unwrap().clear();
        manager.begin(&consent.id, None).await.unwrap();
        assert_eq!(*places.asked.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn a_ticket_asks_for_a_bounded_number_of_scopes_of_bounded_length() {
    let fake = Fake::start().await;
    let relation = Relation::provider("up", Provider::oidc(&fake.url), OAuthClient::public("c"));
    let manager = manager().await.relation(relation).build().unwrap();
    for (number, length, fits) in [(64, 256, true), (65, 1, false), (1, 257, false)] {
        let scopes = vec!["s".repeat(length); number];
        let ticket = manager.ticket(&user("alice"), "up", &scopes, None).await;
        assert_eq!(ticket.is_ok(), fits, "{number} of {length}");
    }
}

#[tokio::test]
async fn a_token_does_not_outlast_the_login_that_it_was_got_with() {
    let fake = Fake::start().await;
    let client = || OAuthClient::with_secret("gw", Secret::new("s"));
    let provider = || Provider::oidc(&fake.url);
    let manager = manager()
        .await
        .relation(Relation::provider("login", provider(), client()))
        .relation(Relation::provider("up", provider(), client()))
        .build()
        .unwrap();
    let token_endpoint = format!("{}/token", fake.url).parse().unwrap();
    let idp = mcp_auth::oauth::EnterpriseIdp::new(&fake.url, token_endpoint, client());
    let strategy = MasterOauth::enterprise(manager.clone(), "up", idp, "login");
    let assertion = json!({
        "access_token": "jag", "token_type": "N_A",
        "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag",
    });
    let issued =
        |token: &str| json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 });
    let answers = ["at-1", "at-2"].map(|token| [(200, assertion.clone()), (200, issued(token))]);
    fake.script.lock().unwrap().answers = answers.concat();
    let (alice, upstream) = (user("alice"), UpstreamId::new("up").unwrap());
    let need = CredentialNeed::new(&alice, &upstream);
    let login = async |id: &str| {
        let tokens = TokenSet::new(Secret::new("x")).with_id(Secret::new(id));
        manager
            .import(&alice, "login", &fake.url, tokens)
            .await
            .unwrap();
    };
    login("id-1").await;
    for _ in 0..2 {
        strategy.credential(&need).await.unwrap();
        assert_eq!(fake.asked().len(), 2, "the token is remembered");
    }
    manager.revoke(&alice, "login").await.unwrap();
    assert!(strategy.credential(&need).await.is_err());
    login("id-2").await;
    strategy.credential(&need).await.unwrap();
    let asked = fake.asked();
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[2].form["subject_token"], "id-2");
}

#[tokio::test]
async fn damaged_tokens_ask_for_a_new_authorisation_and_can_be_removed() {
    let fake = Fake::start().await;
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    let vault = vault_over(store.clone()).await;
    let relation = Relation::provider("up", Provider::oidc(&fake.url), OAuthClient::public("c"));
    let manager = Manager::builder(CALLBACK.parse().unwrap(), http(), vault)
        .relation(relation)
        .build()
        .unwrap();
    let alice = user("alice");
    let damage = async |left: usize| {
        let tokens = TokenSet::new(Secret::new("at"));
        let imported = manager.import(&alice, "up", &fake.url, tokens).await;
        imported.unwrap();
        let prefix = StorePrefix::new(&Namespace::new("vault").unwrap(), ["oauth-token"]).unwrap();
        let page = store.scan(&prefix, None, 10).await.unwrap();
        let (key, entry) = &page.entries[0];
        let cut = entry.value.slice(..left.min(entry.value.len() - 1));
        store.put(key, cut, None).await.unwrap();
        page.entries.len()
    };
    for left in [10, usize::MAX] {
        assert_eq!(damage(left).await, 1);
        assert!(!manager.has_authorized(&alice, "up").await.unwrap());
        assert!(manager.revoke(&alice, "up").await.unwrap(), "it is gone");
        assert!(!manager.revoke(&alice, "up").await.unwrap());
    }
}
