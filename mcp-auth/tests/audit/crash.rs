//! Processes that are killed while they write, and disks that are really full.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mcp_auth::audit::{AuditBreak, FileAudit, OnFailure};

use crate::check;

/// The example that writes, which cargo builds beside the tests.
fn writer() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/audit");
    assert!(
        path.exists(),
        "{path:?} is missing; run .ci/test, or cargo build --examples"
    );
    path
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the number of an event and the milliseconds at which it was recorded.
fn read(line: &str) -> Option<(u64, u64)> {
    let (number, at) = line.split_once(' ')?;
    Some((number.parse().ok()?, at.parse().ok()?))
}

/// Kills a writer, and returns how long before the last event that it recorded the first lost one was, in milliseconds.
fn kill(path: &Path, after: u64) -> u64 {
    let mut command = Command::new(writer());
    command.arg("write").arg(path).stdout(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut recorded = Vec::new();
    while let Some(event) = lines.next().and_then(|line| read(&line.unwrap())) {
        recorded.push(event);
        if event.1 >= after {
            break;
        }
    }
    // SIGKILL, on Unix.
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    // What it had said before it was killed counts too.
    recorded.extend(lines.map_while(|line| read(&line.ok()?)));
    let found = match check(path) {
        Ok((events, _)) => events,
        Err(AuditBreak::Incomplete { line }) => line - 1,
        Err(error) => panic!("{error}"),
    };
    // The next process goes on where the killed one ended.
    drop(FileAudit::open(path, OnFailure::Refuse).unwrap());
    assert_eq!(check(path).unwrap().0, found);
    let last = recorded.last().unwrap().1;
    let lost = recorded.iter().find(|(number, _)| *number > found);
    lost.map_or(0, |(_, at)| last - at)
}

#[test]
fn after_kill_9_the_chain_is_whole_and_100_milliseconds_are_lost_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let mut lost: Vec<u64> = (0..5)
        .map(|n| kill(&dir.path().join(format!("{n}.jsonl")), 400 + 37 * n))
        .collect();
    lost.sort_unstable();
    // A machine that is busy with something else may hold up the thread that writes, but not every time.
    assert!(lost[2] <= 100, "{lost:?} ms");
    assert!(lost[4] <= 1000, "{lost:?} ms");
}

/// The limit of the shell makes the file system say that there is no room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_and_leaves_a_chain_that_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let mut command = Command::new("bash");
    // Units of 1 KiB; the signal would end the process before it is told.
    command.args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" write \"$1\""]);
    command
        .arg(writer())
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = Killed(command.spawn().unwrap());
    let mut said = String::new();
    let mut output = BufReader::new(child.0.stdout.take().unwrap());
    let ends = std::thread::spawn(move || output.read_to_string(&mut said).map(|_| said));
    let started = tokio::time::Instant::now();
    while !ends.is_finished() && started.elapsed() < Duration::from_secs(30) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(
        ends.is_finished(),
        "a writer without room goes on as if there were some"
    );
    let said = ends.join().unwrap().unwrap();
    assert!(said.trim_end().ends_with("refused for it"), "{said}");
    let size = fs::metadata(&path).unwrap().len();
    assert!(size <= 32 << 10, "{size}");
    // With room again, the record goes on; what did not fit was refused or lost with the process, and nothing else.
    drop(FileAudit::open(&path, OnFailure::Refuse).unwrap());
    let (events, _) = check(&path).unwrap();
    assert!(events > 10, "{events}");
}
