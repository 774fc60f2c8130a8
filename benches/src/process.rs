//! Processor time and memory of a process and its children, as Linux reports them.

use std::{fs, time::Duration};

/// Clock ticks per second in `/proc`; Linux has had no other value for programs since 2.6.
const TICKS: u64 = 100;

/// Processor time that the process has used, without its descendants.
#[must_use]
pub fn cpu(pid: u32) -> Duration {
    used(&tree(pid), |process| process.pid == pid)
}

/// Processor time that the living descendants of the process have used.
#[must_use]
pub fn cpu_of_descendants(pid: u32) -> Duration {
    used(&tree(pid), |process| process.pid != pid)
}

fn used(processes: &[Process], counts: impl Fn(&Process) -> bool) -> Duration {
    let counted = processes.iter().filter(|process| counts(process));
    let ticks: u64 = counted.map(|process| process.ticks).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Resident memory of the process and all its living descendants, in KiB.
#[must_use]
pub fn resident_kib(pid: u32) -> u64 {
    tree(pid)
        .iter()
        .filter_map(|process| resident(process.pid))
        .sum()
}

struct Process {
    pid: u32,
    parent: u32,
    ticks: u64,
}

fn tree(root: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others: Vec<Process> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect();
    let mut family = Vec::new();
    let mut wanted = vec![root];
    while let Some(parent) = wanted.pop() {
        let (found, rest): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|process| process.pid == parent || process.parent == parent);
        wanted.extend(
            found
                .iter()
                .map(|process| process.pid)
                .filter(|pid| *pid != parent),
        );
        family.extend(found);
        others = rest;
    }
    family
}

/// Reads one line of `/proc/PID/stat` (proc(5)); the name in it may hold anything, brackets too.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
    })
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name() {
        let line = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 2 3 4 15 6 100 100 20 0";
        let process = parse(42, line).unwrap();
        assert_eq!((process.pid, process.parent, process.ticks), (42, 7, 21));
        assert!(parse(42, "42 (x) S").is_none());
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_kib(std::process::id()) > 100);
    }
}
