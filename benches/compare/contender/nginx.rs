//! nginx: a plain proxy that checks no token. (Its `auth_jwt` is not in the free edition.)

use std::process::Command;

use super::Setup;
use crate::trust::{CERTIFICATE, PRIVATE_KEY};
use crate::upstream;

/// One process, kept connections on both sides (`ngx_http_upstream_module`, `keepalive`), no log.
/// What a body's scenario asks is streaming, which takes `proxy_buffering off` and
/// `proxy_request_buffering off`.
pub(super) fn prepare(
    setup: &Setup<'_>,
    buffered: bool,
    command: &mut Command,
) -> anyhow::Result<()> {
    let buffering = if buffered {
        ""
    } else {
        "proxy_buffering off; proxy_request_buffering off;"
    };
    let config = setup.write(
        "nginx.conf",
        &format!(
            "daemon off; master_process off; pid nginx.pid;
events {{ worker_connections 16384; }}
http {{
  access_log off; server_tokens off;
  client_max_body_size 0;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000000; keepalive_timeout 1h;
  upstream bench {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {plain} backlog=4096;
    listen {secure} ssl http2 backlog=4096;
    http2_max_requests 1000000000;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1.3; ssl_session_cache shared:bench:10m;
    location / {{
      proxy_pass http://bench; proxy_http_version 1.1; {buffering}
      proxy_set_header Connection \"\";
      proxy_set_header Authorization \"{basic}\";
    }}
  }}
}}
",
            upstream = setup.site.upstream,
            plain = setup.plain,
            secure = setup.secure,
            certificate = setup.shared(CERTIFICATE),
            key = setup.shared(PRIVATE_KEY),
            basic = upstream::basic_credential(),
        ),
    )?;
    command
        .args(["-e", "stderr", "-c"])
        .arg(config)
        .arg("-p")
        .arg(setup.folder);
    Ok(())
}
