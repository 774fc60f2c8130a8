//! Sessions that a server loses, and streams that it does not have or ends.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use mcp_aggregate::connector::http::HttpConnector;
use mcp_core::{ClientCapabilities, ErrorKind, Json, Method, NotificationStream, Notifier};
use tokio::{
    task::JoinHandle,
    time::{Duration, sleep, timeout},
};
use tower::ServiceExt as _;

use crate::fixture::{
    Act, Client, PATIENCE, Seen, Server, events, http, json, message, open_events,
};

/// Says that the session is lost, as some server does.
struct Loss {
    status: u16,
    body: &'static str,
}

const LOSSES: &[Loss] = &[
    Loss {
        status: 404,
        body: "",
    },
    Loss {
        status: 410,
        body: "",
    },
    Loss {
        status: 400,
        body: "Bad Request: Server not initialized",
    },
    Loss {
        status: 400,
        body: r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"No valid session ID provided"}}"#,
    },
    Loss {
        status: 401,
        body: "Unauthorized: Session not found",
    },
    Loss {
        status: 409,
        body: "session gone",
    },
    Loss {
        status: 422,
        body: "Unexpected message, expect initialize request; SESSION unknown",
    },
    Loss {
        status: 503,
        body: "Session not found",
    },
    Loss {
        status: 200,
        body: r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32001,"message":"Session not found"}}"#,
    },
];

fn lose(loss: &Loss, seen: &Seen) -> Act {
    let body = loss.body.replace("ID", &seen.body["id"].to_string());
    Act::Write(http(
        loss.status,
        "content-type: application/json\r\n",
        &body,
    ))
}

/// A server that gives each session a number, and has lost the first.
async fn forgetful(loss: &'static Loss, always: bool) -> Server {
    let opened = AtomicUsize::new(0);
    Server::start(move |seen| {
        if seen.rpc() == "initialize" {
            let number = opened.fetch_add(1, Ordering::SeqCst);
            let id = &seen.body["id"];
            let result = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            let headers =
                format!("content-type: application/json\r\nmcp-session-id: s{number}\r\n");
            return Some(Act::Write(http(200, &headers, &body)));
        }
        let lost = always || seen.session() == Some("s0");
        let asks = matches!(seen.rpc(), "tools/list" | "tools/call");
        (lost && asks).then(|| lose(loss, seen))
    })
    .await
}

#[tokio::test]
async fn a_lost_session_is_known_by_what_servers_say_and_opened_again_once() {
    for loss in LOSSES {
        let server = forgetful(loss, false).await;
        let connector = server.connector();
        let answer = Client::new("a").send(&connector, Method::TOOLS_LIST).await;
        assert!(answer.is_ok(), "{} {}: {answer:?}", loss.status, loss.body);
        assert_eq!(server.seen("initialize").len(), 2);
    }
}

#[tokio::test]
async fn a_call_that_writes_is_not_repeated_in_a_new_session_but_the_next_one_works() {
    for loss in LOSSES {
        let server = forgetful(loss, false).await;
        let (connector, client) = (server.connector(), Client::new("a"));
        let error = client.call(&connector).await.unwrap_err();
        let expected = match loss.status {
            401 => ErrorKind::Unauthenticated,
            _ => ErrorKind::NotSent,
        };
        assert_eq!(error.kind(), expected, "{}", loss.status);
        client.call(&connector).await.unwrap();
        assert_eq!(server.seen("tools/call").len(), 2);
    }
}

#[tokio::test]
async fn a_refusal_that_stays_in_a_new_session_is_what_it_says() {
    let real = Loss {
        status: 401,
        body: "log in for a session",
    };
    let real: &'static Loss = Box::leak(Box::new(real));
    let server = forgetful(real, true).await;
    let (client, connector) = (Client::new("a"), server.connector());
    let answer = client.send(&connector, Method::TOOLS_LIST).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.seen("initialize").len(), 2, "opened again once");
}

#[tokio::test]
async fn what_a_server_asks_for_with_a_refusal_is_told() {
    let challenge = r#"Bearer error="insufficient_scope", scope="files:write""#;
    for status in [401, 403] {
        let server = Server::start(move |seen| {
            let headers = format!("www-authenticate: {challenge}\r\n");
            (seen.rpc() == "tools/call").then(|| Act::Write(http(status, &headers, "no")))
        })
        .await;
        let (client, connector) = (Client::new("a"), server.connector());
        let error = client.call(&connector).await.unwrap_err();
        assert_eq!(error.challenges().collect::<Vec<_>>(), [challenge]);
        assert_eq!(error.explicit_status().unwrap(), 200);
        assert!(error.headers().is_empty());
    }
}

/// Listens as a client does, until the task is dropped.
fn listen(client: &Client, connector: &HttpConnector) -> (JoinHandle<()>, NotificationStream) {
    let (notifier, stream) = Notifier::channel(NonZeroUsize::new(64).unwrap());
    let filter = serde_json::json!({ "notifications": { "toolsListChanged": true } });
    let request = client
        .request(Method::SUBSCRIPTIONS_LISTEN, filter)
        .with_notifier(notifier);
    let listening = connector.clone().oneshot(request);
    (tokio::spawn(async move { drop(listening.await) }), stream)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect(what);
}

