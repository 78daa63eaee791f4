//! Is every mistake that would fail at start told by `check`, where it is, and what to do?
//!
//! The texts are kept in `wrong_configs.txt`; `TOLLGATE_SNAPSHOT=write` writes them anew, for a
//! reader to judge.

use std::fmt::Write as _;

use crate::support::gate::{Builder, self_signed};

const ROUTES: &str = "  - { path: /api/**, name: api, upstream: app, credential: { basic: { username: gate, password_file: upstream-password } } }";

const LISTENER: &str = "listeners: [ { address: \"127.0.0.1:0\" } ]";
const KEY: &str = "keys: [ { id: k1, algorithm: HS256, secret_file: k1 } ]";
const APP: &str = "app: { endpoints: [ \"http://127.0.0.1:9\" ], response_timeout: 5s }";
const LOGIN: &str = "login: [ { dialect: memphis } ]";
const USERS: &str = "identity: [ { users_file: users.yaml } ]";
const ADMIN: &str = "admin: { address: \"127.0.0.1:0\" }";

/// What is wrong, and by which change of a good config it comes about.
const MISTAKES: [(&str, &str, &str); 85] = [
    (
        "not YAML",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\" }",
    ),
    ("a tab", "workers: 2", "\tworkers: 2"),
    ("an unknown section", "workers: 2", "wrokers: 2"),
    (
        "an unknown key",
        "response_timeout: 5s",
        "response_timout: 5s",
    ),
    ("a key twice", "workers: 2", "workers: 2\nworkers: 3"),
    ("a missing section", LISTENER, ""),
    (
        "a duration without unit",
        "response_timeout: 5s",
        "response_timeout: 5",
    ),
    ("a number as text", "workers: 2", "workers: two"),
    ("a negative number", "workers: 2", "workers: -1"),
    ("no worker", "workers: 2", "workers: 0"),
    ("no listener", LISTENER, "listeners: []"),
    (
        "a listener without port",
        LISTENER,
        "listeners: [ { address: 127.0.0.1 } ]",
    ),
    (
        "a listener by name",
        LISTENER,
        "listeners: [ { address: \"localhost:80\" } ]",
    ),
    (
        "a listener for all without TLS",
        LISTENER,
        "listeners: [ { address: \"0.0.0.0:0\" } ]",
    ),
    (
        "two listeners of a name",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", name: a }, { address: \"127.0.0.1:0\", name: a } ]",
    ),
    (
        "two listeners on an address",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:9\" }, { address: \"127.0.0.1:9\", name: a } ]",
    ),
    (
        "a certificate that is not there",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: no.crt, private_key: a.key } } ]",
    ),
    (
        "a certificate that is none",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: users.yaml, private_key: a.key } } ]",
    ),
    (
        "a key of another certificate",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: b.key } } ]",
    ),
    (
        "proxies that are everybody",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", trusted_proxies: [ 0.0.0.0/0 ] } ]",
    ),
    (
        "a proxy that is no network",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", trusted_proxies: [ proxy.example ] } ]",
    ),
    (
        "an admin listener for all",
        ADMIN,
        "admin: { address: \"0.0.0.0:0\" }",
    ),
    (
        "an admin listener whose operators send passwords in clear",
        ADMIN,
        "admin: { address: \"0.0.0.0:0\", users_file: users.yaml }",
    ),
    (
        "an admin listener without address",
        ADMIN,
        "admin: { address: none }",
    ),
    ("no issuer", "issuer: tollgate", "issuer: \"\""),
    ("no key", KEY, "keys: []"),
    (
        "two keys of an id",
        KEY,
        "keys: [ { id: k1, algorithm: HS256, secret_file: k1 }, { id: k1, algorithm: HS384, secret_file: k1 } ]",
    ),
    (
        "an unknown algorithm",
        KEY,
        "keys: [ { id: k1, algorithm: none, secret_file: k1 } ]",
    ),
    (
        "a secret that is not there",
        KEY,
        "keys: [ { id: k1, algorithm: HS256, secret_file: k2 } ]",
    ),
    (
        "a short secret",
        KEY,
        "keys: [ { id: k1, algorithm: HS256, secret_file: upstream-password } ]",
    ),
    (
        "a key of the wrong kind",
        KEY,
        "keys: [ { id: k1, algorithm: ES256, private_key_file: k1 } ]",
    ),
    (
        "a key that cannot sign",
        KEY,
        "keys: [ { id: k1, algorithm: ES256, public_key_file: k1 } ]",
    ),
    (
        "a secret for a pair of keys",
        KEY,
        "keys: [ { id: k1, algorithm: RS256, secret_file: k1 } ]",
    ),
    (
        "lives beyond their bound",
        KEY,
        "access_ttl: 2days\n  keys: [ { id: k1, algorithm: HS256, secret_file: k1 } ]",
    ),
    (
        "too much leeway",
        KEY,
        "leeway: 10m\n  keys: [ { id: k1, algorithm: HS256, secret_file: k1 } ]",
    ),
    (
        "a short seal key",
        "seal_key_file: seal",
        "seal_key_file: upstream-password",
    ),
    (
        "users that are not there",
        USERS,
        "identity: [ { users_file: nobody.yaml } ]",
    ),
    (
        "users that are none",
        USERS,
        "identity: [ { users_file: k1 } ]",
    ),
    ("a login that nobody knows", USERS, "identity: []"),
    ("an unknown provider", USERS, "identity: [ { ldap: x } ]"),
    (
        "a probe of an unknown upstream",
        USERS,
        "identity: [ { upstream_probe: { upstream: ap, path: /whoami } } ]",
    ),
    (
        "an issuer for everyone",
        USERS,
        "identity: [ { oidc: { issuer: \"https://login.example/\" } } ]",
    ),
    (
        "an issuer without TLS",
        USERS,
        "identity: [ { oidc: { issuer: \"http://login.example/\", audience: a } } ]",
    ),
    (
        "an issuer for browsers without a client",
        USERS,
        "identity: [ { oidc: { issuer: \"https://login.example/\", audience: a, browser: {} } } ]",
    ),
    (
        "an issuer for browsers that is not to say who logs in",
        USERS,
        "identity: [ { oidc: { issuer: \"https://login.example/\", audience: a, client_id: gate, browser: { scopes: [ profile ] } } } ]",
    ),
    (
        "a client's secret that is not there",
        USERS,
        "identity: [ { oidc: { issuer: \"https://login.example/\", audience: a, client_id: gate, browser: { client_secret_file: nowhere } } } ]",
    ),
    (
        "an upstream without endpoint",
        APP,
        "app: { endpoints: [] }",
    ),
    (
        "an endpoint with a path",
        APP,
        "app: { endpoints: [ \"http://127.0.0.1:9/app\" ] }",
    ),
    (
        "an endpoint with a password",
        APP,
        "app: { endpoints: [ \"http://gate:s3cret@127.0.0.1:9\" ] }",
    ),
    (
        "an endpoint with another scheme",
        APP,
        "app: { endpoints: [ \"ftp://127.0.0.1:9\" ] }",
    ),
    (
        "credentials in clear",
        APP,
        "app: { endpoints: [ \"http://broker.example:9\" ] }",
    ),
    (
        "a CA that is not there",
        APP,
        "app: { endpoints: [ \"https://127.0.0.1:9\" ], ca_file: no.pem }",
    ),
    (
        "a variable that is not set",
        APP,
        "app: { endpoints: [ \"http://${TOLLGATE_NOT_SET}\" ] }",
    ),
    (
        "an unknown dialect",
        LOGIN,
        "login: [ { dialect: memphsi } ]",
    ),
    (
        "dialects in each other's way",
        LOGIN,
        "login: [ { dialect: memphis }, { dialect: memphis } ]",
    ),
    (
        "a dialect on an unknown listener",
        LOGIN,
        "login: [ { dialect: memphis, listener: secure } ]",
    ),
    (
        "a route to an unknown upstream",
        "upstream: app, credential",
        "upstream: ap, credential",
    ),
    ("a pattern that is none", "path: /api/**", "path: api/**"),
    ("a rest in the middle", "path: /api/**", "path: /**/api"),
    (
        "a public route to everything",
        "path: /api/**",
        "public: true, path: /**",
    ),
    (
        "a method that is none",
        "path: /api/**",
        "methods: [ \"GE T\" ], path: /api/**",
    ),
    (
        "a password that is not there",
        "password_file: upstream-password",
        "password_file: no-password",
    ),
    (
        "a header that the gate writes",
        "path: /api/**",
        "set_headers: { authorization: x }, path: /api/**",
    ),
    (
        "limits of nothing",
        "workers: 2",
        "limits: { connections: 0, header_timeout: 0s }",
    ),
    (
        "a collector that is nowhere",
        "workers: 2",
        "tracing: { otlp: { sample: 1 } }",
    ),
    (
        "a collector without a path",
        "workers: 2",
        "tracing: { otlp: { endpoint: \"http://127.0.0.1:4318\" } }",
    ),
    (
        "a collector over gRPC",
        "workers: 2",
        "tracing: { otlp: { endpoint: \"grpc://127.0.0.1:4317/\" } }",
    ),
    (
        "a collector's key in its URL",
        "workers: 2",
        "tracing: { otlp: { endpoint: \"https://collector.example/v1/traces?key=s3cret\" } }",
    ),
    (
        "a collector's key in clear",
        "workers: 2",
        "tracing: { otlp: { endpoint: \"http://collector.example/v1/traces\", headers_file: upstream-password } }",
    ),
    (
        "a collector's CA that is none",
        "workers: 2",
        "tracing: { otlp: { endpoint: \"https://collector.example/v1/traces\", ca_file: upstream-password } }",
    ),
    (
        "traces of more than all",
        "workers: 2",
        "tracing: { otlp: { endpoint: \"http://127.0.0.1:4318/v1/traces\", sample: 2, timeout: 0s } }",
    ),
    (
        "a listener of MQTT without a path",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", protocol: mqtt } ]",
    ),
    (
        "a listener of MQTT with what is no path",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", protocol: mqtt, path: \"/mqtt?x\" } ]",
    ),
    (
        "a listener of HTTP with a path",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", path: /mqtt } ]",
    ),
    (
        "a listener of MQTT to which no route belongs",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", protocol: mqtt, path: /api/x } ]",
    ),
    (
        "an upstream of MQTT by HTTP",
        APP,
        "app: { endpoints: [ \"http://127.0.0.1:9\" ], protocol: mqtt, health_check: { path: / } }",
    ),
    (
        "an upstream of HTTP by MQTT",
        APP,
        "app: { endpoints: [ \"mqtts://127.0.0.1\" ] }",
    ),
    (
        "requests to an upstream of MQTT",
        APP,
        "app: { endpoints: [ \"mqtt://127.0.0.1\" ], protocol: mqtt }",
    ),
    (
        "rules of MQTT where it is not spoken",
        "name: api,",
        "name: api, mqtt: { client_id: a },",
    ),
    (
        "MQTT that cannot be",
        "name: api, upstream: app, credential: { basic: { username: gate, password_file: upstream-password } }",
        "name: api, upstream: app, protocol: mqtt, public: true, methods: [ GET ], credential: { header: { name: x-key, value_file: upstream-password } }",
    ),
    (
        "patterns of MQTT that cannot be meant",
        "name: api,",
        "name: api, protocol: mqtt, mqtt: { client_id: \"{user}-*\", publish: [ \"a/#/b\", \"a+\", \"{sub\" ], subscribe: [ \"\" ] },",
    ),
    (
        "subscriptions of one's own in sessions that anybody may take over",
        "name: api,",
        "name: api, protocol: mqtt, mqtt: { client_id: \"device-*\", subscribe: [ \"a/{sub}/#\" ] },",
    ),
    (
        "bounds of MQTT that keep everybody out",
        "workers: 2",
        "limits: { mqtt: { connect_timeout: 0s, connect_size: 0B, packet_size: 0B } }",
    ),
    (
        "a login and another proxy's questions where MQTT is spoken",
        LISTENER,
        "listeners: [ { address: \"127.0.0.1:0\", protocol: mqtt, path: /m, trusted_proxies: [ 127.0.0.1 ], forward_auth: { proxy: caddy } } ]",
    ),
    (
        "a login that is tried at a broker",
        "identity: [ { users_file: users.yaml } ]\nupstreams:",
        "identity: [ { upstream_probe: { upstream: broker, path: / } } ]\nupstreams:\n  broker: { endpoints: [ \"mqtt://127.0.0.1\" ], protocol: mqtt }",
    ),
];

