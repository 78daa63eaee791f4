//! The real binary over real sockets, against a recording upstream.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops here; it has its own clock and files"
)]

mod acceptance;
mod access_log;
mod admin;
mod application_tokens;
mod basic;
mod browser;
mod cache;
mod certificates;
mod chaos;
mod clients;
mod commands;
mod config;
mod credentials;
mod cross_origin;
mod dangers;
mod datarhei;
mod deploy;
mod dumps;
mod emnify;
mod explain;
mod farewell;
mod faults;
mod flood;
mod forward_auth;
mod framing;
mod headers;
mod house;
mod http2;
mod identity;
mod jmvstream;
mod keys;
mod leaks;
mod lessons;
mod lifecycle;
mod limits;
mod linger;
mod live;
mod loose;
mod memory;
mod memphis;
mod messages;
mod metrics;
mod monitoring;
mod mounts;
mod mqtt;
mod oauth2;
mod oidc;
mod pace;
mod path;
mod policies;
mod proxies;
mod readings;
mod refresh;
mod revocation;
mod rolling;
mod routes;
mod series;
mod start;
mod state;
mod streaming;
mod streams;
mod subprotocol;
mod support;
mod throttle;
mod tickets;
mod tls;
mod tokens;
mod traces;
mod upstreams;
mod websocket;
mod wire;
mod wrong_configs;
