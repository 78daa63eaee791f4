//! How does the WebSocket echo? Every text and binary message comes back as it went in.
//!
//! With `?message=<text>` it sends that text at once and closes, so that a plain curl can watch it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::reply::{self, Reply};

/// A WebSocket that was agreed upon and now waits for its connection.
pub(super) struct Echo {
    upgrade: OnUpgrade,
    message: Option<String>,
}

/// Agrees to the upgrade, or says what is missing.
pub(super) fn answer(mut request: Request<Incoming>, upgraded: &mpsc::Sender<Echo>) -> Reply {
    let headers = request.headers();
    let offered = request.method() == Method::GET
        && lists(headers, &CONNECTION, "upgrade")
        && lists(headers, &UPGRADE, "websocket")
        && lists(headers, &SEC_WEBSOCKET_VERSION, "13");
    if !offered {
        let mut reply = reply::message(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket");
        let headers = reply.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return reply;
    }
    let accept = headers
        .get(SEC_WEBSOCKET_KEY)
        .and_then(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok());
    let Some(accept) = accept else {
        return reply::message(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing");
    };
    let protocol = first_protocol(headers);
    let echo = Echo {
        message: message(request.uri().query().unwrap_or_default()),
        upgrade: hyper::upgrade::on(&mut request),
    };
    if upgraded.try_send(echo).is_err() {
        return reply::message(StatusCode::BAD_REQUEST, "one upgrade a connection");
    }
    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    reply
}

impl Echo {
    /// Echoes until one side closes or is silent for [`IDLE`].
    pub(super) async fn run(self) {
        let Ok(Ok(upgraded)) = timeout(UPGRADING, self.upgrade).await else {
            return;
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        match self.message {
            Some(message) => say_and_close(&mut socket, message).await,
            None => echo(&mut socket).await,
        }
    }
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn echo(socket: &mut Socket) {
    while let Ok(Some(Ok(message))) = timeout(IDLE, socket.next()).await {
        // Pings and closes are answered by the library.
        if !message.is_text() && !message.is_binary() {
            continue;
        }
        let sent = timeout(IDLE, socket.send(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn say_and_close(socket: &mut Socket, message: String) {
    let said = socket.send(Message::text(message));
    if !matches!(timeout(CLOSING, said).await, Ok(Ok(()))) {
        return;
    }
    let close = socket.close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }));
    if !matches!(timeout(CLOSING, close).await, Ok(Ok(()))) {
        return;
    }
    // A WebSocket client answers the close; a plain curl does not and is not waited for long.
    let answered = async { while let Some(Ok(_)) = socket.next().await {} };
    let _: Result<(), _> = timeout(CLOSING, answered).await;
}

/// Whether one of the header's comma-separated values is `value`.
fn lists(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(value))
}

fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    HeaderValue::from_str(offered.split(',').next()?.trim()).ok()
}

/// The text of `?message=`, where `+` is a space as in a form.
fn message(query: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, encoded) = pairs.find(|(name, _)| *name == "message")?;
    let spaced = encoded.replace('+', " ");
    Some(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

const MAX_MESSAGE: usize = 1024 * 1024;
const UPGRADING: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(5 * 60);
const CLOSING: Duration = Duration::from_secs(1);
