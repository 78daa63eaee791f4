//! What does a CONNECT say (MQTT 5.0 section 3.1), and how does it read with other credentials?
//!
//! The codec judges every field; where each stands is found here, so that all that is not replaced
//! stays byte for byte: a codec would write properties in an order of its own.

use std::fmt;
use std::ops::Range;

use mqtt_proto::{Protocol, v3, v5};
use zeroize::Zeroizing;

use super::Version;
use super::packet::{Header, MOST_REMAINING, kind, variable, write_header};

/// Why a first packet is no CONNECT that can be answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is another packet, or another protocol: nothing can be answered.
    NoConnect,
    /// It is for a version that is not known, this one.
    Level(u8),
    /// It breaks the rules of its version.
    Broken,
}

/// A CONNECT, whole and judged.
pub(crate) struct Connect {
    packet: Vec<u8>,
    version: Version,
    /// Where the byte of flags stands.
    flags_at: usize,
    client_id: Range<usize>,
    /// Where what is replaced begins; it ends with the packet.
    credentials_at: usize,
    username: Option<Range<usize>>,
    password: Option<Range<usize>>,
    will_topic: Option<Range<usize>>,
    wish: Wish,
}

/// What the client wants of answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// The largest packet that it takes, in bytes.
    pub(crate) packet_size: Option<u32>,
    /// Whether it does without reason strings.
    pub(crate) is_terse: bool,
}

/// What a packet's first bytes say of its version; nothing if more of them are needed.
///
/// # Errors
/// [`Unfit`], if it is no CONNECT of a version that is known.
pub(crate) fn version(start: &[u8]) -> Result<Option<Version>, Unfit> {
    if start.first().is_some_and(|first| *first != FIRST) {
        return Err(Unfit::NoConnect);
    }
    let Some(header) = Header::parse(start).map_err(|_| Unfit::NoConnect)? else {
        return Ok(None);
    };
    let body = start.get(header.size..).unwrap_or_default();
    for (name, levels) in NAMES {
        let there = body.get(..name.len()).unwrap_or(body);
        if !name.starts_with(there) {
            continue;
        }
        let Some(level) = body.get(name.len()) else {
            return Ok(None);
        };
        // The highest bit marks a bridge, for Mosquitto's brokers among themselves.
        let known = levels.iter().find(|(known, _)| known == level);
        return known.map_or(Err(Unfit::Level(*level)), |(_, version)| Ok(Some(*version)));
    }
    Err(Unfit::NoConnect)
}

/// CONNECT's first byte; its flags are reserved and 0.
const FIRST: u8 = kind::CONNECT << 4;

/// A level of the protocol, and the version that it means.
type Level = (u8, Version);

/// Protocol names with their lengths, and the levels that they go with.
const NAMES: [(&[u8], &[Level]); 2] = [
    (b"\0\x04MQTT", &[(4, Version::V311), (5, Version::V5)]),
    (b"\0\x06MQIsdp", &[(3, Version::V31)]),
];

impl Connect {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(crate) fn parse(packet: Vec<u8>) -> Result<Self, Unfit> {
        let version = version(&packet)?.ok_or(Unfit::NoConnect)?;
        let header = Header::parse(&packet).ok().flatten();
        let header = header.filter(|header| header.whole() == packet.len());
        let header = header.ok_or(Unfit::NoConnect)?;
        let wish = judge(&packet, header, version).ok_or(Unfit::Broken)?;
        Self::find(packet, header, version, wish).ok_or(Unfit::Broken)
    }

    /// Finds where everything stands.
    fn find(packet: Vec<u8>, header: Header, version: Version, wish: Wish) -> Option<Self> {
        let mut reader = Reader {
            packet: &packet,
            at: header.size,
        };
        reader.field()?;
        reader.skip(1)?;
        let flags_at = reader.at;
        let flags = *packet.get(flags_at)?;
        if flags & RESERVED != 0 || !is_consistent(flags, version) {
            return None;
        }
        reader.skip(1 + KEEP_ALIVE)?;
        if version == Version::V5 {
            reader.properties()?;
        }
        let client_id = reader.text()?;
        let will_topic = match flags & WILL != 0 {
            true => Some(reader.will(version)?),
            false => None,
        };
        let credentials_at = reader.at;
        let username = match flags & USERNAME != 0 {
            true => Some(reader.text()?),
            false => None,
        };
        let password = match flags & PASSWORD != 0 {
            true => Some(reader.field()?),
            false => None,
        };
        if reader.at != packet.len() {
            return None;
        }
        Some(Self {
            version,
            flags_at,
            client_id,
            credentials_at,
            username,
            password,
            will_topic,
            wish,
            packet,
        })
    }

    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    pub(crate) const fn wish(&self) -> Wish {
        self.wish
    }

    /// The client identifier; empty if the upstream is to choose one.
    #[must_use]
    pub(crate) fn client_id(&self) -> &str {
        self.text(&self.client_id)
    }

    /// The user name.
    #[must_use]
    pub(crate) fn username(&self) -> Option<&str> {
        self.username.as_ref().map(|range| self.text(range))
    }

    /// The password.
    #[must_use]
    pub(crate) fn password(&self) -> Option<&[u8]> {
        let range = self.password.clone()?;
        self.packet.get(range)
    }

    /// Where the will message would be published.
    #[must_use]
    pub(crate) fn will_topic(&self) -> Option<&str> {
        self.will_topic.as_ref().map(|range| self.text(range))
    }

