//! The handshake of the session era, as its client.

use http::HeaderValue;
use mcp_core::{
    ClientCapabilities, Error, ErrorKind, Json, Object, ProtocolVersion, Request, Response, meta,
};
use serde_json::json;

/// Composes the parameters of `initialize` for the client of a request.
pub(crate) fn opening(request: &Request, capabilities: &ClientCapabilities) -> Object {
    let version = match ProtocolVersion::SESSION_ERA.contains(request.version()) {
        true => request.version().clone(),
        false => ProtocolVersion::LATEST_SESSION,
    };
    let unnamed = || {
        Json::from(json!({
            "name": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
        }))
    };
    let info = request.client_info().cloned().unwrap_or_else(unnamed);
    let mut params = Object::default();
    params.set("protocolVersion", Json::string(version.as_str()));
    params.set("capabilities", capabilities.as_json().clone());
    params.set("clientInfo", info);
    params
}

/// What a server says when a session is opened.
pub(crate) struct Opened {
    /// The result, as `server/discover` would give it.
    pub(crate) discovered: Response,
    /// The revision that was settled on.
    pub(crate) version: HeaderValue,
}

/// Reads the result of `initialize`.
pub(crate) fn opened(answer: &Response) -> Result<Opened, Error> {
    let bad = || {
        Error::new(
            ErrorKind::BadUpstream,
            "the server's answer to initialize names no revision",
        )
    };
    let answer = Object::index(answer.result()).map_err(|_| bad())?;
    let version = answer.text("protocolVersion").ok_or_else(bad)?;
    let header = HeaderValue::try_from(&*version).map_err(|_| bad())?;
    let mut own = Object::default();
    if let Some(info) = answer.get("serverInfo") {
        own.set(meta::SERVER_INFO, info);
    }
    let mut result = Object::default();
    result.set("supportedVersions", Json::from(json!([version])));
    for member in ["capabilities", "instructions"] {
        if let Some(value) = answer.get(member) {
            result.set(member, value);
        }
    }
    result.set("_meta", own.to_json());
    Ok(Opened {
        discovered: Response::new(result.to_json()),
        version: header,
    })
}
