#!/usr/bin/env bash
# Builds the image of deploy/Dockerfile without a daemon and without its first stage: the program is
# built here and given to buildah in that stage's place. The same program gives the same bytes.
# Takes buildah and a Rust toolchain; the archive is for `skopeo copy oci-archive:`, `podman load`
# and `docker load` (25 or newer).
# usage: deploy/image.sh ARCHIVE.tar [PROGRAM], a static one that build-static.sh made before
set -euo pipefail
archive=$(realpath -m "$1")
program=${2:+$(realpath "$2")}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
revision=${REVISION:-unknown}

mkdir -p "$work/build/out"
if [[ $program ]]; then cp "$program" "$work/build/out/tollgate"; else
    TOLLGATE_REVISION=$revision deploy/build-static.sh "$work/build/out"
fi
rm -f "$archive"
buildah --root "$work/root" --runroot "$work/run" --storage-driver vfs build --quiet \
    --isolation chroot --timestamp 0 --build-context "build=$work/build" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --file deploy/Dockerfile --tag "oci-archive:$archive:tollgate:$version" . >/dev/null
echo "$archive"
