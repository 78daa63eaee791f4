//! What came of every request: right, honestly refused, or wrong?

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::ground::Ground;
use crate::support::answer::Got;
use crate::support::chaos::body_of;

/// Whether something was asked that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Good,
    Hostile,
}

/// What came of a request that was judged right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Its own answer, whole.
    Own,
    /// 502, 503 or 504 while its upstream was dead or broken.
    Honest,
    /// The answer or the connection broke off while its upstream was dead or broken.
    BrokenOff,
    /// Refused, as it must be.
    Refused,
}

/// An upstream that was, or is, dead or broken on purpose.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) upstream: &'static str,
    pub(crate) how: String,
    pub(crate) start: Instant,
    pub(crate) end: Option<Instant>,
}

/// Something that happened at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) what: &'static str,
}

/// By side and kind, how many came to what.
pub(crate) type Counts = BTreeMap<(Side, &'static str), BTreeMap<Class, u64>>;

/// Counts, and all that was wrong.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) start: Instant,
    counts: Mutex<Counts>,
    wrong: Mutex<Vec<String>>,
    outages: Mutex<Vec<Outage>>,
    events: Mutex<Vec<Event>>,
    good: AtomicU64,
    hostile: AtomicU64,
    ids: AtomicU64,
    is_over: AtomicBool,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            counts: Mutex::default(),
            wrong: Mutex::default(),
            outages: Mutex::default(),
            events: Mutex::default(),
            good: AtomicU64::new(0),
            hostile: AtomicU64::new(0),
            ids: AtomicU64::new(1_000_000),
            is_over: AtomicBool::new(false),
        }
    }

    /// An id that no other request has.
    pub(crate) fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether traffic is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Counts what was right.
    pub(crate) fn right(&self, side: Side, kind: &'static str, class: Class) {
        match side {
            Side::Good => &self.good,
            Side::Hostile => &self.hostile,
        }
        .fetch_add(1, Ordering::Relaxed);
        let mut counts = self.counts.lock().unwrap();
        let of_kind = counts.entry((side, kind)).or_default();
        *of_kind.entry(class).or_default() += 1;
    }

    /// Keeps what was wrong.
    pub(crate) fn wrong(&self, kind: &str, what: &str) {
        let at = self.start.elapsed().as_secs_f64();
        let mut wrong = self.wrong.lock().unwrap();
        wrong.push(format!("{at:.1} s: {kind}: {what}"));
    }

    /// A condition on which a count depends.
    pub(crate) fn check(&self, side: Side, kind: &'static str, is_right: bool, what: &str) {
        match (is_right, side) {
            (true, Side::Good) => self.right(side, kind, Class::Own),
            (true, Side::Hostile) => self.right(side, kind, Class::Refused),
            (false, _) => self.wrong(kind, what),
        }
    }

    /// Judges the answer to a good request with this id, which began then.
    pub(crate) fn judge(&self, ground: &Ground, asked: &Asked, got: &Got) {
        let may_fail = self.was_out(asked.upstream, asked.began);
        let arrivals = ground.record.arrivals(asked.id);
        // What may be sent again is idempotent and without a body.
        let most = if asked.may_be_retried { 2 } else { 1 };
        let class = if arrivals > most {
            None
        } else {
            class(asked.id, got, may_fail)
        };
        match class {
            Some(Class::Own) if arrivals == 0 => {
                self.wrong(asked.kind, &format!("{} never arrived", asked.id));
            }
            Some(class) => self.right(Side::Good, asked.kind, class),
            None => {
                let took = asked.began.elapsed();
                let what = format!(
                    "{} of {} arrived {arrivals} times and after {took:?} got {got:.400?}",
                    asked.id, asked.upstream
                );
                self.wrong(asked.kind, &what);
            }
        }
    }

    /// Whether this upstream was dead or broken at any time since then.
    pub(crate) fn was_out(&self, upstream: &str, since: Instant) -> bool {
        let outages = self.outages.lock().unwrap();
        let of_it = outages.iter().filter(|outage| outage.upstream == upstream);
        of_it
            .rev()
            .any(|outage| outage.end.is_none_or(|end| end >= since))
    }

    /// Notes that an upstream fails from now on.
    pub(crate) fn out(&self, upstream: &'static str, how: String) {
        self.outages.lock().unwrap().push(Outage {
            upstream,
            how,
            start: Instant::now(),
            end: None,
        });
    }

    /// Notes that what failed last fails no more.
    pub(crate) fn back(&self) {
        if let Some(outage) = self.outages.lock().unwrap().last_mut() {
            outage.end = Some(Instant::now());
        }
    }

    pub(crate) fn happened(&self, what: &'static str) {
        let at = Instant::now();
        self.events.lock().unwrap().push(Event { at, what });
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn outages(&self) -> Vec<Outage> {
        self.outages.lock().unwrap().clone()
    }

    /// All that was wrong.
    pub(crate) fn all_wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// By side and kind, how many came to what.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    /// Good and hostile requests so far that were answered as they must be.
    pub(crate) fn totals(&self) -> [u64; 2] {
        [&self.good, &self.hostile].map(|count| count.load(Ordering::Relaxed))
    }
}

/// One good request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) kind: &'static str,
    pub(crate) upstream: &'static str,
    pub(crate) id: u64,
    pub(crate) may_be_retried: bool,
    pub(crate) began: Instant,
}

/// What a good request may get.
fn class(id: u64, got: &Got, may_fail: bool) -> Option<Class> {
    let Got::Answer {
        status,
        own,
        body,
        is_whole,
    } = got
    else {
        return may_fail.then_some(Class::BrokenOff);
    };
    let is_own = *own == Some(id.to_string());
    match (status, is_whole) {
        (200, true) if is_own && *body == body_of(id) => Some(Class::Own),
        (200, false) if may_fail && is_own && body_of(id).starts_with(body.as_str()) => {
            Some(Class::BrokenOff)
        }
        (503, true) if may_fail && is_own && body.is_empty() => Some(Class::Honest),
        (502..=504, true) if may_fail && own.is_none() && !body.contains('<') => {
            Some(Class::Honest)
        }
        _ => None,
    }
}
