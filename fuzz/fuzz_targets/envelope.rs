#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcp_core::transport::http::fuzz::envelope(data));
