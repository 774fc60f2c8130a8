//! Answers that are late, wrong, endless, or that repeat what was sent.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header::RETRY_AFTER};
use mcp_auth::vault::{SecretManagerError, SecretManagerErrorKind as Kind};
use mcp_core::{
    secret::{Secret, SecretStore},
    store::{StoreError, StoreErrorKind},
};
use serde_json::json;

use crate::{
    ALL, Make, name,
    net::{Reply, reply},
    shared,
};

/// What all four calls say when the server answers one and the same, once the store has logged in.
async fn all_errors(
    stand: Make,
    answer: impl Fn(&Request<Bytes>) -> Reply + Clone + Send + Sync + 'static,
) -> Vec<(&'static str, StoreError)> {
    let own = stand();
    own.store.get(&shared(), &name("t")).await.unwrap();
    own.net.host(own.origin, answer);
    let store: &dyn SecretStore = &*own.store;
    let (scope, name) = (shared(), name("t"));
    let put = store.put(&scope, &name, Secret::new("hunter2")).await;
    vec![
        ("get", store.get(&scope, &name).await.map(drop).unwrap_err()),
        ("put", put.unwrap_err()),
        (
            "delete",
            store.delete(&scope, &name).await.map(drop).unwrap_err(),
        ),
        ("list", store.list(&scope).await.map(drop).unwrap_err()),
    ]
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_by_kind_and_nothing_of_an_answer_is_repeated() {
    let secret = r#"{"error":{"code":"hunter2","status":"hunter2"},"errors":["hunter2"],"__type":"hunter2"}"#;
    for (status, body, reason, kind) in [
        (
            500,
            "<html>hunter2",
            Kind::Unavailable,
            StoreErrorKind::Unavailable,
        ),
        (503, secret, Kind::Unavailable, StoreErrorKind::Unavailable),
        (429, secret, Kind::Throttled, StoreErrorKind::Unavailable),
        (401, secret, Kind::Denied, StoreErrorKind::Invalid),
        (403, secret, Kind::Denied, StoreErrorKind::Invalid),
        (400, secret, Kind::Refused, StoreErrorKind::Invalid),
        (
            404,
            "<html>hunter2 is not here",
            Kind::Refused,
            StoreErrorKind::Invalid,
        ),
        (404, secret, Kind::Refused, StoreErrorKind::Invalid),
        (507, secret, Kind::Full, StoreErrorKind::Full),
        (302, "hunter2", Kind::Malformed, StoreErrorKind::Corrupt),
    ] {
        for (service, stand) in ALL {
            for (call, error) in all_errors(stand, move |_| reply(status, body)).await {
                assert_eq!(error.kind(), kind, "{service} {call} {status}: {error:?}");
                let own = SecretManagerError::of(&error).unwrap();
                // Vault logs in again, and the answer to that is no better.
                let reason = match (service, status) {
                    ("hashicorp", 403) => Kind::NoCredentials,
                    _ => reason,
                };
                assert_eq!(own.kind(), reason, "{service} {call} {status}: {error:?}");
                assert_eq!(own.status().unwrap(), status);
                let shown = format!("{error:?} {error} {own}");
                assert!(!shown.contains("hunter2"), "{service} {call}: {shown}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_protocol_are_malformed() {
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 8] = [
        b"",
        b"hunter2",
        b"[]",
        b"{",
        b"null",
        br#"{"value":{"hunter2":1},"SecretString":{"hunter2":1},"payload":"hunter2","data":"hunter2","SecretList":"hunter2","secrets":"hunter2","nextLink":7,"name":{}}"#,
        b"\xff\xfe{}",
        deep.as_bytes(),
    ];
    for body in bodies {
        for (service, stand) in ALL {
            let own = stand();
            own.store.get(&shared(), &name("t")).await.unwrap();
            let text = Bytes::copy_from_slice(body);
            own.net.host(own.origin, move |_| reply(200, text.clone()));
            for (call, error) in [
                ("get", own.store.get(&shared(), &name("t")).await.map(drop)),
                ("list", own.store.list(&shared()).await.map(drop)),
            ] {
                let error = error.unwrap_err();
                assert_eq!(
                    error.kind(),
                    StoreErrorKind::Corrupt,
                    "{service} {call}: {error:?}"
                );
                assert!(
                    !format!("{error:?}").contains("hunter2"),
                    "{service}: {error:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_an_end_is_cut() {
    let large = Bytes::from(vec![b' '; (2 << 20) + 1]);
    for (service, stand) in ALL {
        let large = large.clone();
        for (call, error) in all_errors(stand, move |_| reply(200, large.clone())).await {
            assert_eq!(
                error.kind(),
                StoreErrorKind::Corrupt,
                "{service} {call}: {error:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_without_an_end_is_given_up() {
    // The one that Vault answers with has no pages.
    for (service, stand) in ALL
        .into_iter()
        .filter(|(service, _)| *service != "hashicorp")
    {
        for fresh in [false, true] {
            let own = stand();
            let count = AtomicUsize::new(0);
            let origin = own.origin;
            own.net.host(origin, move |_| {
                let number = count.fetch_add(usize::from(fresh), Ordering::Relaxed);
                let link = format!("{origin}/secrets?api-version=7.4&$skiptoken={number}");
                let token = number.to_string();
                let body = json!({
                    "SecretList": [], "NextToken": token, "value": [], "nextLink": link, "secrets": [],
                    "nextPageToken": token,
                });
                reply(200, body.to_string())
            });
            let error = own.store.list(&shared()).await.unwrap_err();
            assert_eq!(
                error.kind(),
                StoreErrorKind::Corrupt,
                "{service}: {error:?}"
            );
            let pages = own.net.count(origin);
            assert!(pages <= if fresh { 4_000 } else { 3 }, "{service}: {pages}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_is_told_in_both_forms() {
    let date = std::time::SystemTime::now() + Duration::from_secs(90);
    for (value, least, most) in [
        ("7".to_owned(), 7, 7),
        (httpdate::fmt_http_date(date), 60, 90),
    ] {
        let value = HeaderValue::try_from(value).unwrap();
        for (service, stand) in ALL {
            for status in [429, 503] {
                let value = value.clone();
                let answer = move |_: &Request<Bytes>| {
                    let mut reply = reply(status, "{}");
                    reply.headers_mut().insert(RETRY_AFTER, value.clone());
                    reply
                };
                for (call, error) in all_errors(stand, answer).await {
                    let own = SecretManagerError::of(&error).unwrap();
                    let wait = own.retry_after().unwrap().as_secs();
                    assert!((least..=most).contains(&wait), "{service} {call}: {wait}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_repeats_what_it_was_sent_puts_nothing_into_errors() {
    for status in [200, 400, 403, 409, 500] {
        for (service, stand) in ALL {
            let own = stand();
            own.store.get(&shared(), &name("t")).await.unwrap();
            own.net.host(own.origin, move |request| {
                reply(status, request.body().clone())
            });
            let put = own
                .store
                .put(&shared(), &name("t"), Secret::new("hunter2"))
                .await;
            if let Err(error) = put {
                assert!(
                    !format!("{error:?}").contains("hunter2"),
                    "{service}: {error:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_unavailable() {
    for (service, stand) in ALL {
        let own = stand();
        own.store.get(&shared(), &name("t")).await.unwrap();
        own.net.remove(own.origin);
        let error = own.store.get(&shared(), &name("t")).await.unwrap_err();
        assert_eq!(
            error.kind(),
            StoreErrorKind::Unavailable,
            "{service}: {error:?}"
        );
    }
}
