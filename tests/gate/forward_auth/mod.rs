//! What other proxies are told when they ask whether a request may pass.

mod config;
mod front;
mod proxies;
mod questions;
mod sessions;

use crate::support::gate::{Builder, Gate};
use crate::support::upstream::Upstream;

/// What `root` with the scope `admin` may do, and what nobody may.
const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
    allow_in_path: [ encoded_slash ]
  - path: /admin/**
    upstream: app
    require: { scopes: [ root ] }
    credential: { basic: { username: gate, password_file: upstream-password } }
  - path: /mixed/**
    methods: [ GET ]
    upstream: app
    public: true
  - path: /mixed/**
    methods: [ POST ]
    name: mixed-post
    upstream: app
    require: { scopes: [ root ] }
  - path: /host/**
    host: open.example
    upstream: app
    public: true
  - path: /host/**
    upstream: app
  - path: /bare/**
    upstream: app
  - path: /pages/**
    upstream: app
    login_page: /login
  - path: /public/**
    upstream: app
    public: true
    credential: { basic: { username: anyone, password_file: upstream-password } }
";

/// `gate:s3cret` and `anyone:s3cret`.
const BASIC: &str = "Basic Z2F0ZTpzM2NyZXQ=";
const ANYONE: &str = "Basic YW55b25lOnMzY3JldA==";

/// A gate with an ordinary listener and one for this proxy's questions.
fn gate(app: &Upstream, options: &str) -> Gate {
    builder(app, options).start()
}

fn builder(app: &Upstream, options: &str) -> Builder {
    let listeners = format!(
        "listeners: [ {{ address: \"127.0.0.1:0\" }}, {{ address: \"127.0.0.1:0\", name: questions, \
         trusted_proxies: [ 127.0.0.1 ], forward_auth: {{ {options} }} }} ]"
    );
    Builder::standard(app.address, ROUTES).line("listeners:", &listeners)
}
