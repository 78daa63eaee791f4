//! May a session publish and subscribe just where its route says, wildcards and all?

use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::mqtt::{
    Broker, Client, Connect, V5, V31, V311, VERSIONS, before, field, packet, publish, route,
    subscribe,
};
use crate::support::tokens::with_claims;
use crate::support::wait_for;

const RULES: &str = "mqtt: { danger_any_client_id: true, publish: [ \"devices/{sub}/#\", \"plant/{claim:line}/+/state\" ], \
    subscribe: [ \"devices/{sub}/#\", \"news/+\" ] }";

fn start() -> (Broker, Gate) {
    let broker = Broker::start();
    let gate = before(broker.address, &route(RULES), "").start();
    (broker, gate)
}

fn token(subject: &str, line: &Value) -> String {
    with_claims(|claims| {
        claims["sub"] = json!(subject);
        claims["line"] = line.clone();
    })
}

fn ann() -> String {
    token("ann", &json!(["north", "south"]))
}

#[test]
fn messages_go_where_they_may_and_nowhere_else() {
    let (broker, gate) = start();
    for (topic, is_allowed) in [
        ("devices/ann", true),
        ("devices/ann/1/temperature", true),
        ("plant/north/a/state", true),
        ("plant/south/a/state", true),
        ("plant/west/a/state", false),
        ("plant/north/a/b/state", false),
        ("devices/bob/1", false),
        ("devices", false),
        ("devices/ann2", false),
        ("/devices/ann", false),
        ("Devices/ann", false),
        ("$share/g/devices/ann", false),
        ("$SYS/broker", false),
    ] {
        let mut client = Client::connected(&gate, &Connect::with_token(V5, &ann()));
        for quality in [1, 2] {
            let message = publish(V5, (quality, 7), topic, b"");
            client.send(&message);
            let first = if quality == 1 { 0x40 } else { 0x50 };
            let expected = match is_allowed {
                true => vec![first, 2, 0, 7],
                false => vec![first, 3, 0, 7, 0x87],
            };
            assert_eq!(client.read().unwrap(), expected, "{topic}");
            let was_seen = broker.seen().contains(&message);
            assert_eq!(was_seen, is_allowed, "{topic}");
        }
        client.assert_alive();
        // Of this quality nobody is told anything but the end.
        let message = publish(V5, (0, 0), topic, b"");
        client.send(&message);
        if is_allowed {
            broker.wait_for(&message);
        } else {
            let goodbye = client.read().unwrap();
            assert_eq!((goodbye[0], goodbye[2]), (0xe0, 0x87), "{topic}");
            client.assert_end();
        }
    }
    let denied = "tollgate_mqtt_denied_total{action=\"publish\",route=\"mqtt\"}";
    gate.wait_for_metric(denied, 27.0);
}

#[test]
fn before_5_0_a_message_that_may_not_be_ends_the_session() {
    let (broker, gate) = start();
    for version in [V31, V311] {
        for quality in [0, 1, 2] {
            let mut client = Client::connected(&gate, &Connect::with_token(version, &ann()));
            let good = publish(version, (0, 0), "devices/ann/x", b"");
            let bad = publish(version, (quality, 7), "devices/bob/x", b"");
            client.send([&good[..], &bad].concat());
            client.assert_end();
            broker.wait_for(&good);
            assert!(!broker.seen().contains(&bad), "{version:?}");
        }
    }
    assert_eq!(gate.exchange("/mqtt")["tunnel_end"], "topic_not_allowed");
}

