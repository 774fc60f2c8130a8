//! HashiCorp Vault and OpenBao: the key-value engine of version 2, tokens, AppRole and Kubernetes, by the published API.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use mcp_auth::vault::{
    HashicorpLogin, HashicorpSecrets, SecretManagerError, SecretManagerErrorKind,
};
use mcp_core::{
    secret::{Secret, SecretStore},
    store::StoreErrorKind,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Stand, name,
    net::{Net, Reply, body, header, json, reply},
    shared,
};

pub(crate) const ORIGIN: &str = "https://vault.example:8200";

#[derive(Default)]
struct State {
    /// The versions of each secret.
    held: BTreeMap<String, Vec<Value>>,
    /// When each token ends; never, without an end.
    tokens: BTreeMap<String, Option<Instant>>,
    logins: usize,
    renewals: usize,
}

/// How a server is set up.
#[derive(Clone, Copy)]
struct Setting {
    cas_required: bool,
    namespace: &'static str,
    lease: u64,
    renewable: bool,
    /// Whether tokens may look themselves up.
    may_look: bool,
}

const USUAL: Setting = Setting {
    cas_required: false,
    namespace: "",
    lease: 3600,
    renewable: true,
    may_look: true,
};

fn errors(status: u16, reasons: &[&str]) -> Reply {
    json(status, &json!({ "errors": reasons }))
}

fn server(state: Arc<Mutex<State>>, setting: Setting) -> impl Fn(&Request<Bytes>) -> Reply {
    move |request| {
        let mut state = state.lock().unwrap();
        let state = &mut *state;
        if header(request, "x-vault-request") != "true" {
            return errors(412, &[]);
        }
        if header(request, "x-vault-namespace") != setting.namespace {
            return errors(
                404,
                &["no handler for route \"secret/\". route entry not found."],
            );
        }
        let path = request
            .uri()
            .path()
            .strip_prefix("/v1/")
            .unwrap_or_default();
        if path.starts_with("auth/") && path.ends_with("/login") {
            return login(request, path, state, setting);
        }
        let token = header(request, "x-vault-token");
        let is_known = state
            .tokens
            .get(token)
            .is_some_and(|end| end.is_none_or(|end| end > Instant::now()));
        if !is_known {
            return errors(403, &["permission denied", "invalid token"]);
        }
        let granted = |seconds: u64| {
            json!({
                "auth": { "client_token": token, "lease_duration": seconds, "renewable": setting.renewable },
            })
        };
        match path {
            "auth/token/lookup-self" if !setting.may_look => errors(403, &["permission denied"]),
            "auth/token/lookup-self" => {
                let ttl = state.tokens[token].map_or(0, |end| (end - Instant::now()).as_secs());
                json(
                    200,
                    &json!({ "data": { "ttl": ttl, "renewable": setting.renewable } }),
                )
            }
            "auth/token/renew-self" if !setting.renewable => {
                errors(400, &["lease is not renewable"])
            }
            "auth/token/renew-self" => {
                let end = Instant::now() + Duration::from_secs(setting.lease);
                state.tokens.insert(token.to_owned(), Some(end));
                state.renewals += 1;
                json(200, &granted(setting.lease))
            }
            path => match path.split_once('/') {
                Some(("secret" | "team", path)) => engine(request, path, state, setting),
                _ => errors(404, &["no handler for route \"x\". route entry not found."]),
            },
        }
    }
}

fn login(request: &Request<Bytes>, path: &str, state: &mut State, setting: Setting) -> Reply {
    let body = body(request);
    let is_known = match path {
        "auth/approle/login" | "auth/other/login" => {
            body["role_id"] == "gateway" && body["secret_id"] == "s3cr3t"
        }
        "auth/kubernetes/login" => {
            body["role"] == "gateway" && body["jwt"] == "a token of the cluster"
        }
        _ => false,
    };
    if !is_known {
        return errors(400, &["invalid role or secret ID", "hunter2"]);
    }
    state.logins += 1;
    let token = format!("hvs.{}", state.logins);
    let end = Instant::now() + Duration::from_secs(setting.lease);
    state.tokens.insert(token.clone(), Some(end));
    json(
        200,
        &json!({
            "auth": { "client_token": token, "lease_duration": setting.lease, "renewable": setting.renewable },
        }),
    )
}

