//! How do the two ends of a WebSocket talk once both agreed? Bytes both ways, while the token
//! lives and the gate stays.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, split};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::way::{Reads, Towards, Way, Writes};
use crate::inspected::Inspected;
use crate::patient::Patient;
use crate::stream::Stream;
use crate::strict::Framing;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// One end closed or broke.
    Closed,
    /// The gate drained.
    Drained,
    /// The client took too little for too long.
    Stalled,
    /// The client sent bytes before the upstream agreed; they were dropped.
    Early,
    /// The token expired.
    Expired,
    /// The token was revoked.
    Revoked,
    /// A client of MQTT broke a rule of the protocol.
    ProtocolError,
    /// A client of MQTT sent a larger packet than it may.
    PacketTooLarge,
    /// A client of MQTT published or subscribed where it may not.
    TopicNotAllowed,
}

impl End {
    /// The label in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Drained => "drained",
            Self::Stalled => "client_stalled",
            Self::Early => "sent_before_upgrade",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::ProtocolError => "protocol_error",
            Self::PacketTooLarge => "packet_too_large",
            Self::TopicNotAllowed => "topic_not_allowed",
        }
    }
}

/// What a tunnel lives on.
#[derive(Debug)]
pub struct Rights {
    /// How long the token is good.
    pub lifetime: Option<Duration>,
    /// Comes when it is revoked.
    pub revoked: oneshot::Receiver<()>,
}

impl Rights {
    /// Ends when they do.
    pub(crate) async fn ended(self) -> End {
        let expired = async {
            match self.lifetime {
                Some(lifetime) => sleep(lifetime).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = expired => End::Expired,
            Ok(()) = self.revoked => End::Revoked,
        }
    }
}

/// Joins the two ends until one closes, the rights end or the gate drains. In the last two cases
/// both ends are told by a close frame, where one can be put in.
pub async fn join(
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    rights: Rights,
    drained: impl Future<Output = ()>,
) -> End {
    let Ok((downstream, upstream)) = futures_util::future::try_join(downstream, upstream).await
    else {
        return End::Closed;
    };
    let Some(downstream) = without_early_bytes(downstream) else {
        return End::Early;
    };
    let stall = downstream.stall().clone();
    let (from_downstream, to_downstream) = split(downstream);
    let (from_upstream, to_upstream) = split(TokioIo::new(upstream));
    let mut up = Way::new(from_downstream, to_upstream, Towards::Server);
    let mut down = Way::new(from_upstream, to_downstream, Towards::Client);
    let mut ended = pin!(rights.ended());
    let end = tokio::select! {
        () = copy_until_one_closes(&mut up, &mut down) => {
            return if stall.come().is_some() { End::Stalled } else { End::Closed };
        }
        end = &mut ended => end,
        () = drained => tokio::select! {
            () = go_away(&mut up, &mut down) => return End::Drained,
            end = ended => end,
        },
    };
    refuse(&mut up, &mut down, end.label()).await;
    end
}

/// What `server` serves HTTP/1 over, but read as it comes.
pub(crate) type Downstream = Patient<Stream>;

/// Copies both ways. When one end has closed, the other gets what is on the way to it, and a
/// moment for its last words.
async fn copy_until_one_closes<A: Reads, B: Writes, C: Reads, D: Writes>(
    up: &mut Way<A, B>,
    down: &mut Way<C, D>,
) {
    let (mut up, mut down) = (pin!(up.copy()), pin!(down.copy()));
    tokio::select! {
        _ = &mut up => { let _ = timeout(LAST_WORDS, down).await; }
        _ = &mut down => { let _ = timeout(LAST_WORDS, up).await; }
    }
}

/// Tells the client at the end of a frame that the gate goes away, and nothing more. What the
/// client sends goes on to the upstream, to its answer to that, by which the upstream is told. A
/// client that does not answer is given up after a moment; then the gate tells the upstream.
async fn go_away<A: Reads, B: Writes, C: Reads, D: Writes>(
    up: &mut Way<A, B>,
    down: &mut Way<C, D>,
) {
    let reason = End::Drained.label();
    {
        let mut told = pin!(async {
            down.finish_frame().await?;
            down.close(GOING_AWAY, reason).await?;
            down.drop_all().await
        });
        let answered = timeout(CLOSING, up.copy_to_close());
        tokio::select! {
            _ = &mut told => {}
            _ = answered => { let _ = timeout(LAST_WORDS, told).await; }
        }
    }
    let last = async {
        let _ = up.close(GOING_AWAY, reason).await;
        let _ = tokio::join!(up.to.shutdown(), down.to.shutdown());
    };
    let _ = timeout(LAST_WORDS, last).await;
}

/// Nothing passes any more. Each end is told why, unless it is in the middle of a frame.
async fn refuse<A: Reads, B: Writes, C: Reads, D: Writes>(
    up: &mut Way<A, B>,
    down: &mut Way<C, D>,
    reason: &'static str,
) {
    let (client, server) = (up.heard(), down.heard());
    let told = async {
        let _ = tokio::join!(
            up.close(POLICY_VIOLATION, reason),
            down.close(POLICY_VIOLATION, reason)
        );
        let _ = tokio::join!(up.to.shutdown(), down.to.shutdown());
        // To close a socket with bytes unread would reset it, and the last frame be lost.
        let _ = tokio::join!(up.drop_to_close(client), down.drop_to_close(server));
    };
    let _ = timeout(LAST_WORDS, told).await;
}

/// RFC 6455 section 7.4.1.
pub(crate) const GOING_AWAY: u16 = 1001;
/// RFC 6455 section 7.4.1.
pub(crate) const POLICY_VIOLATION: u16 = 1008;
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a client may take to answer a close frame.
const CLOSING: Duration = Duration::from_secs(5);

/// The client's end, unless it spoke before it was allowed to: such bytes were never judged.
pub(crate) fn without_early_bytes(upgraded: Upgraded) -> Option<Downstream> {
    let parts = upgraded
        .downcast::<TokioIo<Inspected<Downstream, Framing>>>()
        .ok()?;
    let stream = parts.io.into_inner();
    parts.read_buf.is_empty().then(|| stream.into_inner())
}
