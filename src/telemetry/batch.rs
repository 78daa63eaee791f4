//! How do log lines leave a worker cheaply? Many at a time: handing each one to the writing thread
//! would cost more than making it.
//!
//! Bounded: a batch is handed over at [`BATCH`] bytes or after [`BATCH_TIME`], and the writing
//! thread keeps at most [`WAITING`] of them; when it cannot keep up, whole batches are lost. A
//! process that is killed loses the batch that it was filling.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

const BATCH: usize = 16 * 1024;
const BATCH_TIME: Duration = Duration::from_millis(50);
const WAITING: usize = 1024;

thread_local! {
    static FILLING: RefCell<Option<Filling>> = const { RefCell::new(None) };
}

/// The batch that a thread fills; handed over when dropped, too.
struct Filling {
    bytes: Vec<u8>,
    wake: Rc<Notify>,
    writer: Option<NonBlocking>,
}

impl Filling {
    fn hand_over(&mut self) -> io::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if !self.bytes.is_empty() {
            writer.write_all(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = self.hand_over();
    }
}

/// Makes the log lines of this thread leave in batches, for as long as it is polled.
pub(crate) async fn batch_lines() {
    let wake = Rc::new(Notify::new());
    let filling = Filling {
        bytes: Vec::with_capacity(BATCH),
        wake: Rc::clone(&wake),
        writer: None,
    };
    FILLING.set(Some(filling));
    loop {
        wake.notified().await;
        sleep(BATCH_TIME).await;
        FILLING.with_borrow_mut(|filling| filling.as_mut().map(Filling::hand_over));
    }
}

/// Hands over what this thread has, and lets its later lines leave one by one.
pub(crate) fn end_batches() {
    FILLING.take();
}

/// Where log lines go.
#[derive(Clone, Debug)]
pub(super) struct Lines(NonBlocking);

impl Lines {
    /// Lines to standard error, written by a thread of its own until the guard is dropped.
    pub(super) fn to_stderr() -> (Self, WorkerGuard) {
        let builder = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING);
        let (writer, guard) = builder.finish(io::stderr());
        (Self(writer), guard)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// One line on its way.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a NonBlocking);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        FILLING.with_borrow_mut(|filling| match filling {
            None => self.0.clone().write(line),
            Some(filling) => {
                if filling.bytes.is_empty() {
                    filling.wake.notify_one();
                    filling.writer.get_or_insert_with(|| self.0.clone());
                }
                filling.bytes.extend_from_slice(line);
                if filling.bytes.len() >= BATCH {
                    filling.hand_over()?;
                }
                Ok(line.len())
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
