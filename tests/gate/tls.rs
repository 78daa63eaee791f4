//! Does TLS work towards both sides, and only as configured?

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Request;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::support::client::{connect, connect_tls, read_response};
use crate::support::gate::{Builder, Gate, claims, self_signed, sign};
use crate::support::http2::{Http2, empty};
use crate::support::raw::{accepting_tls, read_head, read_rest};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, name: api, upstream: app }
";

/// A gate that speaks TLS alone; further settings of its `tls` and of `limits`.
fn secure(upstream: SocketAddr, tls: &str, limits: &str) -> (Gate, String) {
    let (certificate, key) = self_signed(&["gate.example"]);
    let listener = format!(
        "listeners: [ {{ address: \"127.0.0.1:0\", name: secure, tls: {{ certificate: a.crt, private_key: a.key, {tls} }} }} ]"
    );
    let gate = Builder::with_extra(upstream, ROUTES, &format!("limits: {{ {limits} }}"))
        .line("listeners:", &listener)
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    (gate, certificate)
}

fn request() -> String {
    let token = sign(&claims());
    format!("GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n")
}

#[test]
fn tls_1_2_and_1_3_are_both_spoken_and_counted() {
    let upstream = Upstream::start();
    let (gate, certificate) = secure(upstream.address, "", "");
    for (version, label) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        let mut stream = connect_tls(
            gate.address(),
            "gate.example",
            &certificate,
            &["http/1.1"],
            &[version],
        );
        stream.write_all(request().as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream, false).status, 200, "{label}");
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        let sample = format!(
            "tollgate_tls_handshakes_total{{listener=\"secure\",result=\"ok\",version=\"{label}\"}}"
        );
        assert_eq!(gate.metric(&sample), 1.0, "{}", gate.metrics());
    }
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn min_version_1_3_refuses_1_2() {
    let (gate, certificate) = secure(Upstream::start().address, "min_version: \"1.3\"", "");
    for (version, is_spoken) in [(&TLS12, false), (&TLS13, true)] {
        let mut stream = connect_tls(
            gate.address(),
            "gate.example",
            &certificate,
            &[],
            &[version],
        );
        let sent = stream.write_all(request().as_bytes());
        assert_eq!(sent.is_ok(), is_spoken, "{version:?}: {sent:?}");
    }
    gate.wait_for_metric(FAILED, 1.0);
}

const FAILED: &str =
    "tollgate_tls_handshakes_total{listener=\"secure\",result=\"failed\",version=\"none\"}";

#[test]
fn the_protocol_is_the_gates_choice_of_what_the_client_offers() {
    let (gate, certificate) = secure(Upstream::start().address, "", "");
    for (offered, chosen) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["h2"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.0", "http/1.1"], Some("http/1.1")),
    ] {
        let mut stream = connect_tls(
            gate.address(),
            "gate.example",
            &certificate,
            offered,
            rustls::ALL_VERSIONS,
        );
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        let protocol = stream.conn.alpn_protocol();
        assert_eq!(protocol, chosen.map(str::as_bytes), "{offered:?}");
    }
    let mut stream = connect_tls(
        gate.address(),
        "gate.example",
        &certificate,
        &["acme-tls/1"],
        rustls::ALL_VERSIONS,
    );
    let refused = stream.write_all(b"x").unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn an_http2_client_gets_http2_and_the_upstream_http1() {
    let upstream = Upstream::start();
    let (gate, certificate) = secure(upstream.address, "", "");
    let mut client = Http2::connect(gate.address(), &certificate);
    for count in 1..=3 {
        let request = Request::get(format!("https://gate.example/api/{count}?q=%2F"))
            .header("authorization", format!("Bearer {}", sign(&claims())))
            .body(empty())
            .unwrap();
        let response = client.send(request);
        assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
        assert!(response.headers.contains_key("x-request-id"));
        assert!(response.trailers.is_none());
        let head = upstream.last().head;
        let line = format!("GET /api/{count}?q=%2F HTTP/1.1\r\n");
        assert!(head.starts_with(&line), "{head}");
        assert_eq!(upstream.last().header("host"), Some("gate.example"));
    }
}

#[test]
fn certificates_are_chosen_by_name() {
    let names = [
        &["default.example"][..],
        &["a.example", "b.example"],
        &["*.wild.example"],
    ];
    let pairs = names.map(self_signed);
    let mut builder = Builder::standard(Upstream::start().address, ROUTES).line(
        "listeners:",
        "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: 0.crt, private_key: 0.key, sni: [ { certificate: 1.crt, private_key: 1.key }, { certificate: 2.crt, private_key: 2.key } ] } } ]",
    );
    for (index, (certificate, key)) in pairs.iter().enumerate() {
        builder = builder
            .file(&format!("{index}.crt"), certificate)
            .file(&format!("{index}.key"), key);
    }
    let gate = builder.start();
    for (asked, expected) in [
        ("default.example", 0),
        ("a.example", 1),
        ("A.Example", 1),
        ("b.example", 1),
        ("any.wild.example", 2),
        ("deep.any.wild.example", 0), // A wildcard stands for one label (RFC 6125 section 6.4.3).
        ("wild.example", 0),
        ("unknown.example", 0),
        ("127.0.0.1", 0), // An address is never sent as a name.
    ] {
        let shown = shown_certificate(gate.address(), asked);
        let expected = CertificateDer::from_pem_slice(pairs[expected].0.as_bytes()).unwrap();
        assert!(shown == expected, "{asked} was shown another certificate");
    }
}

/// The certificate that a client sees that trusts everyone.
fn shown_certificate(address: SocketAddr, name: &str) -> CertificateDer<'static> {
    let witness = Arc::new(Witness::default());
    let verifier = Arc::clone(&witness) as Arc<dyn ServerCertVerifier>;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, connect(address));
    stream.write_all(b"x").unwrap();
    witness.0.lock().unwrap().take().unwrap()
}