#[test]
fn subscriptions_lie_within_the_rules_as_a_whole() {
    let (broker, gate) = start();
    for (filters, is_allowed) in [
        (&["devices/ann/#"][..], true),
        (&["devices/ann/+/state"], true),
        (&["news/today", "devices/ann"], true),
        (&["news/+"], true),
        (&["$share/group/devices/ann/+"], true),
        (&["devices/+/state"], false),
        (&["devices/#"], false),
        (&["#"], false),
        (&["+/ann/#"], false),
        (&["news/#"], false),
        (&["news"], false),
        (&["$share/group/#"], false),
        (&["$share/group/devices/bob"], false),
        (&["$SYS/#"], false),
        (&["devices/ann/#", "devices/bob/#"], false),
    ] {
        for version in VERSIONS {
            let mut client = Client::connected(&gate, &Connect::with_token(version, &ann()));
            let asked = subscribe(version, 9, filters);
            client.send(&asked);
            let count = filters.len();
            let answer = client.read();
            let expected = match (version, is_allowed) {
                (V31, false) => None,
                (V5, false) => Some(packet(0x90, [&[0, 9, 0][..], &vec![0x87; count]].concat())),
                (_, false) => Some(packet(0x90, [&[0, 9][..], &vec![0x80; count]].concat())),
                (V5, true) => Some(vec![0x90, 4, 0, 9, 0, 1]),
                (_, true) => Some(vec![0x90, 3, 0, 9, 1]),
            };
            assert_eq!(answer, expected, "{filters:?}, {version:?}");
            assert_eq!(broker.seen().contains(&asked), is_allowed, "{filters:?}");
            if is_allowed || version != V31 {
                client.assert_alive();
            }
        }
    }
}

#[test]
fn a_claim_never_widens_a_rule() {
    let (broker, gate) = start();
    let lines = json!(["+", "#", "a/b", "north/#", "", "*"]);
    for subject in ["+", "#", "ann/#", "a/b", "*", ">", "x\u{0}", "+/x"] {
        let connect = Connect::with_token(V5, &token(subject, &lines));
        let mut client = Client::connected(&gate, &connect);
        for topic in [
            "devices/ann/x",
            "devices/a/b",
            "plant/a/b/state",
            "plant/a/b/c/state",
        ] {
            client.send(publish(V5, (1, 7), topic, b""));
            let answer = client.read().unwrap();
            assert_eq!(answer, [0x40, 3, 0, 7, 0x87], "{subject}: {topic}");
        }
        for filter in ["devices/+/x", "devices/#", "devices/*", "devices/a/b"] {
            client.send(subscribe(V5, 9, &[filter]));
            let answer = client.read().unwrap();
            assert_eq!(answer, [0x90, 4, 0, 9, 0, 0x87], "{subject}: {filter}");
        }
    }
    let seen = broker.seen();
    assert!(seen.iter().all(|packet| packet[0] == 0x10), "{seen:?}");
}

#[test]
fn a_claim_opens_nothing_that_is_the_brokers_own() {
    let broker = Broker::start();
    let rules = "mqtt: { danger_any_client_id: true, publish: [ \"{sub}/#\" ], \
        subscribe: [ \"{sub}/#\" ] }";
    let gate = before(broker.address, &route(rules), "").start();
    // `$queue/` and `$delayed/1/` stand before any other topic with EMQX.
    for subject in ["$SYS", "$queue", "$delayed", "$exclusive"] {
        let connect = Connect::with_token(V5, &token(subject, &json!([])));
        let mut client = Client::connected(&gate, &connect);
        let topic = format!("{subject}/1/devices/ann");
        client.send(publish(V5, (1, 7), &topic, b""));
        assert_eq!(client.read().unwrap(), [0x40, 3, 0, 7, 0x87], "{topic}");
        for filter in [topic, format!("{subject}/#")] {
            client.send(subscribe(V5, 9, &[&filter]));
            let answer = client.read().unwrap();
            assert_eq!(answer, [0x90, 4, 0, 9, 0, 0x87], "{filter}");
        }
    }
    let seen = broker.seen();
    assert!(seen.iter().all(|packet| packet[0] == 0x10), "{seen:?}");
}

