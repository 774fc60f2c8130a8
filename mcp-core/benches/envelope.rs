//! What it costs to read the envelope of a message, by what the message carries.
#![allow(missing_docs, reason = "the macros of criterion make items without")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mcp_core::jsonrpc::Message;

/// A tool call with these arguments.
fn call(arguments: &str) -> Bytes {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"search","arguments":{arguments},"_meta":{{"progressToken":7}}}}}}"#
    );
    text.into()
}

/// A result with this structured content.
fn result(content: &str) -> Bytes {
    let text = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"structuredContent":{content}}}}}"#);
    text.into()
}

/// A long text of lines.
fn one_string(bytes: usize) -> String {
    let line = format!("{}\\n", "x".repeat(62));
    let text = line.repeat(bytes / 64);
    format!(
        r#"{{"text":"{text}{}"}}"#,
        "x".repeat(bytes - 11 - text.len())
    )
}

fn many_values(bytes: usize) -> String {
    let mut text = String::from("[");
    let mut number = 0;
    while text.len() < bytes - 40 {
        if number > 0 {
            text.push(',');
        }
        text.push_str(&format!(r#"{{"id":{number},"ok":true}}"#));
        number += 1;
    }
    text.push(']');
    format!(r#"{{"items":{text}}}"#)
}

fn envelopes(c: &mut Criterion) {
    let small = call(&one_string(85));
    assert_eq!(small.len(), 199);
    let mut group = c.benchmark_group("decode");
    for (name, message) in [
        ("call_199_bytes", small),
        ("call_100_kb_one_string", call(&one_string(100_000))),
        ("call_100_kb_many_values", call(&many_values(100_000))),
        ("result_100_kb_one_string", result(&one_string(100_000))),
        ("result_100_kb_many_values", result(&many_values(100_000))),
    ] {
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| Message::parse(black_box(&message)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, envelopes);
criterion_main!(benches);
