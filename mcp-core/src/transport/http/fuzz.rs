//! What the fuzz targets run. Each panics where a promise is broken.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::rules;
use crate::{
    Object,
    jsonrpc::{self, Message},
    mirror,
    sse::{Event, EventReader},
};

/// Reads a message: whatever is accepted is JSON, and a request is read again as it is written.
///
/// # Panics
///
/// A promise is broken.
pub fn envelope(data: &[u8]) {
    let text = Bytes::copy_from_slice(data);
    let _ = Message::parse_batch(&text);
    let Ok(message) = Message::parse(&text) else {
        return;
    };
    let json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(data);
    assert!(json.is_ok(), "what is accepted is JSON");
    if let Message::Request(id, method, params) = message {
        let written = jsonrpc::write_request(&id, &method, params.as_ref()).into();
        let Ok(Message::Request(again, same, others)) = Message::parse(&written) else {
            panic!("what is written is a request");
        };
        assert_eq!((again, same), (id, method));
        let text = |params: Option<Object>| params.map(|params| params.to_json().to_string());
        assert_eq!(text(others), text(params));
    }
}

/// Reads events: the same ones however the bytes are cut, none larger than allowed.
///
/// # Panics
///
/// A promise is broken.
pub fn events(data: &[u8]) {
    const LIMIT: usize = 256;
    let Some((size, data)) = data.split_first() else {
        return;
    };
    let (whole, over) = read(std::iter::once(data), LIMIT);
    let cut = usize::from(*size).max(1);
    let (pieces, over_too) = read(data.chunks(cut), LIMIT);
    let shared = whole.len().min(pieces.len());
    assert_eq!(whole[..shared], pieces[..shared], "cut at each {cut}");
    assert_eq!(over, over_too, "cut at each {cut}");
    for event in whole.into_iter().filter_map(|event| event.data) {
        assert!(event.len() <= LIMIT);
    }
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> (Vec<Event>, bool) {
    let mut reader = EventReader::new(limit);
    let mut events = Vec::new();
    for piece in pieces {
        reader.push_shared(Bytes::copy_from_slice(piece));
        loop {
            match reader.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (events, true),
            }
        }
    }
    (events, false)
}

/// Checks a request's headers against its body: headers that pass say what the body says, and any text survives
/// being mirrored.
///
/// # Panics
///
/// A promise is broken.
pub fn headers(data: &[u8]) {
    let end = data.windows(2).position(|window| window == b"\n\n");
    let (head, body) = data.split_at(end.unwrap_or(data.len()));
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value[1..].trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let mirrored = mirror::encode(text);
        if let Ok(back) = rules::decode(&mirrored) {
            assert_eq!(back, text, "a mirrored text is read again");
        }
    }
    let Ok(Message::Request(_, method, params)) =
        Message::parse(&Bytes::copy_from_slice(body.trim_ascii()))
    else {
        return;
    };
    let _ = rules::read_client(&headers, params.as_ref());
    let _ = rules::param_headers(&headers);
    if rules::check_mirrors(&headers, &method, params.as_ref()).is_ok() {
        let said = |name: &str| {
            let value = headers.get(name)?;
            rules::decode(value).ok().map(|value| value.into_owned())
        };
        assert_eq!(said("mcp-method").as_deref(), Some(method.as_str()));
        let member = method.mirrored_member();
        let name = member.and_then(|member| params.as_ref()?.text(member));
        if name.is_some() {
            assert_eq!(said("mcp-name"), name);
        }
    }
}