fn engine(request: &Request<Bytes>, path: &str, state: &mut State, setting: Setting) -> Reply {
    let (part, key) = path.split_once('/').unwrap_or_default();
    if key.split('/').any(|part| part == "..") {
        return errors(400, &["relative path"]);
    }
    let versions = state.held.get(key).map_or(0, Vec::len);
    match (request.method().as_str(), part) {
        ("GET", "data") => match state.held.get(key).and_then(|all| all.last()) {
            Some(data) => json(
                200,
                &json!({ "data": { "data": data, "metadata": { "version": versions } } }),
            ),
            None => errors(404, &[]),
        },
        ("POST", "data") => {
            let body = body(request);
            let cas = body["options"]["cas"].as_u64();
            match cas {
                None if setting.cas_required => {
                    errors(400, &["check-and-set parameter required for this call"])
                }
                Some(cas) if cas != versions as u64 => errors(
                    400,
                    &["check-and-set parameter did not match the current version"],
                ),
                _ => {
                    state
                        .held
                        .entry(key.to_owned())
                        .or_default()
                        .push(body["data"].clone());
                    json(200, &json!({ "data": { "version": versions + 1 } }))
                }
            }
        }
        ("DELETE", "metadata") => {
            state.held.remove(key);
            reply(204, "")
        }
        ("LIST", "metadata") => {
            let below = state.held.keys().filter_map(|own| own.strip_prefix(key));
            let mut keys: Vec<_> = below
                .map(|rest| rest.split_inclusive('/').next().unwrap().to_owned())
                .collect();
            keys.dedup();
            match keys.is_empty() {
                true => errors(404, &[]),
                false => json(200, &json!({ "data": { "keys": keys } })),
            }
        }
        _ => errors(405, &[]),
    }
}

struct Place {
    net: Net,
    state: Arc<Mutex<State>>,
}

fn place(setting: Setting) -> Place {
    let (net, state) = (Net::default(), Arc::default());
    net.host(ORIGIN, server(Arc::clone(&state), setting));
    let mut held = state.lock().unwrap();
    // A folder below, and a name that was not written here.
    for foreign in ["mcp/oauth/shared/a/b", "mcp/oauth/shared/x=zz"] {
        held.held
            .insert(foreign.to_owned(), vec![json!({ "value": "not ours" })]);
    }
    held.tokens.insert("root".to_owned(), None);
    drop(held);
    Place { net, state }
}

fn by_role() -> HashicorpLogin {
    HashicorpLogin::app_role("gateway", Secret::new("s3cr3t"))
}

fn store(net: &Net, login: HashicorpLogin) -> HashicorpSecrets {
    HashicorpSecrets::new(ORIGIN.parse().unwrap(), login, net.client()).unwrap()
}

pub(crate) fn stand() -> Stand {
    let Place { net, .. } = place(USUAL);
    let other = store(&net, by_role()).with_prefix("other/part").unwrap();
    Stand {
        origin: ORIGIN,
        store: Arc::new(store(&net, by_role())),
        other: Arc::new(other),
        net,
    }
}

