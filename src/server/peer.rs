//! Who asks: who is connected, or whom a trusted proxy names?

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::{IpNet, Ipv4Net};

use crate::config::problem::Problems;
use crate::forward_auth::ForwardAuthConfig;

/// Who asks, over what, and where it came in.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub address: IpAddr,
    /// The same as a header's value.
    pub text: HeaderValue,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Where it came in.
    pub entrance: Rc<Entrance>,
}

/// What one worker has to know of a listener for each request.
#[derive(Debug)]
pub struct Entrance {
    /// The listener's name.
    pub listener: String,
    /// Whose word counts about who asks.
    pub proxies: TrustedProxies,
    /// Where nothing is answered but another proxy's questions.
    pub forward_auth: Option<ForwardAuthConfig>,
}

impl Peer {
    /// Whoever is connected.
    #[must_use]
    pub fn connected(address: IpAddr, scheme: &'static str, entrance: Rc<Entrance>) -> Rc<Self> {
        Rc::new(Self {
            text: text_of(address),
            address,
            scheme,
            entrance,
        })
    }

    /// The client that the headers name if a trusted proxy is connected, else who is connected.
    ///
    /// `X-Forwarded-For` is read from its end, where the nearest proxy writes: the client is the
    /// first address that is no trusted proxy. What stands left of it, or of an entry that is no
    /// address, anybody may have written.
    #[must_use]
    pub fn behind_proxies(self: Rc<Self>, headers: &HeaderMap) -> Rc<Self> {
        if !self.entrance.proxies.hold(self.address) {
            return self;
        }
        let mut named = Self::clone(&self);
        if let Some(scheme) = forwarded_scheme(headers) {
            named.scheme = scheme;
        }
        let entries = headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            .rev()
            .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        for entry in entries {
            let Some(address) = parse_entry(entry) else {
                break;
            };
            named.address = address;
            if !self.entrance.proxies.hold(address) {
                break;
            }
        }
        named.text = text_of(named.address);
        Rc::new(named)
    }
}

fn text_of(address: IpAddr) -> HeaderValue {
    // An address is always a valid header value.
    HeaderValue::try_from(address.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

fn forwarded_scheme(headers: &HeaderMap) -> Option<&'static str> {
    let mut values = headers.get_all(X_FORWARDED_PROTO).iter();
    match (values.next()?.as_bytes(), values.next()) {
        // Traefik names a WebSocket's own scheme.
        (b"http" | b"ws", None) => Some("http"),
        (b"https" | b"wss", None) => Some("https"),
        _ => None,
    }
}

/// An address, with or without the port that some proxies write.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim_ascii();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => text
            .parse()
            .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
            .ok()?,
    };
    Some(address.to_canonical())
}

/// Networks of proxies whose word counts about who asks.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads networks, or single addresses; notes every problem.
    pub(crate) fn build(
        texts: &[String],
        trusts_everyone: bool,
        at: &str,
        problems: &mut Problems,
    ) -> Self {
        let mut networks = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let at = format!("{at}.trusted_proxies[{index}]");
            let Some(network) = parse_network(text) else {
                let text = format_args!(
                    "`{text}` is not a network or address, such as 10.1.0.0/16 or 2001:db8::/32"
                );
                problems.add(at, text);
                continue;
            };
            let shortest = match network {
                IpNet::V4(_) => SHORTEST_V4,
                IpNet::V6(_) => SHORTEST_V6,
            };
            if network.prefix_len() < shortest && !trusts_everyone {
                let text = format_args!(
                    "`{text}` trusts the headers of whoever connects, so that anybody can pass for any address: name the proxies' own networks (at least /{SHORTEST_V4}, for IPv6 /{SHORTEST_V6}), or say `danger_trust_everyone: true` on the listener"
                );
                problems.add(at, text);
            }
            networks.push(network);
        }
        Self(networks)
    }

    pub(crate) fn hold(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The shortest prefixes that can be an operator's own network.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 16;

/// A network; one of IPv4-mapped addresses counts as one of IPv4, as such peers do.
fn parse_network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let mapped = match network {
        IpNet::V6(network) => network
            .prefix_len()
            .checked_sub(MAPPED)
            .zip(network.network().to_ipv4_mapped()),
        IpNet::V4(_) => None,
    };
    match mapped {
        Some((length, address)) => Ipv4Net::new(address, length).ok().map(IpNet::V4),
        None => Some(network),
    }
}

/// The length of the prefix of IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

#[cfg(test)]
mod tests {
    use super::{parse_entry, parse_network};

    #[test]
    fn entries_are_addresses_in_the_spellings_of_proxies() {
        for (entry, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            (" 192.0.2.1\t", Some("192.0.2.1")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:80", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("", None),
            ("unknown", None),
            ("_hidden", None),
            ("192.0.2", None),
            ("192.0.2.01", None),
            ("[192.0.2.1]", None),
            ("192.0.2.1;", None),
            ("\u{e4}", None),
        ] {
            let parsed = parse_entry(entry.as_bytes()).map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), address, "{entry}");
        }
        assert_eq!(parse_entry(b"\xff"), None);
    }

    #[test]
    fn networks_of_mapped_addresses_are_those_of_ipv4() {
        for (text, network) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:10.0.0.1", Some("10.0.0.1/32")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("10.0.0.0/33", None),
            ("proxy.example", None),
            ("", None),
        ] {
            let parsed = parse_network(text).map(|network| network.to_string());
            assert_eq!(parsed.as_deref(), network, "{text}");
        }
    }
}
