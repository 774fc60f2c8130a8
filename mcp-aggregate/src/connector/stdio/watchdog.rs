//! Ends process groups when this program has ended without doing so itself, be it by SIGKILL.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::process::Command;

/// Keeps a list of process groups, and kills those that are left when its input ends: a pipe that only this program holds.
/// Signals that a service manager sends to everything do not end it before that.
///
/// Then, where the system shows the environment of processes (Linux), it kills what carries the mark of this program: what
/// has left its group, and what was started in the very moment in which this program was killed. Twice, since a process may
/// have been starting another one.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
mark=$1
groups=
while read -r what group; do
  case $what in
    +) groups="$groups $group" ;;
    -) rest=
       for one in $groups; do [ "$one" = "$group" ] || rest="$rest $one"; done
       groups=$rest ;;
  esac
done
for one in $groups; do kill -s KILL -- "-$one"; done
for round in 1 2; do
  for file in $(grep -ls "$mark" /proc/[0-9]*/environ); do
    process=${file#/proc/}
    kill -s KILL "${process%/environ}"
  done
done
"#;

/// The variable by which processes carry the mark.
const MARK: &str = "MCP_AGGREGATE_MARK";

/// A process beside this program that kills the groups which are left when this program ends.
///
/// The signal of a parent's death (`PR_SET_PDEATHSIG`) reaches only the process that was started, not what that has started
/// (wrappers such as `npx` start the server as their child), and only Linux has it.
pub(super) struct Watchdog {
    mark: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: BTreeSet<u32>,
    pipe: Option<File>,
    has_warned: bool,
}

/// A group that is killed when this program ends. Dropping it takes the group off the list.
pub(super) struct Watched {
    watchdog: Arc<Watchdog>,
    group: u32,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        Self {
            mark: format!("{:032x}", rand::random::<u128>()),
            state: Mutex::default(),
        }
    }

    /// Marks a command that is about to be run, and starts the process that keeps the list where there is none.
    pub(super) fn prepare(&self, command: &mut Command) {
        command.env(MARK, &self.mark);
        let mut state = self.lock();
        if state.pipe.is_none() {
            let started = state.start(&self.mark);
            state.warn(started);
        }
    }

    /// Adds a group to the list.
    pub(super) fn watch(self: &Arc<Self>, group: u32) -> Watched {
        let mut state = self.lock();
        state.groups.insert(group);
        state.tell('+', group, &self.mark);
        Watched {
            watchdog: Arc::clone(self),
            group,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, what: char, group: u32, mark: &str) {
        let told = match &mut self.pipe {
            Some(pipe) => pipe.write_all(format!("{what} {group}\n").as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        // It may have been killed: another one takes over.
        let told = told.or_else(|_| self.start(mark));
        self.warn(told);
    }

    fn warn(&mut self, told: io::Result<()>) {
        if let Err(error) = told
            && !std::mem::replace(&mut self.has_warned, true)
        {
            tracing::warn!(%error, "processes of upstreams may outlive this program if it is killed");
        }
    }

    /// Starts the process and tells it the whole list.
    fn start(&mut self, mark: &str) -> io::Result<()> {
        self.pipe = None;
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sh", mark])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut pipe = File::from(stdin.into_owned_fd()?);
        let list: String = self.groups.iter().map(|one| format!("+ {one}\n")).collect();
        pipe.write_all(list.as_bytes())?;
        self.pipe = Some(pipe);
        Ok(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = self.watchdog.lock();
        state.groups.remove(&self.group);
        if state.pipe.is_some() {
            state.tell('-', self.group, &self.watchdog.mark);
        }
    }
}
