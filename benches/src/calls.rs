//! Requests of the two eras, and replies compared with what was asked.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use clap::ValueEnum;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use memchr::memmem;
use serde_json::{Value, json};

const SESSION_VERSION: &str = "2025-11-25";
const STATELESS_VERSION: &str = "2026-07-28";
const SESSION_ID: &str = "mcp-session-id";
/// Every mark has as many digits, so that all requests of one plan have the same length.
const FIRST_MARK: u64 = 100_000_000_000;

/// How requests relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Era {
    /// `initialize` first, then requests of that session (MCP 2025-11-25).
    Session,
    /// Each request says everything about itself (MCP 2026-07-28).
    Stateless,
}

/// What the arguments of a call look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Shape {
    /// One string.
    String,
    /// Many small values of all kinds.
    Structured,
}

/// A request to make again and again, and what its replies must hold.
#[derive(Clone, Debug)]
pub struct Call {
    method: &'static str,
    name: Option<HeaderValue>,
    /// The parameters, cut where the mark goes.
    params: (String, String),
    expected: Expected,
}

#[derive(Clone, Debug)]
enum Expected {
    /// The echo, cut where the mark goes.
    Echo(Shape, String, String),
    /// A list of so many tools; once one was counted, the others need only be the same.
    Tools(usize, Arc<OnceLock<Vec<u8>>>),
}

impl Call {
    /// Calls the echo tool called `tool` with an argument of about `size` bytes.
    ///
    /// # Panics
    ///
    /// Panics when `tool` cannot be the value of a header.
    #[must_use]
    pub fn echo(era: Era, tool: &str, shape: Shape, size: usize) -> Self {
        let mark = FIRST_MARK.to_string();
        let argument = match shape {
            Shape::String => json!({ "text": string(&mark, size) }),
            Shape::Structured => json!({ "value": structured(size) }),
        };
        let echo = match (shape, &argument) {
            (Shape::String, _) => argument["text"].to_string(),
            (Shape::Structured, argument) => argument.to_string(),
        };
        let params = params(era, json!({ "name": tool, "arguments": argument }));
        let (head, tail) = cut(&echo, &mark);
        Self {
            method: "tools/call",
            name: Some(HeaderValue::from_str(tool).expect("a tool name is a header value")),
            params: cut(&params, &mark),
            expected: Expected::Echo(shape, head, tail),
        }
    }

    /// Lists the tools, of which there must be `count`, on one page.
    #[must_use]
    pub fn list(era: Era, count: usize) -> Self {
        Self {
            method: "tools/list",
            name: None,
            params: (params(era, json!({})), String::new()),
            expected: Expected::Tools(count, Arc::default()),
        }
    }

    /// The body of the request with this id.
    fn body(&self, id: u64) -> Bytes {
        let (head, tail) = &self.params;
        let mark = match self.expected {
            Expected::Echo(..) => mark(id),
            Expected::Tools(..) => String::new(),
        };
        let method = self.method;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{head}{mark}{tail}}}"#
        );
        body.into()
    }

    /// Whether `reply`, as JSON or as an event stream, answers the request with this id rightly.
    #[must_use]
    pub fn is_answered(&self, id: u64, reply: &[u8]) -> bool {
        match &self.expected {
            Expected::Echo(_, head, tail) => {
                let whole = reply.trim_ascii_end().ends_with(b"}");
                let quick = whole && has_id(reply, id) && has_echo(reply, head, &mark(id), tail);
                quick || self.is_answered_by_value(id, reply)
            }
            Expected::Tools(_, counted) => {
                let message = without_id(reply, id);
                if message.is_some() && message.as_ref() == counted.get() {
                    return true;
                }
                let right = self.is_answered_by_value(id, reply);
                if let (true, Some(message)) = (right, message) {
                    // If another reply was first, this one differs from it, and is right as well.
                    let _ = counted.set(message);
                }
                right
            }
        }
    }

    /// The same by parsing: for replies that are right and written in another way.
    fn is_answered_by_value(&self, id: u64, reply: &[u8]) -> bool {
        let Some(reply) = message(reply, id) else {
            return false;
        };
        let result = &reply["result"];
        match &self.expected {
            Expected::Echo(shape, head, tail) => {
                let found = match shape {
                    Shape::String => &result["content"][0]["text"],
                    Shape::Structured => &result["structuredContent"],
                };
                let wanted = format!("{head}{}{tail}", mark(id));
                serde_json::from_str::<Value>(&wanted).is_ok_and(|wanted| *found == wanted)
            }
            Expected::Tools(count, _) => {
                let tools = result["tools"].as_array();
                result.get("nextCursor").is_none_or(Value::is_null)
                    && tools.is_some_and(|tools| tools.len() == *count)
            }
        }
    }
}

