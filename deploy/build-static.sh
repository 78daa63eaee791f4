#!/usr/bin/env bash
# Builds the gate as one static program without symbols, for an image without a C library.
# usage: deploy/build-static.sh FOLDER [PROFILE]
set -euo pipefail
out=$(realpath -m "$1")
profile=${2:-release}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Only the program itself is linked in another way, so what was built for the profile is used again.
cargo rustc --locked --profile "$profile" --bin tollgate -- -C target-feature=+crt-static
mkdir -p "$out"
strip -o "$out/tollgate" "${CARGO_TARGET_DIR:-target}/$profile/tollgate"
