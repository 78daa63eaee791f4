//! Caddy: a plain proxy; it has no token check built in.

use std::process::Command;

use super::Setup;
use crate::trust::{CERTIFICATE, PRIVATE_KEY};
use crate::upstream;

pub(super) fn prepare(setup: &Setup<'_>, command: &mut Command) -> anyhow::Result<()> {
    let config = setup.write(
        "Caddyfile",
        &format!(
            "{{
	admin off
	persist_config off
	auto_https off
	log {{
		level ERROR
	}}
}}
(bench) {{
	reverse_proxy {upstream} {{
		header_up Authorization \"{basic}\"
		transport http {{
			keepalive_idle_conns_per_host 1024
			compression off
		}}
	}}
}}
http://:{plain} {{
	bind 127.0.0.1
	import bench
}}
https://:{secure} {{
	bind 127.0.0.1
	tls {certificate} {key} {{
		protocols tls1.3
	}}
	import bench
}}
",
            upstream = setup.site.upstream,
            basic = upstream::basic_credential(),
            plain = setup.plain.port(),
            secure = setup.secure.port(),
            certificate = setup.shared(CERTIFICATE),
            key = setup.shared(PRIVATE_KEY),
        ),
    )?;
    command
        .env("GOMAXPROCS", "1")
        .env("HOME", setup.folder)
        .env("XDG_DATA_HOME", setup.folder)
        .env("XDG_CONFIG_HOME", setup.folder)
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(config);
    Ok(())
}
