//! The fuzz targets over their corpus.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        target(&data);
        for at in 0..data.len().min(512) {
            target(&data[..at]);
            for other in [b'[', b']', b'"', b'@', b':', b'\n', 0, 0xff] {
                let mut changed = data.clone();
                changed[at] = other;
                target(&changed);
            }
        }
        count += 1;
    }
    assert!(count > 0, "{name} has a corpus");
}

#[test]
fn snapshots() {
    run("snapshot", mcp_browser::fuzz::snapshot_text);
}

#[test]
fn addresses() {
    run("address", mcp_browser::fuzz::address);
}
