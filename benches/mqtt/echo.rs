//! A broker that sends every message back to whoever published it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::spawn;

/// Starts it on a thread of its own.
pub(crate) fn start() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                spawn(serve(stream));
            }
        });
    });
    address
}

/// Answers CONNECT and pings; what else comes is sent back as it is.
async fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut bytes = vec![0; 1024];
    let mut count = 0;
    // CONNECT is all that comes at first.
    while count < 2 || count < 2 + remaining(&bytes[1..count])? {
        count += stream
            .read(&mut bytes[count..])
            .await
            .ok()
            .filter(|count| *count > 0)?;
    }
    stream.write_all(&[0x20, 3, 0, 0, 0]).await.ok()?;
    bytes = vec![0; 256];
    loop {
        let count = stream
            .read(&mut bytes)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        match bytes[..count] {
            [0xc0, 0] => stream.write_all(&[0xd0, 0]).await.ok()?,
            _ => stream.write_all(&bytes[..count]).await.ok()?,
        }
        if count == bytes.len() {
            bytes.resize(64 * 1024, 0);
        }
    }
}

/// The remaining length, with what it takes beyond its first byte.
fn remaining(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [low, ..] if low & 0x80 == 0 => Some((*low).into()),
        [low, high, ..] => Some(1 + usize::from(low & 0x7f) + 128 * usize::from(*high)),
        _ => Some(1),
    }
}
