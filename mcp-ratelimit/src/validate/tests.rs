use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mcp_core::{Error, ErrorKind, Json, Method, Request, Response, SchemaSource, ToolSchemas};
use tower::{Layer, ServiceExt, service_fn};

use super::ValidateLayer;

#[derive(Debug)]
struct Source {
    input: Mutex<String>,
    output: Option<&'static str>,
    generation: AtomicU64,
    asked: AtomicU64,
}

impl SchemaSource for Source {
    fn schemas(&self, request: &Request) -> Option<ToolSchemas> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        (request.tool() == Some("t")).then(|| {
            let input = Json::parse(self.input.lock().unwrap().clone()).unwrap();
            ToolSchemas::new(
                self.generation(),
                Some(input),
                self.output.map(|o| Json::parse(o).unwrap()),
            )
        })
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

fn source(input: &str, output: Option<&'static str>) -> Arc<Source> {
    Arc::new(Source {
        input: Mutex::new(input.into()),
        output,
        generation: AtomicU64::new(1),
        asked: AtomicU64::new(0),
    })
}

async fn call(
    layer: &ValidateLayer,
    tool: &str,
    arguments: &str,
    answer: &'static str,
) -> Result<Response, Error> {
    let service = layer.layer(service_fn(move |_: Request| async move {
        Ok::<_, Error>(Response::new(Json::parse(answer)?))
    }));
    let params = Json::parse(format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)).unwrap();
    service
        .oneshot(Request::new(Method::TOOLS_CALL, Some(params)).unwrap())
        .await
}

const SCHEMA: &str = r#"{"type":"object","properties":{"n":{"type":"integer","minimum":1},"s":{"pattern":"^(a+)+$"}},"required":["n"],"additionalProperties":false}"#;

#[tokio::test]
async fn faults_are_named() {
    let layer = ValidateLayer::new(source(SCHEMA, None))
        .with_max_depth(3)
        .with_max_bytes(200);
    for (arguments, fault) in [
        (r#"{"n":1}"#, None),
        (r#"{"n":1,"s":"aaa"}"#, None),
        ("{}", Some("\"n\"")),
        (r#"{"n":0}"#, Some("/n")),
        (r#"{"n":"x"}"#, Some("/n")),
        (r#"{"n":1,"x":2}"#, Some("x")),
        (
            r#"{"n":1,"s":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"}"#,
            Some("/s"),
        ),
        ("7", Some("(whole)")),
        (r#"{"n":[[[1]]]}"#, Some("nested")),
        (r#"{"n":"[[[["}"#, Some("/n")),
    ] {
        let result = call(&layer, "t", arguments, "{}").await;
        match fault {
            None => assert!(result.is_ok(), "{arguments}: {result:?}"),
            Some(fault) => {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidParams);
                assert!(error.message().contains(fault), "{arguments}: {error}");
            }
        }
    }
    let long = format!(r#"{{"n":1,"s":"{}"}}"#, "a".repeat(300));
    assert!(
        call(&layer, "t", &long, "{}")
            .await
            .unwrap_err()
            .message()
            .contains("bytes")
    );
    assert!(call(&layer, "unknown", r#"{"any":1}"#, "{}").await.is_ok());
}

#[tokio::test]
async fn results_are_checked_unless_they_are_errors() {
    let layer = ValidateLayer::new(source("{}", Some(r#"{"required":["ok"]}"#)));
    for (answer, fits) in [
        (r#"{"structuredContent":{"ok":1}}"#, true),
        (r#"{"structuredContent":{}}"#, false),
        (r#"{"content":[]}"#, false),
        (r#"{"content":[],"isError":true}"#, true),
        (r#"{"resultType":"input_required"}"#, true),
    ] {
        assert_eq!(
            call(&layer, "t", "{}", answer)
                .await
                .map_err(|e| e.kind())
                .err(),
            (!fits).then_some(ErrorKind::BadUpstream),
            "{answer}"
        );
    }
    let blind = ValidateLayer::new(source("{}", Some(r#"{"required":["ok"]}"#))).without_results();
    assert!(call(&blind, "t", "{}", "{}").await.is_ok());
}

#[tokio::test]
async fn schemas_are_compiled_once_for_each_generation_and_bad_ones_check_nothing() {
    let source = source(SCHEMA, None);
    let layer = ValidateLayer::new(source.clone());
    for _ in 0..5 {
        call(&layer, "t", "{}", "{}").await.unwrap_err();
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    for bad in [
        r#"{"$ref":"https://example.com/schema.json"}"#,
        r#"{"$ref":"file:///etc/passwd"}"#,
        r#"{"type":7}"#,
        r#"{"pattern":"(?=x)"}"#,
    ] {
        *source.input.lock().unwrap() = bad.into();
        source.generation.fetch_add(1, Ordering::SeqCst);
        assert!(call(&layer, "t", "{}", "{}").await.is_ok(), "{bad}");
    }
    *source.input.lock().unwrap() =
        r##"{"$defs":{"n":{"type":"object","required":["x"]}},"$ref":"#/$defs/n"}"##.into();
    source.generation.fetch_add(1, Ordering::SeqCst);
    assert!(
        call(&layer, "t", "{}", "{}").await.is_err(),
        "a reference within the schema is followed"
    );
}
