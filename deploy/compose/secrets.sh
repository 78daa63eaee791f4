#!/usr/bin/env bash
# Makes what compose.yaml mounts beside the configs: certificate, keys, passwords, accounts. Each file
# can be read by the one container that needs it, so this wants root. What is there already stays.
# usage: deploy/compose/secrets.sh [FOLDER]; $TOLLGATE is the program, by default the image's
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
folder=${1:-$here}
gate=65532 redis=999 prometheus=65534
umask 077

hash_password() {
    if [[ ${TOLLGATE:-} ]]; then "$TOLLGATE" hash-password; else
        docker build --quiet --file "$here/../Dockerfile" --tag tollgate:0.1.0 "$here/../.." >/dev/null
        docker run --rm --interactive tollgate:0.1.0 hash-password
    fi
}

if [[ -e $folder/gate/users.yaml ]]; then exit; fi
mkdir -p "$folder"/{gate,rabbitmq,redis,prometheus}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj /CN=gate.example -addext 'subjectAltName=DNS:gate.example,DNS:localhost' \
    -keyout "$folder/gate/tls.key" -out "$folder/gate/tls.crt" 2>/dev/null
for secret in k1 seal redis-password; do openssl rand -hex 32 >"$folder/gate/$secret"; done
cat >"$folder/redis/redis.conf" <<EOF
bind 127.0.0.1
appendonly yes
maxmemory-policy noeviction
requirepass $(<"$folder/gate/redis-password")
EOF
printf 'RABBITMQ_DEFAULT_USER=admin\nRABBITMQ_DEFAULT_PASS=%s\n' "$(openssl rand -hex 16)" \
    >"$folder/rabbitmq/user.env"
openssl rand -hex 32 | tr -d '\n' >"$folder/prometheus/metrics-password"
cp "$folder/gate/tls.crt" "$folder/prometheus/ca.crt"
hash=$(hash_password <"$folder/prometheus/metrics-password")
printf 'users:\n  - { name: prometheus, password_hash: "%s", groups: [ monitoring ] }\n' "$hash" \
    >"$folder/gate/users.yaml"
give() { chmod 0400 "${@:2}" && chown "$1:$1" "${@:2}"; }
give "$gate" "$folder"/gate/{tls.key,k1,seal,redis-password,users.yaml}
give "$redis" "$folder"/redis/*
give "$prometheus" "$folder"/prometheus/*
chmod 0444 "$folder/gate/tls.crt"
# The gate takes its config from root or from itself alone.
if [[ -e $folder/gate/tollgate.yaml ]]; then
    chown "$gate:$gate" "$folder/gate/tollgate.yaml" && chmod 0644 "$folder/gate/tollgate.yaml"
fi
chmod 0755 "$folder"/{gate,redis,prometheus}
# Compose reads this one itself.
chown -R "${SUDO_UID:-0}" "$folder/rabbitmq"
