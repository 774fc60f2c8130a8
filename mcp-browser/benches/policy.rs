//! What the origin policy costs for each connection.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_browser::OriginPolicy;

fn benches(criterion: &mut Criterion) {
    let public = OriginPolicy::public();
    criterion.bench_function("public", |bencher| {
        bencher.iter(|| {
            public
                .check(black_box("https://www.example.com/path?query=1"))
                .is_ok()
        });
    });
    let origins: Vec<String> = (0..100)
        .map(|n| format!("https://*.site{n}.example"))
        .collect();
    let listed = OriginPolicy::only(origins.iter().map(String::as_str)).expect("valid");
    criterion.bench_function("100 origins, the last matches", |bencher| {
        bencher.iter(|| {
            listed
                .check(black_box("https://a.b.site99.example/path"))
                .is_ok()
        });
    });
}

criterion_group!(group, benches);
criterion_main!(group);
