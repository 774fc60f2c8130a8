//! `Host` and `Origin` (revision 2026-07-28, Streamable HTTP, "Security Warning").

use http::{HeaderMap, StatusCode, Uri, header};
use url::Url;

use super::config::{HttpConfig, Names};

/// Refuses requests that a page of a foreign origin may have caused.
///
/// 1. A request without `Host`, with two, or with user information in it is refused with 400.
/// 2. A `Host` that is not accepted is refused with 403.
/// 3. An `Origin` that is there and neither belongs to an accepted host nor is accepted itself is refused with
///    403.
pub(super) fn check(
    config: &HttpConfig,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, &'static str)> {
    let host = host(uri, headers).map_err(|message| (StatusCode::BAD_REQUEST, message))?;
    if let Names::Only(hosts) = &config.hosts
        && !is_accepted(hosts, without_port(host))
    {
        return Err((
            StatusCode::FORBIDDEN,
            "this Host is not accepted; allow it with HttpConfig::with_allowed_host",
        ));
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if origin_is_accepted(config, origin.as_bytes()) => Ok(()),
        _ => Err((
            StatusCode::FORBIDDEN,
            "this Origin is not accepted; allow it with HttpConfig::with_allowed_origin",
        )),
    }
}

/// Returns the host that the request is for, with its port (RFC 9112, section 3.2: exactly one `Host` field).
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err("the request has two Host headers"),
        (Some(authority), _, None) => authority.as_str(),
        (None, Some(host), None) => host.to_str().map_err(|_| "Host is not plain text")?,
        (None, None, None) => return Err("the request has no Host header"),
    };
    match host.contains('@') {
        true => Err("Host has user information"),
        false => Ok(host),
    }
}

fn origin_is_accepted(config: &HttpConfig, origin: &[u8]) -> bool {
    let url = std::str::from_utf8(origin)
        .ok()
        .and_then(|origin| Url::parse(origin).ok());
    let Some(url) = url else { return false };
    let Some(host) = url.host_str() else {
        return false;
    };
    if !matches!(url.scheme(), "http" | "https") {
        return false;
    }
    let serialized = url.origin().ascii_serialization();
    if config.origins.iter().any(|allowed| allowed.0 == serialized) {
        return true;
    }
    match &config.hosts {
        Names::Only(hosts) => is_accepted(hosts, host),
        // Where any Host passes, its origins do not: they have to be named.
        Names::Any => matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
    }
}

fn is_accepted(hosts: &[String], host: &str) -> bool {
    hosts
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(host))
}

/// Cuts the port off an authority; an IPv6 address keeps its brackets.
fn without_port(authority: &str) -> &str {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_bracket..].find(':') {
        Some(colon) => &authority[..after_bracket + colon],
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(config: &HttpConfig, host: Option<&str>, origins: &[&str]) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        for origin in origins {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        match check(config, &Uri::from_static("/mcp"), &headers) {
            Ok(()) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    #[test]
    fn loopback_is_accepted_by_default_and_nothing_else() {
        let config = HttpConfig::default();
        for (host, origins, expected) in [
            (Some("localhost:8080"), &[][..], 200),
            (Some("LOCALHOST"), &[], 200),
            (Some("127.0.0.1:1"), &["http://localhost:3000"], 200),
            (Some("[::1]:8080"), &["http://[::1]:9"], 200),
            (None, &[], 400),
            (Some("evil.example"), &[], 403),
            (Some("localhost.evil.example"), &[], 403),
            (Some("localhost:80@evil.example"), &[], 400),
            (Some("127.0.0.1.evil.example:80"), &[], 403),
            (Some("localhost"), &["https://evil.example"], 403),
            (Some("localhost"), &["null"], 403),
            (Some("localhost"), &["http://localhost.evil.example"], 403),
            (Some("localhost"), &["file://localhost"], 403),
            (
                Some("localhost"),
                &["http://localhost", "http://evil.example"],
                403,
            ),
        ] {
            assert_eq!(
                status(&config, host, origins),
                expected,
                "{host:?} {origins:?}"
            );
        }
    }

    #[test]
    fn hosts_and_origins_can_be_added() {
        let config = HttpConfig::default()
            .with_allowed_host("gw.example")
            .and_then(|config| config.with_allowed_origin("https://app.example:8443"))
            .unwrap();
        let host = Some("gw.example");
        assert_eq!(status(&config, host, &[]), 200);
        assert_eq!(status(&config, host, &["https://gw.example"]), 200);
        assert_eq!(status(&config, host, &["https://app.example:8443"]), 200);
        assert_eq!(status(&config, host, &["https://app.example"]), 403);
        assert_eq!(status(&config, host, &["http://app.example:8443"]), 403);
    }

    #[test]
    fn two_hosts_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "localhost".parse().unwrap());
        headers.append(header::HOST, "localhost".parse().unwrap());
        for config in [
            HttpConfig::default(),
            HttpConfig::default().insecure_allow_any_host(),
        ] {
            let refused = check(&config, &Uri::from_static("/mcp"), &headers);
            assert_eq!(refused.unwrap_err().0, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn any_host_does_not_mean_any_origin() {
        let config = HttpConfig::default().insecure_allow_any_host();
        assert_eq!(status(&config, Some("x.example"), &[]), 200);
        assert_eq!(
            status(&config, Some("x.example"), &["http://x.example"]),
            403
        );
    }

    #[test]
    fn malformed_settings_are_refused() {
        assert!(HttpConfig::default().with_allowed_host("a b").is_err());
        for origin in ["gw.example", "https://gw.example/path", "null"] {
            assert!(
                HttpConfig::default().with_allowed_origin(origin).is_err(),
                "{origin}"
            );
        }
    }
}
