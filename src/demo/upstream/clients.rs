//! How does STS-MQTT manage the clients of its broker? With the CRUD of `/api/client`.
//!
//! It holds [`MAX_CLIENTS`] clients; a temporary one goes after [`TEMPORARY`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use crate::clock::{UnixTime, unix_now};

use super::body;
use super::reply::{self, Reply};

/// The clients that were created, and the account that owns them.
pub(super) struct Clients {
    owner: String,
    held: Mutex<Vec<Client>>,
}

impl Clients {
    /// No clients yet.
    pub(super) fn new(owner: &str) -> Self {
        Self {
            owner: owner.to_owned(),
            held: Mutex::default(),
        }
    }

    /// Answers `/api/client` and what stands below.
    pub(super) async fn answer(&self, request: Request<Incoming>, id: &[&str]) -> Reply {
        let method = request.method().clone();
        let form = match method {
            Method::POST | Method::PUT => form(request).await,
            _ => Ok(Form::default()),
        };
        match (form, id) {
            (Err(reply), _) => reply,
            (Ok(form), [] | [""]) => self.collection(&method, form),
            (Ok(form), [id] | [id, ""]) => self.record(&method, id, form),
            _ => reply::message(StatusCode::NOT_FOUND, "Not Found"),
        }
    }

    fn collection(&self, method: &Method, form: Form) -> Reply {
        let now = unix_now();
        let mut clients = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        forget_expired(&mut clients, now);
        match *method {
            Method::GET => reply::json(StatusCode::OK, &*clients),
            Method::POST if clients.len() < MAX_CLIENTS => {
                let client = Client::new(form, &self.owner, now);
                let reply = reply::json(StatusCode::OK, &client);
                clients.push(client);
                reply
            }
            Method::POST => reply::message(StatusCode::SERVICE_UNAVAILABLE, "too many clients"),
            _ => reply::message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        }
    }

    fn record(&self, method: &Method, id: &str, form: Form) -> Reply {
        let now = unix_now();
        let mut clients = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        forget_expired(&mut clients, now);
        let Some(place) = clients.iter().position(|client| client.id == id) else {
            return reply::message(StatusCode::NOT_FOUND, "no client has this id");
        };
        if method == Method::DELETE {
            return reply::json(StatusCode::OK, &clients.remove(place));
        }
        match (method, clients.get_mut(place)) {
            (&Method::GET, Some(client)) => reply::json(StatusCode::OK, client),
            (&Method::PUT, Some(client)) => {
                client.update(form, now);
                reply::json(StatusCode::OK, client)
            }
            _ => reply::message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        }
    }
}

/// What a caller may set. The key is read and forgotten: nothing here ever gives it out or uses it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Form {
    name: Option<String>,
    description: Option<String>,
    client_id: Option<String>,
    key: Option<String>,
}

/// Reads the form; an empty body is an empty form.
async fn form(request: Request<Incoming>) -> Result<Form, Reply> {
    let body = body(request).await?;
    if body.is_empty() {
        return Ok(Form::default());
    }
    let invalid = |text: &str| reply::message(StatusCode::BAD_REQUEST, text);
    let form: Form = serde_json::from_slice(&body)
        .map_err(|_| invalid("name, description, clientId and key are strings in a JSON object"))?;
    let fields = [&form.name, &form.description, &form.client_id, &form.key];
    if fields
        .into_iter()
        .flatten()
        .any(|field| field.len() > MAX_FIELD)
    {
        return Err(invalid("a field has at most 256 bytes"));
    }
    Ok(form)
}

/// A client of the broker, as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    name: String,
    description: String,
    owner: String,
    client_id: String,
    created_at: String,
    updated_at: String,
    /// A temporary client only.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    id: String,
    #[serde(skip)]
    expires: Option<UnixTime>,
}

impl Client {
    /// A form without name, client id or key makes a temporary client, not an error.
    fn new(form: Form, owner: &str, now: UnixTime) -> Self {
        let complete = form.name.is_some() && form.client_id.is_some() && form.key.is_some();
        let expires = (!complete).then(|| now.plus(TEMPORARY));
        let random = fastrand::u64(..);
        Self {
            name: form
                .name
                .unwrap_or_else(|| format!("temporary-{random:016x}")),
            description: form.description.unwrap_or_default(),
            owner: owner.to_owned(),
            client_id: form
                .client_id
                .unwrap_or_else(|| format!("tmp-{random:016x}")),
            created_at: rfc3339(now),
            updated_at: rfc3339(now),
            expires_at: expires.map(rfc3339),
            id: format!("{:08x}{:016x}", fastrand::u32(..), fastrand::u64(..)),
            expires,
        }
    }

    fn update(&mut self, form: Form, now: UnixTime) {
        for (field, value) in [
            (&mut self.name, form.name),
            (&mut self.description, form.description),
            (&mut self.client_id, form.client_id),
        ] {
            if let Some(value) = value {
                *field = value;
            }
        }
        self.updated_at = rfc3339(now);
    }
}

fn forget_expired(clients: &mut Vec<Client>, now: UnixTime) {
    clients.retain(|client| client.expires.is_none_or(|expires| expires > now));
}

fn rfc3339(time: UnixTime) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_secs(time.0)).to_string()
}

const MAX_CLIENTS: usize = 1000;
const MAX_FIELD: usize = 256;
const TEMPORARY: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_client_is_forgotten_when_it_expires() {
        let now = UnixTime(1_700_000_000);
        let full = Form {
            name: Some("n".to_owned()),
            client_id: Some("c".to_owned()),
            key: Some("k".to_owned()),
            ..Form::default()
        };
        let mut clients = vec![
            Client::new(Form::default(), "legacy", now),
            Client::new(full, "legacy", now),
        ];
        assert!(clients[0].expires_at.is_some() && clients[1].expires_at.is_none());
        forget_expired(&mut clients, now);
        assert_eq!(clients.len(), 2);
        forget_expired(&mut clients, now.plus(TEMPORARY));
        assert_eq!(clients.len(), 1);
        assert_eq!(clients[0].name, "n");
    }
}
