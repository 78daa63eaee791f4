//! How does a test start a real RabbitMQ, and see what the gate sends to it?

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use serde_json::json;

use crate::services::{Answer, Folder, JSON, Process, curl, start_on_free_ports};

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const KEEPER: &str = "keeper:kept by the tests";

/// A RabbitMQ with nothing of the machine's own: its data, plugins, cookie, ports and even its
/// port mapper (epmd) are its own. It speaks the management API, MQTT and MQTT over WebSocket.
#[derive(Debug)]
pub(crate) struct RabbitMq {
    _server: Process,
    _epmd: Process,
    _folder: Folder,
    pub(crate) management: u16,
    pub(crate) web_mqtt: u16,
    pub(crate) mqtt: u16,
}

impl RabbitMq {
    /// The one that all tests of this file share, since its start takes its time.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<RabbitMq, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| start_on_free_ports(Self::start));
        shared
            .as_ref()
            .unwrap_or_else(|log| panic!("no RabbitMQ\n{log}"))
    }

    fn start([epmd, distribution, management, web_mqtt, mqtt]: [u16; 5]) -> Result<Self, String> {
        let folder = Folder::create();
        let epmd_port = epmd.to_string();
        let epmd = start_epmd(&epmd_port, &folder)?;
        let config = folder.write("rabbitmq.conf", &config(management, web_mqtt, mqtt));
        let plugins = "[rabbitmq_management,rabbitmq_mqtt,rabbitmq_web_mqtt].";
        let server = Process::start(
            Command::new(SERVER)
                // A crash dump goes into the current folder.
                .current_dir(folder.file(""))
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("LANG", "C.UTF-8")
                .env("HOME", folder.file(""))
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .env("ERL_EPMD_PORT", epmd_port)
                .env(
                    "RABBITMQ_NODENAME",
                    format!("tollgate-{distribution}@localhost"),
                )
                .env("RABBITMQ_DIST_PORT", distribution.to_string())
                .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ON_LOOPBACK)
                .env("RABBITMQ_CONF_ENV_FILE", folder.file("no-env.conf"))
                .env("RABBITMQ_CONFIG_FILE", config)
                .env(
                    "RABBITMQ_ADVANCED_CONFIG_FILE",
                    folder.file("no-advanced.config"),
                )
                .env(
                    "RABBITMQ_ENABLED_PLUGINS_FILE",
                    folder.write("enabled_plugins", plugins),
                )
                .env("RABBITMQ_MNESIA_BASE", folder.file("mnesia"))
                .env("RABBITMQ_LOG_BASE", folder.file("log"))
                .env("RABBITMQ_LOGS", "-"),
            &folder,
        );
        if !server
            .stdout
            .wait_for(|line| line.contains("Server startup complete"))
        {
            return Err(server.said());
        }
        Ok(Self {
            _server: server,
            _epmd: epmd,
            _folder: folder,
            management,
            web_mqtt,
            mqtt,
        })
    }

    /// A user whose password only RabbitMQ knows, with all rights in the vhost `/`.
    pub(crate) fn add_user(&self, name: &str, password: &str, tags: &str) {
        let user = json!({ "password": password, "tags": tags }).to_string();
        let answer = self.manage("PUT", &format!("/users/{name}"), &user);
        assert!([201, 204].contains(&answer.status), "{answer:?}");
        let rights = json!({ "configure": ".*", "write": ".*", "read": ".*" }).to_string();
        let answer = self.manage("PUT", &format!("/permissions/%2F/{name}"), &rights);
        assert!([201, 204].contains(&answer.status), "{answer:?}");
    }

    pub(crate) fn remove_user(&self, name: &str) {
        let answer = self.manage("DELETE", &format!("/users/{name}"), "");
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// Whether it leaves HTTP/1.1 when it is offered HTTP/2 in the clear.
    pub(crate) fn takes_h2c(&self) -> bool {
        let mut stream = TcpStream::connect(("127.0.0.1", self.management)).expect("RabbitMQ");
        let request = "GET /api/whoami HTTP/1.1\r\nHost: localhost\r\n\
            Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
            HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("a request");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        &status == b"HTTP/1.1 101"
    }

    /// Asks the management API directly, as its administrator.
    fn manage(&self, method: &str, path: &str, body: &str) -> Answer {
        let url = format!("http://127.0.0.1:{}/api{path}", self.management);
        curl(&url, &["-X", method, "-u", KEEPER, "-H", JSON, "-d", body])
    }
}

const ON_LOOPBACK: &str = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false";

/// The port mapper in the foreground: the one that Erlang starts leaves the process group.
fn start_epmd(port: &str, folder: &Folder) -> Result<Process, String> {
    let epmd = Process::start(
        Command::new("epmd").args(["-d", "-d", "-address", "127.0.0.1", "-port", port]),
        folder,
    );
    match epmd
        .stderr
        .wait_for(|line| line.contains("entering the main select() loop"))
    {
        true => Ok(epmd),
        false => Err(epmd.said()),
    }
}

fn config(management: u16, web_mqtt: u16, mqtt: u16) -> String {
    let (name, password) = KEEPER.split_once(':').expect("a name and a password");
    format!(
        "listeners.tcp = none
mqtt.listeners.tcp.local = 127.0.0.1:{mqtt}
mqtt.allow_anonymous = false
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = {web_mqtt}
loopback_users = none
default_user = {name}
default_pass = {password}
log.console = true
log.file = false
"
    )
}

/// A wire that remembers what went through it towards the upstream.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    pub(crate) fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let pen = Arc::clone(&seen);
        thread::spawn(move || {
            for downstream in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", upstream)) else {
                    continue;
                };
                let ends = (downstream.try_clone(), upstream.try_clone());
                let (Ok(downstream_end), Ok(upstream_end)) = ends else {
                    continue;
                };
                let pen = Arc::clone(&pen);
                thread::spawn(move || carry(downstream, upstream, Some(&pen)));
                thread::spawn(move || carry(upstream_end, downstream_end, None));
            }
        });
        Self { port, seen }
    }

    /// All that went up, as text.
    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("what was seen")).into_owned()
    }

    /// The heads of the requests for this path and query that went up.
    pub(crate) fn requests_for(&self, target: &str) -> Vec<String> {
        let seen = self.seen();
        let heads = seen
            .split("\r\n\r\n")
            .filter(|head| head.contains(&format!(" {target} HTTP/1.1")));
        heads.map(str::to_owned).collect()
    }
}

/// The values of a header in a request's head, in order.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .filter(|field| field.0.eq_ignore_ascii_case(name))
        .map(|field| field.1.trim())
        .collect()
}

fn carry(mut from: TcpStream, mut to: TcpStream, pen: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = [0; 16384];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        if let Some(pen) = pen {
            // Before it is sent on: who sees an answer also sees its request.
            pen.lock().expect("what was seen").extend_from_slice(bytes);
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
