//! Whatever a client and a server say to each other passes to the byte.

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::Value;

use crate::{
    json_text::{string, value},
    raw::Raw,
    server::Server,
};

/// Runs a property against a server.
fn check<S: Strategy>(strategy: &S, property: &impl AsyncFn(&Server, S::Value)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let config = ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(strategy, |value| {
            runtime.block_on(property(&server, value));
            Ok(())
        })
        .unwrap();
}

async fn echo(server: &Server, arguments: &str) -> [String; 2] {
    let body = format!(r#""name":"echo","arguments":{arguments}"#);
    let stateless = Raw::stateless("tools/call", &body).with("mcp-name", "echo");
    let session = server.open("2025-11-25", None).await;
    let legacy = Raw::in_session(
        &session,
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{body}}}}}"#),
    );
    [
        stateless.send(server.address).await.body,
        legacy.send(server.address).await.body,
    ]
}

#[test]
fn arguments_and_results_pass_to_the_byte() {
    check(&value(), &async |server: &Server, value| {
        // A result that says what it is needs nothing added; sessions do not have that member.
        let arguments = format!(r#"{{"x":{value},"resultType":"complete"}}"#);
        let expected = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{arguments}}}"#);
        let without = expected.replace(r#","resultType":"complete""#, "");
        assert_eq!(echo(server, &arguments).await, [expected, without]);
    });
}

#[test]
fn unknown_members_of_parameters_pass_to_the_byte() {
    check(&(value(), value()), &async |server: &Server, (one, two)| {
        let members = format!(r#""zz":{one},"aa" : {two}"#);
        let raw = Raw::stateless("vendor/params", &members);
        let reply = raw.send(server.address).await;
        let expected = format!(r#""result":{{{members},"_meta":{{"#);
        assert!(
            reply.body.contains(&expected),
            "{} in {}",
            expected,
            reply.body
        );
    });
}

#[test]
fn a_result_is_completed_and_else_left_alone() {
    check(&value(), &async |server: &Server, value| {
        let arguments = format!(r#"{{"b":{value}}}"#);
        let [stateless, legacy] = echo(server, &arguments).await;
        assert!(
            stateless.contains(&format!(r#""b":{value}"#)),
            "{stateless}"
        );
        assert!(
            stateless.contains(r#""resultType":"complete""#),
            "{stateless}"
        );
        assert_eq!(
            legacy,
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{arguments}}}"#)
        );
    });
}

#[test]
fn an_error_keeps_code_message_and_data() {
    let code = any::<i32>().prop_filter("codes that set a status", |code| {
        !(-32700..=-32000).contains(code)
    });
    let error = (code, string(), value()).prop_map(|(code, message, data)| {
        format!(r#"{{"code":{code},"message":{message},"data":{data}}}"#)
    });
    check(&error, &async |server: &Server, error: String| {
        let body = format!(r#""name":"error","arguments":{error}"#);
        let raw = Raw::stateless("tools/call", &body).with("mcp-name", "error");
        let reply = raw.send(server.address).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.body,
            format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#)
        );
    });
}

#[test]
fn an_id_comes_back_as_it_was_spelt() {
    let id = prop_oneof![string(), "-?(0|[1-9][0-9]{0,30})"];
    check(&id, &async |server: &Server, id| {
        let body = crate::raw::stateless_body("tools/list", "");
        let body = body.replacen(r#""id":1"#, &format!(r#""id":{id}"#), 1);
        let raw = Raw::stateless("tools/list", "").with_body(body);
        let reply = raw.send(server.address).await;
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
        assert!(reply.body.starts_with(&expected), "{} for {id}", reply.body);
        assert!(serde_json::from_str::<Value>(&reply.body).is_ok() || id.contains("\\ud800"));
    });
}