#[tokio::test]
async fn a_server_without_the_standalone_stream_keeps_its_session() {
    for status in [404, 405, 400] {
        let server = Server::start(move |seen| {
            let refused = http(status, "", "Cannot GET /mcp: no session stream");
            (seen.method == "GET").then_some(Act::Write(refused))
        })
        .await;
        let (connector, client) = (server.connector(), Client::new("a"));
        let (listening, mut stream) = listen(&client, &connector);
        let acknowledged = timeout(PATIENCE, stream.recv()).await.unwrap().unwrap();
        assert_eq!(*acknowledged.method(), Method::ACKNOWLEDGED);
        until("it asks for the stream", || !server.seen("GET").is_empty()).await;
        for _ in 0..5 {
            client.call(&connector).await.unwrap();
        }
        assert_eq!(server.seen("initialize").len(), 1, "{status}");
        assert_eq!(server.seen("GET").len(), 1, "it is asked for once");
        listening.abort();
    }
}

/// Calls as a client that can be asked does.
async fn call_with_asker(client: &Client, connector: &HttpConnector) {
    let (notifier, _stream) = Notifier::channel(NonZeroUsize::new(64).unwrap());
    let capabilities = Json::from(serde_json::json!({ "elicitation": {} }));
    let request = client
        .request(Method::TOOLS_CALL, serde_json::json!({ "name": "t" }))
        .with_capabilities(ClientCapabilities::new(capabilities))
        .with_asker(notifier.into());
    connector.clone().oneshot(request).await.unwrap();
}

#[tokio::test]
async fn the_standalone_stream_is_open_before_the_first_call_that_a_client_can_be_asked_through() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&order);
    let server = Server::start(move |seen| {
        let what = match seen.method.as_str() {
            "POST" => seen.rpc(),
            other => other,
        };
        log.lock().unwrap().push(what.to_owned());
        (what == "GET").then(|| Act::Hold(open_events(": hello\n\n")))
    })
    .await;
    let (connector, client) = (server.connector(), Client::new("a"));
    client.call(&connector).await.unwrap();
    assert!(server.seen("GET").is_empty(), "no one can be asked yet");
    order.lock().unwrap().clear();
    call_with_asker(&client, &connector).await;
    call_with_asker(&client, &connector).await;
    let order = order.lock().unwrap().clone();
    assert_eq!(order, ["GET", "tools/call", "tools/call"]);
}

#[tokio::test]
async fn a_stream_that_is_lost_after_it_was_open_opens_a_new_session() {
    let opened = AtomicBool::new(false);
    let server = Server::start(move |seen| match seen.method.as_str() {
        "GET" if opened.swap(true, Ordering::SeqCst) => Some(Act::Write(http(404, "", ""))),
        "GET" => Some(Act::Close(open_events("retry: 10\ndata:\n\n"))),
        _ => None,
    })
    .await;
    let (connector, client) = (server.connector(), Client::new("a"));
    let (listening, _stream) = listen(&client, &connector);
    until("a new session", || server.seen("initialize").len() > 1).await;
    listening.abort();
}

#[tokio::test]
async fn a_stream_that_ends_at_once_is_opened_less_and_less_often() {
    let server =
        Server::start(|seen| (seen.method == "GET").then(|| Act::Write(events(": hello\n\n"))))
            .await;
    let (connector, client) = (server.connector(), Client::new("a"));
    let (listening, _stream) = listen(&client, &connector);
    // Pauses of at least 125, 250 and 500 ms come before the fourth.
    let started = tokio::time::Instant::now();
    until("the fourth", || server.seen("GET").len() >= 4).await;
    assert!(
        started.elapsed() >= Duration::from_millis(800),
        "{:?}",
        started.elapsed()
    );
    listening.abort();
}

#[tokio::test]
async fn a_call_is_polled_for_as_long_as_polls_bring_something() {
    let polls = Arc::new(AtomicUsize::new(0));
    let (count, call) = (Arc::clone(&polls), Mutex::new(String::new()));
    let server = Server::start(move |seen| match (seen.method.as_str(), seen.rpc()) {
        ("POST", "tools/call") => {
            *call.lock().unwrap() = message(seen);
            Some(Act::Write(events("retry: 1\nid: 0\ndata:\n\n")))
        }
        ("GET", _) => {
            let poll = count.fetch_add(1, Ordering::SeqCst) + 1;
            let data = match poll {
                12 => call.lock().unwrap().clone(),
                _ => String::new(),
            };
            Some(Act::Write(events(&format!("id: {poll}\ndata: {data}\n\n"))))
        }
        _ => None,
    })
    .await;
    Client::new("a").call(&server.connector()).await.unwrap();
    assert_eq!(polls.load(Ordering::SeqCst), 12);
}

#[tokio::test]
async fn a_call_whose_polls_bring_nothing_new_fails() {
    let server = Server::start(|seen| match (seen.method.as_str(), seen.rpc()) {
        ("POST", "tools/call") => Some(Act::Write(events("retry: 1\nid: 0\ndata:\n\n"))),
        ("GET", _) => Some(Act::Write(events("id: 0\ndata:\n\n"))),
        _ => None,
    })
    .await;
    let error = Client::new("a")
        .call(&server.connector())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(server.seen("GET").len(), 5);
}

#[tokio::test]
async fn an_error_that_only_looks_like_a_lost_session_stays_an_error() {
    let server = Server::start(|seen| {
        (seen.rpc() == "tools/call").then(|| {
            let id = &seen.body["id"];
            let error = r#"{"code":-32001,"message":"Request timed out"}"#;
            Act::Write(json(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#
            )))
        })
    })
    .await;
    let error = Client::new("a")
        .call(&server.connector())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Answered);
    assert_eq!(server.seen("initialize").len(), 1);
}
