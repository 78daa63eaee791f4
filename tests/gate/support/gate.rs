//! The real binary, with a config and files of its own, ended when dropped.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::client::{self, Response};
use super::secrets::shaped_like_one;
pub(crate) use super::tokens::{claims, sign, sign_as};
use super::wait_for;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");

/// The HS256 secret of [`Builder::standard`].
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!(
            "tollgate-test-{}-{:016x}",
            std::process::id(),
            fastrand::u64(..)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        self.write_with(0o600, name, bytes)
    }

    /// A file with these permissions.
    pub(crate) fn write_with(&self, mode: u32, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Folder {
    /// Gives it and the files in it to another user.
    pub(crate) fn give_to(&self, user: u32) {
        std::os::unix::fs::chown(&self.0, Some(user), None).unwrap();
        for entry in std::fs::read_dir(&self.0).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(user), None).unwrap();
        }
    }
}

/// A user who is nobody in particular, for a gate that a test does not run as root.
pub(crate) const NOBODY: u32 = 65534;

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A gate to be started.
#[derive(Debug)]
pub(crate) struct Builder {
    folder: Folder,
    config: String,
    /// The permissions of the config itself.
    mode: u32,
}

impl Builder {
    /// A gate with this config.
    pub(crate) fn new(config: &str) -> Self {
        Self {
            folder: Folder::new(),
            config: config.to_owned(),
            mode: 0o600,
        }
    }

    /// A gate with one plaintext listener, the upstream `app` at this address, the user `root`
    /// with password `memphis` and scope `admin`, HS256 under [`SECRET`], the Memphis login, no
    /// reload but by SIGHUP, and these routes (YAML list items, indented by two).
    pub(crate) fn standard(upstream: SocketAddr, routes: &str) -> Self {
        Self::with_extra(upstream, routes, "")
    }

    /// As [`Builder::standard`], with further top-level sections.
    pub(crate) fn with_extra(upstream: SocketAddr, routes: &str, extra: &str) -> Self {
        let config = format!(
            r#"
listeners: [ {{ address: "127.0.0.1:0" }} ]
admin: {{ address: "127.0.0.1:0" }}
workers: 2
tokens:
  issuer: tollgate
  audience: gate
  keys: [ {{ id: k1, algorithm: HS256, secret_file: k1 }} ]
  seal_key_file: seal
identity: [ {{ users_file: users.yaml }} ]
upstreams:
  app: {{ endpoints: [ "http://{upstream}" ], response_timeout: 5s }}
login: [ {{ dialect: memphis }} ]
reload: {{ interval: 0s }}
routes:
{routes}
{extra}
"#
        );
        Self::new(&config)
            .file("k1", SECRET)
            .file("seal", "fedcba9876543210fedcba9876543210")
            .file("upstream-password", "s3cret\n")
            .file("users.yaml", users(&[("root", "memphis", "[ admin ]")]))
    }

