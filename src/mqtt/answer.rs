//! What does the gate say itself, in the client's version?

use super::Version;
use super::connect::Wish;
use super::packet::{kind, write_header, write_variable};
use crate::refusal::Reason;

/// Why a session ends, for a client of MQTT 5.0 (section 3.14.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// It broke a rule of the protocol.
    ProtocolError,
    /// It published where it may not.
    NotAuthorized,
    /// The gate goes down.
    ShuttingDown,
    /// It sent a larger packet than it may.
    PacketTooLarge,
    /// Its token was revoked.
    AdministrativeAction,
    /// Its token has expired.
    MaximumConnectTime,
}

impl Goodbye {
    const fn code(self) -> u8 {
        match self {
            Self::ProtocolError => 0x82,
            Self::NotAuthorized => 0x87,
            Self::ShuttingDown => 0x8b,
            Self::PacketTooLarge => 0x95,
            Self::AdministrativeAction => 0x98,
            Self::MaximumConnectTime => 0xa0,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::ProtocolError => "A packet breaks the protocol.",
            Self::NotAuthorized => "The topic is not allowed.",
            Self::ShuttingDown => "The gate is shutting down.",
            Self::PacketTooLarge => "A packet is too large.",
            Self::AdministrativeAction => "The token has been revoked.",
            Self::MaximumConnectTime => "The token has expired.",
        }
    }

    /// DISCONNECT (section 3.14). A server of earlier versions has none: it closes.
    pub(crate) fn disconnect(self, version: Version, wish: Wish) -> Option<Vec<u8>> {
        let is_known = version == Version::V5;
        is_known.then(|| told(kind::DISCONNECT, &[self.code()], self.text(), wish))
    }
}

/// CONNACK (section 3.2) that refuses, with the reason's safe text where the version has a place
/// for it.
pub(crate) fn refuse(version: Version, reason: Reason, wish: Wish) -> Vec<u8> {
    match version {
        Version::V31 | Version::V311 => old_connack(return_code(reason)),
        Version::V5 => told(
            kind::CONNACK,
            &[0, reason_code(reason)],
            reason.text(),
            wish,
        ),
    }
}

/// CONNACK for a client of a version that is not known: of one that is older than 5.0, or newer. A
/// bridge of Mosquitto's that marks itself as one tries again without the mark once it is told so as
/// older clients are (`try_private` in mosquitto.conf(5)).
pub(crate) fn refuse_level(level: u8) -> Vec<u8> {
    match level > NEWEST && level & !BRIDGE > NEWEST {
        false => old_connack(1),
        true => {
            let text = "This version of the protocol is not supported.";
            told(kind::CONNACK, &[0, 0x84], text, Wish::default())
        }
    }
}

const NEWEST: u8 = 5;
const BRIDGE: u8 = 0x80;

/// CONNACK for one that is too large to be read.
pub(crate) fn refuse_size(version: Version) -> Option<Vec<u8>> {
    let text = Goodbye::PacketTooLarge.text();
    let is_known = version == Version::V5;
    is_known.then(|| told(kind::CONNACK, &[0, 0x95], text, Wish::default()))
}

/// CONNACK for one that breaks a rule. Earlier versions have none: they close.
pub(crate) fn refuse_broken(version: Version) -> Option<Vec<u8>> {
    let text = "The packet is malformed.";
    let is_known = version == Version::V5;
    is_known.then(|| told(kind::CONNACK, &[0, 0x81], text, Wish::default()))
}

fn old_connack(code: u8) -> Vec<u8> {
    vec![kind::CONNACK << 4, 2, 0, code]
}

/// Return codes of 3.1 and 3.1.1 (section 3.2.2.3 there).
pub(super) const fn return_code(reason: Reason) -> u8 {
    match reason {
        Reason::ClientIdNotAllowed => 2,
        Reason::TooManySessions => 3,
        reason => match reason.status().as_u16() {
            401 => 4,
            500.. => 3,
            _ => 5,
        },
    }
}

/// Reason codes of 5.0 (section 3.2.2.2).
pub(super) const fn reason_code(reason: Reason) -> u8 {
    match reason {
        Reason::ClientIdNotAllowed => 0x85,
        Reason::TooManySessions => 0x97,
        Reason::Internal => 0x80,
        Reason::KeysUnavailable | Reason::Overloaded | Reason::StoreUnavailable => 0x89,
        reason => match reason.status().as_u16() {
            401 => 0x86,
            500.. => 0x88,
            _ => 0x87,
        },
    }
}

/// Whether an upstream's CONNACK refuses the credentials that it got: the first bytes of its body
/// are flags and a code in every version.
pub(crate) const fn refuses_credential(version: Version, code: u8) -> bool {
    match version {
        Version::V31 | Version::V311 => matches!(code, 4 | 5),
        Version::V5 => matches!(code, 0x86 | 0x87 | 0x8c),
    }
}

/// PUBACK or PUBREC (sections 3.4 and 3.5) that refuses a message of 5.0.
pub(crate) fn refuse_message(acknowledgement: u8, id: [u8; 2]) -> Vec<u8> {
    let [high, low] = id;
    vec![acknowledgement << 4, 3, high, low, NOT_AUTHORIZED]
}

/// SUBACK (section 3.9) that refuses so many filters. 3.1 has no code for it.
pub(crate) fn refuse_filters(version: Version, id: [u8; 2], count: usize) -> Option<Vec<u8>> {
    let mut packet = Vec::new();
    let code = match version {
        Version::V31 => return None,
        Version::V311 => {
            write_header(kind::SUBACK << 4, 2 + count, &mut packet);
            packet.extend_from_slice(&id);
            FAILURE
        }
        Version::V5 => {
            write_header(kind::SUBACK << 4, 3 + count, &mut packet);
            packet.extend_from_slice(&id);
            packet.push(0);
            NOT_AUTHORIZED
        }
    };
    packet.resize(packet.len() + count, code);
    Some(packet)
}

const NOT_AUTHORIZED: u8 = 0x87;
const FAILURE: u8 = 0x80;

/// A packet of 5.0 with these first bytes, and a reason string if the client wants one and takes
/// so large a packet.
fn told(kind: u8, start: &[u8], text: &str, wish: Wish) -> Vec<u8> {
    let with = |properties: &[u8]| {
        let mut body = start.to_vec();
        write_variable(properties.len(), &mut body);
        body.extend_from_slice(properties);
        let mut packet = Vec::new();
        write_header(kind << 4, body.len(), &mut packet);
        packet.append(&mut body);
        packet
    };
    if wish.is_terse {
        return with(&[]);
    }
    let mut properties = vec![REASON_STRING];
    let length = u16::try_from(text.len()).unwrap_or_default();
    properties.extend_from_slice(&length.to_be_bytes());
    properties.extend_from_slice(text.as_bytes());
    let packet = with(&properties);
    let most = wish.packet_size.map_or(usize::MAX, |most| most as usize);
    match packet.len() <= most {
        true => packet,
        false => with(&[]),
    }
}

/// Section 3.2.2.3.9.
const REASON_STRING: u8 = 0x1f;
