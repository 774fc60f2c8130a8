//! Texts of JSON as somebody may have spelt them: any order, any number text, any escape, any space.

use proptest::prelude::*;

/// White space that JSON may have between tokens.
fn space() -> impl Strategy<Value = String> {
    "[ \\t]{0,2}"
}

/// Text of a string, escapes and all, as a client may have spelt it.
pub(crate) fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ !#-\\[\\]-~]{1,8}",
        any::<char>()
            .prop_filter("control characters, quote, backslash", |c| {
                !c.is_control() && *c != '"' && *c != '\\'
            })
            .prop_map(String::from),
        prop::sample::select(vec![
            "\\n",
            "\\/",
            "\\\"",
            "\\\\",
            "\\u0000",
            "\\u00e9",
            "\\uD83D\\uDE00",
            "\\ud800",
            "\\b",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?"
}

/// Text of any JSON value.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        string(),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            (space(), prop::collection::vec(inner.clone(), 0..4))
                .prop_map(|(space, items)| format!("[{space}{}{space}]", items.join(","))),
            object(inner),
        ]
    })
}

/// Text of an object; names may come twice.
fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (string(), space(), value, space());
    prop::collection::vec(member, 0..4).prop_map(|members| {
        let members: Vec<_> = members
            .into_iter()
            .map(|(name, before, value, after)| format!("{name}:{before}{value}{after}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}