#[test]
fn every_mistake_is_told_with_its_place_by_check_and_by_run() {
    let (certificate, key) = self_signed(&["gate.example"]);
    let (_, other_key) = self_signed(&["gate.example"]);
    let mut told = String::new();
    for (what, from, to) in MISTAKES {
        let builder = Builder::standard("127.0.0.1:9".parse().unwrap(), ROUTES)
            .file("a.crt", &certificate)
            .file("a.key", &key)
            .file("b.key", &other_key)
            .edit(from, to);
        let [check, run] = ["check", "run"].map(|command| {
            let output = builder.run_to_end(&[command]);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{what}: {command}: {text}");
            assert!(output.stdout.is_empty(), "{what}: {command}");
            text.replace(&*builder.folder().path().to_string_lossy(), "DIR")
        });
        assert_eq!(check, run, "{what}");
        assert!(!check.contains("s3cret"), "{what}: {check}");
        let _ = writeln!(told, "## {what}\n{}\n", check.trim_end());
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/wrong_configs.txt");
    if std::env::var_os("TOLLGATE_SNAPSHOT").is_some_and(|way| way == "write") {
        std::fs::write(file, &told).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap();
    for (kept, told) in kept.split("## ").zip(told.split("## ")) {
        assert_eq!(told, kept);
    }
    assert_eq!(told, kept);
}
