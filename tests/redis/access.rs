//! Who may speak with the Redis, and how is that kept secret?

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::server::{Redis, builder, free_port, status};
use crate::support::gate::Builder;
use crate::support::upstream::Upstream;

fn refused(builder: &Builder) -> String {
    let output = builder.run_to_end(&["run"]);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_acl_user_with_only_what_is_needed_is_enough() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    redis.ask(&[
        "ACL",
        "SETUSER",
        "gate",
        "on",
        ">s3cret",
        "~tollgate:*",
        "&tollgate:*",
        "+@read",
        "+@write",
        "+@scripting",
        "+@pubsub",
        "+@connection",
        "+@transaction",
        "-@dangerous",
        "+time",
    ]);
    redis.ask(&["ACL", "SETUSER", "default", "off"]);
    let more = ", username: gate, password_file: redis-password";
    let start = |password: &str| {
        redis
            .builder(&upstream, more)
            .file("redis-password", password)
    };
    let gate = start("s3cret\n").start();
    let token = gate.token("root", "memphis");
    assert_eq!(status(&gate, &token), 200);
    let said = refused(&start("wr0ng\n"));
    assert!(said.contains("the store cannot be used"), "{said}");
    assert!(!said.contains("wr0ng"), "{said}");
    let said = refused(&redis.builder(&upstream, ""));
    assert!(
        said.contains("NOAUTH") || said.contains("uthentication"),
        "{said}"
    );
}

/// A server's certificate for 127.0.0.1 and the one of the authority that signed it.
fn certificates() -> [String; 3] {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes who has the same name as its authority for the authority.
    ca.distinguished_name.push(DnType::CommonName, "authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    [ca_certificate.pem(), certificate.pem(), key.serialize_pem()]
}

#[test]
fn tls_needs_a_server_that_the_authority_vouches_for() {
    let upstream = Upstream::start();
    let [ca, certificate, key] = certificates();
    for needs_client in ["no", "yes"] {
        let redis = Redis::with(|folder| {
            let path = |name: &str, text: &str| folder.write(name, text).display().to_string();
            let files = [
                path("ca", &ca),
                path("crt", &certificate),
                path("key", &key),
            ];
            let server = [
                "--tls-ca-cert-file",
                &files[0],
                "--tls-cert-file",
                &files[1],
                "--tls-key-file",
                &files[2],
                "--tls-auth-clients",
                needs_client,
            ];
            (strings(&server), Vec::new())
        });
        // The plain port stays, for the test; another one speaks TLS.
        let port = free_port().to_string();
        assert_eq!(redis.ask(&["CONFIG", "SET", "tls-port", &port]), "OK");
        let url = format!("rediss://127.0.0.1:{port}");
        let start = |more: &str| {
            builder(&url, &upstream, more)
                .file("ca.pem", &ca)
                .file("client.pem", &certificate)
                .file("client.key", &key)
        };
        let own = ", ca_file: ca.pem, client_certificate: client.pem, client_key: client.key";
        let more = if needs_client == "yes" {
            own
        } else {
            ", ca_file: ca.pem"
        };
        let gate = start(more).start();
        assert_eq!(status(&gate, &gate.token("root", "memphis")), 200);
        redis.ask(&["SET", "tollgate:layout", "99"]);
        let said = refused(&start(more));
        assert!(
            said.contains("layout 99") && said.contains("prefix"),
            "{said}"
        );
    }
}

#[test]
fn configs_that_would_leak_are_refused_and_repeat_nothing() {
    let upstream = Upstream::start();
    for (url, more, expected) in [
        ("redis://gate:hunter2@127.0.0.1", "", "must be redis://"),
        ("redis://127.0.0.1/0", "", "must be redis://"),
        ("redis://redis.example", "", "danger_plaintext"),
        ("redis://127.0.0.1", ", username: gate", "password_file"),
        (
            "redis://127.0.0.1\", \"redis://127.0.0.2",
            "",
            "mode: cluster",
        ),
        ("redis://127.0.0.1", ", mode: sentinel", "master_name"),
        (
            "redis://127.0.0.1",
            ", max_staleness: 0s",
            "danger_unbounded_staleness",
        ),
        (
            "redis://127.0.0.1",
            ", prefix: \"a{b\"",
            "may have up to 64",
        ),
        (
            "redis://127.0.0.1",
            ", mode: cluster, database: 1",
            "only 0",
        ),
        ("redis://127.0.0.1", ", timeout: 0s", "10ms"),
        ("redis://127.0.0.1", ", ca_file: missing.pem", "missing.pem"),
    ] {
        let said = refused(&builder(url, &upstream, more));
        assert!(said.contains(expected), "{url} {more}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_layout_of_another_version_is_refused() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    redis.ask(&["SET", "tollgate:layout", "2"]);
    let said = refused(&redis.builder(&upstream, ""));
    assert!(said.contains("layout 2"), "{said}");
    let gate = redis.gate(&upstream, ", prefix: \"other:\"");
    assert_eq!(redis.ask(&["GET", "other:layout"]), "1");
    gate.login("root", "memphis");
}
