//! Codings, redirects, connections that break, and addresses that cannot be reached.

use std::sync::atomic::{AtomicUsize, Ordering};

use mcp_aggregate::connector::http::HttpConnector;
use mcp_core::{ErrorKind, Method, UpstreamId};

use crate::fixture::{Act, Client, Server, call_stateless, http, result};

#[tokio::test]
async fn an_answer_in_a_coding_that_was_not_asked_for_is_named() {
    for kind in ["application/json", "text/event-stream"] {
        let server = Server::start(move |seen| {
            assert!(
                seen.head.contains("accept-encoding: identity"),
                "{}",
                seen.head
            );
            (seen.rpc() == "tools/call").then(|| {
                let headers = format!("content-type: {kind}\r\ncontent-encoding: br\r\n");
                Act::Write(http(200, &headers, "???"))
            })
        })
        .await;
        let error = Client::new("a")
            .call(&server.connector())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadUpstream);
        assert!(error.message().contains("content coding br"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_to_the_same_origin_is_followed_with_everything() {
    for status in [307, 308] {
        let server = Server::start(move |seen| {
            (seen.path == "/mcp").then(|| Act::Write(http(status, "location: /mcp/\r\n", "")))
        })
        .await;
        let connector = server.connector();
        let client = Client::new("a");
        client.call(&connector).await.unwrap();
        call_stateless(&connector).await.unwrap_err();
        let calls = server.seen("tools/call");
        let moved: Vec<_> = calls.iter().filter(|call| call.path == "/mcp/").collect();
        assert!(!moved.is_empty());
        assert_eq!(moved[0].session(), Some("s1"), "headers go along");
        assert_eq!(moved[0].body["params"]["name"], "t", "and the body");
    }
}

#[tokio::test]
async fn a_redirect_that_is_not_followed_is_named() {
    for (status, location, shown) in [
        (301, "/mcp/?key=secret", "/mcp/"),
        (
            308,
            "http://elsewhere.example/mcp",
            "http://elsewhere.example/mcp",
        ),
        (
            308,
            "http://user:secret@elsewhere.example/",
            "an address with credentials",
        ),
    ] {
        let server = Server::start(move |seen| {
            let headers = format!("location: {location}\r\n");
            (seen.rpc() == "tools/call").then(|| Act::Write(http(status, &headers, "")))
        })
        .await;
        let error = Client::new("a")
            .call(&server.connector())
            .await
            .unwrap_err();
        let message = error.message();
        assert!(message.contains(&format!("HTTP {status}")), "{message}");
        assert!(
            message.contains(shown) && !message.contains("secret"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let server = Server::start(|seen| {
        let circle = http(307, "location: /mcp\r\n", "");
        (seen.rpc() == "tools/call").then_some(Act::Write(circle))
    })
    .await;
    let error = Client::new("a")
        .call(&server.connector())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadUpstream);
    assert!(server.seen("tools/call").len() < 10);
}

#[tokio::test]
async fn what_only_reads_is_sent_once_more_when_its_connection_breaks_and_nothing_else_is() {
    for (method, works) in [
        (Method::TOOLS_LIST, true),
        (Method::RESOURCES_READ, true),
        (Method::TOOLS_CALL, false),
    ] {
        let breaks = AtomicUsize::new(0);
        let name = method.as_str().to_owned();
        let server = Server::start(move |seen| {
            let first = seen.rpc() == name && breaks.fetch_add(1, Ordering::SeqCst) == 0;
            match (first, seen.rpc()) {
                (true, _) => Some(Act::Close(Vec::new())),
                (_, "resources/read") => Some(Act::Write(result(seen))),
                _ => None,
            }
        })
        .await;
        let answer = Client::new("a")
            .send(&server.connector(), method.clone())
            .await;
        assert_eq!(answer.is_ok(), works, "{method} {answer:?}");
        let times = server.seen(method.as_str()).len();
        assert_eq!(times, if works { 2 } else { 1 }, "{method}");
        if let Err(error) = answer {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
    }
}

#[tokio::test]
async fn what_only_reads_is_not_sent_again_for_ever() {
    let server =
        Server::start(|seen| (seen.rpc() == "tools/list").then(|| Act::Close(Vec::new()))).await;
    let (client, connector) = (Client::new("a"), server.connector());
    let answer = client.send(&connector, Method::TOOLS_LIST).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.seen("tools/list").len(), 2);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_with_the_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for (url, cause) in [
        (format!("http://{address}/mcp?key=secret"), "refused"),
        (
            "http://nowhere.invalid/mcp".to_owned(),
            "cannot resolve the host name",
        ),
    ] {
        let id = UpstreamId::new("up").unwrap();
        let connector = HttpConnector::builder(id, url.parse().unwrap())
            .build()
            .unwrap();
        let error = Client::new("a").call(&connector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSent);
        let message = error.message();
        let place = url.split('?').next().unwrap();
        assert!(
            message.contains(place) && message.contains(cause),
            "{message}"
        );
        assert!(!message.contains("secret"), "{message}");
    }
}

#[tokio::test]
async fn a_status_is_named_with_the_address() {
    let server = Server::start(|seen| {
        (seen.rpc() == "tools/call").then(|| Act::Write(http(418, "", "short and stout")))
    })
    .await;
    let error = Client::new("a")
        .call(&server.connector())
        .await
        .unwrap_err();
    let message = error.message();
    assert!(
        message.contains("HTTP 418") && message.contains("/mcp"),
        "{message}"
    );
}

#[tokio::test]
async fn connections_that_look_open_and_are_not_do_not_fail_what_only_reads() {
    let dead = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_dead = std::sync::Arc::clone(&dead);
    let server = Server::start(move |seen| {
        // After the restart every connection that has been used before is dead.
        (seen.turn > 0 && is_dead.load(Ordering::SeqCst)).then(|| Act::Close(Vec::new()))
    })
    .await;
    let connector = server.connector();
    let clients: Vec<_> = (0..6).map(|n| Client::new(&n.to_string())).collect();
    let calls = clients.iter().map(|client| client.call(&connector));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
    dead.store(true, Ordering::SeqCst);
    for client in &clients {
        let listed = client.send(&connector, Method::TOOLS_LIST).await;
        assert!(listed.is_ok(), "{listed:?}");
    }
}
