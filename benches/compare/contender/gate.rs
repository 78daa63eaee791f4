//! The gate: as in production, with metrics, policies and a sampled access log.

use std::fs;
use std::path::Path;

use anyhow::Context;
use jsonwebtoken::Algorithm;
use tollgate::identity::hashing::{HashAlgorithm, hash};

use super::{Running, Shape, Site};
use crate::keys::key_id;
use crate::machine::Place;
use crate::process::Process;
use crate::storm;
use crate::tokens;
use crate::trust::{CERTIFICATE, PRIVATE_KEY};
use crate::upstream;
use crate::wire::Target;

pub(super) fn start(
    site: &Site<'_>,
    algorithm: Algorithm,
    shape: Shape,
    folder: &Path,
) -> anyhow::Result<Running> {
    let config = folder.join("tollgate.yaml");
    fs::write(folder.join("password"), upstream::PASSWORD)?;
    let hash = hash(storm::PASSWORD, HashAlgorithm::Argon2id).map_err(anyhow::Error::msg)?;
    fs::write(folder.join("users.yaml"), storm::users(&hash))?;
    fs::write(&config, config_text(site, algorithm, shape))?;

    let place = match shape {
        Shape::Workers(_) => Place::All,
        Shape::Usual | Shape::Routes(_) | Shape::Cache(_) => Place::Own,
    };
    let mut command = site.machine.proxy_command(site.gate, place);
    command.arg("run").arg("--config").arg(&config);
    let process = Process::start("Tollgate", &mut command, folder)?;
    let (mut plain, mut secure, mut admin) = (None, None, None);
    loop {
        let line = process.line()?;
        if line == "ready" {
            break;
        } else if let Some(address) = line.strip_prefix("listening http://") {
            plain = Some(address.parse().with_context(|| line.clone())?);
        } else if let Some(address) = line.strip_prefix("listening https://") {
            secure = Some(address.parse().with_context(|| line.clone())?);
        } else if let Some(address) = line.strip_prefix("admin http://") {
            admin = Some(Target::plain(
                address.parse().with_context(|| line.clone())?,
            ));
        }
    }
    let plain = plain.context("the gate has no plain listener")?;
    let secure = secure.context("the gate has no TLS listener")?;
    Ok(Running {
        admin,
        ..Running::new(site, process, plain, secure)
    })
}

fn config_text(site: &Site<'_>, algorithm: Algorithm, shape: Shape) -> String {
    let id = key_id(algorithm);
    let shared = site.folder.display();
    let key = match algorithm {
        Algorithm::HS256 => format!("secret_file: {shared}/{id}.secret"),
        _ => format!("private_key_file: {shared}/{id}.pem"),
    };
    let workers = match shape {
        Shape::Workers(count) => count,
        Shape::Usual | Shape::Routes(_) | Shape::Cache(_) => 1,
    };
    let cache = match shape {
        Shape::Cache(entries) => format!("\n  cache: {{ entries: {entries}, bytes: 1GiB }}"),
        Shape::Usual | Shape::Routes(_) | Shape::Workers(_) => String::new(),
    };
    let route = |path: &str| {
        format!(
            "  - path: {path}\n    upstream: bench\n    require: {{ scopes: [{}] }}\n    \
             credential: {{ basic: {{ username: {}, password_file: password }} }}\n",
            tokens::SCOPE,
            upstream::USERNAME,
        )
    };
    let mut routes = route("/api/**");
    if let Shape::Routes(count) = shape {
        routes.extend((1..count).map(|number| route(&format!("/api/area-{number}/*/items"))));
    }
    format!(
        "listeners:
  - address: 127.0.0.1:0
  - address: 127.0.0.1:0
    tls: {{ certificate: {shared}/{CERTIFICATE}, private_key: {shared}/{PRIVATE_KEY} }}
admin: {{ address: 127.0.0.1:0 }}
workers: {workers}
tokens:
  issuer: {issuer}
  keys: [ {{ id: {id}, algorithm: {id}, {key} }} ]{cache}
identity: [ {{ users_file: users.yaml }} ]
login: [ {{ dialect: memphis }} ]
upstreams:
  bench: {{ endpoints: [ \"http://{upstream}\" ] }}
log: {{ level: info, access_sample: 0.01 }}
# Its peers read the same keys.
danger_loose_files: true
routes:
{routes}",
        issuer = tokens::ISSUER,
        upstream = site.upstream,
    )
}
