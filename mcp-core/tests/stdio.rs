//! The stdio transport, spoken to line by line.
#![cfg(feature = "stdio")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{num::NonZeroUsize, time::Duration};

use mcp_core::{
    Bounds, BoxSeam, Error, ErrorKind, Json, Method, Notification, Object, Principal, Request,
    Response, Stack, Timing,
    transport::stdio::{StdioConfig, StdioTransport, serve},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tower::service_fn;

/// What happens to calls of the service.
type Events = mpsc::UnboundedSender<String>;

struct Dropped(Events, String);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(format!("dropped {}", self.1));
    }
}

fn progress(request: &Request, done: u32) -> Notification {
    let mut params = Object::default();
    let token = request.progress_token().unwrap_or(Json::NULL);
    params.set("progressToken", token);
    params.set("progress", Json::from(json!(done)));
    Notification::new(Method::PROGRESS, Some(params.to_json()))
}

async fn call_tool(request: Request, events: Events) -> Result<Response, Error> {
    let tool = request.tool().unwrap_or_default().to_owned();
    match tool.as_str() {
        "progress" => {
            for done in 1..=100 {
                request.notifier().notify(progress(&request, done)).await?;
            }
            Ok(Response::new(Json::parse(r#"{"content":[]}"#)?))
        }
        "wait" => {
            let _dropped = Dropped(events.clone(), tool);
            events.send("started wait".to_owned()).unwrap();
            std::future::pending().await
        }
        "ask" => {
            let asker = request.asker().ok_or_else(|| {
                Error::new(ErrorKind::MissingCapability, "the client cannot be asked")
            })?;
            let roots = asker.ask(Method::ROOTS_LIST, None).await?;
            Ok(Response::new(roots))
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(Response::parse(r#"{"slow":true}"#)?)
        }
        "withdraw" => {
            let asker = request.asker().unwrap().clone();
            let asked = asker.ask(Method::ROOTS_LIST, None);
            let _ = timeout(Duration::from_millis(50), asked).await;
            Ok(Response::empty())
        }
        "panic" => panic!("as it was told to"),
        "error" => Err(Error::from_rpc(Json::parse(
            r#"{"code":-7,"message":"no \u0041","data":{"b":1.50,"a":[1e2]}}"#,
        )?)),
        _ => Ok(Response::new(request.param("arguments").unwrap())),
    }
}

async fn listen(request: Request, events: Events) -> Result<Response, Error> {
    let filter = request.param("notifications").unwrap();
    let mut params = Object::default();
    params.set("notifications", filter.clone());
    let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(params.to_json()));
    request.notifier().notify(acknowledged).await?;
    let uris = filter.member("resourceSubscriptions");
    let Some(uri) = uris.and_then(|uris| uris.elements().first().cloned()) else {
        let changed = Notification::new(Method::TOOLS_CHANGED, None);
        request.notifier().notify(changed).await?;
        let _dropped = Dropped(events, "listen".to_owned());
        return std::future::pending().await;
    };
    let mut params = Object::default();
    params.set("uri", uri.clone());
    let updated = Notification::new(Method::RESOURCE_UPDATED, Some(params.to_json()));
    request.notifier().notify(updated).await?;
    if uri.as_str() == r#""end:""# {
        return Ok(Response::empty());
    }
    let _dropped = Dropped(events, uri.as_str().to_owned());
    std::future::pending().await
}

fn service(events: Events) -> BoxSeam {
    let service = service_fn(move |request: Request| {
        let events = events.clone();
        async move {
            if request.is_notification() {
                let _ = events.send(format!("notified {}", request.method()));
                return Ok(Response::empty());
            }
            match *request.method() {
                Method::TOOLS_CALL => call_tool(request, events).await,
                Method::SUBSCRIPTIONS_LISTEN => listen(request, events).await,
                Method::DISCOVER => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(Response::parse(
                        r#"{"capabilities":{"tools":{"listChanged":true}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"t","version":"1"}}}"#,
                    )?)
                }
                Method::TOOLS_LIST => {
                    let level = request.log_level().map_or("none", |level| level.as_str());
                    let kind = format!("{:?}", request.principal().kind());
                    let seen = json!({ "level": level, "principal": kind });
                    Ok(Response::new(Json::from(seen)))
                }
                Method::SET_LEVEL => Ok(Response::empty()),
                _ => Err(Error::new(ErrorKind::MethodNotFound, "no such method")),
            }
        }
    });
    Stack::new(service).boxed()
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

struct Client {
    reader: BufReader<ReadHalf<DuplexStream>>,
    writer: Option<WriteHalf<DuplexStream>>,
    events: mpsc::UnboundedReceiver<String>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Client {
    fn connect(config: StdioConfig) -> Self {
        let (here, there) = tokio::io::duplex(1 << 20);
        let (reader, writer) = tokio::io::split(there);
        let (sender, events) = mpsc::unbounded_channel();
        let server = tokio::spawn(serve(service(sender), reader, writer, config));
        let (reader, writer) = tokio::io::split(here);
        Self {
            reader: BufReader::new(reader),
            writer: Some(writer),
            events,
            server,
        }
    }

    async fn session(version: &str) -> Self {
        Self::session_with(version, StdioConfig::default()).await
    }

    async fn session_with(version: &str, config: StdioConfig) -> Self {
        let mut client = Self::connect(config);
        client
            .send(&format!(
                r#"{{"jsonrpc":"2.0","id":"i","method":"initialize","params":{{"protocolVersion":"{version}",
                "capabilities":{{"roots":{{}}}},"clientInfo":{{"name":"c","version":"1"}}}}}}"#
            ).replace('\n', ""))
            .await;
        let answer = client.receive().await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        assert_eq!(answer["result"]["serverInfo"]["name"], "t");
        client
    }

    async fn send(&mut self, line: &str) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(line.as_bytes()).await.unwrap();
        writer.write_all(b"\n").await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line);
        timeout(Duration::from_secs(5), read)
            .await
            .expect("an answer comes")
            .unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    async fn receive(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?} is JSON"))
    }

    async fn event(&mut self) -> String {
        timeout(Duration::from_secs(5), self.events.recv())
            .await
            .expect("something happens")
            .unwrap()
    }
}

