//! Are listeners' certificates renewed while the gate serves, without harm to whoever is connected?

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind, StreamOwned};

use crate::support::client::{connect, connect_tls, read_response, tls_config};
use crate::support::gate::{Builder, Folder, Gate, claims, self_signed, sign, users};
use crate::support::reload::{Verdict, reload, reload_with, verdicts, wait_for_verdict};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";
const LISTENERS: &str = "listeners: [ { address: \"127.0.0.1:0\", name: a, tls: { certificate: a.crt, private_key: a.key } }, { address: \"127.0.0.1:0\", name: b, tls: { certificate: b.crt, private_key: b.key } } ]";

/// A certificate and its key, and the name that it is for.
struct Pair {
    name: &'static str,
    certificate: String,
    key: String,
}

impl Pair {
    fn new(name: &'static str) -> Self {
        let (certificate, key) = self_signed(&[name]);
        Self {
            name,
            certificate,
            key,
        }
    }

    fn write(&self, folder: &Folder, stem: &str) {
        folder.write(&format!("{stem}.crt"), &self.certificate);
        folder.write(&format!("{stem}.key"), &self.key);
    }

    /// A connection that trusts this certificate alone; nothing if the gate shows another.
    fn connect(&self, address: SocketAddr) -> Option<Tls> {
        let versions = rustls::ALL_VERSIONS;
        let mut stream = connect_tls(address, self.name, &self.certificate, &[], versions);
        stream.write_all(request().as_bytes()).ok()?;
        assert_eq!(read_response(&mut stream, false).status, 200);
        Some(stream)
    }

    fn is_shown(&self, address: SocketAddr) -> bool {
        self.connect(address).is_some()
    }

