//! A network without sockets: hosts by their published addresses, so that nothing has to be told of tests.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use mcp_core::http_client::{HttpClient, HttpError, HttpErrorKind, ResponseBody};
use serde_json::Value;

pub(crate) type Reply = Response<Bytes>;
type Host = Arc<dyn Fn(&Request<Bytes>) -> Reply + Send + Sync>;

/// What was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) origin: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// Hosts, and what was sent to them.
#[derive(Clone, Default)]
pub(crate) struct Net {
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Net {
    /// Answers at an origin, such as `https://a.example`, in the place of whatever did before.
    pub(crate) fn host(
        &self,
        origin: &str,
        answer: impl Fn(&Request<Bytes>) -> Reply + Send + Sync + 'static,
    ) {
        let mut hosts = self.hosts.lock().unwrap();
        hosts.insert(origin.to_owned(), Arc::new(answer));
    }

    /// Takes a host away.
    pub(crate) fn remove(&self, origin: &str) {
        self.hosts.lock().unwrap().remove(origin);
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// How many requests an origin got.
    pub(crate) fn count(&self, origin: &str) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|sent| sent.origin == origin).count()
    }

    pub(crate) fn client(&self) -> Arc<dyn HttpClient> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl HttpClient for Net {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, HttpError> {
        let url: url::Url = request.uri().to_string().parse().unwrap();
        let origin = url.origin().ascii_serialization();
        self.sent.lock().unwrap().push(Sent {
            origin: origin.clone(),
            method: request.method().clone(),
            path: url[url::Position::BeforePath..].to_owned(),
            headers: request.headers().clone(),
        });
        let host = self.hosts.lock().unwrap().get(&origin).cloned();
        let host = host.ok_or_else(|| HttpError::new(HttpErrorKind::Connect, "nobody there"))?;
        Ok(host(&request).map(ResponseBody::from))
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

pub(crate) fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap();
    reply
}

pub(crate) fn json(status: u16, body: &Value) -> Reply {
    reply(status, body.to_string())
}

/// The last parameter of a query, decoded.
pub(crate) fn query(request: &Request<Bytes>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(own, _)| own == name)
        .map(|(_, value)| value.into_owned())
}

/// A form, decoded.
pub(crate) fn form(request: &Request<Bytes>) -> BTreeMap<String, String> {
    let pairs = url::form_urlencoded::parse(request.body());
    pairs.into_owned().collect()
}

pub(crate) fn body(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).unwrap_or_default()
}

pub(crate) fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    let value = request.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}