    /// With one more file next to the config.
    pub(crate) fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.folder.write(name, bytes);
        self
    }

    /// With other permissions of a file, of the config itself, or of the folder (`.`).
    pub(crate) fn mode(mut self, name: &str, mode: u32) -> Self {
        if name == "tollgate.yaml" {
            self.mode = mode;
        } else {
            let path = self.folder.path().join(name);
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        self
    }

    /// The folder of its config and files.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// With every `from` in the config replaced.
    pub(crate) fn edit(mut self, from: &str, to: &str) -> Self {
        assert!(self.config.contains(from), "the config has no {from}");
        self.config = self.config.replace(from, to);
        self
    }

    /// The config's text.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// With a self-signed certificate for these names as `{stem}.crt` and `{stem}.key`.
    pub(crate) fn certificate(self, stem: &str, names: &[&str]) -> Self {
        let (certificate, key) = self_signed(names);
        self.file(&format!("{stem}.crt"), certificate)
            .file(&format!("{stem}.key"), key)
    }

    /// One listener with TLS, named `secure`; and its certificate for `gate.example` (PEM).
    pub(crate) fn secure(self) -> (Self, String) {
        let (certificate, key) = self_signed(&["gate.example"]);
        let listener = "listeners: [ { address: \"127.0.0.1:0\", name: secure, tls: { certificate: a.crt, private_key: a.key } } ]";
        let builder = self
            .line("listeners:", listener)
            .file("a.crt", &certificate)
            .file("a.key", key);
        (builder, certificate)
    }

    /// One listener, which believes these proxies.
    pub(crate) fn trusting(self, proxies: &str) -> Self {
        let listener = format!(
            "listeners: [ {{ address: \"127.0.0.1:0\", trusted_proxies: [ {proxies} ] }} ]"
        );
        self.line("listeners:", &listener)
    }

    /// With the config's lines that start with `start` replaced by `line`.
    pub(crate) fn line(mut self, start: &str, line: &str) -> Self {
        let replace = |held| {
            if str::starts_with(held, start) {
                line
            } else {
                held
            }
        };
        let lines: Vec<_> = self.config.lines().map(replace).collect();
        self.config = lines.join("\n");
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Gate {
        let path = self
            .folder
            .write_with(self.mode, "tollgate.yaml", &self.config);
        let mut command = Command::new(BINARY);
        command.arg("run").arg("--config").arg(path);
        Gate::spawn(command, self.folder)
    }

    /// Runs it where it is expected to end by itself, such as with a wrong config.
    pub(crate) fn run_to_end(&self, arguments: &[&str]) -> Output {
        let path = self
            .folder
            .write_with(self.mode, "tollgate.yaml", &self.config);
        Command::new(BINARY)
            .args(arguments)
            .arg("--config")
            .arg(path)
            .output()
            .unwrap()
    }
}

/// A users file with these names, passwords and scopes.
pub(crate) fn users(users: &[(&str, &str, &str)]) -> String {
    let mut text = "users:\n".to_owned();
    for (name, password, scopes) in users {
        let hash = hash_password(password, "argon2id");
        text += &format!(
            "  - {{ name: \"{name}\", email: \"{name}@example.com\", password_hash: \"{hash}\", \
             connection_token_hash: \"{hash}\", scopes: {scopes} }}\n"
        );
    }
    text
}

/// What `tollgate hash-password` prints.
pub(crate) fn hash_password(password: &str, algorithm: &str) -> String {
    let arguments = ["hash-password", "--algorithm", algorithm];
    let output = run(&arguments, &format!("{password}\n"));
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs a command to its end on this input.
pub(crate) fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = spawn_piped(arguments);
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Starts a command with all its streams in the test's hands.
pub(crate) fn spawn_piped(arguments: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.args(arguments).stdin(Stdio::piped());
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A self-signed certificate and its key in PEM.
pub(crate) fn self_signed(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A running gate.
#[derive(Debug)]
pub(crate) struct Gate {
    child: Child,
    /// The listeners' addresses, in the config's order.
    pub(crate) listeners: Vec<SocketAddr>,
    /// The admin listener's address.
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
    folder: Folder,
}

impl Gate {
    fn spawn(mut command: Command, folder: Folder) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        let sink = Arc::clone(&log);
        let log_reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                sink.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let (mut listeners, mut admin, mut is_ready) = (Vec::new(), None, false);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !is_ready && stdout.read_line(&mut line).unwrap() > 0 {
            let address = || line.rsplit_once("://").unwrap().1.trim().parse().unwrap();
            match line.split_whitespace().next() {
                Some("listening") => listeners.push(address()),
                Some("admin") => admin = Some(address()),
                Some("ready") => is_ready = true,
                _ => {}
            }
            line.clear();
        }
        if !is_ready {
            let _ = child.wait();
            panic!("the gate did not start: {}", log.lock().unwrap());
        }
        Self {
            child,
            listeners,
            admin: admin.unwrap(),
            log,
            log_reader: Some(log_reader),
            folder,
        }
    }

    /// Kills it as a crash would, and starts it again with the same files.
    pub(crate) fn crash_and_start(self) -> Self {
        self.crash_and_start_by(Command::new(BINARY))
    }

    /// As [`Gate::crash_and_start`], by a command to which the gate's arguments are added.
    pub(crate) fn crash_and_start_by(mut self, mut command: Command) -> Self {
        let _ = self.child.kill();
        self.child.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, Folder::new());
        command
            .args(["run", "--config"])
            .arg(folder.path().join("tollgate.yaml"));
        Self::spawn(command, folder)
    }

    /// The first listener's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its config and files.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Everything that it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log line for which `is_it` holds.
    pub(crate) fn wait_for_log(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let log = self.log();
            let mut lines = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            lines.find(|line| is_it(line))
        })
    }

    /// The metrics.
    pub(crate) fn metrics(&self) -> String {
        self.on_admin("/metrics").text()
    }

    /// One sample of the metrics, such as `tollgate_requests_total{code="2xx",…}`; zero if it is
    /// not there.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let metrics = self.metrics();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Asks the admin listener.
    pub(crate) fn on_admin(&self, path: &str) -> Response {
        client::send(
            self.admin,
            format!(
                "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
                self.admin
            ),
        )
    }

    /// Sends raw bytes over a connection of their own and reads one response.
    pub(crate) fn send(&self, request: impl AsRef<[u8]>) -> Response {
        client::send(self.address(), request)
    }

    /// A request without body; `headers` are whole lines, each ended by `\r\n`.
    pub(crate) fn request(&self, method: &str, target: &str, headers: &str) -> Response {
        self.send(format!(
            "{method} {target} HTTP/1.1\r\nhost: gate.example\r\n{headers}\r\n"
        ))
    }

    /// `GET` with a Bearer token.
    pub(crate) fn get(&self, target: &str, token: &str) -> Response {
        self.request("GET", target, &format!("authorization: Bearer {token}\r\n"))
    }

    /// `POST` of a JSON body.
    pub(crate) fn post_json(&self, target: &str, body: &str) -> Response {
        let length = body.len();
        self.send(format!(
            "POST {target} HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    }

    /// Logs in at the Memphis endpoint and returns the answer's JSON.
    pub(crate) fn login(&self, username: &str, password: &str) -> Value {
        let body = json!({"username": username, "password": password}).to_string();
        let response = self.post_json("/auth/authenticate", &body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Logs in and returns the access token.
    pub(crate) fn token(&self, username: &str, password: &str) -> String {
        self.login(username, password)["jwt"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Sends a signal, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Ends it politely; everything that it logged.
    pub(crate) fn end(&mut self) -> String {
        self.signal("TERM");
        assert_eq!(self.wait(), Some(0));
        self.log()
    }

    /// Waits until it has ended by itself; its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let code = wait_for("the gate's end", || self.child.try_wait().unwrap()).code();
        if let Some(reader) = self.log_reader.take() {
            reader.join().unwrap();
        }
        code
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.log_reader.take() {
            let _ = reader.join();
        }
        if !std::thread::panicking() {
            let log = self.log();
            let found = shaped_like_one(&log);
            assert_eq!(found, None, "a secret is in the log");
        }
    }
}
