//! Everything that the transport refuses, with the exact status and code.
#![allow(clippy::too_many_lines, reason = "each test is one table of cases")]

use std::num::NonZeroUsize;

use mcp_core::{Bounds, transport::http::HttpConfig};

use crate::{
    raw::{Raw, stateless_body},
    server::Server,
};

async fn check(server: &Server, cases: &[(&str, Raw, u16, i64)]) {
    for (what, raw, status, code) in cases {
        let reply = raw.send(server.address).await;
        assert_eq!(
            (reply.status, reply.code()),
            (*status, *code),
            "{what}: {reply:?}"
        );
    }
}

fn list() -> Raw {
    Raw::stateless("tools/list", "")
}

fn call() -> Raw {
    Raw::stateless("tools/call", r#""name":"echo","arguments":{}"#).with("mcp-name", "echo")
}

#[tokio::test]
async fn methods_types_and_hosts() {
    let server = Server::start().await;
    let get = || Raw::new("GET");
    check(
        &server,
        &[
            ("the control", list(), 200, 0),
            ("PUT", Raw::new("PUT"), 405, 0),
            ("PATCH", Raw::new("PATCH"), 405, 0),
            ("OPTIONS", Raw::new("OPTIONS"), 405, 0),
            ("HEAD", Raw::new("HEAD"), 405, 0),
            (
                "a GET that takes no events",
                get().with("accept", "application/json"),
                406,
                -32600,
            ),
            (
                "a GET of the stateless era",
                get().with("mcp-protocol-version", "2026-07-28"),
                405,
                0,
            ),
            (
                "a DELETE of the stateless era",
                Raw::new("DELETE").with("mcp-protocol-version", "2026-07-28"),
                405,
                0,
            ),
            ("no type", list().without("content-type"), 415, -32600),
            (
                "another type",
                list().with("content-type", "text/plain"),
                415,
                -32600,
            ),
            (
                "a type with parameters",
                list().with("content-type", "Application/JSON; charset=utf-8"),
                200,
                0,
            ),
            (
                "neither JSON nor events",
                list().with("accept", "text/html"),
                406,
                -32600,
            ),
            (
                "a subscription without events",
                Raw::stateless("subscriptions/listen", r#""notifications":{}"#)
                    .with("accept", "application/json"),
                406,
                -32600,
            ),
            ("anything", list().with("accept", "*/*"), 200, 0),
            (
                "two headers",
                list()
                    .with("accept", "application/json")
                    .and("accept", "text/*"),
                200,
                0,
            ),
            ("no Host", list().without("host"), 400, -32600),
            ("two Hosts", list().and("host", "localhost"), 400, -32600),
            (
                "a Host with user information",
                list().with("host", "localhost:80@evil.example"),
                400,
                -32600,
            ),
            (
                "another Host",
                list().with("host", "evil.example"),
                403,
                -32600,
            ),
            (
                "a Host that looks local",
                list().with("host", "localhost.evil.example"),
                403,
                -32600,
            ),
            (
                "another Origin",
                list().with("origin", "https://evil.example"),
                403,
                -32600,
            ),
            (
                "no Origin to speak of",
                list().with("origin", "null"),
                403,
                -32600,
            ),
            (
                "an Origin of this host",
                list().with("origin", "http://localhost:1"),
                200,
                0,
            ),
        ],
    )
    .await;
    let refused = Raw::new("PUT").send(server.address).await;
    assert_eq!(refused.header("allow"), Some("GET, POST, DELETE"));
    let stateless = Raw::new("GET").with("mcp-protocol-version", "2026-07-28");
    let refused = stateless.send(server.address).await;
    assert_eq!(refused.header("allow"), Some("POST"));
}

#[tokio::test]
async fn bodies() {
    let small = Bounds::default().with_body(NonZeroUsize::new(10_000).unwrap());
    let server = Server::with(HttpConfig::default().with_bounds(small)).await;
    let body = |text: &str| list().with_body(text);
    let large = stateless_body("tools/list", &format!(r#""x":"{}""#, "x".repeat(10_000)));
    let deep = format!(r#""x":{}{}"#, "[".repeat(4_000), "]".repeat(4_000));
    let mut invalid = stateless_body("tools/list", r#""x":"?""#).into_bytes();
    let at = invalid.iter().position(|byte| *byte == b'?').unwrap();
    invalid[at] = 0xff;
    check(
        &server,
        &[
            ("empty", body(""), 400, -32700),
            ("no JSON", body("{"), 400, -32700),
            ("trailing bytes", body("{} {}"), 400, -32700),
            ("no object", body("7"), 400, -32600),
            ("no message", body("{}"), 400, -32600),
            (
                "a batch",
                body(&format!("[{}]", stateless_body("tools/list", ""))),
                400,
                -32600,
            ),
            ("too large", list().with_body(large), 413, -31052),
            (
                "too deep",
                list().with_body(stateless_body("tools/list", &deep)),
                400,
                -32700,
            ),
            ("not UTF-8", list().with_body(invalid), 400, -32700),
            (
                "a member twice",
                body(r#"{"jsonrpc":"2.0","id":1,"method":"a","\u006dethod":"b"}"#),
                400,
                -32600,
            ),
            (
                "a parameter twice",
                list().with_body(stateless_body("tools/list", r#""cursor":"a","cursor":"b""#)),
                400,
                -32600,
            ),
            (
                "another version of JSON-RPC",
                body(&stateless_body("tools/list", "").replace("2.0", "1.0")),
                400,
                -32600,
            ),
            (
                "an id that is null",
                body(&stateless_body("tools/list", "").replace(r#""id":1"#, r#""id":null"#)),
                400,
                -32600,
            ),
            (
                "parameters that are a list",
                body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}"#),
                400,
                -32602,
            ),
            (
                "an answer",
                body(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
                400,
                -32600,
            ),
            (
                "a notification",
                body(r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#),
                202,
                0,
            ),
        ],
    )
    .await;
    let reply = body(r#"{"jsonrpc":"2.0","id":"x","method":7}"#)
        .send(server.address)
        .await;
    assert_eq!(reply.json()["id"], "x");
    let reply = body("{").send(server.address).await;
    assert!(reply.json()["id"].is_null());
}

#[tokio::test]
async fn headers_of_the_stateless_era() {
    let server = Server::start().await;
    let version = "mcp-protocol-version";
    let unknown = stateless_body("tools/list", "").replace("2026-07-28", "2031-01-01");
    let no_capabilities = stateless_body("tools/list", "").replace("clientCapabilities", "x");
    let no_meta = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let bad_level = stateless_body("tools/list", "").replace(
        r#""progressToken":"p""#,
        r#""io.modelcontextprotocol/logLevel":"loud""#,
    );
    check(
        &server,
        &[
            ("no version header", list().without(version), 400, -32020),
            (
                "another version",
                list().with(version, "2025-11-25"),
                400,
                -32020,
            ),
            (
                "the version twice",
                list().and(version, "2026-07-28"),
                400,
                -32020,
            ),
            (
                "an unknown version",
                list().with(version, "2031-01-01").with_body(unknown),
                400,
                -32022,
            ),
            ("no `_meta`", list().with_body(no_meta), 400, -32602),
            (
                "no capabilities",
                list().with_body(no_capabilities),
                400,
                -32602,
            ),
            ("an unknown level", list().with_body(bad_level), 400, -32602),
            (
                "no method header",
                list().without("mcp-method"),
                400,
                -32020,
            ),
            (
                "another method",
                list().with("mcp-method", "tools/call"),
                400,
                -32020,
            ),
            (
                "another case",
                list().with("mcp-method", "Tools/List"),
                400,
                -32020,
            ),
            (
                "the method twice",
                list().and("mcp-method", "tools/list"),
                400,
                -32020,
            ),
            ("no name header", call().without("mcp-name"), 400, -32020),
            ("another name", call().with("mcp-name", "ech"), 400, -32020),
            (
                "the name in Base64",
                call().with("mcp-name", "=?base64?ZWNobw==?="),
                200,
                0,
            ),
            (
                "no Base64",
                call().with("mcp-name", "=?base64?*?="),
                400,
                -32020,
            ),
            (
                "a name that nothing has",
                list().with("mcp-name", "x"),
                200,
                0,
            ),
            (
                "a call without a name",
                Raw::stateless("tools/call", r#""arguments":{}"#),
                400,
                -32602,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn methods_that_are_not_there() {
    let server = Server::start().await;
    for method in [
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
        "tasks/result",
        "roots/list",
    ] {
        for raw in [
            Raw::stateless(method, ""),
            Raw::stateless(method, r#""uri":"u:x","taskId":"t""#).without("mcp-method"),
        ] {
            let reply = raw.send(server.address).await;
            assert_eq!((reply.status, reply.code()), (404, -32601), "{method}");
        }
    }
    let unknown = Raw::stateless("vendor/unknown", "")
        .send(server.address)
        .await;
    assert_eq!((unknown.status, unknown.code()), (404, -32601));
}

#[tokio::test]
async fn sessions() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    let inside = |body: &str| Raw::in_session(&session, body);
    let events = || {
        Raw::new("GET")
            .with("accept", "text/event-stream")
            .with("mcp-session-id", &session)
    };
    check(
        &server,
        &[
            ("the control", inside(ping), 200, 0),
            ("no session", Raw::post(ping), 400, -32600),
            (
                "an unknown session",
                Raw::in_session("0123", ping),
                404,
                -32600,
            ),
            ("an incomplete opening", Raw::post(initialize), 200, -32602),
            ("an opening inside", inside(initialize), 400, -32600),
            (
                "an unknown version",
                inside(ping).with("mcp-protocol-version", "2031-01-01"),
                400,
                -32600,
            ),
            (
                "the version twice",
                inside(ping)
                    .and("mcp-protocol-version", "2025-11-25")
                    .and("mcp-protocol-version", "2025-11-25"),
                400,
                -32600,
            ),
            (
                "the same version",
                inside(ping).with("mcp-protocol-version", "2025-11-25"),
                200,
                0,
            ),
            ("no JSON", inside("{"), 400, -32700),
            ("a batch", inside(&format!("[{ping}]")), 400, -32600),
            (
                "a method of the stateless era",
                inside(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#),
                200,
                -32601,
            ),
            (
                "an event that is not ours",
                events().with("last-event-id", "x"),
                400,
                -32600,
            ),
            (
                "a stream that is not kept",
                events().with("last-event-id", "99_1"),
                400,
                -32600,
            ),
            (
                "a GET elsewhere",
                events().with("mcp-session-id", "0123"),
                404,
                -32600,
            ),
            (
                "a DELETE elsewhere",
                Raw::new("DELETE").with("mcp-session-id", "0123"),
                404,
                -32600,
            ),
            (
                "a DELETE",
                Raw::new("DELETE").with("mcp-session-id", &session),
                204,
                0,
            ),
            ("after the DELETE", inside(ping), 404, -32600),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_stolen_session_is_not_found() {
    let server = Server::start().await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let session = server.open("2025-11-25", Some("alice")).await;
    let ping = Raw::in_session(&session, ping);
    let get = Raw::new("GET")
        .with("accept", "text/event-stream")
        .with("mcp-session-id", &session);
    let delete = Raw::new("DELETE").with("mcp-session-id", &session);
    let resume = get.clone().with("last-event-id", "1_0");
    for (what, raw) in [
        ("POST", &ping),
        ("GET", &get),
        ("resumption", &resume),
        ("DELETE", &delete),
    ] {
        let thief = raw.clone().with("x-user", "mallory");
        let reply = thief.send(server.address).await;
        assert_eq!((reply.status, reply.code()), (404, -32600), "{what}");
    }
    let own = ping.with("x-user", "alice").send(server.address).await;
    assert_eq!(own.status, 200);
}
