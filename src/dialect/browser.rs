//! People in a browser: pages to log in and out, and a cookie that stands for the login.
//!
//! | Path | |
//! |---|---|
//! | `GET /login?return=/path` | the login page |
//! | `POST /login` | its form: `username`, `password` |
//! | `GET /login/begin?issuer=0` | on to an external issuer (OpenID Connect Core 1.0 section 3.1.2.1) |
//! | `GET /login/callback` | back from there |
//! | `GET /login/callback/NAME` | back from one of several |
//! | `GET /logout`, `POST /logout` | the page that asks, and its form |

use bytes::Bytes;
use http::{Method, Response, request};

use super::{CrossOrigin, Dialect, Endpoint, Grant, RefreshMode};
use crate::page;
use crate::refusal::{Detail, Reason, Refusal};
use crate::token::issue::TokenPair;

/// What a browser wants of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be sent to an external issuer.
    Begin,
    /// To be let in, coming from one.
    Callback,
    /// To log in with the form's name and password.
    LoginForm,
    /// The page with the form.
    LoginPage,
    /// To log out.
    LogoutForm,
    /// The page that asks whether to.
    LogoutPage,
}

/// The dialect of browsers.
#[derive(Debug)]
pub struct Browser;

impl Dialect for Browser {
    fn name(&self) -> &'static str {
        "browser"
    }

    fn paths(&self) -> &'static [&'static str] {
        &[
            LOGIN,
            "/login/begin",
            CALLBACK,
            "/login/callback/*",
            "/logout",
        ]
    }

    fn endpoint(&self, head: &request::Parts, path: &str) -> Option<Endpoint> {
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        let is_form = head.method == Method::POST;
        Some(match path {
            LOGIN if is_read => Endpoint::Browser(Step::LoginPage),
            LOGIN if is_form => Endpoint::Browser(Step::LoginForm),
            "/logout" if is_read => Endpoint::Browser(Step::LogoutPage),
            "/logout" if is_form => Endpoint::Browser(Step::LogoutForm),
            LOGIN | "/logout" => Endpoint::WrongMethod("GET, HEAD, POST"),
            "/login/begin" if head.method == Method::GET => Endpoint::Browser(Step::Begin),
            "/login/begin" => Endpoint::WrongMethod("GET"),
            _ if !is_callback(path) => return None,
            _ if head.method == Method::GET => Endpoint::Browser(Step::Callback),
            _ => Endpoint::WrongMethod("GET"),
        })
    }

    fn parse(&self, _: Endpoint, _: &request::Parts, _: &[u8]) -> Result<Grant, Refusal> {
        Err(Reason::MalformedRequest.into())
    }

    fn granted(&self, _: Endpoint, _: &TokenPair) -> Response<Bytes> {
        Response::default()
    }

    fn refused(&self, _: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let text = match &refusal.detail {
            Some(Detail::Text(text)) => text,
            _ => refusal.reason.text(),
        };
        page::refused(refusal.reason.status(), text, None)
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::None
    }

    fn refresh_mode(&self) -> RefreshMode {
        RefreshMode::Absent
    }

    fn login_page(&self) -> Option<&'static str> {
        Some(LOGIN)
    }
}

/// Whether it is one of the paths that issuers send browsers back to.
fn is_callback(path: &str) -> bool {
    let rest = path.strip_prefix(CALLBACK);
    rest.is_some_and(|rest| {
        let name = rest.strip_prefix('/');
        rest.is_empty() || name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
    })
}

const LOGIN: &str = "/login";
/// Where an external issuer sends browsers back to; of several, what tells one from another
/// follows.
pub const CALLBACK: &str = "/login/callback";
