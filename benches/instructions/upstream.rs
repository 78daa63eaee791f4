//! The upstream: takes requests with the gate's credential alone, and answers once the gate waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::quiet::Quiet;

/// Starts it; gives its address.
pub(crate) fn start(quiet: &Quiet) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let quiet = quiet.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let quiet = quiet.clone();
            thread::spawn(move || {
                // Whoever waits for an answer sees a 502.
                stream.map(|stream| serve(stream, &quiet))
            });
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream, quiet: &Quiet) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let credential = BASE64_STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    let credential = format!("\r\nauthorization: Basic {credential}\r\n");
    let mut buffer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
        let text = str::from_utf8(&buffer)?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = format!("{}\r\n", head.to_ascii_lowercase());
        if body.len() < content_length(&head)? {
            continue;
        }
        let is_translated = head.contains(&credential.to_ascii_lowercase())
            && head.matches("\r\nauthorization:").count() == 1
            && !head.contains("access_token");
        buffer.clear();
        quiet.wait()?;
        stream.write_all(if is_translated { OK } else { UNKNOWN })?;
    }
}

fn content_length(head: &str) -> anyhow::Result<usize> {
    let Some((_, value)) = head.split_once("\r\ncontent-length:") else {
        return Ok(0);
    };
    let line = value.lines().next().unwrap_or_default();
    line.trim().parse().context("no length")
}

/// What the gate is told to present.
pub(crate) const USERNAME: &str = "gate";
pub(crate) const PASSWORD: &str = "the upstream's password";

/// The end of every answer that says that all is well.
pub(crate) const BODY: &str = r#"{"status":"ok"}"#;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
const UNKNOWN: &[u8] = b"HTTP/1.1 418 Unknown\r\nContent-Length: 15\r\n\r\n{\"status\":\"no\"}";
