//! Does MQTT pass with a token, and only as its rules say?

mod admission;
mod ends;
mod frames;
mod hostile;
mod topics;
mod websocket;
