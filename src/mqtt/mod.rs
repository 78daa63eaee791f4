//! How does MQTT pass? The gate reads CONNECT, judges its token as any other, sends it on with the
//! upstream's credentials, and lets the packets flow.
//!
//! ```text
//! packet      where one packet ends and the next begins
//! connect     what CONNECT says, and the same with other credentials
//! answer      the gate's own packets, in the client's version
//! pattern     client ids and topics by claim
//! rules       may this principal publish and subscribe there?
//! websocket   MQTT's bytes in a WebSocket's frames, which `frame` reads and writes
//! upgrade     how a session begins over a WebSocket
//! receive     CONNECT, within its bounds
//! session     how one begins over plain TLS, and who is let in
//! reach       whether the upstream takes CONNECT
//! run         how long it lasts, and what is said at its end
//! shape       where a packet of the gate's own could stand
//! flow        the two directions while it lasts
//! forecast    what CONNECT would get, for people who wonder
//! ```

pub(crate) mod answer;
pub mod config;
pub(crate) mod connect;
mod flow;
pub(crate) mod forecast;
pub(crate) mod frame;
pub(crate) mod packet;
pub(crate) mod pattern;
mod reach;
mod receive;
pub(crate) mod rules;
mod run;
mod session;
pub(crate) mod shape;
pub(crate) mod subjects;
mod upgrade;
pub(crate) mod websocket;

pub(crate) use receive::Missing;
pub(crate) use session::Entry;
pub(crate) use upgrade::Pending;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 3.1: IBM and Eurotech, MQTT V3.1 Protocol Specification.
    V31,
    /// 3.1.1: OASIS Standard of 29 October 2014.
    V311,
    /// 5.0: OASIS Standard of 7 March 2019.
    V5,
}

impl Version {
    /// The label in logs and metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }
}
