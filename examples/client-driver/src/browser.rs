//! A browser that agrees to everything: it follows redirects, keeps cookies, and sends the first form of a page.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use mcp_core::http_client::GuardedClient;
use url::Url;

use crate::Outcome;

/// How many pages one visit may take.
const PAGES: usize = 24;

/// A browser of one user, who has the same name everywhere.
#[derive(Debug)]
pub struct Browser {
    user: String,
    client: GuardedClient,
    /// Cookies by origin and name.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// The last page of a visit.
#[derive(Debug)]
#[non_exhaustive]
pub struct Visited {
    /// Its status.
    pub status: StatusCode,
    /// What it says.
    pub text: String,
    /// Where it is.
    pub url: Url,
}

impl Browser {
    /// Opens a browser without cookies.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(user: &str) -> Outcome<Self> {
        Ok(Self {
            user: user.to_owned(),
            client: GuardedClient::builder().insecure_allow_loopback().build()?,
            cookies: BTreeMap::new(),
        })
    }

    /// Opens an address, agrees to what is asked, and returns the last page.
    ///
    /// # Errors
    ///
    /// A page cannot be reached, or they have no end.
    pub async fn visit(&mut self, address: &str) -> Outcome<Visited> {
        let mut url = Url::parse(address)?;
        let mut form = None;
        for _ in 0..PAGES {
            let page = self.load(&url, form.take()).await?;
            if let Some(location) = page.location {
                url = url.join(&location)?;
                continue;
            }
            match first_form(&page.text, &self.user) {
                Some((action, fields)) if page.status.is_success() => {
                    url = url.join(&action)?;
                    form = Some(fields);
                }
                _ => {
                    return Ok(Visited {
                        status: page.status,
                        text: page.text,
                        url,
                    });
                }
            }
        }
        Err("the pages have no end".into())
    }

    async fn load(&mut self, url: &Url, form: Option<String>) -> Outcome<Page> {
        let origin = url.origin().ascii_serialization();
        let jar = self.cookies.entry(origin).or_default();
        load(&self.client, url, form, jar).await
    }
}

struct Page {
    status: StatusCode,
    location: Option<String>,
    text: String,
}

async fn load(
    client: &GuardedClient,
    url: &Url,
    form: Option<String>,
    jar: &mut BTreeMap<String, String>,
) -> Outcome<Page> {
    let mut request = http::Request::new(Bytes::from(form.clone().unwrap_or_default()));
    *request.uri_mut() = url.as_str().parse()?;
    let headers = request.headers_mut();
    let pairs: Vec<_> = jar
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !pairs.is_empty() {
        headers.insert(header::COOKIE, HeaderValue::try_from(pairs.join("; "))?);
    }
    if form.is_some() {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, kind);
        *request.method_mut() = Method::POST;
    }
    let response = client.request(request).await?;
    let (parts, body) = response.into_parts();
    keep_cookies(&parts.headers, jar);
    let location = parts.headers.get(header::LOCATION);
    let location = location.filter(|_| parts.status.is_redirection());
    let body = Limited::new(body, 1 << 20).collect().await?.to_bytes();
    Ok(Page {
        status: parts.status,
        location: location
            .map(|value| value.to_str().map(str::to_owned))
            .transpose()?,
        text: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn keep_cookies(headers: &HeaderMap, jar: &mut BTreeMap<String, String>) {
    for value in headers.get_all(header::SET_COOKIE) {
        let pair = value.to_str().unwrap_or_default().split(';').next();
        if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
            jar.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
}

/// Finds the first form of a page: where it goes, and what it sends.
fn first_form(page: &str, user: &str) -> Option<(String, String)> {
    let form = &page[page.find("<form")?..];
    let form = &form[..form.find("</form>").unwrap_or(form.len())];
    let action = attribute(form, "action").unwrap_or_default();
    let mut fields = url::form_urlencoded::Serializer::new(String::new());
    for input in form.split("<input").skip(1) {
        let input = &input[..input.find('>').unwrap_or(input.len())];
        if let Some(name) = attribute(input, "name") {
            let value = attribute(input, "value");
            // A login page is given a name and a password.
            let value = value.unwrap_or_else(|| user.to_owned());
            fields.append_pair(&name, &value);
        }
    }
    Some((action, fields.finish()))
}

fn attribute(text: &str, name: &str) -> Option<String> {
    let start = text.find(&format!("{name}=\""))? + name.len() + 2;
    let value = &text[start..];
    let value = &value[..value.find('"')?];
    Some(
        value
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_found_with_its_fields() {
        let page = r#"<p><form method="post" action="/a?b&amp;c">
            <input type="hidden" name="x" value="1&quot;"><input name="login"></form>"#;
        let (action, fields) = first_form(page, "alice").unwrap();
        assert_eq!(action, "/a?b&c");
        assert_eq!(fields, "x=1%22&login=alice");
        assert!(first_form("<p>nothing", "alice").is_none());
    }
}
