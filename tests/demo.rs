//! Does the demo do what its banner promises, and does its legacy service stay the legacy it plays?

#![expect(clippy::expect_used, clippy::panic, reason = "a test stops here")]

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tollgate::demo::upstream::{Account, serve};

const DEADLINE: Duration = Duration::from_secs(60);

/// The banner's commands in their order: a part of each, why, and what its output has (or nothing).
const PROMISES: &str = r#"
GATE=                           | names are set silently
LOGIN=                          | a login gives a pair     | "expires_in": | "jwt": | "jwt_refresh_token":
TOKEN=                          | the pair is kept
AUTH=                           | the header is kept
/produce/single" -H "$AUTH"     | Bearer passes            | {"error":null,"success":true} [200]
/produce/batch                  | so does a batch          | {"error":null,"success":true} [200]
?authorization=$TOKEN           | so does a token in a URL | {"error":null,"success":true} [200]
/messages                       | all four have arrived    | "total":4 | hello by URL | [200]
let me in                       | no token, no passage     | Unauthorized | [401]
/auth/refreshToken              | a refresh gives a pair   | "jwt": | "jwt_refresh_token": | [200]
RECORD=                         | a client is created      | "clientId":"lamp-1" | "name":"lamp"
CLIENT=                         | its id is kept
/api/client" -H "$AUTH"         | it is listed             | [{ | "clientId":"lamp-1" | [200]
/api/client/$CLIENT" -H "$AUTH" | it is read               | "clientId":"lamp-1" | [200]
-X PUT                          | it is updated            | "description":"in the hall" | [200]
-X DELETE                       | it is shown a last time  | "clientId":"lamp-1" | [200]
/api/client" -u root:memphis    | Basic passes, too        | [] | [200]
TICKET=                         | a ticket is given
?ticket=$TICKET                 | it is good               | "total":4 | [200]
?ticket=$TICKET                 | but only once            | Unauthorized | [401]
/console" -H                    | a browser is sent off    | /login?return=%2Fconsole [302]
JAR=                            | it keeps cookies
FORM=                           | and reads the form
username=root                   | which lets it in         | /console [303]
-b "$JAR" -w                    | to the console           | <h1>Legacy console</h1> | [200]
/ws/echo                        | the WebSocket echoes     | 101 Switching Protocols | hello
bearer.$TOKEN, mqtt             | so does a browser's      | 101 Switching Protocols | sec-websocket-protocol: mqtt | hello
/oauth2/token                   | OAuth 2's client         | oauth2 [200]
"$GATE/api"                     | datarhei's first look    | "auths":["localjwt"] | [200]
/api/login"                     | datarhei's login         | datarhei [200]
/v1/authenticate"               | Jmvstream's login        | jmvstream [200]
/api/v1/authenticate"           | EMnify's login           | emnify [200]
EMNIFY=                         | a login by e-mail
APPLICATION=                    | an application token
/api/v1/application_token"      | it is listed             | nightly job | Activated | [200]
$APPLICATION                    | and logged in with       | application token [200]
/headers                        | only Basic goes upstream | "authorization":"Basic legacy:***" | [200]
/metrics                        | refusals are counted too | tollgate_requests_total{ | code="4
"#;

/// The legacy service alone: login, content type, request, body -> status, a part of the answer, why.
const LEGACY: &str = r#"
-     | -                               | GET /public/status              |              | 200 | {"status":"ok"}               | it is public
-     | -                               | GET /console                    |              | 401 | Basic realm="legacy"          | nor is the console shown
good  | -                               | GET /console                    |              | 200 | <h1>Legacy console</h1>       | to who is logged in
-     | -                               | GET /login                      |              | 200 | <h1>Log in</h1>               | the page for people
good  | -                               | GET /nowhere                    |              | 404 | Not Found                     | an unknown path
-     | text/plain                      | POST /stations/s/produce/single | m            | 401 | Basic realm="legacy"          | no login
wrong | text/plain                      | POST /stations/s/produce/single | m            | 401 | {"message":"Unauthorized"}    | a wrong login
twice | text/plain                      | POST /stations/s/produce/single | m            | 400 | content-length: 0             | as RabbitMQ
good  | text/plain                      | POST /stations/s/produce/single | m            | 200 | {"error":null,"success":true} | text
good  | application/json; charset=utf-8 | POST /stations/s/produce/single | {}           | 200 | {"error":null,"success":true} | JSON with a charset
good  | application/x-protobuf          | POST /stations/s/produce/single | m            | 200 | {"error":null,"success":true} | exactly protobuf
good  | application/x-protobuf; v=1     | POST /stations/s/produce/single | m            | 500 | unsupported content type      | not exactly protobuf
good  | -                               | POST /stations/s/produce/single | m            | 500 | unsupported content type      | no content type
good  | application/json                | POST /stations/s/produce/batch  | [{"a":1},{}] | 200 | {"error":null,"success":true} | two objects
good  | application/json; charset=utf-8 | POST /stations/s/produce/batch  | []           | 500 | unsupported content type      | no charset here
good  | application/json                | POST /stations/s/produce/batch  | [1]          | 400 | array of objects              | no object
good  | -                               | GET /stations/s/messages        |              | 200 | "total":5                     | what was accepted
good  | -                               | GET /stations/t/messages        |              | 404 | message                       | an unused station
-     | -                               | GET /api/client                 |              | 302 | location: /login              | STS-MQTT's 401
wrong | -                               | GET /api/client/1               |              | 302 | <h1>Log in</h1>               | with a page
good  | -                               | GET /api/client                 |              | 200 | []                            | none yet
good  | -                               | POST /api/client                | {            | 400 | message                       | no JSON
good  | -                               | GET /api/client/1               |              | 404 | message                       | an unknown id
-     | -                               | GET /api                        |              | 401 | {"message":"Unauthorized"}    | not without a login
good  | -                               | GET /api                        |              | 200 | "app":"datarhei-core"         | datarhei's long answer
good  | -                               | GET /headers                    |              | 200 | Basic legacy:***              | the password is masked
good  | -                               | GET /ws/echo                    |              | 426 | upgrade: websocket            | no upgrade offered
"#;

const GOOD: &str = "Authorization: Basic bGVnYWN5OnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic bGVnYWN5Ondyb25n\r\n";

#[test]
fn every_line_of_the_banner_works_as_printed() {
    let mut demo = Demo::start();
    let commands: Vec<String> = demo
        .banner
        .iter()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .cloned()
        .collect();
    let promises = table(PROMISES);
    assert_eq!(commands.len(), promises.len(), "{commands:#?}");

    let gone = "curl -sk -w ' [%{http_code}]\\n' \"$GATE/api/client/$CLIENT\" -H \"$AUTH\"";
    let mut script = commands.clone();
    script.push(gone.to_owned());
    let outputs = paste(&script);
    for ((command, output), promise) in commands.iter().zip(&outputs).zip(&promises) {
        let [part, why, expected @ ..] = promise.as_slice() else {
            panic!("a promise has two columns: {promise:?}");
        };
        assert!(command.contains(part), "{command:?} should have {part:?}");
        for expected in expected {
            assert!(output.contains(expected), "{why}: {command}\n-> {output}");
        }
        assert!(
            !expected.is_empty() || output.is_empty(),
            "{command}\n-> {output}"
        );
    }
    let after = outputs.last().expect("one output for each command");
    assert!(after.contains("[404]"), "a deleted client is gone: {after}");

    let tokens: Vec<String> = outputs
        .iter()
        .flat_map(|output| tokens_in(output))
        .collect();
    assert_eq!(
        tokens.len(),
        4,
        "a login and a refresh give two tokens each"
    );
    for output in outputs
        .iter()
        .filter(|output| output.contains("Basic legacy:***"))
    {
        assert!(
            tokens.iter().all(|token| !output.contains(token)),
            "{output}"
        );
    }
    let (code, log) = demo.interrupt();
    assert_eq!(code, Some(0), "SIGINT is a clean end: {log}");
    assert!(
        log.contains("\"http.response.status_code\""),
        "exchanges are logged: {log}"
    );
    for token in &tokens {
        assert!(!log.contains(token), "no token stands in the log: {log}");
    }
}

#[tokio::test]
async fn the_legacy_service_answers_as_the_originals_do() {
    let address = legacy_service().await;
    for row in table(LEGACY) {
        let [login, content_type, request, body, status, expected, why] = row[..] else {
            panic!("seven columns: {row:?}");
        };
        let mut headers = match login {
            "good" => GOOD.to_owned(),
            "wrong" => WRONG.to_owned(),
            "twice" => GOOD.repeat(2),
            _ => String::new(),
        };
        if content_type != "-" {
            headers = format!("{headers}Content-Type: {content_type}\r\n");
        }
        let answer = exchange(address, request, &headers, body).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{why}: {request}\n-> {answer}");
        assert!(answer.contains(expected), "{why}: {request}\n-> {answer}");
    }
}

#[tokio::test]
async fn the_legacy_websocket_says_its_message_and_closes() {
    let address = legacy_service().await;
    let offer = "Upgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt, other\r\n";
    let refused = exchange(address, "GET /ws/echo?message=hi", offer, "").await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "no login: {refused}");
    let offer = format!("{GOOD}{offer}");
    let answer = exchange(address, "GET /ws/echo?message=hi+you", &offer, "").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // The accept key is RFC 6455's example.
    for part in [
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "sec-websocket-protocol: mqtt\r\n",
        "\u{6}hi you",
    ] {
        assert!(answer.contains(part), "{part:?}: {answer}");
    }
}

#[tokio::test]
async fn the_legacy_websocket_echoes_text_and_binary_until_the_client_closes() {
    let address = legacy_service().await;
    let socket = TcpStream::connect(address).await.unwrap();
    let mut request = format!("ws://{address}/ws/echo")
        .into_client_request()
        .unwrap();
    let login = GOOD.trim_end().trim_start_matches("Authorization: ");
    request
        .headers_mut()
        .insert("authorization", login.parse().unwrap());
    let (mut socket, _) = client_async(request, socket).await.unwrap();
    for message in [Message::text("hello"), Message::binary(vec![0, 255])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_close());
    assert!(socket.next().await.is_none(), "and then it is over");
}

#[tokio::test]
async fn a_client_without_a_key_is_temporary_and_no_key_comes_back() {
    let address = legacy_service().await;
    let full = r#"{"name":"n","clientId":"c","key":"hush"}"#;
    for (body, temporary) in [("", true), (r#"{"name":"n"}"#, true), (full, false)] {
        let answer = exchange(address, "POST /api/client", GOOD, body).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.contains("\"expiresAt\":"), temporary, "{answer}");
        assert!(
            !answer.contains("hush") && !answer.contains("\"key\""),
            "{answer}"
        );
    }
}

/// A running `tollgate demo`; killed if the test ends early.
struct Demo {
    child: Child,
    banner: Vec<String>,
    log: Receiver<String>,
}

impl Demo {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let log = collect(child.stderr.take().expect("stderr is piped"));
        let (line, lines) = channel();
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .all(|text| line.send(text).is_ok())
        });
        let mut demo = Self {
            child,
            banner: Vec::new(),
            log,
        };
        loop {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) if line == "ready" => return demo,
                Ok(line) => demo.banner.push(line),
                Err(error) => panic!("no ready line: {error}: {:#?}", demo.banner),
            }
        }
    }

    /// Presses Ctrl-C; the exit code and what stood on stderr.
    fn interrupt(&mut self) -> (Option<i32>, String) {
        let kill = format!("kill -INT {}", self.child.id());
        let sent = Command::new("bash").args(["-c", &kill]).status();
        assert!(sent.expect("bash runs").success());
        let log = self
            .log
            .recv_timeout(DEADLINE)
            .expect("the demo ends in time");
        let status = self.child.wait().expect("the demo has ended");
        (status.code(), log)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Both fail harmlessly where it has ended.
        let _: std::io::Result<()> = self.child.kill();
        let _: std::io::Result<_> = self.child.wait();
    }
}

