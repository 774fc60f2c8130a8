//! The fuzz target over its corpus: the fixtures, and each with its bytes changed.

#[test]
fn answers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        mcp_captcha::fuzz::answer(&data);
        for at in 0..data.len() {
            mcp_captcha::fuzz::answer(&data[..at]);
            for other in [b'"', b'\\', b'{', b'-', b'9', 0, 0xff] {
                let mut changed = data.clone();
                changed[at] = other;
                mcp_captcha::fuzz::answer(&changed);
            }
        }
        count += 1;
    }
    assert!(count > 20);
}
