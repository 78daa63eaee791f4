//! What the gate is given: its config in every version, users, keys, and what stands behind it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::service::{Endpoint, Record};
use crate::support::chaos::Chaos;
use crate::support::gate::{Builder, Gate, SECRET, hash_password, run, self_signed};

/// Users `u0` to this one, and `victim`, whose tokens are taken back.
pub(crate) const USERS: u64 = 24;
pub(crate) const PASSWORD: &str = "memphis";

/// The gate and what stands behind it.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) gate: Gate,
    pub(crate) certificate: String,
    /// Two endpoints of one upstream, then one that is alone.
    pub(crate) endpoints: [Endpoint; 3],
    pub(crate) record: Arc<Record>,
    /// Fails in every way, by the request's id.
    pub(crate) chaos: Chaos,
    pub(crate) seed: u64,
}

impl Ground {
    pub(crate) fn start(seed: u64) -> Self {
        let record = Arc::new(Record::default());
        let endpoints = [(); 3].map(|()| Endpoint::start(&record));
        let chaos = Chaos::start(seed);
        let (certificate, key) = self_signed(&["gate.example"]);
        let config = config(&addresses(&endpoints), chaos.address, 0);
        let gate = Builder::new(&config)
            .file("k1", SECRET)
            .file("k2", "another secret of 32 bytes or more")
            .file("t0", rotated(0))
            .file("seal", "fedcba9876543210fedcba9876543210")
            .file("upstream-password", "s3cret\n")
            .file("users.yaml", users())
            .file("per-user.yaml", per_user())
            .file("a.crt", &certificate)
            .file("a.key", key)
            .start();
        Self {
            gate,
            certificate,
            endpoints,
            record,
            chaos,
            seed,
        }
    }

    /// The plaintext listener.
    pub(crate) fn plain(&self) -> SocketAddr {
        self.gate.listeners[0]
    }

    /// The listener with TLS.
    pub(crate) fn tls(&self) -> SocketAddr {
        self.gate.listeners[1]
    }

    /// The config's version of this number: with the route `/gen-N/**`, the key `tN`, and each
    /// second one with another key that signs.
    pub(crate) fn config(&self, generation: u64) -> String {
        config(&addresses(&self.endpoints), self.chaos.address, generation)
    }
}

/// The secret of the key that is there in this generation alone.
pub(crate) fn rotated(generation: u64) -> String {
    format!("a secret of generation {generation:032}")
}

fn addresses(endpoints: &[Endpoint; 3]) -> [SocketAddr; 3] {
    [0, 1, 2].map(|index: usize| endpoints[index].address)
}

fn config(endpoints: &[SocketAddr; 3], chaos: SocketAddr, generation: u64) -> String {
    let [first, second, alone] = endpoints;
    let [signs, other] = match generation.is_multiple_of(2) {
        true => ["k1", "k2"],
        false => ["k2", "k1"],
    };
    let key = |name: &str| format!("{{ id: {name}, algorithm: HS256, secret_file: {name} }}");
    let keys = [signs, other, &format!("t{generation}")]
        .map(key)
        .join(", ");
    let checks = "response_timeout: 10s, idle_timeout: 5s, ejection: { time: 1s }, \
                  health_check: { path: /healthz, interval: 500ms, timeout: 5s }";
    format!(
        r#"
listeners:
  - {{ address: "127.0.0.1:0", name: plain }}
  - {{ address: "127.0.0.1:0", name: tls, tls: {{ certificate: a.crt, private_key: a.key }} }}
admin: {{ address: "127.0.0.1:0" }}
workers: 2
store: {{ file: state.redb }}
tokens:
  issuer: tollgate
  audience: gate
  leeway: 0s
  keys: [ {keys} ]
  seal_key_file: seal
  cache: {{ entries: 2000 }}
identity: [ {{ users_file: users.yaml }} ]
upstreams:
  app: {{ endpoints: [ "http://{first}", "http://{second}" ], {checks} }}
  solo: {{ endpoints: [ "http://{alone}" ], {checks} }}
  chaos: {{ endpoints: [ "http://{chaos}" ], response_timeout: 10s, idle_timeout: 5s }}
login:
  - {{ dialect: memphis }}
  - {{ dialect: oauth2 }}
  - {{ dialect: datarhei, prefix: /datarhei }}
  - {{ dialect: emnify, prefix: /emnify }}
reload: {{ interval: 0s }}
log: {{ access_sample: 0.01 }}
limits:
  connections_per_address: {PER_ADDRESS}
  header_timeout: 20s
  handshake_timeout: 20s
  send_timeout: 10s
  http2_resets: 100
  http2_control_frames: 400
routes:
  - {{ path: "/own/{{sub}}/**", name: own, upstream: app, credential: {{ per_user: {{ file: per-user.yaml }} }}, retry: {{ tries: 1 }} }}
  - {{ path: "/solo/{{sub}}/**", name: solo, upstream: solo, credential: {{ per_user: {{ file: per-user.yaml }} }} }}
  - {{ path: "/api/{{sub}}/**", name: chaos, upstream: chaos, dialect: memphis, credential: {{ per_user: {{ file: per-user.yaml }} }} }}
  - {{ path: "/ws/{{sub}}/**", name: ws, upstream: app, credential: {{ per_user: {{ file: per-user.yaml }} }} }}
  - {{ path: "/sealed/{{sub}}/**", name: sealed, upstream: app, credential: login }}
  - {{ path: "/basic/{{sub}}/**", name: basic, upstream: app, basic: {{ remember: 5s }}, credential: login }}
  - {{ path: "/ops/**", name: ops, upstream: app, require: {{ scopes: [ ops ] }}, credential: {{ basic: {{ username: gate, password_file: upstream-password }} }} }}
  - {{ path: "/public/**", name: public, upstream: app, public: true }}
  - {{ path: "/gen-{generation}/**", name: gen, upstream: app, public: true }}
"#
    )
}

/// The most connections of one address.
pub(crate) const PER_ADDRESS: usize = 200;

/// All have the same password, which is hashed once.
fn users() -> String {
    let hash = hash_password(PASSWORD, "argon2id");
    let sha1 = run(&["hash-password", "--form", "sha1"], PASSWORD).stdout;
    let sha1 = String::from_utf8(sha1).unwrap();
    let mut text = "users:\n".to_owned();
    let names = (0..USERS).map(|user| format!("u{user}"));
    for name in names.chain(["victim".to_owned()]) {
        let sha1 = sha1.trim();
        writeln!(
            text,
            "  - {{ name: {name}, password_hash: \"{hash}\", sha1_hash: \"{sha1}\" }}"
        )
        .unwrap();
    }
    text
}

fn per_user() -> String {
    let names = (0..USERS).map(|user| format!("u{user}"));
    let names = names.chain(["victim".to_owned()]);
    names
        .map(|name| format!("{name}: {{ username: {name}, password: of-{name} }}\n"))
        .collect()
}
