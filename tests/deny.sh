#!/usr/bin/env bash
# Judges what the gate and its fuzz targets are built of by deny.toml: licences, sources, banned and
# doubled crates; and known holes and yanked versions, where the database of advisories can be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools
deny=$tools/bin/cargo-deny

# Unoptimised it judges in a second, and is built in two minutes instead of five.
if [[ $("$deny" --version 2>/dev/null) != "cargo-deny $version" ]]; then
    echo "installing cargo-deny $version into $tools"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 cargo install cargo-deny --version "=$version" \
        --locked --debug --quiet --force --root "$tools" --target-dir "$tools/build"
    rm -rf "$tools/build"
fi

# A tree need not have all that deny.toml makes allowance for: it is for both.
quiet=(--allow license-exception-not-encountered --allow unmatched-skip --allow unnecessary-skip)
checks=(bans licenses sources)
if timeout 120 "$deny" --locked fetch db >/dev/null 2>&1; then
    checks+=(advisories)
else
    echo "ADVISORIES ARE NOT CHECKED: their database, https://github.com/RustSec/advisory-db, cannot be reached"
fi
for manifest in Cargo.toml tests/fuzz/Cargo.toml; do
    echo "$manifest: ${checks[*]}"
    "$deny" --locked --manifest-path "$manifest" --config deny.toml check "${quiet[@]}" "${checks[@]}"
done
