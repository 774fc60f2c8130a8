//! Google Secret Manager, the token endpoints and the metadata service, by their published protocols.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use mcp_auth::vault::{GoogleCredentials, GoogleSecrets};
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

pub(crate) const ORIGIN: &str = "https://secretmanager.googleapis.com";
const OAUTH: &str = "https://oauth2.googleapis.com";
const STS: &str = "https://sts.googleapis.com";
const METADATA: &str = "http://metadata.google.internal";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const SECRETS: &str = "/v1/projects/gateway-1/secrets";

fn failure(status: u16, code: &str) -> Reply {
    let error = json!({ "code": status, "message": "hunter2", "status": code });
    json(status, &json!({ "error": error }))
}

/// The versions of one secret; a destroyed one has no value.
type Versions = Vec<Option<Value>>;

/// Secret Manager, with pages of two.
fn secret_manager() -> impl Fn(&Request<Bytes>) -> Reply {
    let held: Mutex<BTreeMap<String, Versions>> = Mutex::default();
    let foreign = [
        "foreign",
        "x-mcp--oauth--shared--a",
        "mcp--oauth--shared--z-zz",
    ];
    for other in foreign {
        held.lock().unwrap().insert(other.to_owned(), vec![]);
    }
    move |request| {
        if header(request, "authorization") != "Bearer a token" {
            return failure(401, "UNAUTHENTICATED");
        }
        let Some(path) = request.uri().path().strip_prefix(SECRETS) else {
            return failure(404, "NOT_FOUND");
        };
        let mut held = held.lock().unwrap();
        let path = path.trim_start_matches('/');
        let (path, verb) = path.split_once(':').unwrap_or((path, ""));
        let mut parts = path.split('/');
        let (id, version) = (parts.next().unwrap_or_default(), parts.nth(1));
        match (request.method(), id, verb) {
            (&Method::GET, "", "") => list(request, &held),
            (&Method::POST, "", "") => create(request, &mut held),
            (method, id, verb) => match held.get_mut(id) {
                None => failure(404, "NOT_FOUND"),
                Some(_) if method == Method::DELETE && verb.is_empty() => {
                    held.remove(id);
                    json(200, &json!({}))
                }
                Some(versions) => version_of(request, versions, version, verb),
            },
        }
    }
}

fn version_of(
    request: &Request<Bytes>,
    versions: &mut Versions,
    version: Option<&str>,
    verb: &str,
) -> Reply {
    // The API names the project by its number.
    let named = |number: usize| format!("projects/42/secrets/x/versions/{number}");
    match (verb, version) {
        ("addVersion", None) => {
            let payload = body(request)["payload"].clone();
            let data = STANDARD
                .decode(payload["data"].as_str().unwrap_or_default())
                .unwrap();
            let sum = crc32c::crc32c(&data).to_string();
            if payload["dataCrc32c"].as_str() != Some(&*sum) {
                return failure(400, "INVALID_ARGUMENT");
            }
            versions.push(Some(payload));
            json(
                200,
                &json!({ "name": named(versions.len()), "state": "ENABLED" }),
            )
        }
        ("access", Some("latest")) => match versions.last() {
            Some(Some(payload)) => json(
                200,
                &json!({ "name": named(versions.len()), "payload": payload }),
            ),
            Some(None) => failure(400, "FAILED_PRECONDITION"),
            None => failure(404, "NOT_FOUND"),
        },
        ("destroy", Some(number)) => {
            let number: usize = number.parse().unwrap();
            match versions[number - 1].take() {
                Some(_) => json(200, &json!({ "state": "DESTROYED" })),
                None => failure(400, "FAILED_PRECONDITION"),
            }
        }
        _ => failure(404, "NOT_FOUND"),
    }
}

fn create(request: &Request<Bytes>, held: &mut BTreeMap<String, Versions>) -> Reply {
    let id = query(request, "secretId").unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if id.is_empty()
        || id.len() > 255
        || !id.bytes().all(plain)
        || body(request)["replication"].is_null()
    {
        return failure(400, "INVALID_ARGUMENT");
    }
    if held.contains_key(&id) {
        return failure(409, "ALREADY_EXISTS");
    }
    held.insert(id.clone(), vec![]);
    json(200, &json!({ "name": format!("projects/42/secrets/{id}") }))
}

fn list(request: &Request<Bytes>, held: &BTreeMap<String, Versions>) -> Reply {
    let wanted = query(request, "filter").unwrap_or_default();
    let wanted = wanted.strip_prefix("name:").unwrap();
    let from: usize = query(request, "pageToken").map_or(0, |from| from.parse().unwrap());
    let all = held.keys().filter(|name| name.contains(wanted));
    let all: Vec<_> = all
        .map(|name| json!({ "name": format!("projects/42/secrets/{name}") }))
        .collect();
    let page: Vec<_> = all.iter().skip(from).take(2).collect();
    let next = match from + 2 < all.len() {
        true => (from + 2).to_string(),
        false => String::new(),
    };
    json(
        200,
        &json!({ "secrets": page, "nextPageToken": next, "totalSize": all.len() }),
    )
}

