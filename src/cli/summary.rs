//! What would be served, in a few lines that an operator reads before the gate is started?

use serde_json::Value;

use super::explain::requirements;
use super::run::Prepared;
use crate::dialect::LoginConfig;
use crate::mqtt::config::Spoken;
use crate::route::policy::Policy;
use crate::route::{Route, RouteConfig};
use crate::server::ListenerConfig;

/// One line for each thing; `tree` is the config as it was written.
pub(super) fn summary(prepared: &Prepared, tree: &Value) -> Vec<String> {
    let config = &prepared.config;
    let mut lines = Vec::new();
    let mut add = |kind: &str, text: String| lines.push(format!("{kind:<10}{text}"));
    for listener in &config.listeners {
        add("listener", tell_listener(listener));
    }
    add("admin", tell_admin(prepared));
    for login in &config.login {
        add("login", tell_login(login));
    }
    add("identity", format!("{} provider(s)", config.identity.len()));
    for (name, upstream) in &config.upstreams {
        let endpoints = upstream.endpoints.iter().map(|url| url.0.as_str());
        let endpoints = Vec::from_iter(endpoints).join(", ");
        add("upstream", format!("{name} at {endpoints}"));
    }
    for (route, ready) in config.routes.iter().zip(prepared.snapshot.routes.all()) {
        add("route", tell_route(route, ready));
    }
    let interval = config.reload.interval.0;
    if interval.is_zero() {
        add("reload", "at SIGHUP alone".to_owned());
    } else {
        add(
            "reload",
            format!("of changed files, looked at every {interval:?}"),
        );
    }
    let mut dangers = Vec::new();
    find_dangers(tree, "", &mut dangers);
    for key in dangers {
        add("DANGER", key);
    }
    lines
}

fn tell_admin(prepared: &Prepared) -> String {
    let config = &prepared.config.admin;
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let who = match config.users_file {
        Some(_) => " for its users",
        None => "",
    };
    format!("{scheme}://{}{who}", prepared.admin.address)
}

fn tell_listener(listener: &ListenerConfig) -> String {
    let address = &listener.address.0;
    let scheme = match listener.protocol {
        Spoken::Http => "http",
        Spoken::Mqtt => "mqtt",
    };
    let tls = if listener.tls.is_some() { "s" } else { "" };
    let mut text = format!("{scheme}{tls}://{address}");
    if listener.name() != address {
        text += &format!(" called {}", listener.name());
    }
    if !listener.trusted_proxies.is_empty() {
        text += &format!(" behind {}", listener.trusted_proxies.join(", "));
    }
    if let Some(forward_auth) = &listener.forward_auth {
        text += &format!(", answers {:?} at /verify alone", forward_auth.proxy);
    }
    text
}

fn tell_login(login: &LoginConfig) -> String {
    let dialect = login.dialect.dialect();
    let place = |path: &&str| {
        let (host, prefix) = (login.host.as_deref(), login.prefix.as_deref());
        format!(
            "{}{}{path}",
            host.unwrap_or_default(),
            prefix.unwrap_or_default()
        )
    };
    let paths = Vec::from_iter(dialect.paths().iter().map(place)).join(", ");
    let listener = login.listener.as_deref();
    let on = listener.map_or_else(String::new, |name| format!(" on {name}"));
    format!("{}{on} at {paths}", dialect.name())
}

fn tell_route(config: &RouteConfig, route: &Route) -> String {
    let what = config.default_name();
    let what = match &config.name {
        Some(name) if *name != what => format!("{name}: {what}"),
        _ => what,
    };
    let who = match route.policy {
        Policy::Public => "PUBLIC".to_owned(),
        Policy::Token(_) => requirements(route),
    };
    let upstream = config.upstream.as_deref().unwrap_or("(judged only)");
    format!("{what} -> {upstream}: {who}")
}

/// Every key in force that begins with `danger_`, by its place.
fn find_dangers(tree: &Value, at: &str, found: &mut Vec<String>) {
    match tree {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if at.is_empty() { "" } else { "." };
                let key = format!("{at}{dot}{name}");
                if name.starts_with("danger_") && *value == Value::Bool(true) {
                    found.push(key);
                } else {
                    find_dangers(value, &key, found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_dangers(item, &format!("{at}[{index}]"), found);
            }
        }
        _ => {}
    }
}
