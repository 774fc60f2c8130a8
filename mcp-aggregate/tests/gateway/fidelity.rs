//! Whatever a client and an upstream say to each other passes through the gateway to the byte, in both eras, with names
//! as they are and with prefixes.

use axum::{Router, body::Bytes, http::StatusCode, response::IntoResponse, routing::post};
use mcp_aggregate::Running;
use mcp_core::{Error, Json, Method, Principal, ProtocolVersion, Request, Response, SessionKey};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;
use tower::ServiceExt;

use crate::{
    client::Client,
    fixture::{Server, start, start_bare},
    json_text::{string, value},
};

/// Answers a call with what was sent, without looking at it.
async fn answer(body: Bytes) -> axum::response::Response {
    let message = Json::parse(body).unwrap();
    let Some(id) = message.member("id") else {
        return StatusCode::ACCEPTED.into_response();
    };
    let params = message.member("params").unwrap_or(Json::EMPTY_OBJECT);
    let name = params.member("name").and_then(|name| name.to_text());
    let arguments = || params.member("arguments").unwrap();
    let outcome = match (message.member("method").unwrap().as_str(), name.as_deref()) {
        ("\"initialize\"", _) => {
            r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}"#.to_owned()
        }
        ("\"server/discover\"", _) => {
            r#""result":{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{"tools":{}}}"#.to_owned()
        }
        ("\"tools/list\"", _) => {
            let tool = |name| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
            let tools = ["echo", "params", "error"].map(tool).join(",");
            format!(r#""result":{{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[{tools}]}}"#)
        }
        (_, Some("echo")) => format!(r#""result":{}"#, arguments()),
        (_, Some("params")) => format!(r#""result":{params}"#),
        (_, Some("error")) => format!(r#""error":{}"#, arguments()),
        _ => r#""error":{"code":-32601,"message":"no such method"}"#.to_owned(),
    };
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{outcome}}}"#);
    ([("content-type", "application/json")], text).into_response()
}

async fn call(
    running: &Running,
    version: ProtocolVersion,
    tool: &str,
    members: &str,
) -> Result<Response, Error> {
    let params = format!(r#"{{"name":"{tool}",{members}}}"#);
    let request = Request::new(Method::TOOLS_CALL, Some(Json::parse(params).unwrap()))?
        .with_principal(Principal::local())
        .with_version(version.clone());
    let request = match ProtocolVersion::SESSION_ERA.contains(&version) {
        true => request.with_session(SessionKey::new("one")),
        false => request,
    };
    running.service().oneshot(request).await
}

/// Runs a property on a gateway of one upstream without a prefix, and of two with prefixes, in both eras.
fn check<S: Strategy>(
    strategy: &S,
    property: &impl AsyncFn(&Running, ProtocolVersion, &str, S::Value),
) where
    S::Value: Clone,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (servers, gateways) = runtime.block_on(async {
        let app = || Router::new().route("/mcp", post(answer));
        let free = "127.0.0.1:0".parse().unwrap();
        let servers = [
            Server::serve(free, app()).await,
            Server::serve(free, app()).await,
        ];
        let bare = start_bare(servers[0].upstream("a")).await;
        let two = start([servers[0].upstream("a"), servers[1].upstream("b")]).await;
        (servers, [(bare, ""), (two, "b__")])
    });
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(strategy, |value| {
            for (running, prefix) in &gateways {
                for version in [ProtocolVersion::LATEST, ProtocolVersion::LATEST_SESSION] {
                    runtime.block_on(property(running, version, prefix, value.clone()));
                }
            }
            Ok(())
        })
        .unwrap();
    drop(servers);
}

#[test]
fn arguments_and_results_pass_to_the_byte() {
    check(&value(), &async |running: &Running,
                            version,
                            prefix: &str,
                            value| {
        let arguments = format!(r#"{{"x":{value},"resultType":"complete"}}"#);
        let members = format!(r#""arguments":{arguments}"#);
        let answer = call(running, version, &format!("{prefix}echo"), &members)
            .await
            .unwrap();
        assert_eq!(answer.result().as_str(), arguments);
    });
}

#[test]
fn unknown_members_of_parameters_pass_to_the_byte() {
    check(
        &(value(), value()),
        &async |running: &Running, version, prefix: &str, (one, two)| {
            let members = format!(r#""zz":{one},"aa" : {two}"#);
            let answer = call(running, version, &format!("{prefix}params"), &members)
                .await
                .unwrap();
            let seen = answer.result().as_str();
            assert!(
                seen.starts_with(&format!(r#"{{"name":"params",{members}"#)),
                "{members} in {seen}"
            );
        },
    );
}

#[test]
fn an_error_keeps_code_message_and_data() {
    let code = any::<i32>().prop_filter("codes that say something to the gateway", |code| {
        !(-32700..=-32000).contains(code)
    });
    let error = (code, string(), value());
    check(&error, &async |running: &Running,
                          version: ProtocolVersion,
                          prefix: &str,
                          (code, message, data)| {
        let sent = format!(r#"{{"code":{code},"message":{message},"data":{data}}}"#);
        let members = format!(r#""arguments":{sent}"#);
        let error = call(
            running,
            version.clone(),
            &format!("{prefix}error"),
            &members,
        )
        .await
        .unwrap_err();
        let told = error.to_rpc(version.era());
        assert_eq!(told.as_str(), sent);
    });
}

#[tokio::test]
async fn a_server_of_the_session_era_is_not_told_what_a_stateless_client_says_of_itself() {
    let only_sessions = async |body: Bytes| {
        let asks = Json::parse(body.clone()).unwrap().member("method");
        match asks.is_some_and(|method| method.as_str() == "\"server/discover\"") {
            true => StatusCode::BAD_REQUEST.into_response(),
            false => answer(body).await,
        }
    };
    let app = Router::new().route("/mcp", post(only_sessions));
    let server = Server::serve("127.0.0.1:0".parse().unwrap(), app).await;
    let running = start_bare(server.upstream("old")).await;
    let client = Client::stateless(&running, "alice");
    let params = json!({ "name": "params", "arguments": {}, "_meta": { "vendor": 1 } });
    let answer = client.request("tools/call", params).await;
    assert_eq!(
        answer["result"]["_meta"],
        json!({ "vendor": 1 }),
        "{answer}"
    );
    running.shutdown().await;
}
