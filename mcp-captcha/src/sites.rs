use mcp_core::ConfigError;

use crate::{CaptchaError, CaptchaErrorKind};

/// The sites whose captchas the operator may have solved: origins, and `https://*.example.com` for all below one.
///
/// # Examples
///
/// ```
/// use mcp_captcha::Sites;
///
/// let sites = Sites::only(["https://shop.example", "https://*.intranet.example"])?;
/// assert!(sites.check("https://shop.example/login?x=1").is_ok());
/// assert!(sites.check("https://a.b.intranet.example/").is_ok());
/// assert!(sites.check("https://shop.example.evil.example/").is_err());
/// # Ok::<(), mcp_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites(Vec<Site>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    scheme: String,
    /// In lower case; with `below`, what host names end with.
    host: String,
    below: bool,
    port: u16,
}

impl Sites {
    /// No site at all.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// These sites.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if one is not an `http` or `https` origin.
    pub fn only<'a>(sites: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let sites = sites.into_iter().map(|text| {
            let (scheme, host, port) = split(text).filter(|_| !has_path(text)).ok_or_else(|| ConfigError::new("origin", text, "an http or https origin such as https://shop.example or https://*.shop.example"))?;
            let (host, below) = match host.strip_prefix("*.") {
                Some(rest) => (format!(".{rest}"), true),
                None => (host, false),
            };
            if host.contains('*') || host.len() < 2 {
                return Err(ConfigError::new("origin", text, "a star only as the first label, with a name behind it"));
            }
            Ok(Site { scheme, host, below, port })
        });
        Ok(Self(sites.collect::<Result<_, _>>()?))
    }

    /// Refuses a page that is on none of the sites.
    ///
    /// # Errors
    ///
    /// [`CaptchaErrorKind::SiteNotAllowed`]
    pub fn check(&self, page_url: &str) -> Result<(), CaptchaError> {
        let allowed = split(page_url).is_some_and(|(scheme, host, port)| {
            self.0.iter().any(|site| {
                let name = if site.below {
                    host.ends_with(&site.host)
                } else {
                    host == site.host
                };
                name && site.scheme == scheme && site.port == port
            })
        });
        if allowed {
            return Ok(());
        }
        let origin = origin(page_url).unwrap_or_else(|| "this page".to_owned());
        Err(CaptchaError::new(
            CaptchaErrorKind::SiteNotAllowed,
            format!(
                "captchas of {origin} may not be solved: the operator has not allowed the site"
            ),
        ))
    }
}

fn has_path(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, rest)| rest.trim_end_matches('/').contains(['/', '?', '#']))
}

fn split(url: &str) -> Option<(String, String, u16)> {
    let uri: http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_owned();
    let port = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    // What stands before an '@' is no part of the name.
    if uri.authority()?.as_str().contains('@') {
        return None;
    }
    let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
    Some((scheme, host, uri.port_u16().unwrap_or(port)))
}

/// The origin of an address, for messages and audit.
pub(crate) fn origin(url: &str) -> Option<String> {
    let (scheme, host, port) = split(url)?;
    Some(match (scheme.as_str(), port) {
        ("https", 443) | ("http", 80) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed() {
        let sites = Sites::only([
            "https://a.example",
            "https://*.b.example",
            "http://127.0.0.1:8080",
        ])
        .unwrap();
        for good in [
            "https://a.example",
            "https://A.example:443/x",
            "https://x.y.b.example/",
            "http://127.0.0.1:8080/?q",
        ] {
            assert!(sites.check(good).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example/",
            "https://a.example:444/",
            "https://b.example/",
            "https://evilb.example/",
            "https://a.example@evil.example/",
            "https://a.example.evil.example/",
            "file:///a",
            "a.example",
            "",
            "https://evil.example/#https://a.example",
            "http://127.0.0.1/",
        ] {
            assert!(sites.check(bad).is_err(), "{bad}");
        }
        assert!(Sites::none().check("https://a.example/").is_err());
        for bad in [
            "a.example",
            "https://*",
            "https://a.*.example",
            "ftp://a.example",
            "https://a.example/path",
            "https://*.",
        ] {
            assert!(Sites::only([bad]).is_err(), "{bad}");
        }
    }
}