#[test]
fn a_topic_alias_stands_for_what_was_allowed_alone() {
    let (broker, gate) = start();
    let mut client = Client::connected(&gate, &Connect::with_token(V5, &ann()));
    let alias = |number: u8| [0x23, 0, number];
    let send = |client: &mut Client, topic: &str, number: u8| {
        client.send(publish(V5, (1, 7), topic, &alias(number)));
        client.read().unwrap()
    };
    let (good, bad) = (vec![0x40, 2, 0, 7], vec![0x40, 3, 0, 7, 0x87]);
    assert_eq!(send(&mut client, "", 1), bad, "never told");
    assert_eq!(send(&mut client, "devices/bob", 1), bad);
    assert_eq!(send(&mut client, "", 1), bad, "told, and not allowed");
    assert_eq!(send(&mut client, "devices/ann/x", 1), good);
    assert_eq!(send(&mut client, "", 1), good);
    assert_eq!(send(&mut client, "", 2), bad);
    assert_eq!(send(&mut client, "devices/bob", 1), bad);
    assert_eq!(
        send(&mut client, "", 1),
        bad,
        "the client means another topic by it now"
    );
    let messages = broker
        .seen()
        .into_iter()
        .filter(|packet| packet[0] >> 4 == 3);
    assert_eq!(messages.count(), 2);
    client.send(publish(V5, (1, 7), "devices/ann/x", &alias(0)));
    let goodbye = client.read().unwrap();
    assert_eq!((goodbye[0], goodbye[2]), (0xe0, 0x82));
}

#[test]
fn a_will_is_published_where_its_client_may() {
    let (broker, gate) = start();
    for version in VERSIONS {
        let connect = Connect::with_token(version, &ann());
        let will = |topic: &str| {
            let connect = connect.clone().will(topic);
            let mut client = Client::open(&gate, connect.bytes());
            client.read().unwrap()[3]
        };
        assert_eq!(will("devices/ann/gone"), 0, "{version:?}");
        let refused = if version == V5 { 0x87 } else { 5 };
        assert_eq!(will("devices/bob/gone"), refused, "{version:?}");
    }
    assert_eq!(broker.seen().len(), 3);
}

#[test]
fn answers_of_the_gates_own_are_put_in_between_packets() {
    let (_broker, gate) = start();
    let mut client = Client::connected(&gate, &Connect::with_token(V5, &ann()));
    let mut all = Vec::new();
    for round in 0..200 {
        let topic = if round % 2 == 0 {
            "devices/ann/x"
        } else {
            "devices/bob/x"
        };
        all.extend(publish(V5, (1, round + 1), topic, b""));
    }
    client.send(&all);
    let mut answers: Vec<_> = (0..200).map(|_| client.read().unwrap()).collect();
    answers.sort_by_key(|answer| u16::from_be_bytes([answer[2], answer[3]]));
    for (round, answer) in (0..200).zip(answers) {
        let [high, low] = u16::to_be_bytes(round + 1);
        let expected = match round % 2 {
            0 => vec![0x40, 2, high, low],
            _ => vec![0x40, 3, high, low, 0x87],
        };
        assert_eq!(answer, expected);
    }
}

#[test]
fn with_an_empty_list_nothing_may_be() {
    let broker = Broker::start();
    let rules = "mqtt: { publish: [], subscribe: [ \"#\" ] }";
    let gate = before(broker.address, &route(rules), "").start();
    let mut client = Client::connected(&gate, &Connect::with_token(V5, &ann()));
    client.send(publish(V5, (1, 7), "a", b""));
    assert_eq!(client.read().unwrap(), [0x40, 3, 0, 7, 0x87]);
    client.send(subscribe(V5, 9, &["#"]));
    assert_eq!(client.read().unwrap(), [0x90, 4, 0, 9, 0, 1]);
}

