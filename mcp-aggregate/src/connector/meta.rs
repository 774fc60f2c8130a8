//! What revision 2026-07-28 wants of a client: facts in `_meta`, and a look at what the server speaks.

use mcp_core::{Json, ProtocolVersion, Request, meta};

/// States the facts of a call whose own client did not.
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
    fn an_answer_to_anything_does_not_make_a_server_modern() {
        for (result, modern) in [
            ("{}", false),
            (r#"{"supportedVersions":"2026-07-28"}"#, false),
            (r#"{"supportedVersions":["2025-11-25"]}"#, false),
            (r#"{"supportedVersions":["2025-11-25","2026-07-28"]}"#, true),
        ] {
            let answer = mcp_core::Response::new(Json::parse(result).unwrap());
            assert_eq!(is_discovery(&answer), modern, "{result}");
        }
    }
}