    /// When it expires, by the metric of listener `a`: zero if it is not served.
    fn expiry(&self, gate: &Gate) -> f64 {
        let name = self.name;
        gate.metric(&format!(
            "tollgate_tls_certificate_not_after_timestamp_seconds{{listener=\"a\",name=\"{name}\"}}"
        ))
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn request() -> String {
    let token = sign(&claims());
    format!("GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n")
}

fn is_answered(stream: &mut Tls) -> bool {
    stream.write_all(request().as_bytes()).unwrap();
    read_response(stream, false).status == 200
}

/// Logs in as `root`; the answer's status.
fn login(pair: &Pair, gate: &Gate) -> u16 {
    let mut stream = pair.connect(gate.address()).unwrap();
    let body = r#"{"username":"root","password":"memphis"}"#;
    let length = body.len();
    let head = format!(
        "POST /auth/authenticate HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    read_response(&mut stream, false).status
}

/// A gate with two listeners, with a certificate each.
fn start() -> (Upstream, Gate, [Pair; 2]) {
    let upstream = Upstream::start();
    let pairs = [Pair::new("a.example"), Pair::new("b.example")];
    let builder = Builder::standard(upstream.address, ROUTES).line("listeners:", LISTENERS);
    for (pair, stem) in pairs.iter().zip(["a", "b"]) {
        pair.write(builder.folder(), stem);
    }
    (upstream, builder.start(), pairs)
}

fn config(gate: &Gate) -> String {
    std::fs::read_to_string(gate.folder().path().join("tollgate.yaml")).unwrap()
}

#[test]
fn a_mounted_certificate_is_swapped_by_its_link_and_open_connections_go_on() {
    let upstream = Upstream::start();
    let volume = Folder::new();
    let at = |path: &str| volume.path().join(path);
    let (old, new) = (Pair::new("old.example"), Pair::new("new.example"));
    for (version, pair) in [("..v1", &old), ("..v2", &new)] {
        std::fs::create_dir(at(version)).unwrap();
        pair.write(&volume, &format!("{version}/tls"));
    }
    symlink("..v1", at("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), at(name)).unwrap();
    }
    let gate = Builder::standard(upstream.address, ROUTES)
        .edit("interval: 0s", "interval: 100ms")
        .line("listeners:", LISTENERS)
        .certificate("b", &["b.example"])
        .edit("a.crt", &at("tls.crt").display().to_string())
        .edit("a.key", &at("tls.key").display().to_string())
        .start();
    let mut kept = old.connect(gate.address()).unwrap();
    assert!(old.expiry(&gate) > 0.0, "{}", gate.metrics());
    symlink("..v2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    std::fs::remove_dir_all(at("..v1")).unwrap();
    assert_eq!(wait_for_verdict(&gate, 0), Verdict::Taken);
    assert!(new.is_shown(gate.address()));
    assert!(!old.is_shown(gate.address()));
    assert!(is_answered(&mut kept), "the open connection was cut");
    assert!(new.expiry(&gate) > 0.0, "{}", gate.metrics());
    assert_eq!(old.expiry(&gate), 0.0, "{}", gate.metrics());
    assert_eq!(gate.metric("tollgate_config_restart_needed"), 0.0);
    assert_eq!(verdicts(&gate).len(), 1);
}

#[test]
fn a_certificate_that_does_not_fit_its_key_is_refused_with_all_that_changed_beside_it() {
    let (_upstream, gate, [a, b]) = start();
    let (next_a, next_b) = (Pair::new("a.example"), Pair::new("b.example"));
    for (row, file, content, place) in [
        (
            "another's",
            "b.crt",
            next_a.certificate.as_str(),
            "private_key: does not fit",
        ),
        (
            "no certificate",
            "b.crt",
            "",
            "certificate: holds no certificate",
        ),
        ("no key", "b.key", "", "private_key: holds no private key"),
    ] {
        // Of the same reload, all of this alone would be taken.
        next_a.write(gate.folder(), "a");
        next_b.write(gate.folder(), "b");
        gate.folder()
            .write("users.yaml", users(&[("alice", "wonderland", "[ admin ]")]));
        gate.folder().write(file, content);
        assert_eq!(reload(&gate), Verdict::Refused, "{row}");
        let place = format!("listeners[1].tls.{place}");
        gate.wait_for_log(row, |line| {
            line["error"]
                .as_str()
                .is_some_and(|text| text.contains(&place))
        });
        for (pair, address) in [&a, &b].into_iter().zip(&gate.listeners) {
            assert!(pair.is_shown(*address), "{row}");
        }
        assert_eq!(login(&a, &gate), 200, "{row}");
    }
    next_b.write(gate.folder(), "b");
    assert_eq!(reload(&gate), Verdict::Taken);
    for (pair, address) in [&next_a, &next_b].into_iter().zip(&gate.listeners) {
        assert!(pair.is_shown(*address));
    }
    assert_eq!(login(&next_a, &gate), 401);
    let refused = "tollgate_config_reloads_total{result=\"refused\"}";
    assert_eq!(gate.metric(refused), 3.0);
}

#[test]
fn versions_and_names_come_into_force_too_and_each_listener_gets_its_own() {
    let (_upstream, gate, [a, b]) = start();
    let more = Pair::new("more.example");
    more.write(gate.folder(), "more");
    let tls = "private_key: b.key";
    let next = config(&gate).replace(
        tls,
        &format!("{tls}, min_version: \"1.3\", sni: [ {{ certificate: more.crt, private_key: more.key }} ]"),
    );
    assert!(!more.is_shown(gate.listeners[1]));
    assert_eq!(reload_with(&gate, &next), Verdict::Taken);
    assert_eq!(gate.metric("tollgate_config_restart_needed"), 0.0);
    assert!(more.is_shown(gate.listeners[1]) && b.is_shown(gate.listeners[1]));
    assert!(!more.is_shown(gate.listeners[0]) && a.is_shown(gate.listeners[0]));
    for (index, pair, is_spoken) in [(0, &a, true), (1, &b, false)] {
        let address = gate.listeners[index];
        let mut stream = connect_tls(address, pair.name, &pair.certificate, &[], &[&TLS12]);
        assert_eq!(stream.write_all(b"x").is_ok(), is_spoken, "{}", pair.name);
    }
    // One that is listed no more goes on as it was until a restart; the other is still renewed.
    let (head, rest) = next.split_once("{ address").unwrap();
    let (_, second) = rest.split_once("{ address").unwrap();
    let alone = format!("{head}{{ address{second}");
    let renewed = Pair::new("renewed.example");
    renewed.write(gate.folder(), "b");
    Pair::new("a.example").write(gate.folder(), "a");
    assert_eq!(reload_with(&gate, &alone), Verdict::Taken);
    assert!(a.is_shown(gate.listeners[0]));
    assert!(renewed.is_shown(gate.listeners[1]));
    assert_eq!(gate.metric("tollgate_config_restart_needed"), 1.0);
    gate.wait_for_log("what waits", |line| line["parts"] == "listeners");
}

#[test]
fn sessions_are_resumed_across_a_reload_but_not_across_certificates() {
    let (_upstream, gate, [a, _]) = start();
    let next = Pair::new("a.example");
    let both = format!("{}{}", a.certificate, next.certificate);
    let client = Arc::new(tls_config(&both, &[], &[&TLS13]));
    let handshake = || {
        let name = ServerName::try_from("a.example").unwrap();
        let session = ClientConnection::new(Arc::clone(&client), name).unwrap();
        let mut stream = StreamOwned::new(session, connect(gate.address()));
        assert!(is_answered(&mut stream));
        stream.conn.handshake_kind().unwrap()
    };
    assert_eq!(handshake(), HandshakeKind::Full);
    assert_eq!(handshake(), HandshakeKind::Resumed);
    assert_eq!(reload(&gate), Verdict::Taken);
    assert_eq!(handshake(), HandshakeKind::Resumed);
    next.write(gate.folder(), "a");
    assert_eq!(reload(&gate), Verdict::Taken);
    assert_ne!(handshake(), HandshakeKind::Resumed);
    assert_eq!(handshake(), HandshakeKind::Resumed);
}
