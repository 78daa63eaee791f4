//! The gate under test: its config, its start, its addresses.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tollgate::identity::hashing::{HashAlgorithm, hash};

use crate::machine::Machine;
use crate::process::Process;
use crate::storm;
use crate::tokens;
use crate::upstream;
use crate::wire::Target;

/// The running gate.
pub(crate) struct Gate {
    pub(crate) process: Process,
    pub(crate) plain: Target,
    pub(crate) tls: Target,
}

impl Gate {
    pub(crate) fn start(
        program: &Path,
        machine: &Machine,
        folder: &Path,
        upstream: SocketAddr,
        tls: &Arc<ClientConfig>,
    ) -> anyhow::Result<Self> {
        let config = folder.join("tollgate.yaml");
        fs::write(folder.join("secret"), tokens::SECRET)?;
        fs::write(folder.join("password"), upstream::PASSWORD)?;
        let hash = hash(storm::PASSWORD, HashAlgorithm::Argon2id).map_err(anyhow::Error::msg)?;
        fs::write(folder.join("users.yaml"), storm::users(&hash))?;
        fs::write(&config, config_text(upstream))?;

        let mut command = machine.proxy_command(program);
        command.arg("run").arg("--config").arg(&config);
        let process = Process::start("gate", &mut command, folder)?;
        let (mut plain, mut secure) = (None, None);
        loop {
            let line = process.line()?;
            if line == "ready" {
                break;
            } else if let Some(address) = line.strip_prefix("listening http://") {
                plain = Some(address.parse().with_context(|| line.clone())?);
            } else if let Some(address) = line.strip_prefix("listening https://") {
                secure = Some(address.parse().with_context(|| line.clone())?);
            }
        }
        Ok(Self {
            plain: Target::plain(plain.context("the gate has no plain listener")?),
            tls: Target {
                address: secure.context("the gate has no TLS listener")?,
                tls: Some(tls.clone()),
            },
            process,
        })
    }
}

/// Writes a certificate for 127.0.0.1 into `folder` and trusts it, with TLS 1.3 alone.
pub(crate) fn trust(folder: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    fs::write(folder.join(CERTIFICATE), certified.cert.pem())?;
    fs::write(
        folder.join(PRIVATE_KEY),
        certified.signing_key.serialize_pem(),
    )?;

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certified.cert.der().to_vec()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const PRIVATE_KEY: &str = "tls.key";

fn config_text(upstream: SocketAddr) -> String {
    format!(
        r#"
listeners:
  - address: 127.0.0.1:0
  - address: 127.0.0.1:0
    tls: {{ certificate: {CERTIFICATE}, private_key: {PRIVATE_KEY} }}
admin: {{ address: 127.0.0.1:0 }}
workers: 1
tokens:
  issuer: tollgate
  keys: [ {{ id: {key}, algorithm: HS256, secret_file: secret }} ]
identity: [ {{ users_file: users.yaml }} ]
login: [ {{ dialect: memphis }} ]
upstreams:
  bench: {{ endpoints: [ "http://{upstream}" ] }}
routes:
  - path: /api/**
    upstream: bench
    require: {{ scopes: [{scope}] }}
    credential: {{ basic: {{ username: {user}, password_file: password }} }}
log: {{ level: info, access_sample: 0.01 }}
"#,
        key = tokens::KEY_ID,
        scope = tokens::SCOPE,
        user = upstream::USERNAME,
    )
}
