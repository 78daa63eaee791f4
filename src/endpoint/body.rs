//! What stands in the short body of a login?

use std::time::Duration;

use http::request;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use super::Surroundings;
use crate::config::secret::Secret;
use crate::dialect::{Endpoint, Grant, Mount};
use crate::refusal::{Reason, Refusal};
use crate::upstream::body::{BodyError, RequestBody};

/// Reads what a client asks for.
pub(super) async fn read(
    around: &Surroundings<'_>,
    mount: &Mount,
    endpoint: Endpoint,
    head: &request::Parts,
    body: RequestBody,
) -> Result<Grant, Refusal> {
    let limits = &around.snapshot.limits;
    let body = collect(body, limits.login_body.bytes(), limits.login_timeout.0).await?;
    mount.dialect.parse(endpoint, head, body.expose())
}

/// Collects the short body of a login, which holds a secret.
pub(super) async fn collect(
    body: RequestBody,
    limit: usize,
    within: Duration,
) -> Result<Secret<Vec<u8>>, Refusal> {
    let collected = timeout(within, Limited::new(body, limit).collect()).await;
    let collected = collected.map_err(|_| Reason::RequestTimeout)?;
    let body = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Refusal::from(Reason::BodyTooLarge);
        }
        let reason = match error.downcast_ref() {
            Some(BodyError::TooSlow) => Reason::UploadTooSlow,
            _ => Reason::MalformedRequest,
        };
        Refusal::with_cause(reason, error)
    })?;
    Ok(Secret::new(body.to_bytes().to_vec()))
}
