//! Bounds on processes, with clients that behave and clients that do not.

use std::{num::NonZeroUsize, time::Duration};

use mcp_aggregate::{
    SessionScope,
    connector::{
        Allowance,
        stdio::{Processes, StdioConnector},
    },
};
use mcp_core::{
    ClientCapabilities, Error, ErrorKind, Json, Method, Principal, Request, Response, Timing,
};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::fixture::{Client, PATIENCE, shell_with};

/// Counts the calls that its process has seen.
const COUNTS: &str = r#"
other() { case $line in *tools/call*) calls=$((${calls:-0} + 1)); text "call $calls" ;; esac; }
serve"#;

fn bounded(total: usize, per_principal: usize) -> Processes {
    let of = |count| NonZeroUsize::new(count).unwrap();
    let allowance = Allowance::of_processes(of(total), of(per_principal));
    Processes::new().with_allowance(allowance)
}

/// Calls as a stateless client that says what it can do in its own spelling.
async fn call(
    connector: &StdioConnector,
    user: &str,
    capabilities: &str,
) -> Result<Response, Error> {
    let params = serde_json::json!({ "name": "t", "arguments": {} });
    let capabilities = Json::parse(capabilities.to_owned()).unwrap();
    let request = Request::new(Method::TOOLS_CALL, Some(Json::from(params)))
        .unwrap()
        .with_principal(Principal::authenticated("https://issuer.example", user))
        .with_capabilities(ClientCapabilities::new(capabilities));
    let answer = connector.clone().oneshot(request);
    timeout(PATIENCE, answer).await.expect("no hang")
}

#[tokio::test]
async fn the_same_capabilities_in_another_spelling_share_a_process() {
    let processes = Processes::new();
    let connector = shell_with(COUNTS, |builder| builder.processes(processes.clone()));
    for (number, spelling) in [
        r#"{"sampling":{},"roots":{}}"#,
        r#"{"roots":{},"sampling":{}}"#,
        r#"{ "roots" : {}, "sampling" : {} }"#,
    ]
    .into_iter()
    .enumerate()
    {
        let answer = call(&connector, "alice", spelling).await.unwrap();
        let expected = format!("call {}", number + 1);
        assert!(answer.result().as_str().contains(&expected), "{spelling}");
    }
    assert_eq!(processes.allowance().counts().used, 1);
    connector.shutdown().await;
}

#[tokio::test]
async fn one_user_with_many_capability_sets_does_not_take_the_process_of_another() {
    let processes = bounded(8, 3);
    let connector = shell_with(COUNTS, |builder| builder.processes(processes.clone()));
    call(&connector, "bob", "{}").await.unwrap();
    for number in 0..12 {
        let capabilities = format!(r#"{{"experimental":{{"x{number}":{{}}}}}}"#);
        call(&connector, "mallory", &capabilities).await.unwrap();
    }
    let counts = processes.allowance().counts();
    assert!(counts.used <= 4, "{counts:?}");
    assert_eq!(counts.evicted, 9);
    let answer = call(&connector, "bob", "{}").await.unwrap();
    assert!(
        answer.result().as_str().contains("call 2"),
        "bob has his own still"
    );
    connector.shutdown().await;
}

#[tokio::test]
async fn a_bound_that_is_reached_is_named_and_holds_for_its_principal_alone() {
    let silent = r"other() { case $line in *hang*) : ;; *tools/call*) text ok ;; esac; }; serve";
    let processes = bounded(8, 1);
    let connector = shell_with(silent, |builder| {
        builder
            .processes(processes.clone())
            .scope(SessionScope::PerSession)
    });
    let clients = ["a", "b"].map(Client::new);
    let of = |client: &Client, tool: &str| {
        let params = serde_json::json!({ "name": tool });
        let user = Principal::authenticated("https://issuer.example", "mallory");
        let request = client.request(Method::TOOLS_CALL, params);
        connector.clone().oneshot(request.with_principal(user))
    };
    let hanging = tokio::spawn(of(&clients[0], "hang"));
    let in_use = async {
        while processes.allowance().counts().used == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, in_use).await.unwrap();
    let error = of(&clients[1], "t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(
        error
            .message()
            .contains("1 child processes are in use, the most that one principal may have"),
        "{error}"
    );
    // Another principal is served.
    assert_eq!(Client::new("c").text(&connector).await, "ok");
    hanging.abort();
    connector.shutdown().await;
}

#[tokio::test]
async fn several_connectors_share_what_there_may_be_in_all() {
    let processes = bounded(2, 2);
    let connectors =
        [0, 1, 2].map(|_| shell_with(COUNTS, |builder| builder.processes(processes.clone())));
    for connector in &connectors {
        call(connector, "alice", "{}").await.unwrap();
    }
    let counts = processes.allowance().counts();
    assert_eq!((counts.used, counts.evicted), (2, 1));
    for connector in &connectors {
        connector.shutdown().await;
    }
    assert_eq!(processes.allowance().counts().used, 0);
}

#[tokio::test]
async fn an_idle_process_is_ended_and_its_share_given_back() {
    let processes = Processes::new();
    let connector = shell_with(COUNTS, |builder| {
        builder
            .processes(processes.clone())
            .timing(Timing::default().with_idle(Duration::from_millis(200)))
    });
    for _ in 0..2 {
        let answer = call(&connector, "alice", "{}").await.unwrap();
        assert!(answer.result().as_str().contains("call 1"), "a new process");
        let ended = async {
            while processes.allowance().counts().used > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("it is ended");
    }
    connector.shutdown().await;
}

#[tokio::test]
async fn one_call_at_a_time_holds_across_sessions_and_pings_pass() {
    // Says how many calls overlap: the lock is a folder that all processes share.
    let lock = std::env::temp_dir().join(format!("stdio-turns-{}", std::process::id()));
    let script = format!(
        r"
        other() {{
          case $line in
            *tools/call*)
              if mkdir '{0}'; then sleep 0.05; rmdir '{0}'; text alone; else text together; fi ;;
            *'\042ping\042'*) answer '{{}}' ;;
          esac
        }}
        serve",
        lock.display()
    );
    let connector = shell_with(&script, |builder| {
        builder.scope(SessionScope::PerSession).one_call_at_a_time()
    });
    let clients: Vec<_> = (0..4)
        .map(|number| Client::new(&number.to_string()))
        .collect();
    let calls = clients.iter().map(|client| client.text(&connector));
    for text in futures_util::future::join_all(calls).await {
        assert_eq!(text, "alone");
    }
    connector.shutdown().await;
}
