//! Which calls need an approval, and what one call is.

use mcp_core::{Json, Request};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Whether a tool may destroy something by its annotations. One that has none may.
pub(super) fn may_destroy(request: &Request) -> bool {
    request.tool().is_some()
        && request
            .annotations()
            .is_none_or(|hints| hints.read_only != Some(true) && hints.destructive != Some(false))
}

/// What makes a call this call and no other.
pub(super) fn digest(request: &Request) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(request.principal().partition().as_bytes());
    add(request.tool().unwrap_or_default().as_bytes());
    add(request.upstream().map_or("", |own| own.as_str()).as_bytes());
    // A tool that has changed since is another one.
    let schema = request.schemas().and_then(|own| own.input.clone());
    add(schema.unwrap_or(Json::NULL).as_bytes());
    let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
    match arguments.to_value() {
        Ok(value) => add(canonical(&value).as_bytes()),
        // A member that is there twice: the server may read another of the two, so every byte counts.
        Err(_) => add(arguments.as_bytes()),
    }
    hash.finalize().into()
}

/// Writes a value with its members in order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut names: Vec<_> = members.iter().collect();
            names.sort_by_key(|(name, _)| name.as_str());
            let own = names.into_iter().map(|(name, value)| {
                format!("{}:{}", Value::from(name.as_str()), canonical(value))
            });
            format!("{{{}}}", own.collect::<Vec<_>>().join(","))
        }
        Value::Array(all) => {
            let own = all.iter().map(canonical);
            format!("[{}]", own.collect::<Vec<_>>().join(","))
        }
        leaf => leaf.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::{Method, Principal, ToolAnnotations};

    use super::*;

    fn call(user: &str, params: &str) -> Request {
        let params = Json::parse(params.to_owned()).unwrap();
        Request::new(Method::TOOLS_CALL, Some(params))
            .unwrap()
            .with_principal(Principal::authenticated("https://as.example", user))
    }

    #[test]
    fn a_call_is_the_same_in_another_spelling_and_no_other() {
        let own = digest(&call(
            "alice",
            r#"{"name":"t","arguments":{"a":1,"b":[{"x":2,"y":3}]}}"#,
        ));
        let spelled = r#"{"arguments":{"b":[ {"y":3,"x":2} ], "a":1},"name":"t","_meta":{}}"#;
        assert_eq!(own, digest(&call("alice", spelled)));
        for (user, other) in [
            (
                "bob",
                r#"{"name":"t","arguments":{"a":1,"b":[{"x":2,"y":3}]}}"#,
            ),
            (
                "alice",
                r#"{"name":"u","arguments":{"a":1,"b":[{"x":2,"y":3}]}}"#,
            ),
            (
                "alice",
                r#"{"name":"t","arguments":{"a":1,"b":[{"x":2,"y":4}]}}"#,
            ),
            (
                "alice",
                r#"{"name":"t","arguments":{"a":"1","b":[{"x":2,"y":3}]}}"#,
            ),
            ("alice", r#"{"name":"t"}"#),
        ] {
            assert_ne!(own, digest(&call(user, other)), "{other}");
        }
    }

    #[test]
    fn of_a_member_that_is_there_twice_both_count() {
        let of = |first: u8| {
            let params = format!(r#"{{"name":"t","arguments":{{"a":{first},"a":2}}}}"#);
            digest(&call("alice", &params))
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(9));
    }

    #[test]
    fn a_tool_without_annotations_may_destroy() {
        let plain = call("alice", r#"{"name":"t"}"#);
        let hinted = |read_only, destructive| {
            let mut hints = ToolAnnotations::default();
            hints.read_only = read_only;
            hints.destructive = destructive;
            may_destroy(&plain.clone().with_annotations(hints))
        };
        assert!(may_destroy(&plain) && hinted(None, None) && hinted(Some(false), Some(true)));
        assert!(!hinted(Some(true), None) && !hinted(None, Some(false)));
        assert!(!may_destroy(
            &Request::new(Method::TOOLS_LIST, None).unwrap()
        ));
    }
}
