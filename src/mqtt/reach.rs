//! Does the upstream take CONNECT? Its CONNACK tells, before the client hears of anything.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Version;
use super::answer;
use super::packet::{Header, kind};
use super::receive::Wire;
use crate::refusal::{Reason, Refusal};
use crate::stream::Stream;
use crate::telemetry::handles::UpstreamFault;
use crate::upstream::connect::Upstream;

/// An upstream's end, and what must live as long.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Wire>,
    pub(super) kept: Box<dyn std::any::Any>,
}

/// An upstream that answered CONNECT.
pub(super) struct Reached {
    pub(super) stream: Box<dyn Wire>,
    pub(super) kept: Box<dyn std::any::Any>,
    /// Its CONNACK, and what came behind it.
    pub(super) connack: Vec<u8>,
}

impl Opened {
    pub(super) fn plain((stream, kept): (Stream, impl std::any::Any)) -> Self {
        Self {
            stream: Box::new(stream),
            kept: Box::new(kept),
        }
    }

    /// Sends CONNECT and waits for the answer. Whether the credentials in it are the gate's
    /// decides what a refusal of them means.
    pub(super) async fn begin(
        mut self,
        upstream: &Upstream,
        packet: &[u8],
        (version, is_gates): (Version, bool),
    ) -> Result<Reached, Refusal> {
        let limit = upstream.spec.config.response_timeout.0;
        let answered = timeout(limit, async {
            self.stream.write_all(packet).await?;
            self.stream.flush().await?;
            let mut connack = Vec::new();
            while code(&connack).is_none() {
                if self.stream.read_buf(&mut connack).await? == 0 {
                    break;
                }
            }
            Ok::<_, std::io::Error>(connack)
        });
        let connack = match answered.await {
            Ok(Ok(connack)) => connack,
            Ok(Err(error)) => {
                upstream.metrics.fault(UpstreamFault::Broken);
                return Err(Refusal::with_cause(Reason::UpstreamBroken, error));
            }
            Err(_) => {
                upstream.metrics.fault(UpstreamFault::ResponseTimeout);
                let cause = "no CONNACK within response_timeout";
                return Err(Refusal::with_cause(Reason::UpstreamTimeout, cause));
            }
        };
        let Some(code) = code(&connack).filter(|_| connack.first() == Some(&CONNACK)) else {
            upstream.metrics.fault(UpstreamFault::Broken);
            let cause = "the upstream's first packet is no CONNACK";
            return Err(Refusal::with_cause(Reason::UpstreamBroken, cause));
        };
        if is_gates && answer::refuses_credential(version, code) {
            upstream.metrics.refused();
            let cause =
                format!("the upstream's CONNACK refuses the gate's credentials: {code:#04x}");
            return Err(Refusal::with_cause(
                Reason::UpstreamRefusedCredential,
                cause,
            ));
        }
        Ok(Reached {
            stream: self.stream,
            kept: self.kept,
            connack,
        })
    }
}

const CONNACK: u8 = kind::CONNACK << 4;

/// The code in a CONNACK, once it is there.
fn code(packet: &[u8]) -> Option<u8> {
    let header = Header::parse(packet).ok().flatten()?;
    packet.get(header.size + 1).copied()
}
