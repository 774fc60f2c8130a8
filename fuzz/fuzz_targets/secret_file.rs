#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcp_auth::fuzz::secret_file(data));
