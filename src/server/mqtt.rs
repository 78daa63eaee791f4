//! How is a connection served on which MQTT is spoken?

use std::rc::Rc;

use super::LimitsConfig;
use super::connection::{cut_by, cut_for};
use super::guard::ConnectionGuard;
use super::peer::Peer;
use super::shed::Cut;
use crate::gate::Gate;
use crate::mqtt::{Entry, Missing};
use crate::patient::{Patient, Stall};
use crate::stream::Stream;

/// Serves MQTT over a connection of its own.
pub(super) async fn serve_mqtt(
    gate: Rc<Gate>,
    peer: Rc<Peer>,
    (stream, entry): (Stream, Entry),
    limits: &LimitsConfig,
    guard: ConnectionGuard,
) {
    let stall = Stall::default();
    let rate = limits.download_rate();
    let stream = Patient::new(stream, limits.send_timeout.0, rate, stall.clone());
    let serving = Rc::clone(&gate).serve_mqtt(Rc::clone(&peer), entry, stream, guard.request());
    let cut = match serving.await {
        None => cut_by(&stall),
        Some(Missing::Gone | Missing::Drained) => None,
        Some(Missing::Late) => Some(Cut::HeaderTimeout),
        Some(Missing::TooLarge(_)) => Some(Cut::HeadersTooLarge),
        Some(Missing::Unfit(_)) => Some(Cut::Malformed),
    };
    if let Some(cut) = cut {
        cut_for(&gate, &peer, cut);
    }
}
