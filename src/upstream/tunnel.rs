//! How do the two ends of a WebSocket talk once both agreed? Bytes both ways, while the token
//! lives.

use std::future::pending;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::stream::Stream;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// One end closed or broke.
    Closed,
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
    let Some(mut downstream) = without_early_bytes(downstream) else {
        return End::Early;
    };
    let mut upstream = TokioIo::new(upstream);
    let expired = async {
        match lifetime {
            Some(lifetime) => sleep(lifetime).await,
            None => pending().await,
        }
    };
    tokio::select! {
        _ = copy_bidirectional(&mut downstream, &mut upstream) => End::Closed,
        () = expired => End::Expired,
        Ok(()) = revoked => End::Revoked,
    }
}

/// The client's end, unless it spoke before it was allowed to: such bytes were never judged.
fn without_early_bytes(upgraded: Upgraded) -> Option<Stream> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    parts.read_buf.is_empty().then(|| parts.io.into_inner())
}
