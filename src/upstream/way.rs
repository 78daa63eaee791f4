//! How do the bytes of a WebSocket get from one end to the other, and the gate's own last frame in
//! between? One direction.

use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::websocket::{Frames, close};

/// What is read from.
pub(super) trait Reads: AsyncRead + Unpin {}
impl<T: AsyncRead + Unpin> Reads for T {}
/// What is written to.
pub(super) trait Writes: AsyncWrite + Unpin {}
impl<T: AsyncWrite + Unpin> Writes for T {}

/// Whether frames are masked: those to a server are (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug)]
pub(super) enum Towards {
    Client,
    Server,
}

/// One direction. Its futures may be dropped at any time: what was read is kept for the next one.
#[derive(Debug)]
pub(super) struct Way<R, W> {
    from: R,
    pub(super) to: W,
    towards: Towards,
    buffer: Box<[u8]>,
    /// What of the buffer was read, and not written yet.
    held: Range<usize>,
    /// Of what was written.
    frames: Frames,
}

impl<R: Reads, W: Writes> Way<R, W> {
    pub(super) fn new(from: R, to: W, towards: Towards) -> Self {
        Self {
            from,
            to,
            towards,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            held: 0..0,
            frames: Frames::default(),
        }
    }

    /// Copies until the source ends, and says so to the other end.
    pub(super) async fn copy(&mut self) -> io::Result<()> {
        let mut copied = Ok(());
        while copied.is_ok() && self.fill().await? {
            copied = self.write(Part::All).await;
        }
        self.to.shutdown().await?;
        copied
    }

    /// Copies until the source ends or a close frame has passed.
    pub(super) async fn copy_to_close(&mut self) -> io::Result<()> {
        while !self.frames.has_closed() && self.fill().await? {
            self.write(Part::Frame).await?;
        }
        Ok(())
    }

    /// Copies to the end of the frame that is on the way, if there is one.
    pub(super) async fn finish_frame(&mut self) -> io::Result<()> {
        while !self.frames.takes_another() && !self.frames.has_closed() && self.fill().await? {
            self.write(Part::Frame).await?;
        }
        Ok(())
    }

    /// Puts a close frame in, if it has a place here.
    pub(super) async fn close(&mut self, code: u16, reason: &'static str) -> io::Result<()> {
        if !self.frames.takes_another() {
            return Ok(());
        }
        let mask = match self.towards {
            Towards::Client => None,
            Towards::Server => {
                let mut mask = [0; 4];
                aws_lc_rs::rand::fill(&mut mask).map_err(io::Error::other)?;
                Some(mask)
            }
        };
        let frame = close(code, reason, mask);
        // Even if the rest cannot be written, nothing may follow.
        self.frames.pass(&frame);
        self.to.write_all(&frame).await?;
        self.to.flush().await
    }

    /// Reads to the end, and passes nothing on.
    pub(super) async fn drop_all(&mut self) -> io::Result<()> {
        while self.from.read(&mut self.buffer).await? > 0 {}
        Ok(())
    }

    /// What was read so far, written or not.
    pub(super) fn heard(&self) -> Frames {
        let mut heard = self.frames.clone();
        heard.pass(self.buffer.get(self.held.clone()).unwrap_or_default());
        heard
    }

    /// Reads to the source's close frame, or to its end, and passes nothing on.
    pub(super) async fn drop_to_close(&mut self, mut heard: Frames) -> io::Result<()> {
        while !heard.has_closed() {
            let count = self.from.read(&mut self.buffer).await?;
            if count == 0 {
                break;
            }
            heard.pass(self.buffer.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    /// Has something to write. Not if the source has ended.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.held.is_empty() {
            let count = self.from.read(&mut self.buffer).await?;
            self.held = 0..count;
        }
        Ok(!self.held.is_empty())
    }

    /// Writes what is held, or of that what belongs to the frame that is on the way.
    async fn write(&mut self, part: Part) -> io::Result<()> {
        let held = self.buffer.get(self.held.clone()).unwrap_or_default();
        let mut left = match part {
            Part::All => held.len(),
            Part::Frame => self.frames.clone().advance(held),
        };
        while left > 0 {
            let end = self.held.start + left;
            let bytes = self.buffer.get(self.held.start..end).unwrap_or_default();
            let count = self.to.write(bytes).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.frames.pass(bytes.get(..count).unwrap_or_default());
            self.held.start += count;
            left -= count;
        }
        self.to.flush().await
    }
}

/// How much is written.
#[derive(Clone, Copy)]
enum Part {
    All,
    Frame,
}

/// As much as tokio's own copying takes, in bytes.
const BUFFER: usize = 8 * 1024;
