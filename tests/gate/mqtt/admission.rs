//! Who is let in, with what does the upstream meet it, and what is a refused client told?

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::client::connect_tls;
use crate::support::gate::{claims, self_signed, sign};
use crate::support::issuer::{Issuer, IssuerKey};
use crate::support::mqtt::{
    Broker, Client, Connect, PINGREQ, PINGRESP, V5, V31, V311, VERSIONS, Version, before,
    read_packet, route,
};
use crate::support::raw::{accepting_tls, read_rest};
use crate::support::secrets::Secrets;
use crate::support::tokens::{self, with_claim};
use crate::support::{unix_now, wait_for};

/// CONNECTs with all that a CONNECT can have.
fn full(version: Version) -> Connect {
    let mut connect = Connect::new(version).client_id("ä device");
    connect.flags = 0x2 | 0x20 | 0x08;
    connect.keep_alive = 0x1234;
    connect.will = Some((Vec::new(), "plant/1/gone".to_owned(), vec![0, 255, 7]));
    if version == V5 {
        // User properties in an order and number of their own, around others; the identifiers in no
        // order.
        connect.properties = [
            &b"\x26\0\x01b\0\x011"[..],
            b"\x27\0\x01\0\0",
            b"\x26\0\x01a\0\x012",
            b"\x11\0\0\0\x0a",
            b"\x21\0\x14",
            b"\x26\0\x01b\0\x011",
            b"\x17\x01\x19\x01\x22\0\x05",
        ]
        .concat();
        let will = b"\x26\0\x01z\0\0\x18\0\0\0\x05\x01\0\x02\0\0\0\x09\x03\0\x01t\x08\0\x01r\x09\0\x02\0\xff\x26\0\x01y\0\0";
        connect.will = Some((will.to_vec(), "plant/1/gone".to_owned(), vec![0, 255, 7]));
    }
    connect
}

#[test]
fn connect_goes_on_byte_for_byte_but_for_its_user_name_and_password() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let token = sign(&claims());
    for version in VERSIONS {
        for connect in [Connect::new(version), full(version)] {
            let mut client = Client::connected(&gate, &connect.clone().pair("anybody", &token));
            let expected = connect.pair("gate", "s3cret").bytes();
            assert_eq!(broker.connect(), expected, "{version:?}");
            client.assert_alive();
        }
    }
}

#[test]
fn what_is_sent_behind_connect_at_once_or_in_pieces_arrives() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let connect = Connect::with_token(V311, &sign(&claims())).bytes();
    let all = [&connect[..], &PINGREQ, &PINGREQ].concat();
    for piece in [1, 7, all.len()] {
        let mut client = Client::open(&gate, []);
        for piece in all.chunks(piece) {
            client.send(piece);
        }
        assert_eq!(client.read().unwrap(), [0x20, 2, 0, 0]);
        for _ in 0..2 {
            assert_eq!(client.read().unwrap(), PINGRESP, "pieces of {piece}");
        }
    }
}

#[test]
fn a_bad_token_is_refused_in_the_clients_version_and_reaches_no_broker() {
    let broker = Broker::start();
    let gate = before(broker.address, &route("require: { scopes: [ admin ] }"), "").start();
    let now = unix_now();
    let none = json!("none");
    for (row, password, [old, new]) in [
        ("no token", Some("x".to_owned()), [4, 0x86]),
        ("an empty one", Some(String::new()), [4, 0x86]),
        ("none at all", None, [4, 0x86]),
        (
            "expired",
            Some(with_claim("exp", json!(now - 100))),
            [4, 0x86],
        ),
        (
            "not valid yet",
            Some(with_claim("nbf", json!(now + 900))),
            [4, 0x86],
        ),
        (
            "another issuer",
            Some(with_claim("iss", none.clone())),
            [4, 0x86],
        ),
        ("another audience", Some(with_claim("aud", none)), [4, 0x86]),
        (
            "a refresh token",
            Some(tokens::sign_as("rt+jwt", &claims())),
            [4, 0x86],
        ),
        ("forged", Some(sign(&claims()) + "x"), [4, 0x86]),
        (
            "another scope",
            Some(with_claim("scope", json!("none"))),
            [5, 0x87],
        ),
    ] {
        for version in VERSIONS {
            let mut connect = Connect::new(version);
            if let Some(password) = &password {
                connect = connect.pair("root", password);
            }
            let mut client = Client::open(&gate, connect.bytes());
            let answer = client.read().unwrap();
            if version == V5 {
                assert_eq!((answer[0], answer[3]), (0x20, new), "{row}: {answer:?}");
                assert_eq!(answer[5], 0x1f, "{row} has no reason string");
            } else {
                assert_eq!(answer, [0x20, 2, 0, old], "{row}, {version:?}");
            }
            client.assert_end();
        }
    }
    assert_eq!(broker.seen(), Vec::<Vec<u8>>::new());
    let is_malformed = |line: &Value| line["reason"] == "malformed_token";
    let line = gate.wait_for_log("the first row's line", is_malformed);
    assert_eq!(line["http.response.status_code"], 401, "{line}");
}