/// One client: in the session era one session, in the stateless era just a sequence of ids.
#[derive(Clone, Debug)]
pub struct Client {
    era: Era,
    uri: Uri,
    session: Option<HeaderValue>,
    last_id: u64,
}

impl Client {
    /// A client that has not sent anything yet. `first_id` keeps ids of different clients apart.
    #[must_use]
    pub fn new(era: Era, uri: Uri, first_id: u64) -> Self {
        Self {
            era,
            uri,
            session: None,
            last_id: first_id,
        }
    }

    /// The next request for `call`, with its id.
    pub fn request(&mut self, call: &Call) -> (u64, Request<Full<Bytes>>) {
        self.last_id += 1;
        let body = call.body(self.last_id);
        let mut request = self.post(body);
        let headers = request.headers_mut();
        if self.era == Era::Stateless {
            headers.insert("mcp-method", HeaderValue::from_static(call.method));
            if let Some(name) = &call.name {
                headers.insert("mcp-name", name.clone());
            }
        }
        (self.last_id, request)
    }

    /// The request that opens a session; the reply goes to [`opened`](Self::opened).
    #[must_use]
    pub fn open(&self) -> Request<Full<Bytes>> {
        let body = json!({
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": SESSION_VERSION,
                "capabilities": {},
                "clientInfo": { "name": "loadgen", "version": "1" },
            },
        });
        let mut request = self.post(body.to_string().into());
        request.headers_mut().remove("mcp-protocol-version");
        request
    }

    /// Keeps the session that a reply opened, and returns the notification to send next.
    pub fn opened<B>(&mut self, reply: &http::Response<B>) -> Request<Full<Bytes>> {
        self.session = reply.headers().get(SESSION_ID).cloned();
        let body = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.post(body.to_string().into())
    }

    /// The request that opens the event stream of the session.
    #[must_use]
    pub fn listen(&self) -> Request<Full<Bytes>> {
        let mut request = self.post(Bytes::new());
        *request.method_mut() = Method::GET;
        let events = HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert(header::ACCEPT, events);
        request
    }

    /// The request that ends the session, if there is one.
    #[must_use]
    pub fn close(&self) -> Option<Request<Full<Bytes>>> {
        self.session.as_ref()?;
        let mut request = self.post(Bytes::new());
        *request.method_mut() = Method::DELETE;
        Some(request)
    }

    fn post(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        // Without an authority: what goes on the wire is the path, and the host is a header.
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().expect("it comes out of a URI");
        let host = self
            .uri
            .authority()
            .map_or("localhost", |host| host.as_str());
        let version = match self.era {
            Era::Session => SESSION_VERSION,
            Era::Stateless => STATELESS_VERSION,
        };
        let headers = request.headers_mut();
        headers.insert(
            header::HOST,
            HeaderValue::from_str(host).expect("it comes out of a URI"),
        );
        let both = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, both);
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert("mcp-protocol-version", HeaderValue::from_static(version));
        if let Some(session) = &self.session {
            headers.insert(SESSION_ID, session.clone());
        }
        request
    }
}

fn mark(id: u64) -> String {
    (FIRST_MARK + id).to_string()
}

fn params(era: Era, mut params: Value) -> String {
    if era == Era::Stateless {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": STATELESS_VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "loadgen", "version": "1" },
        });
    }
    params.to_string()
}

/// A string of `size` bytes that begins with the mark. One byte in 64 has to be escaped.
fn string(mark: &str, size: usize) -> String {
    let filler = ('a'..='z').chain('0'..='9').cycle();
    let text = mark.chars().chain(filler).take(size.max(mark.len()));
    let escape = |(index, letter)| if index % 64 == 63 { '\n' } else { letter };
    text.enumerate().map(escape).collect()
}

/// A value of about `size` bytes as JSON, whose key `a` holds the mark.
fn structured(size: usize) -> Value {
    let mut rows = Vec::new();
    let mut length = 0;
    while length < size {
        let number = rows.len();
        let row = json!({
            "id": number,
            "name": format!("row-{number}"),
            "tags": ["one", "two", null],
            "price": number as f64 + 0.25,
            "there": number.is_multiple_of(2),
        });
        length += row.to_string().len() + 1;
        rows.push(row);
    }
    json!({ "a": FIRST_MARK, "rows": rows })
}

