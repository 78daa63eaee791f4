//! Is a CONNECT of MQTT sent on as it came but for its credentials, is a packet's end found however
//! the bytes are cut, and does no topic pass that lies outside of the rules?
//!
//! The first byte says how the stream is cut; the stream is also taken for one packet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::fuzzing::{judge_topics, packet_ends, read_connect};

mod shared;

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, stream)) = bytes.split_first() else {
        return;
    };
    let expected = ends(stream);
    for pieces in shared::cuts(*seed, stream) {
        let found = packet_ends(pieces.iter().copied());
        assert_eq!(found, expected, "{stream:?}");
    }
    judge_connect(stream);
    for level in [3, 4, 5] {
        if judge_topics(level, &ALLOWED, stream) == Some(true) {
            judge_passed(level, stream);
        }
    }
});

const ALLOWED: [&str; 4] = ["a/b", "a/+/c", "b/#", "+/d"];

/// Where packets end, found the naive way, and whether something is no packet.
fn ends(stream: &[u8]) -> (Vec<usize>, bool) {
    let (mut ends, mut at) = (Vec::new(), 0);
    loop {
        let Some(length) = stream.get(at + 1..) else {
            return (ends, false);
        };
        let is_more = |byte: &&u8| **byte & 0x80 != 0;
        let more = length.iter().take(4).take_while(is_more).count();
        if more == 4 {
            return (ends, true);
        }
        let Some(last) = length.get(more) else {
            return (ends, false);
        };
        if *last == 0 && more > 0 {
            return (ends, true);
        }
        let value = |sum, byte: &u8| sum * 128 + usize::from(byte & 0x7f);
        let remaining = length[..=more].iter().rev().fold(0, value);
        at += 1 + more + 1 + remaining;
        if at > stream.len() {
            return (ends, false);
        }
        ends.push(at);
    }
}

fn judge_connect(packet: &[u8]) {
    let Some(read) = read_connect(packet, "gate", b"s3cret") else {
        return;
    };
    let again = read_connect(&read.with, "", b"").expect("what was written is read");
    assert_eq!(again.username.as_deref(), Some("gate"));
    assert_eq!(again.password.as_deref(), Some(&b"s3cret"[..]));
    assert_eq!(
        (&again.client_id, &again.will_topic),
        (&read.client_id, &read.will_topic)
    );
    assert_eq!(again.without, read.without, "the rest differs");
    // With its own credentials it is itself, byte for byte.
    let own = match (&read.username, &read.password) {
        (Some(username), Some(password)) => {
            read_connect(packet, username, password)
                .expect("itself")
                .with
        }
        (None, None) => read.without,
        _ => return,
    };
    assert_eq!(own, packet);
}

/// What passed lies within the rules, by a reading of its own.
fn judge_passed(level: u8, packet: &[u8]) {
    let at = 1
        + packet[1..]
            .iter()
            .position(|byte| byte & 0x80 == 0)
            .expect("a length")
        + 1;
    let body = &packet[at..];
    let field = |at: usize| {
        let length = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        let text = &body[at + 2..at + 2 + length];
        (str::from_utf8(text).expect("text"), at + 2 + length)
    };
    match packet[0] >> 4 {
        3 => {
            let (topic, _) = field(0);
            assert!(
                ALLOWED.iter().any(|filter| matches(filter, topic)),
                "{topic}"
            );
        }
        8 => {
            let mut at = 2;
            if level == 5 {
                // Properties of more than 127 bytes are left to the topics' own test.
                if body[at] & 0x80 != 0 {
                    return;
                }
                at += 1 + usize::from(body[at]);
            }
            while at < body.len() {
                let (filter, end) = field(at);
                at = end + 1;
                let filter = match filter.strip_prefix("$share/") {
                    Some(shared) => shared.split_once('/').expect("a group").1,
                    None => filter,
                };
                for topic in topics(filter) {
                    let is_allowed = ALLOWED.iter().any(|allowed| matches(allowed, &topic));
                    assert!(is_allowed, "{filter} takes {topic}");
                }
            }
        }
        _ => {}
    }
}

/// Some topics that a filter matches.
fn topics(filter: &str) -> Vec<String> {
    let mut topics = Vec::new();
    for level in ["", "x", "a", "b", "c", "d", "$"] {
        for rest in ["", "/", "/x", "/x/y", "/d", "/c"] {
            let levels = filter
                .split('/')
                .map(|held| if held == "+" { level } else { held });
            let topic = Vec::from_iter(levels).join("/");
            topics.push(match topic.strip_suffix("/#") {
                Some(start) => format!("{start}{rest}"),
                None if topic == "#" => format!("{level}{rest}"),
                None => topic,
            });
        }
    }
    topics.retain(|topic| !topic.is_empty() && matches(filter, topic));
    topics
}

/// Whether a topic matches a filter, as MQTT 5.0 section 4.7 tells it.
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (filter, topic) = (
        Vec::from_iter(filter.split('/')),
        Vec::from_iter(topic.split('/')),
    );
    level_matches(&filter, &topic)
}

fn level_matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => level_matches(filter, topic),
        ([held, filter @ ..], [level, topic @ ..]) => held == level && level_matches(filter, topic),
        _ => false,
    }
}
