//! Which requests may be tried again, and how often?

use std::cell::Cell;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use hyper::body::Body as _;
use schemars::JsonSchema;
use serde::Deserialize;

use super::body::RequestBody;
use crate::config::problem::Problems;

/// Which requests of a route may be sent again after they failed. Only those without a body are,
/// and only while the upstream's `retry_budget` lasts. A request that certainly was not sent goes
/// to another endpoint in any case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// How often one request is sent again at most.
    pub tries: u32,
    /// The methods. Only those that RFC 9110 section 9.2.2 calls idempotent are possible: `GET`,
    /// `HEAD`, `OPTIONS`, `PUT` and `DELETE`.
    pub methods: Vec<String>,
    /// The answers that count as failures, beside a connection that breaks before the answer.
    pub statuses: Vec<u16>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            tries: 1,
            methods: vec!["GET".to_owned(), "HEAD".to_owned(), "OPTIONS".to_owned()],
            statuses: vec![502, 503, 504],
        }
    }
}

/// Which requests of a route may be sent again, ready for use.
#[derive(Clone, Debug)]
pub struct Retry {
    pub(super) tries: u32,
    methods: Vec<Method>,
    statuses: Vec<u16>,
}

impl RetryConfig {
    /// Checks it; notes every problem.
    #[must_use]
    pub fn build(&self, at: &str, problems: &mut Problems) -> Retry {
        if self.tries == 0 {
            problems.add(format_args!("{at}.tries"), "must be at least 1");
        }
        let mut methods = Vec::with_capacity(self.methods.len());
        for (index, name) in self.methods.iter().enumerate() {
            match Method::from_bytes(name.as_bytes()) {
                Ok(method) if method.is_idempotent() && method != Method::TRACE => {
                    methods.push(method);
                }
                _ => problems.add(
                    format_args!("{at}.methods[{index}]"),
                    format_args!(
                        "`{name}` cannot be sent twice without harm; possible are GET, HEAD, OPTIONS, PUT and DELETE"
                    ),
                ),
            }
        }
        Retry {
            tries: self.tries,
            methods,
            statuses: self.statuses.clone(),
        }
    }
}

impl Retry {
    pub(super) fn is_failure(&self, status: StatusCode) -> bool {
        self.statuses.contains(&status.as_u16())
    }

    /// What a request has to look like again, if it may be sent again.
    pub(super) fn copy(&self, request: &Request<RequestBody>) -> Option<Copy> {
        let may = self.methods.contains(request.method()) && request.body().is_end_stream();
        may.then(|| Copy {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
        })
    }
}

/// A request without a body, kept to be sent again.
pub(super) struct Copy {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

impl Copy {
    pub(super) fn request(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// How many requests may still be tried again: a worker's, for one upstream. Without it, those
/// who try again would bring down an upstream that is only slow.
#[derive(Debug)]
pub(super) struct Budget {
    share: f64,
    left: Cell<f64>,
}

impl Budget {
    pub(super) const fn new(share: f64) -> Self {
        Self {
            share,
            left: Cell::new(RESERVE),
        }
    }

    /// A request was sent that could be tried again.
    pub(super) fn earn(&self) {
        self.left.set((self.left.get() + self.share).min(RESERVE));
    }

    /// Whether one may be tried again, which is then paid for.
    pub(super) fn pay(&self) -> bool {
        let left = self.left.get() - 1.0;
        let may = left >= 0.0;
        if may {
            self.left.set(left);
        }
        may
    }
}

const RESERVE: f64 = 10.0;

/// How long to wait before the next try, as a chance up to `25 ms * 2^tries`, 250 ms at most.
pub(super) fn pause(tries: u32) -> Duration {
    let most = Duration::from_millis(25).saturating_mul(1 << tries.min(4));
    most.min(Duration::from_millis(250))
        .mul_f64(fastrand::f64())
}
