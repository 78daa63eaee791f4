//! Does memory come back? The bounds have generous margins: what is measured is in
//! docs/performance.md.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::client::{connect, read_response};
use crate::support::gate::{Builder, claims, sign};
use crate::support::observe::own_memory;
use crate::support::raw;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "  - { path: /api/**, upstream: app }\n";
const MIB: u64 = 1024 * 1024;

#[test]
fn an_idle_connection_takes_little_memory_and_gives_it_back() {
    const CONNECTIONS: usize = 300;
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let request = format!(
        "GET /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {}\r\n\r\n",
        sign(&claims())
    );
    let ask = || {
        let mut stream = connect(gate.address());
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream, false).status, 200);
        stream
    };
    // What the first requests make is not the connections'.
    let first: Vec<_> = (0..4).map(|_| ask()).collect();
    let before = own_memory(&gate);
    let idle: Vec<_> = (0..CONNECTIONS).map(|_| ask()).collect();
    let each = own_memory(&gate).saturating_sub(before) / CONNECTIONS as u64;
    assert!(each < 24 * 1024, "{each} bytes for each connection");

    drop((first, idle));
    wait_for("the memory of the connections", || {
        (own_memory(&gate) < before + 2 * MIB).then_some(())
    });
}

#[test]
fn the_memory_of_a_login_is_given_back() {
    let upstream = Upstream::start();
    let gate = Builder::standard(upstream.address, ROUTES).start();
    let before = own_memory(&gate);
    gate.login("root", "memphis");
    // A hash at the default cost takes 19 MiB.
    wait_for("the memory of the hash", || {
        (own_memory(&gate) < before + 8 * MIB).then_some(())
    });
}

#[test]
fn uploads_that_an_upstream_does_not_take_are_left_with_the_clients() {
    const UPLOADS: u64 = 16;
    const LENGTH: usize = 64 * 1024 * 1024;
    // Takes enough for buffers to grow, then no more.
    let upstream = raw::accepting(|mut stream| {
        raw::read_head(&mut stream);
        let mut some = vec![0; 4 * 1024 * 1024];
        stream.read_exact(&mut some).unwrap();
        std::thread::park();
    });
    let gate = Builder::standard(upstream, ROUTES).start();
    let head = format!(
        "POST /api/x HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {}\r\n\
         content-length: {LENGTH}\r\n\r\n",
        sign(&claims())
    );
    let before = own_memory(&gate);
    let upload = || {
        let mut stream = connect(gate.address());
        let patience = Some(Duration::from_millis(500));
        stream.set_write_timeout(patience).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let piece = vec![b'x'; 1024 * 1024];
        let taken = (0..LENGTH / piece.len()).take_while(|_| stream.write_all(&piece).is_ok());
        assert!(taken.count() < LENGTH / piece.len(), "all was taken");
        stream
    };
    let stalled = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..UPLOADS {
            scope.spawn(|| {
                let stream = upload();
                stalled.lock().unwrap().push(stream);
            });
        }
    });
    let each = own_memory(&gate).saturating_sub(before) / UPLOADS;
    // With the buffers that hyper would take it is 2 MiB.
    assert!(each < 1024 * 1024, "{each} bytes for each upload");
    drop(stalled);
}
