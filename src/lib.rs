//! Tollgate is a reverse proxy that authenticates: no token, no passage.
//!
//! One request walks through the house once, from top to bottom:
//!
//! ```text
//! server      accept, TLS, HTTP/1.1 and HTTP/2, limits, drain
//! gate        THE PATH: one line per stage
//! route       one canonical path, exactly one route, its policy
//! dialect     is it a login? in which system's form?
//! endpoint    login and refresh: a grant becomes an identity, the identity becomes tokens
//! credential  exactly one token, cut out byte for byte
//! token       verified once, remembered without being kept
//! upstream    translated, forwarded, streamed, tunnelled; refusals told honestly
//! telemetry   counted and logged when the exchange ends
//! ```
//!
//! The binary is thin: [`cli`] parses arguments and calls [`run`](cli::run).

pub mod clock;
pub mod config;
pub mod refusal;

pub mod cli;
pub mod server;

pub mod gate;

pub mod route;

pub mod cookie;
pub mod cors;
pub mod dialect;
pub mod endpoint;
pub mod identity;

pub mod credential;
pub mod token;

pub mod store;

pub mod upstream;

mod admit;
mod answer;
mod authority;
pub mod body;
pub mod forward_auth;
mod https;
pub mod inspected;
pub mod linger;
mod local;
pub mod memory;
pub mod mqtt;
pub mod pace;
pub mod page;
pub mod patient;
mod rules;
pub mod same_site;
pub mod snapshot;
pub mod stream;
pub mod strict;
mod walk;

pub mod admin;
pub mod telemetry;

pub mod demo;

#[cfg(fuzzing)]
pub mod fuzzing;
