//! What becomes of clients that do not speak MQTT as they should?

use std::io::Write as _;
use std::time::Duration;

use crate::support::gate::{claims, sign};
use crate::support::mqtt::{
    Broker, Client, Connect, V5, V31, V311, before, field, packet, publish, route,
};
use crate::support::threat;

/// A CONNECT with other flags, and otherwise the same bytes.
fn with_flags(connect: &Connect, change: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut bytes = connect.bytes();
    let level = [connect.version.0.as_bytes(), &[connect.version.1]].concat();
    let mut windows = bytes.windows(level.len());
    let at = windows.position(|window| window == level).unwrap() + level.len();
    bytes[at] = change(bytes[at]);
    bytes
}

fn with_properties(properties: &[u8]) -> Vec<u8> {
    let mut connect = Connect::with_token(V5, &sign(&claims()));
    connect.properties = properties.to_vec();
    connect.bytes()
}

/// A first packet that is no good CONNECT: what it is, its bytes, and the answer's code if there is
/// one.
type Bad = (&'static str, Vec<u8>, Option<u8>);

/// No CONNECT, or none of a version that there is.
fn strangers() -> Vec<Bad> {
    let new = Connect::with_token(V5, &sign(&claims()));
    let level = |name, level| {
        let mut body = field(name);
        body.extend([level, 2, 0, 60, 0, 0]);
        packet(0x10, body)
    };
    vec![
        ("a publish", publish(V311, (0, 0), "a", b""), None),
        ("a ping", vec![0xc0, 0], None),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), None),
        (
            "reserved flags",
            [&[0x11], &new.bytes()[1..]].concat(),
            None,
        ),
        (
            "an endless length",
            vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x7f],
            None,
        ),
        (
            "a long spelling of a length",
            [&[0x10, 0x80, 0x00][..], &[0; 9]].concat(),
            None,
        ),
        ("another name", level(&b"MQTX"[..], 4), None),
        ("a longer name", level(&b"MQTTX"[..], 4), None),
        (
            "a name that is no text",
            level(&b"\xff\xff\xff\xff"[..], 4),
            None,
        ),
        ("level 6", level(b"MQTT", 6), Some(0x84)),
        ("level 255", level(b"MQTT", 255), Some(0x84)),
        ("level 3 of MQTT", level(b"MQTT", 3), Some(1)),
        ("level 4 of MQIsdp", level(b"MQIsdp", 4), Some(1)),
        // Mosquitto's bridges try again without this bit once they are told so.
        ("a bridge's level", level(b"MQTT", 0x84), Some(1)),
        ("a bridge's level, 3.1", level(b"MQIsdp", 0x83), Some(1)),
    ]
}

/// CONNECTs with flags, lengths or texts that cannot be.
fn broken() -> Vec<Bad> {
    let token = sign(&claims());
    let (new, old) = (
        Connect::with_token(V5, &token),
        Connect::with_token(V311, &token),
    );
    let trailing = |connect: &Connect| {
        let bytes = connect.bytes();
        let body = &bytes[bytes
            .iter()
            .skip(1)
            .position(|byte| byte & 0x80 == 0)
            .unwrap()
            + 2..];
        packet(0x10, [body, b"x"].concat())
    };
    let id = |connect: &Connect, id: &str| connect.clone().client_id(id).bytes();
    let not_text = |mut connect: Vec<u8>| {
        let at = connect.windows(8).position(|window| window == b"device-1");
        connect[at.unwrap()] = 0xff;
        connect
    };
    let will = |topic: &str| new.clone().will(topic).bytes();
    let mut lone = old.clone();
    lone.username = None;
    vec![
        ("trailing bytes", trailing(&new), Some(0x81)),
        ("trailing bytes, old", trailing(&old), None),
        (
            "a reserved flag",
            with_flags(&new, |flags| flags | 1),
            Some(0x81),
        ),
        (
            "a will's quality without a will",
            with_flags(&new, |flags| flags | 8),
            Some(0x81),
        ),
        (
            "a retained will without a will",
            with_flags(&new, |flags| flags | 0x20),
            Some(0x81),
        ),
        (
            "quality 3",
            with_flags(&new.clone().will("a"), |flags| flags | 0x18),
            Some(0x81),
        ),
        (
            "a will that is not there",
            with_flags(&new, |flags| flags | 4),
            Some(0x81),
        ),
        ("a password without a name, old", lone.bytes(), None),
        (
            "a client id that is no text",
            not_text(new.bytes()),
            Some(0x81),
        ),
        ("a client id with U+0000", id(&new, "a\0"), Some(0x81)),
        ("the same, old", id(&old, "a\0"), None),
        (
            "a user name with U+0000",
            new.clone().pair("a\0", &token).bytes(),
            Some(0x81),
        ),
        ("a will with a wildcard", will("a/+"), Some(0x81)),
        ("a will for all", will("#"), Some(0x81)),
        ("a will for nothing", will(""), Some(0x81)),
    ]
}

/// CONNECTs of 5.0 with properties that cannot be.
fn with_odd_properties() -> Vec<Bad> {
    let all: [(_, &[u8]); 8] = [
        ("one property twice", b"\x11\0\0\0\x01\x11\0\0\0\x01"),
        ("a property of PUBLISH", b"\x23\0\x01"),
        ("no property", b"\x7f\0"),
        ("a property cut short", b"\x11\0\0"),
        ("a receive maximum of 0", b"\x21\0\0"),
        ("packets of 0 bytes", b"\x27\0\0\0\0"),
        ("another way to prove who it is", b"\x15\0\x01x"),
        ("proof without its way", b"\x16\0\x01x"),
    ];
    let packet = |(row, properties): &(_, &[u8])| (*row, with_properties(properties), Some(0x81));
    all.iter().map(packet).collect()
}

