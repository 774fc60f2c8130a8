//! Azure Key Vault, Microsoft Entra and the metadata service, by their published protocols.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request};
use mcp_auth::vault::{AzureCredentials, AzureSecrets, SecretManagerError, SecretManagerErrorKind};
use mcp_core::{
    secret::{Secret, SecretStore},
    store::StoreErrorKind,
};
use serde_json::{Value, json};

use crate::{
    Stand, name,
    net::{Net, Reply, body, form, header, json, query, reply},
    shared,
};

pub(crate) const ORIGIN: &str = "https://gateway.vault.azure.net";
const ENTRA: &str = "https://login.microsoftonline.com";
const IMDS: &str = "http://169.254.169.254";
const TENANT: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn failure(status: u16, code: &str, inner: Option<&str>) -> Reply {
    let mut error = json!({ "code": code, "message": "hunter2" });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    json(status, &json!({ "error": error }))
}

#[derive(Clone, Default)]
struct Held {
    value: String,
    /// How many requests still find it on its way into, or out of, the deleted ones.
    moving: u32,
    deleted: bool,
}

/// What the vault lets its user do, besides reading and writing.
#[derive(Clone, Copy)]
struct Rights {
    purge: bool,
}

fn may_use(request: &Request<Bytes>) -> bool {
    query(request, "api-version").as_deref() == Some("7.4")
        && header(request, "authorization").starts_with("Bearer token for https://vault.azure.net")
}

/// Key Vault, with pages of two, which takes a few requests' time to delete and to restore.
fn key_vault(rights: Rights) -> impl Fn(&Request<Bytes>) -> Reply {
    let held: Mutex<BTreeMap<String, Held>> = Mutex::default();
    let foreign = Held {
        value: "not ours".to_owned(),
        ..Held::default()
    };
    for other in [
        "foreign",
        "mcp--oauth--shared--UPPER-",
        "mcp--oauth--sharedx",
    ] {
        held.lock()
            .unwrap()
            .insert(other.to_owned(), foreign.clone());
    }
    move |request| {
        if !may_use(request) {
            return failure(401, "Unauthorized", None);
        }
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<_> = path.split('/').collect();
        let mut held = held.lock().unwrap();
        // Names are the same in upper case and lower case.
        let key = parts
            .get(1)
            .map(|name| name.to_ascii_lowercase())
            .unwrap_or_default();
        if key.len() > 127 || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return failure(400, "BadParameter", None);
        }
        match (request.method(), parts[0], parts.get(2)) {
            (&Method::GET, "secrets", None) if key.is_empty() => list(request, &held),
            (_, "secrets", None) => secret(request, &key, &mut held),
            (&Method::POST, "deletedsecrets", Some(&"recover")) => {
                deleted(&key, &mut held, |held| {
                    held.deleted = false;
                    held.moving = 2;
                    json(200, &json!({ "id": format!("{ORIGIN}/secrets/x") }))
                })
            }
            (&Method::DELETE, "deletedsecrets", None) if !rights.purge => {
                failure(403, "Forbidden", Some("ForbiddenByRbac"))
            }
            (&Method::DELETE, "deletedsecrets", None) => {
                let purged = deleted(&key, &mut held, |_| reply(204, ""));
                if purged.status() == 204 {
                    held.remove(&key);
                }
                purged
            }
            _ => failure(404, "NotFound", None),
        }
    }
}

fn deleted(
    key: &str,
    all: &mut BTreeMap<String, Held>,
    act: impl FnOnce(&mut Held) -> Reply,
) -> Reply {
    match all.get_mut(key) {
        // It is not there yet.
        Some(held) if held.deleted && held.moving > 0 => {
            held.moving -= 1;
            failure(404, "SecretNotFound", None)
        }
        Some(held) if held.deleted => act(held),
        _ => failure(404, "SecretNotFound", None),
    }
}

