//! The facts that revision 2026-07-28 wants in `_meta`.

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
