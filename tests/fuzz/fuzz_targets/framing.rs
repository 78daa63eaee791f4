//! Does the gate's HTTP/1 server see no other requests in a stream than a strict reader does, and
//! is the stream judged alike however it is cut into reads?
//!
//! The first byte says how it is cut.

#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tollgate::inspected::{Inspect as _, Inspected};
use tollgate::linger::{Linger, Outlasted};
use tollgate::strict::Framing;

use reader::Message;

mod reader;
mod shared;

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, stream)) = bytes.split_first() else {
        return;
    };
    let ways = shared::cuts(*seed, stream);
    let verdicts = Vec::from_iter(ways.iter().map(|pieces| verdict(pieces)));
    assert!(
        verdicts.iter().all(|one| *one == verdicts[0]),
        "{verdicts:?}"
    );

    let expected = reader::messages(stream);
    for pieces in [&ways[0], &ways[4]] {
        let seen = served(pieces);
        for (index, (head, body)) in seen.iter().enumerate() {
            let whole = expected.get(index);
            let strict = whole
                .map(Message::head)
                .or_else(|| reader::head_after(stream, &expected));
            let strict = strict.map(|(method, target)| (method, as_uri(&target)));
            assert_eq!(Some(head), strict.as_ref(), "request {index}");
            if let Some(body) = body {
                let whole = whole.expect("a body that ended");
                assert_eq!(*body, whole.body, "the body of request {index}");
            }
        }
    }
});

/// A target as the server's types write it: absolute ones have a path.
fn as_uri(target: &str) -> String {
    let bytes = target
        .chars()
        .map(|letter| u8::try_from(letter).expect("a byte"));
    let uri = Uri::try_from(Vec::from_iter(bytes));
    uri.map_or_else(|_| "none".to_owned(), |uri| uri.to_string())
}

/// How many bytes pass before the framing is in doubt, if it ever is.
fn verdict(pieces: &[&[u8]]) -> Option<usize> {
    let (mut framing, mut before) = (Framing::default(), 0);
    for piece in pieces {
        let mut fresh = piece.to_vec();
        if let Some(kept) = framing.inspect(&mut fresh).expect("it never fails") {
            assert_eq!(fresh[kept - 1], 0);
            return Some(before + kept);
        }
        before += piece.len();
    }
    None
}

/// A request's method and target, and its body if that ended.
type Seen = ((String, String), Option<Vec<u8>>);

/// What a server behind the framing, set up as the gate's own, sees of a stream.
fn served(pieces: &[&[u8]]) -> Vec<Seen> {
    let seen = Rc::new(RefCell::new(Vec::<Seen>::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let head = (request.method().to_string(), request.uri().to_string());
            let index = seen.borrow().len();
            seen.borrow_mut().push((head, None));
            if let Ok(body) = request.into_body().collect().await {
                seen.borrow_mut()[index].1 = Some(body.to_bytes().to_vec());
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let pieces = pieces.iter().rev().map(|piece| piece.to_vec()).collect();
    let linger = Linger::new(Duration::ZERO, Outlasted::default());
    let stream = Inspected::new(Pieces(pieces), Framing::default(), linger);
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    run(connection);
    seen.take()
}

/// Polls to the end: the stream is always ready, so nothing is waited for.
fn run(connection: impl Future) {
    let mut connection = pin!(connection);
    let mut context = Context::from_waker(std::task::Waker::noop());
    for _ in 0..10_000 {
        if connection.as_mut().poll(&mut context).is_ready() {
            return;
        }
    }
    panic!("the server waits for something that never comes");
}

/// A connection whose client sends these pieces, the last one first, and takes every answer.
#[derive(Debug)]
struct Pieces(Vec<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
