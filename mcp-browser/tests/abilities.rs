//! What a model can do beside clicking and filling: through the MCP tools, on a real browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking and tell stories"
)]

mod support;

use mcp_core::{Method, Principal, Request};
use serde_json::{Value, json};
use support::{config, reference, site, tools::client};
use tower::ServiceExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_filled_in_one_call_and_clicks_have_all_their_kinds() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let page = model.navigate(&site.url("/form")).await;
    let fields = json!([
        { "selector": reference(&page, "textbox \"Name\""), "value": "Ada" },
        { "selector": "#password", "value": "hunter2" },
        { "selector": "#colour", "value": "green" },
        { "selector": "#agree", "checked": true },
    ]);
    let form = json!({ "fields": fields, "submit": "text=Send" });
    let answer = model.ok("browser_fill_form", form).await;
    assert!(answer.contains("4 fields filled"), "{answer}");
    assert!(answer.contains("Hello Ada, g, true, 7"), "{answer}");
    let bad = json!({ "timeout_ms": 500, "fields": [{ "selector": "#name_", "value": "B" }, { "selector": "#missing", "value": "x" }] });
    let answer = model.fails("browser_fill_form", bad).await;
    assert!(answer.contains("field 2 of 2 (#missing)"), "{answer}");
    let nothing = json!({ "fields": [{ "selector": "#name_" }] });
    let answer = model.fails("browser_fill_form", nothing).await;
    assert!(answer.contains("one of value, values, checked"), "{answer}");
    model.navigate(&site.url("/clicks")).await;
    let click = |more: Value| {
        let mut all = json!({ "action": "click", "selector": "#b" });
        let more = more.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        all
    };
    model
        .ok("browser_interact", click(json!({ "modifiers": ["shift"] })))
        .await;
    model
        .ok("browser_interact", click(json!({ "button": "middle" })))
        .await;
    let answer = model
        .ok("browser_interact", click(json!({ "count": 2 })))
        .await;
    for part in [
        "click,0,true,false;",
        "auxclick,1,false,false;",
        "dblclick,0",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    let several = json!({ "action": "select", "selector": "#many", "values": ["red", "blue"] });
    model.ok("browser_interact", several).await;
    let chosen = json!({ "script": "Array.from(many.selectedOptions, o => o.value).join()" });
    assert_eq!(model.ok("browser_evaluate", chosen).await, "\"red,blue\"");
    let answer = model
        .ok(
            "browser_interact",
            json!({ "action": "press", "value": "F2" }),
        )
        .await;
    assert!(answer.contains("title: key F2"), "{answer}");
    let answer = model
        .fails(
            "browser_interact",
            json!({ "action": "press", "value": "Tee" }),
        )
        .await;
    assert!(answer.contains("Unknown key"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canvases_are_clicked_and_dragged_by_coordinates_and_lists_are_wheeled() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/canvas")).await;
    let click = json!({ "action": "click", "x": 40, "y": 50 });
    let answer = model.ok("browser_pointer", click).await;
    assert!(
        answer.contains("mousedown 40,50;mouseup 40,50;"),
        "{answer}"
    );
    let drag = json!({ "action": "drag", "x": 10, "y": 20, "to_x": 200, "to_y": 150 });
    let answer = model.ok("browser_pointer", drag).await;
    assert!(
        answer.contains("mousedown 10,20;mouseup 200,150;"),
        "{answer}"
    );
    let wheel = json!({ "action": "wheel", "selector": "#list", "delta_y": 300 });
    let mut answer = model.ok("browser_pointer", wheel).await;
    for _ in 0..50 {
        if answer.contains("scrolled true") {
            break;
        }
        answer = model.ok("browser_wait", json!({ "seconds": 0.1 })).await;
    }
    assert!(answer.contains("title: scrolled true"), "{answer}");
    let outside = json!({ "action": "click", "x": 40, "y": 5000 });
    let answer = model.fails("browser_pointer", outside).await;
    assert!(answer.contains("outside of what can be seen"), "{answer}");
    let answer = model
        .fails("browser_pointer", json!({ "action": "move" }))
        .await;
    assert!(answer.contains("x and y, or a selector"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_show_an_element_some_levels_or_a_text() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let whole = model.navigate(&site.url("/article")).await;
    let table = reference(&whole, "- table");
    for target in [table.as_str(), "table"] {
        let part = model
            .ok("browser_snapshot", json!({ "selector": target }))
            .await;
        assert!(
            part.contains("\n- table") && part.contains("Price"),
            "{part}"
        );
        assert!(!part.contains("heading"), "{part}");
    }
    let shallow = model.ok("browser_snapshot", json!({ "depth": 2 })).await;
    assert!(
        shallow.contains("more lines)") && !shallow.contains("Price"),
        "{shallow}"
    );
    let found = model
        .ok("browser_snapshot", json!({ "find": "price" }))
        .await;
    assert!(
        found.contains("- table") && found.contains("Price") && !found.contains("heading"),
        "{found}"
    );
    let none = model
        .ok("browser_snapshot", json!({ "find": "coffin" }))
        .await;
    assert!(none.contains("no line holds"), "{none}");
    let missing = model
        .fails("browser_snapshot", json!({ "selector": "#missing" }))
        .await;
    assert!(missing.contains("no element matches"), "{missing}");
    // References of the whole page are still good.
    let link = reference(&whole, "link \"the form\"");
    let answer = model.click(&link).await;
    assert!(answer.contains("Log in"), "{answer}");
    // Frames and shadow roots by selectors.
    model.navigate(&site.url("/frames")).await;
    let answer = model.click("iframe >>> button").await;
    assert!(answer.contains("Done in frame"), "{answer}");
    model.navigate(&site.url("/shadow")).await;
    let fill = json!({ "action": "fill", "selector": "#host #deep", "value": "deep" });
    model.ok("browser_interact", fill).await;
    let answer = model.click("#host button").await;
    assert!(answer.contains("Pressed deep"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn surroundings_change_at_run_time_and_pictures_are_jpeg() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/media")).await;
    let wanted = json!({ "width": 500, "height": 400, "color_scheme": "dark", "media": "print",
        "reduced_motion": true, "forced_colors": true, "cpu_slowdown": 2 });
    model.ok("browser_emulate", wanted).await;
    let queries = "['(prefers-color-scheme: dark)', 'print', '(prefers-reduced-motion: reduce)', '(forced-colors: active)']";
    let look = format!("[innerWidth, innerHeight, ...{queries}.map(q => matchMedia(q).matches)]");
    let seen = model
        .ok("browser_evaluate", json!({ "script": look }))
        .await;
    assert_eq!(seen, "[500,400,true,true,true,true]");
    for (bad, part) in [
        (json!({ "width": 5, "height": 400 }), "100 to 4096"),
        (json!({ "width": 500 }), "together"),
        (json!({ "cpu_slowdown": 99 }), "1 to 20"),
    ] {
        let answer = model.fails("browser_emulate", bad).await;
        assert!(answer.contains(part), "{answer}");
    }
    let picture = json!({ "format": "jpeg", "quality": 30, "css_scale": true });
    let picture = model.call("browser_screenshot", picture).await;
    assert_eq!(picture["content"][0]["mimeType"], "image/jpeg");
    assert!(
        picture["content"][0]["data"]
            .as_str()
            .unwrap()
            .starts_with("/9j/")
    );
    let bad = json!({ "format": "jpeg", "quality": 0 });
    let answer = model.fails("browser_screenshot", bad).await;
    assert!(answer.contains("1 to 100"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_cookies_and_the_console_are_read_in_detail() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/requests")).await;
    model.ok("browser_wait", json!({ "load": "idle" })).await;
    let list = model
        .ok("browser_network", json!({ "filter": "/post" }))
        .await;
    assert!(list.contains("POST") && list.lines().count() == 1, "{list}");
    let number: u64 = list.split(' ').next().unwrap().parse().unwrap();
    let part = |part: &str| json!({ "number": number, "part": part });
    let headers = model.ok("browser_network", part("headers")).await;
    assert!(
        headers.contains("[\"x-mine\",\"yes\"]") && headers.contains("\"status\":200"),
        "{headers}"
    );
    assert_eq!(
        model.ok("browser_network", part("request_body")).await,
        "sent body"
    );
    assert_eq!(
        model.ok("browser_network", part("response_body")).await,
        "sent body"
    );
    let failed = model
        .ok(
            "browser_network",
            json!({ "failed": true, "filter": "nowhere" }),
        )
        .await;
    assert!(failed.contains("/nowhere fetch 404"), "{failed}");
    let after = json!({ "filter": "/post", "after": number });
    assert_eq!(model.ok("browser_network", after).await, "nothing");
    let answer = model
        .fails("browser_network", json!({ "number": 9999 }))
        .await;
    assert!(answer.contains("no request with this number"), "{answer}");
    let lines = |level: &str| json!({ "level": level, "filter": "a" });
    let errors = model.ok("browser_console", lines("error")).await;
    assert!(
        errors.contains("an error") && !errors.contains("a warning"),
        "{errors}"
    );
    let warnings = model.ok("browser_console", lines("warning")).await;
    assert!(
        warnings.contains("a warning") && !warnings.contains("a detail"),
        "{warnings}"
    );
    assert!(
        model
            .ok("browser_console", lines("debug"))
            .await
            .contains("a detail")
    );
    let set = json!({ "action": "set", "name": "a", "value": "1", "domain": "127.0.0.1", "path": "/form",
        "http_only": true, "same_site": "strict", "expires": 4_000_000_000_u64 });
    let cookies = model.ok("browser_cookies", set).await;
    for part in [
        "\"path\":\"/form\"",
        "\"httpOnly\":true",
        "\"sameSite\":\"Strict\"",
    ] {
        assert!(cookies.contains(part), "{part}: {cookies}");
    }
    // Chromium keeps a cookie for 400 days at most.
    assert!(!cookies.contains("\"expires\":-1"), "{cookies}");
    let second = json!({ "action": "set", "name": "b", "value": "2", "url": site.url("/") });
    model.ok("browser_cookies", second).await;
    let cookies = model
        .ok("browser_cookies", json!({ "action": "clear", "name": "a" }))
        .await;
    assert!(
        cookies.contains("\"b\"") && !cookies.contains("\"a\""),
        "{cookies}"
    );
    let answer = model
        .fails("browser_cookies", json!({ "action": "set", "name": "c" }))
        .await;
    assert!(answer.contains("an address, or a domain"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_on_elements_and_before_documents() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let early = json!({ "script": "window.early = 'was here'" });
    model.ok("browser_init_script", early).await;
    let page = model.navigate(&site.url("/form")).await;
    let name = reference(&page, "textbox \"Name\"");
    let id = json!({ "selector": name, "script": "e => e.id + ' ' + window.early" });
    assert_eq!(model.ok("browser_evaluate", id).await, "\"name_ was here\"");
    let missing = json!({ "selector": "#missing", "script": "e => e.id", "timeout_ms": 500 });
    let answer = model.fails("browser_evaluate", missing).await;
    assert!(answer.contains("no element matches"), "{answer}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_become_a_script_and_checks_say_what_was_found() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    let answer = model
        .fails("browser_code", json!({ "action": "get" }))
        .await;
    assert!(answer.contains("start that first"), "{answer}");
    model.ok("browser_code", json!({ "action": "start" })).await;
    let page = model.navigate(&site.url("/form")).await;
    let name = reference(&page, "textbox \"Name\"");
    let fill = json!({ "action": "fill", "selector": name, "value": "Ada" });
    model.ok("browser_interact", fill).await;
    let send = reference(&page, "button \"Send\"");
    model.click(&send).await;
    let expect = |selector: &str, that: &str, value: Value| json!({ "selector": selector, "that": that, "value": value, "timeout_ms": 1000 });
    let text = |value: &str| expect("#out", "contains_text", value.into());
    assert_eq!(
        model.ok("browser_expect", text("Hello Ada")).await,
        "as expected"
    );
    let answer = model.fails("browser_expect", text("Hello Bob")).await;
    assert!(answer.contains("Hello Ada"), "what was found: {answer}");
    for (selector, that, value) in [
        ("#name_", "value", json!("Ada")),
        (".twin", "count", json!("2")),
        ("h1", "visible", Value::Null),
        ("#missing", "hidden", Value::Null),
        ("#name_", "enabled", Value::Null),
    ] {
        model
            .ok("browser_expect", expect(selector, that, value))
            .await;
    }
    let answer = model
        .fails("browser_expect", expect("#agree", "checked", Value::Null))
        .await;
    assert!(answer.contains("not as expected"), "{answer}");
    let mut not = expect("#off", "enabled", Value::Null);
    not["not"] = true.into();
    model.ok("browser_expect", not).await;
    let script = model.ok("browser_code", json!({ "action": "get" })).await;
    for line in [
        "await page.getByRole('textbox', { name: 'Name' }).fill(\"Ada\");",
        "await page.getByRole('button', { name: 'Send' }).click();",
        ".toContainText(\"Hello Ada\");",
        ".not.toBeEnabled();",
    ] {
        assert!(script.contains(line), "{line}: {script}");
    }
    let python = json!({ "action": "get", "language": "python" });
    let script = model.ok("browser_code", python).await;
    let line = "page.get_by_role(\"textbox\", name=\"Name\").fill(\"Ada\")";
    assert!(script.contains(line), "{script}");
    browsers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_resources_of_their_owner() {
    let site = site().await;
    let (model, browsers) = client(config(&[&site])).await;
    model.navigate(&site.url("/article")).await;
    let printed = model.call("browser_pdf", json!({})).await;
    let link = &printed["content"][1];
    assert_eq!(
        (&link["type"], &link["mimeType"]),
        (&"resource_link".into(), &"application/pdf".into())
    );
    let uri = link["uri"].as_str().unwrap();
    assert!(model.read(uri).await.starts_with(b"%PDF-"));
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    let ask = |method: Method, mut params: Value, principal: &Principal| {
        params["_meta"] = meta.clone();
        let request = Request::encode(method, &params).unwrap();
        model
            .seam
            .clone()
            .oneshot(request.with_principal(principal.clone()))
    };
    let list = ask(Method::RESOURCES_LIST, json!({}), &model.principal).await;
    let list: Value = list.unwrap().decode().unwrap();
    assert_eq!(list["resources"][0]["uri"], uri, "{list}");
    let other = Principal::authenticated("i", "other");
    assert!(
        ask(Method::RESOURCES_READ, json!({ "uri": uri }), &other)
            .await
            .is_err()
    );
    let list = ask(Method::RESOURCES_LIST, json!({}), &other).await;
    let list: Value = list.unwrap().decode().unwrap();
    assert_eq!(list["resources"], json!([]));
    browsers.shutdown().await;
}
