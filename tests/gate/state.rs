//! What outlives a restart, a crash, a full disk and a broken file.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client;
use crate::support::gate::{BINARY, Builder, Gate, NOBODY};
use crate::support::reload::{Verdict, reload_with};
use crate::support::tokens::claims_of;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

const ROUTES: &str = "  - { path: /api/**, upstream: app }";

fn builder() -> (Upstream, Builder) {
    let upstream = Upstream::start();
    let builder = Builder::standard(upstream.address, ROUTES);
    (upstream, builder)
}

fn state(gate: &Gate) -> PathBuf {
    gate.folder().path().join("state.redb")
}

fn refresh(gate: &Gate, pair: &Value) -> client::Response {
    let body = json!({"jwt_refresh_token": pair["jwt_refresh_token"]}).to_string();
    gate.post_json("/auth/refreshToken", &body)
}

fn opens(gate: &Gate, pair: &Value) -> u16 {
    gate.get("/api/x", pair["jwt"].as_str().unwrap()).status
}

fn revoke(gate: &Gate, arguments: &[&str]) {
    let mut command = Command::new(BINARY);
    command.args(["token", "revoke", "--admin", &gate.admin.to_string()]);
    assert!(command.args(arguments).output().unwrap().status.success());
}

fn tool(gate: &Gate, arguments: &[&str], input: Option<&str>) -> Output {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .arg("--config")
        .arg(gate.folder().path().join("tollgate.yaml"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = std::io::Write::write_all(&mut stdin, input.unwrap_or_default().as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn refresh_tokens_and_revocations_outlive_a_crash() {
    let (_upstream, builder) = builder();
    let gate = builder.start();
    let (kept, used) = (gate.login("root", "memphis"), gate.login("root", "memphis"));
    let next = refresh(&gate, &used).json();
    let ended = gate.login("root", "memphis");
    revoke(
        &gate,
        &[
            "--family",
            claims_of(ended["jwt"].as_str().unwrap())["fam"]
                .as_str()
                .unwrap(),
        ],
    );
    let gate = gate.crash_and_start();
    assert_eq!(opens(&gate, &ended), 401, "what was revoked stays so");
    assert_eq!(refresh(&gate, &ended).status, 401);
    assert_eq!(opens(&gate, &kept), 200);
    assert_eq!(refresh(&gate, &kept).status, 200);
    assert_eq!(refresh(&gate, &next).status, 200);
    revoke(&gate, &["--subject", "root"]);
    let gate = gate.crash_and_start();
    assert_eq!(
        (opens(&gate, &kept), refresh(&gate, &next).status),
        (401, 401)
    );
    let file = fs::read(state(&gate)).unwrap();
    for pair in [&kept, &used, &next, &ended] {
        for name in ["jwt", "jwt_refresh_token"] {
            let token = pair[name].as_str().unwrap();
            let signature = token.rsplit_once('.').unwrap().1;
            assert!(!contains(&file, signature), "no token stands in the file");
        }
    }
    assert!(!contains(&file, "memphis"));
}

#[test]
fn a_revocation_is_kept_for_tokens_that_were_issued_under_longer_lives() {
    let (_upstream, builder) = builder();
    let lives = "access_ttl: 1s, refresh_ttl: 1s, max_access_ttl: 1s, max_refresh_ttl: 1s";
    let longer = builder.config().to_owned();
    let shorter = longer.replace(
        "  audience: gate\n",
        &format!("  audience: gate\n  {}\n", lives.replace(", ", "\n  ")),
    );
    let gate = builder.start();
    let pair = gate.login("root", "memphis");
    let mut expires = claims_of(pair["jwt"].as_str().unwrap())["exp"].as_u64();
    assert!(expires.is_some());
    // By a reload, and over a restart of which it knows nothing else.
    assert_eq!(reload_with(&gate, &shorter), Verdict::Taken);
    assert_eq!(opens(&gate, &pair), 200);
    revoke(&gate, &["--subject", "root"]);
    assert_eq!(opens(&gate, &pair), 401);
    assert_eq!(reload_with(&gate, &longer), Verdict::Taken);
    let again = gate.login("root", "memphis");
    gate.folder().write("tollgate.yaml", &shorter);
    let mut gate = gate.crash_and_start();
    assert_eq!((opens(&gate, &pair), opens(&gate, &again)), (401, 200));
    let family = claims_of(again["jwt"].as_str().unwrap())["fam"].clone();
    revoke(&gate, &["--family", family.as_str().unwrap()]);
    assert_eq!(opens(&gate, &again), 401);
    gate.end();
    let exported = tool(&gate, &["state", "export"], None);
    let text = String::from_utf8(exported.stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let ends = records.filter_map(|record: Value| record["revocation"]["until"].as_u64());
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends.len(), 2, "{text}");
    expires = expires.max(claims_of(again["jwt"].as_str().unwrap())["exp"].as_u64());
    assert!(ends.iter().all(|end| Some(*end) >= expires), "{ends:?}");
}

#[test]
fn a_token_that_its_holder_takes_back_is_remembered_for_as_long_as_it_lives() {
    let (_upstream, builder) = builder();
    let logins = "login: [ { dialect: memphis }, { dialect: oauth2 } ]";
    let mut gate = builder.line("login:", logins).start();
    let pair = gate.login("root", "memphis");
    let token = pair["jwt"].as_str().unwrap();
    let form = format!("token={token}");
    let ended = gate.send(format!(
        "POST /oauth2/revoke HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    ));
    assert_eq!((ended.status, opens(&gate, &pair)), (200, 401));
    gate.end();
    let exported = tool(&gate, &["state", "export"], None);
    let text = String::from_utf8(exported.stdout).unwrap();
    let mut records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let end = records.find_map(|record: Value| record["revocation"]["until"].as_u64());
    let (end, expires) = (end.unwrap(), claims_of(token)["exp"].as_u64().unwrap());
    // The leeway may be up to five minutes by then.
    assert_eq!(end, expires + 300);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// A user whose password costs little to check, for many logins a second.
fn cheap_user() -> String {
    let hash = bcrypt::hash("memphis", 4).unwrap();
    format!("users:\n  - {{ name: root, password_hash: \"{hash}\" }}\n")
}

/// What was acknowledged: of each login its newest refresh token.
type Acknowledged = HashMap<String, Value>;

/// Logs in and refreshes until told to stop; tells of every answer.
fn load(address: std::net::SocketAddr, is_over: &AtomicBool, told: &Sender<Value>) {
    let post = |path: &str, body: &Value| {
        let body = body.to_string();
        let mut stream = client::try_connect(address).ok()?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).ok()?;
        read_answer(&mut stream)
    };
    while !is_over.load(Ordering::Relaxed) {
        let login = json!({"username": "root", "password": "memphis"});
        let Some(mut pair) = post("/auth/authenticate", &login) else {
            return;
        };
        let _ = told.send(pair.clone());
        for _ in 0..2 {
            let body = json!({"jwt_refresh_token": pair["jwt_refresh_token"]});
            let Some(next) = post("/auth/refreshToken", &body) else {
                return;
            };
            pair = next;
            let _ = told.send(pair.clone());
        }
    }
}

/// The JSON of a whole answer with 200; nothing if the connection broke off.
fn read_answer(stream: &mut impl std::io::Read) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(answer) = serde_json::from_str(body)
        {
            assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
            return Some(answer);
        }
    }
}

#[test]
fn fifty_crashes_under_load_lose_nothing_that_was_acknowledged() {
    let (_upstream, builder) = builder();
    let mut gate = builder.file("users.yaml", cheap_user()).start();
    let mut acknowledged = Acknowledged::new();
    let mut total = 0;
    for _ in 0..50 {
        let (told, answers) = channel();
        let is_over = AtomicBool::new(false);
        let address = gate.address();
        gate = std::thread::scope(|scope| {
            for _ in 0..4 {
                let told = told.clone();
                let is_over = &is_over;
                scope.spawn(move || load(address, is_over, &told));
            }
            drop(told);
            // Until so many answers came, a different number each time.
            for _ in 0..fastrand::usize(1..60) {
                let pair = answers.recv_timeout(Duration::from_secs(20)).unwrap();
                remember(&mut acknowledged, pair);
            }
            let gate = gate.crash_and_start();
            is_over.store(true, Ordering::Relaxed);
            for pair in answers.iter() {
                remember(&mut acknowledged, pair);
            }
            gate
        });
        total += acknowledged.len();
        for (_, pair) in acknowledged.drain() {
            // One that was used without an answer is within its grace.
            let response = refresh(&gate, &pair);
            assert_eq!(response.status, 200, "{}", response.text());
        }
    }
    assert!(total > 100, "{total} logins were checked");
}

fn remember(acknowledged: &mut Acknowledged, pair: Value) {
    let family = claims_of(pair["jwt"].as_str().unwrap())["fam"]
        .as_str()
        .unwrap()
        .to_owned();
    acknowledged.insert(family, pair);
}

#[test]
fn a_full_disk_refuses_logins_and_lets_good_tokens_go_on() {
    let (_upstream, builder) = builder();
    let gate = Builder::edit(
        builder,
        "workers: 2",
        "workers: 2\nlimits: { state_size: 192KiB }",
    )
    .file("users.yaml", cheap_user())
    .start();
    let pair = gate.login("root", "memphis");
    let login = json!({"username": "root", "password": "memphis"}).to_string();
    let refused = wait_for("a full disk", || {
        let response = gate.post_json("/auth/authenticate", &login);
        (response.status != 200).then_some(response)
    });
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    for _ in 0..3 {
        assert_eq!(opens(&gate, &pair), 200);
    }
    let line = gate.wait_for_log("why", |line| {
        line["message"]
            == "the state cannot be written; logins and refreshes get 503, good tokens go on"
    });
    assert!(
        line["why"].as_str().unwrap().contains("limits.state_size"),
        "{line}"
    );
    assert_eq!(line["level"], "ERROR");
    // With room again, the next start serves everything that was acknowledged.
    let config = gate.folder().path().join("tollgate.yaml");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("192KiB", "64MiB");
    fs::write(&config, text).unwrap();
    let gate = gate.crash_and_start();
    assert_eq!(refresh(&gate, &pair).status, 200);
}

#[test]
fn a_file_that_cannot_be_written_any_more_refuses_logins_and_is_still_read() {
    let (_upstream, builder) = builder();
    let mut gate = builder.file("users.yaml", cheap_user()).start();
    let (kept, ended) = (gate.login("root", "memphis"), gate.login("root", "memphis"));
    revoke(
        &gate,
        &[
            "--family",
            claims_of(ended["jwt"].as_str().unwrap())["fam"]
                .as_str()
                .unwrap(),
        ],
    );
    gate.end();
    let (path, folder) = (state(&gate), gate.folder().path().to_owned());
    let binary = folder.join("tollgate");
    fs::copy(BINARY, &binary).unwrap();
    for (path, mode) in [(&path, 0o400), (&binary, 0o555), (&folder, 0o555)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let is_root = fs::metadata(&path).unwrap().uid() == 0;
    if is_root {
        gate.folder().give_to(NOBODY);
    }
    // For root every file can be written.
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={NOBODY}"),
            "--regid=65534",
            "--clear-groups",
        ])
        .arg(&binary);
    let gate = gate.crash_and_start_by(if is_root {
        command
    } else {
        Command::new(&binary)
    });
    assert_eq!((opens(&gate, &kept), opens(&gate, &ended)), (200, 401));
    let login = json!({"username": "root", "password": "memphis"}).to_string();
    let refused = gate.post_json("/auth/authenticate", &login);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(refresh(&gate, &kept).status, 503);
    let line = gate.wait_for_log("why", |line| line["level"] == "ERROR");
    assert!(
        line["error"]
            .as_str()
            .unwrap()
            .contains("state.redb cannot be used"),
        "{line}"
    );
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_broken_file_is_set_aside_and_everybody_logs_in_again() {
    for damage in [
        (|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2)) as fn(&mut Vec<u8>),
        |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x5a),
        |bytes| bytes[..64].fill(0),
        |bytes| *bytes = b"not a database at all".to_vec(),
    ] {
        let (_upstream, builder) = builder();
        let mut gate = builder.start();
        let pair = gate.login("root", "memphis");
        revoke(&gate, &["--token-id", "x"]);
        gate.end();
        let path = state(&gate);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let gate = gate.crash_and_start();
        let line = gate.wait_for_log("the damage", |line| line["level"] == "ERROR");
        let aside = line["set_aside"]
            .as_str()
            .unwrap_or_else(|| panic!("{line}"));
        assert_eq!(fs::read(aside).unwrap(), bytes, "nothing of it is lost");
        // Nobody knows any more what was revoked.
        assert_eq!(
            (opens(&gate, &pair), refresh(&gate, &pair).status),
            (401, 401)
        );
        let again = gate.login("root", "memphis");
        assert_eq!(opens(&gate, &again), 200);
    }
}

#[test]
fn a_state_file_that_cannot_be_had_is_told() {
    let (_upstream, builder) = builder();
    let gate = builder.start();
    let second = tool(&gate, &["state", "export"], None);
    assert_eq!(second.status.code(), Some(1), "{}", gate.log());
    let errors = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        errors.contains("another process has the state file"),
        "{errors}"
    );

    let (_upstream, other) = self::builder();
    let other = other.edit("workers: 2", "workers: 2\nstore: { file: /nowhere/at/all }");
    let output = other.run_to_end(&["run"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("/nowhere/at/all cannot be used"),
        "{errors}"
    );
}

#[test]
fn a_state_file_of_another_layout_is_refused_and_left_alone() {
    let (_upstream, builder) = builder();
    let mut gate = builder.start();
    gate.end();
    let path = state(&gate);
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&str, u64>::new("meta");
    transaction
        .open_table(table)
        .unwrap()
        .insert("version", 2)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let output = tool(&gate, &["run"], None);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("has layout 2, and this gate knows 1"),
        "{errors}"
    );
    assert!(errors.contains("state export"), "{errors}");
    assert!(redb::Database::open(&path).is_ok(), "nothing was set aside");
}

#[test]
fn the_state_moves_from_one_store_to_another() {
    let (_upstream, first) = builder();
    let mut first = first.start();
    let (kept, ended) = (
        first.login("root", "memphis"),
        first.login("root", "memphis"),
    );
    revoke(
        &first,
        &[
            "--family",
            claims_of(ended["jwt"].as_str().unwrap())["fam"]
                .as_str()
                .unwrap(),
        ],
    );
    first.end();
    let exported = tool(&first, &["state", "export"], None);
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(text.starts_with("{\"tollgate_state\":1}\n"), "{text}");
    assert!(!text.contains(kept["jwt_refresh_token"].as_str().unwrap()));

    let (_upstream, second) = builder();
    // Hashes are salted: another file would be another password.
    let users = fs::read(first.folder().path().join("users.yaml")).unwrap();
    let mut second = second.file("users.yaml", users).start();
    second.end();
    for (input, error) in [
        ("", "expected an export"),
        ("{}\n", "line 1: not an export"),
        ("{\"tollgate_state\":2}\n", "has the form 2"),
        (
            "{\"tollgate_state\":1}\n{\"x\":1}\n",
            "line 2: not a record",
        ),
    ] {
        let output = tool(&second, &["state", "import"], Some(input));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && errors.contains(error),
            "{input}: {errors}"
        );
    }
    let imported = tool(&second, &["state", "import"], Some(&text));
    assert_eq!(
        String::from_utf8(imported.stdout).unwrap(),
        "2 records imported\n"
    );
    let second = second.crash_and_start();
    assert_eq!((opens(&second, &kept), opens(&second, &ended)), (200, 401));
    assert_eq!(refresh(&second, &kept).status, 200);
}
