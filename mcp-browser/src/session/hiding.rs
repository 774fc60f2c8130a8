//! Hiding the secrets that were typed.

use mcp_core::secret::Secret;
use zeroize::Zeroizing;

use super::{Session, lock};
use crate::snapshot::HIDDEN;

impl Session {
    /// Hides the secrets that were typed in this session.
    pub(crate) fn shown(&self, text: &str) -> String {
        let secrets = lock(&self.0.secrets);
        let mut text = text.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.secret().is_empty()) {
            for form in spellings(secret.secret()) {
                if text.contains(form.as_str()) {
                    text = text.replace(form.as_str(), HIDDEN);
                }
            }
        }
        text
    }

    pub(crate) fn remember_secret(&self, secret: Secret) {
        let mut secrets = lock(&self.0.secrets);
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
}

/// What `encodeURIComponent` leaves as it is (ECMA-262, section 19.2.6.4).
const COMPONENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A text as it stands by itself, in JSON, in HTML, in addresses and in forms.
fn spellings(value: &str) -> Vec<Zeroizing<String>> {
    let json = serde_json::to_string(value).unwrap_or_default();
    let json = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default();
    let html = value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    let mut all = vec![
        value.to_owned(),
        json.to_owned(),
        html,
        percent_encoding::utf8_percent_encode(value, COMPONENT).to_string(),
        url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
    ];
    all.retain(|form| !form.is_empty());
    all.dedup();
    all.into_iter().map(Zeroizing::new).collect()
}
