//! Arguments that a tool wants mirrored in `Mcp-Param-*` headers (revision 2026-07-28, Streamable HTTP; SEP-2243).

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::{Error, ErrorKind, Json, Request};

/// The arguments of one tool that headers mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<Mirror>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirror {
    /// The header's name in lower case, without `mcp-param-`.
    header: Box<str>,
    /// The path of property names from the arguments.
    path: Vec<Box<str>>,
    integer: bool,
}

/// Why a schema's `x-mcp-header` cannot stand. A client drops the tool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("x-mcp-header {header:?}: {reason}")]
pub struct InvalidMirror {
    header: String,
    reason: &'static str,
}

impl Mirrors {
    /// Reads the annotations of an input schema, leaving out those that cannot stand.
    #[must_use]
    pub fn of_schema(schema: &Value) -> Self {
        Self::read(schema).unwrap_or_default()
    }

    /// Reads the annotations of an input schema.
    ///
    /// # Errors
    ///
    /// A name that is empty, not a header name, or there twice; an annotation on a property that is not an
    /// integer, a string or a boolean, or that cannot be reached through `properties` alone.
    pub fn read(schema: &Value) -> Result<Self, InvalidMirror> {
        let mut mirrors = Self::default();
        mirrors.properties(schema, &mut Vec::new())?;
        let annotated = count(schema);
        if annotated > mirrors.0.len() {
            return Err(InvalidMirror {
                header: String::new(),
                reason: "it must be reachable from the root through `properties` only",
            });
        }
        Ok(mirrors)
    }

