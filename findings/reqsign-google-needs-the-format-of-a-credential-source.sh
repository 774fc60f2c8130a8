#!/usr/bin/env bash
# Workload identity federation with Google: a credential file whose source is a file, without `format`.
#
# Packages: reqsign-google 3.2.0 and reqsign-core 3.3.2 from crates.io, beside Google's own google-auth 2.40.3 from PyPI.
# The format of a source is optional: without it the file holds the token as plain text (AIP-4117).
# Seen: google-auth takes the file with and without `format`. reqsign-google refuses it without ("failed to parse
# credential file", since the source fits none of the kinds that it knows), and takes it with `"format": {"type": "text"}`,
# after which it goes on to read the token. So a credential file that works with Google's libraries may have to be completed first.
#
# Needs cargo (1.90 or later), Python 3 with venv, crates.io and PyPI. Fails if what is seen changes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
account() {
    cat <<JSON
{
  "type": "external_account",
  "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
  "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
  "token_url": "https://sts.googleapis.com/v1/token",
  "credential_source": { "file": "/nowhere/token"$1 }
}
JSON
}
account '' >"$work/without.json"
account ', "format": { "type": "text" }' >"$work/with.json"

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check google-auth==2.40.3 requests
python_seen=$("$work/venv/bin/python" - "$work/without.json" "$work/with.json" <<'PYTHON'
import sys
from google.auth import identity_pool

for name in sys.argv[1:]:
    print('taken' if identity_pool.Credentials.from_file(name) else 'refused')
PYTHON
)

mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "reads"
version = "0.0.0"
edition = "2024"

[dependencies]
reqsign-core = "=3.3.2"
reqsign-google = "=3.2.0"
tokio = { version = "1", features = ["macros", "rt"] }
TOML
cat >"$work/src/main.rs" <<'RUST'
use reqsign_core::{Context, ProvideCredential};
use reqsign_google::StaticCredentialProvider;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for name in std::env::args().skip(1) {
        let text = std::fs::read_to_string(name).unwrap();
        let provider = StaticCredentialProvider::new(text);
        // There is no token to read, so both end with an error: the one that parses ends later.
        let error = provider.provide_credential(&Context::new()).await.unwrap_err();
        let whole = format!("{error:?}");
        println!("{}", if whole.contains("failed to parse credential file") { "refused" } else { "taken" });
    }
}
RUST
cargo build --quiet --manifest-path "$work/Cargo.toml" --target-dir "$work/target"
rust_seen=$("$work/target/debug/reads" "$work/without.json" "$work/with.json")

echo "google-auth: ${python_seen//$'\n'/, }; reqsign-google: ${rust_seen//$'\n'/, }"
[[ $python_seen == $'taken\ntaken' && $rust_seen == $'refused\ntaken' ]]
