//! How do the two ends of a WebSocket talk once both agreed? Bytes both ways, while the token
//! lives.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::inspected::Inspected;
use crate::patient::Patient;
use crate::stream::Stream;
use crate::strict::Framing;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// One end closed or broke.
    Closed,
    /// The client took too little for too long.
    Stalled,
    /// The client sent bytes before the upstream agreed; they were dropped.
    Early,
    /// The token expired.
    Expired,
    /// The token was revoked.
    Revoked,
}

impl End {
    /// The label in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Stalled => "client_stalled",
            Self::Early => "sent_before_upgrade",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Joins the two ends until one closes, `lifetime` is over or `revoked` comes.
pub async fn join(
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    lifetime: Option<Duration>,
    revoked: oneshot::Receiver<()>,
) -> End {
    let Ok((downstream, upstream)) = futures_util::future::try_join(downstream, upstream).await
    else {
        return End::Closed;
    };
    let Some(downstream) = without_early_bytes(downstream) else {
        return End::Early;
    };
    let upstream = TokioIo::new(upstream);
    let expired = async {
        match lifetime {
            Some(lifetime) => sleep(lifetime).await,
            None => pending().await,
        }
    };
    let stall = downstream.stall().clone();
    tokio::select! {
        () = copy_until_one_closes(downstream, upstream) => {
            if stall.come().is_some() { End::Stalled } else { End::Closed }
        }
        () = expired => End::Expired,
        Ok(()) = revoked => End::Revoked,
    }
}

/// What `server` serves HTTP/1 over, but read as it comes.
type Downstream = Patient<Stream>;

/// Copies both ways. When one end has closed, the other gets what is on the way to it, and a
/// moment for its last words.
async fn copy_until_one_closes(downstream: Downstream, upstream: TokioIo<Upgraded>) {
    let (mut from_downstream, mut to_downstream) = split(downstream);
    let (mut from_upstream, mut to_upstream) = split(upstream);
    let mut up = pin!(async {
        let _ = copy(&mut from_downstream, &mut to_upstream).await;
        let _ = to_upstream.shutdown().await;
    });
    let mut down = pin!(async {
        let _ = copy(&mut from_upstream, &mut to_downstream).await;
        let _ = to_downstream.shutdown().await;
    });
    tokio::select! {
        () = &mut up => { let _ = timeout(LAST_WORDS, down).await; }
        () = &mut down => { let _ = timeout(LAST_WORDS, up).await; }
    }
}

const LAST_WORDS: Duration = Duration::from_secs(2);

/// The client's end, unless it spoke before it was allowed to: such bytes were never judged.
fn without_early_bytes(upgraded: Upgraded) -> Option<Downstream> {
    let parts = upgraded
        .downcast::<TokioIo<Inspected<Downstream, Framing>>>()
        .ok()?;
    let stream = parts.io.into_inner();
    parts.read_buf.is_empty().then(|| stream.into_inner())
}
