//! What is measured?

use std::fmt;

use jsonwebtoken::Algorithm;

use crate::contender::{Contender, Protocol, Shape};

/// One line of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scenario {
    pub(crate) table: Table,
    pub(crate) contender: Contender,
    pub(crate) algorithm: Algorithm,
    pub(crate) protocol: Protocol,
    pub(crate) load: Load,
    pub(crate) pace: Pace,
    pub(crate) beside: Beside,
    /// Only with `--full`.
    pub(crate) is_extra: bool,
}

/// Which scenarios stand together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    Http1,
    Tls,
    FullHandshakes,
    ResumedHandshakes,
    Http2,
    Tokens,
    Post,
    Uploads,
    Downloads,
    Latency,
    Routes,
    Workers,
    Memory,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Load {
    /// GET with one token.
    OneToken,
    /// GET with so many tokens in rotation, all of them seen before.
    KnownTokens(usize),
    /// GET with so many tokens, each of them once and for the first time.
    NewTokens(usize),
    /// GET with so many bad tokens, each of them once.
    BadTokens(usize),
    /// POST of so many bytes with one token.
    Post(usize),
    /// POST of so many bytes, streamed.
    Upload(usize),
    /// GET of so many bytes.
    Download(usize),
    /// Connections one after another, with a request on each.
    Handshakes { resumed: bool },
    /// Nothing, to a process that has served nothing yet.
    Rest,
    /// So many connections, with one request each and then silence.
    IdleConnections(usize),
}

/// How it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    Closed,
    Open,
}

/// What else the gate has to do meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Beside {
    LoginStorm,
    Nothing,
}

impl Table {
    /// The first part of its scenarios' names.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Tls => "tls",
            Self::FullHandshakes => "full handshakes",
            Self::ResumedHandshakes => "resumed handshakes",
            Self::Http2 => "h2",
            Self::Tokens => "tokens",
            Self::Post => "post",
            Self::Uploads => "uploads",
            Self::Downloads => "downloads",
            Self::Latency => "paced",
            Self::Routes => "routes",
            Self::Workers => "workers",
            Self::Memory => "memory",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1 in plaintext, one token",
            Self::Tls => "HTTP/1.1 over TLS 1.3, one token",
            Self::FullHandshakes => "TLS 1.3 handshakes, full",
            Self::ResumedHandshakes => "TLS 1.3 handshakes, resumed",
            Self::Http2 => "HTTP/2 over TLS 1.3, one token",
            Self::Tokens => "many tokens, HTTP/1.1 in plaintext",
            Self::Post => "POST of 1 KiB, HTTP/1.1 in plaintext",
            Self::Uploads => "POST of 1 MiB, HTTP/1.1 in plaintext",
            Self::Downloads => "GET of 1 MiB, HTTP/1.1 in plaintext",
            Self::Latency => "what a request waits at a fixed rate, from the moment it is due",
            Self::Routes => "one route and many",
            Self::Workers => "one worker and more",
            Self::Memory => "memory, of a process that was just started",
        }
    }
}

impl Load {
    /// Whether it goes to a process of its own, which ends with it.
    pub(crate) fn wants_fresh_process(self) -> bool {
        matches!(self, Self::Rest | Self::IdleConnections(_))
    }

    /// Whether its length is that of the time slot.
    pub(crate) fn is_timed(self) -> bool {
        !matches!(
            self,
            Self::NewTokens(_) | Self::BadTokens(_) | Self::Rest | Self::IdleConnections(_)
        )
    }

    /// The most rounds that it is worth: a million tokens take half a minute.
    pub(crate) fn most_rounds(self) -> u32 {
        match self {
            Self::KnownTokens(MILLION) | Self::BadTokens(MILLION) => 2,
            _ => u32::MAX,
        }
    }
}

