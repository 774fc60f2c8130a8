//! AWS: Secrets Manager, the Security Token Service and the metadata services, by their published protocols.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use mcp_auth::vault::{AwsCredentials, AwsSecrets};
use mcp_core::{secret::Secret, store::StoreErrorKind};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    Stand, name,
    net::{Net, Reply, body, form, header, json, reply},
    shared,
};

pub(crate) const ORIGIN: &str = "https://secretsmanager.eu-central-1.amazonaws.com";
const STS: &str = "https://sts.eu-central-1.amazonaws.com";
const IMDS: &str = "http://169.254.169.254";
const ROLE: &str = "arn:aws:iam::123456789012:role/gateway";

/// The keys that are known, and the session tokens that go with them.
type Keys = Arc<Mutex<BTreeMap<String, (String, Option<String>)>>>;

/// Checks signature version 4, as AWS describes it, from nothing but the request.
fn is_signed(request: &Request<Bytes>, keys: &Keys, service: &str) -> Result<(), &'static str> {
    let rest = header(request, "authorization").strip_prefix("AWS4-HMAC-SHA256 ");
    let fields: BTreeMap<_, _> = rest
        .ok_or("no signature")?
        .split(", ")
        .filter_map(|field| field.split_once('='))
        .collect();
    let scope: Vec<_> = fields["Credential"].split('/').collect();
    let [key, day, region, own_service, "aws4_request"] = scope[..] else {
        return Err("scope");
    };
    if (own_service, region) != (service, "eu-central-1") {
        return Err("signed for something else");
    }
    let (secret, session) = keys
        .lock()
        .unwrap()
        .get(key)
        .cloned()
        .ok_or("unknown key")?;
    if session.as_deref().unwrap_or_default() != header(request, "x-amz-security-token") {
        return Err("session");
    }
    let date = header(request, "x-amz-date");
    if !date.starts_with(day) {
        return Err("date");
    }
    let digest = HEXLOWER.encode(&Sha256::digest(request.body()));
    if header(request, "x-amz-content-sha256") != digest {
        return Err("body");
    }
    let names: Vec<_> = fields["SignedHeaders"].split(';').collect();
    for needed in ["content-type", "host", "x-amz-content-sha256", "x-amz-date"] {
        if !names.contains(&needed) {
            return Err("a header is not signed");
        }
    }
    let canonical = format!(
        "{}\n{}\n{}\n{}\n{}\n{digest}",
        request.method(),
        request.uri().path(),
        canonical_query(request),
        canonical_headers(request, &names),
        names.join(";")
    );
    let digest = HEXLOWER.encode(&Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/{service}/aws4_request\n{digest}");
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, "aws4_request", &text] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    match fields["Signature"] == HEXLOWER.encode(&key) {
        true => Ok(()),
        false => Err("signature"),
    }
}

fn canonical_headers(request: &Request<Bytes>, names: &[&str]) -> String {
    let host = request.uri().authority().unwrap().as_str();
    let names = names.iter();
    names
        .map(|name| match *name {
            "host" => format!("host:{host}\n"),
            name => format!("{name}:{}\n", header(request, name).trim()),
        })
        .collect()
}

/// The parameters of a query, encoded as AWS has it and in order.
fn canonical_query(request: &Request<Bytes>) -> String {
    let encode = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                true => out.push(char::from(byte)),
                false => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
    };
    let query = request.uri().query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let mut pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{}={}", encode(&name), encode(&value)))
        .collect();
    pairs.sort();
    pairs.join("&")
}

fn failure(kind: &str) -> Reply {
    json(400, &json!({ "__type": kind, "Message": "hunter2" }))
}

