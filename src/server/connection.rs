//! How is one connection served, from its first byte to its last?

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::LimitsConfig;
use super::drain::WorkerDrain;
use super::frames::{Excess, Frames};
use super::guard::ConnectionGuard;
use super::listener::{Accepted, Listener};
use super::mqtt::serve_mqtt;
use super::peer::{Entrance, Peer};
use super::shed::Cut;
use super::streams::Streams;
use super::tls::Tls;
use crate::clock;
use crate::gate::Gate;
use crate::inspected::Inspected;
use crate::linger::{Linger, Outlasted};
use crate::mqtt::Entry;
use crate::patient::{Patient, Stall, Stalled};
use crate::stream::{BUFFER, Stream};
use crate::strict::Framing;

/// Serves a connection until it ends or is drained.
pub(super) async fn serve(
    gate: Rc<Gate>,
    listener: Arc<Listener>,
    entrance: Rc<Entrance>,
    (tcp, peer, held): Accepted,
    drain: WorkerDrain,
) {
    let open = gate.metrics().connection(&listener.name);
    let guard = ConnectionGuard::new(open, held, drain.clone());
    if tcp.set_nodelay(true).is_err() {
        return;
    }
    let limits = gate.limits();
    let (stream, protocol) = match &listener.tls {
        None => (Stream::Plain(tcp), listener.untold(String::new())),
        Some(tls) => match Box::pin(handshake(&gate, &listener, tls, tcp, &limits)).await {
            Some(accepted) => accepted,
            None => return,
        },
    };
    let scheme = if listener.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let peer = Peer::connected(peer.ip().to_canonical(), scheme, entrance);
    // What is rare or short is boxed, so that it takes no room in the task of each connection.
    match protocol {
        Protocol::Http1 => serve_http1(gate, peer, stream, &limits, guard, drain).await,
        Protocol::Http2 => {
            Box::pin(serve_http2(gate, peer, stream, &limits, guard, drain)).await;
        }
        Protocol::Mqtt(entry) => {
            Box::pin(serve_mqtt(gate, peer, (stream, *entry), &limits, guard)).await;
        }
    }
}

/// Chosen by ALPN (RFC 7301) alone: nothing is guessed from first bytes.
enum Protocol {
    Http1,
    Http2,
    /// Boxed, so that it takes no room in the tasks of others.
    Mqtt(Box<Entry>),
}

impl Listener {
    /// What is spoken with a client that did not choose, and asked for this host by SNI.
    fn untold(&self, host: String) -> Protocol {
        match self.mqtt.clone() {
            Some(path) => Protocol::Mqtt(Box::new(Entry { host, path })),
            None => Protocol::Http1,
        }
    }
}

async fn handshake(
    gate: &Gate,
    listener: &Listener,
    tls: &ArcSwap<Tls>,
    tcp: TcpStream,
    limits: &LimitsConfig,
) -> Option<(Stream, Protocol)> {
    let accepting = TlsAcceptor::from(Arc::clone(&tls.load().config)).accept(tcp);
    let count = |version: &str, result: &str| {
        gate.metrics().handshake(&listener.name, version, result);
    };
    let stream = match timeout(limits.handshake_timeout.0, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            count("none", "failed");
            tracing::debug!(%error, listener = listener.name, "a TLS handshake failed");
            return None;
        }
        Err(_) => {
            count("none", "timeout");
            return None;
        }
    };
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        _ => "other",
    };
    count(version, "ok");
    let protocol = match session.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => {
            let host = session.server_name().unwrap_or_default();
            listener.untold(host.to_ascii_lowercase())
        }
    };
    Some((Stream::Tls(Box::new(stream.into())), protocol))
}

