//! Does the upstream take CONNECT? Its CONNACK tells, before the client hears of anything.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Version;
use super::answer;
use super::packet::{Header, Malformed, kind};
use super::receive::Wire;
use crate::refusal::{Reason, Refusal};
use crate::stream::Stream;
use crate::telemetry::handles::UpstreamFault;
use crate::upstream::connect::Upstream;
use crate::upstream::line::Held;

/// An upstream's end, and what must live as long.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Wire>,
    pub(super) kept: Kept,
}

/// What must live as long as an upstream's end.
pub(super) enum Kept {
    /// It is a connection of its own.
    Line(Held),
    /// It is something else, of which this is left.
    Other(#[expect(dead_code, reason = "it is held, and nothing more")] Box<dyn std::any::Any>),
}

/// An upstream that answered CONNECT.
pub(super) struct Reached {
    pub(super) stream: Box<dyn Wire>,
    pub(super) kept: Kept,
    /// Its CONNACK, and what came behind it.
    pub(super) connack: Vec<u8>,
}

impl Opened {
    pub(super) fn plain((stream, held): (Stream, Held)) -> Self {
        Self {
            stream: Box::new(stream),
            kept: Kept::Line(held),
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
        let answered = self.ask(upstream, packet).await;
        if let Kept::Line(held) = &self.kept {
            upstream.judge_line(held, answered.is_ok());
        }
        let (code, connack) = answered?;
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

    /// The code of its CONNACK, and all that came.
    async fn ask(&mut self, upstream: &Upstream, packet: &[u8]) -> Result<(u8, Vec<u8>), Refusal> {
        let limit = upstream.spec.config.response_timeout.0;
        let answered = timeout(limit, async {
            self.stream.write_all(packet).await?;
            self.stream.flush().await?;
            let mut connack = Vec::new();
            let found = loop {
                match code(&connack) {
                    Ok(None) => match self.stream.read_buf(&mut connack).await? {
                        0 => break None,
                        _ => continue,
                    },
                    found => break found.ok().flatten(),
                }
            };
            Ok::<_, std::io::Error>(found.map(|code| (code, connack)))
        });
        match answered.await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => {
                upstream.metrics.fault(UpstreamFault::Broken);
                let cause = "the upstream's first packet is no CONNACK";
                Err(Refusal::with_cause(Reason::UpstreamBroken, cause))
            }
            Ok(Err(error)) => {
                upstream.metrics.fault(UpstreamFault::Broken);
                Err(Refusal::with_cause(Reason::UpstreamBroken, error))
            }
            Err(_) => {
                upstream.metrics.fault(UpstreamFault::ResponseTimeout);
                let cause = "no CONNACK within response_timeout";
                Err(Refusal::with_cause(Reason::UpstreamTimeout, cause))
            }
        }
    }
}

const CONNACK: u8 = kind::CONNACK << 4;

/// The code in a CONNACK, once it is there: what is none is not read any further.
fn code(packet: &[u8]) -> Result<Option<u8>, Malformed> {
    if packet.first().is_some_and(|first| *first != CONNACK) {
        return Err(Malformed);
    }
    match Header::parse(packet)? {
        Some(header) if header.remaining < SHORTEST => Err(Malformed),
        header => Ok(header.and_then(|header| packet.get(header.size + 1).copied())),
    }
}

/// Flags and a code, in every version.
const SHORTEST: usize = 2;