/// Secrets Manager, with pages of two.
fn secrets_manager(keys: Keys) -> impl Fn(&Request<Bytes>) -> Reply {
    let held = Mutex::new(BTreeMap::from([(
        "mcp/foreign".to_owned(),
        "not ours".to_owned(),
    )]));
    move |request| {
        if let Err(why) = is_signed(request, &keys, "secretsmanager") {
            return json(
                400,
                &json!({ "__type": "InvalidSignatureException", "Message": why }),
            );
        }
        let target = header(request, "x-amz-target");
        let body = body(request);
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let mut held = held.lock().unwrap();
        match target.strip_prefix("secretsmanager.").unwrap_or_default() {
            "GetSecretValue" => match held.get(&text("SecretId")) {
                Some(value) => json(200, &json!({ "SecretString": value })),
                None => failure("ResourceNotFoundException"),
            },
            "PutSecretValue" => match held.get_mut(&text("SecretId")) {
                Some(value) => {
                    *value = text("SecretString");
                    json(200, &json!({}))
                }
                None => failure("com.amazonaws.secretsmanager#ResourceNotFoundException"),
            },
            "CreateSecret" if held.contains_key(&text("Name")) => {
                failure("ResourceExistsException")
            }
            "CreateSecret" => {
                held.insert(text("Name"), text("SecretString"));
                json(200, &json!({}))
            }
            "DeleteSecret" => {
                held.remove(&text("SecretId"));
                json(200, &json!({}))
            }
            "ListSecrets" => {
                let folder = body["Filters"][0]["Values"][0].as_str().unwrap_or_default();
                let from: usize = text("NextToken").parse().unwrap_or(0);
                let names = held.keys().filter(|name| name.starts_with(folder));
                let all: Vec<_> = names.map(|name| json!({ "Name": name })).collect();
                let page: Vec<_> = all.iter().skip(from).take(2).collect();
                let mut answer = json!({ "SecretList": page });
                if from + 2 < all.len() {
                    answer["NextToken"] = (from + 2).to_string().into();
                }
                json(200, &answer)
            }
            _ => failure("InvalidAction"),
        }
    }
}

/// A cloud that knows one key, and what else is in `keys` later on.
fn cloud() -> (Net, Keys) {
    let net = Net::default();
    let keys: Keys = Arc::default();
    know(&keys, "AKIDEXAMPLE", "wJalrXUtnFEMI", None);
    net.host(ORIGIN, secrets_manager(keys.clone()));
    (net, keys)
}

fn know(keys: &Keys, key: &str, secret: &str, session: Option<&str>) {
    let entry = (secret.to_owned(), session.map(str::to_owned));
    keys.lock().unwrap().insert(key.to_owned(), entry);
}

fn own_keys() -> AwsCredentials {
    AwsCredentials::from_keys("AKIDEXAMPLE", &Secret::new("wJalrXUtnFEMI"), None)
}

fn store(net: &Net, credentials: AwsCredentials) -> AwsSecrets {
    AwsSecrets::new("eu-central-1", credentials, net.client()).unwrap()
}

pub(crate) fn stand() -> Stand {
    let (net, _) = cloud();
    let other = store(&net, own_keys()).with_prefix("other/part").unwrap();
    Stand {
        origin: ORIGIN,
        store: Arc::new(store(&net, own_keys())),
        other: Arc::new(other),
        net,
    }
}

/// The Security Token Service: it gives keys that are numbered and live for some seconds.
fn sts(keys: Keys, seconds: u64) -> impl Fn(&Request<Bytes>) -> Reply {
    let given = Mutex::new(0);
    move |request| {
        // Short requests have it in the query.
        let mut form = form(request);
        let query = request.uri().query().unwrap_or_default().as_bytes();
        form.extend(url::form_urlencoded::parse(query).into_owned());
        let action = form["Action"].as_str();
        let granted = match action {
            "AssumeRole" => {
                let is_signed = is_signed(request, &keys, "sts");
                is_signed.is_ok() && form.get("ExternalId").is_none_or(|id| id == "third-party")
            }
            _ => form["WebIdentityToken"] == "a token of the cluster",
        };
        if !granted || form["RoleArn"] != ROLE {
            let text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>hunter2</Message></Error></ErrorResponse>";
            return reply(403, text);
        }
        let mut given = given.lock().unwrap();
        *given += 1;
        let (key, session) = (format!("ASIAROLE{given:08}"), format!("session {given}"));
        know(&keys, &key, "role-secret", Some(&session));
        let end = humantime::format_rfc3339_seconds(
            std::time::SystemTime::now() + std::time::Duration::from_secs(seconds),
        );
        let text = format!(
            "<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId>\
             <SecretAccessKey>role-secret</SecretAccessKey><SessionToken>{session}</SessionToken>\
             <Expiration>{end}</Expiration></Credentials></{action}Result></{action}Response>"
        );
        reply(200, text)
    }
}