fn stateless(id: u32, method: &str, params: &str) -> String {
    let comma = if params.is_empty() { "" } else { "," };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{comma}"_meta":{{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
}

fn legacy(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

#[tokio::test]
async fn bytes_are_kept_in_both_directions() {
    let arguments = r#"{"b": 1.50,"a":[1E2, -0.0, 123456789012345678901234567890],"\u0061":"\u00e9 é \/ 𝄞","a":2}"#;
    let params = format!(r#""name":"echo","arguments":{arguments}"#);
    let mut client = Client::session("2025-11-25").await;
    client.send(&legacy(1, "tools/call", &params)).await;
    assert_eq!(
        client.line().await,
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{arguments}}}"#)
    );
    let mut client = Client::connect(StdioConfig::default());
    let params = r#""name":"echo","arguments":{"resultType":"x","n":1.0}"#;
    client.send(&stateless(2, "tools/call", params)).await;
    assert_eq!(
        client.line().await,
        r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"x","n":1.0}}"#
    );
    client
        .send(&stateless(3, "tools/call", r#""name":"error""#))
        .await;
    assert_eq!(
        client.line().await,
        r#"{"jsonrpc":"2.0","id":3,"error":{"code":-7,"message":"no \u0041","data":{"b":1.50,"a":[1e2]}}}"#
    );
}

#[tokio::test]
async fn progress_comes_in_order_before_the_result() {
    let mut client = Client::session("2025-06-18").await;
    for request in [
        legacy(
            1,
            "tools/call",
            r#""name":"progress","_meta":{"progressToken":"p"}"#,
        ),
        stateless(2, "tools/call", r#""name":"progress""#),
    ] {
        client.send(&request).await;
        for done in 1..=100 {
            let notification = client.receive().await;
            assert_eq!(notification["params"]["progress"], done);
            assert_eq!(notification["params"]["progressToken"], "p");
        }
        assert!(client.receive().await["result"].is_object());
    }
}

#[tokio::test]
async fn calls_run_side_by_side_and_both_eras_share_a_connection() {
    let mut client = Client::session("2025-11-25").await;
    client
        .send(&legacy(1, "tools/call", r#""name":"wait""#))
        .await;
    client
        .send(&stateless(2, "tools/call", r#""name":"wait""#))
        .await;
    assert_eq!(client.event().await, "started wait");
    assert_eq!(client.event().await, "started wait");
    client.send(&legacy(3, "ping", "")).await;
    assert_eq!(
        client.line().await,
        r#"{"jsonrpc":"2.0","id":3,"result":{}}"#
    );
    client.send(&stateless(4, "tools/list", "")).await;
    let answer = client.receive().await;
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(answer["result"]["principal"], "Local");
}

#[tokio::test]
async fn a_cancelled_call_is_dropped_and_not_answered() {
    let mut client = Client::session("2025-11-25").await;
    for (id, call) in [
        (1, legacy(1, "tools/call", r#""name":"wait""#)),
        (2, stateless(2, "tools/call", r#""name":"wait""#)),
    ] {
        client.send(&call).await;
        assert_eq!(client.event().await, "started wait");
        client
            .send(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ))
            .await;
        assert_eq!(client.event().await, "dropped wait");
    }
    client.send(&legacy(3, "ping", "")).await;
    assert_eq!(client.receive().await["id"], 3);
}

#[tokio::test]
async fn a_stateless_client_cancels_without_a_session() {
    let mut client = Client::connect(StdioConfig::default());
    client
        .send(&stateless(1, "tools/call", r#""name":"wait""#))
        .await;
    assert_eq!(client.event().await, "started wait");
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#)
        .await;
    assert_eq!(client.event().await, "dropped wait");
}

#[tokio::test]
async fn the_client_is_asked_and_its_answer_is_passed_on() {
    let mut client = Client::session("2025-11-25").await;
    client
        .send(&legacy(1, "tools/call", r#""name":"ask""#))
        .await;
    let question = client.receive().await;
    assert_eq!(question["method"], "roots/list");
    let id = &question["id"];
    client
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":[ ]}}}}"#
        ))
        .await;
    assert_eq!(
        client.line().await,
        r#"{"jsonrpc":"2.0","id":1,"result":{"roots":[ ]}}"#
    );
    client
        .send(&legacy(2, "tools/call", r#""name":"ask""#))
        .await;
    let id = client.receive().await["id"].clone();
    client
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-1,"message":"no"}}}}"#
        ))
        .await;
    assert_eq!(client.receive().await["error"]["code"], -1);
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_is_withdrawn() {
    let mut client = Client::session("2025-11-25").await;
    client
        .send(&legacy(1, "tools/call", r#""name":"withdraw""#))
        .await;
    let question = client.receive().await;
    let withdrawn = client.receive().await;
    assert_eq!(withdrawn["method"], "notifications/cancelled");
    assert_eq!(withdrawn["params"]["requestId"], question["id"]);
    assert_eq!(client.receive().await["id"], 1);
}

#[tokio::test]
async fn a_stateless_call_cannot_ask() {
    let mut client = Client::connect(StdioConfig::default());
    client
        .send(&stateless(1, "tools/call", r#""name":"ask""#))
        .await;
    assert_eq!(client.receive().await["error"]["code"], -32021);
}

#[tokio::test]
async fn a_session_hears_of_changes_and_subscribes() {
    let mut client = Client::session("2025-11-25").await;
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    assert_eq!(
        client.line().await,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#
    );
    client
        .send(&legacy(1, "resources/subscribe", r#""uri":"u:a""#))
        .await;
    let mut both = [client.line().await, client.line().await];
    both.sort_by_key(String::len);
    assert_eq!(both[0], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(
        both[1],
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u:a"}}"#
    );
    client
        .send(&legacy(2, "resources/unsubscribe", r#""uri":"u:a""#))
        .await;
    assert_eq!(client.event().await, r#"dropped "u:a""#);
    assert_eq!(client.receive().await["id"], 2);
}

#[tokio::test]
async fn a_subscription_carries_the_clients_id_and_ends_when_it_is_cancelled() {
    let mut client = Client::connect(StdioConfig::default());
    let filter = r#""notifications":{"toolsListChanged":true}"#;
    client
        .send(&stateless(7, "subscriptions/listen", filter))
        .await;
    for method in [
        "notifications/subscriptions/acknowledged",
        "notifications/tools/list_changed",
    ] {
        let told = client.receive().await;
        assert_eq!(told["method"], method);
        let own = &told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
        assert_eq!(*own, 7);
    }
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#)
        .await;
    assert_eq!(client.event().await, "dropped listen");
}

#[tokio::test]
async fn a_subscription_that_the_stack_ends_is_answered_and_cancelled() {
    let mut client = Client::connect(StdioConfig::default());
    let filter = r#""notifications":{"resourceSubscriptions":["end:"]}"#;
    client
        .send(&stateless(8, "subscriptions/listen", filter))
        .await;
    client.receive().await;
    client.receive().await;
    let answer = client.receive().await;
    assert_eq!(answer["id"], 8);
    let own = &answer["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
    assert_eq!(*own, 8);
    let ended = client.receive().await;
    assert_eq!(ended["method"], "notifications/cancelled");
    assert_eq!(ended["params"]["requestId"], 8);
}

#[tokio::test]
async fn levels_and_notifications_reach_the_stack() {
    let mut client = Client::session("2025-11-25").await;
    client
        .send(&legacy(1, "logging/setLevel", r#""level":"warning""#))
        .await;
    assert_eq!(client.receive().await["id"], 1);
    client.send(&legacy(2, "tools/list", "")).await;
    assert_eq!(client.receive().await["result"]["level"], "warning");
    client
        .send(&legacy(3, "logging/setLevel", r#""level":"loud""#))
        .await;
    assert_eq!(client.receive().await["error"]["code"], -32602);
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#)
        .await;
    assert_eq!(
        client.event().await,
        "notified notifications/roots/list_changed"
    );
}

#[tokio::test]
async fn batches_are_for_revision_2025_03_26() {
    let batch = format!(
        r#"[{},{{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}},7,{}]"#,
        legacy(1, "ping", ""),
        legacy(2, "tools/list", "")
    );
    let mut client = Client::session("2025-03-26").await;
    client.send(&batch).await;
    let answers = client.receive().await;
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["id"], 1);
    assert_eq!(answers[1]["error"]["code"], -32600);
    assert_eq!(answers[2]["id"], 2);
    client
        .send(r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#)
        .await;
    client.send("[]").await;
    assert_eq!(client.receive().await["error"]["code"], -32600);
    let mut client = Client::session("2025-06-18").await;
    client.send(&batch).await;
    let refusal = client.receive().await;
    assert_eq!(refusal["error"]["code"], -32600);
    assert_eq!(refusal["id"], Value::Null);
}

#[tokio::test]
async fn what_is_not_a_message_is_refused() {
    let short = Bounds::default().with_line(NonZeroUsize::new(500).unwrap());
    let mut client = Client::connect(StdioConfig::default().with_bounds(short));
    let unknown = stateless(9, "tools/list", "").replace("2026-07-28", "2031-01-01");
    let incomplete = stateless(10, "tools/list", "").replace("clientCapabilities", "other");
    let long = "x".repeat(2_000);
    for (line, code, id) in [
        ("{", -32700, Value::Null),
        ("nonsense", -32700, Value::Null),
        ("[1,", -32700, Value::Null),
        ("7", -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600, json!(1)),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
            -32600,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":2,"method":"x","params":[]}"#,
            -32602,
            json!(2),
        ),
        (&long, -31052, Value::Null),
        (&legacy(3, "tools/list", ""), -32602, json!(3)),
        (&legacy(4, "initialize", ""), -32602, json!(4)),
        (&stateless(5, "initialize", ""), -32601, json!(5)),
        (&stateless(6, "ping", ""), -32601, json!(6)),
        (&stateless(7, "tasks/result", ""), -32601, json!(7)),
        (&stateless(8, "tools/call", ""), -32602, json!(8)),
        (&unknown, -32022, json!(9)),
        (&incomplete, -32602, json!(10)),
    ] {
        client.send(line).await;
        let refusal = client.receive().await;
        assert_eq!(refusal["error"]["code"], code, "{line}");
        assert_eq!(refusal["id"], id, "{line}");
    }
    client
        .writer
        .as_mut()
        .unwrap()
        .write_all(b"\xff\n")
        .await
        .unwrap();
    assert_eq!(client.receive().await["error"]["code"], -32700);
    client.send(&legacy(11, "ping", "")).await;
    assert_eq!(client.receive().await["id"], 11);
}

#[tokio::test]
async fn a_session_has_no_methods_of_other_eras_and_opens_once() {
    let mut client = Client::session("2025-11-25").await;
    for (method, code) in [
        ("initialize", -32600),
        ("server/discover", -32601),
        ("subscriptions/listen", -32601),
        ("vendor/unknown", -32601),
    ] {
        client.send(&legacy(1, method, "")).await;
        assert_eq!(client.receive().await["error"]["code"], code, "{method}");
    }
}

#[tokio::test]
async fn calls_are_bounded_and_ids_are_told_apart() {
    let config = StdioConfig::default()
        .with_bounds(Bounds::default().with_calls_per_session(NonZeroUsize::MIN));
    let mut client = Client::connect(config);
    client
        .send(&stateless(1, "tools/call", r#""name":"wait""#))
        .await;
    client.send(&stateless(1, "tools/list", "")).await;
    assert_eq!(client.receive().await["error"]["code"], -32600);
    client.send(&stateless(2, "tools/list", "")).await;
    assert_eq!(client.receive().await["error"]["code"], -31030);
}

#[tokio::test]
async fn a_call_that_panics_is_answered() {
    let mut client = Client::session("2025-11-25").await;
    client
        .send(&legacy(1, "tools/call", r#""name":"panic""#))
        .await;
    assert_eq!(client.receive().await["error"]["code"], -32603);
    client
        .send(&stateless(2, "tools/call", r#""name":"panic""#))
        .await;
    assert_eq!(client.receive().await["error"]["code"], -32603);
}

#[tokio::test]
async fn what_was_sent_before_the_end_of_the_input_is_answered() {
    for (opening, call) in [
        (INITIALIZE, legacy(7, "tools/call", r#""name":"slow""#)),
        (INITIALIZED, stateless(7, "tools/call", r#""name":"slow""#)),
    ] {
        let mut client = Client::connect(StdioConfig::default());
        let lines = format!("{opening}\n{INITIALIZED}\n{call}");
        client.send(&lines).await;
        client.writer.take().unwrap().shutdown().await.unwrap();
        loop {
            let message = client.receive().await;
            if message["id"] == 7 {
                assert_eq!(message["result"]["slow"], true, "{message}");
                break;
            }
        }
        let ended = timeout(Duration::from_secs(5), client.server).await;
        ended.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_need_not_wait_for_the_answer_to_initialize() {
    let mut client = Client::connect(StdioConfig::default());
    let call = legacy(1, "tools/list", "");
    let ping = legacy(2, "ping", "");
    let lines = format!("{INITIALIZE}\n{ping}\n{INITIALIZED}\n{call}");
    client.send(&lines).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let message = client.receive().await;
        assert!(message.get("error").is_none(), "{message}");
        seen.push(match message.get("method") {
            Some(method) => method.clone(),
            None => message["id"].clone(),
        });
    }
    let at = |what: Value| seen.iter().position(|own| *own == what).unwrap();
    assert!(
        at(json!(2)) < at(json!("i")),
        "a ping is answered meanwhile: {seen:?}"
    );
    assert!(at(json!("i")) < at(json!(1)), "{seen:?}");
    assert!(seen.contains(&json!("notifications/tools/list_changed")));
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_ends() {
    let (opened, mut keys) = mpsc::unbounded_channel();
    let refusing = service_fn(move |request: Request| {
        let _ = opened.send(request.session().cloned().unwrap());
        std::future::ready(Err::<Response, _>(Error::new(ErrorKind::Unavailable, "no")))
    });
    let (mut here, there) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(there);
    let serving = tokio::spawn(serve(refusing, reader, writer, StdioConfig::default()));
    here.write_all(format!("{INITIALIZE}\n").as_bytes())
        .await
        .unwrap();
    let key = timeout(Duration::from_secs(5), keys.recv())
        .await
        .unwrap()
        .unwrap();
    let ended = timeout(Duration::from_secs(5), key.closed()).await;
    ended.expect("what is kept under its key is let go of");
    serving.abort();
}

#[tokio::test]
async fn what_follows_an_initialize_that_fails_is_refused() {
    let mut client = Client::connect(StdioConfig::default());
    let bad = legacy(1, "initialize", r#""protocolVersion":7"#);
    let lines = format!("{bad}\n{}", legacy(2, "tools/list", ""));
    client.send(&lines).await;
    for id in [1, 2] {
        let answer = client.receive().await;
        assert_eq!(answer["id"], id);
        assert!(answer["error"]["code"].is_i64(), "{answer}");
    }
}

#[tokio::test]
async fn the_end_of_the_input_ends_everything() {
    let timing = Timing::default().with_flush(Duration::from_millis(200));
    let config = StdioConfig::default().with_timing(timing);
    let mut client = Client::session_with("2025-11-25", config).await;
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    client.receive().await;
    client
        .send(&legacy(1, "tools/call", r#""name":"wait""#))
        .await;
    assert_eq!(client.event().await, "started wait");
    let mut writer = client.writer.take().unwrap();
    writer.shutdown().await.unwrap();
    let mut dropped = [client.event().await, client.event().await];
    dropped.sort();
    assert_eq!(dropped, ["dropped listen", "dropped wait"]);
    timeout(Duration::from_secs(2), client.server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let mut rest = String::new();
    assert_eq!(client.reader.read_line(&mut rest).await.unwrap(), 0);
}

#[tokio::test]
async fn the_principal_is_the_one_that_was_set() {
    let config = StdioConfig::default().with_principal(Principal::anonymous());
    let mut client = Client::connect(config);
    client.send(&stateless(1, "tools/list", "")).await;
    assert_eq!(client.receive().await["result"]["principal"], "Anonymous");
}

#[tokio::test]
async fn a_byte_order_mark_and_optional_members_that_are_null_are_passed_over() {
    let mut client = Client::connect(StdioConfig::default());
    let opening = legacy(
        1,
        "initialize",
        r#""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"},"_meta":null"#,
    );
    client.send(&format!("\u{feff}{opening}")).await;
    assert_eq!(client.receive().await["id"], 1);
    client
        .send(&legacy(2, "tools/list", r#""cursor":null"#))
        .await;
    assert_eq!(client.receive().await["id"], 2);
}

#[tokio::test]
async fn batches_and_their_messages_are_bounded() {
    let bounds = Bounds::default().with_batch(NonZeroUsize::new(2).unwrap());
    let mut client = Client::connect(StdioConfig::default().with_bounds(bounds));
    let opening = r#""protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"t","version":"1"}"#;
    client.send(&legacy(1, "initialize", opening)).await;
    assert_eq!(client.receive().await["id"], 1);
    let ping = legacy(2, "ping", "");
    client.send(&format!("[{ping},{ping},{ping}]")).await;
    assert_eq!(client.receive().await["error"]["code"], -32600);
}

#[tokio::test]
async fn a_drain_lets_calls_finish_and_closing_ends_the_connection() {
    let (events, mut happened) = mpsc::unbounded_channel();
    let transport = StdioTransport::new(service(events), StdioConfig::default());
    let (here, there) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn({
        let transport = transport.clone();
        async move {
            let (reader, writer) = tokio::io::split(there);
            transport.serve(reader, writer).await
        }
    });
    let (reader, mut writer) = tokio::io::split(here);
    let mut lines = BufReader::new(reader).lines();
    let wait = stateless(1, "tools/call", r#""name":"wait""#);
    writer
        .write_all(format!("{wait}\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(happened.recv().await.unwrap(), "started wait");
    assert!(!transport.drain(Duration::from_millis(10)).await);
    assert!(!transport.is_ready());
    let opening = r#""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}"#;
    for (id, refused) in [
        (2, stateless(2, "tools/list", "")),
        (3, legacy(3, "initialize", opening)),
    ] {
        writer
            .write_all(format!("{refused}\n").as_bytes())
            .await
            .unwrap();
        let line = lines.next_line().await.unwrap().unwrap();
        let refusal: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(refusal["id"], id);
        assert_eq!(refusal["error"]["code"], -31030, "{line}");
    }
    transport.close().await;
    let line = lines.next_line().await.unwrap().unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(-31050))
    );
    assert!(lines.next_line().await.unwrap().is_none());
    serving.await.unwrap().unwrap();
}