#[test]
fn reason_strings_are_left_out_where_the_client_does_not_take_them() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    for (properties, length) in [
        (&b"\x17\x00"[..], 5),
        (b"\x27\0\0\0\x08", 5),
        (b"\x17\x01", 31),
        (b"", 31),
    ] {
        let mut connect = Connect::with_token(V5, "x");
        connect.properties = properties.to_vec();
        let answer = Client::open(&gate, connect.bytes()).read().unwrap();
        assert_eq!(&answer[2..4], [0, 0x86]);
        assert_eq!(answer.len(), length, "{properties:?}: {answer:?}");
    }
}

#[test]
fn without_a_credential_neither_the_token_nor_a_name_beside_it_reaches_the_broker() {
    let broker = Broker::start();
    let routes = "  - { path: /mqtt, name: mqtt, upstream: app, protocol: mqtt }";
    let gate = before(broker.address, routes, "").start();
    for version in VERSIONS {
        let connect = Connect::new(version);
        let _client = Client::connected(&gate, &connect.clone().pair("root", &sign(&claims())));
        assert_eq!(broker.connect(), connect.bytes(), "{version:?}");
    }
}

#[test]
fn a_user_reaches_the_broker_with_its_own_credentials() {
    let broker = Broker::start();
    let routes = "  - { path: /mqtt, name: mqtt, upstream: app, protocol: mqtt, \
        credential: { per_user: { file: map.yaml } } }";
    let map =
        "root: { username: \"r:oot\", password: x }\nann: { username: a, password: \"p:w ✓\" }\n";
    let gate = before(broker.address, routes, "")
        .file("map.yaml", map.replace("r:oot", "r"))
        .start();
    let token = |subject: &str| with_claim("sub", json!(subject));
    let _client = Client::connected(&gate, &Connect::with_token(V311, &token("ann")));
    assert_eq!(
        broker.connect(),
        Connect::new(V311).pair("a", "p:w ✓").bytes()
    );
    let mut stranger = Client::open(&gate, Connect::with_token(V311, &token("bob")).bytes());
    assert_eq!(stranger.read().unwrap(), [0x20, 2, 0, 5]);
    assert_eq!(broker.seen().len(), 1);
}

#[test]
fn a_client_id_must_be_as_the_route_says() {
    let broker = Broker::start();
    let rules = route("mqtt: { client_id: \"{sub}-*\", username_is_subject: true }");
    let gate = before(broker.address, &rules, "").start();
    let token = sign(&claims());
    for (id, is_allowed) in [
        ("root-1", true),
        ("root-", true),
        ("root", false),
        ("", false),
        ("xroot-1", false),
        ("ann-1", false),
    ] {
        for version in VERSIONS {
            let connect = Connect::new(version).client_id(id).pair("root", &token);
            let answer = Client::open(&gate, connect.bytes()).read().unwrap();
            let refused = if version == V5 { 0x85 } else { 2 };
            let code = if is_allowed { 0 } else { refused };
            assert_eq!(answer[3], code, "{id}, {version:?}");
        }
    }
    let star = with_claim("sub", json!("*"));
    let connect = Connect::new(V311).client_id("root-1").pair("*", &star);
    assert_eq!(Client::open(&gate, connect.bytes()).read().unwrap()[3], 2);
    let other = Connect::new(V311).client_id("root-1").pair("ann", &token);
    assert_eq!(Client::open(&gate, other.bytes()).read().unwrap()[3], 4);
    assert_eq!(broker.seen().len(), 6);
}

