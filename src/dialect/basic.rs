//! Basic on every request, as clients of STS-MQTT send it. There is no login: the dialect is the
//! form in which they are refused, 401 with JSON and never the legacy service's redirect.

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode, request};
use serde_json::json;

use super::wire::json_answer;
use super::{CrossOrigin, Dialect, Endpoint, Grant};
use crate::refusal::{Reason, Refusal};
use crate::token::issue::TokenPair;

/// The dialect of clients that know only Basic.
#[derive(Debug)]
pub struct Basic;

impl Dialect for Basic {
    fn name(&self) -> &'static str {
        "basic"
    }

    fn paths(&self) -> &'static [&'static str] {
        &[]
    }

    fn endpoint(&self, _: &request::Parts, _: &str) -> Option<Endpoint> {
        None
    }

    fn parse(&self, _: Endpoint, _: &request::Parts, _: &[u8]) -> Result<Grant, Refusal> {
        Err(Reason::UnsupportedGrant.into())
    }

    fn granted(&self, _: Endpoint, _: &TokenPair) -> Response<Bytes> {
        Response::default()
    }

    fn refused(&self, _: Option<Endpoint>, refusal: &Refusal) -> Response<Bytes> {
        let reason = refusal.reason;
        let body = json!({"error": reason.label(), "message": reason.text()});
        let mut response = json_answer(reason.status(), &body);
        if reason.status() == StatusCode::UNAUTHORIZED {
            // Some HTTP libraries send credentials only once they were asked for them.
            let challenge = HeaderValue::from_static(r#"Basic realm="tollgate", charset="UTF-8""#);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    fn cross_origin(&self) -> CrossOrigin {
        CrossOrigin::None
    }
}
