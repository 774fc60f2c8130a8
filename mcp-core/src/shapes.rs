//! What older revisions do not allow in lists and results, adapted for their clients.
//!
//! Official clients refuse a whole list for one entry that their revision's schema does not allow. So a tool of
//! revision 2026-07-28 loses what an older client cannot read, and nothing else changes.
//!
//! | Client's revision | Entries of lists | Results |
//! |---|---|---|
//! | 2026-07-28 | as they are | as they are |
//! | 2025-11-25 | no `outputSchema` that is not of type `object` | no `structuredContent` that is not an object (its text goes to an empty `content`), no `resultType`, `ttlMs`, `cacheScope` |
//! | before | the same, and no `icons` | the same |
//!
//! Server transports adapt results of calls. Who serves lists adapts them with [`Shape::entry`] or [`Shape::list`], once
//! for each shape.

use serde_json::json;

use crate::{EntryKind, Era, Json, Method, Object, ProtocolVersion, Response, ResultType};

/// Members of results that sessions do not have.
const STATELESS_MEMBERS: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// Revisions whose clients take the same lists and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shape {
    /// 2026-07-28 and later.
    Stateless,
    /// 2025-11-25.
    SessionWithIcons,
    /// 2025-06-18 and earlier.
    Session,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 3] = [Self::Stateless, Self::SessionWithIcons, Self::Session];

    /// Returns the shape of a revision.
    #[must_use]
    pub fn of(version: &ProtocolVersion) -> Self {
        match version.era() {
            Era::Stateless => Self::Stateless,
            Era::Session if *version >= ProtocolVersion::V_2025_11_25 => Self::SessionWithIcons,
            Era::Session => Self::Session,
        }
    }

    /// Returns an entry of a list (a tool, a prompt, a resource, a template) as clients of this shape can read it. An
    /// entry that they can read as it is shares its text.
    #[must_use]
    pub fn entry(self, kind: EntryKind, entry: &Json) -> Json {
        if self == Self::Stateless {
            return entry.clone();
        }
        let schema = match kind {
            EntryKind::Tool => entry.member("outputSchema"),
            _ => None,
        };
        let no_object = schema.is_some_and(|schema| !describes_object(&schema));
        let icons = self == Self::Session && entry.member("icons").is_some();
        if !no_object && !icons {
            return entry.clone();
        }
        let Ok(mut adapted) = Object::index(entry) else {
            return entry.clone();
        };
        if no_object {
            adapted.remove("outputSchema");
        }
        if icons {
            adapted.remove("icons");
        }
        adapted.to_json()
    }

    /// Returns the result of a list method as clients of this shape can read it.
    #[must_use]
    pub fn list(self, kind: EntryKind, result: &Json) -> Json {
        let member = match kind {
            EntryKind::Tool => "tools",
            EntryKind::Prompt => "prompts",
            EntryKind::Resource => "resources",
            EntryKind::ResourceTemplate => "resourceTemplates",
            EntryKind::Method | EntryKind::Upstream => return result.clone(),
        };
        if self == Self::Stateless {
            return result.clone();
        }
        let Ok(mut adapted) = Object::index(result) else {
            return result.clone();
        };
        for member in STATELESS_MEMBERS {
            adapted.remove(member);
        }
        if let Some(entries) = adapted.get(member) {
            let own = entries.elements();
            let fit: Vec<_> = own.iter().map(|entry| self.entry(kind, entry)).collect();
            if own != fit {
                let fit: Vec<_> = fit.iter().map(Json::as_bytes).collect();
                let text = [b"[", fit.join(&b","[..]).as_slice(), b"]"].concat();
                adapted.set(member, Json::composed(text));
            }
        }
        adapted.to_json()
    }

    /// Returns the result of a call, lists apart, as clients of this shape can read it.
    #[must_use]
    pub fn result(self, method: &Method, response: Response) -> Response {
        if self == Self::Stateless || method.as_str().ends_with("/list") {
            return response;
        }
        let typed = response.has_result_type() && *response.result_type() == ResultType::Complete;
        let structured = *method == Method::TOOLS_CALL && response.has_other_value();
        if !typed && !structured {
            return response;
        }
        let Ok(mut adapted) = Object::index(response.result()) else {
            return response;
        };
        if typed {
            for member in STATELESS_MEMBERS {
                adapted.remove(member);
            }
        }
        if structured {
            without_other_values(&mut adapted);
        }
        match adapted.is_changed() {
            true => response.with_session_result(adapted.to_json()),
            false => response,
        }
    }
}

