use std::fmt;

use bytes::Bytes;
use mcp_core::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::{CaptchaError, CaptchaErrorKind};

/// The largest image that is sent, in bytes before encoding: what the strictest service takes.
pub const MAX_IMAGE: usize = 100 * 1024;
const MAX_FIELD: usize = 16 * 1024;

/// What kind of captcha it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Text on a picture.
    Image,
    /// Google reCAPTCHA v2: checkbox or invisible.
    RecaptchaV2,
    /// Google reCAPTCHA v3: a score.
    RecaptchaV3,
    /// hCaptcha, at services that still offer it.
    #[serde(rename = "hcaptcha")]
    HCaptcha,
    /// Cloudflare Turnstile.
    Turnstile,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Image,
        Self::RecaptchaV2,
        Self::RecaptchaV3,
        Self::HCaptcha,
        Self::Turnstile,
    ];

    /// A fixed name: `image`, `recaptcha_v2`, `recaptcha_v3`, `hcaptcha`, `turnstile`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::RecaptchaV2 => "recaptcha_v2",
            Self::RecaptchaV3 => "recaptcha_v3",
            Self::HCaptcha => "hcaptcha",
            Self::Turnstile => "turnstile",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A captcha to solve.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Challenge {
    /// Text on a picture.
    Image(ImageChallenge),
    /// A widget that wants a token.
    Token(Box<TokenChallenge>),
}

impl Challenge {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Image(_) => Kind::Image,
            Self::Token(token) => token.kind,
        }
    }

    /// The page that the captcha stands on, where it matters to the solver.
    #[must_use]
    pub fn page_url(&self) -> Option<&str> {
        match self {
            Self::Image(_) => None,
            Self::Token(token) => Some(&token.page_url),
        }
    }

    /// Checks what no service would take, before money is spent.
    ///
    /// # Errors
    ///
    /// [`CaptchaErrorKind::InvalidChallenge`], naming the field and what it should be.
    pub fn check(&self) -> Result<(), CaptchaError> {
        match self {
            Self::Image(image) => image.check(),
            Self::Token(token) => token.check(),
        }
    }
}

impl From<ImageChallenge> for Challenge {
    fn from(image: ImageChallenge) -> Self {
        Self::Image(image)
    }
}

impl From<TokenChallenge> for Challenge {
    fn from(token: TokenChallenge) -> Self {
        Self::Token(Box::new(token))
    }
}

/// Which characters the text on a picture has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Charset {
    /// Not known.
    #[default]
    Any,
    /// Digits only.
    Digits,
    /// Letters only.
    Letters,
}

/// Text on a picture.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImageChallenge {
    /// The picture: PNG, JPEG or GIF, at most [`MAX_IMAGE`] bytes.
    pub image: Bytes,
    /// The answer has more than one word. Default is `false`.
    pub phrase: bool,
    /// Upper and lower case matter. Default is `false`.
    pub case_sensitive: bool,
    /// The answer is the result of a calculation. Default is `false`.
    pub math: bool,
    /// Which characters it has. Default is [`Charset::Any`].
    pub charset: Charset,
    /// The shortest answer in characters; zero is not known.
    pub min_length: u32,
    /// The longest answer in characters; zero is not known.
    pub max_length: u32,
    /// What to tell the worker.
    pub comment: Option<String>,
}

impl ImageChallenge {
    /// Takes a picture.
    #[must_use]
    pub fn new(image: impl Into<Bytes>) -> Self {
        Self {
            image: image.into(),
            phrase: false,
            case_sensitive: false,
            math: false,
            charset: Charset::Any,
            min_length: 0,
            max_length: 0,
            comment: None,
        }
    }

    fn check(&self) -> Result<(), CaptchaError> {
        let known = [b"\x89PNG".as_slice(), b"\xff\xd8\xff", b"GIF8", b"RIFF"];
        if !known.iter().any(|magic| self.image.starts_with(magic)) {
            return Err(invalid(
                "image is not a PNG, JPEG, GIF or WebP file: send the picture's own bytes",
            ));
        }
        if self.image.len() > MAX_IMAGE {
            return Err(invalid(format!(
                "image has {} bytes, more than {MAX_IMAGE}: crop it to the captcha",
                self.image.len()
            )));
        }
        if self.max_length != 0 && self.min_length > self.max_length {
            return Err(invalid("min_length is above max_length"));
        }
        Ok(())
    }
}

