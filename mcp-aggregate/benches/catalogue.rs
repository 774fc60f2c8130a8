//! The catalogue of 50 upstreams with 20 tools each.
#![allow(missing_docs, reason = "the macros of criterion make items without")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_aggregate::bench::Listings;
use mcp_core::{BoxSeam, Error, Method, Request, Response};
use serde_json::json;
use tower::service_fn;

/// An upstream with 20 tools, described in these words.
fn upstream(description: &'static str) -> BoxSeam {
    let tool = |number| {
        json!({
            "name": format!("tool_{number}"),
            "description": description,
            "inputSchema": {
                "type": "object",
                "properties": { "query": { "type": "string" }, "limit": { "type": "integer" } },
                "required": ["query"],
            },
            "annotations": { "readOnlyHint": true },
        })
    };
    let tools: Vec<_> = (0..20).map(tool).collect();
    let list = json!({ "resultType": "complete", "tools": tools });
    let discovered =
        json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } });
    BoxSeam::new(service_fn(move |request: Request| {
        let answer = match *request.method() == Method::TOOLS_LIST {
            true => list.clone(),
            false => discovered.clone(),
        };
        std::future::ready(Ok::<_, Error>(Response::new(answer.into())))
    }))
}

fn catalogue(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ids: Vec<_> = (0..50).map(|number| format!("up-{number}")).collect();
    let words = "Finds what is asked for and says where it was found.";
    let mut upstreams: Vec<_> = ids
        .iter()
        .map(|id| (id.as_str(), upstream(words)))
        .collect();
    let listings = runtime.block_on(Listings::fetch(&upstreams)).unwrap();
    c.bench_function("compose_50_upstreams_of_20_tools", |b| {
        b.iter(|| black_box(listings.compose()));
    });
    c.bench_function("compose_with_the_page_of_tools", |b| {
        b.iter(|| black_box(listings.compose().tools().unwrap()));
    });
    let composed = listings.compose();
    upstreams[25].1 = upstream("Finds something else.");
    let replaced = runtime.block_on(Listings::fetch(&upstreams)).unwrap();
    c.bench_function("replace_one_of_50_upstreams", |b| {
        b.iter(|| {
            let new = replaced.compose();
            let changes = new.changes_since(&composed);
            assert_eq!(changes, 20);
            black_box(new.tools().unwrap())
        });
    });
    assert!(composed.route("up-49__tool_19"));
    c.bench_function("route_among_1000_tools", |b| {
        b.iter(|| composed.route(black_box("up-25__tool_10")));
    });
    c.bench_function("route_to_no_tool", |b| {
        b.iter(|| composed.route(black_box("up-25__tool_99")));
    });
}

criterion_group!(benches, catalogue);
criterion_main!(benches);
