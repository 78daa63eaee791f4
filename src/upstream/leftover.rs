//! What becomes of a request's body that is still coming when its response has ended?

use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::task::spawn_local;
use tokio::time::{Instant as Deadline, sleep_until, timeout};

use super::body::{RequestBody, Upload};
use crate::clock;

/// Reads what is left of a request's body when its response has ended, so that the connection can
/// go on: a client that is still sending would otherwise see a reset instead of the response.
/// Stops after 256 KiB or two seconds.
///
/// An upload that the upstream is still taking is left to it, as long as the client keeps its rate.
pub fn drain(upload: Rc<Upload>) {
    if Rc::strong_count(&upload) > 1 {
        if upload.has_pace() {
            spawn_local(hurry(Rc::downgrade(&upload)));
        }
        return;
    }
    let body = RequestBody(upload);
    if body.is_end_stream() {
        return;
    }
    spawn_local(timeout(DRAIN_TIME, async move {
        let mut body = body;
        let mut left = MAX_DRAIN;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }));
}

/// Gives an upload up if its client falls silent.
async fn hurry(upload: Weak<Upload>) {
    while let Some(held) = upload.upgrade() {
        let now = clock::now();
        let due = held.due().unwrap_or(now + HURRY_PAUSE);
        if due <= now {
            held.give_up();
            return;
        }
        drop(held);
        sleep_until(Deadline::from_std(due)).await;
    }
}

const HURRY_PAUSE: Duration = Duration::from_secs(1);
const MAX_DRAIN: usize = 256 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);
