//! The header rules of revision 2026-07-28 (Streamable HTTP; SEP-2243): what a request's headers must say,
//! and that they agree with its body.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    Error, ErrorKind, Method, Object,
    context::Mirrored,
    protocol::meta,
    transport::stateless::{self, ClientMeta},
};

pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const PARAM_PREFIX: &str = "mcp-param-";

/// Longest header value that is decoded.
const LONGEST: usize = 8 << 10;

/// Returns the revision that the header names; an error for a header that is not text or is there twice.
pub(super) fn version_header(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(&PROTOCOL_VERSION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| mismatch("MCP-Protocol-Version is not plain text")),
        _ => Err(mismatch("MCP-Protocol-Version is there twice")),
    }
}

/// Checks `MCP-Protocol-Version` against the body and reads the client that the body's `_meta` states.
pub(super) fn read_client(
    headers: &HeaderMap,
    params: Option<&Object>,
) -> Result<ClientMeta, Error> {
    let own = stateless::meta_of(params);
    let header = version_header(headers)?;
    let body = own.text(meta::PROTOCOL_VERSION);
    let version = match (header, body.as_deref()) {
        (Some(header), Some(body)) if header == body => body,
        (Some(_), Some(_)) => {
            return Err(mismatch(
                "MCP-Protocol-Version and `_meta` name different revisions",
            ));
        }
        (None, Some(_)) => return Err(mismatch("the header MCP-Protocol-Version is missing")),
        (Some(header), None) => {
            stateless::known(header)?;
            return Err(stateless::missing(meta::PROTOCOL_VERSION));
        }
        (None, None) => return Err(stateless::missing(meta::PROTOCOL_VERSION)),
    };
    ClientMeta::read(stateless::known(version)?, &own)
}

/// Checks `Mcp-Method` and `Mcp-Name` against the body.
pub(super) fn check_mirrors(
    headers: &HeaderMap,
    method: &Method,
    params: Option<&Object>,
) -> Result<(), Error> {
    let mirrored =
        single(headers, &METHOD)?.ok_or_else(|| mismatch("the header Mcp-Method is missing"))?;
    if mirrored != method.as_str() {
        return Err(mismatch(
            "Mcp-Method and the body's `method` differ; they must be the same",
        ));
    }
    let Some(member) = method.mirrored_member() else {
        return Ok(());
    };
    // A body without the name is refused by the check of its parameters.
    let Some(name) = params.and_then(|params| params.text(member)) else {
        return Ok(());
    };
    match single(headers, &NAME)? {
        None => Err(mismatch(format!(
            "the header Mcp-Name is missing; it must mirror `params.{member}`"
        ))),
        Some(mirrored) if mirrored == name => Ok(()),
        Some(_) => Err(mismatch(format!(
            "Mcp-Name and `params.{member}` differ; they must be the same"
        ))),
    }
}

/// Returns the parameters that headers mirror, for whoever knows the tool's schema to check.
pub(super) fn param_headers(headers: &HeaderMap) -> Result<Mirrored, Error> {
    let mut found = Vec::new();
    for (name, value) in headers {
        if let Some(param) = name.as_str().strip_prefix(PARAM_PREFIX) {
            found.push((param.into(), decode(value)?.into()));
        }
    }
    Ok(found.into())
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => decode(value).map(Some),
        _ => Err(mismatch(format!("the header {name} is there twice"))),
    }
}

/// Decodes a mirrored value: plain visible ASCII, or `=?base64?...?=` around the Base64 of UTF-8.
pub(super) fn decode(value: &HeaderValue) -> Result<Cow<'_, str>, Error> {
    if value.len() > LONGEST {
        return Err(mismatch("a mirrored header is longer than 8 KiB"));
    }
    let text = value
        .to_str()
        .map_err(|_| mismatch("a mirrored header has bytes that need =?base64?...?="))?;
    let Some(encoded) = text
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    else {
        return Ok(Cow::Borrowed(text));
    };
    STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cow::Owned)
        .ok_or_else(|| mismatch("a mirrored header is not the Base64 of UTF-8 text"))
}