fn secret(request: &Request<Bytes>, key: &str, all: &mut BTreeMap<String, Held>) -> Reply {
    let bundle = |value: &str| json!({ "id": format!("{ORIGIN}/secrets/{key}/1"), "value": value });
    if let Some(held) = all.get_mut(key) {
        if held.moving > 0 {
            held.moving -= 1;
            let what = match held.deleted {
                true => "ObjectIsBeingDeleted",
                false => "ObjectIsBeingRecovered",
            };
            return failure(409, "Conflict", Some(what));
        }
        if held.deleted && request.method() == Method::PUT {
            return failure(409, "Conflict", Some("ObjectIsDeletedButRecoverable"));
        }
    }
    let found = all.get_mut(key).filter(|held| !held.deleted);
    match (request.method(), found) {
        (&Method::PUT, _) => {
            let value = body(request)["value"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let answer = bundle(&value);
            let fresh = Held {
                value,
                ..Held::default()
            };
            all.insert(key.to_owned(), fresh);
            json(200, &answer)
        }
        (_, None) => failure(404, "SecretNotFound", None),
        (&Method::DELETE, Some(held)) => {
            held.deleted = true;
            held.moving = 2;
            let recovery = format!("{ORIGIN}/deletedsecrets/{key}");
            json(
                200,
                &json!({ "recoveryId": recovery, "scheduledPurgeDate": 1 }),
            )
        }
        (_, Some(held)) => json(200, &bundle(&held.value)),
    }
}

fn list(request: &Request<Bytes>, all: &BTreeMap<String, Held>) -> Reply {
    let from: usize = query(request, "$skiptoken").map_or(0, |from| from.parse().unwrap());
    let there = all.iter().filter(|(_, held)| !held.deleted);
    let ids: Vec<_> = there
        .map(|(name, _)| json!({ "id": format!("{ORIGIN}/secrets/{name}"), "attributes": {} }))
        .collect();
    let page: Vec<_> = ids.iter().skip(from).take(2).collect();
    let next = (from + 2 < ids.len()).then(|| {
        let host = ORIGIN.replace("https://", "");
        format!(
            "https://{host}:443/secrets?api-version=7.4&$skiptoken={}&maxresults=25",
            from + 2
        )
    });
    json(200, &json!({ "value": page, "nextLink": next }))
}

/// Microsoft Entra, with one application, whose tokens name the scope that they are for.
fn entra(seconds: u64) -> impl Fn(&Request<Bytes>) -> Reply {
    move |request| {
        let form = form(request);
        let get = |name: &str| form.get(name).map_or("", String::as_str);
        let by_assertion = get("client_assertion_type")
            == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            && get("client_assertion") == "a token of the cluster";
        let is_known = request.uri().path() == format!("/{TENANT}/oauth2/v2.0/token")
            && get("client_id") == "gateway"
            && get("grant_type") == "client_credentials"
            && (get("client_secret") == "s3cr3t" || by_assertion);
        match is_known {
            true => json(200, &token(get("scope"), &seconds.into())),
            false => json(
                401,
                &json!({
                    "error": "invalid_client", "error_description": "hunter2", "error_codes": [7000215],
                }),
            ),
        }
    }
}

fn token(scope: &str, seconds: &Value) -> Value {
    json!({ "token_type": "Bearer", "expires_in": seconds, "access_token": format!("token for {scope}") })
}

fn by_secret() -> AzureCredentials {
    AzureCredentials::client_secret(TENANT, "gateway", Secret::new("s3cr3t"))
}

fn cloud(rights: Rights) -> Net {
    let net = Net::default();
    net.host(ORIGIN, key_vault(rights));
    net.host(ENTRA, entra(3600));
    net
}

fn store(net: &Net, credentials: AzureCredentials) -> AzureSecrets {
    AzureSecrets::new(ORIGIN.parse().unwrap(), credentials, net.client()).unwrap()
}

pub(crate) fn stand() -> Stand {
    let net = cloud(Rights { purge: false });
    let other = store(&net, by_secret()).with_prefix("other-part").unwrap();
    Stand {
        origin: ORIGIN,
        store: Arc::new(store(&net, by_secret())),
        other: Arc::new(other),
        net,
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_secret_is_destroyed_where_that_is_wanted_and_allowed() {
    let net = cloud(Rights { purge: true });
    let store = store(&net, by_secret()).with_purge();
    store
        .put(&shared(), &name("t"), Secret::new("x"))
        .await
        .unwrap();
    assert!(store.delete(&shared(), &name("t")).await.unwrap());
    let purges = net
        .sent()
        .into_iter()
        .filter(|sent| sent.method == Method::DELETE && sent.path.starts_with("/deletedsecrets/"));
    assert!(purges.count() >= 2, "it waits until the secret is deleted");
    // Nothing is left that would have to be restored.
    let before = net.sent().len();
    store
        .put(&shared(), &name("t"), Secret::new("y"))
        .await
        .unwrap();
    assert_eq!(net.sent().len(), before + 1);

    let net = cloud(Rights { purge: false });
    let store = self::store(&net, by_secret()).with_purge();
    store
        .put(&shared(), &name("t"), Secret::new("x"))
        .await
        .unwrap();
    let error = store.delete(&shared(), &name("t")).await.unwrap_err();
    let reason = SecretManagerError::of(&error).unwrap();
    assert_eq!(reason.kind(), SecretManagerErrorKind::Denied, "{error:?}");
    assert!(reason.to_string().contains("ForbiddenByRbac"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_stays_on_its_way_is_not_waited_for_without_end() {
    let net = cloud(Rights { purge: false });
    let store = store(&net, by_secret());
    net.host(ORIGIN, |_| {
        failure(409, "Conflict", Some("ObjectIsBeingDeleted"))
    });
    let began = tokio::time::Instant::now();
    let error = store
        .put(&shared(), &name("t"), Secret::new("x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_credentials_gets_a_token_for_the_vault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a token of the cluster").unwrap();
    let machine = Net::default();
    machine.host(IMDS, |request| {
        let resource = query(request, "resource").unwrap_or_default();
        let is_meant = query(request, "client_id").is_none_or(|id| id == "one of many");
        if header(request, "metadata") != "true" || !is_meant {
            return reply(400, "hunter2");
        }
        let mut token = token(&resource, &"86400".into());
        token["expires_on"] = "4102444800".into();
        token["resource"] = resource.into();
        json(200, &token)
    });
    for credentials in [
        by_secret(),
        AzureCredentials::workload_identity(TENANT, "gateway", &file),
        AzureCredentials::managed_identity(machine.client()),
        AzureCredentials::managed_identity(machine.client()).with_client_id("one of many"),
    ] {
        let shown = format!("{credentials:?}");
        let net = cloud(Rights { purge: false });
        let store = store(&net, credentials);
        for _ in 0..3 {
            assert_eq!(
                store.get(&shared(), &name("t")).await.unwrap(),
                None,
                "{shown}"
            );
        }
        assert!(net.count(ENTRA) <= 1, "the token is kept");
        assert!(
            net.sent()
                .iter()
                .all(|sent| sent.origin.starts_with("https://"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_cloud_is_that_of_the_vault() {
    for (vault, entra_of, scope) in [
        (
            "https://gw.vault.azure.cn",
            "https://login.chinacloudapi.cn",
            "https://vault.azure.cn/.default",
        ),
        (
            "https://gw.vault.usgovcloudapi.net",
            "https://login.microsoftonline.us",
            "https://vault.usgovcloudapi.net/.default",
        ),
        (ORIGIN, ENTRA, "https://vault.azure.net/.default"),
    ] {
        let net = Net::default();
        net.host(entra_of, entra(3600));
        net.host(vault, |_| failure(404, "SecretNotFound", None));
        let store = AzureSecrets::new(vault.parse().unwrap(), by_secret(), net.client()).unwrap();
        assert_eq!(store.get(&shared(), &name("t")).await.unwrap(), None);
        let sent = net.sent().pop().unwrap();
        assert_eq!(
            sent.headers["authorization"],
            format!("Bearer token for {scope}")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_had_are_an_error_without_what_servers_said() {
    let wrong = AzureCredentials::client_secret(TENANT, "gateway", Secret::new("wrong"));
    let nobody = AzureCredentials::managed_identity(Net::default().client());
    for (credentials, kind) in [
        (wrong, StoreErrorKind::Invalid),
        (nobody, StoreErrorKind::Unavailable),
    ] {
        let net = cloud(Rights { purge: false });
        let error = store(&net, credentials)
            .get(&shared(), &name("t"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert_eq!(net.count(ORIGIN), 0);
    }
    // Lifetimes that no date can hold, and answers that are none.
    for answer in [
        token("x", &u64::MAX.into()),
        token("x", &i64::MAX.into()),
        token("x", &(-1).into()),
        token("x", &(i64::MAX / 1_000_000_000).into()),
        json!({ "access_token": 1 }),
        json!([]),
    ] {
        let net = cloud(Rights { purge: false });
        net.host(ENTRA, move |_| json(200, &answer));
        let error = store(&net, by_secret())
            .get(&shared(), &name("t"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_page_is_asked_of_the_vault_and_of_nobody_else() {
    for next in [
        "https://evil.example/secrets?api-version=7.4",
        "http://gateway.vault.azure.net/secrets?api-version=7.4",
        "https://gateway.vault.azure.net:444/secrets",
        "https://gateway.vault.azure.net/keys",
        "/secrets",
        "nothing",
    ] {
        let net = cloud(Rights { purge: false });
        let store = store(&net, by_secret());
        let answer = json!({ "value": [], "nextLink": next });
        net.host(ORIGIN, move |_| json(200, &answer));
        net.host("https://evil.example", |_| {
            json(200, &json!({ "value": [] }))
        });
        let error = store.list(&shared()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{next}");
        assert_eq!(net.count(ORIGIN), 1, "{next}");
        assert_eq!(net.count("https://evil.example"), 0, "{next}");
    }
}

#[test]
fn settings_are_checked_and_secrets_are_not_shown() {
    let client = Net::default().client();
    for vault in [
        "http://gateway.vault.azure.net",
        "https://x.example/path",
        "https://x.example/?a",
    ] {
        let made = AzureSecrets::new(vault.parse().unwrap(), by_secret(), client.clone());
        assert!(made.is_err(), "{vault}");
    }
    let missing = AzureCredentials::workload_identity(TENANT, "gateway", "/nonexistent");
    assert!(AzureSecrets::new(ORIGIN.parse().unwrap(), missing, client.clone()).is_err());
    let odd = AzureCredentials::client_secret("a/b", "gateway", Secret::new("s3cr3t"));
    let error = AzureSecrets::new(ORIGIN.parse().unwrap(), odd, client.clone()).unwrap_err();
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    for prefix in ["", "-x", "x-", "a--b", "A", "a_b"] {
        assert!(
            store(&Net::default(), by_secret())
                .with_prefix(prefix)
                .is_err(),
            "{prefix}"
        );
    }
    let shown = format!(
        "{:?} {:?}",
        store(&Net::default(), by_secret()),
        by_secret()
    );
    assert!(!shown.contains("s3cr3t"), "{shown}");
}
