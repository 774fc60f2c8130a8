//! What the rules cost beside the solve itself.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_captcha::{Limits, Sites, Spending};
use mcp_core::{
    Amount, Principal,
    store::{MemoryStore, Namespace},
};

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let sites = Sites::only(["https://shop.example", "https://*.intranet.example"]).expect("valid");
    criterion.bench_function("site", |bencher| {
        bencher.iter(|| {
            sites
                .check(black_box("https://a.b.intranet.example/login?x=1"))
                .is_ok()
        });
    });
    let spending = Spending::new(
        Arc::new(MemoryStore::new()),
        Namespace::new("captcha").expect("valid"),
    )
    .with_principal_limits(Limits::new().with_day(Amount::units(1_000_000)));
    let owner = Principal::local().partition();
    criterion.bench_function("reserve and settle, in memory", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let held = spending
                .reserve(owner, Amount::micros(3))
                .await
                .expect("within the limit");
            spending
                .settle(held, Amount::micros(2))
                .await
                .expect("booked");
        });
    });
}

criterion_group!(group, benches);
criterion_main!(group);
