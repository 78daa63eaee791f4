//! The whole main job in one process, with no file and no network: a legacy upstream that knows
//! only Basic auth, the gate in front of it, and one user.

pub mod banner;
pub mod upstream;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::cli::run::{prepare, serve};
use crate::cli::signals::Signals;
use crate::cli::{dumps, say};
use crate::config::files::Files;
use crate::config::load::parse;
use crate::config::shown::shown;
use crate::config::{Config, value::Expanded};
use crate::identity::hashing::{HashAlgorithm, hash};
use crate::identity::users_file::sha1_hex;
use crate::telemetry::start_logging;
use upstream::Account;

/// Runs the demo until a signal ends it.
///
/// # Errors
/// If an address cannot be had.
pub fn run(listen: &str, admin: &str) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let legacy = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let password = random_text()?;
    let files = files(&password)?;
    let yaml = yaml(legacy.local_addr()?);
    let mut config: Config = parse(&yaml, Path::new(NAME))?;
    for listener in &mut config.listeners {
        listener.address = Expanded(listen.to_owned());
    }
    config.admin.address = Expanded(admin.to_owned());
    let mut prepared = prepare(config, &files, Path::new(NAME))?;
    prepared.shown = shown(parse(&yaml, Path::new(NAME))?);
    dumps::settle(prepared.config.danger_core_dumps)?;
    let _logging = start_logging(&crate::telemetry::LogConfig::default());
    runtime.block_on(async {
        let signals = Signals::catch()?;
        // It goes on while the gate drains, so that requests under way can end.
        tokio::spawn(upstream::serve(legacy, Account::new("legacy", &password)));
        let serving = serve(prepared).await?;
        let gate = serving
            .addresses()
            .first()
            .copied()
            .context("the demo has no listener")?;
        let admin = serving.admin_address();
        say(banner::lines(
            &format!("https://{gate}"),
            &format!("http://{admin}"),
        ));
        serving.until_signalled(signals, None).await
    })
}

/// How the demo's config is called in errors.
const NAME: &str = "(demo)";

fn yaml(legacy: SocketAddr) -> String {
    format!(
        r#"
listeners:
  - address: 127.0.0.1:8443
    tls: {{ certificate: tls.crt, private_key: tls.key }}
tokens:
  issuer: tollgate-demo
  keys: [ {{ id: demo, algorithm: HS256, secret_file: signing }} ]
store: memory
identity:
  - users_file: users.yaml
upstreams:
  legacy: {{ endpoints: [ "http://{legacy}" ] }}
login:
  - dialect: browser
  - dialect: datarhei
  - dialect: emnify
  - dialect: jmvstream
  - dialect: memphis
  - dialect: oauth2
  - dialect: ticket
routes:
  - path: /public/**
    upstream: legacy
    public: true
{}"#,
        routes()
    )
}

/// One route for each dialect's paths: the same rules, each dialect's own form of a refusal.
fn routes() -> String {
    let route = |(path, more): &(&str, &str)| {
        format!(
            r#"  - path: {path}
    upstream: legacy
    {more}
    require: {{ scopes: [ demo ] }}
    credential: {{ basic: {{ username: legacy, password_file: legacy-password }} }}
    upstream_refusal: {{ statuses: [ 401 ], locations: [ "/login*" ] }}
"#
        )
    };
    ROUTES.iter().map(route).collect()
}

const ROUTES: [(&str, &str); 5] = [
    ("/**", "dialect: memphis\n    login_page: /login"),
    ("/api/**", "dialect: datarhei"),
    ("/api/client/**", "basic: { remember: 5m }"),
    ("/api/v1/**", "dialect: emnify"),
    ("/v1/**", "dialect: jmvstream"),
];

fn files(legacy_password: &str) -> anyhow::Result<Files> {
    let names = [
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.self_signed(&key)?;
    let argon2id = |text: &str| hash(text, HashAlgorithm::Argon2id).map_err(anyhow::Error::msg);
    let hashed = argon2id("memphis")?;
    let sha1 = argon2id(&sha1_hex("memphis"))?;
    let users = format!(
        "users:\n  - name: root\n    email: root@example.com\n    password_hash: \"{hashed}\"\n    \
         connection_token_hash: \"{hashed}\"\n    sha1_hash: \"{sha1}\"\n    \
         resources: [ 7f9c24e5-2c31-4f0a-9d0b-5b0f6f1f6a11 ]\n    scopes: [ demo ]\n"
    );
    Ok(Files::in_memory([
        ("tls.crt", certificate.pem().into_bytes()),
        ("tls.key", key.serialize_pem().into_bytes()),
        ("signing", random_text()?.into_bytes()),
        ("legacy-password", legacy_password.as_bytes().to_vec()),
        ("users.yaml", users.into_bytes()),
    ]))
}

/// 256 random bits as text: the demo's secrets live as long as its process.
fn random_text() -> anyhow::Result<String> {
    let mut bits = [0; 32];
    aws_lc_rs::rand::fill(&mut bits).context("the system's random generator failed")?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}
