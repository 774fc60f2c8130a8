use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn kind(text: &str) -> Option<JsonErrorKind> {
    Json::parse(text.to_owned()).err().map(|error| error.kind())
}

#[test]
fn malformed_texts_are_refused_with_their_kind() {
    use JsonErrorKind::{InvalidNumber, InvalidString, TooDeep, UnexpectedByte, UnexpectedEnd};
    for (text, expected) in [
        ("", UnexpectedEnd),
        ("{", UnexpectedEnd),
        ("[1,", UnexpectedEnd),
        ("[1,]", UnexpectedByte),
        ("{\"a\" 1}", UnexpectedByte),
        ("{\"a\":1,}", UnexpectedByte),
        ("{a:1}", UnexpectedByte),
        ("nul", UnexpectedByte),
        ("1 2", UnexpectedByte),
        ("01", UnexpectedByte),
        ("-", InvalidNumber),
        ("1.", InvalidNumber),
        ("1e", InvalidNumber),
        ("\"a", UnexpectedEnd),
        ("\"\\x\"", InvalidString),
        ("\"\\u12\"", UnexpectedEnd),
        ("\"\u{1}\"", InvalidString),
        (&"[".repeat(129), TooDeep),
    ] {
        assert_eq!(kind(text), Some(expected), "{text}");
    }
    let long_with_control = format!("\"{}\u{1f}\"", "x".repeat(300));
    assert_eq!(kind(&long_with_control), Some(InvalidString));
}

#[test]
fn invalid_utf8_is_refused_at_its_place() {
    let error = Json::parse(&b"\"ab\xff\""[..]).unwrap_err();
    assert_eq!(error.kind(), JsonErrorKind::InvalidUtf8);
    assert_eq!(error.offset(), Some(3));
}

#[test]
fn nesting_is_accepted_up_to_the_bound() {
    let depth = MAX_DEPTH as usize;
    let text = "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(kind(&text), None);
    let text = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    assert_eq!(kind(&text), None);
}

#[test]
fn a_duplicate_member_is_found_through_its_escapes() {
    for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#] {
        let error = Object::parse(text).unwrap_err();
        assert_eq!(error.kind(), JsonErrorKind::DuplicateMember);
    }
    let many: Vec<_> = (0..40).map(|n| format!("\"k{}\":1", n % 39)).collect();
    let error = Object::parse(format!("{{{}}}", many.join(","))).unwrap_err();
    assert_eq!(error.kind(), JsonErrorKind::DuplicateMember);
}

#[test]
fn edits_touch_nothing_else() {
    let mut object = Object::parse(r#"{ "n" : 1.0e+2 , "a":"b","z":{"z":null} }"#).unwrap();
    object.set("a", Json::string("c\n"));
    object.set("new", Json::parse("[1]").unwrap());
    assert_eq!(
        object.to_json().as_str(),
        r#"{ "n" : 1.0e+2 , "a":"c\n","z":{"z":null} ,"new":[1]}"#
    );
    object.remove("a");
    object.remove("absent");
    assert_eq!(
        object.to_json().as_str(),
        r#"{"n" : 1.0e+2,"z":{"z":null},"new":[1]}"#
    );
    assert!(object.get("a").is_none());
}

#[test]
fn nulls_are_removed_where_they_may_be_whether_they_were_read_or_set() {
    let text = r#"{"a":null,"\u0062":null,"kept":null,"set":null,"x":1,"y":{"a":null}}"#;
    let mut object = Object::parse(text).unwrap();
    object.set("set", Json::string("now"));
    object.set("x", Json::NULL);
    object.set("new", Json::NULL);
    object.remove_nulls(|name| name != "kept");
    assert_eq!(
        object.to_json().as_str(),
        r#"{"kept":null,"set":"now","y":{"a":null}}"#
    );
}

#[test]
fn members_are_listed_once_with_their_changes() {
    let mut object = Object::parse(r#"{"a":1,"b\u0062":2,"c":3}"#).unwrap();
    object.set("bb", Json::string("new"));
    object.remove("a");
    object.set("d", Json::from(serde_json::json!(4)));
    object.set("e", Json::from(serde_json::json!(5)));
    object.remove("e");
    let all: Vec<_> = object
        .members()
        .map(|(name, value)| format!("{name}={}", value.as_str()))
        .collect();
    assert_eq!(all, [r#"bb="new""#, "c=3", "d=4"]);
}

#[test]
fn members_of_an_empty_object_can_be_added() {
    let mut object = Object::default();
    object.set("a", Json::NULL);
    assert_eq!(object.to_json().as_str(), r#"{"a":null}"#);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<i32>().prop_map(|n| (f64::from(n) / 8.0).into()),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_scanner_agrees_with_serde_json_on_any_bytes(text in prop::collection::vec(
        prop::sample::select(br#"{}[]",:\/ 	truefalsn01289.eE+-u"#.to_vec()), 0..24)) {
        let ours = Json::parse(text.clone()).is_ok();
        let theirs = serde_json::from_slice::<IgnoredAny>(&text).is_ok();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn every_valid_text_is_accepted_and_kept(value in any_json()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let json = Json::parse(text.clone()).unwrap();
            prop_assert_eq!(json.as_str(), text);
        }
    }

    #[test]
    fn a_broken_text_is_judged_as_serde_json_judges_it(value in any_json(), at: prop::sample::Index, byte: u8) {
        let mut text = value.to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let ours = Json::parse(text.clone()).is_ok();
        let theirs = std::str::from_utf8(&text).is_ok()
            && serde_json::from_slice::<IgnoredAny>(&text).is_ok();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn members_are_found_as_serde_json_finds_them(
        map in prop::collection::btree_map(any::<String>(), any_json(), 0..40)) {
        let value = serde_json::Value::Object(map.clone().into_iter().collect());
        let object = Object::parse(value.to_string()).unwrap();
        for (key, value) in map {
            prop_assert_eq!(object.get(&key).unwrap().decode::<serde_json::Value>().unwrap(), value);
        }
    }

    #[test]
    fn edited_objects_decode_to_the_edited_map(
        map in prop::collection::btree_map("[a-d\"\\\\]{1,2}", any_json(), 0..6),
        edits in prop::collection::vec(("[a-d\"\\\\]{1,2}", prop::option::of(any_json())), 0..6)) {
        let mut expected: serde_json::Map<_, _> = map.into_iter().collect();
        let mut object = Object::parse(serde_json::Value::Object(expected.clone()).to_string()).unwrap();
        for (key, value) in edits {
            match value {
                Some(value) => {
                    object.set(key.clone(), Json::from(&value));
                    expected.insert(key, value);
                }
                None => {
                    object.remove(key.clone());
                    expected.remove(&key);
                }
            }
        }
        let decoded: serde_json::Map<String, serde_json::Value> = object.to_json().decode().unwrap();
        prop_assert_eq!(decoded, expected);
    }
}
