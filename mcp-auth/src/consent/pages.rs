//! The pages that browsers show: plain, without a script, usable without colour and without a mouse.

use std::fmt::Write as _;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

/// Makes a text fit to stand in a page and in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // A page must not be made to read otherwise than it is written.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {}
            c => safe.push(c),
        }
    }
    safe
}

/// A page with a heading. `body` is HTML.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = escape(title);
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        // Not `no-referrer`: browsers would then send `Origin: null` with our own forms, and over plain http nothing else
        // says where a form is from (Fetch, "append a request `Origin` header").
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Browsers apply `form-action` to where a form redirects to as well.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; \
             form-action 'self' https: http://127.0.0.1:* http://localhost:*",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What the user is asked.
pub(super) struct Question<'a> {
    pub(super) action: &'a str,
    pub(super) ticket: &'a str,
    pub(super) proof: &'a str,
    pub(super) upstream: &'a str,
    pub(super) client: Option<&'a str>,
    pub(super) scopes: &'a [String],
    pub(super) who: &'a str,
    pub(super) returns_to: &'a str,
}

pub(super) fn question(question: &Question<'_>) -> Response {
    let mut body = String::new();
    let _ = write!(
        body,
        "<p>You ({}) are about to connect <strong>{}</strong>.</p>",
        escape(question.who),
        escape(question.upstream)
    );
    if let Some(client) = question.client {
        let _ = write!(
            body,
            "<p>The application <strong>{}</strong> asked for it.</p>",
            escape(client)
        );
    }
    if !question.scopes.is_empty() {
        body.push_str("<p>It asks for these permissions:</p><ul>");
        for scope in question.scopes {
            let _ = write!(body, "<li>{}</li>", escape(scope));
        }
        body.push_str("</ul>");
    } else {
        body.push_str("<p>You will be told there which permissions it asks for.</p>");
    }
    let _ = write!(
        body,
        "<p>You will be asked to log in there, and come back to <strong>{}</strong>. \
         If you did not ask for this, close the page.</p>\
         <form method=\"post\" action=\"{}\">\
         <input type=\"hidden\" name=\"ticket\" value=\"{}\">\
         <input type=\"hidden\" name=\"proof\" value=\"{}\">\
         <button type=\"submit\">Continue</button></form>",
        escape(question.returns_to),
        escape(question.action),
        escape(question.ticket),
        escape(question.proof)
    );
    page(StatusCode::OK, "Connect an account", &body)
}

pub(super) fn success(upstream: &str) -> Response {
    let body = format!(
        "<p><strong>{}</strong> is connected. You can close this page and go back to your conversation.</p>",
        escape(upstream)
    );
    page(StatusCode::OK, "Connected", &body)
}

pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    let body = format!("<p role=\"alert\">{}</p>", escape(text));
    page(status, "This did not work", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_becomes_markup() {
        let shown = escape("<script>\"'&\u{202e}x\0");
        assert_eq!(shown, "&lt;script&gt;&quot;&#39;&amp;x");
    }
}
