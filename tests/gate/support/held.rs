//! An upstream that answers when the test says so.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::raw::{accepting, read_head};

/// An upstream that answers when it is told to.
pub(crate) struct Held {
    pub(crate) address: SocketAddr,
    arrivals: Receiver<()>,
    go_on: Sender<()>,
}

impl Held {
    pub(crate) fn start() -> Self {
        let (arrived, arrivals) = channel();
        let (go_on, wait) = channel();
        let (arrived, wait) = (Mutex::new(arrived), Mutex::new(wait));
        let address = accepting(move |mut stream| {
            while !read_head(&mut stream).is_empty() {
                arrived.lock().unwrap().send(()).unwrap();
                if wait.lock().unwrap().recv().is_err() {
                    return;
                }
                stream.write_all(OK).unwrap();
            }
        });
        Self {
            address,
            arrivals,
            go_on,
        }
    }

    pub(crate) fn wait(&self) {
        self.arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    /// Whether a request has arrived by now.
    pub(crate) fn try_wait(&self) -> bool {
        self.arrivals.try_recv().is_ok()
    }

    pub(crate) fn answer(&self) {
        self.go_on.send(()).unwrap();
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
