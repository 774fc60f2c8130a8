//! An upstream that is killed every second, under load from clients of both eras.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

mod support;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use support::{Client, Gateway, PATIENCE, TemporaryFile, server, signal};

/// How often the server is killed.
const KILLS: usize = 15;

/// What the clients of one upstream saw.
#[derive(Default)]
struct Seen {
    next: AtomicUsize,
    ends: AtomicBool,
}

/// Calls a tool until it is told to end; returns the numbers of the calls that were answered and how many were not.
async fn load(client: Client, tool: &'static str, seen: Arc<Seen>) -> (Vec<usize>, Vec<String>) {
    let (mut answered, mut failed) = (Vec::new(), Vec::new());
    while !seen.ends.load(Ordering::Relaxed) {
        let number = seen.next.fetch_add(1, Ordering::Relaxed);
        let arguments = json!({ "text": format!("call-{number}"), "n": number });
        match client.call(tool, arguments).await {
            Ok(text) => {
                let (own, _) = text.split_once(' ').unwrap();
                assert_eq!(own, format!("call-{number}"), "the answer of this call");
                answered.push(number);
            }
            Err(error) => failed.push(error.to_string()),
        }
        sleep(Duration::from_millis(5)).await;
    }
    (answered, failed)
}

/// Calls until it is answered; returns the process that answered.
async fn served_by(client: &Client) -> u32 {
    let answered = async {
        loop {
            if let Ok(text) = client.call("killed__echo", json!({})).await {
                return text.rsplit_once(' ').unwrap().1.parse().unwrap();
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, answered).await.expect("it serves again")
}

/// Kills every process of the upstream once a second, after it has served for a while.
async fn kill(gateway: &Gateway, clients: &[Client]) -> Vec<Duration> {
    let mut pauses = Vec::new();
    for _ in 0..KILLS {
        sleep(Duration::from_secs(1)).await;
        for client in clients {
            served_by(client).await;
        }
        let processes = gateway.processes_with("killed-");
        assert!(!processes.is_empty());
        for process in &processes {
            // It may have ended by itself.
            signal("KILL", *process);
        }
        let killed = Instant::now();
        for client in clients {
            assert!(!processes.contains(&served_by(client).await));
        }
        pauses.push(killed.elapsed());
    }
    pauses
}

#[tokio::test]
async fn an_upstream_that_is_killed_every_second_executes_nothing_twice_and_harms_no_other() {
    let [executed, other] = ["killed", "other"].map(TemporaryFile::new);
    let recording =
        |file: &TemporaryFile| format!("{} --executed {}", server(), file.path().display());
    let upstreams = [
        ("killed", recording(&executed)),
        ("other", recording(&other)),
    ];
    let gateway = Gateway::start(&upstreams, &[]).await;
    gateway.is_healthy().await;
    let address = gateway.address.clone();
    let (killed, calm) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let (mut of_killed, mut of_other) = (JoinSet::new(), JoinSet::new());
    for _ in 0..2 {
        for client in [Client::session(&address).await, Client::stateless(&address)] {
            of_killed.spawn(load(client, "killed__echo", Arc::clone(&killed)));
        }
        for client in [Client::session(&address).await, Client::stateless(&address)] {
            of_other.spawn(load(client, "other__echo", Arc::clone(&calm)));
        }
    }
    let clients = [Client::session(&address).await, Client::stateless(&address)];
    let pauses = kill(&gateway, &clients).await;
    println!("served again after {pauses:?}");
    for seen in [&killed, &calm] {
        seen.ends.store(true, Ordering::Relaxed);
    }
    let ended = |ended: Vec<(Vec<usize>, Vec<String>)>| -> (Vec<_>, Vec<_>) {
        let (answered, failed): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        (answered.concat(), failed.concat())
    };
    let (answered, failed) = ended(of_killed.join_all().await);
    println!(
        "killed: {} answered, {} failed",
        answered.len(),
        failed.len()
    );
    let marks = executed_once(&executed);
    assert!(answered.iter().all(|number| marks.contains(number)));
    assert!(answered.len() > KILLS, "{} are answered", answered.len());
    let (answered, failed) = ended(of_other.join_all().await);
    println!(
        "other: {} answered, {} failed",
        answered.len(),
        failed.len()
    );
    assert_eq!(
        failed,
        Vec::<String>::new(),
        "the other upstream is untouched"
    );
    assert_eq!(executed_once(&other).len(), answered.len());
}

/// Returns which calls were executed, each of them once.
fn executed_once(file: &TemporaryFile) -> HashSet<usize> {
    let marks = std::fs::read_to_string(file.path()).unwrap();
    let marks: Vec<_> = marks.lines().map(|mark| mark.parse().unwrap()).collect();
    let distinct: HashSet<_> = marks.iter().copied().collect();
    assert_eq!(distinct.len(), marks.len(), "executed once");
    distinct
}