/// A widget that wants a token. Which fields count depends on the kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenChallenge {
    /// The kind, never [`Kind::Image`].
    pub kind: Kind,
    /// The public key of the widget (`data-sitekey`).
    pub site_key: String,
    /// The address of the page that the widget stands on.
    pub page_url: String,
    /// reCAPTCHA v2 and hCaptcha: no checkbox is shown. Default is `false`.
    pub invisible: bool,
    /// reCAPTCHA: the Enterprise edition. Default is `false`.
    pub enterprise: bool,
    /// reCAPTCHA v3 and Turnstile: the action that the site names.
    pub action: Option<String>,
    /// reCAPTCHA v3: the least score to ask for. Services take 0.3, 0.7 and 0.9. Default is 0.3.
    pub min_score: MinScore,
    /// reCAPTCHA v2: the value of `data-s`, good once.
    pub data_s: Option<String>,
    /// reCAPTCHA: the host that the widget is loaded from, if not `www.google.com`.
    pub api_domain: Option<String>,
    /// Turnstile: the value of `data-cdata`.
    pub cdata: Option<String>,
    /// Turnstile on a challenge page: `chlPageData`.
    pub page_data: Option<String>,
    /// Enterprise: what the site passes as `s` and the like, as a JSON object.
    pub enterprise_payload: Option<serde_json::Value>,
    /// The user agent that the token will be used with.
    pub user_agent: Option<String>,
    /// Where the worker should come from. Default is the service's own addresses.
    pub proxy: Option<TaskProxy>,
}

impl TokenChallenge {
    /// Names a widget on a page.
    #[must_use]
    pub fn new(kind: Kind, site_key: impl Into<String>, page_url: impl Into<String>) -> Self {
        Self {
            kind,
            site_key: site_key.into(),
            page_url: page_url.into(),
            invisible: false,
            enterprise: false,
            action: None,
            min_score: MinScore::default(),
            data_s: None,
            api_domain: None,
            cdata: None,
            page_data: None,
            enterprise_payload: None,
            user_agent: None,
            proxy: None,
        }
    }

    fn check(&self) -> Result<(), CaptchaError> {
        if self.kind == Kind::Image {
            return Err(invalid("kind is image: use Challenge::Image for a picture"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        let key = self.site_key.as_bytes();
        if !(8..=256).contains(&key.len()) || !key.iter().copied().all(plain) {
            return Err(invalid(
                "sitekey is not 8 to 256 letters, digits, '-' and '_': copy data-sitekey from the page",
            ));
        }
        let url: http::Uri = self
            .page_url
            .parse()
            .map_err(|_| invalid("page_url is not an absolute http or https address"))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(invalid("page_url is not an absolute http or https address"));
        }
        let fields = [
            ("action", &self.action),
            ("data_s", &self.data_s),
            ("cdata", &self.cdata),
            ("page_data", &self.page_data),
            ("user_agent", &self.user_agent),
        ];
        for (name, value) in fields {
            if value.as_ref().is_some_and(|value| value.len() > MAX_FIELD) {
                return Err(invalid(format!("{name} is longer than {MAX_FIELD} bytes")));
            }
        }
        Ok(())
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> CaptchaError {
    CaptchaError::new(CaptchaErrorKind::InvalidChallenge, message)
}

/// The least reCAPTCHA v3 score to ask for: the three that every service takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MinScore {
    /// 0.3
    #[default]
    Low,
    /// 0.7
    Middle,
    /// 0.9
    High,
}

impl MinScore {
    /// The least step that is not below `score`.
    #[must_use]
    pub fn at_least(score: f64) -> Self {
        match score {
            score if score > 0.7 => Self::High,
            score if score > 0.3 => Self::Middle,
            _ => Self::Low,
        }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> f64 {
        match self {
            Self::Low => 0.3,
            Self::Middle => 0.7,
            Self::High => 0.9,
        }
    }
}

/// A proxy that a worker shall use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskProxy {
    /// `http`, `socks4` or `socks5`.
    pub scheme: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Login and password.
    pub login: Option<(String, Secret)>,
}

impl TaskProxy {
    /// Names a proxy without login.
    #[must_use]
    pub fn new(scheme: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self {
            scheme: scheme.into(),
            host: host.into(),
            port,
            login: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_service_takes_is_refused_with_the_field_named() {
        let token = |key: &str, url: &str| TokenChallenge::new(Kind::Turnstile, key, url);
        let cases: [(Challenge, &str); 7] = [
            (ImageChallenge::new("<html>").into(), "image"),
            (ImageChallenge::new(Bytes::new()).into(), "image"),
            (
                ImageChallenge::new([b"\x89PNG".as_slice(), &[0; MAX_IMAGE]].concat()).into(),
                "crop",
            ),
            (token("", "https://a.example/").into(), "sitekey"),
            (token("0x4AAA\"><", "https://a.example/").into(), "sitekey"),
            (token("0x4AAAAAAA", "file:///etc/passwd").into(), "page_url"),
            (
                TokenChallenge::new(Kind::Image, "0x4AAAAAAA", "https://a.example/").into(),
                "kind",
            ),
        ];
        for (challenge, field) in cases {
            let error = challenge.check().unwrap_err();
            assert_eq!(error.kind(), CaptchaErrorKind::InvalidChallenge);
            assert!(error.to_string().contains(field), "{error}");
        }
        let good = Challenge::from(token("0x4AAAAAAA", "https://a.example/x?y#z"));
        assert!(good.check().is_ok());
    }

    #[test]
    fn scores_are_steps() {
        let steps = [0.0, 0.3, 0.31, 0.7, 0.71, 1.0].map(|score| MinScore::at_least(score).value());
        assert_eq!(steps, [0.3, 0.3, 0.7, 0.7, 0.9, 0.9]);
    }
}
