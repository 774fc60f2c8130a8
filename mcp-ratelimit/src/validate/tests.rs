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
        // The server might read the other of the two.
        (r#"{"n":"x","n":1}"#, Some("occurs twice")),
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

#[tokio::test]
async fn schemas_of_common_libraries_check_what_they_say() {
    // As Zod 3 (zod-to-json-schema), Zod 4 and Pydantic 2 emit them.
    let zod3 = r##"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{
        "pair":{"type":"array","minItems":2,"maxItems":2,"items":[{"type":"string"},{"type":"number"}]},
        "when":{"type":"string","format":"date-time"}},"required":["pair"],"additionalProperties":false}"##;
    let zod4 = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{
        "mail":{"type":"string","format":"email",
        "pattern":"^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$"}},
        "required":["mail"],"additionalProperties":false}"##;
    let pydantic = r##"{"$defs":{"Kind":{"enum":["a","b"],"type":"string"}},"type":"object","properties":{
        "kind":{"$ref":"#/$defs/Kind"},"n":{"anyOf":[{"type":"integer"},{"type":"null"}],"default":null}},"required":["kind"]}"##;
    let tuple =
        r#"{"type":"object","properties":{"pair":{"type":"array","items":[{"type":"string"}]}}}"#;
    let unknown = r#"{"$schema":"https://vendor.example/schema","type":"object","required":["n"]}"#;
    for (schema, good, bad) in [
        (
            zod3,
            r#"{"pair":["a",1],"when":"tomorrow"}"#,
            r#"{"pair":[1,"a"]}"#,
        ),
        (
            zod4,
            r#"{"mail":"a.b@c.example"}"#,
            r#"{"mail":"a..b@c.example"}"#,
        ),
        (pydantic, r#"{"kind":"a","n":null}"#, r#"{"kind":"c"}"#),
        (tuple, r#"{"pair":["a"]}"#, r#"{"pair":[1]}"#),
        (unknown, r#"{"n":1}"#, "{}"),
    ] {
        let layer = ValidateLayer::new(source(schema, None));
        assert!(call(&layer, "t", good, "{}").await.is_ok(), "{good}");
        let error = call(&layer, "t", bad, "{}").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParams, "{bad}");
        assert!(layer.problems().is_empty(), "{:?}", layer.problems());
    }
}

#[tokio::test]
async fn a_pattern_that_no_engine_takes_is_left_out_and_listed() {
    let schema = r#"{"type":"object","properties":{"a":{"pattern":"(","type":"string"},
        "pattern":{"type":"integer"},"n":{"const":{"pattern":"("}}},
        "patternProperties":{"(":{"type":"integer"},"^x":{"type":"integer"}},"required":["a"]}"#;
    let layer = ValidateLayer::new(source(schema, None));
    assert!(
        call(
            &layer,
            "t",
            r#"{"a":"(","pattern":1,"n":{"pattern":"("},"x":1}"#,
            "{}"
        )
        .await
        .is_ok()
    );
    for bad in [
        r#"{"a":1}"#,
        "{}",
        r#"{"a":"b","pattern":"c"}"#,
        r#"{"a":"b","xy":"c"}"#,
    ] {
        let error = call(&layer, "t", bad, "{}").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParams, "{bad}");
    }
    let problems = layer.problems();
    let places: Vec<_> = problems.iter().map(|own| own.place.as_str()).collect();
    assert_eq!(places.len(), 2, "{places:?}");
    assert!(places.contains(&"/properties/a/pattern") && places.contains(&"/patternProperties"));
    assert!(
        problems
            .iter()
            .all(|own| own.tool == "t" && own.schema == "inputSchema")
    );
    // A whole schema that is none is listed too.
    let layer = ValidateLayer::new(source(r#"{"type":7}"#, None));
    assert!(call(&layer, "t", "{}", "{}").await.is_ok());
    assert_eq!(layer.problems()[0].place, "");
}

#[tokio::test]
async fn a_pattern_that_goes_back_and_forth_ends() {
    let schema = r#"{"properties":{"s":{"pattern":"^(?=a)(a|a)*$(?<!b)"}}}"#;
    let layer = ValidateLayer::new(source(schema, None));
    let long = format!(r#"{{"s":"{}b"}}"#, "a".repeat(5000));
    assert!(call(&layer, "t", &long, "{}").await.is_err());
}

#[tokio::test]
async fn a_call_may_carry_its_own_schemas() {
    let layer = ValidateLayer::by_request();
    let service = layer.layer(service_fn(|_: Request| async {
        Ok::<_, Error>(Response::empty())
    }));
    let ask = async |n: &str, schema: Option<(u64, &str)>| {
        let params = Json::parse(format!(r#"{{"name":"t","arguments":{{"n":{n}}}}}"#)).unwrap();
        let mut request = Request::new(Method::TOOLS_CALL, Some(params)).unwrap();
        if let Some((generation, schema)) = schema {
            let schema = Json::parse(schema.to_owned()).unwrap();
            request =
                request.with_schemas(Arc::new(ToolSchemas::new(generation, Some(schema), None)));
        }
        service.clone().oneshot(request).await.is_ok()
    };
    let number = r#"{"properties":{"n":{"type":"integer"}}}"#;
    let text = r#"{"properties":{"n":{"type":"string"}}}"#;
    assert!(ask("1", Some((1, number))).await && !ask("\"a\"", Some((1, number))).await);
    // The tool has changed.
    assert!(!ask("1", Some((2, text))).await && ask("\"a\"", Some((2, text))).await);
    assert!(ask("1", None).await && ask("\"a\"", None).await);
}
