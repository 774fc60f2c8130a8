//! Accounts of people: logging in, second factors, tokens, locks, replicas, and stores that fail.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::body::Body;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use mcp_auth::{
    server::{RequestBody, ResourceServer},
    users::{Attempt, Login, LoginResult, NewUser, UserError, UserScheme, Users, UsersBuilder},
    vault::{KeyRing, Vault, VaultKey},
};
use mcp_core::{
    Principal,
    clock::FakeClock,
    secret::Secret,
    store::{
        Change, Cursor, Entry, Expected, MemoryStore, Page, PostgresStore, RedbStore, StateStore,
        StoreError, StoreErrorKind, StoreKey, StorePrefix, Swap, Version,
    },
    testing::PostgresServer,
};
use serde_json::{Value, json};
use tower::{Layer as _, ServiceExt as _, service_fn};

const PASSWORD: &str = "correct horse battery";
const ISSUER: &str = "https://gw.example";

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

async fn builder(store: Arc<dyn StateStore>, clock: &FakeClock) -> UsersBuilder {
    let key = VaultKey::from_bytes(&[7; 32]).unwrap();
    let vault = Vault::open_with_ring(store, KeyRing::new(key))
        .await
        .unwrap()
        .with_wall_clock(Arc::new(clock.clone()));
    Users::builder(ISSUER, vault).wall_clock(Arc::new(clock.clone()))
}

fn memory(clock: &FakeClock) -> Arc<dyn StateStore> {
    Arc::new(MemoryStore::new().with_clock(Arc::new(clock.clone())))
}

async fn users(clock: &FakeClock) -> Users {
    builder(memory(clock), clock).await.build().unwrap()
}

/// The names of the users of a tenant, read a page at a time.
async fn all(users: &Users, tenant: Option<&str>) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = users.list(tenant, cursor, 2).await.unwrap();
        names.extend(page.users.into_iter().map(|user| user.name));
        cursor = page.next;
        if cursor.is_none() {
            names.sort();
            return names;
        }
    }
}

fn alice() -> Attempt {
    Attempt::new("alice", secret(PASSWORD))
}

async fn create(users: &Users, name: &str, roles: &[&str]) -> String {
    let mut new = NewUser::new(name, secret(PASSWORD));
    for role in roles {
        new = new.with_role(role);
    }
    users.create(new).await.unwrap().id
}

fn code(url: &Secret, clock: &FakeClock) -> Secret {
    let totp = totp_rs::Totp::from_url(url.secret()).unwrap();
    let now = clock.date().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Secret::new(totp.generate(now.as_secs()).to_string())
}

#[tokio::test]
async fn a_user_logs_in_and_is_the_same_principal_under_every_name() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    let id = create(&users, "Alice", &["reader"]).await;
    let login = users.log_in(&alice()).await.unwrap();
    let who = users.who(&login.access).await.unwrap().unwrap();
    let expected = Principal::authenticated(ISSUER, &id).with_scopes(["role:reader"]);
    assert_eq!(*who.principal(), expected);
    // Another name, and a login that goes on.
    users.rename(&id, "alicia").await.unwrap();
    let who = users.who(&login.access).await.unwrap().unwrap();
    assert_eq!(
        (who.user.name.as_str(), who.principal()),
        ("alicia", &expected)
    );
    assert!(matches!(
        users.log_in(&alice()).await,
        Err(UserError::Refused)
    ));
    // The old name is free, and its next holder is somebody else.
    let other = create(&users, "alice", &[]).await;
    assert_ne!(other, id);
    let taken = users.rename(&other, "ALICIA").await;
    assert!(matches!(taken, Err(UserError::NameTaken(_))));
    assert_eq!(all(&users, None).await, ["alice", "alicia"]);
    let names = users.list(None, None, 10).await.unwrap();
    // Neither a hash nor a token is shown.
    let shown = format!("{login:?} {names:?} {users:?}");
    assert!(
        !shown.contains("argon2") && !shown.contains("mcpa_"),
        "{shown}"
    );
}

#[tokio::test]
async fn tenants_have_users_of_their_own() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    for tenant in ["blue", "red"] {
        let new = NewUser::new("alice", secret(PASSWORD)).in_tenant(tenant);
        users.create(new).await.unwrap();
    }
    let mut partitions = Vec::new();
    for tenant in ["blue", "red"] {
        let login = users.log_in(&alice().in_tenant(tenant)).await.unwrap();
        let who = users.who(&login.access).await.unwrap().unwrap();
        assert_eq!(who.principal().tenant(), Some(tenant));
        partitions.push(who.principal().partition());
        assert_eq!(all(&users, Some(tenant)).await, ["alice"]);
    }
    assert_ne!(partitions[0], partitions[1]);
    assert!(
        users.log_in(&alice()).await.is_err(),
        "nobody without a tenant"
    );
    assert!(all(&users, None).await.is_empty());
}

