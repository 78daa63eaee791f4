//! Would a route let out, or let in, more than can be meant?

use std::collections::BTreeMap;

use super::RouteConfig;
use crate::config::problem::Problems;
use crate::upstream::config::UpstreamConfig;
use crate::upstream::credential::CredentialConfig;

impl RouteConfig {
    /// Refuses what is dangerous unless the config says that it is meant.
    pub(super) fn check_dangers(
        &self,
        at: &str,
        upstreams: &BTreeMap<String, UpstreamConfig>,
        problems: &mut Problems,
    ) {
        if self.public && !self.danger_unanchored && !is_anchored(&self.path) {
            let text = format_args!(
                "`{}` is public from its first segment on, and with it all that the upstream serves now or later: begin it with a literal segment, such as `/public/**`, or say `danger_unanchored: true` on the route",
                self.path
            );
            problems.add(format_args!("{at}.path"), text);
        }
        if !matches!(self.credential, CredentialConfig::None)
            && let Some(name) = &self.upstream
            && let Some(upstream) = upstreams.get(name)
            && let Some(endpoint) = upstream.exposed_endpoint()
        {
            let text = UpstreamConfig::exposure(name, endpoint);
            problems.add(format_args!("{at}.credential"), text);
        }
    }
}

/// Whether the first segment is a literal, so that the route ends somewhere.
fn is_anchored(pattern: &str) -> bool {
    let body = pattern.strip_prefix('/').unwrap_or(pattern);
    let first = body.split('/').next().unwrap_or_default();
    body.is_empty() || !first.is_empty() && !first.contains(['*', '{'])
}

#[cfg(test)]
mod tests {
    use super::is_anchored;

    #[test]
    fn only_a_literal_first_segment_is_an_anchor() {
        for pattern in ["/", "/a", "/a/**", "/a/*/b", "/%7Ba/x"] {
            assert!(is_anchored(pattern), "{pattern}");
        }
        for pattern in ["/**", "/*", "/*/x", "//x", "//**", "/{sub}/**", "/a{sub}"] {
            assert!(!is_anchored(pattern), "{pattern}");
        }
    }
}
