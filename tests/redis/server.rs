//! How does a test start a real Redis, end it, and start it again with its data?

use std::net::TcpListener;
use std::process::Command;
use std::sync::LazyLock;

use crate::services::{Folder, Process, start_on_free_ports, succeeded};
use crate::support::gate::{Builder, Gate, users};
use crate::support::upstream::Upstream;
use crate::support::wait_for;

pub(crate) const ROUTES: &str = "
  - { path: /api/**, upstream: app }
  - { path: /ws/**, upstream: app }
";

/// A Redis that writes down every command before it answers.
#[derive(Debug)]
pub(crate) struct Redis {
    process: Option<Process>,
    folder: Folder,
    pub(crate) port: u16,
    arguments: Vec<String>,
    client: Vec<String>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(|_| (Vec::new(), Vec::new()))
    }

    /// With arguments of its own, and what `redis-cli` needs to speak with it.
    pub(crate) fn with(arguments: impl Fn(&Folder) -> (Vec<String>, Vec<String>)) -> Self {
        let started = start_on_free_ports(|[port]: [u16; 1]| Self::on(port, &arguments));
        started.unwrap_or_else(|log| panic!("no Redis\n{log}"))
    }

    /// On this port.
    pub(crate) fn on(
        port: u16,
        arguments: impl Fn(&Folder) -> (Vec<String>, Vec<String>),
    ) -> Result<Self, String> {
        let folder = Folder::create();
        let (arguments, client) = arguments(&folder);
        let mut redis = Self {
            process: None,
            folder,
            port,
            arguments,
            client,
        };
        redis.run()?;
        Ok(redis)
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--save", ""])
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.folder.file(""))
            .args(&self.arguments);
        let process = Process::start(&mut command, &self.folder);
        let is_ready = |line: &str| line.contains("Ready to accept connections");
        if !process.stdout.wait_for(is_ready) {
            return Err(process.said().to_lowercase());
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends it at once, its data kept.
    pub(crate) fn kill(&mut self) {
        // Its watchdog takes the folder away only if the tests themselves end.
        self.process = None;
    }

    /// What it answers to a command.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(&self.client)
            .args(command)
            .output()
            .expect("redis-cli; run tests/install.sh");
        succeeded(&output).trim().to_owned()
    }

    /// A gate on it.
    pub(crate) fn gate(&self, upstream: &Upstream, more: &str) -> Gate {
        self.builder(upstream, more).start()
    }

    pub(crate) fn builder(&self, upstream: &Upstream, more: &str) -> Builder {
        builder(&format!("redis://127.0.0.1:{}", self.port), upstream, more)
    }
}

/// Replicas have the same users: a refresh asks whether a password's hash is what it was.
static USERS: LazyLock<String> =
    LazyLock::new(|| users(&[("root", "memphis", "[ admin ]"), ("eve", "memphis", "[]")]));

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A gate on what stands at these urls, with these further keys of the store.
pub(crate) fn builder(urls: &str, upstream: &Upstream, more: &str) -> Builder {
    let store = format!("store: {{ redis: {{ urls: [ \"{urls}\" ]{more} }} }}");
    Builder::with_extra(upstream.address, ROUTES, &store).file("users.yaml", &*USERS)
}

/// Waits until a gate says that it is in step, or is not.
pub(crate) fn wait_for_step(gate: &Gate, is_in_step: bool) {
    let wanted = if is_in_step {
        "tollgate_store_in_step 1"
    } else {
        "tollgate_store_in_step 0"
    };
    wait_for(wanted, || {
        gate.metrics()
            .lines()
            .any(|line| line == wanted)
            .then_some(())
    });
}

/// The status of a request with a token.
pub(crate) fn status(gate: &Gate, token: &str) -> u16 {
    gate.get("/api/x", token).status
}

/// A pair's refresh token in the body of a refresh.
pub(crate) fn refresh(gate: &Gate, pair: &serde_json::Value) -> (u16, serde_json::Value) {
    let body = serde_json::json!({ "jwt_refresh_token": pair["jwt_refresh_token"] });
    let response = gate.post_json("/auth/refreshToken", &body.to_string());
    let is_json = response.body.starts_with(b"{");
    (
        response.status,
        if is_json {
            response.json()
        } else {
            serde_json::Value::Null
        },
    )
}

pub(crate) fn access(pair: &serde_json::Value) -> String {
    pair["jwt"].as_str().unwrap().to_owned()
}

/// Revokes through a gate's admin listener, as its body says; the status.
pub(crate) fn revoke(gate: &Gate, body: &serde_json::Value) -> u16 {
    let body = body.to_string();
    let request = format!(
        "POST /revoke HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    crate::support::client::send(gate.admin, request).status
}
