//! The fuzz targets over their corpus.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use mcp_core::transport::http::fuzz;

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder.join(name)).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        target(&data);
        // And with each byte that could matter gone or another.
        for at in 0..data.len().min(512) {
            let mut changed = data.clone();
            changed.remove(at);
            target(&changed);
            for other in [b'"', b'\\', b'\n', b'{', 0, 0xff] {
                let mut changed = data.clone();
                changed[at] = other;
                target(&changed);
            }
            target(&data[..at]);
        }
        count += 1;
    }
    assert!(count > 0, "{name} has a corpus");
}

#[test]
fn envelopes() {
    run("envelope", fuzz::envelope);
}

#[test]
fn events() {
    run("events", fuzz::events);
}

#[test]
fn headers() {
    run("headers", fuzz::headers);
}