    fn text(&self, range: &Range<usize>) -> &str {
        let bytes = self.packet.get(range.clone()).unwrap_or_default();
        // It was judged as UTF-8.
        str::from_utf8(bytes).unwrap_or_default()
    }

    /// The packet as it came.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.packet
    }

    /// The packet with this user name and password instead of its own, or with none. Nothing if
    /// they are longer than a field can be.
    #[must_use]
    pub(crate) fn with_credentials(
        &self,
        pair: Option<(&str, &[u8])>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let header = Header::parse(&self.packet).ok().flatten()?;
        let mut flags = *self.packet.get(self.flags_at)? & !(USERNAME | PASSWORD);
        let mut credentials = Zeroizing::new(Vec::new());
        if let Some((username, password)) = pair {
            flags |= USERNAME | PASSWORD;
            for field in [username.as_bytes(), password] {
                let length = u16::try_from(field.len()).ok()?;
                credentials.extend_from_slice(&length.to_be_bytes());
                credentials.extend_from_slice(field);
            }
        }
        let before = self.packet.get(header.size..self.flags_at)?;
        let after = self.packet.get(self.flags_at + 1..self.credentials_at)?;
        let remaining = before.len() + 1 + after.len() + credentials.len();
        if remaining > MOST_REMAINING {
            return None;
        }
        let mut packet = Zeroizing::new(Vec::with_capacity(remaining + MOST_HEADER));
        write_header(header.first, remaining, &mut packet);
        packet.extend_from_slice(before);
        packet.push(flags);
        packet.extend_from_slice(after);
        packet.extend_from_slice(&credentials);
        Some(packet)
    }
}

/// Without the password, and all that only its bytes would tell.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id())
            .finish_non_exhaustive()
    }
}

/// Flags (section 3.1.2.3).
const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const RESERVED: u8 = 0x01;
const KEEP_ALIVE: usize = 2;
const MOST_HEADER: usize = 5;

/// Whether the flags go together.
const fn is_consistent(flags: u8, version: Version) -> bool {
    let has_will = flags & WILL != 0;
    if !has_will && flags & (WILL_RETAIN | WILL_QOS) != 0 || flags & WILL_QOS == WILL_QOS {
        return false;
    }
    // A password alone is MQTT 5.0's (section 3.1.2.9; in 3.1.1 MQTT-3.1.2-22).
    matches!(version, Version::V5) || flags & PASSWORD == 0 || flags & USERNAME != 0
}

/// What the codec says of it: nothing if it breaks a rule.
fn judge(packet: &[u8], header: Header, version: Version) -> Option<Wish> {
    let body = packet.get(header.size..)?;
    let mut end = 0;
    let wish = match version {
        Version::V31 | Version::V311 => {
            let connect = v3::Connect::decode(body, &mut end).ok()?;
            let is_same = (connect.protocol == Protocol::V310) == (version == Version::V31);
            is_same.then(Wish::default)?
        }
        Version::V5 => {
            let whole = u32::try_from(packet.len()).ok()?;
            let remaining = u32::try_from(header.remaining).ok()?;
            let header = v5::Header::new_with(header.first, remaining, whole).ok()?;
            let connect = v5::Connect::decode(body, &mut end, header).ok()?;
            let properties = connect.properties;
            // Sections 3.1.2.11.3, 3.1.2.11.4 and 3.1.2.11.10.
            if properties.receive_max == Some(0)
                || properties.max_packet_size == Some(0)
                || properties.auth_method.is_none() && properties.auth_data.is_some()
            {
                return None;
            }
            // Its own way of proving who it is would go past the gate's credentials.
            if properties.auth_method.is_some() {
                return None;
            }
            Wish {
                packet_size: properties.max_packet_size,
                is_terse: properties.request_problem_info == Some(false),
            }
        }
    };
    (end == body.len()).then_some(wish)
}

/// Walks over a packet's fields.
struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, count: usize) -> Option<Range<usize>> {
        let range = self.at..self.at.checked_add(count)?;
        self.packet.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }

    /// Bytes with their length before them.
    fn field(&mut self) -> Option<Range<usize>> {
        let length = self.skip(2)?;
        let length = <[u8; 2]>::try_from(self.packet.get(length)?).ok()?;
        self.skip(u16::from_be_bytes(length).into())
    }

    /// UTF-8 without U+0000 (section 1.5.4).
    fn text(&mut self) -> Option<Range<usize>> {
        let range = self.field()?;
        let text = str::from_utf8(self.packet.get(range.clone())?).ok()?;
        (!text.contains('\0')).then_some(range)
    }

    fn properties(&mut self) -> Option<()> {
        let rest = self.packet.get(self.at..)?;
        let (length, size) = variable(rest).ok().flatten()?;
        self.skip(size)?;
        self.skip(length).map(|_| ())
    }

    /// Passes over a will; its topic.
    fn will(&mut self, version: Version) -> Option<Range<usize>> {
        if version == Version::V5 {
            self.properties()?;
        }
        let topic = self.text()?;
        let text = self.packet.get(topic.clone())?;
        if text.is_empty() || text.contains(&b'+') || text.contains(&b'#') {
            return None;
        }
        self.field()?;
        Some(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::Connect;

    #[test]
    fn the_password_is_not_in_debug() {
        let connect = b"\x10\x15\0\x04MQTT\x04\xc2\0\x3c\0\x01a\0\x01b\0\x03key";
        let connect = Connect::parse(connect.to_vec()).unwrap();
        assert_eq!(connect.password(), Some(&b"key"[..]));
        let shown = "Connect { version: V311, client_id: \"a\", .. }";
        assert_eq!(format!("{connect:?}"), shown);
    }
}
