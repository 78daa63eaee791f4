//! How does a test start a real service, the gate and real clients, and be sure that they end?

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What a service gets for its start, and a line of a log for its arrival.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

const FOLDERS: &str = env!("CARGO_TARGET_TMPDIR");
/// The program under test.
pub(crate) const GATE: &str = env!("CARGO_BIN_EXE_tollgate");

/// The text of a stream, as it comes in.
#[derive(Debug, Default)]
pub(crate) struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    text: String,
    ended: bool,
}

impl Log {
    fn follow(stream: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = stream.read_until(b'\n', &mut line) {
                writer.change(|state| state.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            writer.change(|state| state.ended = true);
        });
        log
    }

    fn change(&self, change: impl FnOnce(&mut LogState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until a line is `wanted`; false when the stream or the patience ended before.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let missing = |state: &LogState| !state.text.lines().any(&wanted);
        let state = self.state.lock().expect("a log");
        let (state, _) = self
            .changed
            .wait_timeout_while(state, DEADLINE, |state| missing(state) && !state.ended)
            .expect("a log");
        !missing(&state)
    }

    /// All of it, up to now.
    pub(crate) fn text(&self) -> String {
        self.state.lock().expect("a log").text.clone()
    }
}

/// A folder that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn create() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(FOLDERS).join(format!("{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for a test");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        fs::write(&file, text).expect("a file for a test");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a file of ours");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process and all that it starts: a process group. It is killed when this is dropped, and by
/// its watchdog when the tests end without that, since then the watchdog's input ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watchdog: Child,
    pub(crate) stdout: Arc<Log>,
    pub(crate) stderr: Arc<Log>,
}

