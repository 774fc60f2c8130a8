//! What it costs to read what services answer.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};

const ANSWERS: [(&str, &[u8]); 4] = [
    (
        "an id",
        include_bytes!("../tests/fixtures/2captcha.create.json"),
    ),
    (
        "a token",
        include_bytes!("../tests/fixtures/2captcha.ready-token.json"),
    ),
    (
        "an error",
        include_bytes!("../tests/fixtures/capsolver.unsolvable.json"),
    ),
    ("a web page", b"<html><body>Just a moment...</body></html>"),
];

fn benches(criterion: &mut Criterion) {
    for (name, answer) in ANSWERS {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| mcp_captcha::fuzz::answer(black_box(answer)));
        });
    }
}

criterion_group!(group, benches);
criterion_main!(group);