fn mismatch(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::HeaderMismatch, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogLevel, ProtocolVersion};

    const VERSION: &str = "2026-07-28";

    fn headers(pairs: &[(impl AsRef<str>, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.as_ref().parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn params(meta: &str) -> Object {
        Object::parse(format!(r#"{{"_meta":{meta}}}"#)).unwrap()
    }

    fn full_meta() -> String {
        format!(
            r#"{{"{}":"{VERSION}","{}":{{"sampling":{{}}}},"{}":"error"}}"#,
            meta::PROTOCOL_VERSION,
            meta::CLIENT_CAPABILITIES,
            meta::LOG_LEVEL
        )
    }

    #[test]
    fn client_meta_is_read_from_a_complete_request() {
        let client = read_client(
            &headers(&[(PROTOCOL_VERSION, VERSION)]),
            Some(&params(&full_meta())),
        )
        .unwrap();
        assert_eq!(client.version, ProtocolVersion::V_2026_07_28);
        assert!(client.capabilities.has("sampling"));
        assert_eq!(client.log_level, Some(LogLevel::Error));
    }

    #[test]
    fn versions_that_are_missing_lie_or_are_unknown_are_told_apart() {
        let full = full_meta();
        let other = full.replace(VERSION, "2027-01-01");
        for (header, meta, kind) in [
            (None, full.as_str(), ErrorKind::HeaderMismatch),
            (Some("2025-11-25"), &full, ErrorKind::HeaderMismatch),
            (Some("2027-01-01"), &other, ErrorKind::UnsupportedVersion),
            (Some("2027-01-01"), "{}", ErrorKind::UnsupportedVersion),
            (Some(VERSION), "{}", ErrorKind::InvalidMeta),
            (
                Some(VERSION),
                r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
                ErrorKind::InvalidMeta,
            ),
            (
                Some(VERSION),
                &full.replace(r#"{"sampling":{}}"#, "[]"),
                ErrorKind::InvalidMeta,
            ),
            (
                Some(VERSION),
                &full.replace("error", "loud"),
                ErrorKind::InvalidParams,
            ),
        ] {
            let pairs: Vec<_> = header.iter().map(|h| (PROTOCOL_VERSION, *h)).collect();
            let error = read_client(&headers(&pairs), Some(&params(meta))).unwrap_err();
            assert_eq!(error.kind(), kind, "{header:?} {meta}");
        }
        assert!(read_client(&HeaderMap::new(), None).is_err());
    }

    #[test]
    fn mirrors_must_be_there_once_and_agree() {
        let call = Object::parse(r#"{"name":"caf\u00e9"}"#).unwrap();
        let method = ("mcp-method", "tools/call");
        for (pairs, ok) in [
            (&[method, ("mcp-name", "=?base64?Y2Fmw6k=?=")][..], true),
            (&[method], false),
            (&[("mcp-name", "=?base64?Y2Fmw6k=?=")], false),
            (&[method, ("mcp-name", "cafe")], false),
            (&[method, ("mcp-name", "café")], false),
            (&[method, ("mcp-name", "=?base64?!?=")], false),
            (
                &[method, method, ("mcp-name", "=?base64?Y2Fmw6k=?=")],
                false,
            ),
            (&[("mcp-method", "Tools/Call"), ("mcp-name", "x")], false),
        ] {
            let result = check_mirrors(&headers(pairs), &Method::TOOLS_CALL, Some(&call));
            assert_eq!(result.is_ok(), ok, "{pairs:?}");
        }
    }

    #[test]
    fn methods_of_other_revisions_mirror_no_name() {
        let params = Object::parse(r#"{"uri":"u:x","taskId":"t","name":"n"}"#).unwrap();
        for (method, mirrored) in [
            ("tools/call", true),
            ("prompts/get", true),
            ("resources/read", true),
            ("tasks/get", true),
            ("tasks/update", true),
            ("tasks/cancel", true),
            ("tasks/result", false),
            ("resources/subscribe", false),
            ("resources/unsubscribe", false),
            ("vendor/method", false),
        ] {
            let headers = headers(&[(METHOD, method)]);
            let checked = check_mirrors(&headers, &Method::new(method), Some(&params));
            assert_eq!(checked.is_err(), mirrored, "{method}");
        }
    }

    #[test]
    fn a_name_that_looks_encoded_is_decoded_once() {
        let name = HeaderValue::from_static("=?base64?PT9iYXNlNjQ/YT89?=");
        assert_eq!(decode(&name).unwrap(), "=?base64?a?=");
        let plain = HeaderValue::from_static("=?BASE64?YQ==?=");
        assert_eq!(decode(&plain).unwrap(), "=?BASE64?YQ==?=");
    }
}
