//! How do MQTT's bytes travel in a WebSocket (MQTT 5.0 section 6)? In binary messages, which need
//! not be aligned with packets: a frame is never collected, its bytes are passed on as they come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

use super::frame::{Head, Kind, Mask, Place, write};

/// The bytes within a WebSocket's frames. Pings and close frames are answered.
#[derive(Debug)]
pub(super) struct InFrames<S> {
    stream: BufReader<S>,
    place: Place,
    head: Head,
    /// Of the frame that is read.
    kind: Kind,
    mask: Mask,
    /// The bytes of it that are to come.
    left: u64,
    /// Whether its message goes on in another.
    is_fragmented: bool,
    /// What came of a control frame.
    control: Vec<u8>,
    /// The other end has said that nothing follows.
    has_ended: bool,
    /// What waits to be written, from there on.
    out: Vec<u8>,
    written: usize,
    has_closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> InFrames<S> {
    /// With a client.
    pub(super) fn with_client(stream: S) -> Self {
        Self::new(stream, Place::Server)
    }

    /// With an upstream.
    pub(super) fn with_upstream(stream: S) -> Self {
        Self::new(stream, Place::Client)
    }

    fn new(stream: S, place: Place) -> Self {
        Self {
            stream: BufReader::with_capacity(READ_BUFFER, stream),
            place,
            head: Head::default(),
            kind: Kind::Pong,
            mask: Mask::default(),
            left: 0,
            is_fragmented: false,
            control: Vec::new(),
            has_ended: false,
            out: Vec::new(),
            written: 0,
            has_closed: false,
        }
    }

    /// Reads to the payload of a frame with data; not if there is none any more.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.has_ended {
                return Poll::Ready(Ok(false));
            }
            if self.left > 0 && self.kind == Kind::Data {
                return Poll::Ready(Ok(true));
            }
            let there = ready!(Pin::new(&mut self.stream).poll_fill_buf(context))?;
            if there.is_empty() {
                self.has_ended = true;
                continue;
            }
            if self.left > 0 {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let count = left.min(there.len());
                self.control
                    .extend_from_slice(there.get(..count).unwrap_or_default());
                self.left -= count as u64;
                Pin::new(&mut self.stream).consume(count);
            } else {
                let count = self.head.take(there);
                Pin::new(&mut self.stream).consume(count);
                let Some(frame) = self.head.judge(self.place)? else {
                    continue;
                };
                self.head = Head::default();
                self.begin(frame.kind, frame.is_final, frame.is_continued)?;
                (self.mask, self.left) = (frame.mask, frame.length);
            }
            if self.left == 0 && self.kind != Kind::Data {
                self.heed(context)?;
            }
        }
    }

    /// A frame begins.
    fn begin(&mut self, kind: Kind, is_final: bool, is_continued: bool) -> io::Result<()> {
        if kind == Kind::Data {
            if is_continued != self.is_fragmented {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.is_fragmented = !is_final;
        }
        self.kind = kind;
        Ok(())
    }

    /// A control frame is whole.
    fn heed(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let mut payload = std::mem::take(&mut self.control);
        self.mask.apply(&mut payload);
        match self.kind {
            Kind::Close => {
                self.has_ended = true;
                self.say_close()?;
            }
            // One that takes no answers gets no more.
            Kind::Ping if !self.has_closed && self.out.len() < MOST_WAITING => {
                write(Kind::Pong, &payload, self.place, &mut self.out)?;
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
            write(Kind::Close, &NORMAL_CLOSURE, self.place, &mut self.out)?;
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

/// RFC 6455 section 7.4.1.
const NORMAL_CLOSURE: [u8; 2] = 1000_u16.to_be_bytes();
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
        if !ready!(this.poll_data(context))? || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let left = usize::try_from(this.left).unwrap_or(usize::MAX);
        let most = left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let bytes = part.filled_mut();
        this.mask.apply(bytes);
        let count = bytes.len();
        buffer.advance(count);
        // To end in the middle of a frame is an end, too: the packet in it is not whole either.
        this.has_ended |= count == 0;
        this.left -= count as u64;
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
        if this.has_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let bytes = bytes.get(..MOST_WRITTEN).unwrap_or(bytes);
        write(Kind::Data, bytes, this.place, &mut this.out)?;
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
        this.say_close()?;
        ready!(this.poll_out(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }
}
