use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use mcp_core::{AuditEvent, AuditSink, Error, ErrorKind};

use super::chain::{self, AuditBreak, GENESIS};

/// How long events may wait for the disk.
const FLUSH: Duration = Duration::from_millis(100);

/// How many bytes may wait for the disk.
const WAITING: usize = 16 << 20;

/// What happens when events cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// What cannot be recorded is refused.
    Refuse,
    /// It continues; [`FileAudit::dropped`] counts what is missing.
    Continue,
}

/// Records events into a file, one JSON object a line, chained by hashes. Clones write to the same file.
///
/// A thread of its own writes. [`AuditSink::record`] returns when the event has its place in the chain; it is on the disk
/// 100 ms later at most. One process at a time may write to a file.
#[derive(Clone)]
pub struct FileAudit {
    shared: Arc<Shared>,
    /// Stops the thread when the last clone is dropped.
    _owner: Arc<Owner>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    on_failure: OnFailure,
}

struct State {
    head: [u8; 32],
    waiting: Vec<u8>,
    in_flight: bool,
    failed: bool,
    dropped: u64,
    closing: bool,
}

/// Where lines are written to.
trait Disk: io::Write + Send + 'static {
    /// Returns when everything written is there to stay.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileAudit {
    /// Opens a record, or begins one that its owner alone may read. Checks the chain of what is there.
    ///
    /// A last line that is not complete is cut off: its event was never promised to be there.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, is a link, may be written by others than its owner or read by everybody (mode 0640 is the
    /// widest that is taken), or its chain is broken.
    pub fn open(path: impl AsRef<Path>, on_failure: OnFailure) -> Result<Self, AuditBreak> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = path.as_ref();
        let mut file = options.open(path)?;
        check_file(path, &file)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::Error(error) => error,
            std::fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process writes this record",
            ),
        })?;
        let head = match chain::verify(BufReader::new(&mut file)) {
            Ok(verified) => verified.head,
            Err(AuditBreak::Incomplete { .. }) => {
                cut(&mut file)?;
                file.seek(SeekFrom::Start(0))?;
                chain::verify(BufReader::new(&mut file))?.head
            }
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::End(0))?;
        Ok(Self::start(
            chain::unhex_head(&head).unwrap_or(GENESIS),
            file,
            on_failure,
        )?)
    }

    fn start(head: [u8; 32], mut disk: impl Disk, on_failure: OnFailure) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                head,
                waiting: Vec::new(),
                in_flight: false,
                failed: false,
                dropped: 0,
                closing: false,
            }),
            wake: Condvar::new(),
            on_failure,
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("mcp-audit".to_owned())
            .spawn(move || write_all(&own, &mut disk))?;
        let owner = Owner {
            shared: Arc::clone(&shared),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self {
            shared,
            _owner: Arc::new(owner),
        })
    }

    /// Returns the hash of the newest event, in hexadecimal, to be kept elsewhere.
    #[must_use]
    pub fn head(&self) -> String {
        HEXLOWER.encode(&self.shared.lock().head)
    }

    /// Returns how many events were not recorded.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Waits until everything recorded so far is on the disk. Blocks the thread.
    pub fn flush(&self) {
        let mut state = self.shared.lock();
        self.shared.wake.notify_all();
        while (!state.waiting.is_empty() || state.in_flight) && !state.failed {
            let waited = self.shared.wake.wait_timeout(state, FLUSH);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn add(&self, event: &AuditEvent) -> bool {
        let line = chain::describe(event);
        let mut state = self.shared.lock();
        if state.failed || state.waiting.len() >= WAITING {
            state.dropped += 1;
            return false;
        }
        let State { head, waiting, .. } = &mut *state;
        let first = waiting.is_empty();
        *head = chain::append(waiting, head, &line);
        drop(state);
        if first {
            self.shared.wake.notify_all();
        }
        true
    }
}

/// Refuses what is no file of its own at this very path, and what others could change.
fn check_file(path: &Path, file: &File) -> io::Result<()> {
    let refused = |reason| io::Error::new(io::ErrorKind::PermissionDenied, reason);
    let opened = file.metadata()?;
    let named = path.symlink_metadata()?;
    if !opened.is_file() || !named.is_file() {
        return Err(refused(
            "an audit record has to be a regular file, and no link to one",
        ));
    }
    match is_exposed(&opened) {
        true => Err(refused(
            "others may write the audit record, or everybody may read it; set its mode to 0600 or 0640",
        )),
        false => Ok(()),
    }
}

#[cfg(unix)]
fn is_exposed(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o027 != 0
}

#[cfg(not(unix))]
fn is_exposed(_: &std::fs::Metadata) -> bool {
    false
}

/// Cuts off what follows the last line feed.
fn cut(file: &mut File) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut keep = 0;
    let mut at = 0;
    let mut buffer = [0; 64 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return file.set_len(keep);
        }
        if let Some(last) = buffer[..read].iter().rposition(|byte| *byte == b'\n') {
            keep = at + last as u64 + 1;
        }
        at += read as u64;
    }
}

