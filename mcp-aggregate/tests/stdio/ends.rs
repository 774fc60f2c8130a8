//! How processes end: with their session, with the connector, and with this program.

use std::{
    process::{Child, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use mcp_core::ErrorKind;
use tokio::time::{sleep, timeout};

use crate::fixture::{Client, PATIENCE, shell, shell_with};

/// Names the script that [`program`] runs.
const SCRIPT: &str = "STDIO_TEST_SCRIPT";

/// A number of seconds that is in no other command line.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("7{:07}{next:03}", std::process::id())
}

/// A server that has started others, of which one is a grandchild and one ignores SIGTERM.
fn family(unique: &str) -> String {
    format!(
        r#"
        sleep {unique} &
        sh -c 'sleep {unique} & sleep {unique}' &
        sh -c 'trap "" TERM; sleep {unique}; :' &
        other() {{ case $line in *tools/call*) text ok ;; esac; }}
        serve"#
    )
}

/// Counts the processes with a number in their command line. A zombie has none.
fn alive(unique: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(unique))
        .count()
}

async fn until_alive(unique: &str, is_enough: impl Fn(usize) -> bool) {
    let waiting = async {
        while !is_enough(alive(unique)) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{} are alive", alive(unique));
}

#[tokio::test]
async fn shutdown_leaves_nothing_of_a_session_that_is_open_or_was_closed_before() {
    for closes in [false, true] {
        let unique = unique();
        let (connector, client) = (shell(&family(&unique)), Client::new("a"));
        assert_eq!(client.text(&connector).await, "ok");
        until_alive(&unique, |count| count >= 6).await;
        if closes {
            client.0.close();
        }
        connector.shutdown().await;
        assert_eq!(alive(&unique), 0, "closes: {closes}");
        let error = client.call(&connector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSent, "it is shut down");
    }
}

#[tokio::test]
async fn shutdown_leaves_nothing_of_a_start_in_progress() {
    let unique = unique();
    let connector = shell(&format!("sleep {unique} & sleep {unique}"));
    let client = Client::new("a");
    let impatient = timeout(Duration::from_millis(300), client.call(&connector));
    assert!(impatient.await.is_err());
    until_alive(&unique, |count| count == 3).await;
    connector.shutdown().await;
    assert_eq!(alive(&unique), 0);
}

#[tokio::test]
async fn a_connector_and_a_session_that_are_let_go_of_take_their_processes_with_them() {
    for drops in [false, true] {
        let unique = unique();
        let client = Client::new("a");
        let connector = shell_with(&family(&unique), |builder| {
            builder.scope(mcp_aggregate::SessionScope::PerSession)
        });
        assert_eq!(client.text(&connector).await, "ok");
        if drops {
            drop(connector);
        } else {
            client.0.close();
        }
        until_alive(&unique, |count| count == 0).await;
    }
}

#[test]
fn a_runtime_that_ends_takes_its_process_groups_with_it() {
    let unique = unique();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connector = shell(&family(&unique));
    let served = runtime.block_on(async { Client::new("a").text(&connector).await });
    assert_eq!(served, "ok");
    runtime.shutdown_timeout(Duration::from_secs(5));
    let waiting = until_alive(&unique, |count| count == 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(waiting);
    drop(connector);
}

/// Not a test, unless another runs it in a process of its own: serves until it is killed.
#[test]
fn program() {
    let Ok(script) = std::env::var(SCRIPT) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let connector = shell(&script);
        let client = Client::new("a");
        let served = client.call(&connector).await;
        assert!(served.is_ok(), "{served:?}");
        std::future::pending::<()>().await;
    });
}

fn run(script: &str) -> Child {
    // Signals that are ignored where the tests run would be ignored by the program too.
    std::process::Command::new("env")
        .args(["--default-signal=HUP,INT,TERM", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "ends::program", "--nocapture"])
        .env(SCRIPT, script)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn send(signal: &str, program: &Child) {
    let id = program.id().to_string();
    let sent = std::process::Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$1""#, signal, &id])
        .status();
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn nothing_outlives_a_program_that_is_killed() {
    for (signal, rounds) in [("KILL", 20), ("TERM", 5), ("INT", 5), ("HUP", 5)] {
        for _ in 0..rounds {
            // A server that serves, one behind a wrapper, and one that is still starting.
            for (script, count) in [
                (format!("setsid sleep <n> & {}", family("<n>")), 7),
                ("sh -c 'sleep <n> & sleep <n>'; :".to_owned(), 4),
                ("sleep <n> & sleep <n>".to_owned(), 3),
            ] {
                let unique = unique();
                let mut program = run(&script.replace("<n>", &unique));
                until_alive(&unique, |alive| alive >= count).await;
                send(signal, &program);
                program.wait().unwrap();
                until_alive(&unique, |alive| alive == 0).await;
            }
        }
    }
}