async fn reads(store: &HashicorpSecrets) {
    assert_eq!(store.get(&shared(), &name("t")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn check_and_set_is_done_where_it_is_demanded() {
    let Place { net, state } = place(Setting {
        cas_required: true,
        ..USUAL
    });
    let store = store(&net, by_role());
    for text in ["one", "two"] {
        store
            .put(&shared(), &name("t"), Secret::new(text))
            .await
            .unwrap();
    }
    assert_eq!(state.lock().unwrap().held["mcp/oauth/shared/t"].len(), 2);
    // Another writer is always quicker.
    net.host(ORIGIN, |request| match request.method().as_str() {
        "GET" => json(
            200,
            &json!({ "data": { "data": {}, "metadata": { "version": 3 } } }),
        ),
        _ => errors(
            400,
            &["check-and-set parameter did not match the current version"],
        ),
    });
    let error = store
        .put(&shared(), &name("t"), Secret::new("x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn every_method_logs_in_where_it_is_mounted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a token of the cluster\n").unwrap();
    for login in [
        HashicorpLogin::token(Secret::new("root")),
        by_role(),
        by_role().with_mount("/other/"),
        HashicorpLogin::kubernetes("gateway").with_token_file(file.path()),
    ] {
        let Place { net, state } = place(USUAL);
        let store = store(&net, login);
        for _ in 0..3 {
            reads(&store).await;
        }
        assert!(state.lock().unwrap().logins <= 1, "the token is kept");
    }
    for login in [
        HashicorpLogin::token(Secret::new("unknown")),
        HashicorpLogin::token(Secret::new("not\na header")),
        HashicorpLogin::app_role("gateway", Secret::new("wrong")),
        by_role().with_mount("nowhere"),
        HashicorpLogin::kubernetes("gateway").with_token_file("/nonexistent"),
    ] {
        let shown = format!("{login:?}");
        let Place { net, .. } = place(USUAL);
        let error = store(&net, login)
            .get(&shared(), &name("t"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{shown}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends_or_had_again() {
    // Renewed for ever.
    let Place { net, state } = place(USUAL);
    let own = store(&net, by_role());
    for _ in 0..10 {
        reads(&own).await;
        tokio::time::advance(Duration::from_secs(1300)).await;
    }
    let logins = state.lock().unwrap().logins;
    let renewals = state.lock().unwrap().renewals;
    assert_eq!(logins, 1);
    assert!(renewals >= 4, "{renewals}");

    // Not renewable: another login, before the end.
    let Place { net, state } = place(Setting {
        renewable: false,
        ..USUAL
    });
    let own = store(&net, by_role());
    for _ in 0..6 {
        reads(&own).await;
        tokio::time::advance(Duration::from_secs(1300)).await;
    }
    assert!((2..=4).contains(&state.lock().unwrap().logins));

    // A token of one's own is renewed, too.
    let Place { net, state } = place(USUAL);
    let end = Instant::now() + Duration::from_secs(3600);
    state
        .lock()
        .unwrap()
        .tokens
        .insert("mine".to_owned(), Some(end));
    let own = store(&net, HashicorpLogin::token(Secret::new("mine")));
    for _ in 0..6 {
        reads(&own).await;
        tokio::time::advance(Duration::from_secs(1300)).await;
    }
    assert_eq!(state.lock().unwrap().logins, 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_on_while_it_cannot_be_renewed() {
    for login in [by_role(), HashicorpLogin::token(Secret::new("mine"))] {
        let shown = format!("{login:?}");
        let Place { net, state } = place(USUAL);
        let end = Instant::now() + Duration::from_secs(3600);
        let mine = ("mine".to_owned(), Some(end));
        state.lock().unwrap().tokens.extend([mine]);
        let own = store(&net, login);
        reads(&own).await;
        // The secret id has been used, and renewing fails for a while.
        let failing = Arc::new(AtomicBool::new(true));
        let (fails, inner) = (Arc::clone(&failing), server(Arc::clone(&state), USUAL));
        net.host(ORIGIN, move |request| match request.uri().path() {
            path if path.ends_with("/login") => errors(400, &["invalid secret id"]),
            "/v1/auth/token/renew-self" if fails.load(Ordering::Relaxed) => errors(503, &[]),
            _ => inner(request),
        });
        tokio::time::advance(Duration::from_secs(2500)).await;
        reads(&own).await;
        reads(&own).await;
        let renewals = net.sent().into_iter();
        let renewals = renewals.filter(|sent| sent.path.ends_with("renew-self"));
        assert_eq!(renewals.count(), 1, "{shown}: not at every call");
        failing.store(false, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(6)).await;
        reads(&own).await;
        assert_eq!(state.lock().unwrap().renewals, 1, "{shown}");
        // Beyond the first end.
        tokio::time::advance(Duration::from_secs(2000)).await;
        reads(&own).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_revoked_is_replaced_and_a_missing_right_is_not() {
    let Place { net, state } = place(USUAL);
    let own = store(&net, by_role());
    reads(&own).await;
    state.lock().unwrap().tokens.clear();
    reads(&own).await;
    assert_eq!(state.lock().unwrap().logins, 2);

    // The policy does not allow it: no token would help.
    let inner = server(Arc::clone(&state), USUAL);
    net.host(ORIGIN, move |request| {
        match request.uri().path().contains("/data/") {
            true => errors(403, &["1 error occurred: permission denied hunter2"]),
            false => inner(request),
        }
    });
    for _ in 0..5 {
        let error = own.get(&shared(), &name("t")).await.unwrap_err();
        let reason = SecretManagerError::of(&error).unwrap();
        assert_eq!(reason.kind(), SecretManagerErrorKind::Denied, "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert_eq!(state.lock().unwrap().logins, 2);

    // A token without the right to look itself up works.
    let Place { net, .. } = place(Setting {
        may_look: false,
        ..USUAL
    });
    reads(&store(&net, HashicorpLogin::token(Secret::new("root")))).await;
}

#[tokio::test(start_paused = true)]
async fn many_calls_cause_one_login() {
    let Place { net, state } = place(USUAL);
    let own = store(&net, by_role());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let own = own.clone();
        calls.spawn(async move { reads(&own).await });
    }
    calls.join_all().await;
    assert_eq!(state.lock().unwrap().logins, 1);
}

#[tokio::test(start_paused = true)]
async fn namespaces_and_mounts_are_named_and_a_missing_one_is_no_absence() {
    let Place { net, .. } = place(Setting {
        namespace: "team/a",
        ..USUAL
    });
    let in_namespace = |login| store(&net, login).with_namespace("team/a").unwrap();
    reads(&in_namespace(by_role())).await;
    reads(&in_namespace(by_role()).with_mount("team").unwrap()).await;
    let nowhere = in_namespace(by_role()).with_mount("nowhere").unwrap();
    for error in [
        nowhere
            .get(&shared(), &name("t"))
            .await
            .map(drop)
            .unwrap_err(),
        nowhere.list(&shared()).await.map(drop).unwrap_err(),
        nowhere
            .delete(&shared(), &name("t"))
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error:?}");
    }
    let error = store(&net, by_role()).get(&shared(), &name("t")).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn states_of_a_server_are_told_apart() {
    for (status, reasons, kind) in [
        (503, json!(["Vault is sealed"]), StoreErrorKind::Unavailable),
        (
            429,
            json!(["request path \"x\": rate limit quota exceeded"]),
            StoreErrorKind::Unavailable,
        ),
        (
            412,
            json!(["required index state not present"]),
            StoreErrorKind::Unavailable,
        ),
        (473, json!([]), StoreErrorKind::Unavailable),
        (507, json!([]), StoreErrorKind::Full),
        (404, json!("hunter2"), StoreErrorKind::Invalid),
    ] {
        let Place { net, .. } = place(USUAL);
        let own = store(&net, by_role());
        reads(&own).await;
        net.host(ORIGIN, move |_| json(status, &json!({ "errors": reasons })));
        let error = own.get(&shared(), &name("t")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error:?}");
    }
    // A version that was deleted by hand is not there; one without our field is not ours.
    for (status, data, expected) in [
        (
            404,
            json!({ "data": null, "metadata": { "version": 2 } }),
            Ok(None),
        ),
        (
            200,
            json!({ "data": { "other": "x" }, "metadata": { "version": 2 } }),
            Err(StoreErrorKind::Corrupt),
        ),
        (
            200,
            json!({ "data": { "value": 1 }, "metadata": { "version": 2 } }),
            Err(StoreErrorKind::Corrupt),
        ),
    ] {
        let Place { net, .. } = place(USUAL);
        let own = store(&net, by_role());
        reads(&own).await;
        net.host(ORIGIN, move |_| json(status, &json!({ "data": data })));
        let found = own.get(&shared(), &name("t")).await;
        assert_eq!(found.map_err(|error| error.kind()), expected);
    }
}

#[test]
fn settings_are_checked_and_secrets_are_not_shown() {
    let client = Net::default().client();
    for address in ["http://vault.example:8200", "https://vault.example/?a"] {
        let made = HashicorpSecrets::new(address.parse().unwrap(), by_role(), client.clone());
        assert!(made.is_err(), "{address}");
    }
    let store = || store(&Net::default(), by_role());
    for bad in ["", "a b", "a\nb", "..", "a.b", "/"] {
        assert!(store().with_mount(bad).is_err(), "{bad}");
        assert!(store().with_namespace(bad).is_err(), "{bad}");
        assert!(store().with_prefix(bad).is_err(), "{bad}");
    }
    let shown = format!("{:?} {:?}", store(), by_role());
    assert!(!shown.contains("s3cr3t"), "{shown}");
}