fn metadata_keys(end: &str) -> String {
    json!({
        "Code": "Success", "AccessKeyId": "ASIAMACHINE", "SecretAccessKey": "machine-secret",
        "Token": "machine session", "Expiration": end,
    })
    .to_string()
}

/// The metadata services of instances (IMDSv2), of ECS and of EKS.
fn metadata() -> Net {
    let net = Net::default();
    net.host(IMDS, |request| {
        let path = request.uri().path();
        if path == "/latest/api/token" && request.method() == "PUT" {
            let seconds = header(request, "x-aws-ec2-metadata-token-ttl-seconds");
            return reply(200, format!("imds {seconds}"));
        }
        if header(request, "x-aws-ec2-metadata-token") != "imds 21600" {
            return reply(401, "");
        }
        match path.strip_prefix("/latest/meta-data/iam/security-credentials/") {
            Some("") => reply(200, "gateway"),
            Some("gateway") => reply(200, metadata_keys("2100-01-01T00:00:00Z")),
            _ => reply(404, ""),
        }
    });
    net.host("http://169.254.170.2", |request| {
        match request.uri().path() {
            "/v2/credentials/task" => reply(200, metadata_keys("2100-01-01T00:00:00Z")),
            _ => reply(404, ""),
        }
    });
    net.host("http://169.254.170.23", |request| {
        let is_pod = header(request, "authorization") == "a token of the pod";
        match is_pod && request.uri().path() == "/v1/credentials" {
            true => reply(200, metadata_keys("2100-01-01T00:00:00Z")),
            false => reply(403, "hunter2"),
        }
    });
    net
}

fn variables(own: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = own.iter();
    own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

async fn works(net: &Net, credentials: AwsCredentials) {
    let shown = format!("{credentials:?}");
    let store = store(net, credentials);
    let store: &dyn mcp_core::secret::SecretStore = &store;
    store
        .put(&shared(), &name("t"), Secret::new("x"))
        .await
        .unwrap();
    let found = store.get(&shared(), &name("t")).await;
    assert_eq!(found.unwrap(), Some(Secret::new("x")), "{shown}");
}

fn write(folder: &std::path::Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Credentials that the caller has, or that lie in files.
fn at_hand(folder: &std::path::Path) -> Vec<AwsCredentials> {
    let keys = "[work]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI\n";
    write(folder, ".aws/credentials", keys);
    let web = write(folder, "web", "a token of the cluster\n");
    let home = folder.display().to_string();
    let in_home = variables(&[("HOME", &home), ("AWS_PROFILE", "work")]);
    let environment = variables(&[
        ("AWS_ACCESS_KEY_ID", "ASIATEMP"),
        ("AWS_SECRET_ACCESS_KEY", "temporary"),
        ("AWS_SESSION_TOKEN", "a session"),
    ]);
    let web_variables = variables(&[
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &web),
    ]);
    let (temporary, session) = (Secret::new("temporary"), Secret::new("a session"));
    let assumed = || AwsCredentials::assume_role(ROLE, own_keys());
    let chain = |variables| AwsCredentials::default_chain(variables, metadata().client());
    vec![
        own_keys(),
        AwsCredentials::from_keys("ASIATEMP", &temporary, Some(&session)),
        AwsCredentials::from_environment(environment.clone()),
        AwsCredentials::from_profile(Some("work"), variables(&[("HOME", &home)])),
        AwsCredentials::from_profile(None, in_home.clone()),
        AwsCredentials::web_identity(ROLE, &web),
        assumed().with_session_name("gateway-1"),
        assumed().with_external_id("third-party"),
        chain(environment),
        chain(in_home),
        chain(web_variables),
    ]
}

/// Credentials from metadata services.
fn of_machines(folder: &std::path::Path) -> Vec<AwsCredentials> {
    let pod = write(folder, "pod", "a token of the pod\n");
    let full = "http://169.254.170.23/v1/credentials";
    let eks = variables(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &pod),
    ]);
    let ecs = variables(&[(
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "/v2/credentials/task",
    )]);
    let metadata = || metadata().client();
    vec![
        // A role by the role of the machine.
        AwsCredentials::assume_role(ROLE, AwsCredentials::instance(metadata())),
        AwsCredentials::container(ecs.clone(), metadata()),
        AwsCredentials::container(eks, metadata()),
        AwsCredentials::instance(metadata()),
        AwsCredentials::default_chain(ecs, metadata()),
        AwsCredentials::default_chain([], metadata()),
    ]
}