impl Process {
    /// Starts it; the watchdog takes `folder` away as well.
    pub(crate) fn start(command: &mut Command, folder: &Folder) -> Self {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/install.sh"));
        let watchdog = Command::new("sh")
            .args(["-c", r#"cat; kill -s KILL -- "-$0"; rm -rf -- "$1""#])
            .arg(child.id().to_string())
            .arg(&folder.0)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a watchdog");
        let stdout = Log::follow(child.stdout.take().expect("its stdout"));
        let stderr = Log::follow(child.stderr.take().expect("its stderr"));
        Self {
            child,
            watchdog,
            stdout,
            stderr,
        }
    }

    /// What it has said, for the message of a failed test.
    pub(crate) fn said(&self) -> String {
        format!(
            "--- stdout\n{}--- stderr\n{}",
            self.stdout.text(),
            self.stderr.text()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not waited for yet, so its id cannot belong to another process.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("sh")
            .args(["-c", r#"kill -s KILL -- "$0""#, &group])
            .status();
        let _ = self.child.wait();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

/// Starts a service that cannot pick its own ports: again on others if somebody took them between
/// picking and listening, and not at all, with its log, if anything else is wrong.
pub(crate) fn start_on_free_ports<S, const N: usize>(
    start: impl Fn([u16; N]) -> Result<S, String>,
) -> Result<S, String> {
    let mut outcome = Err("not tried".to_owned());
    for _ in 0..3 {
        outcome = start(free_ports());
        match &outcome {
            Err(log)
                if ["eaddrinuse", "in use", "already"]
                    .iter()
                    .any(|it| log.contains(it)) => {}
            Err(_) | Ok(_) => break,
        }
    }
    outcome
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are known, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address").port())
}

/// The gate, as a user would run it: one TLS listener, one plain, and the admin listener.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) process: Process,
    pub(crate) folder: Folder,
    pub(crate) https: String,
    pub(crate) http: String,
    /// The port for MQTT over TLS, if there is one.
    pub(crate) mqtts: Option<String>,
    admin: String,
}

impl Gate {
    /// Runs with this config, the files that it names, and what all configs share: listeners,
    /// certificate, keys.
    pub(crate) fn start(config: &str, files: &[(&str, &str)]) -> Self {
        let folder = Folder::create();
        for (name, text) in files {
            folder.write(name, text);
        }
        let has_login = config.lines().any(|line| line.starts_with("login:"));
        let login = if has_login { "" } else { USUAL_LOGIN };
        let config = format!("{SHARED_CONFIG}{login}{config}");
        // A config that speaks of MQTT gets a listener of it, too.
        let config = match config.contains("protocol: mqtt") {
            true => config.replace("admin:", &format!("{MQTT_LISTENER}admin:")),
            false => config,
        };
        let names = vec!["127.0.0.1".to_owned()];
        let tls = rcgen::generate_simple_self_signed(names).expect("a certificate");
        folder.write("tls.crt", &tls.cert.pem());
        folder.write("tls.key", &tls.signing_key.serialize_pem());
        folder.write("k1", &secret());
        folder.write("seal", &secret());
        folder.write("tollgate.yaml", &config);
        Self::start_in(folder)
    }

    /// Runs with the config and files that a folder has.
    pub(crate) fn start_in(folder: Folder) -> Self {
        let config = folder.file("tollgate.yaml");
        let run = &mut Command::new(GATE);
        let process = Process::start(run.arg("run").arg("--config").arg(config), &folder);
        assert!(
            process.stdout.wait_for(|line| line == "ready"),
            "no gate\n{}",
            process.said()
        );
        let said = process.stdout.text();
        let found = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
        let line = |start: &str| {
            let url = found(start).unwrap_or_else(|| panic!("no `{start}` in {said}"));
            url.to_owned()
        };
        Self {
            https: format!("https://{}", line("listening https://")),
            http: format!("http://{}", found("listening http://").unwrap_or_default()),
            mqtts: said
                .lines()
                .find_map(|line| line.strip_prefix("listening mqtts://127.0.0.1:"))
                .map(str::to_owned),
            admin: line("admin "),
            process,
            folder,
        }
    }

    /// What was sent to the TLS listener, with these arguments for curl, and came back.
    pub(crate) fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let certificate = self.folder.file("tls.crt");
        let trust = ["--cacert", certificate.to_str().expect("a path in UTF-8")];
        curl(
            &format!("{}{path}", self.https),
            &[&trust, arguments].concat(),
        )
    }

    /// The answer to a login in Memphis' dialect.
    pub(crate) fn login(&self, username: &str, password: &str) -> Answer {
        let body = json!({ "username": username, "password": password }).to_string();
        self.curl("/auth/authenticate", &["-H", JSON, "-d", &body])
    }

    /// An access token for somebody who did not log in.
    pub(crate) fn mint(&self, subject: &str, ttl: &str) -> String {
        let output = Command::new(GATE)
            .args([
                "token",
                "mint",
                "--subject",
                subject,
                "--ttl",
                ttl,
                "--config",
            ])
            .arg(self.folder.file("tollgate.yaml"))
            .output()
            .expect("tollgate token mint");
        succeeded(&output).trim().to_owned()
    }

    /// The value of a metric, named with its labels as it is shown.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let page = curl(&format!("{}/metrics", self.admin), &[]).body;
        page.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Waits for an event in the log of which `wanted` holds.
    pub(crate) fn logged(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        let parsed = |line: &str| serde_json::from_str(line).is_ok_and(|event| wanted(&event));
        self.process.stderr.wait_for(parsed)
    }

    /// The events of a real MQTT client that sends this token (or nothing) with its handshake.
    pub(crate) fn mqtt(&self, client: &Mqtt<'_>, token: Option<&str>, more: &[&str]) -> Vec<Value> {
        let (_, port) = self.https.rsplit_once(':').expect("a port");
        let path = match token {
            Some(token) => format!("{}?authorization={token}", client.path),
            None => client.path.to_owned(),
        };
        let certificate = self.folder.file("tls.crt");
        let trust = ["--ca", certificate.to_str().expect("a path in UTF-8")];
        client.run(&[&["--port", port, "--path", &path], &trust[..], more].concat())
    }
}

/// How a client of MQTT reaches the gate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over<'a> {
    /// MQTT itself, over TLS.
    Tls,
    /// A WebSocket at this path, over TLS.
    WebSocket(&'a str),
}

impl Gate {
    fn place(&self, over: Over<'_>) -> (&str, String) {
        let (_, port) = self.https.rsplit_once(':').expect("a port");
        match over {
            Over::Tls => {
                let port = self.mqtts.as_deref().expect("a listener of MQTT");
                (port, format!("mqtts://127.0.0.1:{port}"))
            }
            Over::WebSocket(path) => (port, format!("wss://127.0.0.1:{port}{path}")),
        }
    }

    /// The events of Paho, which has this token as its password and speaks this level.
    pub(crate) fn paho(
        &self,
        (over, level): (Over<'_>, u8),
        topic: &str,
        token: &str,
        more: &[&str],
    ) -> Vec<Value> {
        let client = Mqtt {
            path: "",
            username: "anybody",
            password: token,
            topic,
        };
        let certificate = self.folder.file("tls.crt");
        let (port, _) = self.place(over);
        let level = level.to_string();
        let mut arguments = vec!["--port", port, "--mqtt", &level];
        arguments.extend(["--ca", certificate.to_str().expect("a path in UTF-8")]);
        if let Over::WebSocket(path) = over {
            arguments.extend(["--path", path]);
        }
        client.run(&[&arguments, more].concat())
    }

    /// The event of MQTT.js, which has this token as its password and speaks this level.
    pub(crate) fn mqtt_js(&self, (over, level): (Over<'_>, u8), topic: &str, token: &str) -> Value {
        let (_, url) = self.place(over);
        let output = Command::new("node")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/mqtt/roundtrip.mjs"
            ))
            .args([&url, &level.to_string(), token, topic])
            .arg(fs::canonicalize(self.folder.file("tls.crt")).expect("a certificate"))
            .current_dir(Path::new(FOLDERS).with_file_name("node"))
            .output()
            .expect("node; run tests/install.sh");
        serde_json::from_str(succeeded(&output).trim()).expect("an event")
    }
}

const MQTT_LISTENER: &str = "  - address: 127.0.0.1:0
    name: mqtts
    protocol: mqtt
    path: /mqtt
    tls: { certificate: tls.crt, private_key: tls.key }
";

const SHARED_CONFIG: &str = "
listeners:
  - address: 127.0.0.1:0
    tls: { certificate: tls.crt, private_key: tls.key }
  - address: 127.0.0.1:0
admin: { address: 127.0.0.1:0 }
tokens:
  issuer: tollgate
  keys: [ { id: k1, algorithm: HS256, secret_file: k1 } ]
  seal_key_file: seal
log: { level: debug }
";

/// The logins of a config that names none.
const USUAL_LOGIN: &str = "login: [ { dialect: memphis } ]\n";

pub(crate) const JSON: &str = "Content-Type: application/json";

fn secret() -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(48)
        .collect()
}

/// A real MQTT client, and what it says in its CONNECT, which is the broker's business alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mqtt<'a> {
    pub(crate) path: &'a str,
    pub(crate) username: &'a str,
    pub(crate) password: &'a str,
    pub(crate) topic: &'a str,
}

impl Mqtt<'_> {
    /// The events of tests/mqtt/roundtrip.py, which publishes its topic as payload.
    pub(crate) fn run(&self, more: &[&str]) -> Vec<Value> {
        let python = Path::new(FOLDERS)
            .with_file_name("python")
            .join("bin/python");
        let output = Command::new(&python)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/mqtt/roundtrip.py"
            ))
            .args(["--username", self.username, "--password", self.password])
            .args(["--topic", self.topic, "--payload", self.topic])
            .args(more)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}; run tests/install.sh", python.display()));
        let events = succeeded(&output);
        events
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event"))
            .collect()
    }
}

/// What curl brought back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// A field of a JSON body, as text.
    pub(crate) fn field(&self, name: &str) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let field = body.get(name).and_then(Value::as_str);
        field
            .unwrap_or_else(|| panic!("no `{name}` in {self:?}"))
            .to_owned()
    }
}

/// Sends one request as it is written: nothing in the URL is changed.
pub(crate) fn curl(url: &str, arguments: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--globoff",
            "--path-as-is",
            "--max-time",
            "60",
        ])
        .args(["--noproxy", "*", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(url)
        .output()
        .expect("curl; run tests/install.sh");
    let text = succeeded(&output);
    let (body, status) = text.rsplit_once('\n').expect("a status");
    Answer {
        status: status.parse().expect("a status"),
        body: body.to_owned(),
    }
}

pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
