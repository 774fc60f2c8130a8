//! The MCP tools, called through the seam.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod support;

use std::sync::Arc;

use mcp_captcha::{Captcha, CaptchaTools, Limits, Sites, Spending, Vendor};
use mcp_core::{
    Amount, Method, Principal, Request, Seam,
    rmcp3::serve as serve_rmcp,
    store::{MemoryStore, Namespace},
};
use serde_json::{Value, json};
use support::{Script, say, serve};
use tower::ServiceExt;

async fn call(service: &impl Seam, principal: &Principal, tool: &str, arguments: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} } });
    let request = Request::encode(Method::TOOLS_CALL, &params)
        .unwrap()
        .with_principal(principal.clone());
    service
        .clone()
        .oneshot(request)
        .await
        .unwrap()
        .decode()
        .unwrap()
}

async fn tools() -> (impl Seam, Arc<Script>) {
    let script = Script::default()
        .on("createTask", [say("2captcha.create")])
        .on("getTaskResult", [say("2captcha.ready-image")])
        .on("getBalance", [say("2captcha.balance")])
        .on("reportIncorrect", [say("2captcha.report")]);
    let (client, script) = serve(Vendor::TwoCaptcha, script).await;
    let spending = Spending::new(
        Arc::new(MemoryStore::new()),
        Namespace::new("captcha").unwrap(),
    )
    .with_principal_limits(Limits::new().with_day(Amount::micros(1_200)));
    let captcha = Captcha::new(Arc::new(client))
        .with_sites(Sites::only(["https://shop.example"]).unwrap())
        .with_spending(spending);
    (
        serve_rmcp(CaptchaTools::new(captcha)).into_service(),
        script,
    )
}

#[tokio::test]
async fn a_picture_is_solved_reported_and_accounted_for() {
    let (service, script) = tools().await;
    let (alice, bob) = (
        Principal::authenticated("i", "alice"),
        Principal::authenticated("i", "bob"),
    );
    let image = json!({ "type": "image", "image_base64": "data:image/png;base64,iVBORw0KGgo=" });
    let solved = call(&service, &alice, "solve_captcha", image.clone()).await;
    assert_eq!(solved["content"][0]["text"], "hello world", "{solved}");
    assert_eq!(solved["structuredContent"]["cost_usd"], "0.000250");
    let id = solved["structuredContent"]["solve_id"].clone();
    let report = json!({ "solve_id": id, "correct": false });
    let foreign = call(&service, &bob, "report_captcha", report.clone()).await;
    assert_eq!(foreign["isError"], true, "another's solve is not there");
    assert_eq!(script.count("reportIncorrect"), 0);
    assert_eq!(
        call(&service, &alice, "report_captcha", report).await["content"][0]["text"],
        "recorded"
    );
    let balance = call(&service, &alice, "captcha_balance", json!({})).await;
    assert_eq!(
        balance["structuredContent"]["balance_usd"]["2captcha"],
        "1.234500"
    );
    assert_eq!(balance["structuredContent"]["spent_today_usd"], "0.000250");
    let refused = call(&service, &alice, "solve_captcha", image).await;
    assert_eq!(
        refused["structuredContent"]["error"], "budget_exhausted",
        "{refused}"
    );
    assert_eq!(script.count("createTask"), 1);
}

#[tokio::test]
async fn bad_arguments_are_answered_with_what_to_do() {
    let (service, script) = tools().await;
    let cases = [
        (json!({ "type": "turnstile" }), "sitekey is missing"),
        (
            json!({ "type": "turnstile", "sitekey": "0x4AAAAAAA" }),
            "page_url is missing",
        ),
        (json!({ "type": "image" }), "image_base64 is missing"),
        (
            json!({ "type": "image", "image_base64": "%%%" }),
            "not base64",
        ),
        (
            json!({ "type": "image", "image_base64": "PGh0bWw+" }),
            "PNG",
        ),
        (
            json!({ "type": "turnstile", "sitekey": "0x4AAAAAAA", "page_url": "https://evil.example/" }),
            "not allowed the site",
        ),
    ];
    for (arguments, expected) in cases {
        let answer = call(&service, &Principal::local(), "solve_captcha", arguments).await;
        let text = answer["content"][0]["text"].as_str().unwrap();
        assert!(
            answer["isError"] == true && text.contains(expected),
            "{text} / {expected}"
        );
    }
    assert_eq!(script.count("createTask"), 0);
}

#[tokio::test]
async fn the_tools_say_what_they_do() {
    let (service, _) = tools().await;
    let params = json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} } });
    let request = Request::encode(Method::TOOLS_LIST, &params).unwrap();
    let list: Value = service.oneshot(request).await.unwrap().decode().unwrap();
    let names: Vec<&str> = list["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["captcha_balance", "report_captcha", "solve_captcha"]
    );
    for tool in list["tools"].as_array().unwrap() {
        assert!(
            tool["annotations"]["openWorldHint"].is_boolean() && tool["description"].is_string(),
            "{tool}"
        );
    }
    let kinds = &list["tools"][2]["inputSchema"];
    assert!(kinds.to_string().contains("recaptcha_v3"), "{kinds}");
}
