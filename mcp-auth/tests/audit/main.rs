//! The audit record: its chain, its failures, and what it does not hold.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod crash;
mod sql;

use std::{io::BufReader, path::Path, sync::Arc, time::SystemTime};

use mcp_auth::audit::{AuditBreak, AuditLayer, FileAudit, OnFailure, verify};
use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, Error, ErrorKind, MemoryAudit, Method, Principal, Request,
    Response, Stack,
};
use serde_json::json;
use sha2::Digest as _;
use tower::{ServiceExt, service_fn};

fn event(n: usize) -> AuditEvent {
    let who = Principal::authenticated("https://as.example", &format!("u{n}"));
    let mut event = AuditEvent::new(
        SystemTime::now(),
        who,
        "tools/call",
        AuditOutcome::Succeeded,
    );
    event.target = Some("a\"b\n".into());
    event
}

async fn write(path: &Path, count: usize) -> String {
    let audit = FileAudit::open(path, OnFailure::Refuse).unwrap();
    for n in 0..count {
        audit.record(&event(n)).await.unwrap();
    }
    audit.flush();
    audit.head()
}

fn check(path: &Path) -> Result<(u64, String), AuditBreak> {
    let file = std::fs::File::open(path).unwrap();
    verify(BufReader::new(file)).map(|whole| (whole.events, whole.head))
}

#[tokio::test]
async fn a_record_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    write(&path, 10).await;
    let head = write(&path, 5).await;
    assert_eq!(check(&path).unwrap(), (15, head));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn every_change_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let head = write(&path, 6).await;
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let put = |lines: &[&str]| std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    put(&[&lines[..2], &lines[3..]].concat());
    assert!(
        matches!(check(&path), Err(AuditBreak::Broken { line: 3 })),
        "removed"
    );
    put(&[&lines[..3], &lines[2..]].concat());
    assert!(
        matches!(check(&path), Err(AuditBreak::Broken { line: 4 })),
        "repeated"
    );
    let changed = lines[4].replace("u4", "u5");
    put(&[&lines[..4], &[&*changed], &lines[5..]].concat());
    assert!(
        matches!(check(&path), Err(AuditBreak::Broken { line: 5 })),
        "changed"
    );
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    put(&swapped);
    assert!(
        matches!(check(&path), Err(AuditBreak::Broken { line: 2 })),
        "swapped"
    );
    assert!(
        FileAudit::open(&path, OnFailure::Refuse).is_err(),
        "a broken chain is not gone on with"
    );
    // Cut off the end: whole, but the head is another than the one kept elsewhere.
    put(&lines[..5]);
    assert_ne!(check(&path).unwrap().1, head);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    write(&path, 3).await;
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    assert!(matches!(
        check(&path),
        Err(AuditBreak::Incomplete { line: 3 })
    ));
    let head = write(&path, 1).await;
    assert_eq!(check(&path).unwrap(), (3, head));
}

#[tokio::test]
async fn two_processes_do_not_write_the_same_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let first = FileAudit::open(&path, OnFailure::Refuse).unwrap();
    assert!(matches!(
        FileAudit::open(&path, OnFailure::Refuse),
        Err(AuditBreak::Io(_))
    ));
    drop(first);
    assert!(FileAudit::open(&path, OnFailure::Refuse).is_ok());
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_is_not_a_record() {
    assert!(matches!(
        FileAudit::open("/dev/full", OnFailure::Refuse),
        Err(AuditBreak::Io(_))
    ));
}

#[tokio::test]
async fn calls_are_recorded_with_a_digest_and_without_their_arguments() {
    let audit = Arc::new(MemoryAudit::new(std::num::NonZeroUsize::new(16).unwrap()));
    let inner = service_fn(|request: Request| async move {
        match request.tool() {
            Some("deny") => Err(Error::new(ErrorKind::PermissionDenied, "no")),
            Some("fail") => Ok(Response::new(json!({ "isError": true }).into())),
            _ => Ok::<_, Error>(Response::empty()),
        }
    });
    let service = Stack::new(inner)
        .layer(AuditLayer::new(audit.clone()))
        .into_service();
    for name in ["ok", "deny", "fail"] {
        let params = json!({ "name": name, "arguments": { "password": "hunter2" } });
        let request = Request::new(Method::TOOLS_CALL, Some(params.into())).unwrap();
        let _ = service.clone().oneshot(request).await;
    }
    let events = audit.events();
    let outcomes: Vec<_> = events
        .iter()
        .map(|event| (&*event.action, &event.outcome))
        .collect();
    assert_eq!(outcomes.len(), 6, "a beginning and an outcome each");
    assert_eq!(*outcomes[1].1, AuditOutcome::Succeeded);
    assert_eq!(
        *outcomes[3].1,
        AuditOutcome::Denied("permission_denied".into())
    );
    assert_eq!(*outcomes[5].1, AuditOutcome::Failed("tool error".into()));
    assert!(events.iter().all(|event| event.digest.is_some()));
    assert!(!format!("{events:?}").contains("hunter2"));
}