#[test]
fn before_a_broker_that_reads_a_dot_as_a_slash_it_is_one() {
    let broker = Broker::start();
    let rules = "mqtt: { amqp_topics: true, client_id: \"{sub}*\", \
        publish: [ \"devices/{sub}/#\", \"plant/+\" ], \
        subscribe: [ \"devices/{sub}/#\", \"news/+\" ] }";
    let gate = before(broker.address, &route(rules), "").start();
    let connected = |subject: &str| {
        let connect = Connect::with_token(V5, &token(subject, &json!([])));
        Client::connected(&gate, &connect.client_id(subject))
    };
    let mut ann = connected("ann");
    for (topic, code) in [
        ("devices/ann/x.y", None),
        ("devices.ann.x", None),
        ("plant/a", None),
        ("plant/a.b", Some(0x87)),
        ("devices.bob/x", Some(0x87)),
    ] {
        ann.send(publish(V5, (1, 7), topic, b""));
        let answer = ann.read().unwrap();
        assert_eq!(answer.get(4), code.as_ref(), "{topic}: {answer:?}");
    }
    for (filter, code) in [
        ("news/a", 1),
        ("news/*", 1),
        ("news/a.b", 0x87),
        ("news/*.*", 0x87),
        ("devices/*/x", 0x87),
        ("devices.ann.#", 0x82),
        ("$share/g.h/news/a", 1),
    ] {
        ann.send(subscribe(V5, 9, &[filter]));
        let answer = ann.read().unwrap();
        let told = if answer[0] == 0xe0 {
            answer[2]
        } else {
            answer[5]
        };
        assert_eq!(told, code, "{filter}: {answer:?}");
        if answer[0] == 0xe0 {
            ann = connected("ann");
        }
    }
    // `ann.b` would have what is below `devices/ann/b`.
    let mut other = connected("ann.b");
    other.send(publish(V5, (1, 7), "devices/ann.b/x", b""));
    assert_eq!(other.read().unwrap(), [0x40, 3, 0, 7, 0x87]);
}

#[test]
fn wildcards_at_the_beginning_leave_out_what_is_the_brokers_own() {
    let broker = Broker::start();
    for wide in ["#", "+/#", "+/broker/+"] {
        let rules = format!("mqtt: {{ publish: [ \"{wide}\" ], subscribe: [ \"{wide}\" ] }}");
        let gate = before(broker.address, &route(&rules), "").start();
        let mut client = Client::connected(&gate, &Connect::with_token(V5, &ann()));
        for filter in ["$SYS/broker/x", "$share/g/$SYS/broker/x"] {
            client.send(subscribe(V5, 9, &[filter]));
            let answer = client.read().unwrap();
            assert_eq!(answer, [0x90, 4, 0, 9, 0, 0x87], "{filter} within {wide}");
        }
        client.send(publish(V5, (1, 7), "$SYS/broker/x", b""));
        assert_eq!(client.read().unwrap(), [0x40, 3, 0, 7, 0x87], "{wide}");
        client.send(subscribe(V5, 9, &["a/broker/$x"]));
        assert_eq!(client.read().unwrap(), [0x90, 4, 0, 9, 0, 1], "{wide}");
    }
}

#[test]
fn no_more_is_answered_at_once_than_may_wait_for_a_client() {
    let (broker, gate) = start();
    let mut client = Client::connected(&gate, &Connect::with_token(V5, &ann()));
    let few = subscribe(V5, 9, &vec!["a"; 60_000]);
    client.send(&few);
    assert_eq!(client.read().unwrap().len(), 4 + 3 + 60_000);
    client.send(subscribe(V5, 9, &vec!["a"; 70_000]));
    client.assert_end();
    assert_eq!(broker.seen().len(), 1);
}

#[test]
fn a_large_packet_takes_no_memory_once_it_is_gone() {
    let (_broker, gate) = start();
    let memory = || gate.metric("tollgate_memory_bytes");
    let before = memory();
    let payload = vec![b'x'; 1_000_000];
    for (topic, code) in [("devices/ann/x", None), ("devices/bob/x", Some(0x87))] {
        let mut large = field(topic);
        large.extend([0, 7, 0]);
        large.extend(&payload);
        let large = packet(0x32, large);
        let mut clients: Vec<_> = (0..32)
            .map(|_| Client::connected(&gate, &Connect::with_token(V5, &ann())))
            .collect();
        for client in &mut clients {
            client.send(&large);
            let answer = client.read().unwrap();
            assert_eq!(answer.get(4), code.as_ref(), "{answer:?}");
        }
        wait_for("the memory of packets that are gone", || {
            (memory() < before + 16.0 * 1024.0 * 1024.0).then_some(())
        });
        clients.iter_mut().for_each(Client::assert_alive);
    }
}
