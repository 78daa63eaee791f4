//! Is nobody believed about who asks but a trusted proxy?
//!
//! The first line is the trusted networks, with commas; the second who is connected; the others
//! are header fields.

#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http::{Method, Uri};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use tollgate::fuzzing::read_networks;
use tollgate::server::peer::{Entrance, Peer};

mod shared;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut text = || str::from_utf8(lines.next()?).ok();
    let (Some(networks), Some(address)) = (text(), text()) else {
        return;
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return;
    };
    let address = address.to_canonical();
    let networks = networks.split(',').filter(|text| !text.is_empty());
    let networks = Vec::from_iter(networks.map(str::to_owned));
    let Some(proxies) = read_networks(&networks) else {
        return;
    };
    let lines = Vec::from_iter(lines);
    let head = shared::head(&Method::GET, Uri::from_static("/"), &lines);
    let listener = "public".to_owned();
    let connected = Peer::connected(
        address,
        "http",
        Rc::new(Entrance {
            listener,
            proxies,
            forward_auth: None,
        }),
    );
    let peer = connected.behind_proxies(&head.headers);

    let values = head.headers.get_all("x-forwarded-for").iter();
    let values = Vec::from_iter(values.map(|value| value.as_bytes()));
    assert_eq!(peer.address, client(address, &networks, &values));
    assert_eq!(peer.text.to_str().ok(), Some(&*peer.address.to_string()));
    let said = Vec::from_iter(head.headers.get_all("x-forwarded-proto"));
    let is_https = said == ["https"] || said == ["wss"];
    let is_told = is_trusted(address, &networks) && is_https;
    assert_eq!(peer.scheme, if is_told { "https" } else { "http" });
});

/// Who asks, found the naive way.
fn client(connected: IpAddr, networks: &[String], values: &[&[u8]]) -> IpAddr {
    let mut chain = vec![Some(connected)];
    let joined = values.join(&b','.clone());
    if !values.is_empty() {
        let mut entries = Vec::from_iter(joined.split(|byte| *byte == b','));
        entries.reverse();
        chain.extend(entries.into_iter().map(entry));
    }
    let mut client = connected;
    for hop in chain {
        match hop {
            Some(address) => client = address,
            None => break,
        }
        if !is_trusted(client, networks) {
            break;
        }
    }
    client
}

fn entry(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim_ascii();
    let in_brackets = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match (in_brackets, text.parse::<SocketAddr>()) {
        (Some(text), _) => IpAddr::V6(text.parse().ok()?),
        (None, Ok(socket)) => socket.ip(),
        (None, Err(_)) => text.parse().ok()?,
    };
    Some(address.to_canonical())
}

fn is_trusted(address: IpAddr, networks: &[String]) -> bool {
    networks.iter().any(|text| {
        let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network: Option<IpNet> = text.parse().ok().or_else(single);
        let network = network.expect("a network");
        // An IPv4 address is its mapped IPv6 address, and the reverse.
        let mapped = match address {
            IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
            IpAddr::V6(_) => address,
        };
        let is_mapped = matches!(network, IpNet::V6(network)
            if network.prefix_len() >= 96 && network.network().to_ipv4_mapped().is_some());
        network.contains(&address) || (is_mapped && network.contains(&mapped))
    })
}