#[tokio::test]
async fn a_removed_tenant_takes_its_users_and_their_logins_along_and_no_others() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    for name in ["alice", "bob", "carol", "dave", "erin"] {
        let new = NewUser::new(name, secret(PASSWORD)).in_tenant("blue");
        users.create(new).await.unwrap();
    }
    create(&users, "alice", &[]).await;
    assert_eq!(all(&users, Some("blue")).await.len(), 5);
    let gone = users.log_in(&alice().in_tenant("blue")).await.unwrap();
    let stays = users.log_in(&alice()).await.unwrap();
    assert_eq!(users.remove_tenant("blue").await.unwrap().len(), 5);
    assert!(users.who(&gone.access).await.unwrap().is_none());
    assert!(users.refresh(&gone.refresh).await.is_err());
    assert!(users.log_in(&alice().in_tenant("blue")).await.is_err());
    assert!(users.who(&stays.access).await.unwrap().is_some());
    assert_eq!(all(&users, None).await, ["alice"]);
    assert!(users.remove_tenant("blue").await.unwrap().is_empty());
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_a_remedy() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    for (name, password, role) in [
        ("", PASSWORD, "r"),
        ("a/b", PASSWORD, "r"),
        ("alice", "short", "r"),
        ("a long enough name", "A long enough NAME", "r"),
        ("alice", PASSWORD, "a b"),
    ] {
        let new = NewUser::new(name, secret(password)).with_role(role);
        let error = users.create(new).await.unwrap_err();
        assert!(
            matches!(error, UserError::Unusable { .. }),
            "{name} {error}"
        );
    }
    let long = NewUser::new("alice", secret(&"a".repeat(2000)));
    assert!(users.create(long).await.is_err());
    let built = builder(memory(&clock), &clock)
        .await
        .least_password(4)
        .build();
    assert!(built.unwrap_err().to_string().contains("least_password"));
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_stolen_one_ends_the_login() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    create(&users, "alice", &[]).await;
    let first = users.log_in(&alice()).await.unwrap();
    let second = users.refresh(&first.refresh).await.unwrap();
    // A client that races with itself is refused and goes on.
    assert!(matches!(
        users.refresh(&first.refresh).await,
        Err(UserError::BadToken)
    ));
    for login in [&first, &second] {
        assert!(users.who(&login.access).await.unwrap().is_some());
    }
    clock.advance(Duration::from_secs(60));
    // Whoever comes later with the old one has stolen it, or was stolen from.
    assert!(users.refresh(&first.refresh).await.is_err());
    assert!(users.who(&second.access).await.unwrap().is_none());
    assert!(users.refresh(&second.refresh).await.is_err());
}

#[tokio::test]
async fn of_many_refreshes_at_once_one_gets_new_tokens() {
    let clock = FakeClock::new();
    let store = memory(&clock);
    let one = builder(store.clone(), &clock).await.build().unwrap();
    let other = builder(store, &clock).await.build().unwrap();
    create(&one, "alice", &[]).await;
    let login = one.log_in(&alice()).await.unwrap();
    let tries = (0..20).map(|n| {
        let replica = if n % 2 == 0 { &one } else { &other };
        replica.refresh(&login.refresh)
    });
    let done: Vec<_> = join_all(tries)
        .await
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    assert_eq!(done.len(), 1);
    assert!(other.who(&done[0].access).await.unwrap().is_some());
}

