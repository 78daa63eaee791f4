//! How does CONNECT come in? Within its bounds, and what cannot be read is answered as its version
//! has it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::Version;
use super::answer;
use super::config::MqttLimits;
use super::connect::{Connect, Unfit, version};
use super::packet::Header;
use crate::patient::Patient;
use crate::stream::Stream;
use crate::upstream::tunnel::GOING_AWAY;

/// A stream of bytes with one end.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Whether its packets come in a WebSocket's frames, and none of these has begun.
    fn is_between_frames(&self) -> bool {
        false
    }

    /// From now on its bytes are those of the frames.
    fn show_frames(&mut self) {}

    /// What the gate's own close frame is to say, where there are any.
    fn close_code(&self) -> Rc<Cell<u16>> {
        Rc::default()
    }
}

impl Wire for Stream {}
impl Wire for Patient<Stream> {}

impl Wire for Box<dyn Wire> {
    fn is_between_frames(&self) -> bool {
        (**self).is_between_frames()
    }

    fn show_frames(&mut self) {
        (**self).show_frames();
    }

    fn close_code(&self) -> Rc<Cell<u16>> {
        (**self).close_code()
    }
}

/// A CONNECT, and what came behind it already.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) connect: Connect,
    pub(super) rest: Vec<u8>,
}

/// Why there is no CONNECT.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The client left.
    Gone,
    /// The gate drains.
    Drained,
    /// It did not come in time.
    Late,
    /// It is larger than it may be; what the client is told.
    TooLarge(Option<Vec<u8>>),
    /// It is none, or breaks its rules; what the client is told.
    Unfit(Option<Vec<u8>>),
}

impl Missing {
    /// What a client is told that can be told anything.
    pub(super) async fn tell(&self, stream: &mut impl Wire) {
        match self {
            Self::Drained => {
                stream.close_code().set(GOING_AWAY);
                part(stream, &[]).await;
            }
            Self::TooLarge(Some(answer)) | Self::Unfit(Some(answer)) => {
                part(stream, answer).await;
            }
            _ => {}
        }
    }
}

/// Reads CONNECT within its bounds, unless the gate drains before it is there.
pub(super) async fn receive(
    stream: &mut impl Wire,
    limits: &MqttLimits,
    drained: impl Future<Output = ()>,
) -> Result<Received, Missing> {
    tokio::select! {
        received = read(stream, limits) => received,
        () = drained => Err(Missing::Drained),
    }
}

async fn read(stream: &mut impl Wire, limits: &MqttLimits) -> Result<Received, Missing> {
    let deadline = Instant::now() + limits.connect_timeout.0;
    let most = usize::try_from(limits.connect_size.0).unwrap_or(usize::MAX);
    let mut packet = Vec::new();
    let whole = loop {
        if let Some(whole) = judge_start(&packet, most)? {
            break whole;
        }
        let read = timeout_at(deadline, stream.read_buf(&mut packet)).await;
        match read {
            Ok(Ok(1..)) => {}
            Ok(_) => return Err(Missing::Gone),
            Err(_) => return Err(Missing::Late),
        }
    };
    let rest = packet.split_off(whole);
    let version = version(&packet).ok().flatten();
    let connect = Connect::parse(packet);
    let connect = connect.map_err(|unfit| Missing::Unfit(tell_unfit(unfit, version)))?;
    Ok(Received { connect, rest })
}

/// How long the packet is whose start this is, once all of it is there.
fn judge_start(start: &[u8], most: usize) -> Result<Option<usize>, Missing> {
    let version = match version(start) {
        Ok(version) => version,
        Err(unfit) => return Err(Missing::Unfit(tell_unfit(unfit, None))),
    };
    let header = Header::parse(start).ok().flatten();
    let (Some(version), Some(header)) = (version, header) else {
        return Ok(None);
    };
    if header.whole() > most {
        return Err(Missing::TooLarge(answer::refuse_size(version)));
    }
    Ok((start.len() >= header.whole()).then(|| header.whole()))
}

fn tell_unfit(unfit: Unfit, version: Option<Version>) -> Option<Vec<u8>> {
    match unfit {
        Unfit::Broken => answer::refuse_broken(version?),
        Unfit::Level(level) => Some(answer::refuse_level(level)),
        Unfit::NoConnect => None,
    }
}

/// Says a last word and closes.
pub(super) async fn part(stream: &mut impl Wire, packet: &[u8]) {
    let parting = async {
        stream.write_all(packet).await?;
        stream.shutdown().await?;
        let mut unread = [0; 512];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(LAST_WORDS, parting).await;
}

pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);
