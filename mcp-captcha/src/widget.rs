//! What captcha widgets look like on a page, as data for whoever looks at pages.
//!
//! The vendors document the markup: an element with a class and `data-` attributes, a script, frames from the
//! vendor's hosts, and a hidden field into which the widget writes its token.

use serde::Serialize;

use crate::Kind;

/// One kind of widget.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Widget {
    /// What it is.
    pub kind: Kind,
    /// CSS selector of the element that the page's author writes.
    pub element: &'static str,
    /// Beginnings of script addresses, without the scheme.
    pub scripts: &'static [&'static str],
    /// Parts of the addresses of the frames that the vendor's script makes.
    pub frames: &'static [&'static str],
    /// Names of the query parameters of a frame or script that hold the site key.
    pub key_parameters: &'static [&'static str],
    /// Names of the fields that the token is written into.
    pub fields: &'static [&'static str],
    /// The vendor's global object.
    pub global: &'static str,
}

/// Every widget that can be found.
pub const WIDGETS: &[Widget] = &[
    Widget {
        kind: Kind::RecaptchaV2,
        element: ".g-recaptcha[data-sitekey]",
        scripts: &[
            "www.google.com/recaptcha/api.js",
            "www.recaptcha.net/recaptcha/api.js",
            "www.google.com/recaptcha/enterprise.js",
            "www.recaptcha.net/recaptcha/enterprise.js",
        ],
        frames: &["/recaptcha/api2/anchor", "/recaptcha/enterprise/anchor"],
        key_parameters: &["k"],
        fields: &["g-recaptcha-response"],
        global: "grecaptcha",
    },
    Widget {
        kind: Kind::RecaptchaV3,
        element: "",
        scripts: &[
            "www.google.com/recaptcha/api.js",
            "www.recaptcha.net/recaptcha/api.js",
            "www.google.com/recaptcha/enterprise.js",
            "www.recaptcha.net/recaptcha/enterprise.js",
        ],
        frames: &[],
        // `render=explicit` and `render=onload` belong to version 2.
        key_parameters: &["render"],
        fields: &["g-recaptcha-response"],
        global: "grecaptcha",
    },
    Widget {
        kind: Kind::HCaptcha,
        element: ".h-captcha[data-sitekey]",
        scripts: &["js.hcaptcha.com/1/api.js", "hcaptcha.com/1/api.js"],
        frames: &["hcaptcha.com/captcha/"],
        key_parameters: &["sitekey"],
        fields: &["h-captcha-response", "g-recaptcha-response"],
        global: "hcaptcha",
    },
    Widget {
        kind: Kind::Turnstile,
        element: ".cf-turnstile[data-sitekey]",
        scripts: &["challenges.cloudflare.com/turnstile/"],
        frames: &["challenges.cloudflare.com/cdn-cgi/challenge-platform"],
        key_parameters: &["sitekey"],
        fields: &["cf-turnstile-response", "g-recaptcha-response"],
        global: "turnstile",
    },
];