fn cut(text: &str, mark: &str) -> (String, String) {
    let (head, tail) = text.split_once(mark).expect("the mark is in it");
    (head.to_owned(), tail.to_owned())
}

fn has_id(reply: &[u8], id: u64) -> bool {
    let wanted = format!(r#""id":{id}"#);
    memmem::find(reply, wanted.as_bytes())
        .and_then(|at| reply.get(at + wanted.len()))
        .is_some_and(|next| matches!(next, b',' | b'}'))
}

fn has_echo(reply: &[u8], head: &str, mark: &str, tail: &str) -> bool {
    let wanted = format!("{head}{mark}");
    memmem::find(reply, wanted.as_bytes())
        .and_then(|at| reply.get(at + wanted.len()..))
        .is_some_and(|rest| rest.starts_with(tail.as_bytes()))
}

/// The message in `reply` with this id, as bytes without the id.
fn without_id(reply: &[u8], id: u64) -> Option<Vec<u8>> {
    let start = memchr::memchr(b'{', reply)?;
    let end = memchr::memrchr(b'}', reply)?;
    let message = reply.get(start..=end)?;
    let id = format!(r#""id":{id},"#);
    let at = memmem::find(message, id.as_bytes())?;
    Some([&message[..at], &message[at + id.len()..]].concat())
}

/// The message with this id, out of JSON or an event stream.
fn message(reply: &[u8], id: u64) -> Option<Value> {
    let is_it = |message: &Value| message["id"] == json!(id);
    if let Ok(message) = serde_json::from_slice::<Value>(reply) {
        return Some(message).filter(is_it);
    }
    let text = std::str::from_utf8(reply).ok()?;
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data).ok())
        .find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(call: &Call, id: u64) -> Value {
        let request: Value = serde_json::from_slice(&call.body(id)).unwrap();
        let arguments = &request["params"]["arguments"];
        json!({
            "jsonrpc": "2.0",
            "id": id,
            "result": {
                "content": [{ "type": "text", "text": arguments["text"] }],
                "structuredContent": arguments,
            },
        })
    }

    #[test]
    fn a_right_reply_is_right_however_it_is_written() {
        for shape in [Shape::String, Shape::Structured] {
            let call = Call::echo(Era::Stateless, "echo", shape, 1000);
            let reply = echo(&call, 7);
            let compact = reply.to_string();
            let pretty = serde_json::to_string_pretty(&reply).unwrap();
            let events = format!("id: 0\ndata:\n\nevent: message\ndata: {compact}\n\n");
            for written in [compact, pretty, events] {
                assert!(
                    call.is_answered(7, written.as_bytes()),
                    "{shape:?} {written}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_reply_is_wrong() {
        for shape in [Shape::String, Shape::Structured] {
            let call = Call::echo(Era::Session, "echo", shape, 200);
            let right = echo(&call, 7).to_string();
            assert!(!call.is_answered(8, right.as_bytes()), "another id");
            let stale = right.replacen(r#""id":7"#, r#""id":8"#, 1);
            assert!(!call.is_answered(8, stale.as_bytes()), "another content");
            assert!(
                !call.is_answered(7, &right.as_bytes()[..right.len() - 20]),
                "cut off"
            );
            assert!(!call.is_answered(7, br#"{"jsonrpc":"2.0","id":7,"error":{}}"#));
        }
    }

    #[test]
    fn sizes_are_about_right() {
        for (shape, size) in [
            (Shape::String, 100),
            (Shape::String, 100_000),
            (Shape::Structured, 100_000),
        ] {
            let length = Call::echo(Era::Session, "echo", shape, size).body(1).len();
            assert!(
                (size..size * 11 / 10 + 200).contains(&length),
                "{shape:?} {length}"
            );
        }
    }

    #[test]
    fn lists_are_counted() {
        let call = Call::list(Era::Session, 2);
        let reply =
            |tools: Value| json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": tools } });
        let right = reply(json!([{}, {}])).to_string();
        for id in 1..4 {
            let right = right.replace(r#""id":1"#, &format!(r#""id":{id}"#));
            assert!(call.is_answered(id, right.as_bytes()), "{id}");
            assert!(!call.is_answered(id + 1, right.as_bytes()), "{id}");
        }
        let other = reply(json!([{}, { "a": 1 }])).to_string();
        assert!(call.is_answered(1, other.as_bytes()), "another list of two");
        assert!(!call.is_answered(1, reply(json!([{}])).to_string().as_bytes()));
    }
}