/// Removes structured content that is not an object. A result that has nothing else gets its text as content.
fn without_other_values(result: &mut Object) {
    let Some(value) = result
        .get("structuredContent")
        .filter(|value| !value.is_object())
    else {
        return;
    };
    result.remove("structuredContent");
    let content = result.get("content");
    if content.is_none_or(|content| content.elements().is_empty()) {
        let text = value.as_str();
        result.set("content", json!([{ "type": "text", "text": text }]).into());
    }
}

fn describes_object(schema: &Json) -> bool {
    let kind = schema.member("type").and_then(|kind| kind.to_text());
    kind.as_deref() == Some("object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn revisions_have_the_shape_of_their_schema() {
        for (version, shape) in [
            ("2024-11-05", Shape::Session),
            ("2025-06-18", Shape::Session),
            ("2025-11-25", Shape::SessionWithIcons),
            ("2026-07-28", Shape::Stateless),
        ] {
            assert_eq!(Shape::of(&ProtocolVersion::new(version)), shape);
        }
    }

    #[test]
    fn entries_lose_what_older_clients_cannot_read() {
        let array = r#"{"name":"t","outputSchema":{"type":"array"},"x": 1.0,"icons":[]}"#;
        let object = r#"{"name":"t","outputSchema":{"type":"object"},"x": 1.0}"#;
        for (shape, entry, expected) in [
            (Shape::Stateless, array, array),
            (
                Shape::SessionWithIcons,
                array,
                r#"{"name":"t","x": 1.0,"icons":[]}"#,
            ),
            (Shape::Session, array, r#"{"name":"t","x": 1.0}"#),
            (Shape::Session, object, object),
        ] {
            let adapted = shape.entry(EntryKind::Tool, &json(entry));
            assert_eq!(adapted.as_str(), expected, "{shape:?}");
        }
        let prompt = json(r#"{"name":"p","outputSchema":true}"#);
        assert_eq!(Shape::Session.entry(EntryKind::Prompt, &prompt), prompt);
    }

    #[test]
    fn lists_are_adapted_entry_by_entry() {
        let list = json(
            r#"{"resultType":"complete","tools":[{"a":1},{"outputSchema":{"anyOf":[]}}],"nextCursor":"c","ttlMs":5,"cacheScope":"public"}"#,
        );
        let adapted = Shape::Session.list(EntryKind::Tool, &list);
        assert_eq!(
            adapted.as_str(),
            r#"{"tools":[{"a":1},{}],"nextCursor":"c"}"#
        );
        assert_eq!(Shape::Stateless.list(EntryKind::Tool, &list), list);
    }

    fn value(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn results_lose_what_older_clients_cannot_read() {
        let shape = Shape::SessionWithIcons;
        for (method, result, expected) in [
            (
                Method::TOOLS_CALL,
                r#"{"resultType":"complete","structuredContent":[1, 2],"content":[]}"#,
                r#"{"content":[{"text":"[1, 2]","type":"text"}]}"#,
            ),
            (
                Method::TOOLS_CALL,
                r#"{"content":[{"type":"text","text":"7"}],"structuredContent":7}"#,
                r#"{"content":[{"type":"text","text":"7"}]}"#,
            ),
            (
                Method::TOOLS_CALL,
                r#"{"structuredContent": {"a":1.0}}"#,
                r#"{"structuredContent": {"a":1.0}}"#,
            ),
            (
                Method::RESOURCES_READ,
                r#"{"contents":[],"ttlMs":1,"resultType":"complete"}"#,
                r#"{"contents":[]}"#,
            ),
            (
                Method::TOOLS_CALL,
                r#"{"resultType":"task","ttlMs":1}"#,
                r#"{"resultType":"task","ttlMs":1}"#,
            ),
        ] {
            let response = Response::new(json(result));
            let adapted = shape.result(&method, response.clone());
            // What is written anew has its members in any order.
            match result.contains("[1, 2]") {
                true => assert_eq!(value(adapted.result().as_str()), value(expected)),
                false => assert_eq!(adapted.result().as_str(), expected),
            }
            let same = Shape::Stateless.result(&method, response);
            assert_eq!(same.result().as_str(), result);
        }
    }
}
