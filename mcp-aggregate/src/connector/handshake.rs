//! The handshake of the session era, as its client.

use mcp_core::{
    ClientCapabilities, Error, ErrorKind, Json, Method, Object, ProtocolVersion, Request, Response,
    TraceContext, meta,
};
use serde_json::json;

/// Returns a request of the same client for what is kept beyond the call, such as a session. It keeps nothing of the call's
/// own message alive.
pub(crate) fn lasting(request: &Request) -> Result<Request, Error> {
    let capabilities = request.capabilities().as_json().compact();
    let lasting = Request::new(Method::INITIALIZE, None)?
        .with_context_of(request)
        .without_call()
        .with_trace(TraceContext::default())
        .with_capabilities(ClientCapabilities::new(capabilities));
    Ok(match request.client_info() {
        Some(info) => lasting.with_client_info(info.compact()),
        None => lasting,
    })
}

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

/// Reads the result of `initialize` as `server/discover` would give it.
pub(crate) fn opened(answer: &Response) -> Result<Response, Error> {
    let answer = Object::index(answer.result()).map_err(|_| no_revision())?;
    let version = answer.text("protocolVersion").ok_or_else(no_revision)?;
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
    Ok(Response::new(result.to_json()))
}

/// Returns the revision that was settled on, as a header.
#[cfg(feature = "http")]
pub(crate) fn settled(answer: &Response) -> Result<http::HeaderValue, Error> {
    let version = answer.result().member("protocolVersion");
    let version = version.and_then(|version| version.to_text());
    let header = version.and_then(|version| http::HeaderValue::try_from(version).ok());
    header.ok_or_else(no_revision)
}

fn no_revision() -> Error {
    Error::new(
        ErrorKind::BadUpstream,
        "the server's answer to initialize names no revision",
    )
}
