//! The sandbox as an ordinary user, and windows on a display.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]

mod support;

use std::{
    io::Read,
    process::{Command, Stdio},
};

use mcp_browser::{BrowserErrorKind as K, DriverConfig, Mode, Sandbox, Screenshot, SessionOptions};
use mcp_core::Principal;
use support::{config, driver, program, service, session, site};

/// Set for the run of this very test as an ordinary user.
const INNER: &str = "MCP_BROWSER_TEST_AS_USER";

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .any(|line| line == "Uid:\t0\t0\t0\t0")
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_sandboxed_for_ordinary_users_and_say_so_where_not() {
    if !is_root() {
        return sandboxed().await;
    }
    assert!(std::env::var_os(INNER).is_none(), "the user was changed");
    // Chromium has no sandbox as root: that is said, and refused where it is required.
    let site = site().await;
    let plain = service(config(&[&site]));
    assert!(!session(&plain).await.is_sandboxed());
    plain.shutdown().await;
    let strict = service(config(&[&site]).with_sandbox(Sandbox::Required));
    let error = strict
        .create(&Principal::local(), SessionOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.kind() == K::StartFailed && error.to_string().contains("ordinary user"),
        "{error}"
    );
    strict.shutdown().await;
    let name = "browsers_are_sandboxed_for_ordinary_users_and_say_so_where_not";
    let output = Command::new(program("runuser"))
        .args(["-u", "nobody", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INNER, "1")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

async fn sandboxed() {
    let site = site().await;
    let service = service(config(&[&site]).with_sandbox(Sandbox::Required));
    let session = session(&service).await;
    assert!(session.is_sandboxed());
    session.navigate(&site.url("/form")).await.unwrap();
    // A process of the browser that has a filter for system calls: the sandbox is not only asked for.
    let (browser, _) = session.browser_usage().unwrap();
    let filtered = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.contains("--type=renderer")
            && !line.contains("--no-sandbox")
            && status.contains("Seccomp:\t2")
    });
    assert!(filtered, "no renderer of {browser} is filtered");
    let line = std::fs::read_to_string(format!("/proc/{browser}/cmdline")).unwrap();
    assert!(!line.contains("--no-sandbox"), "{line}");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_shown_on_the_display_that_is_given() {
    let site = site().await;
    // Xvfb writes the number of a free display to this pipe.
    let xvfb = Command::new(program("Xvfb"))
        .args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1920x1200x24",
            "-nolisten",
            "tcp",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut xvfb = Ended(xvfb);
    let mut out = xvfb.0.stdout.take().unwrap();
    let mut number = String::new();
    let mut byte = [0];
    while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        number.push(char::from(byte[0]));
    }
    let shown: DriverConfig = driver().with_environment("DISPLAY", format!(":{number}"));
    let mut options = SessionOptions::default();
    options.mode = Mode::Headed;
    let make = |driver: DriverConfig| {
        let mut config = mcp_browser::BrowserConfig::new(driver).allow_headed();
        let policy = mcp_browser::OriginPolicy::only([site.origin.as_str()])
            .unwrap()
            .allow_private([site.origin.as_str()])
            .unwrap();
        config = config.with_policy(policy);
        service(config)
    };
    let headed = make(shown);
    let session = headed
        .create(&Principal::local(), options.clone())
        .await
        .unwrap();
    session.navigate(&site.url("/form")).await.unwrap();
    assert!(
        session
            .screenshot(&Screenshot::default())
            .await
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    let (pid, _) = session.browser_usage().unwrap();
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!line.contains("--headless"), "{line}");
    headed.shutdown().await;
    let blind = make(driver());
    let error = blind
        .create(&Principal::local(), options)
        .await
        .unwrap_err();
    assert!(
        error.kind() == K::StartFailed && error.to_string().contains("DISPLAY"),
        "{error}"
    );
    blind.shutdown().await;
}

/// A program that ends with the test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
