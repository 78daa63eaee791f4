//! Connections to the gate that no test's patience bounds, and exchanges on them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::ground::Ground;
use crate::support::answer::{Got, read_answer};
use crate::support::client::connect_tls;

/// A connection, with or without TLS.
pub(crate) trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// The machine may be busy: what takes so long has really gone wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// A good client's connection in plaintext.
pub(crate) fn plain(ground: &Ground) -> Box<dyn Wire> {
    Box::new(from([127, 0, 0, 1], ground.plain()).unwrap())
}

/// A good client's connection over TLS.
pub(crate) fn tls(ground: &Ground) -> Box<dyn Wire> {
    let (address, versions) = (ground.tls(), rustls::ALL_VERSIONS);
    let stream = connect_tls(
        address,
        "gate.example",
        &ground.certificate,
        &["http/1.1"],
        versions,
    );
    set_patience(&stream.sock).unwrap();
    Box::new(stream)
}

/// A hostile client's connection: from a network of its own, so that what it wears out is its own.
pub(crate) fn hostile(ground: &Ground) -> TcpStream {
    from([127, 66, 0, 1], ground.plain()).unwrap()
}

/// One more connection of a flood, from another address still.
pub(crate) fn flooding(ground: &Ground) -> TcpStream {
    from([127, 66, 1, 1], ground.plain()).unwrap()
}

/// A connection from this address.
fn from(host: [u8; 4], address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((host, 0)).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    set_patience(&stream)?;
    Ok(stream)
}

fn set_patience(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)
}

/// Sends a request and reads its answer; a gate that has answered already may take no more of it.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &str) -> Got {
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.flush();
    read_answer(stream)
}

/// Whether it was refused with one of these, by the gate itself.
pub(crate) fn is_refused(got: &Got, statuses: &[u16]) -> bool {
    matches!(got, Got::Answer { status, own: None, is_whole: true, .. } if statuses.contains(status))
}

/// A whole request; `fields` are whole lines.
pub(crate) fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("content-length: {}\r\n", body.len()),
    };
    format!("{method} {target} HTTP/1.1\r\nhost: gate.example\r\n{fields}{length}\r\n{body}")
}

/// The field that carries a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}
