//! MQTT as bytes: packets of every version, a client that reads whole packets, and a broker that
//! records what it gets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::client::connect;
use super::gate::{Builder, Gate};
use super::raw::accepting;
use super::wait_for;

/// A version, by its protocol name and level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) &'static str, pub(crate) u8);

pub(crate) const V31: Version = Version("MQIsdp", 3);
pub(crate) const V311: Version = Version("MQTT", 4);
pub(crate) const V5: Version = Version("MQTT", 5);
pub(crate) const VERSIONS: [Version; 3] = [V31, V311, V5];

/// Bytes with their length before them.
pub(crate) fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

/// A variable byte integer.
pub(crate) fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap();
        value /= 128;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

/// A packet of this first byte and body.
pub(crate) fn packet(first: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [&[first][..], &variable(body.len()), body].concat()
}

/// A CONNECT, part by part.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    /// Beyond those that the parts imply.
    pub(crate) flags: u8,
    pub(crate) keep_alive: u16,
    /// Of 5.0, without their length.
    pub(crate) properties: Vec<u8>,
    pub(crate) client_id: String,
    /// Properties (of 5.0, without their length), topic and message.
    pub(crate) will: Option<(Vec<u8>, String, Vec<u8>)>,
    pub(crate) username: Option<Vec<u8>>,
    pub(crate) password: Option<Vec<u8>>,
}

impl Connect {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            flags: 0x02,
            keep_alive: 60,
            properties: Vec::new(),
            client_id: "device-1".to_owned(),
            will: None,
            username: None,
            password: None,
        }
    }

    /// One that presents a token.
    pub(crate) fn with_token(version: Version, token: &str) -> Self {
        Self::new(version).pair("anybody", token)
    }

    pub(crate) fn pair(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.into());
        self.password = Some(password.into());
        self
    }

    pub(crate) fn client_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.client_id);
        self
    }

    pub(crate) fn will(mut self, topic: &str) -> Self {
        self.will = Some((Vec::new(), topic.to_owned(), b"gone".to_vec()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let flag = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
        let flags = self.flags
            | flag(self.username.is_some(), 0x80)
            | flag(self.password.is_some(), 0x40)
            | flag(self.will.is_some(), 0x04);
        let with_length = |properties: &[u8]| match self.version == V5 {
            true => [&variable(properties.len())[..], properties].concat(),
            false => Vec::new(),
        };
        let mut body = field(self.version.0);
        body.extend([self.version.1, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(with_length(&self.properties));
        body.extend(field(&self.client_id));
        if let Some((properties, topic, message)) = &self.will {
            body.extend(with_length(properties));
            body.extend(field(topic));
            body.extend(field(message));
        }
        for part in [&self.username, &self.password].into_iter().flatten() {
            body.extend(field(part));
        }
        packet(0x10, body)
    }
}

/// A PUBLISH of this quality and, for 5.0, these properties.
pub(crate) fn publish(
    version: Version,
    (quality, id): (u8, u16),
    topic: &str,
    properties: &[u8],
) -> Vec<u8> {
    let mut body = field(topic);
    if quality > 0 {
        body.extend(id.to_be_bytes());
    }
    if version == V5 {
        body.extend(variable(properties.len()));
        body.extend(properties);
    }
    body.extend(b"21.5");
    packet(0x30 | quality << 1, body)
}

/// A SUBSCRIBE to these filters.
pub(crate) fn subscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(field(filter));
        body.push(1);
    }
    packet(0x82, body)
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];

/// Reads one packet; nothing at the end.
pub(crate) fn read_packet(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut packet = vec![0];
    stream.read_exact(&mut packet).ok()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        packet.push(byte[0]);
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let start = packet.len();
    packet.resize(start + length, 0);
    stream.read_exact(&mut packet[start..]).ok()?;
    Some(packet)
}

/// A broker that answers as one would, and records every packet.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::answering(|connect| match is_v5(connect) {
            true => vec![0x20, 3, 0, 0, 0],
            false => vec![0x20, 2, 0, 0],
        })
    }

    /// With this answer to CONNECT.
    pub(crate) fn answering(connack: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let address = accepting(move |mut stream| serve(&mut stream, &record, &connack));
        Self { address, seen }
    }

    /// Every packet so far.
    pub(crate) fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }

    /// The last CONNECT.
    pub(crate) fn connect(&self) -> Vec<u8> {
        let seen = self.seen();
        let mut connects = seen.into_iter().rev();
        connects
            .find(|packet| packet[0] == 0x10)
            .expect("no CONNECT")
    }

    /// Waits until it got a packet like this.
    pub(crate) fn wait_for(&self, packet: &[u8]) {
        wait_for(&format!("{packet:?} at the broker"), || {
            self.seen().iter().any(|seen| seen == packet).then_some(())
        });
    }
}

