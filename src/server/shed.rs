//! Who is not let in any more? Whoever comes beyond the bounds, and is told so cheaply.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Why a connection was refused or cut off: a closed set, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All of `limits.connections` are open.
    Connections,
    /// The address has all of `limits.connections_per_address`.
    ConnectionsPerAddress,
    /// All of `limits.memory` is taken.
    Memory,
    /// What came cannot be read, or not in one way only.
    Malformed,
    /// More than `limits.header_size` or `limits.header_count`.
    HeadersTooLarge,
    /// A head took longer than `limits.header_timeout`.
    HeaderTimeout,
    /// Nothing was taken for `limits.send_timeout`.
    SendTimeout,
    /// Less was taken than `limits.min_download_rate`.
    DownloadTooSlow,
    /// The client was still sending after `limits.linger_time`.
    LingerTime,
    /// More than `limits.http2_streams`: that stream alone is refused.
    Http2Streams,
    /// More of something than h2 itself puts up with.
    Http2Flood,
    /// More than `limits.http2_resets`.
    Http2Resets,
    /// More than `limits.http2_control_frames`.
    Http2ControlFrames,
}

impl Cut {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::Memory => "memory",
            Self::Malformed => "malformed",
            Self::HeadersTooLarge => "headers_too_large",
            Self::HeaderTimeout => "header_timeout",
            Self::SendTimeout => "send_timeout",
            Self::DownloadTooSlow => "download_too_slow",
            Self::LingerTime => "linger_time",
            Self::Http2Streams => "http2_streams",
            Self::Http2Flood => "http2_flood",
            Self::Http2Resets => "http2_resets",
            Self::Http2ControlFrames => "http2_control_frames",
        }
    }

    /// Whether it is more than a connection that nobody uses any more.
    pub(super) const fn is_notable(self) -> bool {
        !matches!(self, Self::HeaderTimeout)
    }

    /// The whole answer over plain HTTP.
    const fn answer(self) -> &'static [u8] {
        match self {
            Self::ConnectionsPerAddress => {
                b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            }
            _ => {
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            }
        }
    }
}

/// Who is let in: one worker's share of all connections, and each address's over all workers.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(super) permits: Arc<Semaphore>,
    pub(super) addresses: Arc<Addresses>,
    farewells: Arc<Semaphore>,
}

/// What an open connection holds.
#[derive(Debug)]
pub(crate) struct Held {
    _permit: OwnedSemaphorePermit,
    _place: Option<Place>,
}

impl Admission {
    pub(crate) fn new(connections: usize, addresses: Arc<Addresses>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections)),
            addresses,
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
        }
    }

    /// A place for a connection from this address; without `most` it may have any number.
    pub(crate) fn admit(&self, address: IpAddr, most: Option<usize>) -> Result<Held, Cut> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| Cut::Connections)?;
        let place = match most {
            None => None,
            Some(most) => {
                let place = self.addresses.take(address, most);
                Some(place.ok_or(Cut::ConnectionsPerAddress)?)
            }
        };
        Ok(Held {
            _permit: permit,
            _place: place,
        })
    }

    /// Says over plain HTTP why nothing is served; a client beyond the first [`FAREWELLS`] is
    /// just left.
    pub(crate) async fn say_farewell(self, mut stream: TcpStream, cut: Cut) {
        let Ok(_permit) = self.farewells.try_acquire() else {
            return;
        };
        let saying = async {
            stream.write_all(cut.answer()).await?;
            stream.shutdown().await?;
            // What is left unread would reset the connection, and the answer with it.
            let mut unread = [0; 8192];
            while stream.read(&mut unread).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        let _ = timeout(FAREWELL, saying).await;
    }
}

const FAREWELLS: usize = 64;
const FAREWELL: Duration = Duration::from_secs(1);

/// How many connections each address has. Holds no more entries than there are connections.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Place> {
        let address = network(address);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place {
            addresses: Arc::clone(self),
            address,
        })
    }
}

/// One of an address's connections.
#[derive(Debug)]
struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.addresses.0.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Who has one address of IPv6 has as a rule all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Addresses, Admission, Cut};

    #[test]
    fn an_address_counts_with_its_network_and_only_while_it_is_open() {
        let addresses = Arc::new(Addresses::default());
        let admission = Admission::new(4, Arc::clone(&addresses));
        let ask = |address: &str| admission.admit(address.parse().unwrap(), Some(2));
        let one = ask("2001:db8::1").unwrap();
        let two = ask("2001:db8::2").unwrap();
        assert_eq!(ask("2001:db8::3").err(), Some(Cut::ConnectionsPerAddress));
        let three = ask("2001:db8:0:1::1").unwrap();
        let four = ask("192.0.2.1").unwrap();
        assert_eq!(ask("198.51.100.1").err(), Some(Cut::Connections));
        drop((one, two));
        let more = [
            ask("2001:db8::3").unwrap(),
            ask("::ffff:192.0.2.1").unwrap(),
        ];
        drop((three, four, more));
        assert!(addresses.0.lock().unwrap().is_empty());
    }
}
