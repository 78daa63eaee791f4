//! How do the two ends of a WebSocket talk once both agreed? Bytes both ways, while the token
//! lives.

use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::timeout;

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
}

impl End {
    /// The label in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Early => "sent_before_upgrade",
            Self::Expired => "expired",
        }
    }
}

/// Joins the two ends until one closes or `lifetime` is over.
pub async fn join(downstream: OnUpgrade, upstream: OnUpgrade, lifetime: Option<Duration>) -> End {
    let Ok((downstream, upstream)) = futures_util::future::try_join(downstream, upstream).await
    else {
        return End::Closed;
    };
    let Some(mut downstream) = without_early_bytes(downstream) else {
        return End::Early;
    };
    let mut upstream = TokioIo::new(upstream);
    let copying = copy_bidirectional(&mut downstream, &mut upstream);
    match lifetime {
        None => {
            let _ = copying.await;
            End::Closed
        }
        Some(lifetime) => match timeout(lifetime, copying).await {
            Ok(_) => End::Closed,
            Err(_) => End::Expired,
        },
    }
}

/// The client's end, unless it spoke before it was allowed to: such bytes were never judged.
fn without_early_bytes(upgraded: Upgraded) -> Option<Stream> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    parts.read_buf.is_empty().then(|| parts.io.into_inner())
}
