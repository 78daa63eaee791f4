#!/usr/bin/env bash
# Makes what the configs name: a certificate for localhost, the key for tokens, the password by which
# the gate is known to Mosquitto. What is there already stays.
# usage: deploy/mosquitto/secrets.sh [FOLDER]
set -euo pipefail
folder=${1:-$(dirname "${BASH_SOURCE[0]}")}
umask 077

if [[ -e $folder/broker-users ]]; then exit; fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj /CN=localhost -addext 'subjectAltName=DNS:localhost' \
    -keyout "$folder/tls.key" -out "$folder/tls.crt" 2>/dev/null
for secret in k1 broker-password; do openssl rand -hex 32 >"$folder/$secret"; done
users=$folder/broker-users
printf 'gate:%s\n' "$(<"$folder/broker-password")" >"$users"
mosquitto_passwd -U "$users"
# Started as root, Mosquitto becomes this user before it reads them.
if [[ $EUID == 0 ]]; then chown mosquitto "$users"; fi
