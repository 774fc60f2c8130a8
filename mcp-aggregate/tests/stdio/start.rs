//! Processes that start badly.

use mcp_core::ErrorKind;

use crate::fixture::{Client, shell};

#[tokio::test]
async fn a_program_that_dies_at_start_says_why_in_that_call_and_in_the_next() {
    let connector = shell("echo API key missing, set FOO_KEY >&2; exit 3");
    let client = Client::new("a");
    for attempt in 0..3 {
        let error = client.call(&connector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSent, "{error:?}");
        let message = error.message();
        for part in ["exit status: 3", "API key missing, set FOO_KEY"] {
            assert!(message.contains(part), "attempt {attempt}: {message}");
        }
    }
    connector.shutdown().await;
}

#[tokio::test]
async fn a_program_that_dies_after_it_has_served_says_why_in_the_call_and_in_the_next() {
    let script =
        "other() { case $line in *tools/call*) echo out of cheese >&2; exit 4 ;; esac; }; serve";
    let connector = shell(script);
    let client = Client::new("a");
    let kinds = [ErrorKind::Unavailable, ErrorKind::NotSent];
    for kind in kinds {
        let error = client.call(&connector).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        let message = error.message();
        for part in ["exit status: 4", "out of cheese"] {
            assert!(message.contains(part), "{message}");
        }
    }
    connector.shutdown().await;
}

#[tokio::test]
async fn a_program_that_is_silent_at_start_shows_its_stderr_when_time_is_up() {
    let script = "echo waiting for a licence >&2; while read -r line; do :; done";
    let connector = shell(script).with_start_timeout(std::time::Duration::from_secs(1));
    let error = Client::new("a").call(&connector).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSent);
    assert!(error.message().contains("waiting for a licence"), "{error}");
    connector.shutdown().await;
}