fn metadata() -> Net {
    let net = Net::default();
    net.host(METADATA, |request| {
        let own = "/computeMetadata/v1/instance/service-accounts/default/token";
        let is_own =
            request.uri().path() == own && query(request, "scopes").as_deref() == Some(SCOPE);
        match is_own && header(request, "metadata-flavor") == "Google" {
            true => json(200, &token(3600)),
            false => reply(403, "hunter2"),
        }
    });
    net
}

fn token(seconds: u64) -> Value {
    json!({ "access_token": "a token", "expires_in": seconds, "token_type": "Bearer" })
}

fn cloud() -> Net {
    let net = Net::default();
    net.host(ORIGIN, secret_manager());
    net
}

fn of_machine() -> GoogleCredentials {
    GoogleCredentials::metadata(metadata().client())
}

fn store(net: &Net, credentials: GoogleCredentials) -> GoogleSecrets {
    GoogleSecrets::new("gateway-1", credentials, net.client()).unwrap()
}

pub(crate) fn stand() -> Stand {
    let net = cloud();
    let other = store(&net, of_machine()).with_prefix("other-part").unwrap();
    Stand {
        origin: ORIGIN,
        store: Arc::new(store(&net, of_machine())),
        other: Arc::new(other),
        net,
    }
}

/// The key of a service account, and what checks its signatures.
fn service_account() -> (String, DecodingKey) {
    let size = rcgen::RsaKeySize::_2048;
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let text = json!({
        "type": "service_account", "client_email": "gateway@gateway-1.iam.gserviceaccount.com",
        "private_key": key.serialize_pem(), "token_uri": "https://oauth2.googleapis.com/token",
    });
    let public = DecodingKey::from_rsa_pem(key.public_key_pem().as_bytes()).unwrap();
    (text.to_string(), public)
}

/// The endpoint that takes assertions of service accounts (RFC 7523).
fn oauth(key: DecodingKey, seconds: u64) -> impl Fn(&Request<Bytes>) -> Reply {
    move |request| {
        let form = form(request);
        let mut rules = Validation::new(Algorithm::RS256);
        rules.set_audience(&["https://oauth2.googleapis.com/token"]);
        rules.set_issuer(&["gateway@gateway-1.iam.gserviceaccount.com"]);
        let claims = jsonwebtoken::decode::<Value>(&form["assertion"], &key, &rules);
        let is_meant = form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer";
        match claims {
            Ok(claims) if is_meant && claims.claims["scope"] == SCOPE => json(200, &token(seconds)),
            _ => json(
                400,
                &json!({ "error": "invalid_grant", "error_description": "hunter2" }),
            ),
        }
    }
}