#[tokio::test]
async fn whatever_ends_a_login_ends_it_on_all_replicas() {
    let clock = FakeClock::new();
    let store = memory(&clock);
    let one = builder(store.clone(), &clock).await.build().unwrap();
    let other = builder(store, &clock).await.build().unwrap();
    let id = create(&one, "alice", &[]).await;
    let goes_on = async |login: &Login| {
        let by_access = other.who(&login.access).await.unwrap().is_some();
        by_access || other.refresh(&login.refresh).await.is_ok()
    };
    let login = one.log_in(&alice()).await.unwrap();
    assert!(one.log_out(&login.access).await.unwrap());
    assert!(!goes_on(&login).await && !one.log_out(&login.access).await.unwrap());
    let login = one.log_in(&alice()).await.unwrap();
    one.log_out_everywhere(&id).await.unwrap();
    assert!(!goes_on(&login).await);
    let login = one.log_in(&alice()).await.unwrap();
    one.set_disabled(&id, true).await.unwrap();
    assert!(!goes_on(&login).await);
    assert!(matches!(
        one.log_in(&alice()).await,
        Err(UserError::Refused)
    ));
    one.set_disabled(&id, false).await.unwrap();
    assert!(
        !goes_on(&login).await,
        "what has ended does not begin again"
    );
    let login = one.log_in(&alice()).await.unwrap();
    let new = secret("another long password");
    assert!(
        one.change_password(&id, &secret("wrong"), new.clone())
            .await
            .is_err()
    );
    one.change_password(&id, &secret(PASSWORD), new.clone())
        .await
        .unwrap();
    assert!(!goes_on(&login).await);
    let login = one.log_in(&Attempt::new("alice", new)).await.unwrap();
    assert!(one.remove(&id).await.unwrap() && !one.remove(&id).await.unwrap());
    assert!(!goes_on(&login).await);
    // Access ends by its time too.
    create(&one, "alice", &[]).await;
    let login = one.log_in(&alice()).await.unwrap();
    clock.advance(Duration::from_secs(15 * 60 + 1));
    assert!(other.who(&login.access).await.unwrap().is_none());
    assert!(other.refresh(&login.refresh).await.is_ok());
}

#[tokio::test]
async fn a_reset_token_is_good_once_for_an_hour_and_for_one_password() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    let id = create(&users, "alice", &[]).await;
    let login = users.log_in(&alice()).await.unwrap();
    let (token, stale) = (
        users.reset_token(&id).await.unwrap(),
        users.reset_token(&id).await.unwrap(),
    );
    let short = users.reset(&token, secret("short")).await;
    assert!(
        matches!(short, Err(UserError::Unusable { .. })),
        "and is still good"
    );
    let new = || secret("another long password");
    users.reset(&token, new()).await.unwrap();
    assert!(users.who(&login.access).await.unwrap().is_none());
    assert!(users.log_in(&Attempt::new("alice", new())).await.is_ok());
    for used in [&token, &stale, &secret("made-up")] {
        assert!(matches!(
            users.reset(used, new()).await,
            Err(UserError::BadToken)
        ));
    }
    let late = users.reset_token(&id).await.unwrap();
    clock.advance(Duration::from_secs(3601));
    assert!(users.reset(&late, new()).await.is_err());
}

#[tokio::test]
async fn administration_needs_a_second_factor_whose_codes_are_good_once() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    let id = create(&users, "alice", &["admin", "reader"]).await;
    let held = async |login: &Login| {
        let who = users.who(&login.access).await.unwrap().unwrap();
        let mut all: Vec<_> = who.principal().scopes().map(str::to_owned).collect();
        all.sort();
        all
    };
    let plain = users.log_in(&alice()).await.unwrap();
    assert_eq!(held(&plain).await, ["role:reader"]);
    let enrolment = users.enrol_factor(&id).await.unwrap();
    assert!(
        users.log_in(&alice()).await.is_ok(),
        "not before it is confirmed"
    );
    assert!(users.confirm_factor(&id, &secret("000000")).await.is_err());
    let first = code(&enrolment.url, &clock);
    let recovery = users.confirm_factor(&id, &first).await.unwrap();
    assert!(users.enrol_factor(&id).await.is_err(), "there is one");
    let missing = users.log_in(&alice()).await;
    assert!(matches!(missing, Err(UserError::SecondFactorNeeded)));
    let with = async |code: Secret| users.log_in(&alice().with_code(code)).await;
    assert!(with(first).await.is_err(), "the code was used");
    clock.advance(Duration::from_secs(30));
    let next = code(&enrolment.url, &clock);
    let login = with(next.clone()).await.unwrap();
    assert_eq!(held(&login).await, ["role:admin", "role:reader"]);
    assert!(with(next).await.is_err(), "and this one too");
    // A lost authenticator.
    let spare = recovery.codes()[0].clone();
    assert!(with(spare.clone()).await.unwrap().second_factor);
    assert!(with(spare).await.is_err());
    let refreshed = users.refresh(&login.refresh).await.unwrap();
    assert_eq!(
        held(&refreshed).await.len(),
        2,
        "a refresh keeps the factor"
    );
    users.remove_factor(&id).await.unwrap();
    assert!(users.who(&refreshed.access).await.unwrap().is_none());
    assert_eq!(
        held(&users.log_in(&alice()).await.unwrap()).await,
        ["role:reader"]
    );
    assert!(!format!("{enrolment:?} {recovery:?}").contains(enrolment.secret.secret()));
}

