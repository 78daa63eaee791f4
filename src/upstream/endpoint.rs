//! What does an endpoint's URL say?

use std::net::SocketAddr;
use std::path::PathBuf;

use http::Uri;
use rustls::pki_types::ServerName;

use super::Protocol;

/// One endpoint, as configured.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As configured, for logs.
    pub(crate) url: String,
    pub(crate) place: Place,
    /// The name that its certificate must have, for `https`.
    pub(crate) tls_name: Option<ServerName<'static>>,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    /// A host whose addresses the DNS tells.
    Name(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl Endpoint {
    /// Whether only this machine is asked; of names, only `localhost` is known to mean that.
    pub(super) fn is_loopback(&self) -> bool {
        match &self.place {
            Place::Address(address) => address.ip().to_canonical().is_loopback(),
            Place::Name(host, _) => host.eq_ignore_ascii_case("localhost"),
            Place::Socket(_) => true,
        }
    }

    /// Host and port, as in a `Host` header.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Address(address) => address.to_string(),
            Place::Name(host, port) => format!("{host}:{port}"),
            Place::Socket(_) => "localhost".to_owned(),
        }
    }

    /// Reads a URL. `server_name` is what the certificate must be for, if not the URL's host.
    pub(super) fn parse(url: &str, server_name: Option<&str>) -> Result<Self, String> {
        // Never repeats what may hold a password.
        let shown = if url.contains('@') {
            "(not shown)"
        } else {
            url
        };
        let wrong = |what: &str| {
            format!(
                "`{shown}` {what}; write http://host:port, https://host:port or unix:/path; mqtt://host:port or mqtts://host:port with `protocol: mqtt`"
            )
        };
        if let Some(path) = url.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(wrong("has no absolute path"));
            }
            return Ok(Self {
                url: url.to_owned(),
                place: Place::Socket(path.into()),
                tls_name: None,
            });
        }
        let uri = url.parse::<Uri>().map_err(|_| wrong("is not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("http" | "mqtt") => false,
            Some("https" | "mqtts") => true,
            _ => return Err(wrong("has no scheme that is known")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path, but paths go upstream as they come"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong(
                "has credentials in it; they belong into a route's `credential`",
            ));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority
            .port_u16()
            .unwrap_or_else(|| match uri.scheme_str() {
                Some("https") => 443,
                Some("mqtt") => 1883,
                Some("mqtts") => 8883,
                _ => 80,
            });
        let tls_name = match is_tls {
            false => None,
            true => {
                let name = server_name.unwrap_or(&host).to_owned();
                Some(ServerName::try_from(name).map_err(|_| wrong("has no valid host"))?)
            }
        };
        let place = match host.parse() {
            Ok(address) => Place::Address(SocketAddr::new(address, port)),
            Err(_) => Place::Name(host, port),
        };
        Ok(Self {
            url: url.to_owned(),
            place,
            tls_name,
        })
    }

    /// Whether its scheme is one of this protocol; a Unix socket has none.
    pub(super) fn is_of(&self, protocol: Protocol) -> bool {
        match self.url.split_once("://") {
            None => true,
            Some((scheme, _)) => {
                (protocol == Protocol::Mqtt) == scheme.to_ascii_lowercase().starts_with("mqtt")
            }
        }
    }
}
