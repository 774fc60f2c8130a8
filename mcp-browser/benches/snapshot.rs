//! What snapshots cost in this process: finding references, hiding values, telling what changed.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_browser::fuzz;

fn benches(criterion: &mut Criterion) {
    let page: String = (0..10_000)
        .map(|n| match n % 100 {
            0 => format!("- textbox \"Field {n}\" [ref=e{n}]: value {n}\n"),
            _ => format!("- link \"Item {n}\" [ref=e{n}]\n"),
        })
        .collect();
    let changed = page.replace("\"Item 5001\"", "\"Sold\"");
    criterion.bench_function("references of 10,000 nodes", |bencher| {
        bencher.iter(|| fuzz::references(black_box(&page)));
    });
    let hidden = ["value 500".to_owned(), "value 9900".to_owned()];
    criterion.bench_function("values hidden in 10,000 nodes", |bencher| {
        bencher.iter(|| fuzz::hide_values(black_box(&page), &hidden));
    });
    criterion.bench_function("difference of 10,000 nodes, none", |bencher| {
        bencher.iter(|| fuzz::difference(black_box(&page), black_box(&page)));
    });
    criterion.bench_function("difference of 10,000 nodes, one line", |bencher| {
        bencher.iter(|| fuzz::difference(black_box(&page), black_box(&changed)));
    });
}

criterion_group!(group, benches);
criterion_main!(group);