    fn properties(
        &mut self,
        schema: &Value,
        path: &mut Vec<Box<str>>,
    ) -> Result<(), InvalidMirror> {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Ok(());
        };
        for (name, property) in properties {
            path.push(name.as_str().into());
            if let Some(header) = property.get("x-mcp-header") {
                self.add(header, property, path)?;
            }
            self.properties(property, path)?;
            path.pop();
        }
        Ok(())
    }

    fn add(
        &mut self,
        header: &Value,
        property: &Value,
        path: &[Box<str>],
    ) -> Result<(), InvalidMirror> {
        let invalid = |reason| InvalidMirror {
            header: header.as_str().unwrap_or_default().to_owned(),
            reason,
        };
        let name = header
            .as_str()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| invalid("it must be a string that is not empty"))?;
        let name = HeaderName::try_from(name)
            .map_err(|_| invalid("it must be a token as in RFC 9110, section 5.6.2"))?;
        let kind = property.get("type").and_then(Value::as_str);
        if !matches!(kind, Some("integer" | "string" | "boolean")) {
            return Err(invalid(
                "the property must be an integer, a string or a boolean",
            ));
        }
        if self.0.iter().any(|mirror| *mirror.header == *name.as_str()) {
            return Err(invalid("two properties must not share a header"));
        }
        self.0.push(Mirror {
            header: name.as_str().into(),
            path: path.to_vec(),
            integer: kind == Some("integer"),
        });
        Ok(())
    }

    /// Returns whether no argument is mirrored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the headers of a call against its arguments. A call that did not come over HTTP passes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeaderMismatch`] for a header that is missing, differs, or has no argument.
    pub fn check(&self, request: &Request) -> Result<(), Error> {
        let Some(headers) = request.mirrored() else {
            return Ok(());
        };
        let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
        for mirror in &self.0 {
            let mut found = headers
                .iter()
                .filter(|(name, _)| *name == mirror.header)
                .map(|(_, value)| &**value);
            let (header, more) = (found.next(), found.next());
            let argument = mirror.argument(&arguments);
            let agree = match (header, &argument) {
                (None, None) => true,
                (Some(header), Some(argument)) => mirror.same(header, argument),
                _ => false,
            };
            if !agree || more.is_some() {
                return Err(Error::new(
                    ErrorKind::HeaderMismatch,
                    format!(
                        "Mcp-Param-{} and the argument {:?} differ; list the tools again and repeat the call",
                        mirror.header,
                        mirror.path.join("."),
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Returns the headers that a call to an upstream needs.
    #[must_use]
    pub fn headers(&self, arguments: &Json) -> Vec<(HeaderName, HeaderValue)> {
        let header = |mirror: &Mirror| {
            let name = HeaderName::try_from(format!("mcp-param-{}", mirror.header)).ok()?;
            Some((name, encode(&mirror.argument(arguments)?)))
        };
        self.0.iter().filter_map(header).collect()
    }
}

impl Mirror {
    /// Returns the argument as text; `None` where it is absent or `null`.
    fn argument(&self, arguments: &Json) -> Option<String> {
        let mut value = arguments.clone();
        for name in &self.path {
            value = value.member(name)?;
        }
        match value.as_bytes().first()? {
            b'n' => None,
            b'"' => value.to_text(),
            _ => Some(value.as_str().to_owned()),
        }
    }

    fn same(&self, header: &str, argument: &str) -> bool {
        if header == argument {
            return true;
        }
        let number = |text: &str| text.parse::<f64>().ok();
        self.integer && number(header).is_some() && number(header) == number(argument)
    }
}

/// Encodes a mirrored value: as it is where a header can carry it, else in Base64.
#[must_use]
pub fn encode(value: &str) -> HeaderValue {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let plain = value
        .bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        && value.trim_matches([' ', '\t']) == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    let text = match plain {
        true => value.to_owned(),
        false => format!("=?base64?{}?=", STANDARD.encode(value)),
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Counts the annotations of a schema, wherever they stand as keywords.
fn count(schema: &Value) -> usize {
    match schema {
        Value::Object(map) => {
            usize::from(map.contains_key("x-mcp-header") && map.contains_key("type"))
                + map
                    .iter()
                    .filter(|(key, _)| {
                        !matches!(key.as_str(), "const" | "enum" | "default" | "examples")
                    })
                    .map(|(_, value)| count(value))
                    .sum::<usize>()
        }
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Method;

    fn schema(property: &Value) -> Value {
        json!({ "type": "object", "properties": { "a": property } })
    }

    #[test]
    fn annotations_that_cannot_stand_are_named() {
        for property in [
            json!({ "type": "string", "x-mcp-header": "" }),
            json!({ "type": "string", "x-mcp-header": 7 }),
            json!({ "type": "string", "x-mcp-header": "a b" }),
            json!({ "type": "string", "x-mcp-header": "a:" }),
            json!({ "type": "number", "x-mcp-header": "a" }),
            json!({ "type": "object", "x-mcp-header": "a" }),
            json!({ "type": "array", "items": { "type": "string", "x-mcp-header": "a" } }),
        ] {
            assert!(Mirrors::read(&schema(&property)).is_err(), "{property}");
        }
        let twice = json!({ "properties": {
            "a": { "type": "string", "x-mcp-header": "Same" },
            "b": { "type": "string", "x-mcp-header": "same" },
        }});
        assert!(Mirrors::read(&twice).is_err());
        let nested = schema(&json!({ "type": "object", "properties": {
            "b": { "type": "boolean", "x-mcp-header": "B" },
        }}));
        assert_eq!(Mirrors::read(&nested).unwrap().0.len(), 1);
    }

    fn call(arguments: &str, headers: &[(&str, &str)]) -> Request {
        let params = format!(r#"{{"name":"t","arguments":{arguments}}}"#);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (Box::from(*name), Box::from(*value)))
            .collect();
        Request::new(Method::TOOLS_CALL, Some(Json::parse(params).unwrap()))
            .unwrap()
            .with_mirrored(headers.into())
    }

    #[test]
    fn headers_and_arguments_must_agree() {
        let text = Mirrors::of_schema(&schema(&json!({ "type": "string", "x-mcp-header": "A" })));
        let number =
            Mirrors::of_schema(&schema(&json!({ "type": "integer", "x-mcp-header": "A" })));
        for (mirrors, arguments, headers, ok) in [
            (&text, r#"{"a":"x"}"#, &[("a", "x")][..], true),
            (&text, r#"{"a":"x"}"#, &[("a", "X")], false),
            (&text, r#"{"a":"x"}"#, &[], false),
            (&text, r#"{"a":"x"}"#, &[("a", "x"), ("a", "x")], false),
            (&text, r#"{"a":null}"#, &[], true),
            (&text, "{}", &[("a", "x")], false),
            (&text, "{}", &[("unknown", "x")], true),
            (&text, r#"{"a":"42.0"}"#, &[("a", "42")], false),
            (&number, r#"{"a":42}"#, &[("a", "42.0")], true),
        ] {
            let request = call(arguments, headers);
            assert_eq!(
                mirrors.check(&request).is_ok(),
                ok,
                "{arguments} {headers:?}"
            );
        }
    }

    #[test]
    fn values_are_encoded_where_a_header_cannot_carry_them() {
        for (value, expected) in [
            ("plain text", "plain text"),
            (" edge", "=?base64?IGVkZ2U=?="),
            ("é", "=?base64?w6k=?="),
            ("a\nb", "=?base64?YQpi?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
            ("", ""),
        ] {
            assert_eq!(encode(value), expected, "{value:?}");
        }
    }
}