fn is_v5(connect: &[u8]) -> bool {
    connect.windows(5).any(|window| window == b"MQTT\x05")
}

fn serve(stream: &mut TcpStream, record: &Mutex<Vec<Vec<u8>>>, connack: &dyn Fn(&[u8]) -> Vec<u8>) {
    let mut is_new = false;
    while let Some(packet) = read_packet(stream) {
        record.lock().unwrap().push(packet.clone());
        let body = &packet[1
            + packet[1..]
                .iter()
                .position(|byte| byte & 0x80 == 0)
                .unwrap()
            + 1..];
        let id_of_message = || {
            let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
            [body[2 + topic], body[3 + topic]]
        };
        let answer = match packet[0] >> 4 {
            1 => {
                is_new = is_v5(&packet);
                connack(&packet)
            }
            3 if packet[0] & 6 == 2 => [&[0x40, 2][..], &id_of_message()].concat(),
            3 if packet[0] & 6 == 4 => [&[0x50, 2][..], &id_of_message()].concat(),
            8 if is_new => vec![0x90, 4, body[0], body[1], 0, 1],
            8 => vec![0x90, 3, body[0], body[1], 1],
            12 => PINGRESP.to_vec(),
            _ => Vec::new(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The route on which sessions are tested; further settings of it.
pub(crate) fn route(extra: &str) -> String {
    format!(
        "  - {{ path: /mqtt, name: mqtt, upstream: app, protocol: mqtt, \
         credential: {{ basic: {{ username: gate, password_file: upstream-password }} }}, {extra} }}"
    )
}

/// A gate with a listener of HTTP and one of MQTT, before this broker.
pub(crate) fn before(broker: SocketAddr, route: &str, extra: &str) -> Builder {
    let listeners = "listeners: [ { address: \"127.0.0.1:0\" }, \
        { address: \"127.0.0.1:0\", name: mqtt, protocol: mqtt, path: /mqtt } ]";
    Builder::with_extra(broker, route, extra)
        .line("listeners:", listeners)
        .edit("[ \"http://", "[ \"mqtt://")
        .edit(
            "response_timeout: 5s",
            "response_timeout: 5s, protocol: mqtt",
        )
}

/// A client of the gate's plain listener.
#[derive(Debug)]
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    /// Sends these bytes.
    pub(crate) fn open(gate: &Gate, bytes: impl AsRef<[u8]>) -> Self {
        let mut client = Self(connect(gate.listeners[1]));
        client.send(bytes);
        client
    }

    /// Sends CONNECT, which is taken.
    pub(crate) fn connected(gate: &Gate, connect: &Connect) -> Self {
        let mut client = Self::open(gate, connect.bytes());
        let answer = client.read().expect("a CONNACK");
        assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:?}");
        client
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// The next packet; nothing at the end.
    pub(crate) fn read(&mut self) -> Option<Vec<u8>> {
        read_packet(&mut self.0)
    }

    /// Whether the gate has closed, and in good order.
    pub(crate) fn assert_end(&mut self) {
        let mut rest = Vec::new();
        let read = self.0.read_to_end(&mut rest);
        assert!(read.is_ok() && rest.is_empty(), "{read:?}: {rest:?}");
    }

    /// A ping goes through and back.
    pub(crate) fn assert_alive(&mut self) {
        self.send(PINGREQ);
        assert_eq!(self.read().as_deref(), Some(&PINGRESP[..]));
    }
}