async fn serve_http1(
    gate: Rc<Gate>,
    peer: Rc<Peer>,
    stream: Stream,
    limits: &LimitsConfig,
    guard: ConnectionGuard,
    drain: WorkerDrain,
) {
    // Boxed, since hyper keeps room for the future of a request for as long as the connection lives.
    let drain = &drain;
    let service = service_fn(|request| {
        let handled = Rc::clone(&gate).handle(Rc::clone(&peer), guard.request(), request);
        Box::pin(handled.map(|answered| answered.map(|response| say_last(response, drain))))
    });
    // Its own timer for heads would be made anew for each request; `idle` is made once.
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_header_size(limits.header_size.bytes())
        .max_buf_size(limits.header_size.bytes().max(BUFFER));
    if limits.header_count != HYPERS_HEADER_COUNT {
        builder.max_headers(limits.header_count);
    }
    let (stall, outlasted) = (Stall::default(), Outlasted::default());
    let rate = limits.download_rate();
    let stream = Patient::new(stream, limits.send_timeout.0, rate, stall.clone());
    let linger = Linger::new(limits.linger_time.0, outlasted.clone());
    let stream = Inspected::new(stream, Framing::default(), linger);
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = quiet_time(drain, &guard) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        () = idle(&guard, limits.header_timeout.0) => {
            return cut_for(&gate, &peer, Cut::HeaderTimeout);
        }
    };
    note(&gate, &peer, ended, cut_by(&stall));
    if outlasted.has_come() {
        cut_for(&gate, &peer, Cut::LingerTime);
    }
}

async fn serve_http2(
    gate: Rc<Gate>,
    peer: Rc<Peer>,
    stream: Stream,
    limits: &LimitsConfig,
    guard: ConnectionGuard,
    drain: WorkerDrain,
) {
    let (streams, rate) = (Rc::new(Streams::default()), limits.download_rate());
    let service = service_fn(|request| {
        let guard = guard.request_on(&streams, rate);
        Rc::clone(&gate).handle(Rc::clone(&peer), guard, request)
    });
    let (stall, excess) = (Stall::default(), Excess::default());
    let stream = Patient::new(stream, limits.send_timeout.0, rate, stall.clone());
    let (resets, others) = (limits.http2_resets, limits.http2_control_frames);
    let refused = {
        let (gate, peer) = (Rc::clone(&gate), Rc::clone(&peer));
        Box::new(move |cut| stream_cut(&gate, &peer, cut, 1))
    };
    let frames = Frames::new(resets, others, Rc::clone(&excess), refused);
    let unread = Linger::new(Duration::ZERO, Outlasted::default());
    let stream = Inspected::new(stream, frames, unread);
    let connection = http2::Builder::new(OfStreams(Rc::clone(&streams)))
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.header_size.bytes()).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.header_timeout.0)
        .max_pending_accept_reset_streams(usize::try_from(limits.http2_resets).ok())
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let tell = |cut, count| stream_cut(&gate, &peer, cut, count);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        cut = stalled(&streams, &stall, limits, tell) => return cut_for(&gate, &peer, cut),
        () = idle(&guard, limits.header_timeout.0) => {
            cut_for(&gate, &peer, Cut::HeaderTimeout);
            // Says goodbye to a client that listens; one that does not is left soon after.
            connection.as_mut().graceful_shutdown();
            timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
        () = drain_time(&drain, &guard) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let cut = excess.get().or_else(|| cut_by(&stall));
    note(&gate, &peer, ended, cut);
}

/// What hyper takes without an allocation, and so unless told otherwise.
const HYPERS_HEADER_COUNT: usize = 100;
/// What may wait for the client on each stream, in bytes.
const HTTP2_SEND_BUFFER: usize = 128 * 1024;

/// Ends streams that the client keeps waiting for `limits.send_timeout` or up to half as long
/// again, or takes too slowly, and tells how many; ends itself when no other stream is left. Time in
/// which the socket is full counts for the connection alone.
async fn stalled(
    streams: &Streams,
    stall: &Stall,
    limits: &LimitsConfig,
    tell: impl Fn(Cut, usize),
) -> Cut {
    let (silence, rate) = (limits.send_timeout.0, limits.download_rate());
    let bounds = [
        Some(silence).filter(|silence| !silence.is_zero()),
        rate.is_some().then_some(rate.grace),
    ];
    let shortest = bounds.into_iter().flatten().min();
    let Some(pause) = shortest.map(|bound| bound / 4) else {
        return pending().await;
    };
    let mut before = clock::now();
    loop {
        sleep(pause).await;
        let now = clock::now();
        let span = now.saturating_duration_since(before);
        before = now;
        let found = streams.look((!stall.is_waiting()).then_some(span), silence);
        let cuts = [
            (Cut::SendTimeout, found.silent),
            (Cut::DownloadTooSlow, found.slow),
        ];
        for (cut, count) in cuts.into_iter().filter(|(_, count)| *count > 0) {
            if found.is_all {
                return cut;
            }
            tell(cut, count);
        }
    }
}

