use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri, header};
use url::Url;

use super::connect::Rules;
use super::{refused, same_origin};
use crate::http_client::HttpError;

/// What to do with an answer.
pub(super) enum Hop {
    /// It is not a redirect.
    Stay,
    /// Ask there.
    Follow {
        uri: Uri,
        method: Method,
        same_origin: bool,
    },
}

/// Decides about one answer by RFC 9110, section 15.4, and by our rules.
pub(super) fn next_hop<B>(
    rules: &Rules,
    sent: &Parts,
    answer: &Response<B>,
) -> Result<Hop, HttpError> {
    let method = match answer.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if sent.method == Method::POST => {
            Method::GET
        }
        StatusCode::SEE_OTHER if sent.method != Method::HEAD => Method::GET,
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => sent.method.clone(),
        _ => return Ok(Hop::Stay),
    };
    let Some(location) = answer.headers().get(header::LOCATION) else {
        return Ok(Hop::Stay);
    };
    let uri = resolve(&sent.uri, location.as_bytes())?;
    let same_origin = same_origin(&sent.uri, &uri);
    if !same_origin {
        if sent.uri.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
            return Err(refused("redirect from https to http"));
        }
        if rules.allows(&sent.uri) || rules.allows(&uri) {
            return Err(refused(
                "redirect between an allowed origin and another one",
            ));
        }
        if !matches!(method, Method::GET | Method::HEAD) {
            return Err(refused(
                "redirect of a request with a body to another origin",
            ));
        }
    }
    Ok(Hop::Follow {
        uri,
        method,
        same_origin,
    })
}

pub(super) fn resolve(base: &Uri, location: &[u8]) -> Result<Uri, HttpError> {
    let unreadable = || refused("redirect to an address that cannot be read");
    let location = str::from_utf8(location).map_err(|_| unreadable())?;
    let base = Url::parse(&base.to_string()).map_err(|_| unreadable())?;
    let mut target = base.join(location).map_err(|_| unreadable())?;
    if !matches!(target.scheme(), "http" | "https") {
        return Err(refused("redirect to something that is not http"));
    }
    if !target.username().is_empty() || target.password().is_some() {
        return Err(refused("redirect to an address with credentials"));
    }
    target.set_fragment(None);
    target.as_str().parse().map_err(|_| unreadable())
}

/// Turns the request into the one for the next hop.
pub(super) fn rewrite(
    parts: &mut Parts,
    body: &mut Bytes,
    uri: Uri,
    method: Method,
    same_origin: bool,
) -> Result<(), HttpError> {
    if parts.method != method {
        *body = Bytes::new();
        for name in [
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
            header::TRANSFER_ENCODING,
        ] {
            parts.headers.remove(name);
        }
    }
    if !same_origin {
        // Anything the caller added may be a credential, so only what describes the wish goes along.
        let kept = [header::ACCEPT, header::ACCEPT_LANGUAGE, header::USER_AGENT];
        let headers = std::mem::take(&mut parts.headers);
        parts.headers.extend(
            headers
                .into_iter()
                .filter(|(name, _)| name.as_ref().is_some_and(|n| kept.contains(n))),
        );
    }
    parts.uri = uri;
    parts.method = method;
    Ok(())
}
