//! Answers that are odd and can be read, and some that cannot.

use mcp_core::{ErrorKind, Method};

use crate::fixture::{
    Act, Client, Seen, Server, call_stateless, events, http, json, message, open_events,
};

/// What a server writes, with `ID` for the id of the request, and whether the call succeeds or how it fails.
type Case = (&'static str, Result<(), ErrorKind>);

/// Bodies that are JSON.
const BODIES: &[Case] = &[
    (r#"{"jsonrpc":"2.0","id":"ID","result":{}}"#, Ok(())),
    (
        r#"{"jsonrpc":"2.0","id":ID,"result":{},"error":null}"#,
        Ok(()),
    ),
    (
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}",
        Ok(()),
    ),
    (
        r#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":ID,"result":{}}]"#,
        Ok(()),
    ),
    (
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-7,"message":"m"}}"#,
        Err(ErrorKind::Answered),
    ),
    (
        r#"{"jsonrpc":"2.0","error":{"code":-7,"message":"m"}}"#,
        Err(ErrorKind::Answered),
    ),
    (
        r#"{"jsonrpc":"2.0","id":"ID","error":{"code":-7,"message":"m"}}"#,
        Err(ErrorKind::Answered),
    ),
    (
        r#"{"jsonrpc":"2.0","id":0,"result":{}}"#,
        Err(ErrorKind::BadUpstream),
    ),
    (
        r#"{"jsonrpc":"2.0","id":"x","result":{}}"#,
        Err(ErrorKind::BadUpstream),
    ),
    (
        r#"{"jsonrpc":"2.0","id":ID,"result":{"x":NaN}}"#,
        Err(ErrorKind::BadUpstream),
    ),
    (
        r#"{"jsonrpc":"2.0","method":"x"}"#,
        Err(ErrorKind::Unavailable),
    ),
    ("<html>", Err(ErrorKind::BadUpstream)),
    ("", Err(ErrorKind::BadUpstream)),
];

fn id(seen: &Seen) -> String {
    seen.body["id"].to_string()
}

/// A server that writes something in answer to a tool call, in either era.
async fn outcome(
    stateless: bool,
    write: impl Fn(&Seen) -> Act + Send + Sync + 'static,
) -> Result<(), ErrorKind> {
    let server = Server::start(move |seen| match seen.rpc() {
        "tools/call" => Some(write(seen)),
        "server/discover" if stateless => {
            let (id, result) = (id(seen), r#"{"supportedVersions":["2026-07-28"]}"#);
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            Some(Act::Write(json(&body)))
        }
        _ => None,
    })
    .await;
    let connector = server.connector();
    let answer = match stateless {
        true => call_stateless(&connector).await,
        false => Client::new("a").call(&connector).await,
    };
    answer.map(drop).map_err(|error| error.kind())
}

#[tokio::test]
async fn whatever_a_body_says_the_call_ends() {
    for stateless in [false, true] {
        for (body, expected) in BODIES {
            let came = outcome(stateless, |seen| {
                Act::Write(json(&body.replace("ID", &id(seen))))
            });
            assert_eq!(came.await, *expected, "{body} (stateless: {stateless})");
        }
    }
}

#[tokio::test]
async fn whatever_an_open_stream_says_the_call_ends() {
    for stateless in [false, true] {
        for (body, expected) in BODIES.iter().filter(|(_, outcome)| {
            // These leave open whether the answer is still to come.
            !matches!(outcome, Err(ErrorKind::Unavailable))
        }) {
            if body.is_empty() || body.starts_with('<') {
                continue;
            }
            let came = outcome(stateless, |seen| {
                let data = body.replace("ID", &id(seen));
                Act::Hold(open_events(&format!("data: {data}\n\n")))
            });
            assert_eq!(came.await, *expected, "{body} (stateless: {stateless})");
        }
    }
}

#[tokio::test]
async fn events_that_are_no_messages_are_passed_over_before_the_answer() {
    for stateless in [false, true] {
        for before in [
            "event: ping\ndata: {}\n\n",
            "event: endpoint\ndata: /messages\n\n",
            ": comment\n\n",
            "data: hello\n\n",
            "data: {}\n\n",
            "data:\n\n",
        ] {
            for typed in ["", "event: message\n"] {
                let came = outcome(stateless, move |seen| {
                    let answer = format!("{typed}data: {}\n\n", message(seen));
                    Act::Hold(open_events(&format!("{before}{answer}")))
                });
                assert_eq!(came.await, Ok(()), "{before:?} (stateless: {stateless})");
            }
        }
        let came = outcome(stateless, |_| Act::Write(events("data: hello\n\n")));
        assert_eq!(came.await, Err(ErrorKind::BadUpstream), "nothing else came");
    }
}

#[tokio::test]
async fn initialize_is_answered_in_odd_ways_too() {
    let opened = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;
    for (body, works) in [
        (
            format!(r#"{{"jsonrpc":"2.0","id":"ID","result":{opened}}}"#),
            true,
        ),
        (
            format!(r#"[{{"jsonrpc":"2.0","id":ID,"result":{opened}}}]"#),
            true,
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":99,"result":{opened}}}"#),
            false,
        ),
    ] {
        for in_events in [false, true] {
            let body = body.clone();
            let server = Server::start(move |seen| {
                (seen.rpc() == "initialize").then(|| {
                    let body = body.replace("ID", &id(seen));
                    Act::Write(match in_events {
                        true => events(&format!("data: {body}\n\n")),
                        false => json(&body),
                    })
                })
            })
            .await;
            let (client, connector) = (Client::new("a"), server.connector());
            let answer = client.send(&connector, Method::TOOLS_LIST).await;
            assert_eq!(answer.is_ok(), works);
        }
    }
}

#[tokio::test]
async fn an_error_status_with_an_error_of_no_id_is_that_error() {
    let came = outcome(false, |_| {
        let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-7,"message":"m"}}"#;
        Act::Write(http(400, "content-type: application/json\r\n", body))
    });
    assert_eq!(came.await, Err(ErrorKind::Answered));
}

#[tokio::test]
async fn an_answer_to_another_call_before_the_right_one_is_passed_over() {
    for stateless in [false, true] {
        let came = outcome(stateless, |seen| {
            let foreign = r#"{"jsonrpc":"2.0","id":424242,"result":{}}"#;
            let right = message(seen);
            Act::Hold(open_events(&format!(
                "data: {foreign}\n\ndata: {right}\n\n"
            )))
        });
        assert_eq!(came.await, Ok(()), "stateless: {stateless}");
    }
}
