//! Lines of a process that are odd and can be read, and some that cannot.

use std::num::NonZeroUsize;

use mcp_core::ErrorKind;
use tokio::join;

use crate::fixture::{Client, shell, shell_with};

/// How long a message may be.
const SMALL: NonZeroUsize = NonZeroUsize::new(2_000).unwrap();

/// A server that writes a line in answer to a call of its tool, in which `$id` is the call's.
fn answering(line: &str) -> mcp_aggregate::connector::stdio::StdioConnector {
    let line = line.replace('"', "\\\"");
    shell(&format!(
        r#"other() {{ case $line in *tools/call*) printf '%b\n' "{line}" ;; esac; }}; serve"#
    ))
}

#[tokio::test]
async fn whatever_a_line_says_the_call_that_it_answers_ends() {
    for (line, expected) in [
        (r#"{"jsonrpc":"2.0","id":"$id","result":{}}"#, Ok(())),
        (
            r#"{"jsonrpc":"2.0","id":$id,"result":{},"error":null}"#,
            Ok(()),
        ),
        (
            r#"\0357\0273\0277{"jsonrpc":"2.0","id":$id,"result":{}}"#,
            Ok(()),
        ),
        (r#"[{"jsonrpc":"2.0","id":$id,"result":{}}]"#, Ok(())),
        (
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-7,"message":"m"}}"#,
            Err(ErrorKind::Answered),
        ),
        (
            r#"{"jsonrpc":"2.0","id":$id,"result":{"x":NaN}}"#,
            Err(ErrorKind::BadUpstream),
        ),
        (
            r#"{"jsonrpc":"2.0","id":$id,"result":{"x":"\0377"}}"#,
            Err(ErrorKind::BadUpstream),
        ),
    ] {
        let connector = answering(line);
        let answer = Client::new("a").call(&connector).await;
        let came = answer.map(drop).map_err(|error| error.kind());
        assert_eq!(came, expected, "{line}");
        connector.shutdown().await;
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_the_first_line_does_not_spoil_the_handshake() {
    let connector = shell(
        r"printf '\357\273\277'
        other() { case $line in *tools/call*) text ok ;; esac; }; serve",
    );
    assert_eq!(Client::new("a").text(&connector).await, "ok");
    connector.shutdown().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_fails_only_the_call_that_it_answers() {
    // The second call is answered with too much, then the first with little.
    let connector = shell_with(
        r#"
        other() {
          case $line in *tools/call*)
            if [ -z "$first" ]; then first=$id; return; fi
            long=$(printf '%01000d' 7 | tr 0 x); long=$long$long$long
            text "$long"
            id=$first; text small ;;
          esac
        }
        serve"#,
        |builder| builder.message_limit(SMALL),
    );
    let client = Client::new("a");
    let (first, second) = join!(client.call(&connector), client.call(&connector));
    let (small, large) = match first.is_ok() {
        true => (first, second),
        false => (second, first),
    };
    assert!(small.unwrap().result().as_str().contains("small"));
    let error = large.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("2000 bytes"), "{error}");
    connector.shutdown().await;
}

#[tokio::test]
async fn a_notification_that_is_too_long_fails_no_call() {
    let connector = shell_with(
        r#"
        other() {
          case $line in *tools/call*)
            long=$(printf '%03000d' 7)
            printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%s"}}\n' "$long"
            text ok ;;
          esac
        }
        serve"#,
        |builder| builder.message_limit(SMALL),
    );
    assert_eq!(Client::new("a").text(&connector).await, "ok");
    connector.shutdown().await;
}
