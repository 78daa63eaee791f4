//! Where is a browser sent that has no good credential?

use http::HeaderValue;

use super::{RouteConfig, TokenPlaces};
use crate::config::problem::Problems;
use crate::page;

/// Where people log in.
#[derive(Clone, Debug)]
pub enum LoginPage {
    /// At a page that knows nothing of the gate.
    Elsewhere(HeaderValue),
    /// At the gate's own page, by its path.
    Own(String),
}

impl LoginPage {
    /// The page, told where to send the browser once it is logged in.
    #[must_use]
    pub fn then(&self, target: &str) -> Option<HeaderValue> {
        match self {
            Self::Elsewhere(page) => Some(page.clone()),
            Self::Own(path) => {
                let field = page::field::RETURN;
                let page = format!("{path}?{field}={}", page::encode(target));
                HeaderValue::try_from(page).ok()
            }
        }
    }
}

impl RouteConfig {
    /// Where this route sends browsers; `own` are the paths of the gate's own pages.
    pub(super) fn login_page(
        &self,
        at: &str,
        own: &[String],
        token: &TokenPlaces,
        problems: &mut Problems,
    ) -> Option<LoginPage> {
        let page = self.login_page.as_ref()?;
        if own.contains(page) {
            if !token.cookie {
                problems.add(
                    format_args!("{at}.login_page"),
                    "would be where a browser is sent again and again: with `token: { cookie: false }` no session counts on this route",
                );
            }
            return Some(LoginPage::Own(page.clone()));
        }
        let is_url = page.starts_with('/') || page.starts_with("https://");
        let page = HeaderValue::from_str(page).ok().filter(|_| is_url);
        let page = problems.take(
            format_args!("{at}.login_page"),
            page.ok_or("must be a path or an https:// URL"),
        )?;
        Some(LoginPage::Elsewhere(page))
    }
}
