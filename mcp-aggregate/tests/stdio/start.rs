//! Processes that start badly.

use std::time::Duration;

use mcp_core::{ErrorKind, Timing};

use crate::fixture::{Client, PATIENCE, shell, shell_with};

#[tokio::test]
async fn a_program_that_dies_at_start_says_why_in_that_call_and_in_the_next() {
    let connector = shell("echo API key missing, set FOO_KEY >&2; exit 3");
    let client = Client::new("a");
    // Some attempts start it again, and later ones are refused for a while.
    for attempt in 0..6 {
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
async fn a_program_that_dies_in_a_call_says_why_and_serves_the_next() {
    let script =
        "other() { case $line in *tools/call*) echo out of cheese >&2; exit 4 ;; esac; }; serve";
    let connector = shell(script);
    let client = Client::new("a");
    for _ in 0..3 {
        let error = client.call(&connector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
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
    let timing = Timing::default().with_start(Duration::from_secs(1));
    let connector = shell_with(script, |builder| builder.timing(timing));
    let error = Client::new("a").call(&connector).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSent);
    assert!(error.message().contains("waiting for a licence"), "{error}");
    connector.shutdown().await;
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_end_the_start_that_it_caused() {
    let folder = std::env::temp_dir().join(format!("stdio-start-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let starts = folder.join("starts");
    let script = format!(
        "echo started >> '{}'; sleep 1
        other() {{ case $line in *tools/call*) text ok ;; esac; }}; serve",
        starts.display()
    );
    let (connector, client) = (shell(&script), Client::new("a"));
    let impatient = tokio::time::timeout(Duration::from_millis(200), client.call(&connector));
    assert!(impatient.await.is_err());
    let (first, second) = tokio::join!(client.text(&connector), client.text(&connector));
    assert_eq!((first.as_str(), second.as_str()), ("ok", "ok"));
    let started = std::fs::read_to_string(&starts).unwrap();
    assert_eq!(started.lines().count(), 1, "one start for all");
    connector.shutdown().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_server_that_ends_with_each_call_is_started_again_for_the_next() {
    let script = "other() { case $line in *tools/call*) text ok; exit ;; esac; }; serve";
    let (connector, client) = (shell(script), Client::new("a"));
    for _ in 0..6 {
        let served = async {
            // The end of the process may overtake the next call.
            while client.call(&connector).await.is_err() {}
        };
        tokio::time::timeout(PATIENCE, served)
            .await
            .expect("it is served again");
    }
    connector.shutdown().await;
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_executes_no_call_twice() {
    let folder = std::env::temp_dir().join(format!("stdio-killed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let executed = folder.join("executed");
    // Each call says who serves, after it has left its mark.
    let script = format!(
        r#"other() {{
          case $line in *'"n":'*)
            call=${{line#*'"n":'}}; call=${{call%%\}}*}}
            echo "$call" >> '{}'; text "$$" ;;
          esac
        }}
        serve"#,
        executed.display()
    );
    let (connector, client) = (shell(&script), Client::new("a"));
    let mut answered = Vec::new();
    for number in 0..60 {
        let params = serde_json::json!({ "name": "t", "arguments": { "n": number } });
        let call = client.request(mcp_core::Method::TOOLS_CALL, params);
        let answer = tower::ServiceExt::oneshot(connector.clone(), call);
        let answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("no hang");
        let Ok(answer) = answer else { continue };
        answered.push(number.to_string());
        if number % 10 == 5 {
            let answer: serde_json::Value = answer.decode().unwrap();
            let process = answer["content"][0]["text"].as_str().unwrap().to_owned();
            let killed = std::process::Command::new("kill")
                .args(["-9", &process])
                .status();
            assert!(killed.unwrap().success());
        }
    }
    let marks = std::fs::read_to_string(&executed).unwrap();
    let mut marks: Vec<_> = marks.lines().map(str::to_owned).collect();
    assert!(answered.iter().all(|number| marks.contains(number)));
    let all = marks.len();
    marks.sort();
    marks.dedup();
    assert_eq!(marks.len(), all, "executed once");
    assert!(
        answered.len() >= 45,
        "it is served again each time: {}",
        answered.len()
    );
    connector.shutdown().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
