//! People in a browser: pages, sessions, and logins at external issuers.

mod flow;
mod pages;
mod sessions;
mod several;

use crate::support::gate::{Builder, Gate, users};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /ui/**, name: ui, upstream: app, login_page: /login, credential: { basic: { username: app, password_file: upstream-password } } }
  - { path: /api/**, name: api, upstream: app }
  - { path: /programs/**, upstream: app, token: { cookie: false } }
  - { path: /open/**, upstream: app, public: true }
  - { path: /owner/**, upstream: app, login_page: /login, require: { scopes: [ owner ] } }
";

/// With further keys of the login, such as lifetimes.
fn builder(upstream: &Upstream, more: &str) -> Builder {
    let users = users(&[("root", "memphis", "[ admin ]"), ("eve", "memphis", "[]")]);
    let login = format!("login: [ {{ dialect: memphis }}, {{ dialect: browser{more} }} ]");
    Builder::standard(upstream.address, ROUTES)
        .line("login:", &login)
        .file("users.yaml", users)
}

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = builder(&upstream, "").start();
    (upstream, gate)
}
