//! Where do the dialects answer? Each on its listener, host and prefix, and never two on one path.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use http::request;

use super::{Dialect, Endpoint, LoginConfig};
use crate::config::problem::{Problems, nearest};
use crate::config::value::Span;
use crate::cors::Cors;
use crate::token::Lifetimes;

/// A dialect where it is mounted.
#[derive(Debug)]
pub struct Mount {
    /// The dialect.
    pub dialect: &'static dyn Dialect,
    /// How long its tokens live.
    pub lifetimes: Lifetimes,
    /// What stands in front of the dialect's paths.
    pub prefix: String,
    /// Which other sites' pages may call, where the dialect does not decide.
    pub cors: Option<Arc<Cors>>,
    listener: Option<String>,
    host: Option<String>,
}

/// All mounts, the more specific ones first.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Builds all mounts on listeners of these names; notes every problem.
    #[must_use]
    pub fn build(
        configs: &[LoginConfig],
        listeners: &[&str],
        defaults: &Lifetimes,
        problems: &mut Problems,
    ) -> Self {
        let mut mounts = Vec::<Mount>::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            let at = format!("login[{index}]");
            config.check_place(&at, listeners, problems);
            let mount = config.build(&at, defaults, problems);
            if mount.dialect.paths().is_empty() {
                let text = "has no login of its own: give routes a `basic` section instead";
                problems.add(format_args!("{at}.dialect"), text);
            }
            for (other_index, other) in mounts.iter().enumerate() {
                let Some(path) = mount.clash(other) else {
                    continue;
                };
                let (name, other_name) = (mount.dialect.name(), other.dialect.name());
                let text = format_args!(
                    "`{name}` would answer {path}, as login[{other_index}] (`{other_name}`) does on the same listener and host: give one of them another `prefix`, `host` or `listener`"
                );
                problems.add(&at, text);
            }
            mounts.push(mount);
        }
        mounts.sort_by_key(|mount| Reverse((mount.listener.is_some(), mount.host.is_some())));
        Self(mounts)
    }

    /// How long tokens live at each mount.
    pub fn lifetimes(&self) -> impl Iterator<Item = &Lifetimes> {
        self.0.iter().map(|mount| &mount.lifetimes)
    }

    /// Where people log in who come to this listener and host, if anywhere.
    #[must_use]
    pub fn of_people(&self, listener: &str, host: &str) -> Option<&Mount> {
        let mut mounts = self.0.iter();
        mounts.find(|mount| mount.dialect.login_page().is_some() && mount.is_at(listener, host))
    }

    /// The mount and endpoint that a request is for, if any.
    #[must_use]
    pub fn find(
        &self,
        listener: &str,
        host: &str,
        head: &request::Parts,
    ) -> Option<(&Mount, Endpoint)> {
        let path = head.uri.path();
        self.0.iter().find_map(|mount| {
            if !mount.is_at(listener, host) {
                return None;
            }
            let path = path.strip_prefix(&mount.prefix)?;
            let endpoint = mount.dialect.endpoint(head, path)?;
            // What is not listed was not looked at for clashes either.
            let is_listed = mount
                .dialect
                .paths()
                .iter()
                .any(|listed| are_alike(listed, path));
            is_listed.then_some((mount, endpoint))
        })
    }
}

impl Mount {
    fn is_at(&self, listener: &str, host: &str) -> bool {
        let is = |wanted: &Option<String>, held: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == held)
        };
        is(&self.listener, listener) && is(&self.host, host)
    }

    /// A path that both would answer, with neither more specific.
    fn clash(&self, other: &Self) -> Option<String> {
        if (&self.listener, &self.host) != (&other.listener, &other.host) {
            return None;
        }
        let full = |mount: &Self| {
            let paths = mount.dialect.paths().iter();
            Vec::from_iter(paths.map(|path| format!("{}{path}", mount.prefix)))
        };
        let others = full(other);
        full(self)
            .into_iter()
            .find(|path| others.iter().any(|held| are_alike(path, held)))
    }
}

/// Whether one path could fit both patterns. Some dialects' clients may write them in any case.
fn are_alike(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == "*" || b == "*" || a.eq_ignore_ascii_case(b) => {}
            _ => return false,
        }
    }
}

impl LoginConfig {
    /// The path of its page where people log in, if it has one.
    #[must_use]
    pub fn login_page(&self) -> Option<String> {
        let path = self.dialect.dialect().login_page()?;
        Some(self.prefix.clone().unwrap_or_default() + path)
    }

    fn check_place(&self, at: &str, listeners: &[&str], problems: &mut Problems) {
        if let Some(name) = &self.listener
            && !listeners.contains(&name.as_str())
        {
            let near = match nearest(name, listeners.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", listeners.join(", ")),
            };
            let text = format_args!("there is no listener `{name}`; {near}");
            problems.add(format_args!("{at}.listener"), text);
        }
        let is_host = |host: &String| !host.is_empty() && !host.contains(['*', '/', ':']);
        if !self.host.as_ref().is_none_or(is_host) {
            problems.add(format_args!("{at}.host"), "must be a name without port");
        }
    }

    fn build(&self, at: &str, defaults: &Lifetimes, problems: &mut Problems) -> Mount {
        let or = |own: Option<Span>, default: Duration| own.map_or(default, |span| span.0);
        let usual = self.dialect.dialect().usual_lifetimes();
        let max_access = or(self.max_access_ttl, defaults.max_access);
        let max_refresh = or(self.max_refresh_ttl, defaults.max_refresh);
        let lifetimes = Lifetimes {
            access: or(
                self.access_ttl,
                usual
                    .access
                    .map_or(defaults.access, |usual| usual.min(max_access)),
            ),
            refresh: or(
                self.refresh_ttl,
                usual
                    .refresh
                    .map_or(defaults.refresh, |usual| usual.min(max_refresh)),
            ),
            max_access,
            max_refresh,
        };
        lifetimes.check(at, problems);
        let prefix = self.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.ends_with('/')) {
            problems.add(
                format_args!("{at}.prefix"),
                "must start with `/` and not end with it",
            );
        }
        let cors = self.cors.as_ref();
        Mount {
            dialect: self.dialect.dialect(),
            cors: cors.map(|cors| cors.build(&format!("{at}.cors"), &[], problems)),
            lifetimes,
            listener: self.listener.clone(),
            host: self.host.as_ref().map(|host| host.to_ascii_lowercase()),
            prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::are_alike;

    #[test]
    fn paths_are_alike_without_case_and_with_a_variable_segment() {
        for (one, other, verdict) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/A/B", true),
            ("/a/*", "/a/b", true),
            ("/a/b", "/a/*", true),
            ("/a/*", "/a/*", true),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", false),
            ("/a/b", "/a/c", false),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(are_alike(one, other), verdict, "{one} {other}");
        }
    }
}