#[tokio::test]
async fn every_kind_of_credentials_signs_what_aws_takes() {
    let (net, keys) = cloud();
    net.host(STS, sts(keys.clone(), 3600));
    know(
        &keys,
        "ASIAMACHINE",
        "machine-secret",
        Some("machine session"),
    );
    know(&keys, "ASIATEMP", "temporary", Some("a session"));
    let folder = tempfile::tempdir().unwrap();
    for credentials in at_hand(folder.path()) {
        works(&net, credentials).await;
    }
    for credentials in of_machines(folder.path()) {
        works(&net, credentials).await;
    }
    // What goes to metadata services goes by the client for them alone.
    assert!(
        net.sent()
            .iter()
            .all(|sent| sent.origin.starts_with("https://"))
    );
}

#[tokio::test]
async fn credentials_are_kept_and_replaced_before_they_end() {
    for (seconds, expected) in [(3600, 1), (100, 5)] {
        let (net, keys) = cloud();
        net.host(STS, sts(keys, seconds));
        let store = store(&net, AwsCredentials::assume_role(ROLE, own_keys()));
        let store: &dyn mcp_core::secret::SecretStore = &store;
        for _ in 0..5 {
            assert_eq!(store.get(&shared(), &name("t")).await.unwrap(), None);
        }
        assert_eq!(net.count(STS), expected, "keys that live for {seconds} s");
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_had_are_an_error_without_what_servers_said() {
    let (net, keys) = cloud();
    net.host(STS, sts(keys, 3600));
    let nobody = Net::default().client();
    let other_role = "arn:aws:iam::123456789012:role/other";
    let wrong = AwsCredentials::from_keys("AKIDEXAMPLE", &Secret::new("wrong"), None);
    for (credentials, kind) in [
        (wrong.clone(), StoreErrorKind::Invalid),
        (
            AwsCredentials::assume_role(ROLE, wrong),
            StoreErrorKind::Invalid,
        ),
        (
            AwsCredentials::assume_role(other_role, own_keys()),
            StoreErrorKind::Invalid,
        ),
        (
            AwsCredentials::assume_role("no arn", own_keys()),
            StoreErrorKind::Invalid,
        ),
        (
            AwsCredentials::web_identity(ROLE, "/nonexistent"),
            StoreErrorKind::Invalid,
        ),
        (
            AwsCredentials::from_environment([]),
            StoreErrorKind::Invalid,
        ),
        (
            AwsCredentials::from_profile(None, []),
            StoreErrorKind::Invalid,
        ),
        (
            AwsCredentials::instance(nobody.clone()),
            StoreErrorKind::Unavailable,
        ),
        (
            AwsCredentials::default_chain([], nobody),
            StoreErrorKind::Unavailable,
        ),
    ] {
        let shown = format!("{credentials:?}");
        let store = store(&net, credentials);
        let store: &dyn mcp_core::secret::SecretStore = &store;
        let error = store.get(&shared(), &name("t")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn settings_are_checked_and_secrets_are_not_shown() {
    let client = Net::default().client();
    for region in ["", "eu central", "x.evil.example/", "EU"] {
        assert!(
            AwsSecrets::new(region, own_keys(), client.clone()).is_err(),
            "{region}"
        );
    }
    for prefix in ["", "/x", "x/", "a b", "a=b"] {
        let store = AwsSecrets::new("eu-central-1", own_keys(), client.clone()).unwrap();
        assert!(store.with_prefix(prefix).is_err(), "{prefix}");
    }
    let store = AwsSecrets::new("cn-north-1", own_keys(), client).unwrap();
    let shown = format!("{store:?} {:?}", own_keys());
    assert!(
        shown.contains("secretsmanager.cn-north-1.amazonaws.com.cn"),
        "{shown}"
    );
    assert!(!shown.contains("wJalr"), "{shown}");
}
