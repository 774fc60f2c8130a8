//! A server that follows a service's protocol: what it answers is read from fixtures.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    serve::ListenerExt as _,
};
use mcp_captcha::{Polling, Vendor, VendorClient};
use mcp_core::{http_client::GuardedClient, secret::Secret};
use serde_json::Value;

pub(crate) const KEY: &str = "f75e4ee9a4b3d1b9f1f6d1c2b3a49586";

pub(crate) fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One answer of the script.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Json(String),
    Status(u16, String),
    Html(u16),
    /// Takes the request and closes the connection without an answer.
    Hang(Duration),
}

pub(crate) fn say(name: &str) -> Say {
    Say::Json(fixture(name))
}

#[derive(Default)]
pub(crate) struct Script {
    /// For each method the answers in order; the last one stays.
    answers: Mutex<HashMap<String, Vec<Say>>>,
    pub(crate) calls: Mutex<Vec<(String, Value)>>,
    /// How many connections were made.
    pub(crate) connections: AtomicUsize,
}

impl Script {
    pub(crate) fn on(self, method: &str, answers: impl IntoIterator<Item = Say>) -> Self {
        let answers: Vec<Say> = answers.into_iter().collect();
        self.answers.lock().unwrap().insert(method.into(), answers);
        self
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|(name, _)| name == method)
            .count()
    }

    pub(crate) fn last(&self, method: &str) -> Value {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .rev()
            .find(|(name, _)| name == method)
            .unwrap_or_else(|| panic!("{method} was not called"))
            .1
            .clone()
    }

    fn next(&self, method: &str) -> Option<Say> {
        let mut all = self.answers.lock().unwrap();
        let answers = all.get_mut(method)?;
        Some(if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers.first()?.clone()
        })
    }
}

async fn answer(
    State(script): State<Arc<Script>>,
    Path(method): Path<String>,
    body: Bytes,
) -> Response {
    let value: Value = serde_json::from_slice(&body).expect("requests are JSON");
    script.calls.lock().unwrap().push((method.clone(), value));
    match script.next(&method) {
        Some(Say::Json(text)) => {
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Some(Say::Status(status, text)) => {
            (StatusCode::from_u16(status).unwrap(), text).into_response()
        }
        Some(Say::Html(status)) => (
            StatusCode::from_u16(status).unwrap(),
            [(header::CONTENT_TYPE, "text/html")],
            "<html><body>Just a moment...</body></html>",
        )
            .into_response(),
        Some(Say::Hang(time)) => {
            tokio::time::sleep(time).await;
            StatusCode::NO_CONTENT.into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Starts the server and makes a client of it that polls quickly.
pub(crate) async fn serve(vendor: Vendor, script: Script) -> (VendorClient, Arc<Script>) {
    let script = Arc::new(script);
    let app = Router::new()
        .route("/{method}", axum::routing::post(answer))
        .with_state(Arc::clone(&script));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let counter = Arc::clone(&script);
    let listener = listener.tap_io(move |_| {
        counter.connections.fetch_add(1, Ordering::Relaxed);
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (client(vendor, &base), script)
}

pub(crate) fn client(vendor: Vendor, base: &str) -> VendorClient {
    let http = GuardedClient::builder()
        .allow_origin(base)
        .unwrap()
        .with_total_timeout(Some(Duration::from_millis(1500)))
        .build()
        .unwrap();
    let ms = Duration::from_millis;
    VendorClient::new(vendor, Arc::new(http), Secret::new(KEY))
        .with_base_url(base)
        .unwrap()
        .with_polling(Polling::new(ms(10), ms(10), 20, ms(3000)).unwrap())
        .unwrap()
}
