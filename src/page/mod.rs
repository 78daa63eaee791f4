//! How do the gate's pages for people look? They work without a script, load nothing, and can
//! neither be framed nor kept by caches.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// The names of the fields of the form that logs in.
pub mod field {
    /// What proves that the gate made the form.
    pub const FORM: &str = "form";
    /// The issuer to log in at.
    pub const ISSUER: &str = "issuer";
    /// The user's name.
    pub const NAME: &str = "username";
    /// The password.
    pub const PASSWORD: &str = "password";
    /// Where to go then.
    pub const RETURN: &str = "return";
}

/// What the login page shows.
#[derive(Debug, Default)]
pub struct Login<'a> {
    /// The host that is logged in to.
    pub host: &'a str,
    /// What stands in front of the paths.
    pub prefix: &'a str,
    /// Where to go then: a path of this host.
    pub then: &'a str,
    /// What the form must repeat.
    pub form: &'a str,
    /// Whether anybody can log in with a password.
    pub takes_passwords: bool,
    /// The external issuers that people can log in at: their places and what they are called.
    pub issuers: Vec<(usize, &'a str)>,
    /// Who is logged in already.
    pub subject: Option<&'a str>,
    /// Why it did not work.
    pub wrong: Option<&'a str>,
    /// The name that was given.
    pub name: &'a str,
}

/// The login page.
#[must_use]
pub fn login(status: StatusCode, login: &Login<'_>) -> Response<Bytes> {
    let Login { prefix, then, .. } = *login;
    let is_wrong = login.wrong.is_some();
    let body = html! {
        h1 { "Log in" }
        p.quiet { (login.host) }
        @if let Some(wrong) = login.wrong {
            p.wrong role="alert" id="wrong" { (wrong) }
        }
        @if let Some(subject) = login.subject {
            p { "You are logged in as " strong { (subject) } "." }
            a.button.first href=(then) { "Go on" }
            a.button href={ (prefix) "/logout" } { "Log out" }
        }
        @if login.takes_passwords {
            form method="post" action={ (prefix) "/login" } {
                input type="hidden" name=(field::FORM) value=(login.form);
                input type="hidden" name=(field::RETURN) value=(then);
                label for="name" { "Name or e-mail address" }
                input id="name" name=(field::NAME) value=(login.name) required autocomplete="username" autocapitalize="none" spellcheck="false" autofocus[login.name.is_empty()] aria-describedby=[is_wrong.then_some("wrong")];
                label for="password" { "Password" }
                input id="password" name=(field::PASSWORD) type="password" required autocomplete="current-password" autofocus[!login.name.is_empty()] aria-describedby=[is_wrong.then_some("wrong")];
                button.first type="submit" { "Log in" }
            }
        }
        @for (place, name) in &login.issuers {
            // No form: `form-action` would hold it to this host (CSP level 3 section 6.4.2).
            a.button.first[!login.takes_passwords] href={ (prefix) "/login/begin?" (field::ISSUER) "=" (place) "&" (field::RETURN) "=" (encode(then)) } {
                "Log in with " (name)
            }
        }
    };
    answer(status, "Log in", &body)
}

/// The page that asks whether to log out: for whom, and why it did not work before.
#[must_use]
pub fn logout(
    status: StatusCode,
    prefix: &str,
    form: &str,
    (subject, wrong): (Option<&str>, Option<&str>),
) -> Response<Bytes> {
    let body = html! {
        h1 { "Log out" }
        @if let Some(wrong) = wrong {
            p.wrong role="alert" { (wrong) }
        }
        @match subject {
            Some(subject) => p { "You are logged in as " strong { (subject) } "." }
            None => p { "You are not logged in." }
        }
        form method="post" action={ (prefix) "/logout" } {
            input type="hidden" name=(field::FORM) value=(form);
            button.first type="submit" autofocus { "Log out" }
        }
    };
    answer(status, "Log out", &body)
}

/// The page that says that it is done.
/// Who logged in elsewhere, at a place of this name, may log out there by this URL.
#[must_use]
pub fn logged_out(prefix: &str, elsewhere: Option<(&str, &str)>) -> Response<Bytes> {
    let body = html! {
        h1 { "You are logged out" }
        p { "Your session here has ended." }
        @if let Some((name, _)) = elsewhere {
            p { "You may still be logged in at " (name) ": whoever uses this browser next could log in here without a password." }
        }
        a.button.first href={ (prefix) "/login" } { "Log in again" }
        @if let Some((name, url)) = elsewhere {
            a.button href=(url) { "Log out at " (name) ", too" }
        }
    };
    answer(StatusCode::OK, "Logged out", &body)
}

/// The page that says why something is not done, with a link that goes on from there.
#[must_use]
pub fn refused(status: StatusCode, text: &str, way_out: Option<(&str, &str)>) -> Response<Bytes> {
    let body = html! {
        h1 { "This did not work" }
        p role="alert" { (text) }
        @if let Some((href, label)) = way_out {
            a.button.first href=(href) { (label) }
        }
    };
    answer(status, "This did not work", &body)
}

/// As a value in a query.
#[must_use]
pub fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn answer(status: StatusCode, title: &str, body: &Markup) -> Response<Bytes> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    let mut response = Response::new(Bytes::from(page.into_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    guard(headers);
    response
}

/// What keeps a page to itself.
fn guard(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
        // Not `no-referrer`: the browser would keep `Origin` from its forms, too.
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A gate, closed; without one a browser would ask the upstream for it.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%230b5ca8' d='M2 1h2v14H2zm10 0h2v14h-2zM4 5h8v2H4zm0 4h8v2H4z'/%3E%3C/svg%3E";

const STYLE: &str = include_str!("style.css");

/// Nothing but the one style, by its hash, the icon, and forms to this host.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
