//! What revision 2026-07-28 wants of a client: its context in `_meta`, and a look at what the server speaks.

use mcp_core::{Json, ProtocolVersion, Request, meta};

/// Adds the context of a call to `_meta` where its own client did not.
pub(crate) fn complete(request: &mut Request) {
    let stated = request
        .param("_meta")
        .is_some_and(|own| own.member(meta::PROTOCOL_VERSION).is_some());
    if stated {
        return;
    }
    let mut own = request.meta().unwrap_or_default();
    own.set(
        meta::PROTOCOL_VERSION,
        Json::string(ProtocolVersion::V_2026_07_28.as_str()),
    );
    own.set(
        meta::CLIENT_CAPABILITIES,
        request.capabilities().as_json().clone(),
    );
    if let Some(info) = request.client_info() {
        own.set(meta::CLIENT_INFO, info.clone());
    }
    if let Some(level) = request.log_level() {
        own.set(meta::LOG_LEVEL, Json::string(level.as_str()));
    }
    request.params_mut().set("_meta", Json::from(own));
}

/// Optional members of parameters that some clients send as null, which the schema does not allow.
#[cfg(any(feature = "http", feature = "stdio"))]
const OPTIONAL: [&str; 5] = ["_meta", "arguments", "context", "cursor", "task"];

/// Leaves optional members out that are null: strict servers refuse them.
#[cfg(any(feature = "http", feature = "stdio"))]
pub(crate) fn drop_nulls(request: &mut Request) {
    if request.params().is_some() {
        let params = request.params_mut();
        params.remove_nulls(|name| OPTIONAL.contains(&name));
    }
}

/// Whether an answer to `server/discover` says that the revision is spoken. Servers of the session era may answer
/// anything to a method that they do not know.
#[cfg(any(feature = "http", feature = "stdio"))]
pub(crate) fn is_discovery(answer: &mcp_core::Response) -> bool {
    let versions = answer.result().member("supportedVersions");
    versions.is_some_and(|versions| {
        let revision = ProtocolVersion::V_2026_07_28;
        let mut listed = versions.elements().into_iter();
        listed.any(|version| version.to_text().as_deref() == Some(revision.as_str()))
    })
}

#[cfg(all(test, any(feature = "http", feature = "stdio")))]
mod tests {
    use super::*;

    #[test]
    fn optional_members_that_are_null_are_left_out_and_nothing_else() {
        for (params, kept) in [
            (
                r#"{"_meta":null,"name":"t","arguments":null,"cursor":null}"#,
                r#"{"name":"t"}"#,
            ),
            (
                r#"{"name":"t","arguments":{"x":null},"other":null}"#,
                r#"{"name":"t","arguments":{"x":null},"other":null}"#,
            ),
        ] {
            let params = Json::parse(params).unwrap();
            let mut request = Request::new(mcp_core::Method::TOOLS_CALL, Some(params)).unwrap();
            drop_nulls(&mut request);
            assert_eq!(request.params().unwrap().to_json().as_str(), kept);
        }
    }

    #[test]
    fn an_answer_to_anything_does_not_make_a_server_stateless() {
        for (result, stateless) in [
            ("{}", false),
            (r#"{"supportedVersions":"2026-07-28"}"#, false),
            (r#"{"supportedVersions":["2025-11-25"]}"#, false),
            (r#"{"supportedVersions":["2025-11-25","2026-07-28"]}"#, true),
        ] {
            let answer = mcp_core::Response::new(Json::parse(result).unwrap());
            assert_eq!(is_discovery(&answer), stateless, "{result}");
        }
    }
}