fn write_all(shared: &Shared, file: &mut impl Disk) {
    loop {
        let mut state = shared.lock();
        while state.waiting.is_empty() && !state.closing {
            let waited = shared.wake.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let closing = state.closing;
        let batch = std::mem::take(&mut state.waiting);
        state.in_flight = !batch.is_empty();
        drop(state);
        if !batch.is_empty() {
            write_batch(shared, file, &batch);
            shared.wake.notify_all();
        } else if closing {
            return;
        }
        if !closing {
            // Events of the meantime go together, so that each sync serves many.
            std::thread::park_timeout(FLUSH / 2);
        }
    }
}

/// Writes until it works: the chain must not lose what it has promised. A disk that is full holds everything up.
fn write_batch(shared: &Shared, file: &mut impl Disk, batch: &[u8]) {
    let mut done = 0;
    loop {
        let result = write_from(file, &batch[done..], &mut done);
        let mut state = shared.lock();
        match result {
            Ok(()) => {
                state.failed = false;
                state.in_flight = false;
                return;
            }
            Err(error) => {
                if !state.failed {
                    tracing::error!(%error, "the audit record cannot be written");
                }
                state.failed = true;
                if state.closing {
                    return;
                }
            }
        }
        drop(state);
        std::thread::park_timeout(FLUSH);
    }
}

fn write_from(file: &mut impl Disk, mut rest: &[u8], done: &mut usize) -> io::Result<()> {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                *done += written;
                rest = &rest[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.sync()
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // A thread that panicked has nothing left to write.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl AuditSink for FileAudit {
    async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        match self.add(event) || self.shared.on_failure == OnFailure::Continue {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Unavailable,
                "the call cannot be recorded now, and is refused for it",
            )),
        }
    }
}

impl fmt::Debug for FileAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileAudit")
            .field("on_failure", &self.shared.on_failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::SystemTime,
    };

    use mcp_core::{AuditOutcome, Principal};

    use super::*;

    /// A disk that is full until it is told otherwise, and writes a little at a time.
    #[derive(Clone, Default)]
    struct Full {
        room: Arc<AtomicBool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.room.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let part = &bytes[..bytes.len().min(7)];
            self.written.lock().unwrap().extend_from_slice(part);
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Full {
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event() -> AuditEvent {
        let who = Principal::local();
        AuditEvent::new(SystemTime::now(), who, "a", AuditOutcome::Succeeded)
    }

    #[tokio::test]
    async fn a_full_disk_refuses_or_counts_as_declared_and_the_chain_survives_it() {
        for (declared, fits) in [(OnFailure::Refuse, false), (OnFailure::Continue, true)] {
            let disk = Full::default();
            let audit = FileAudit::start(GENESIS, disk.clone(), declared).unwrap();
            let mut outcome = Ok(());
            for _ in 0..500 {
                outcome = audit.record(&event()).await;
                if audit.dropped() > 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(outcome.is_ok(), fits, "{declared:?}");
            assert!(audit.dropped() > 0);
            disk.room.store(true, Ordering::SeqCst);
            for _ in 0..500 {
                let dropped = audit.dropped();
                if audit.record(&event()).await.is_ok() && audit.dropped() == dropped {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            audit.flush();
            let head = audit.head();
            let written = disk.written.lock().unwrap().clone();
            assert_eq!(chain::verify(&written[..]).unwrap().head, head);
        }
    }
}
