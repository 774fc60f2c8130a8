//! Optional members that a client sends as `null`.

use crate::{Method, Object, jsonrpc::Message, protocol::meta};

/// Removes optional members of `params` that are `null`: some clients write what they leave out that way, and no
/// revision allows it. Applies to `_meta` and its progress token in every message, and to every member at the top level
/// of `params` where the method is one of the specification. What is deeper, as in a tool's arguments, stays.
pub(super) fn without_nulls(message: Message) -> Message {
    match message {
        Message::Request(id, method, params) => {
            let params = params.map(|params| tidy(&method, params));
            Message::Request(id, method, params)
        }
        Message::Notification(method, params) => {
            let params = params.map(|params| tidy(&method, params));
            Message::Notification(method, params)
        }
        answer @ (Message::Response(..) | Message::Error(..)) => answer,
    }
}

fn tidy(method: &Method, mut params: Object) -> Object {
    if method.is_standard() {
        params.remove_nulls(|_| true);
    }
    let Some(own) = params.get("_meta") else {
        return params;
    };
    if own.is_null() {
        params.remove("_meta");
    } else if own.as_str().contains("null")
        && let Ok(mut own) = Object::index(&own)
    {
        own.remove_nulls(|name| name == meta::PROGRESS_TOKEN);
        if own.is_changed() {
            params.set("_meta", own.to_json());
        }
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_optional_members_are_left_out_and_no_others() {
        for (method, params, expected) in [
            (
                "tools/call",
                r#"{"_meta":null,"name":"t","arguments":{"a":null}}"#,
                r#"{"name":"t","arguments":{"a":null}}"#,
            ),
            ("tools/list", r#"{"cursor":null,"\u0078":null}"#, "{}"),
            (
                "tools/call",
                r#"{"name":"t","_meta":{"progressToken":null,"x":null}}"#,
                r#"{"name":"t","_meta":{"x":null}}"#,
            ),
            ("vendor/x", r#"{"a":null,"_meta":null}"#, r#"{"a":null}"#),
            ("vendor/x", r#"{"a": null }"#, r#"{"a": null }"#),
        ] {
            let params = tidy(&Method::new(method), Object::parse(params).unwrap());
            assert_eq!(params.to_json().as_str(), expected);
        }
    }
}
