//! What a browser's processes use, read from `/proc`, and ending them.

use std::time::Duration;

/// Limits on one browser, all its processes together. Enforced on Linux; elsewhere they are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BrowserLimits {
    memory: Option<u64>,
    cpu: Option<(f64, Duration)>,
}

/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);

impl BrowserLimits {
    /// No limits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            memory: None,
            cpu: None,
        }
    }

    /// Ends a browser whose processes use more memory of their own than this many bytes. Looked at twice a second.
    #[must_use]
    pub const fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Ends a browser that has used more than `cores` processors on average over `window`.
    #[must_use]
    pub const fn with_cpu(mut self, cores: f64, window: Duration) -> Self {
        self.cpu = Some((cores, window));
        self
    }

    pub(super) fn any(&self) -> bool {
        self.memory.is_some() || self.cpu.is_some()
    }
}

/// What processes use together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Bytes.
    pub(super) memory: u64,
    /// Processor time so far.
    pub(super) cpu: Duration,
}

/// A browser's main process.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pid: u32,
}

impl Watched {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until a limit is overstepped, and says which.
    pub(super) async fn until_over(&self, limits: &BrowserLimits) -> String {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut window = (tokio::time::Instant::now(), self.usage().cpu);
        loop {
            ticks.tick().await;
            let usage = self.usage();
            if let Some(most) = limits.memory
                && usage.memory > most
            {
                return format!(
                    "it used {} MiB of memory, and may use {} MiB",
                    usage.memory >> 20,
                    most >> 20
                );
            }
            if let Some((cores, length)) = limits.cpu {
                let elapsed = window.0.elapsed();
                if elapsed >= length {
                    let used =
                        usage.cpu.saturating_sub(window.1).as_secs_f64() / elapsed.as_secs_f64();
                    if used > cores {
                        return format!("it used {used:.1} processors, and may use {cores:.1}");
                    }
                    window = (tokio::time::Instant::now(), usage.cpu);
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod proc {
    use std::{collections::HashMap, fs, time::Duration};

    use super::{Usage, Watched};

    /// Kernel clock ticks in a second, the same on every Linux that Chromium runs on.
    const TICKS: u64 = 100;

    impl Watched {
        /// Finds the child of the driver that was started with this mark.
        pub(in crate::engine) fn find(driver: u32, id: &str) -> Option<Self> {
            let mark = format!("--mcp-browser={id}");
            let pid = parents().into_iter().find_map(|(pid, parent)| {
                let line = fs::read(format!("/proc/{pid}/cmdline"))
                    .ok()
                    .filter(|_| parent == driver)?;
                line.split(|byte| *byte == 0)
                    .any(|argument| argument == mark.as_bytes())
                    .then_some(pid)
            })?;
            Some(Self { pid })
        }

        pub(in crate::engine) fn usage(&self) -> Usage {
            let mut usage = Usage::default();
            for pid in family(self.pid) {
                // A process may end while it is looked at.
                let Ok(memory) = fs::read_to_string(format!("/proc/{pid}/statm")) else {
                    continue;
                };
                let mut pages = memory
                    .split(' ')
                    .skip(1)
                    .map(|field| field.parse::<u64>().unwrap_or_default());
                let (resident, shared) = (
                    pages.next().unwrap_or_default(),
                    pages.next().unwrap_or_default(),
                );
                usage.memory += resident.saturating_sub(shared) * rustix::param::page_size() as u64;
                if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
                    usage.cpu += cpu(&stat);
                }
            }
            usage
        }

        /// Kills the process and all below it.
        pub(in crate::engine) fn kill(&self) {
            for pid in family(self.pid) {
                let pid = i32::try_from(pid)
                    .ok()
                    .and_then(rustix::process::Pid::from_raw);
                if let Some(pid) = pid {
                    // It may have ended already.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    fn cpu(stat: &str) -> Duration {
        // The name in brackets may hold anything; the fields after it do not.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or_default()
        };
        Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS)
    }

    /// Every process and its parent.
    fn parents() -> HashMap<u32, u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some((pid, parent))
        })
        .collect()
    }

    /// A process and all below it.
    fn family(root: u32) -> Vec<u32> {
        let parents = parents();
        if !parents.contains_key(&root) {
            return Vec::new();
        }
        let mut family = vec![root];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            family.extend(
                parents
                    .iter()
                    .filter(|(_, of)| **of == parent)
                    .map(|(pid, _)| *pid),
            );
            next += 1;
        }
        family
    }
}

#[cfg(not(target_os = "linux"))]
impl Watched {
    pub(super) fn find(_: u32, _: &str) -> Option<Self> {
        None
    }

    pub(super) fn usage(&self) -> Usage {
        Usage::default()
    }

    pub(super) fn kill(&self) {}
}
