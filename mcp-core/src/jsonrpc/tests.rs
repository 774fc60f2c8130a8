use super::*;

fn parse(text: &str) -> Result<Message, Malformed> {
    Message::parse(&Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn members_come_in_any_order() {
    let message = parse(
        r#"{"params":{"name":"x"},"extra":[1],"method":"tools/call","id":"a","jsonrpc":"2.0"}"#,
    );
    let Ok(Message::Request(id, method, Some(params))) = message else {
        panic!("{message:?}")
    };
    assert_eq!(id.as_json().as_str(), "\"a\"");
    assert_eq!(method, Method::TOOLS_CALL);
    assert_eq!(params.text("name").as_deref(), Some("x"));
}

#[test]
fn escaped_names_are_read() {
    let message = parse(r#"{"jsonrpc":"2.0","\u0069d":1,"method":"tools\/list"}"#);
    let Ok(Message::Request(_, method, None)) = message else {
        panic!("{message:?}")
    };
    assert_eq!(method, Method::TOOLS_LIST);
}

/// A text, why it is refused, and the id that the refusal carries.
const BAD: &[(&str, ErrorKind, Option<&str>)] = &[
    ("", ErrorKind::Parse, None),
    ("{", ErrorKind::Parse, None),
    ("[]", ErrorKind::InvalidRequest, None),
    (r#"[1,"tools/call",{}]"#, ErrorKind::InvalidRequest, None),
    ("7", ErrorKind::InvalidRequest, None),
    ("{}", ErrorKind::InvalidRequest, None),
    (
        r#"{"jsonrpc":"2.0","id":1}"#,
        ErrorKind::InvalidRequest,
        Some("1"),
    ),
    (
        r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
        ErrorKind::InvalidRequest,
        Some("1"),
    ),
    (
        r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
        ErrorKind::InvalidRequest,
        None,
    ),
    (
        r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
        ErrorKind::InvalidRequest,
        None,
    ),
    (
        r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#,
        ErrorKind::InvalidRequest,
        None,
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        ErrorKind::InvalidRequest,
        Some("1"),
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
        ErrorKind::InvalidRequest,
        None,
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"method":"x","\u006dethod":"y"}"#,
        ErrorKind::InvalidRequest,
        Some("1"),
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}"#,
        ErrorKind::InvalidParams,
        Some("1"),
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1,"a":2}}"#,
        ErrorKind::InvalidRequest,
        Some("1"),
    ),
    (
        r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#,
        ErrorKind::InvalidRequest,
        Some("1"),
    ),
    (
        r#"{"jsonrpc":"2.0","result":{}}"#,
        ErrorKind::InvalidRequest,
        None,
    ),
];

#[test]
fn bad_messages_are_refused_with_kind_and_id() {
    for &(text, kind, id) in BAD {
        let malformed = parse(text).expect_err(text);
        assert_eq!(malformed.error.kind(), kind, "{text}");
        let seen = malformed.id.as_ref().map(|id| id.as_json().as_str());
        // A duplicate id is ambiguous: which of the two is answered does not matter.
        if !text.contains(r#""id":1,"id":2"#) {
            assert_eq!(seen, id, "{text}");
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_recursed_into() {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":{}{}}}}}"#,
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    let malformed = parse(&text).unwrap_err();
    assert_eq!(malformed.error.kind(), ErrorKind::Parse);
    assert_eq!(malformed.id, Some(Id::number(1)));
}

#[test]
fn duplicates_inside_arguments_pass_untouched() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"arguments":{"a":1,"a":2}}}"#;
    let Ok(Message::Request(id, method, params)) = parse(text) else {
        panic!()
    };
    let written = write_request(&id, &method, params.as_ref());
    assert_eq!(String::from_utf8(written).unwrap(), text);
}

#[test]
fn responses_and_errors_are_read() {
    let Ok(Message::Response(id, response)) =
        parse(r#"{"jsonrpc":"2.0","id":-3,"result":{"resultType":"task","x":1.0}}"#)
    else {
        panic!()
    };
    assert_eq!(id.as_json().as_str(), "-3");
    assert_eq!(*response.result_type(), crate::ResultType::Task);
    let Ok(Message::Error(None, error)) =
        parse(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}"#)
    else {
        panic!()
    };
    assert_eq!(error.message(), "m");
}

#[test]
fn a_batch_is_taken_apart() {
    let text = Bytes::from_static(
        br#"[{"jsonrpc":"2.0","method":"a"}, 7 ,{"jsonrpc":"2.0","id":1,"method":"b"}]"#,
    );
    let messages = Message::parse_batch(&text).unwrap();
    assert!(matches!(messages[0], Ok(Message::Notification(..))));
    assert!(messages[1].is_err());
    assert!(matches!(messages[2], Ok(Message::Request(..))));
    assert!(Message::parse_batch(&Bytes::from_static(b"[]")).is_err());
}

#[test]
fn a_null_error_or_a_null_result_beside_an_error_counts_as_absent() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#,
        r#"{"jsonrpc":"2.0","error":null,"id":1,"result":{}}"#,
    ] {
        assert!(matches!(parse(text), Ok(Message::Response(..))), "{text}");
    }
    let both = r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":-1,"message":"m"}}"#;
    assert!(matches!(parse(both), Ok(Message::Error(Some(_), _))));
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"error":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":-1,"message":"m"}}"#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_byte_order_mark_at_the_beginning_is_passed_over() {
    let marked = |text: &str| Bytes::from(format!("\u{feff}{text}"));
    let message = Message::parse(&marked(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    assert!(matches!(message, Ok(Message::Response(..))), "{message:?}");
    let batch = Message::parse_batch(&marked(r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#));
    assert_eq!(batch.unwrap().len(), 1);
}

#[test]
fn a_text_that_names_a_number_names_the_same_call() {
    for (id, number) in [
        ("7", Some(7)),
        (r#""7""#, Some(7)),
        (r#""\u0037""#, Some(7)),
        (r#""+7""#, None),
        (r#"" 7""#, None),
        (r#""""#, None),
        ("-7", None),
        (r#""a7""#, None),
    ] {
        let id = Id::new(Json::parse(id.to_owned()).unwrap()).unwrap();
        assert_eq!(id.to_number(), number, "{id}");
    }
}

#[test]
fn one_message_and_a_batch_are_read_alike() {
    let read = |text: &'static str| {
        let messages = Message::parse_any(&Bytes::from_static(text.as_bytes()));
        messages.map(Iterator::count)
    };
    assert_eq!(read(r#"{"jsonrpc":"2.0","method":"x"}"#).unwrap(), 1);
    let batch = r#" [{"jsonrpc":"2.0","method":"x"},7,{"jsonrpc":"2.0","id":1,"result":{}}]"#;
    assert_eq!(read(batch).unwrap(), 2, "what is no message is passed over");
    for bad in ["[]", "[", "", "7"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}