impl Scenario {
    /// How many slots of time it takes: in one of a second, p99.9 at 5,000 requests a second would
    /// be told by five of them, and a large cache may or may not be swept.
    pub(crate) fn slots(&self) -> u32 {
        match (self.load, self.pace) {
            (load, _) if !load.is_timed() => 0,
            (Load::KnownTokens(MILLION), _) | (_, Pace::Open) => 4,
            (_, Pace::Closed) => 1,
        }
    }

    /// The table, the contender and what tells it from others in that table.
    pub(crate) fn name(&self) -> String {
        format!("{}: {}", self.table.key(), self.label())
    }

    /// The same without the table.
    pub(crate) fn label(&self) -> String {
        let algorithm = if self.contender.checks_tokens() {
            format!(" {:?}", self.algorithm)
        } else {
            String::new()
        };
        let beside = match self.beside {
            Beside::LoginStorm => ", login storm",
            Beside::Nothing => "",
        };
        let load = match self.table {
            Table::Tokens | Table::Memory => format!(", {}", self.load),
            _ => String::new(),
        };
        let protocol = match (self.table, self.protocol) {
            (Table::Memory, Protocol::Plain) if self.load != Load::Rest => ", plaintext",
            (Table::Memory | Table::Latency, Protocol::Tls) => ", TLS",
            _ => "",
        };
        format!("{}{algorithm}{load}{protocol}{beside}", self.contender)
    }

    const fn new(table: Table, contender: Contender, load: Load) -> Self {
        Self {
            table,
            contender,
            algorithm: Algorithm::HS256,
            protocol: Protocol::Plain,
            load,
            pace: Pace::Closed,
            beside: Beside::Nothing,
            is_extra: false,
        }
    }

