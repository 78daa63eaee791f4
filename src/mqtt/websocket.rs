//! How do MQTT's bytes travel in a WebSocket (MQTT 5.0 section 6)? In binary messages, which need
//! not be aligned with packets: a frame is never collected, its bytes are passed on as they come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

use std::cell::Cell;
use std::rc::Rc;

use super::frame::{Frames, Kind, Place, write};
use super::receive::Wire;

/// The bytes within a WebSocket's frames. Pings and close frames are answered.
#[derive(Debug)]
pub(crate) struct InFrames<S> {
    stream: BufReader<S>,
    frames: Frames,
    /// What came of a control frame.
    control: Vec<u8>,
    /// The other end has said that nothing follows.
    has_ended: bool,
    /// What waits to be written, from there on.
    out: Vec<u8>,
    written: usize,
    has_closed: bool,
    /// What a close frame says, when it is the gate's.
    code: Rc<Cell<u16>>,
    /// Whether its bytes are those of the frames.
    is_bare: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> InFrames<S> {
    /// With a client.
    pub(crate) fn with_client(stream: S) -> Self {
        Self::new(stream, Place::Server)
    }

    /// With an upstream.
    pub(crate) fn with_upstream(stream: S) -> Self {
        Self::new(stream, Place::Client)
    }

    fn new(stream: S, place: Place) -> Self {
        Self {
            stream: BufReader::with_capacity(READ_BUFFER, stream),
            frames: Frames::new(place),
            control: Vec::new(),
            has_ended: false,
            out: Vec::new(),
            written: 0,
            has_closed: false,
            code: Rc::new(Cell::new(NORMAL_CLOSURE)),
            is_bare: false,
        }
    }

    /// Reads to the payload of a frame with data; not if there is none any more.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.has_ended {
                return Poll::Ready(Ok(false));
            }
            if self.frames.left > 0 && self.frames.kind == Kind::Data {
                return Poll::Ready(Ok(true));
            }
            let there = ready!(Pin::new(&mut self.stream).poll_fill_buf(context))?;
            if there.is_empty() {
                self.has_ended = true;
                continue;
            }
            let (count, is_begun) = if self.frames.left > 0 {
                let left = usize::try_from(self.frames.left).unwrap_or(usize::MAX);
                let count = left.min(there.len());
                self.control
                    .extend_from_slice(there.get(..count).unwrap_or_default());
                self.frames.left -= count as u64;
                (count, true)
            } else {
                self.frames.take_head(there)?
            };
            Pin::new(&mut self.stream).consume(count);
            if is_begun && self.frames.left == 0 && self.frames.kind != Kind::Data {
                self.heed(context)?;
            }
        }
    }

    /// A control frame is whole.
    fn heed(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let mut payload = std::mem::take(&mut self.control);
        self.frames.mask.apply(&mut payload);
        match self.frames.kind {
            Kind::Close => {
                self.has_ended = true;
                self.say_close()?;
            }
            // One that takes no answers gets no more.
            Kind::Ping if !self.has_closed && self.out.len() < MOST_WAITING => {
                write(Kind::Pong, &payload, self.frames.place, &mut self.out)?;
            }
            Kind::Data | Kind::Ping | Kind::Pong => {}
        }
        // Whoever writes next writes what is left.
        match self.poll_out(context) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(()),
        }
    }

    fn say_close(&mut self) -> io::Result<()> {
        if !self.has_closed {
            let code = self.code.get().to_be_bytes();
            write(Kind::Close, &code, self.frames.place, &mut self.out)?;
            self.has_closed = true;
        }
        Ok(())
    }

    /// Writes what waits.
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.written = 0;
        match self.out.capacity() > KEPT {
            true => self.out = Vec::new(),
            false => self.out.clear(),
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for InFrames<S> {
    fn is_between_frames(&self) -> bool {
        let is_quiet = self.out.is_empty() && !self.has_ended && !self.has_closed;
        is_quiet && !self.is_bare && self.frames.is_between_messages()
    }

    fn show_frames(&mut self) {
        self.is_bare = true;
    }

    fn close_code(&self) -> Rc<Cell<u16>> {
        Rc::clone(&self.code)
    }
}

/// RFC 6455 section 7.4.1.
pub(super) const NORMAL_CLOSURE: u16 = 1000;
/// Holds a head, and with it what is small; larger payloads are read past it.
const READ_BUFFER: usize = 512;
/// The most that is put into one frame, in bytes.
const MOST_WRITTEN: usize = 64 * 1024;
/// What may wait for an end that is to get a pong besides, in bytes.
const MOST_WAITING: usize = 1024;
/// The room that is kept for what is written next, in bytes.
const KEPT: usize = 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for InFrames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_bare {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        if !ready!(this.poll_data(context))? || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let left = usize::try_from(this.frames.left).unwrap_or(usize::MAX);
        let most = left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let bytes = part.filled_mut();
        this.frames.mask.apply(bytes);
        let count = bytes.len();
        buffer.advance(count);
        // To end in the middle of a frame is an end, too: the packet in it is not whole either.
        this.has_ended |= count == 0;
        this.frames.left -= count as u64;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for InFrames<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(context))?;
        if this.is_bare {
            return Pin::new(&mut this.stream).poll_write(context, bytes);
        }
        if this.has_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let bytes = bytes.get(..MOST_WRITTEN).unwrap_or(bytes);
        write(Kind::Data, bytes, this.frames.place, &mut this.out)?;
        // They are taken, whether or not they can be written at once.
        if let Poll::Ready(written) = this.poll_out(context) {
            written?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    /// Says that nothing follows; the other end says the same, and is then at its end.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_bare {
            this.say_close()?;
        }
        ready!(this.poll_out(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }
}