#[tokio::test]
async fn failures_lock_the_account_and_the_address_however_many_come_at_once() {
    let clock = FakeClock::new();
    let users = builder(memory(&clock), &clock)
        .await
        .lock_account_after(3)
        .lock_address_after(6)
        .build()
        .unwrap();
    let id = create(&users, "alice", &[]).await;
    create(&users, "bob", &[]).await;
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let wrong = |name: &str| Attempt::new(name, secret("a wrong password"));
    let flood = (0..20).map(|_| {
        let attempt = wrong("alice");
        let users = users.clone();
        async move { users.log_in(&attempt).await.unwrap_err() }
    });
    let errors = join_all(flood).await;
    let locked = |error: &UserError| matches!(error, UserError::Locked(_));
    assert_eq!(errors.iter().filter(|error| !locked(error)).count(), 3);
    // The right password is not told from a wrong one, and does not prolong the lock.
    clock.advance(Duration::from_secs(14 * 60));
    assert!(locked(&users.log_in(&alice()).await.unwrap_err()));
    clock.advance(Duration::from_secs(61));
    users.log_in(&alice()).await.unwrap();
    for _ in 0..3 {
        users.log_in(&wrong("alice")).await.unwrap_err();
    }
    users.unlock(&id).await.unwrap();
    users.log_in(&alice()).await.unwrap();
    // Names that are not there count for the address.
    for n in 0..6 {
        let error = users
            .log_in(&wrong(&format!("nobody{n}")).from_address(address))
            .await;
        assert!(matches!(error, Err(UserError::Refused)), "{n}");
    }
    let bob = || Attempt::new("bob", secret(PASSWORD));
    assert!(locked(
        &users
            .log_in(&bob().from_address(address))
            .await
            .unwrap_err()
    ));
    assert!(users.log_in(&bob()).await.is_ok(), "from elsewhere");
    let seen: Vec<_> = users.login_history(&id).await.unwrap();
    let results: Vec<_> = seen.iter().map(|own| own.result).collect();
    assert!(results.contains(&LoginResult::WrongPassword));
    assert_eq!(
        results
            .iter()
            .filter(|own| **own == LoginResult::Succeeded)
            .count(),
        2
    );
    assert!(seen.is_sorted_by(|newer, older| newer.at >= older.at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn passwords_are_hashed_beside_the_runtime() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    create(&users, "alice", &[]).await;
    let logins: Vec<_> = (0..8)
        .map(|_| {
            let users = users.clone();
            tokio::spawn(async move { users.log_in(&alice()).await.is_ok() })
        })
        .collect();
    // The one worker goes on with other work while passwords are hashed.
    let mut turns = 0_u32;
    while !logins.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(turns > 100, "{turns}");
    for login in logins {
        login.await.unwrap();
    }
}

/// Fails writes after so many.
#[derive(Debug)]
struct Failing {
    store: MemoryStore,
    left: AtomicI64,
}

impl Failing {
    fn write(&self) -> Result<(), StoreError> {
        match self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => Ok(()),
            false => Err(StoreError::new(StoreErrorKind::Unavailable, "away")),
        }
    }
}

#[async_trait::async_trait]
impl StateStore for Failing {
    async fn get(&self, key: &StoreKey) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        value: bytes::Bytes,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        self.write()?;
        self.store.put(key, value, ttl).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool, StoreError> {
        self.write()?;
        self.store.delete(key).await
    }

    async fn compare_and_swap(
        &self,
        key: &StoreKey,
        expected: Expected,
        change: Change,
    ) -> Result<Swap, StoreError> {
        self.write()?;
        self.store.compare_and_swap(key, expected, change).await
    }

    async fn scan(
        &self,
        prefix: &StorePrefix,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.store.scan(prefix, cursor, limit).await
    }
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_lets_nobody_in_and_loses_no_name() {
    let clock = FakeClock::new();
    for writes in 0..8 {
        let store = Arc::new(Failing {
            store: MemoryStore::new(),
            left: AtomicI64::new(1000),
        });
        let users = builder(store.clone(), &clock).await.build().unwrap();
        store.left.store(writes, Ordering::SeqCst);
        let new = || NewUser::new("alice", secret(PASSWORD));
        let created = users.create(new()).await;
        let logged_in = users.log_in(&alice()).await;
        assert!(created.is_ok() || logged_in.is_err(), "{writes}");
        store.left.store(1000, Ordering::SeqCst);
        match created {
            Ok(user) => {
                users.unlock(&user.id).await.unwrap();
                assert!(users.log_in(&alice()).await.is_ok(), "{writes}");
                let old = users.rename(&user.id, "alicia").await;
                assert!(old.is_ok());
            }
            // Once more, under the same name.
            Err(_) => assert!(users.create(new()).await.is_ok(), "{writes}"),
        }
    }
}

#[tokio::test]
async fn users_live_in_a_file_and_in_postgresql() {
    let clock = FakeClock::new();
    let folder = tempfile::tempdir().unwrap();
    let server = PostgresServer::start().await;
    let file = RedbStore::open(folder.path().join("users.redb")).await;
    let stores: [Arc<dyn StateStore>; 2] = [
        Arc::new(file.unwrap()),
        Arc::new(PostgresStore::new(&server.url()).unwrap()),
    ];
    for store in stores {
        let users = builder(store, &clock).await.build().unwrap();
        let id = create(&users, "alice", &["reader"]).await;
        let again = users.create(NewUser::new("alice", secret(PASSWORD))).await;
        assert!(matches!(again, Err(UserError::NameTaken(_))));
        let login = users.log_in(&alice()).await.unwrap();
        let login = users.refresh(&login.refresh).await.unwrap();
        assert_eq!(users.who(&login.access).await.unwrap().unwrap().user.id, id);
        assert_eq!(users.login_history(&id).await.unwrap().len(), 1);
        assert!(users.log_out(&login.access).await.unwrap());
    }
}

async fn ask(
    app: &axum::Router,
    request: http::request::Builder,
    body: Option<Value>,
) -> (u16, Value) {
    let request = match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    let answer = app.clone().oneshot(request.unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        parts.status.as_u16(),
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn programs_log_in_by_the_routes_and_call_with_what_they_get() {
    let clock = FakeClock::new();
    let users = users(&clock).await;
    let id = create(&users, "alice", &["admin", "reader"]).await;
    let app = users.router();
    let at = |path: &str| format!("/api/v1/auth/{path}");
    let send = async |path: &str, body: Value| ask(&app, Request::post(at(path)), Some(body)).await;
    let (status, refused) = send("login", json!({ "name": "alice", "password": "wrong" })).await;
    assert_eq!((status, &refused["error"]), (401, &json!("refused")));
    let (status, login) = send("login", json!({ "name": "alice", "password": PASSWORD })).await;
    assert_eq!((status, &login["user"]["id"]), (200, &json!(id)));
    assert!(login["user"].get("password").is_none());
    let refresh = json!({ "refreshToken": login["refreshToken"] });
    let (status, login) = send("refresh", refresh.clone()).await;
    assert_eq!(status, 200);
    assert_eq!(send("refresh", refresh).await.0, 401);
    let token = login["accessToken"].as_str().unwrap().to_owned();
    let bearer = |request: http::request::Builder| {
        request.header("authorization", format!("Bearer {token}"))
    };
    let (status, me) = ask(&app, bearer(Request::get(at("me"))), None).await;
    assert_eq!((status, &me["user"]["name"]), (200, &json!("alice")));
    let (_, permissions) = ask(&app, bearer(Request::get(at("permissions"))), None).await;
    assert_eq!(
        permissions,
        json!({ "roles": ["reader"], "withoutSecondFactor": ["admin"] })
    );
    assert_eq!(ask(&app, Request::get(at("me")), None).await.0, 401);
    // A form of another site is none of ours.
    let form = Request::post(at("login"))
        .body(Body::from("name=alice"))
        .unwrap();
    let answer = app.clone().oneshot(form).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    // The token opens the endpoint, and ends with the login.
    let auth = ResourceServer::builder("https://gw.example/mcp")
        .scheme(UserScheme::new(users.clone()))
        .wall_clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    let inside = service_fn(|request: Request<RequestBody<()>>| async move {
        let who = request.extensions().get::<Principal>();
        let subject = who.map(|who| who.subject().to_owned());
        Ok::<_, std::convert::Infallible>(http::Response::new(subject.unwrap_or_default()))
    });
    let gate = auth.layer().layer(inside);
    let call = async || {
        let request = bearer(Request::post("/mcp")).body(()).unwrap();
        gate.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(call().await, StatusCode::OK);
    assert_eq!(
        ask(&app, bearer(Request::post(at("logout"))), None).await.0,
        204
    );
    clock.advance(Duration::from_secs(31));
    assert_eq!(call().await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn shared_revocations_end_a_login_at_a_resource_server_at_once() {
    let clock = FakeClock::new();
    let store = memory(&clock);
    let base = builder(store.clone(), &clock).await.build().unwrap();
    let auth = ResourceServer::builder("https://gw.example/mcp")
        .scheme(UserScheme::new(base))
        .wall_clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    let shared = auth.share_revocations(store.clone(), Duration::from_secs(3600));
    let shared = Arc::new(shared.await.unwrap());
    let users = builder(store, &clock)
        .await
        .revocations(shared)
        .build()
        .unwrap();
    create(&users, "alice", &[]).await;
    let inside = service_fn(|_: Request<RequestBody<()>>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    });
    let gate = auth.layer().layer(inside);
    let login = users.log_in(&alice()).await.unwrap();
    let call = async || {
        let request = Request::post("/mcp")
            .header("authorization", format!("Bearer {}", login.access.secret()));
        let answer = gate.clone().oneshot(request.body(()).unwrap()).await;
        answer.unwrap().status()
    };
    assert_eq!(call().await, StatusCode::OK);
    users.log_out(&login.access).await.unwrap();
    assert_eq!(call().await, StatusCode::UNAUTHORIZED);
}

/// The status of a call with a token, and the scopes that it comes with.
async fn scopes_of(auth: &ResourceServer, token: &Secret) -> (StatusCode, Vec<String>) {
    let inside = service_fn(|request: Request<RequestBody<()>>| async move {
        let who = request.extensions().get::<Principal>().unwrap();
        let scopes: Vec<_> = who.scopes().collect();
        Ok::<_, std::convert::Infallible>(http::Response::new(scopes.join(" ")))
    });
    let request =
        Request::post("/mcp").header("authorization", format!("Bearer {}", token.secret()));
    let request = request.body(()).unwrap();
    let answer = auth.layer().layer(inside).oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let scopes = match parts.status {
        StatusCode::OK => text.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    (parts.status, scopes)
}

#[tokio::test]
async fn what_changes_of_a_user_counts_at_once_everywhere_and_new_logins_are_let_in() {
    let clock = FakeClock::new();
    let store = memory(&clock);
    let replica = async || {
        let base = builder(store.clone(), &clock).await.build().unwrap();
        let auth = ResourceServer::builder("https://gw.example/mcp")
            .scheme(UserScheme::new(base))
            .wall_clock(Arc::new(clock.clone()))
            .build()
            .unwrap();
        let pace = Duration::from_millis(5);
        let shared = auth.share_revocations(store.clone(), pace).await.unwrap();
        (auth, Arc::new(shared))
    };
    let ((here, shared), (there, _reading)) = (replica().await, replica().await);
    let users = builder(store.clone(), &clock).await.revocations(shared);
    let users = users.build().unwrap();
    let id = create(&users, "alice", &["reader"]).await;
    let log_in = async || users.log_in(&alice()).await.unwrap().access;
    let both = async |token: &Secret, expected: (StatusCode, &[&str])| {
        // The other replica reads what this one has written within its pace.
        for auth in [&here, &there] {
            let mut seen = scopes_of(auth, token).await;
            for _ in 0..400 {
                if seen.0 == expected.0 && seen.1 == expected.1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                seen = scopes_of(auth, token).await;
            }
            assert_eq!(seen.0, expected.0);
            assert_eq!(seen.1, expected.1);
        }
    };
    let gone: (StatusCode, &[&str]) = (StatusCode::UNAUTHORIZED, &[]);
    let token = log_in().await;
    both(&token, (StatusCode::OK, &["role:reader"])).await;
    users.set_roles(&id, &["writer"]).await.unwrap();
    both(&token, (StatusCode::OK, &["role:writer"])).await;
    users.set_disabled(&id, true).await.unwrap();
    both(&token, gone).await;
    users.set_disabled(&id, false).await.unwrap();
    both(&token, gone).await;
    let token = log_in().await;
    both(&token, (StatusCode::OK, &["role:writer"])).await;
    let reset = users.reset_token(&id).await.unwrap();
    users.reset(&reset, secret(PASSWORD)).await.unwrap();
    both(&token, gone).await;
    both(&log_in().await, (StatusCode::OK, &["role:writer"])).await;
}
