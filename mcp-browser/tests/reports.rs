//! Nothing is accepted, dismissed, refused or lost without a line in an answer: through the MCP tools, on a real browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking and tell stories"
)]

mod support;

use std::time::Duration;

use mcp_browser::Downloads;
use serde_json::json;
use support::{config, reference, site, tools::client};

fn file(name: &str) -> serde_json::Value {
    json!([{ "name": name, "text": "12345" }])
}

#[tokio::test(flavor = "multi_thread")]
async fn files_reach_the_button_that_a_page_shows() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let page = model.navigate(&site.url("/upload")).await;
    let attach = reference(&page, "button \"Attach\"");
    for (selector, name) in [
        (attach.as_str(), "button.txt"),
        ("text=Picture", "label.txt"),
        ("#box", "inside.txt"),
        ("#field", "field.txt"),
    ] {
        let given = json!({ "selector": selector, "files": file(name) });
        let answer = model.ok("browser_upload", given).await;
        assert!(answer.contains(&format!("got {name}:5")), "{answer}");
    }
    let dropped = json!({ "selector": "#area", "files": file("dropped.txt"), "drop": true });
    let answer = model.ok("browser_upload", dropped).await;
    assert!(answer.contains("got dropped.txt:5"), "{answer}");
    // A click opens a chooser, which is said, and answered in another call.
    let answer = model.click("text=Attach many").await;
    let answer = match answer.contains("asks for files") {
        true => answer,
        // It opens a moment after the click.
        false => model.ok("browser_wait", json!({ "seconds": 1 })).await,
    };
    assert!(answer.contains("asks for files"), "{answer}");
    let two = json!([{ "name": "a", "text": "1" }, { "name": "b", "content_base64": "aGk=" }]);
    let answer = model.ok("browser_upload", json!({ "files": two })).await;
    assert!(answer.contains("got a:1,b:2"), "{answer}");
    let answer = model.fails("browser_upload", json!({ "files": two })).await;
    assert!(answer.contains("no file chooser is open"), "{answer}");
    let two_for_one = json!({ "selector": "text=Attach >> nth=0", "files": two });
    let answer = model.fails("browser_upload", two_for_one).await;
    assert!(answer.contains("can only accept single file"), "{answer}");
    let nothing = json!({ "selector": "#nothing", "files": file("x") });
    let answer = model.fails("browser_upload", nothing).await;
    assert!(answer.contains("opened no file chooser"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialog_is_shown_and_what_is_dismissed_is_said() {
    let site = site().await;
    let (model, browsers) =
        client(config(&[&site]).with_dialog_timeout(Duration::from_secs(2))).await;
    model.navigate(&site.url("/dialogs")).await;
    for round in 0..25 {
        let answer = model.click("text=Confirm").await;
        assert!(answer.contains("confirm: \"Sure?\""), "{round}: {answer}");
        let answer = model.ok("browser_dialog", json!({ "accept": true })).await;
        let is_true = round > 0 || answer.contains("title: true");
        assert!(is_true, "{round}: {answer}");
        let title = json!({ "script": "const t = document.title; document.title = ''; t" });
        let title = model.ok("browser_evaluate", title).await;
        assert_eq!(title, "\"true\"", "{round}");
    }
    // No answer comes.
    model.click("text=Confirm").await;
    let mut said = String::new();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let look = json!({ "script": "1" });
        said = support::tools::texts(&model.call("browser_evaluate", look).await);
        if said.contains("no answer came in time") {
            break;
        }
    }
    assert!(said.contains("no answer came in time"), "{said}");
    // A storm: the first are shown, the rest are dismissed, which is said.
    model.click("text=Storm").await;
    let mut all = String::new();
    for _ in 0..100 {
        let answer = model
            .call("browser_dialog", json!({ "accept": true }))
            .await;
        all.push_str(&support::tools::texts(&answer));
        if all.contains("calm") {
            break;
        }
    }
    assert!(all.contains("dialogs were dismissed unseen"), "{all}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_asks_whether_to_leave_it_is_asked_back() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/leave")).await;
    let typed = json!({ "action": "type", "selector": "#text", "value": "unsaved" });
    model.ok("browser_interact", typed).await;
    let away = json!({ "url": site.url("/article") });
    let answer = model.ok("browser_navigate", away.clone()).await;
    assert!(
        answer.contains("not loaded") && answer.contains("whether to leave"),
        "{answer}"
    );
    let answer = model.ok("browser_dialog", json!({ "accept": false })).await;
    assert!(answer.contains("title: leave"), "{answer}");
    let answer = model.click("text=Away").await;
    assert!(answer.contains("whether to leave"), "{answer}");
    let answer = model.ok("browser_dialog", json!({ "accept": true })).await;
    assert!(answer.contains("Tea & coffee"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_goes_to_what_takes_a_text_and_says_so_where_nothing_does() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let page = model.navigate(&site.url("/edit")).await;
    let of =
        |selector: &str| json!({ "action": "type", "selector": selector, "value": " and more" });
    let last = reference(&page, ": Last");
    let answer = model.ok("browser_interact", of(&last)).await;
    assert!(answer.contains("Last and more"), "{answer}");
    for (selector, part) in [("#plain", "not editable"), ("#fixed", "read-only")] {
        let answer = model.fails("browser_interact", of(selector)).await;
        assert!(answer.contains(part), "{selector}: {answer}");
    }
    // Where the focus is.
    model.click("#plain").await;
    let typed = json!({ "action": "type", "value": "lost" });
    let answer = model.fails("browser_interact", typed).await;
    assert!(answer.contains("not editable"), "{answer}");
    model.click("#long").await;
    let typed = json!({ "action": "type", "value": "line" });
    model.ok("browser_interact", typed).await;
    let answer = model
        .ok(
            "browser_interact",
            json!({ "action": "press", "value": "Control+A" }),
        )
        .await;
    assert!(answer.contains("done: press"), "{answer}");
    let typed = json!({ "action": "type", "value": "other" });
    let answer = model.ok("browser_interact", typed).await;
    assert!(
        answer.contains("other") && !answer.contains("lineother"),
        "{answer}"
    );
    // A long text has more time than a short one.
    let long = "a line of twenty-four by\n".repeat(2000);
    let filled =
        json!({ "action": "fill", "selector": "#long", "value": long, "snapshot": "none" });
    model.ok("browser_interact", filled).await;
    let length = json!({ "script": "document.getElementById('long').value.length" });
    assert_eq!(model.ok("browser_evaluate", length).await, "50000");
    let short = json!({ "action": "fill", "selector": "#long", "value": "short" });
    model.ok("browser_interact", short).await;
    // A password that the page shows afterwards.
    let word = json!({ "action": "fill", "selector": "#word", "value": "hunter2" });
    let answer = model.ok("browser_interact", word).await;
    assert!(!answer.contains("hunter2"), "{answer}");
    let answer = model.click("text=Show").await;
    assert!(!answer.contains("hunter2"), "{answer}");
    let answer = model.ok("browser_snapshot", json!({})).await;
    assert!(
        answer.contains("[hidden]") && !answer.contains("hunter2"),
        "{answer}"
    );
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_action_says_what_the_driver_knows() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let click =
        |selector: &str| json!({ "action": "click", "selector": selector, "timeout_ms": 1500 });
    model.navigate(&site.url("/covered")).await;
    let answer = model.fails("browser_interact", click("#under")).await;
    assert!(
        answer.contains("<div id=\"banner\"") && answer.contains("intercepts pointer events"),
        "{answer}"
    );
    model.navigate(&site.url("/form")).await;
    let answer = model.fails("browser_interact", click("#off")).await;
    assert!(answer.contains("element is not enabled"), "{answer}");
    let answer = model.fails("browser_interact", click(".twin")).await;
    assert!(
        answer.contains("1) <button class=\"twin\">") && answer.contains("2) <button"),
        "{answer}"
    );
    let much = json!({ "action": "click", "selector": "#off", "timeout_ms": 61_000 });
    let answer = model.fails("browser_interact", much).await;
    assert!(answer.contains("more than 60 s"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_announced_and_read_by_clients_elsewhere() {
    let site = site().await;
    let folder = tempfile::tempdir().unwrap();
    let keep = Downloads::Keep {
        folder: folder.path().to_owned(),
        max_bytes: 10_000,
    };
    let (model, browsers) = client(config(&[&site]).with_downloads(keep)).await;
    model.navigate(&site.url("/article")).await;
    let leave = json!({ "script": "location.href = '/file'" });
    let mut said = model.ok("browser_evaluate", leave.clone()).await;
    let mut list = String::new();
    for _ in 0..100 {
        list = model.ok("browser_downloads", json!({})).await;
        if list.contains("1000 bytes") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(list, "1: report.bin (1000 bytes)");
    said.push_str(&model.ok("browser_wait", json!({ "seconds": 0.1 })).await);
    assert!(said.contains("download 1 began: \"report.bin\""), "{said}");
    let read = model
        .call("browser_downloads", json!({ "number": 1 }))
        .await;
    let uri = read["content"][1]["uri"].as_str().unwrap();
    // The bytes are 7, which is a text of control characters.
    assert_eq!(model.read(uri).await, vec![7; 1000]);
    browsers.shutdown().await;
    // Where they are not allowed that is said.
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/article")).await;
    let mut said = model.ok("browser_evaluate", leave).await;
    for _ in 0..100 {
        said.push_str(&model.ok("browser_wait", json!({ "seconds": 0.1 })).await);
        if said.contains("a download was refused") {
            break;
        }
    }
    assert!(
        said.contains("a download was refused: \"report.bin\""),
        "{said}"
    );
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_polls_keeps_no_action_waiting() {
    let site = site().await;
    // Whoever waited for the polls would wait for all of this.
    let patience = Duration::from_secs(300);
    let (model, browsers) = client(config(&[&site]).with_settle_timeout(patience)).await;
    let work = async {
        model.navigate(&site.url("/polls")).await;
        // There is always one in flight, and the next has begun when it ends.
        let answer = model.click("text=Load").await;
        assert!(
            answer.contains("slower answer"),
            "its own request: {answer}"
        );
    };
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("the page's polls were waited for");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_waited_for_in_frames_and_until_they_are_gone() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/srcdoc")).await;
    model
        .ok("browser_wait", json!({ "text": "inner words" }))
        .await;
    model.click("iframe >>> text=Remove").await;
    model
        .ok("browser_wait", json!({ "text_gone": "Inner words" }))
        .await;
    model.ok("browser_wait", json!({ "load": "idle" })).await;
    let never = json!({ "text": "Inner words", "timeout_ms": 500 });
    let answer = model.fails("browser_wait", never).await;
    assert!(answer.contains("did not appear within 0.5 s"), "{answer}");
    let answer = model.fails("browser_wait", json!({ "seconds": 99 })).await;
    assert!(answer.contains("at most 60 s"), "{answer}");
    browsers.shutdown().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_crashed_is_replaced_when_it_is_loaded_again() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/article")).await;
    let session = browsers.session(&model.principal, &model.id).unwrap();
    let (browser, _) = session.browser_usage().unwrap();
    support::kill_renderers(browser);
    let mut answer = String::new();
    for _ in 0..100 {
        answer = support::tools::texts(&model.call("browser_snapshot", json!({})).await);
        if answer.contains("crashed") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(answer.contains("the page crashed: navigate"), "{answer}");
    let answer = model.navigate("reload").await;
    assert!(answer.contains("Tea & coffee"), "{answer}");
    support::kill_renderers(browser);
    let answer = model.navigate(&site.url("/form")).await;
    assert!(answer.contains("Log in"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn popups_are_named_with_number_and_address() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/popups")).await;
    let mut said = model.click("text=One").await;
    for _ in 0..100 {
        if said.contains("tab 2 was opened") {
            break;
        }
        said = model.ok("browser_wait", json!({ "seconds": 0.1 })).await;
    }
    let line = format!("tab 2 was opened: {}", site.url("/inner"));
    assert!(
        said.contains(&line) || said.contains("tab 2 was opened: about:blank"),
        "{said}"
    );
    // A page may close what it has opened itself.
    let opens = json!({ "script": "window.open('/inner?3') !== null" });
    model.ok("browser_evaluate", opens).await;
    for _ in 0..100 {
        let tabs = model.ok("browser_tabs", json!({})).await;
        if tabs.contains("\"number\": 3") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    model
        .ok("browser_tabs", json!({ "action": "select", "tab": 3 }))
        .await;
    let closes = json!({ "script": "setTimeout(() => window.close()), 1" });
    // It may be closed before the script's own answer is written, which then says so.
    let mut said = model.ok("browser_evaluate", closes).await;
    for _ in 0..100 {
        if said.contains("tab 3 was closed") {
            break;
        }
        said.push_str(&model.ok("browser_wait", json!({ "seconds": 0.1 })).await);
    }
    assert!(said.contains("tab 2 is the current one"), "{said}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_loaded_is_said_to_be_without_its_snapshot() {
    let site = site().await;
    let timeouts = (Duration::from_millis(800), Duration::from_secs(30));
    let (model, browsers) = client(config(&[&site]).with_timeouts(timeouts.0, timeouts.1)).await;
    let answer = model.navigate(&site.url("/freezes")).await;
    assert!(
        answer.starts_with("loaded") && answer.contains("no snapshot could be taken"),
        "{answer}"
    );
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_show_what_pages_did_and_not_what_chromium_does_by_itself() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let mut said = model.navigate(&site.url("/form")).await;
    let filled = json!({ "action": "fill", "selector": "#name_", "value": "Ada" });
    said.push_str(&model.ok("browser_interact", filled).await);
    said.push_str(&model.ok("browser_wait", json!({ "seconds": 2 })).await);
    assert!(!said.contains("refused"), "{said}");
    // Where the focus is does not count as a change.
    let answer = model.click("#name_").await;
    assert!(answer.contains("nothing changed"), "{answer}");
    let answer = model.click("#agree").await;
    assert!(answer.contains("under heading \"Log in\""), "{answer}");
    // What the page asks for itself is said.
    let elsewhere = support::site().await;
    let fetch = format!("fetch('{}').catch(() => 1)", elsewhere.url("/elsewhere"));
    let answer = model
        .ok("browser_evaluate", json!({ "script": fetch }))
        .await;
    assert!(
        answer.contains(&format!("refused: {}", elsewhere.origin)),
        "{answer}"
    );
    model.navigate(&site.url("/tables")).await;
    let take = |selector: &str| json!({ "what": "table", "selector": selector });
    assert_eq!(
        model.ok("browser_extract", take("#t")).await,
        r#"[["Name","","Price"],["Tea","green","3"],["","black","4"]]"#
    );
    assert_eq!(
        model.ok("browser_extract", take("#g")).await,
        r#"[["A","B"],["a2","b2"]]"#
    );
    let bad = json!({ "locale": "xx-invalid" });
    let answer = support::tools::call(&model.seam, &model.principal, "browser_create_session", bad);
    let answer = support::tools::texts(&answer.await);
    assert!(answer.contains("none that Chromium knows"), "{answer}");
    let zone = json!({ "timezone": "Mars/Olympus" });
    let answer = support::tools::call(
        &model.seam,
        &model.principal,
        "browser_create_session",
        zone,
    );
    assert_eq!(answer.await["structuredContent"]["error"], "invalid_input");
    browsers.shutdown().await;
}