#[test]
fn a_subject_has_no_more_sessions_than_it_may_over_all_workers() {
    let broker = Broker::start();
    let limits = "limits: { mqtt: { sessions_per_subject: 2 } }";
    let gate = before(broker.address, &route(""), limits).start();
    let token = |subject: &str| with_claim("sub", json!(subject));
    let connect = |subject: &str| Connect::with_token(V5, &token(subject));
    let mut first = Client::connected(&gate, &connect("ann"));
    let _second = Client::connected(&gate, &connect("ann"));
    for _ in 0..8 {
        let mut third = Client::open(&gate, connect("ann").bytes());
        assert_eq!(third.read().unwrap()[3], 0x97);
    }
    let _other = Client::connected(&gate, &connect("bob"));
    first.send([0xe0, 0]);
    drop(first);
    gate.wait_for_metric("tollgate_tunnels_open{route=\"mqtt\"}", 2.0);
    let _again = Client::connected(&gate, &connect("ann"));
}

#[test]
fn connects_are_counted_and_sessions_are_logged() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let token = sign(&claims());
    let connect = Connect::with_token(V5, &token).client_id("line\nbreak \u{202e}");
    let mut client = Client::connected(&gate, &connect);
    client.assert_alive();
    gate.wait_for_metric("tollgate_tunnels_open{route=\"mqtt\"}", 1.0);
    client.send([0xe0, 0]);
    drop(client);
    let line = gate.exchange("/mqtt");
    for (field, value) in [
        ("mqtt.version", json!("5.0")),
        ("mqtt.client_id", json!("line\nbreak \u{202e}")),
        ("subject", json!("root")),
        ("upstream", json!("app")),
        ("http.route", json!("mqtt")),
        ("tunnel_end", json!("closed")),
        ("http.response.status_code", json!(101)),
        ("bytes_up", json!(4)),
        ("bytes_down", json!(7)),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    let refused = Connect::with_token(V31, "x");
    Client::open(&gate, refused.bytes()).read().unwrap();
    for sample in [
        "tollgate_mqtt_connects_total{reason=\"none\",result=\"ok\",route=\"mqtt\",version=\"5.0\"}",
        "tollgate_mqtt_connects_total{reason=\"malformed_token\",result=\"refused\",route=\"mqtt\",version=\"3.1\"}",
        "tollgate_authentication_total{location=\"connect\",reason=\"none\",result=\"ok\",route=\"mqtt\"}",
        "tollgate_authorization_total{reason=\"none\",result=\"ok\",route=\"mqtt\"}",
    ] {
        gate.wait_for_metric(sample, 1.0);
    }
    gate.wait_for_metric("tollgate_tunnels_open{route=\"mqtt\"}", 0.0);
}

#[test]
fn over_tls_alpn_and_sni_lead_to_the_route() {
    let broker = Broker::start();
    let (certificate, key) = self_signed(&["a.example", "b.example"]);
    let routes = route("host: a.example");
    let listener = "listeners: [ { address: \"127.0.0.1:0\", name: mqtts, protocol: mqtt, \
        path: /mqtt, tls: { certificate: a.crt, private_key: a.key } } ]";
    let gate = before(broker.address, &routes, "")
        .line("listeners:", listener)
        .line("login:", "")
        .file("a.crt", &certificate)
        .file("a.key", key)
        .start();
    let connect = Connect::with_token(V311, &sign(&claims())).bytes();
    for (host, alpn, code) in [
        ("a.example", &["mqtt"][..], 0),
        ("a.example", &[], 0),
        ("b.example", &["mqtt"], 5),
    ] {
        let versions = rustls::ALL_VERSIONS;
        let mut stream = connect_tls(gate.address(), host, &certificate, alpn, versions);
        stream.write_all(&connect).unwrap();
        let answer = read_packet(&mut stream).unwrap();
        assert_eq!(answer, [0x20, 2, 0, code], "{host}, {alpn:?}");
        let agreed = stream.conn.alpn_protocol();
        assert_eq!(agreed, alpn.first().map(|name| name.as_bytes()));
    }
    let versions = rustls::ALL_VERSIONS;
    let mut stream = connect_tls(gate.address(), "a.example", &certificate, &["h2"], versions);
    assert!(stream.write_all(&connect).is_err(), "h2 is agreed upon");
}

