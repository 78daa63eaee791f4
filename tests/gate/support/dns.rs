//! A name server that tells what the test says (RFC 1035 section 4).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// What is told of every name: its addresses, and for how many seconds they hold. Nothing: the
/// server keeps silent.
type Zone = Option<(Vec<Ipv4Addr>, u32)>;

/// A name server on a port of its own.
#[derive(Debug)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<usize>>,
}

impl Dns {
    /// Tells these addresses of every name.
    pub(crate) fn start(addresses: &[Ipv4Addr], ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Some((addresses.to_vec(), ttl))));
        let asked = Arc::new(Mutex::new(0));
        let (told, count) = (Arc::clone(&zone), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                *count.lock().unwrap() += 1;
                let zone = told.lock().unwrap().clone();
                if let Some(answer) = answer(&buffer[..length], zone) {
                    socket.send_to(&answer, peer).unwrap();
                }
            }
        });
        Self {
            address,
            zone,
            asked,
        }
    }

    /// Tells this from now on.
    pub(crate) fn tell(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }

    /// How many questions came.
    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

fn answer(question: &[u8], zone: Zone) -> Option<Vec<u8>> {
    let (addresses, ttl) = zone?;
    // The name ends with an empty label; type and class follow.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
    let is_a = question[end - 4..end - 2] == [0, 1];
    let addresses = if is_a { addresses } else { Vec::new() };
    let mut answer = question[..2].to_vec();
    // A response, authoritative, recursion desired and available; "no such name" if there is none.
    let code = if is_a && addresses.is_empty() { 3 } else { 0 };
    answer.extend([0x85, 0x80 | code, 0, 1]);
    answer.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    answer.extend([0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    for address in addresses {
        // The name of the question, type A, class IN.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

/// Two listeners on 127.0.0.1 and 127.0.0.2 with the same port.
pub(crate) fn twin_listeners() -> [std::net::TcpListener; 2] {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = std::net::TcpListener::bind(("127.0.0.2", port)) {
            return [first, second];
        }
    }
    panic!("no port is free on both addresses");
}
