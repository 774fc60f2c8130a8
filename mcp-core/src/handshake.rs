//! The handshake of the session era, answered from `server/discover`.

use crate::{
    ClientCapabilities, Error, ErrorKind, Json, Object, ProtocolVersion, Response, protocol::meta,
};

/// What a client of the session era says when it opens.
pub(crate) struct Opening {
    pub(crate) version: ProtocolVersion,
    pub(crate) capabilities: ClientCapabilities,
    pub(crate) client_info: Option<Json>,
}

impl Opening {
    /// Reads the parameters of `initialize` and settles the revision: the one asked for if it is spoken
    /// here, else the newest with sessions (revision 2025-11-25, lifecycle, "Version Negotiation").
    pub(crate) fn read(params: Option<&Object>) -> Result<Self, Error> {
        let missing = |member| {
            Error::new(
                ErrorKind::InvalidParams,
                format!("initialize needs `params.{member}`"),
            )
        };
        let params = params.ok_or_else(|| missing("protocolVersion"))?;
        let asked = params
            .text("protocolVersion")
            .ok_or_else(|| missing("protocolVersion"))?;
        let capabilities = params
            .get("capabilities")
            .filter(Json::is_object)
            .ok_or_else(|| missing("capabilities"))?;
        Ok(Self {
            version: ProtocolVersion::known(&asked)
                .filter(|version| ProtocolVersion::SESSION_ERA.contains(version))
                .unwrap_or(ProtocolVersion::LATEST_SESSION),
            // Kept for as long as the session: without the rest of the message.
            capabilities: ClientCapabilities::new(capabilities.compact()),
            client_info: params.get("clientInfo").map(|info| info.compact()),
        })
    }
}

/// Composes the result of `initialize` from that of `server/discover`, byte for byte where they agree.
pub(crate) fn answer(version: &ProtocolVersion, discovered: &Response) -> Json {
    let mut result = Object::default();
    let discovered = discovered.result();
    let info = discovered
        .member("_meta")
        .and_then(|meta| meta.member(meta::SERVER_INFO));
    let capabilities = discovered.member("capabilities");
    result.set("protocolVersion", Json::string(version.as_str()));
    result.set("capabilities", capabilities.unwrap_or(Json::EMPTY_OBJECT));
    result.set("serverInfo", info.unwrap_or_else(own_info));
    if let Some(instructions) = discovered.member("instructions") {
        result.set("instructions", instructions);
    }
    result.into()
}

/// What a server is called that does not say.
fn own_info() -> Json {
    Json::from(serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}