#[test]
fn a_broker_is_reached_over_tls_whose_certificate_is_judged() {
    let (certificate, key) = self_signed(&["localhost"]);
    let upstream = accepting_tls(&certificate, &key, |mut stream| {
        if read_packet(&mut stream).is_some() {
            stream.write_all(&[0x20, 2, 0, 0]).unwrap();
            read_rest(&mut stream);
        }
    });
    for (ca, code) in [(certificate, 0), (self_signed(&["localhost"]).0, 3)] {
        let gate = before(upstream, &route(""), "")
            .edit("mqtt://127.0.0.1", "mqtts://localhost")
            .edit("protocol: mqtt }", "protocol: mqtt, ca_file: ca.pem }")
            .file("ca.pem", ca)
            .start();
        let connect = Connect::with_token(V311, &sign(&claims()));
        let answer = Client::open(&gate, connect.bytes()).read().unwrap();
        assert_eq!(answer, [0x20, 2, 0, code]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn while_a_session_stands_its_token_is_in_no_memory() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "danger_core_dumps: true").start();
    let token = sign(&claims());
    let mut secrets = Secrets::default();
    secrets.add_token("the token", &token);
    let mut client = Client::connected(&gate, &Connect::with_token(V5, &token));
    wait_for("the end of the token", || {
        client.assert_alive();
        let found = secrets.found_in_memory(gate.pid());
        found.is_empty().then_some(())
    });
    client.assert_alive();
}

#[test]
fn check_tells_how_listeners_of_mqtt_are_reached() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "");
    let output = gate.run_to_end(&["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mqtt://127.0.0.1:0 called mqtt\n"), "{text}");
}

#[test]
fn an_external_issuers_token_waits_for_its_new_key_as_in_a_request() {
    let broker = Broker::start();
    let keys = ["first", "second"].map(|id| IssuerKey::new(id, "ES256"));
    let [first, second] = &keys;
    let issuer = Issuer::with(&[first]);
    let entry = issuer.entry(", subject_prefix: \"x:\", keys: { unknown_key_interval: 1ms }");
    let identity = format!("identity: [ {{ users_file: users.yaml }}, {entry} ]");
    let gate = before(broker.address, &route(""), "")
        .line("identity:", &identity)
        .start();
    let code = |key: &IssuerKey| {
        let connect = Connect::with_token(V311, &key.sign(&issuer.claims()));
        Client::open(&gate, connect.bytes()).read().unwrap()[3]
    };
    assert_eq!(code(first), 0);
    assert_eq!(code(second), 4);
    issuer.publish(&[second]);
    assert_eq!(code(second), 0);
    assert_eq!(code(first), 4);
}

#[test]
fn a_reload_leaves_sessions_alone_and_judges_those_that_begin() {
    let broker = Broker::start();
    let builder = before(broker.address, &route(""), "");
    let ruled = builder.config().replace(
        "protocol: mqtt, credential",
        "protocol: mqtt, mqtt: { client_id: \"{sub}\" }, credential",
    );
    let gate = builder.start();
    let connect = Connect::with_token(V311, &sign(&claims()));
    let mut client = Client::connected(&gate, &connect);
    gate.folder().write("tollgate.yaml", ruled);
    gate.signal("HUP");
    gate.wait_for_metric("tollgate_config_reloads_total{result=\"ok\"}", 1.0);
    client.assert_alive();
    wait_for("the new rules", || {
        let answer = Client::open(&gate, connect.bytes()).read().unwrap();
        (answer == [0x20, 2, 0, 2]).then_some(())
    });
    client.assert_alive();
    Client::connected(&gate, &connect.client_id("root")).assert_alive();
}
