//! What does the broker's REST gateway do? It takes messages for stations, and shows the last ones.
//!
//! It holds [`MAX_STATIONS`] stations (the oldest goes first), [`MAX_MESSAGES`] messages of each, and
//! the first [`MAX_SHOWN`] bytes of a message.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Map, Value};

use super::body;
use super::reply::{self, Reply};

/// The stations that were written to.
#[derive(Default)]
pub(super) struct Stations {
    held: Mutex<VecDeque<Station>>,
}

impl Stations {
    /// Answers what stands below `/stations/<name>`.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        name: &str,
        what: &[&str],
    ) -> Reply {
        let name = percent_decode_str(name).decode_utf8_lossy();
        if name.is_empty() || name.len() > MAX_NAME {
            return reply::message(
                StatusCode::BAD_REQUEST,
                "a station's name has 1 to 128 bytes",
            );
        }
        match (request.method(), what) {
            (&Method::POST, ["produce", "single"]) => self.single(request, &name).await,
            (&Method::POST, ["produce", "batch"]) => self.batch(request, &name).await,
            (&Method::GET, ["messages"]) => self.show(&name),
            _ => reply::message(StatusCode::NOT_FOUND, "Not Found"),
        }
    }

    async fn single(&self, request: Request<Incoming>, name: &str) -> Reply {
        let content_type = content_type(&request);
        let known = content_type.contains("text")
            || content_type.contains("application/json")
            || content_type == "application/x-protobuf";
        if !known {
            return unsupported();
        }
        match body(request).await {
            Ok(message) => {
                self.keep(name, &[message]);
                produced()
            }
            Err(reply) => reply,
        }
    }

    async fn batch(&self, request: Request<Incoming>, name: &str) -> Reply {
        if content_type(&request) != "application/json" {
            return unsupported();
        }
        let body = match body(request).await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let Ok(objects) = serde_json::from_slice::<Vec<Map<String, Value>>>(&body) else {
            return reply::message(
                StatusCode::BAD_REQUEST,
                "a batch is a JSON array of objects",
            );
        };
        let messages: Vec<Bytes> = objects
            .into_iter()
            .map(|object| Value::Object(object).to_string().into())
            .collect();
        self.keep(name, &messages);
        produced()
    }

    fn show(&self, name: &str) -> Reply {
        let stations = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match stations.iter().find(|station| station.station == name) {
            Some(station) => reply::json(StatusCode::OK, station),
            None => reply::message(StatusCode::NOT_FOUND, "nothing was produced there yet"),
        }
    }

    fn keep(&self, name: &str, messages: &[Bytes]) {
        let mut stations = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(station) = stations.iter_mut().find(|station| station.station == name) {
            return station.keep(messages);
        }
        if stations.len() >= MAX_STATIONS {
            stations.pop_front();
        }
        let mut station = Station {
            station: name.to_owned(),
            total: 0,
            messages: VecDeque::new(),
        };
        station.keep(messages);
        stations.push_back(station);
    }
}

#[derive(Serialize)]
struct Station {
    station: String,
    total: usize,
    messages: VecDeque<String>,
}

impl Station {
    fn keep(&mut self, messages: &[Bytes]) {
        self.total = self.total.saturating_add(messages.len());
        for message in messages {
            if self.messages.len() >= MAX_MESSAGES {
                self.messages.pop_front();
            }
            let shown = message.get(..MAX_SHOWN).unwrap_or(message);
            self.messages
                .push_back(String::from_utf8_lossy(shown).into_owned());
        }
    }
}

fn content_type(request: &Request<Incoming>) -> String {
    let value = request.headers().get(CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_ascii_lowercase()
}

fn produced() -> Reply {
    reply::json(
        StatusCode::OK,
        &serde_json::json!({"error": null, "success": true}),
    )
}

fn unsupported() -> Reply {
    reply::text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "unsupported content type",
    )
}

const MAX_STATIONS: usize = 64;
const MAX_MESSAGES: usize = 100;
const MAX_SHOWN: usize = 4096;
const MAX_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_and_their_messages_are_bounded() {
        let stations = Stations::default();
        let long = Bytes::from(vec![b'x'; MAX_SHOWN + 1]);
        for station in 0..=MAX_STATIONS {
            stations.keep(&station.to_string(), &vec![long.clone(); MAX_MESSAGES + 1]);
        }
        let held = stations.held.lock().unwrap();
        assert_eq!(held.len(), MAX_STATIONS);
        assert_eq!(held[0].station, "1", "the oldest station went");
        assert_eq!(held[0].messages.len(), MAX_MESSAGES);
        assert_eq!(held[0].messages[0].len(), MAX_SHOWN);
        assert_eq!(held[0].total, MAX_MESSAGES + 1);
    }
}