#[derive(Debug, Default)]
struct Witness(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(certificate.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[test]
fn an_https_upstream_is_trusted_only_under_its_own_ca_and_name() {
    for (row, certified, trusted, is_accepted) in [
        ("own CA, right address", "127.0.0.1", "own", true),
        ("own CA, another name", "other.example", "own", false),
        ("another CA", "127.0.0.1", "other", false),
        ("no ca_file: the public CAs", "127.0.0.1", "public", false),
    ] {
        let (own, other) = (Authority::new(), Authority::new());
        let (certificate, key) = own.certify(certified);
        let upstream = accepting_tls(&certificate, &key, |mut stream| {
            while !read_head(&mut stream).is_empty() {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
        });
        let ca_file = if trusted == "public" {
            ""
        } else {
            ", ca_file: ca.pem"
        };
        let app = format!("  app: {{ endpoints: [ \"https://{upstream}\" ]{ca_file} }}");
        let ca = if trusted == "own" { &own } else { &other };
        let gate = Builder::standard(upstream, ROUTES)
            .line("  app:", &app)
            .file("ca.pem", &ca.certificate)
            .start();
        let response = gate.get("/api/x", &sign(&claims()));
        let faults = gate.metric("tollgate_upstream_errors_total{kind=\"tls\",upstream=\"app\"}");
        if is_accepted {
            assert_eq!((response.status, faults), (200, 0.0), "{row}");
        } else {
            assert_eq!((response.status, faults), (502, 1.0), "{row}");
            let text = response.json().to_string();
            assert!(!text.contains("certificate"), "{row}: {text}");
            let line = gate.wait_for_log(row, |line| line["reason"] == "upstream_unreachable");
            let cause = line["cause"].as_str().unwrap();
            assert!(cause.contains("TLS handshake"), "{row}: {cause}");
        }
    }
}

/// Signs certificates.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[test]
fn the_metric_tells_when_each_certificate_expires() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["soon.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2031, 2, 3);
    let certificate = params.self_signed(&key).unwrap();
    let gate = Builder::standard(Upstream::start().address, ROUTES)
        .line(
            "listeners:",
            "listeners: [ { address: \"127.0.0.1:0\", name: secure, tls: { certificate: a.crt, private_key: a.key, sni: [ { certificate: soon.crt, private_key: soon.key } ] } } ]",
        )
        .certificate("a", &["gate.example"])
        .file("soon.crt", certificate.pem())
        .file("soon.key", key.serialize_pem())
        .start();
    for (name, expected) in [
        ("gate.example", 67_090_118_400.0), // rcgen's default: 4096-01-01.
        ("soon.example", 1_927_843_200.0),  // 2031-02-03.
    ] {
        let sample = format!(
            "tollgate_tls_certificate_not_after_timestamp_seconds{{listener=\"secure\",name=\"{name}\"}}"
        );
        assert_eq!(gate.metric(&sample), expected, "{}", gate.metrics());
    }
}

#[test]
fn what_is_no_tls_is_turned_away_at_once() {
    let (gate, certificate) = secure(Upstream::start().address, "", "");
    let garbage = [0xa5; 4096];
    let plain = request();
    for (count, row, bytes) in [
        (1.0, "plain HTTP", plain.as_bytes()),
        (
            2.0,
            "HTTP/2 in the clear",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        (3.0, "garbage", &garbage),
        (4.0, "a record beyond all limits", b"\x16\x03\x01\xff\xff"),
    ] {
        let mut stream = connect(gate.address());
        stream.write_all(bytes).unwrap();
        let answer = read_rest(&mut stream);
        assert!(!answer.starts_with(b"HTTP"), "{row}: {answer:?}");
        gate.wait_for_metric(FAILED, count);
    }
    let mut stream = connect_tls(
        gate.address(),
        "gate.example",
        &certificate,
        &[],
        rustls::ALL_VERSIONS,
    );
    stream.write_all(request().as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream, false).status, 200);
}

#[test]
fn a_client_that_says_nothing_is_hung_up_on_after_handshake_timeout() {
    let limits = "handshake_timeout: 300ms";
    let (gate, _) = secure(Upstream::start().address, "", limits);
    let mut stream = connect(gate.address());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let sample =
        "tollgate_tls_handshakes_total{listener=\"secure\",result=\"timeout\",version=\"none\"}";
    gate.wait_for_metric(sample, 1.0);
}
