use std::{fmt, net::IpAddr, sync::Arc};

use mcp_core::{ConfigError, http_client::blocked};
use url::{Host, Url};

use crate::{BrowserError, BrowserErrorKind};

/// Which origins a session may reach.
///
/// An origin is written `https://host`, `https://host:port`, or `https://*.host` for all names below one. A refusal
/// wins over a permission. Private addresses (loopback, private networks, link-local and so on; see
/// [`blocked`]) are refused unless [`allow_private`](Self::allow_private) names the origin as it is written.
/// `wss` counts as `https` and `ws` as `http`.
///
/// # Examples
///
/// ```
/// use mcp_browser::OriginPolicy;
///
/// let policy = OriginPolicy::only(["https://shop.example", "https://*.cdn.example"])?
///     .allow_private(["http://127.0.0.1:8080"])?
///     .deny(["https://ads.cdn.example"])?;
/// assert!(policy.check("https://shop.example/cart").is_ok());
/// assert!(policy.check("http://127.0.0.1:8080/").is_ok());
/// for refused in ["https://ads.cdn.example/", "https://other.example/", "http://10.0.0.1/", "file:///etc/passwd"] {
///     assert!(policy.check(refused).is_err());
/// }
/// # Ok::<(), mcp_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OriginPolicy(Arc<Rules>);

#[derive(Clone, Debug, Default)]
struct Rules {
    /// `None`: every public origin.
    allow: Option<Vec<Pattern>>,
    deny: Vec<Pattern>,
    private: Vec<Pattern>,
    /// What a session may reach beside: it has to pass these too.
    outer: Option<OriginPolicy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    secure: bool,
    host: String,
    below: bool,
    port: u16,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `None` for a tunnel: what goes through it is not known.
    pub(crate) secure: Option<bool>,
    /// In lower case, without the dot at the end, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    /// Reads an absolute `http`, `https`, `ws` or `wss` address.
    pub(crate) fn of_url(url: &str) -> Option<Self> {
        Self::of(&Url::parse(url).ok()?)
    }

    fn of(url: &Url) -> Option<Self> {
        let secure = match url.scheme() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return None,
        };
        Some(Self {
            secure: Some(secure),
            host: host_text(&url.host()?),
            port: url.port_or_known_default()?,
        })
    }

    /// Reads `host:port`, what a tunnel is asked for by.
    pub(crate) fn of_authority(authority: &str) -> Option<Self> {
        // Through the reader of addresses, so that every way to write an IPv4 address is known as one.
        let url = Url::parse(&format!("http://{authority}/")).ok()?;
        if !url.username().is_empty() || url.password().is_some() || url.path() != "/" {
            return None;
        }
        Some(Self {
            secure: None,
            host: host_text(&url.host()?),
            port: url.port_or_known_default()?,
        })
    }

    pub(crate) fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

fn host_text(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.secure {
            Some(true) => f.write_str("https://")?,
            Some(false) => f.write_str("http://")?,
            None => {}
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let fail = |remedy| ConfigError::new("origin", text, remedy);
        // The star is not part of a name: it stands for one while the address is read.
        let below = text.contains("://*.");
        let readable = text.replacen("://*.", "://", 1);
        let url = Url::parse(&readable)
            .map_err(|_| fail("an http or https origin such as https://*.shop.example"))?;
        let clean = matches!(url.path(), "/" | "")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let target = Target::of(&url)
            .filter(|_| clean)
            .ok_or_else(|| fail("an http or https origin without a path"))?;
        if target.host.contains('*') || below && target.literal().is_some() {
            return Err(fail("a star only as the first label of a name"));
        }
        Ok(Self {
            secure: target.secure == Some(true),
            host: if below {
                format!(".{}", target.host)
            } else {
                target.host
            },
            below,
            port: target.port,
        })
    }

    fn matches(&self, target: &Target) -> bool {
        let name = if self.below {
            target.host.ends_with(&self.host)
        } else {
            target.host == self.host
        };
        name && target.port == self.port && target.secure.is_none_or(|secure| secure == self.secure)
    }
}

fn patterns<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Vec<Pattern>, ConfigError> {
    origins.into_iter().map(Pattern::parse).collect()
}

impl OriginPolicy {
    /// Every public origin.
    #[must_use]
    pub fn public() -> Self {
        Self(Arc::default())
    }