#[test]
fn what_is_no_connect_is_answered_as_its_version_has_it_and_reaches_no_broker() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let packets = [strangers(), broken(), with_odd_properties()].concat();
    for (row, bytes, code) in &packets {
        let mut client = Client::open(&gate, bytes);
        let answer = client.read();
        let told = answer.as_ref().map(|answer| (answer[0], answer[3]));
        assert_eq!(told, code.map(|code| (0x20, code)), "{row}: {answer:?}");
        client.assert_end();
    }
    assert_eq!(broker.seen(), Vec::<Vec<u8>>::new());
    let cut = "tollgate_connections_cut_total{cause=\"malformed\",listener=\"mqtt\"}";
    gate.wait_for_metric(cut, packets.len() as f64);
    threat::count("first packets of MQTT", packets.len());
}

#[test]
fn a_connect_that_stops_anywhere_is_no_connect() {
    let broker = Broker::start();
    let gate = before(broker.address, &route(""), "").start();
    let whole = Connect::with_token(V5, &sign(&claims())).will("a").bytes();
    for length in (0..whole.len()).step_by(7) {
        let mut client = Client::open(&gate, &whole[..length]);
        client.0.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(), None, "{length}");
    }
    assert_eq!(broker.seen(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_connect_that_comes_too_slowly_or_is_too_large_is_not_waited_for() {
    let broker = Broker::start();
    let limits = "limits: { mqtt: { connect_timeout: 300ms, connect_size: 1KiB } }";
    let gate = before(broker.address, &route(""), limits).start();
    let whole = Connect::with_token(V311, &sign(&claims())).bytes();
    for start in [&[][..], &whole[..1], &whole[..20]] {
        Client::open(&gate, start).assert_end();
    }
    let cut = |cause: &str| {
        format!("tollgate_connections_cut_total{{cause=\"{cause}\",listener=\"mqtt\"}}")
    };
    gate.wait_for_metric(&cut("header_timeout"), 3.0);
    // Of one that is too large the beginning is enough.
    for (version, code) in [(V311, None), (V5, Some(0x95))] {
        let large = Connect::with_token(version, &"x".repeat(2000)).bytes();
        let mut client = Client::open(&gate, &large[..100]);
        assert_eq!(client.read().map(|answer| answer[3]), code);
        client.assert_end();
    }
    gate.wait_for_metric(&cut("headers_too_large"), 2.0);
    assert_eq!(broker.seen(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_connect_that_drips_is_given_no_more_time() {
    let broker = Broker::start();
    let limits = "limits: { mqtt: { connect_timeout: 300ms } }";
    let gate = before(broker.address, &route(""), limits).start();
    let whole = Connect::with_token(V5, &sign(&claims())).bytes();
    let mut client = Client::open(&gate, []);
    let sent = whole.iter().take_while(|byte| {
        std::thread::park_timeout(Duration::from_millis(20));
        client.0.write_all(&[**byte]).is_ok()
    });
    assert!(sent.count() < whole.len());
    assert_eq!(broker.seen(), Vec::<Vec<u8>>::new());
}

#[test]
fn what_may_not_follow_connect_ends_the_session_and_goes_no_further() {
    let broker = Broker::start();
    let rules = [
        route(""),
        route("mqtt: { publish: [ \"#\" ], subscribe: [ \"#\" ] }"),
    ];
    for rules in rules {
        let limits = "limits: { mqtt: { packet_size: 1KiB } }";
        let gate = before(broker.address, &rules, limits).start();
        let connect = Connect::with_token(V5, &sign(&claims()));
        let own = Connect::new(V5).pair("admin", "admin").bytes();
        for (row, bytes, code, end) in [
            ("CONNECT again", own, 0x82, "protocol_error"),
            ("AUTH", vec![0xf0, 0], 0x82, "protocol_error"),
            ("type 0", vec![0, 0], 0x82, "protocol_error"),
            ("CONNACK", vec![0x20, 3, 0, 0, 0], 0x82, "protocol_error"),
            (
                "an endless length",
                vec![0x30, 0xff, 0xff, 0xff, 0xff],
                0x82,
                "protocol_error",
            ),
            (
                "a large packet",
                packet(0x30, [0; 1025]),
                0x95,
                "packet_too_large",
            ),
        ] {
            let mut client = Client::connected(&gate, &connect.clone().client_id(row));
            client.assert_alive();
            let before = broker.seen().len();
            client.send(&bytes);
            let goodbye = client.read().expect(row);
            assert_eq!((goodbye[0], goodbye[2]), (0xe0, code), "{row}");
            client.assert_end();
            drop(client);
            gate.wait_for_log(row, |line| {
                line["mqtt.client_id"] == row && line["tunnel_end"] == end
            });
            assert_eq!(broker.seen().len(), before, "{row} went on");
        }
        let mut old = Client::connected(&gate, &Connect::with_token(V31, &sign(&claims())));
        old.send(Connect::new(V31).bytes());
        old.assert_end();
    }
}