/// Pastes the commands into one shell; the output of each.
fn paste(commands: &[String]) -> Vec<String> {
    const MARK: char = '\u{1e}';
    let mut shell = Command::new("bash")
        .env("no_proxy", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash starts");
    let mut stdin = shell.stdin.take().expect("stdin is piped");
    for command in commands {
        write!(stdin, "{command}\nprintf '{MARK}'\n").expect("bash reads");
    }
    drop(stdin);
    let output = collect(shell.stdout.take().expect("stdout is piped")).recv_timeout(DEADLINE);
    let output = output.expect("the commands end in time");
    shell.wait().expect("bash ends");
    let mut outputs: Vec<String> = output.split(MARK).map(str::to_owned).collect();
    assert_eq!(
        outputs.pop().as_deref(),
        Some(""),
        "nothing follows the last mark"
    );
    assert_eq!(outputs.len(), commands.len());
    outputs
}

/// The rows of a table, each split into its columns.
fn table(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| !line.is_empty());
    rows.map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

/// All that comes out of a pipe, sent once it ends.
fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.read_to_end(&mut bytes);
        let _: Result<(), _> = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        read
    });
    receiver
}

/// The tokens of a Memphis answer, or none.
fn tokens_in(output: &str) -> Vec<String> {
    let mut values = serde_json::Deserializer::from_str(output).into_iter::<Value>();
    let Some(Ok(answer)) = values.next() else {
        return Vec::new();
    };
    ["jwt", "jwt_refresh_token"]
        .iter()
        .filter_map(|key| Some(answer.get(key)?.as_str()?.to_owned()))
        .collect()
}

async fn legacy_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(serve(listener, Account::new("legacy", "secret")));
    address
}

/// One request on a connection of its own; the whole answer, lossily as text.
async fn exchange(address: SocketAddr, request: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: legacy\r\nConnection: close\r\n{headers}\
        Content-Length: {length}\r\n\r\n{body}"
    );
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await;
    read.expect("it answers in time").expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}
