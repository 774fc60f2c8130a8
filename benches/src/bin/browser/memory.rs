//! What processes take, read from `/proc`.

use std::collections::BTreeMap;

use crate::Outcome;

/// Proportional memory of a process in bytes.
pub(crate) fn pss(pid: Option<u32>) -> Outcome<u64> {
    let pid = pid.ok_or("the process has ended")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .ok_or("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// The same of a process and all below it.
pub(crate) fn tree(pid: Option<u32>) -> Outcome<u64> {
    let root = pid.ok_or("the process has ended")?;
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.insert(pid, parent.unwrap_or_default());
    }
    let (mut family, mut next) = (vec![root], 0);
    while let Some(parent) = family.get(next).copied() {
        family.extend(
            parents
                .iter()
                .filter(|(_, of)| **of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    // A process may end while it is looked at.
    Ok(family
        .into_iter()
        .filter_map(|pid| pss(Some(pid)).ok())
        .sum())
}
