//! HAProxy: as a plain proxy, and with `jwt_verify`.

use std::fs;
use std::process::Command;

use jsonwebtoken::Algorithm;

use super::Setup;
use crate::keys::key_id;
use crate::tokens::ISSUER;
use crate::trust::BUNDLE;
use crate::upstream;

/// One thread, kept connections (`http-reuse always`), no log.
pub(super) fn prepare(
    setup: &Setup<'_>,
    checks: bool,
    command: &mut Command,
) -> anyhow::Result<()> {
    let rules = if checks { rules(setup)? } else { String::new() };
    let config = setup.write(
        "haproxy.cfg",
        &format!(
            "global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend bench
  bind {plain} backlog 4096
  bind {secure} ssl crt {bundle} alpn h2,http/1.1 backlog 4096
{rules}  http-request set-header Authorization \"{basic}\"
  default_backend bench
backend bench
  http-reuse always
  server upstream {upstream} pool-max-conn 1024
",
            plain = setup.plain,
            secure = setup.secure,
            bundle = setup.shared(BUNDLE),
            basic = upstream::basic_credential(),
            upstream = setup.site.upstream,
        ),
    )?;
    command.arg("-db").arg("-f").arg(config);
    Ok(())
}

/// As its documentation of `jwt_verify` and `jwt_payload_query` shows it: algorithm, issuer,
/// signature and expiry. The cheap checks come first.
fn rules(setup: &Setup<'_>) -> anyhow::Result<String> {
    let id = key_id(setup.algorithm);
    let key = match setup.algorithm {
        Algorithm::HS256 => fs::read_to_string(setup.shared("HS256.secret"))?,
        _ => setup.shared(&format!("{id}.pub.pem")),
    };
    Ok(format!(
        "  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str {id} }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify({id},\"{key}\") -m int 1 }}
"
    ))
}