    /// These origins and no others, as far as they are public.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if one is malformed.
    pub fn only<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(Rules {
            allow: Some(patterns(origins)?),
            ..Rules::default()
        })))
    }

    /// Also these origins as written, private addresses included.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if one is malformed.
    pub fn allow_private<'a>(
        mut self,
        origins: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ConfigError> {
        let more = patterns(origins)?;
        Arc::make_mut(&mut self.0).private.extend(more);
        Ok(self)
    }

    /// Not these origins, whatever else allows them.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if one is malformed.
    pub fn deny<'a>(
        mut self,
        origins: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ConfigError> {
        let more = patterns(origins)?;
        Arc::make_mut(&mut self.0).deny.extend(more);
        Ok(self)
    }

    /// What both this policy and `inner` allow: a session may narrow what the operator allows, and never widen it.
    #[must_use]
    pub fn narrowed(&self, inner: &Self) -> Self {
        let mut rules = Rules::clone(&inner.0);
        // What the session calls private stays private: the operator's list decides.
        rules.private.clone_from(&self.0.private);
        rules.outer = Some(self.clone());
        Self(Arc::new(rules))
    }

    /// Checks the address of a page before it is opened. Only `http` and `https` pass, and `about:blank`.
    ///
    /// # Errors
    ///
    /// [`BrowserErrorKind::Denied`] or [`BrowserErrorKind::InvalidInput`].
    pub fn check(&self, url: &str) -> Result<(), BrowserError> {
        if url == "about:blank" {
            return Ok(());
        }
        let parsed = Url::parse(url).map_err(|_| {
            BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "url is not absolute: write it as https://host/path",
            )
        })?;
        let target = match parsed.scheme() {
            "http" | "https" => Target::of(&parsed),
            scheme => {
                return Err(BrowserError::new(
                    BrowserErrorKind::Denied,
                    format!("{scheme}: addresses may not be opened: use http or https"),
                ));
            }
        };
        let Some(target) = target else {
            return Err(BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "url has no host",
            ));
        };
        self.check_target(&target)?;
        match target.literal() {
            Some(address) => self.check_address(&target, address),
            None => Ok(()),
        }
    }

    /// Checks host and port.
    pub(crate) fn check_target(&self, target: &Target) -> Result<(), BrowserError> {
        let rules = &*self.0;
        let listed = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(target));
        let allowed = match &rules.allow {
            None => true,
            Some(list) => listed(list) || rules.outer.is_none() && listed(&rules.private),
        };
        if listed(&rules.deny) || !allowed {
            return Err(BrowserError::new(
                BrowserErrorKind::Denied,
                format!("{target} is not among the origins that this session may reach"),
            ));
        }
        match &rules.outer {
            Some(outer) => outer.check_target(target),
            None => Ok(()),
        }
    }

    /// Checks an address that the host has.
    pub(crate) fn check_address(
        &self,
        target: &Target,
        address: IpAddr,
    ) -> Result<(), BrowserError> {
        let Some(class) = blocked(address) else {
            return Ok(());
        };
        if self.0.private.iter().any(|pattern| pattern.matches(target)) {
            return Ok(());
        }
        Err(BrowserError::new(
            BrowserErrorKind::Denied,
            format!(
                "{target} is not on the public network ({class}), and the operator has not allowed it"
            ),
        ))
    }
}

impl Default for OriginPolicy {
    fn default() -> Self {
        Self::public()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_private_address_is_refused() {
        let policy = OriginPolicy::public();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0/",
            "http://169.254.169.254/latest/meta-data/",
            "http://10.0.0.1/",
            "http://192.168.1.1/",
            "http://[fd00::1]/",
            "http://100.100.100.200/",
            "file:///etc/passwd",
            "chrome://settings",
            "view-source:http://a.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "blob:https://a.example/1",
            "ftp://a.example/",
            "about:config",
            "chrome-extension://a/b",
        ] {
            let error = policy.check(url).unwrap_err();
            assert_eq!(error.kind(), BrowserErrorKind::Denied, "{url}");
        }
        for bad in ["", "a.example", "http://", "http:///", "//a.example"] {
            assert!(policy.check(bad).is_err(), "{bad}");
        }
        assert!(policy.check("https://example.com/").is_ok());
    }

    #[test]
    fn lists_name_origins_exactly() {
        let policy = OriginPolicy::only([
            "https://a.example",
            "http://b.example:8080",
            "https://*.c.example",
        ])
        .unwrap();
        for good in [
            "https://a.example/x",
            "https://A.EXAMPLE./",
            "http://b.example:8080/",
            "https://x.y.c.example/",
        ] {
            assert!(policy.check(good).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example/",
            "https://a.example:444/",
            "http://b.example/",
            "https://c.example/",
            "https://xc.example/",
            "https://a.example.evil.example/",
            "https://evil.example/?https://a.example",
            "https://a.example@evil.example/",
        ] {
            assert!(policy.check(bad).is_err(), "{bad}");
        }
        // A tunnel shows no scheme; host and port still decide.
        let tunnel = |text: &str| policy.check_target(&Target::of_authority(text).unwrap());
        assert!(
            tunnel("a.example:443").is_ok()
                && tunnel("a.example:80").is_err()
                && tunnel("b.example:8080").is_ok()
        );
        for bad in [
            "a.example",
            "https://",
            "https://*",
            "https://a.*.example",
            "https://a.example/x",
            "https://u:p@a.example",
            "ftp://a",
        ] {
            assert!(OriginPolicy::only([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_narrows_and_never_widens() {
        let outer = OriginPolicy::only(["https://a.example", "https://b.example"])
            .unwrap()
            .allow_private(["http://127.0.0.1:1"])
            .unwrap();
        let inner = OriginPolicy::only([
            "https://a.example",
            "https://evil.example",
            "http://127.0.0.1:2",
        ])
        .unwrap()
        .allow_private(["http://127.0.0.1:2"])
        .unwrap();
        let both = outer.narrowed(&inner);
        assert!(both.check("https://a.example/").is_ok());
        for bad in [
            "https://b.example/",
            "https://evil.example/",
            "http://127.0.0.1:2/",
            "http://127.0.0.1:1/",
        ] {
            assert!(both.check(bad).is_err(), "{bad}");
        }
        let all = outer.narrowed(&OriginPolicy::public());
        assert!(all.check("http://127.0.0.1:1/").is_ok() && all.check("https://b.example").is_ok());
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics_or_gets_inside(text in "(https?://)?[a-z0-9@:.\\[\\]%/\\\\-]{0,40}") {
            let policy = OriginPolicy::public();
            if policy.check(&text).is_ok() && text != "about:blank" {
                let target = Target::of_url(&text).unwrap();
                if let Some(address) = target.literal() {
                    prop_assert!(blocked(address).is_none());
                }
            }
        }
    }
}
