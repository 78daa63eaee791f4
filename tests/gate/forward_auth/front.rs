//! A real proxy in front of an app, with the config of deploy/forward-auth.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::gate;
use crate::support::client::{Response, read_response, send, try_connect};
use crate::support::gate::{Folder, Gate};
use crate::support::upstream::{Seen, Upstream};
use crate::support::wait_for;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    Caddy,
    Envoy,
    Nginx,
    Traefik,
}

impl Proxy {
    /// Its config, and the gate's options that the config's first lines name.
    fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Caddy => ("Caddyfile", "proxy: caddy, takes: [ cookie, subprotocol ]"),
            Self::Envoy => (
                "envoy.yaml",
                "proxy: envoy, takes: [ cookie, subprotocol, uri ]",
            ),
            Self::Nginx => (
                "nginx.conf",
                "proxy: nginx, takes: [ cookie, subprotocol, uri ]",
            ),
            Self::Traefik => (
                "traefik-dynamic.yaml",
                "proxy: traefik, takes: [ cookie, subprotocol ]",
            ),
        }
    }

    fn command(self, config: &Path, folder: &Path, port: u16) -> Command {
        let config = config.to_str().unwrap();
        let mut command = match self {
            Self::Nginx => {
                let mut command = Command::new("nginx");
                let own = "daemon off; master_process off; pid nginx.pid;";
                command.args(["-e", "stderr", "-c", config, "-g", own, "-p"]);
                command.arg(folder);
                command
            }
            Self::Caddy => {
                let mut command = Command::new(peer("caddy"));
                command.args(["run", "--adapter", "caddyfile", "--config", config]);
                command
            }
            Self::Traefik => {
                let mut command = Command::new(peer("traefik"));
                command.arg(format!("--entryPoints.web.address=127.0.0.1:{port}"));
                command.arg(format!("--providers.file.filename={config}"));
                command.args(["--global.checkNewVersion=false", "--log.level=WARN"]);
                command
            }
            Self::Envoy => {
                let mut command = Command::new(peer("envoy"));
                command.args(["--concurrency", "1", "--disable-hot-restart"]);
                command.args(["-l", "warning", "-c", config]);
                command
            }
        };
        for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(name, folder);
        }
        command.env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

/// Where benches/compare/install.sh puts the programs that Debian does not have.
fn peer(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    target.with_file_name("peers").join("bin").join(name)
}

/// An app, a gate that judges, and a proxy that asks it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) app: Upstream,
    pub(super) gate: Option<Gate>,
    address: SocketAddr,
    child: Child,
    _folder: Folder,
}

impl Site {
    pub(super) fn start(proxy: Proxy) -> Self {
        let app = Upstream::scripted(answer);
        let (file, options) = proxy.files();
        let gate = gate(&app, options);
        let folder = Folder::new();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/forward-auth");
        let text = std::fs::read_to_string(path.join(file)).unwrap();
        assert!(
            text.contains(&format!("forward_auth: {{ {options} }}")),
            "{file}"
        );
        let (address, child) = loop {
            let address = free_address();
            let mut text = text.clone();
            for (written, port) in [
                ("8080", address.port()),
                ("9000", app.address.port()),
                ("9080", gate.listeners[1].port()),
            ] {
                assert!(
                    text.contains(written) || written == "8080",
                    "{file}: {written}"
                );
                text = text.replace(written, &port.to_string());
            }
            if proxy == Proxy::Nginx {
                // Debian's are root's.
                let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
                let paths = kinds
                    .map(|kind| format!("{kind}_temp_path {kind};"))
                    .concat();
                text = text.replace("http {", &format!("http {{ access_log off; {paths}"));
            }
            let config = folder.write(file, text);
            let log = File::create(folder.path().join("log")).unwrap();
            let mut command = proxy.command(&config, folder.path(), address.port());
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log);
            let mut child = command.spawn().unwrap_or_else(|error| {
                panic!("{proxy:?}: {error}; run benches/compare/install.sh")
            });
            if is_up(&mut child, address) {
                break (address, child);
            }
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
            let is_taken = log.to_lowercase().contains("address already in use");
            assert!(is_taken, "{proxy:?} did not start: {log}");
        };
        Self {
            app,
            gate: Some(gate),
            address,
            child,
            _folder: folder,
        }
    }

    /// A request through the proxy: its head but for the last empty line, and its body.
    pub(super) fn ask(&self, method: &str, target: &str, lines: &str, body: &str) -> Response {
        let host = if lines.to_lowercase().contains("host: ") && lines.starts_with("host: ") {
            ""
        } else {
            "host: gate.example\r\n"
        };
        let length = match body.len() {
            0 => String::new(),
            length => format!("content-length: {length}\r\n"),
        };
        send(
            self.address,
            format!("{method} {target} HTTP/1.1\r\n{host}{lines}{length}\r\n{body}"),
        )
    }

    /// What came to the app while `action` ran.
    pub(super) fn during<T>(&self, action: impl FnOnce() -> T) -> (T, Vec<Seen>) {
        let before = self.app.seen().len();
        let outcome = action();
        (outcome, self.app.seen().split_off(before))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes a WebSocket (RFC 6455 section 1.3 has this key and its answer), else says `ok`.
fn answer(seen: &Seen, stream: &mut TcpStream) -> bool {
    let is_upgrade = seen.header("upgrade").is_some();
    let response = match is_upgrade {
        true => {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: mqtt\r\n\r\n"
        }
        false => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    };
    stream.write_all(response.as_bytes()).is_ok() && !is_upgrade
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap()
}

/// Whether it asks the gate, before it ends.
fn is_up(child: &mut Child, address: SocketAddr) -> bool {
    wait_for("the proxy", || {
        if child.try_wait().unwrap().is_some() {
            return Some(false);
        }
        let mut stream = try_connect(address).ok()?;
        let request = "GET /api/up HTTP/1.1\r\nhost: gate.example\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        (read_response(&mut stream, false).status == 401).then_some(true)
    })
}
