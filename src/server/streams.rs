//! Which HTTP/2 streams does a client keep waiting, by windows that it shuts or hardly opens?
//!
//! hyper asks a body for its next frame only once the stream has room for it. A body that gave a
//! frame and is not asked again waits for its client; how long, is seen by looking now and then,
//! so that a frame costs no look at the clock. Only the stream ends, by its task: h2 resets it
//! with CANCEL, behind what it had taken already, which the client may fetch at its leisure.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use slab::Slab;
use tokio::task::AbortHandle;

use crate::pace::{Pace, Rate};

/// One connection's streams whose requests are under way.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: RefCell<Slab<Stream>>,
    /// The one that began last, until its task is known.
    newest: Cell<Option<usize>>,
}

#[derive(Debug)]
struct Stream {
    task: Option<AbortHandle>,
    pace: Pace,
    /// The length of the frame that the client has to take, in bytes.
    given: Option<usize>,
    /// What it took since the last look, in bytes.
    taken: u64,
    has_got_on: bool,
    was_waiting: bool,
    /// For how long nothing was taken.
    still: Duration,
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// So many streams took nothing for too long, and were ended.
    pub(super) silent: usize,
    /// So many took too little, and were ended.
    pub(super) slow: usize,
    /// No other stream is left.
    pub(super) is_all: bool,
}

impl Streams {
    /// A stream begins; what it gives tells it apart until [`Streams::ended`].
    pub(super) fn begun(&self, rate: Rate) -> usize {
        let place = self.places.borrow_mut().insert(Stream {
            task: None,
            pace: Pace::new(rate),
            given: None,
            taken: 0,
            has_got_on: false,
            was_waiting: false,
            still: Duration::ZERO,
        });
        self.newest.set(Some(place));
        place
    }

    /// The stream that began last runs in this task.
    pub(super) fn runs_in(&self, task: AbortHandle) {
        self.with(self.newest.take(), |stream| stream.task = Some(task));
    }

    /// A stream's body gave a frame of this length.
    pub(super) fn gave(&self, place: usize, length: usize) {
        self.with(Some(place), |stream| stream.given = Some(length));
    }

    /// The client took it.
    pub(super) fn was_taken(&self, place: usize) {
        self.with(Some(place), |stream| {
            let length = stream.given.take().unwrap_or_default();
            stream.taken = stream.taken.saturating_add(length as u64);
            stream.has_got_on = true;
        });
    }

    /// A stream has ended.
    pub(super) fn ended(&self, place: usize) {
        self.places.borrow_mut().try_remove(place);
    }

    /// Ends the streams whose clients take nothing for `limit`, if it is any time, or too little.
    /// `span` has passed since the last look; without it the whole connection waited for the
    /// client, and it is not told by the streams.
    pub(super) fn look(&self, span: Option<Duration>, limit: Duration) -> Found {
        let mut places = self.places.borrow_mut();
        let waiting = places.iter().filter(|(_, stream)| stream.given.is_some());
        // The connection's rate is shared by all that wait for it.
        let sharing = u32::try_from(waiting.count()).unwrap_or(u32::MAX).max(1);
        let mut found = Found::default();
        for (_, stream) in places.iter_mut() {
            let keeps_pace = stream.looked_at(span.unwrap_or_default(), sharing);
            let is_silent = !limit.is_zero() && stream.still >= limit;
            if keeps_pace && !is_silent {
                continue;
            }
            if let Some(task) = stream.task.take() {
                task.abort();
                let count = if is_silent {
                    &mut found.silent
                } else {
                    &mut found.slow
                };
                *count += 1;
            }
        }
        found.is_all = found.silent + found.slow == places.len();
        found
    }

    fn with(&self, place: Option<usize>, change: impl FnOnce(&mut Stream)) {
        let mut places = self.places.borrow_mut();
        if let Some(stream) = place.and_then(|place| places.get_mut(place)) {
            change(stream);
        }
    }
}

impl Stream {
    /// Whether it keeps pace.
    fn looked_at(&mut self, span: Duration, sharing: u32) -> bool {
        let is_waiting = self.given.is_some();
        let has_waited = is_waiting && self.was_waiting;
        self.still = if has_waited && !self.has_got_on {
            self.still.saturating_add(span)
        } else {
            Duration::ZERO
        };
        self.pace.got_on(self.taken);
        let keeps_pace = !has_waited || self.pace.waited(span / sharing);
        (self.was_waiting, self.has_got_on, self.taken) = (is_waiting, false, 0);
        keeps_pace
    }
}