struct Away;

#[async_trait::async_trait]
impl AuditSink for Away {
    async fn record(&self, _: &AuditEvent) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Unavailable, "the sink is away"))
    }
}

#[tokio::test]
async fn a_tool_is_not_called_if_that_cannot_be_recorded() {
    let called = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = called.clone();
    let inner = service_fn(move |_: Request| {
        seen.store(true, std::sync::atomic::Ordering::SeqCst);
        async { Ok::<_, Error>(Response::empty()) }
    });
    let service = Stack::new(inner)
        .layer(AuditLayer::new(Arc::new(Away)))
        .into_service();
    let request = Request::new(Method::TOOLS_CALL, Some(json!({ "name": "x" }).into())).unwrap();
    assert!(service.oneshot(request).await.is_err());
    assert!(!called.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test]
async fn texts_of_any_length_leave_a_record_that_is_read_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = FileAudit::open(&path, OnFailure::Refuse).unwrap();
    let long = "\u{1}\u{e9}".repeat(700_000);
    let who = Principal::authenticated(&long, &long)
        .with_tenant(&long)
        .with_actors(std::iter::repeat_n(long.as_str(), 20));
    let denied = AuditOutcome::Denied(long.clone().into());
    let mut event = AuditEvent::new(SystemTime::now(), who, long.clone(), denied);
    event.target = Some(long.as_str().into());
    audit.record(&event).await.unwrap();
    audit.flush();
    let head = audit.head();
    drop(audit);
    assert_eq!(check(&path).unwrap(), (1, head));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.len() < 256 << 10, "{}", text.len());
    let whole = sha2::Sha256::digest(long.as_bytes());
    let digest: String = whole.iter().map(|byte| format!("{byte:02x}")).collect();
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    let target = line["event"]["target"].as_str().unwrap();
    assert!(target.contains(&digest) && target.contains("2100000 bytes"));
    assert!(FileAudit::open(&path, OnFailure::Refuse).is_ok());
}

#[tokio::test]
async fn a_long_line_of_an_earlier_version_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let text = format!(r#"{{"target":"{}"}}"#, "a".repeat(2 << 20));
    let hash = sha2::Sha256::new()
        .chain_update([0; 32])
        .chain_update(&text)
        .finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    // Begun here, so that it is private.
    drop(FileAudit::open(&path, OnFailure::Refuse).unwrap());
    std::fs::write(&path, format!("{{\"event\":{text},\"hash\":\"{hash}\"}}\n")).unwrap();
    let head = write(&path, 1).await;
    assert_eq!(check(&path).unwrap(), (2, head));
}

/// A line that never ends.
struct Endless;

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

#[test]
fn a_line_that_is_too_long_is_not_taken_for_an_incomplete_one() {
    let read = verify(BufReader::new(Endless));
    assert!(matches!(read, Err(AuditBreak::TooLong { line: 1 })));
}

#[cfg(unix)]
#[tokio::test]
async fn a_record_that_others_can_change_or_that_is_a_link_is_not_opened() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    write(&path, 1).await;
    let open = |path: &Path| FileAudit::open(path, OnFailure::Refuse);
    for (mode, fits) in [
        (0o600, true),
        (0o640, true),
        (0o660, false),
        (0o644, false),
        (0o606, false),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let opened = open(&path);
        assert_eq!(opened.is_ok(), fits, "{mode:o}");
        if let Err(AuditBreak::Io(error)) = opened {
            assert!(error.to_string().contains("0600"), "{error}");
        }
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let link = dir.path().join("link.jsonl");
    symlink(&path, &link).unwrap();
    assert!(open(&link).is_err());
}