    const fn with(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    const fn over(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    const fn paced(self) -> Self {
        Self {
            pace: Pace::Open,
            ..self
        }
    }

    const fn extra(self) -> Self {
        Self {
            is_extra: true,
            ..self
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneToken => f.write_str("one token"),
            Self::KnownTokens(count) => write!(f, "{count} known tokens"),
            Self::NewTokens(count) => write!(f, "{count} new tokens"),
            Self::BadTokens(count) => write!(f, "{count} bad tokens"),
            Self::Post(size) | Self::Upload(size) => write!(f, "POST of {size} bytes"),
            Self::Download(size) => write!(f, "GET of {size} bytes"),
            Self::Handshakes { .. } => f.write_str("handshakes"),
            Self::Rest => f.write_str("at rest"),
            Self::IdleConnections(count) => write!(f, "{count} idle connections"),
        }
    }
}

/// All of them, for a machine on which so many workers have a core each.
pub(crate) fn all(most_workers: usize) -> Vec<Scenario> {
    use Contender as C;
    let mut all: Vec<_> = http1().collect();
    all.extend(tls_and_http2());
    all.extend(tokens());
    all.extend(bodies());
    let paced = |who| Scenario::new(Table::Latency, who, Load::OneToken).paced();
    all.extend([
        paced(C::Direct),
        paced(C::USUAL),
        Scenario {
            beside: Beside::LoginStorm,
            ..paced(C::USUAL)
        },
        paced(C::Nginx),
        paced(C::HaproxyJwt),
        paced(C::EnvoyCached),
        paced(C::USUAL).over(Protocol::Tls).extra(),
        paced(C::Nginx).over(Protocol::Tls).extra(),
        paced(C::Caddy).extra(),
        paced(C::Traefik).extra(),
    ]);
    let shaped = |table, shape| Scenario::new(table, C::Gate(shape), Load::OneToken);
    all.extend([1, 1_000].map(|count| shaped(Table::Routes, Shape::Routes(count))));
    let workers = [1, 2, 4].into_iter().filter(|count| *count <= most_workers);
    all.extend(workers.map(|count| shaped(Table::Workers, Shape::Workers(count))));
    all.extend(memory());
    all
}

fn http1() -> impl Iterator<Item = Scenario> {
    use Algorithm::{ES256, HS256, RS256};
    use Contender as C;
    let row = |who| Scenario::new(Table::Http1, who, Load::OneToken);
    let each = [HS256, RS256, ES256];
    [row(C::Direct)]
        .into_iter()
        .chain(each.map(|algorithm| row(C::USUAL).with(algorithm)))
        .chain([row(C::Nginx), row(C::Haproxy)])
        .chain(each.map(|algorithm| row(C::HaproxyJwt).with(algorithm)))
        .chain([row(C::EnvoyCached).with(RS256)])
        .chain(each.map(|algorithm| row(C::Envoy).with(algorithm)))
        .chain([row(C::Caddy), row(C::Traefik)])
}

fn tls_and_http2() -> impl Iterator<Item = Scenario> {
    use Contender as C;
    let tables = [
        (Table::Tls, Load::OneToken, Protocol::Tls),
        (
            Table::FullHandshakes,
            Load::Handshakes { resumed: false },
            Protocol::Tls,
        ),
        (
            Table::ResumedHandshakes,
            Load::Handshakes { resumed: true },
            Protocol::Tls,
        ),
        (Table::Http2, Load::OneToken, Protocol::H2),
    ];
    tables.into_iter().flat_map(|(table, load, protocol)| {
        let row = |who| Scenario::new(table, who, load).over(protocol);
        [
            row(C::USUAL),
            row(C::Nginx),
            row(C::HaproxyJwt),
            row(C::EnvoyCached),
            row(C::Haproxy).extra(),
            row(C::Envoy).extra(),
            row(C::Caddy).extra(),
            row(C::Traefik).extra(),
        ]
    })
}

fn tokens() -> impl Iterator<Item = Scenario> {
    use Contender as C;
    let usual = |load| Scenario::new(Table::Tokens, C::USUAL, load);
    let roomy = |load| Scenario::new(Table::Tokens, C::Gate(Shape::Cache(ROOM)), load);
    [
        usual(Load::OneToken),
        usual(Load::KnownTokens(10_000)),
        usual(Load::NewTokens(10_000)),
        roomy(Load::KnownTokens(MILLION)),
        usual(Load::BadTokens(MILLION)),
        usual(Load::KnownTokens(MILLION)).extra(),
        Scenario::new(Table::Tokens, C::EnvoyCached, Load::KnownTokens(10_000)).extra(),
        Scenario::new(Table::Tokens, C::HaproxyJwt, Load::KnownTokens(10_000)).extra(),
    ]
    .into_iter()
}

fn bodies() -> impl Iterator<Item = Scenario> {
    use Contender as C;
    let tables = [
        (Table::Post, Load::Post(KIB)),
        (Table::Uploads, Load::Upload(KIB * KIB)),
        (Table::Downloads, Load::Download(KIB * KIB)),
    ];
    tables.into_iter().flat_map(|(table, load)| {
        let row = |who| Scenario::new(table, who, load);
        [
            row(C::USUAL),
            row(C::NginxUnbuffered),
            row(C::HaproxyJwt),
            row(C::Nginx).extra(),
            row(C::EnvoyCached).extra(),
            row(C::Caddy).extra(),
            row(C::Traefik).extra(),
        ]
    })
}

fn memory() -> impl Iterator<Item = Scenario> {
    use Contender as C;
    let who = [
        C::USUAL,
        C::Nginx,
        C::HaproxyJwt,
        C::EnvoyCached,
        C::Caddy,
        C::Traefik,
    ];
    who.into_iter().flat_map(|who| {
        let row = |load| Scenario {
            is_extra: matches!(who, C::Caddy | C::Traefik),
            ..Scenario::new(Table::Memory, who, load)
        };
        [
            row(Load::Rest),
            row(Load::IdleConnections(IDLE)),
            row(Load::IdleConnections(IDLE)).over(Protocol::Tls),
        ]
    })
}

pub(crate) const MILLION: usize = 1_000_000;
/// In the cache of a gate that is to know a million tokens.
pub(crate) const ROOM: usize = 1_200_000;
pub(crate) const IDLE: usize = 2_000;
const KIB: usize = 1_024;
