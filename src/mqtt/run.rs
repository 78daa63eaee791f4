//! How long does a session last, and what is said at its end?

use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::time::timeout;

use super::Version;
use super::answer::Goodbye;
use super::connect::Wish;
use super::flow::{Down, Inserts, Stop, Up};
use super::frame::Place;
use super::receive::{LAST_WORDS, Wire};
use super::rules::{Denied, Topics};
use super::shape::Shape;
use super::websocket::NORMAL_CLOSURE;
use crate::upstream::tunnel::{End, GOING_AWAY, POLICY_VIOLATION, Rights};

/// A session that stands.
pub(super) struct Session {
    pub(super) version: Version,
    pub(super) wish: Wish,
    pub(super) rest: Vec<u8>,
    pub(super) connack: Vec<u8>,
    pub(super) most: usize,
    pub(super) topics: Option<Topics>,
    pub(super) rights: Rights,
}

impl Session {
    /// Lets packets flow until one end closes, the rights end, the gate drains or the client does
    /// what it may not. How it ended, and how many bytes went each way.
    pub(super) async fn run(
        self,
        mut downstream: impl Wire,
        mut upstream: impl Wire,
        drained: impl Future<Output = ()>,
        tell: impl Fn(Denied),
    ) -> (End, [u64; 2]) {
        let shapes = match self.topics {
            None => passed_on(&mut downstream, &mut upstream),
            Some(_) => None,
        };
        let [upward, downward] = shapes.unwrap_or_else(|| [Shape::plain(), Shape::plain()]);
        let dressed = (upward.dress(&self.rest), downward.dress(&self.connack));
        let (Ok(rest), Ok(connack)) = dressed else {
            return (End::Closed, [0, 0]);
        };
        let code = downstream.close_code();
        let (from_client, to_client) = split(downstream);
        let (from_upstream, to_upstream) = split(upstream);
        let mut up = Up::new((from_client, to_upstream), upward, &rest, self.most);
        let mut down = Down::new((from_upstream, to_client), downward, &connack);
        drop((rest, connack));
        if down.begin().await.is_err() {
            return (End::Closed, [0, down.count.get()]);
        }
        let inserts = Inserts::default();
        let Self {
            version,
            wish,
            mut topics,
            rights,
            ..
        } = self;
        let left = {
            let both = flow(&mut up, &mut down, &inserts, topics.as_mut(), tell);
            // What came behind CONNECT goes nowhere if the right to it has ended meanwhile.
            tokio::select! {
                biased;
                end = rights.ended() => Left::Gate(end),
                () = drained => Left::Gate(End::Drained),
                left = both => left,
            }
        };
        let _ = timeout(LAST_WORDS, async {
            match &left {
                Left::Client(Ok(())) => {
                    let _ = up.close(NORMAL_CLOSURE).await;
                    let _ = down.copy(&inserts).await;
                }
                Left::Upstream => {
                    let _ = up.close(NORMAL_CLOSURE).await;
                }
                Left::Gate(End::Drained) => {
                    let _ = down.finish_packet().await;
                }
                _ => {}
            }
        })
        .await;
        let (end, goodbye) = left.tell();
        code.set(close_code(end));
        let _ = timeout(LAST_WORDS, async {
            if let Some(packet) = goodbye.and_then(|goodbye| goodbye.disconnect(version, wish)) {
                let _ = down.tell(&packet).await;
            }
            let _ = down.close(code.get()).await;
            // To close a socket with bytes unread would reset it, and the last packet be lost.
            let _ = up.drop_all().await;
        })
        .await;
        (end, [up.count.get(), down.count.get()])
    }
}

/// How packets stand in either direction, if the frames of one WebSocket can go on as those of the
/// other: what was read of both ends where a frame does.
fn passed_on(downstream: &mut impl Wire, upstream: &mut impl Wire) -> Option<[Shape; 2]> {
    if !downstream.is_between_frames() || !upstream.is_between_frames() {
        return None;
    }
    downstream.show_frames();
    upstream.show_frames();
    Some([Place::Server, Place::Client].map(Shape::framed))
}

/// RFC 6455 section 7.4.1.
const fn close_code(end: End) -> u16 {
    match end {
        End::Drained => GOING_AWAY,
        End::ProtocolError => 1002,
        End::Expired | End::Revoked | End::TopicNotAllowed => POLICY_VIOLATION,
        End::PacketTooLarge => 1009,
        End::Closed | End::Early | End::Stalled => NORMAL_CLOSURE,
    }
}

/// Packets flow until one of both ends it.
async fn flow<A, B, C, D>(
    up: &mut Up<A, B>,
    down: &mut Down<C, D>,
    inserts: &Inserts,
    topics: Option<&mut Topics>,
    tell: impl Fn(Denied),
) -> Left
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
    C: AsyncRead + Unpin,
    D: AsyncWrite + Unpin,
{
    let upward = async {
        match topics {
            None => up.copy().await,
            Some(topics) => up.filter(topics, inserts, tell).await,
        }
    };
    tokio::select! {
        ended = upward => Left::Client(ended),
        _ = down.copy(inserts) => Left::Upstream,
    }
}

/// Who ended it.
enum Left {
    Client(Result<(), Stop>),
    Upstream,
    Gate(End),
}

impl Left {
    /// What that is called, and what a client is told.
    const fn tell(&self) -> (End, Option<Goodbye>) {
        match self {
            Self::Upstream | Self::Client(Ok(()) | Err(Stop::Broken)) => (End::Closed, None),
            Self::Client(Err(Stop::Refused(denied, goodbye))) => {
                let end = match (denied, goodbye) {
                    (Some(_), _) => End::TopicNotAllowed,
                    (None, Goodbye::PacketTooLarge) => End::PacketTooLarge,
                    _ => End::ProtocolError,
                };
                (end, Some(*goodbye))
            }
            Self::Gate(end) => {
                let goodbye = match end {
                    End::Drained => Goodbye::ShuttingDown,
                    End::Revoked => Goodbye::AdministrativeAction,
                    _ => Goodbye::MaximumConnectTime,
                };
                (*end, Some(goodbye))
            }
        }
    }
}
