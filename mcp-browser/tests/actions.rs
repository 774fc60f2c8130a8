//! What sessions do, on a real browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking and tell stories"
)]

mod support;

use mcp_browser::{
    Action, Area, BrowserErrorKind as K, Extract, Files, Screenshot, SessionOptions, Viewport, Wait,
};
use mcp_core::Principal;
use support::{config, reference, service, session, site, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_filled_by_references() {
    let site = site().await;
    let service = service(config(&[&site]).allow_uploads(1000));
    let session = session(&service).await;
    session.navigate(&site.url("/form")).await.unwrap();
    let view = session.snapshot(false, 0, 20_000).await.unwrap();
    assert_eq!(
        (view.title.as_str(), view.url.as_str()),
        ("form", site.url("/form").as_str())
    );
    let of = |part: &str| reference(&view.text, part);
    session
        .act(&of("textbox \"Name\""), Action::Fill("Ada".into()))
        .await
        .unwrap();
    session
        .act(&of("textbox \"Name\""), Action::Press("End".into()))
        .await
        .unwrap();
    session
        .act(&of("textbox \"Name\""), Action::Type(" L".into()))
        .await
        .unwrap();
    session
        .act(&of("textbox \"Password\""), Action::Fill("hunter2".into()))
        .await
        .unwrap();
    session
        .act(&of("combobox"), Action::Select(vec!["green".into()]))
        .await
        .unwrap();
    session
        .act(&of("checkbox"), Action::Check(true))
        .await
        .unwrap();
    session
        .act(
            "#file",
            Action::Upload(vec![Files::new("a.txt", "text/plain", "hello")]),
        )
        .await
        .unwrap();
    session.act("text=Send", Action::click()).await.unwrap();
    assert!(
        text(&session)
            .await
            .contains("Hello Ada L, g, true, 7, a.txt"),
        "{}",
        text(&session).await
    );
    let view = session.snapshot(false, 0, 20_000).await.unwrap();
    assert!(
        !view.text.contains("hunter2") && view.text.contains("[hidden]"),
        "{}",
        view.text
    );
    let (html, _) = session
        .extract(Some("#out"), Extract::Html, 0, 1000)
        .await
        .unwrap();
    assert!(html.starts_with("<p id=\"out\">Hello Ada"), "{html}");
    let (value, _) = session
        .extract(Some("#password"), Extract::Text, 0, 1000)
        .await
        .unwrap();
    assert_eq!(value, "[hidden]");
    session.act("#hover", Action::Hover).await.unwrap();
    assert!(text(&session).await.contains("hovered"));
    session
        .act("#hover", Action::Click(mcp_browser::Click::double()))
        .await
        .unwrap();
    assert!(text(&session).await.contains("double"));
    session.navigate(&site.url("/drag")).await.unwrap();
    session.act("#a", Action::Drag("#b".into())).await.unwrap();
    assert!(text(&session).await.contains("dropped"));
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_roots_and_frames_are_reached() {
    let site = site().await;
    let service = service(config(&[&site]));
    let session = session(&service).await;
    session.navigate(&site.url("/shadow")).await.unwrap();
    let view = session.snapshot(false, 0, 20_000).await.unwrap();
    session
        .act(
            &reference(&view.text, "textbox"),
            Action::Fill("deep".into()),
        )
        .await
        .unwrap();
    session
        .act(&reference(&view.text, "button"), Action::click())
        .await
        .unwrap();
    let (markdown, _) = session
        .extract(None, Extract::Markdown, 0, 10_000)
        .await
        .unwrap();
    assert!(
        markdown.contains("# Shadow") && markdown.contains("Pressed deep"),
        "{markdown}"
    );
    session.navigate(&site.url("/frames")).await.unwrap();
    let view = session.snapshot(false, 0, 20_000).await.unwrap();
    session
        .act(&reference(&view.text, "Frame button"), Action::click())
        .await
        .unwrap();
    let view = session.snapshot(true, 0, 20_000).await.unwrap();
    assert!(view.text.contains("Done in frame"), "{view:?}");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_that_do_not_fit_are_explained() {
    let site = site().await;
    let service = service(config(&[&site]).with_timeouts(
        std::time::Duration::from_millis(700),
        std::time::Duration::from_secs(10),
    ));
    let session = session(&service).await;
    session.navigate(&site.url("/form")).await.unwrap();
    session.snapshot(false, 0, 20_000).await.unwrap();
    let cases = [
        ("#missing", K::ElementNotFound, "snapshot"),
        (".twin", K::Ambiguous, "2 elements"),
        ("e9999", K::StaleReference, "take a new one"),
        ("#off", K::Timeout, "element is not enabled"),
        ("", K::InvalidInput, "empty"),
        ("css=[[", K::InvalidInput, "selector"),
    ];
    for (selector, kind, part) in cases {
        let error = session.act(selector, Action::click()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{selector}: {error}");
        assert!(error.to_string().contains(part), "{selector}: {error}");
    }
    let error = session
        .act("h1", Action::Fill("x".into()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::InvalidInput, "{error}");
    // References of a page that was left are stale.
    let view = session.snapshot(false, 0, 20_000).await.unwrap();
    let old = reference(&view.text, "Send");
    session.navigate(&site.url("/article")).await.unwrap();
    let error = session.act(&old, Action::click()).await.unwrap_err();
    assert_eq!(error.kind(), K::StaleReference, "{error}");
    session.wait(&Wait::Text("Tea".into())).await.unwrap();
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_read_as_markdown_tables_and_parts() {
    let site = site().await;
    let service = service(config(&[&site]));
    let session = session(&service).await;
    session.navigate(&site.url("/article")).await.unwrap();
    let (markdown, next) = session
        .extract(None, Extract::Markdown, 0, 10_000)
        .await
        .unwrap();
    assert!(
        markdown.contains("# Tea & coffee")
            && markdown.contains(&format!("[the form]({})", site.url("/form"))),
        "{markdown}"
    );
    assert!(!markdown.contains("unseen") && !markdown.contains("script text") && next.is_none());
    let (table, _) = session
        .extract(Some("table"), Extract::Table, 0, 10_000)
        .await
        .unwrap();
    assert_eq!(table, r#"[["Item","Price"],["Tea","3"]]"#);
    let (attributes, _) = session
        .extract(Some("a"), Extract::Attributes, 0, 10_000)
        .await
        .unwrap();
    assert_eq!(attributes, r#"{"href":"/form"}"#);
    session.navigate(&site.url("/big")).await.unwrap();
    let first = session.snapshot(false, 0, 10_000).await.unwrap();
    assert!(first.text.len() <= 10_000 && first.next.is_some());
    let second = session
        .snapshot(false, first.next.unwrap(), 10_000)
        .await
        .unwrap();
    assert!(!second.text.is_empty() && second.text != first.text);
    let same = session.snapshot(true, 0, 10_000).await.unwrap();
    assert!(
        same.is_difference && same.text.len() < 1000,
        "{}",
        same.text.len()
    );
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_waits_for_what_it_set_off_and_no_longer() {
    let site = site().await;
    let service = service(config(&[&site]));
    let session = session(&service).await;
    session.navigate(&site.url("/busy")).await.unwrap();
    session.act("text=Load", Action::click()).await.unwrap();
    assert!(
        text(&session).await.contains("slow answer"),
        "the answer was waited for"
    );
    session.navigate(&site.url("/form")).await.unwrap();
    session.travel(-1).await.unwrap();
    assert!(text(&session).await.contains("Busy"));
    session.travel(1).await.unwrap();
    session.travel(0).await.unwrap();
    assert!(text(&session).await.contains("Log in"));
    assert_eq!(session.travel(1).await.unwrap_err().kind(), K::InvalidInput);
    service.shutdown().await;
}

/// Width, height and a way to ask for colours.
fn decode(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let bytes = info.color_type.samples();
    let rgb = pixels
        .chunks(bytes)
        .flat_map(|pixel| pixel[..3].to_vec())
        .collect();
    (info.width, info.height, rgb)
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_have_the_right_size_and_colours() {
    let site = site().await;
    let service = service(config(&[&site]));
    let mut options = SessionOptions::default();
    options.viewport = Some(Viewport::new(640, 480));
    let session = service.create(&Principal::local(), options).await.unwrap();
    session.navigate(&site.url("/colours")).await.unwrap();
    let (width, height, pixels) =
        decode(&session.screenshot(&Screenshot::default()).await.unwrap());
    assert_eq!((width, height), (640, 480));
    let at = |x: u32, y: u32| {
        let i = ((y * width + x) * 3) as usize;
        [pixels[i], pixels[i + 1], pixels[i + 2]]
    };
    assert_eq!(
        (at(50, 50), at(50, 150), at(300, 50)),
        ([255, 0, 0], [0, 128, 0], [255, 255, 255])
    );
    let (_, height, _) = decode(
        &session
            .screenshot(&Screenshot::of(Area::FullPage))
            .await
            .unwrap(),
    );
    assert_eq!(height, 2200);
    let (width, height, _) = decode(
        &session
            .screenshot(&Screenshot::of(Area::Element("#green".into())))
            .await
            .unwrap(),
    );
    assert_eq!((width, height), (100, 100));
    assert!(session.pdf().await.unwrap().starts_with(b"%PDF-"));
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialogs_are_shown_and_answered() {
    let site = site().await;
    let service = service(config(&[&site]));
    let session = session(&service).await;
    session.navigate(&site.url("/dialogs")).await.unwrap();
    session.act("text=Ask", Action::click()).await.unwrap();
    let dialog = session.dialog().unwrap();
    assert_eq!(
        (dialog.kind.as_str(), dialog.message.as_str()),
        ("prompt", "Your name?")
    );
    let error = session.snapshot(false, 0, 1000).await.unwrap_err();
    assert_eq!(error.kind(), K::DialogOpen, "{error}");
    session.answer_dialog(true, Some("Grace")).await.unwrap();
    assert_eq!(
        session.snapshot(false, 0, 1000).await.unwrap().title,
        "Grace"
    );
    session.act("text=Confirm", Action::click()).await.unwrap();
    session.answer_dialog(false, None).await.unwrap();
    assert_eq!(
        session.snapshot(false, 0, 1000).await.unwrap().title,
        "false"
    );
    assert_eq!(
        session.answer_dialog(true, None).await.unwrap_err().kind(),
        K::InvalidInput
    );
    service.shutdown().await;
}