/// The endpoint that exchanges tokens of other issuers (RFC 8693).
fn sts(request: &Request<Bytes>) -> Reply {
    let form = form(request);
    match form["subject_token"] == "a token of the cluster" && form["scope"] == SCOPE {
        true => {
            let mut token = token(3600);
            token["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token".into();
            json(200, &token)
        }
        false => reply(400, "hunter2"),
    }
}

/// A configuration of workload identity federation, as `gcloud` writes it.
fn federation(source: &Value) -> Secret {
    let pool = "projects/42/locations/global/workloadIdentityPools/p/providers/k";
    let text = json!({
        "type": "external_account", "token_url": "https://sts.googleapis.com/v1/token",
        "audience": format!("//iam.googleapis.com/{pool}"),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": source,
    });
    Secret::new(text.to_string())
}

fn write(folder: &std::path::Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn every_kind_of_credentials_gets_a_token_that_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (account, public) = service_account();
    let file = write(folder, "account.json", &account);
    write(
        folder,
        ".config/gcloud/application_default_credentials.json",
        &account,
    );
    let subject = write(folder, "subject", "a token of the cluster\n");
    let in_json = write(folder, "subject.json", r#"{"id":"a token of the cluster"}"#);
    let format = json!({ "type": "json", "subject_token_field_name": "id" });
    let home = folder.display().to_string();
    let chain = |name: &str, value: &str| {
        let variables = [(name.to_owned(), value.to_owned())];
        GoogleCredentials::default_chain(variables, Net::default().client())
    };
    for (credentials, asked) in [
        (GoogleCredentials::from_json(Secret::new(account)), 1),
        (GoogleCredentials::from_file(&file), 1),
        (
            GoogleCredentials::from_json(federation(&json!({ "file": subject }))),
            1,
        ),
        (
            GoogleCredentials::from_json(federation(&json!({ "file": in_json, "format": format }))),
            1,
        ),
        (chain("GOOGLE_APPLICATION_CREDENTIALS", &file), 1),
        (chain("HOME", &home), 1),
        (of_machine(), 0),
        (GoogleCredentials::default_chain([], metadata().client()), 0),
    ] {
        let shown = format!("{credentials:?}");
        let net = cloud();
        net.host(OAUTH, oauth(public.clone(), 3600));
        net.host(STS, sts);
        let store = store(&net, credentials);
        for _ in 0..3 {
            assert_eq!(
                store.get(&shared(), &name("t")).await.unwrap(),
                None,
                "{shown}"
            );
        }
        assert_eq!(net.count(OAUTH) + net.count(STS), asked, "{shown}");
        assert!(
            net.sent()
                .iter()
                .all(|sent| sent.origin.starts_with("https://"))
        );
    }
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends() {
    let (account, public) = service_account();
    let net = cloud();
    net.host(OAUTH, oauth(public, 60));
    let store = store(&net, GoogleCredentials::from_json(Secret::new(account)));
    for _ in 0..3 {
        assert_eq!(store.get(&shared(), &name("t")).await.unwrap(), None);
    }
    assert_eq!(net.count(OAUTH), 3);
}

#[tokio::test]
async fn tokens_that_cannot_be_had_are_an_error_without_what_servers_said() {
    let (account, _) = service_account();
    let (_, other) = service_account();
    let by_account = || GoogleCredentials::from_json(Secret::new(account.clone()));
    let program = json!({ "command": "/bin/echo hunter2", "timeout_millis": 5000 });
    let program = federation(&json!({ "executable": program }));
    for credentials in [
        by_account(),
        GoogleCredentials::from_json(Secret::new("{}")),
        GoogleCredentials::from_json(program),
        GoogleCredentials::from_file("/nonexistent"),
        GoogleCredentials::metadata(Net::default().client()),
    ] {
        let shown = format!("{credentials:?}");
        let net = cloud();
        net.host(OAUTH, oauth(other.clone(), 3600));
        let error = store(&net, credentials)
            .get(&shared(), &name("t"))
            .await
            .unwrap_err();
        assert!(
            !format!("{error:?}").contains("hunter2"),
            "{shown}: {error:?}"
        );
        assert_eq!(net.count(ORIGIN), 0, "{shown}");
    }
    // Lifetimes that no date can hold.
    for seconds in [u64::MAX, i64::MAX as u64, 1 << 40] {
        let net = cloud();
        net.host(OAUTH, move |_| json(200, &token(seconds)));
        let error = store(&net, by_account())
            .get(&shared(), &name("t"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("secret manager"), "{error}");
    }
}

#[tokio::test]
async fn a_value_without_its_checksum_is_not_taken() {
    for (data, sum, fits) in [
        ("aHVudGVyMg==", Some("1"), false),
        ("aHVudGVyMg==", Some("-1"), false),
        ("%%%", None, false),
        ("/w==", None, false),
        ("eA==", None, true),
    ] {
        let net = cloud();
        let store = store(&net, of_machine());
        let answer = json!({ "payload": { "data": data, "dataCrc32c": sum } });
        net.host(ORIGIN, move |_| json(200, &answer));
        match store.get(&shared(), &name("t")).await {
            Ok(found) => assert!(fits && found == Some(Secret::new("x"))),
            Err(error) => {
                assert!(!fits, "{data}");
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{data}");
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }
    // A known sum: "123456789" (RFC 3720, appendix B.4, has others of the same polynomial).
    assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
}

#[tokio::test]
async fn a_version_is_destroyed_when_the_next_one_is_written() {
    let net = cloud();
    let store = store(&net, of_machine()).with_locations(["europe-west3"]);
    for text in ["one", "two", "three"] {
        store
            .put(&shared(), &name("t"), Secret::new(text))
            .await
            .unwrap();
    }
    let sent = net.sent();
    let destroyed: Vec<_> = sent
        .iter()
        .filter_map(|sent| sent.path.strip_suffix(":destroy")?.rsplit('/').next())
        .collect();
    assert_eq!(destroyed, ["1", "2"]);
    let found = store.get(&shared(), &name("t")).await.unwrap();
    assert_eq!(found, Some(Secret::new("three")));
}

#[test]
fn settings_are_checked_and_secrets_are_not_shown() {
    let client = Net::default().client();
    for project in ["", "a/b", "A", "a b", "..", &"x".repeat(65)] {
        let made = GoogleSecrets::new(project, of_machine(), client.clone());
        assert!(made.is_err(), "{project}");
    }
    for prefix in ["", "-x", "x-", "a--b", "a.b"] {
        assert!(
            store(&Net::default(), of_machine())
                .with_prefix(prefix)
                .is_err(),
            "{prefix}"
        );
    }
    let credentials = GoogleCredentials::from_json(Secret::new("s3cr3t"));
    let shown = format!(
        "{:?} {credentials:?}",
        store(&Net::default(), credentials.clone())
    );
    assert!(!shown.contains("s3cr3t"), "{shown}");
}