/// While the gate drains each answer is the last on its connection, and says so (RFC 9112 section
/// 9.6): a client that knows sends no further request into a connection that is about to close.
fn say_last<B>(mut response: Response<B>, drain: &WorkerDrain) -> Response<B> {
    if drain.has_begun() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// Ends when the gate drains and an HTTP/1 connection has been quiet for a moment: most likely no
/// request is on its way, to be told by its answer that there can be no other.
async fn quiet_time(drain: &WorkerDrain, guard: &ConnectionGuard) {
    drain.begun().await;
    idle(guard, FIRST_REQUEST_PAUSE * FIRST_REQUEST_TRIES).await;
}

/// Ends when an HTTP/2 connection should be told of the drain. One on which nothing was asked yet was
/// most likely just made, with its first request on the way: that one is waited for.
async fn drain_time(drain: &WorkerDrain, guard: &ConnectionGuard) {
    drain.begun().await;
    for _ in 0..FIRST_REQUEST_TRIES {
        if guard.requests() > 0 {
            return;
        }
        sleep(FIRST_REQUEST_PAUSE).await;
    }
}

/// Ends when nothing was asked for `limit` or up to a quarter more, nor is being answered. What
/// was asked counts from the last byte of its head: a head that comes too slowly ends it, too.
async fn idle(guard: &ConnectionGuard, limit: Duration) {
    let mut before = guard.requests();
    let mut quarters = 0;
    while quarters < 4 {
        sleep(limit / 4).await;
        let requests = guard.requests();
        let is_quiet = requests == before && guard.is_idle(OWN_HOLDERS);
        quarters = if is_quiet { quarters + 1 } else { 0 };
        before = requests;
    }
}

/// The connection's own hold on its guard.
const OWN_HOLDERS: usize = 1;
const FAREWELL: Duration = Duration::from_secs(1);
const FIRST_REQUEST_TRIES: u32 = 20;
const FIRST_REQUEST_PAUSE: Duration = Duration::from_millis(25);

/// Runs tasks on the worker's own thread, too. hyper hands each stream's over as soon as its request
/// was handed to the service.
#[derive(Clone, Debug)]
struct OfStreams(Rc<Streams>);

impl<F: Future + 'static> Executor<F> for OfStreams {
    fn execute(&self, task: F) {
        self.0.runs_in(spawn_local(task).abort_handle());
    }
}

pub(super) fn cut_by(stall: &Stall) -> Option<Cut> {
    stall.come().map(|stalled| match stalled {
        Stalled::Silent => Cut::SendTimeout,
        Stalled::Slow => Cut::DownloadTooSlow,
    })
}

fn note(gate: &Gate, peer: &Peer, ended: Result<(), hyper::Error>, cut: Option<Cut>) {
    let error = ended.err();
    let cut = cut.or_else(|| match &error {
        Some(error) if error.is_parse_too_large() => Some(Cut::HeadersTooLarge),
        Some(error) if error.is_parse() => Some(Cut::Malformed),
        // An HTTP/2 client does not answer pings.
        Some(error) if error.is_timeout() => Some(Cut::HeaderTimeout),
        _ => None,
    });
    if let Some(cut) = cut {
        cut_for(gate, peer, cut);
    }
    if let Some(error) = error {
        // Its text names a kind of error, never what the client sent.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts it, and tells it in the log: hyper's own refusals are no exchanges.
pub(super) fn cut_for(gate: &Gate, peer: &Peer, cut: Cut) {
    let (listener, reason) = (&peer.entrance.listener, cut.label());
    gate.metrics().cut(listener, reason);
    if cut.is_notable() {
        tracing::info!(client.address = %peer.address, listener, reason, "connection cut");
    }
}

fn stream_cut(gate: &Gate, peer: &Peer, cut: Cut, count: usize) {
    gate.metrics()
        .streams_cut(&peer.entrance.listener, cut.label(), count as u64);
}
