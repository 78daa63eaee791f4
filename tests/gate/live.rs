//! Are changes of the files taken while the gate serves, without a signal?

use std::fs::OpenOptions;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;

use crate::support::gate::{Builder, Folder, Gate, users};
use crate::support::reload::{Verdict, verdicts, wait_for_verdict};
use crate::support::tokens::header_of;
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - path: /api/**
    upstream: app
    credential: { basic: { username: gate, password_file: upstream-password } }
";
const ROOT: (&str, &str, &str) = ("root", "memphis", "[ admin ]");
const ALICE: (&str, &str, &str) = ("alice", "wonderland", "[ admin ]");

fn standard(upstream: &Upstream) -> Builder {
    Builder::standard(upstream.address, ROUTES).edit("interval: 0s", "interval: 100ms")
}

fn start() -> (Upstream, Gate) {
    let upstream = Upstream::start();
    let gate = standard(&upstream).start();
    (upstream, gate)
}

/// Writes a file as a careful operator does, and waits until the gate has judged it.
fn write(gate: &Gate, name: &str, content: impl AsRef<[u8]>) -> Verdict {
    let before = verdicts(gate).len();
    let new = gate.folder().write("new", content);
    std::fs::rename(new, gate.folder().path().join(name)).unwrap();
    wait_for_verdict(gate, before)
}

fn config(gate: &Gate) -> String {
    std::fs::read_to_string(gate.folder().path().join("tollgate.yaml")).unwrap()
}

fn login(gate: &Gate, (name, password, _): (&str, &str, &str)) -> u16 {
    let body = json!({"username": name, "password": password}).to_string();
    gate.post_json("/auth/authenticate", &body).status
}

fn refresh(gate: &Gate, pair: &serde_json::Value) -> u16 {
    let body = json!({"jwt_refresh_token": pair["jwt_refresh_token"]}).to_string();
    gate.post_json("/auth/refreshToken", &body).status
}

#[test]
fn an_added_user_may_log_in_and_a_removed_one_may_not_refresh() {
    let (_upstream, gate) = start();
    assert_eq!(login(&gate, ALICE), 401);
    assert_eq!(
        write(&gate, "users.yaml", users(&[ROOT, ALICE])),
        Verdict::Taken
    );
    let pair = gate.login(ALICE.0, ALICE.1);
    assert_eq!(refresh(&gate, &pair), 200);
    let pair = gate.login(ALICE.0, ALICE.1);
    assert_eq!(write(&gate, "users.yaml", users(&[ROOT])), Verdict::Taken);
    assert_eq!(refresh(&gate, &pair), 401);
    assert_eq!(login(&gate, ALICE), 401);
    assert_eq!(login(&gate, ROOT), 200);
}

#[test]
fn a_changed_password_is_the_only_one() {
    let (_upstream, gate) = start();
    let pair = gate.login(ROOT.0, ROOT.1);
    let changed = ("root", "another", "[ admin ]");
    assert_eq!(
        write(&gate, "users.yaml", users(&[changed])),
        Verdict::Taken
    );
    assert_eq!(login(&gate, ROOT), 401);
    assert_eq!(login(&gate, changed), 200);
    assert_eq!(refresh(&gate, &pair), 401);
}

#[test]
fn a_changed_password_for_the_upstream_is_sent() {
    let (upstream, gate) = start();
    let token = gate.token("root", "memphis");
    assert_eq!(gate.get("/api/x", &token).status, 200);
    let basic =
        |seen: crate::support::upstream::Seen| seen.header("authorization").unwrap().to_owned();
    assert_eq!(basic(upstream.last()), "Basic Z2F0ZTpzM2NyZXQ=");
    assert_eq!(write(&gate, "upstream-password", "other"), Verdict::Taken);
    assert_eq!(gate.get("/api/x", &token).status, 200);
    assert_eq!(basic(upstream.last()), "Basic Z2F0ZTpvdGhlcg==");
}

#[test]
fn keys_rotate_without_a_log_out() {
    let (_upstream, gate) = start();
    let old = gate.token("root", "memphis");
    let key = "{ id: k1, algorithm: HS256, secret_file: k1 }";
    let new_key = "{ id: k2, algorithm: HS256, secret_file: k2 }";
    gate.folder()
        .write("k2", "another secret of more than 32 bytes");
    let both = config(&gate).replace(key, &format!("{new_key}, {key}"));
    assert_eq!(write(&gate, "tollgate.yaml", &both), Verdict::Taken);
    let new = gate.token("root", "memphis");
    assert_eq!(
        (&header_of(&old)["kid"], &header_of(&new)["kid"]),
        (&json!("k1"), &json!("k2"))
    );
    for token in [&old, &new] {
        assert_eq!(gate.get("/api/x", token).status, 200);
    }
    let alone = config(&gate).replace(&format!("{new_key}, {key}"), new_key);
    assert_eq!(write(&gate, "tollgate.yaml", &alone), Verdict::Taken);
    assert_eq!(gate.get("/api/x", &old).status, 401);
    assert_eq!(gate.get("/api/x", &new).status, 200);
    // The new key's file is watched too, since it is named now.
    assert_eq!(
        write(&gate, "k2", "a third secret of more than 32 bytes"),
        Verdict::Taken
    );
    assert_eq!(gate.get("/api/x", &new).status, 401);
}

#[test]
fn a_broken_file_is_refused_once_until_it_changes_again() {
    let (_upstream, gate) = start();
    let (good, token) = (config(&gate), gate.token("root", "memphis"));
    // Each change is looked at twice before it counts: a verdict without a change would show.
    for (index, (name, content)) in [
        ("users.yaml", "users: {"),
        ("users.yaml", "users: nobody"),
        ("tollgate.yaml", "{"),
        ("tollgate.yaml", ""),
        ("tollgate.yaml", &good),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            write(&gate, name, content),
            Verdict::Refused,
            "{name}: {content}"
        );
        assert_eq!(verdicts(&gate).len(), index + 1, "{name}: {content}");
        let metric = gate.metric("tollgate_config_last_reload_successful");
        assert_eq!(metric, 0.0);
        assert_eq!(gate.get("/api/x", &token).status, 200);
        assert_eq!(login(&gate, ROOT), 200);
    }
    assert_eq!(write(&gate, "users.yaml", users(&[ALICE])), Verdict::Taken);
    assert_eq!(verdicts(&gate).len(), 6);
    assert_eq!(
        gate.metric("tollgate_config_reloads_total{result=\"refused\"}"),
        5.0
    );
    assert_eq!(gate.metric("tollgate_config_last_reload_successful"), 1.0);
    assert_eq!(login(&gate, ROOT), 401);
    assert_eq!(login(&gate, ALICE), 200);
}

#[test]
fn a_file_that_is_gone_is_refused_once_and_taken_when_it_is_back() {
    let (_upstream, gate) = start();
    let path = gate.folder().path().join("users.yaml");
    let content = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(wait_for_verdict(&gate, 0), Verdict::Refused);
    assert_eq!(login(&gate, ROOT), 200);
    assert_eq!(write(&gate, "users.yaml", content), Verdict::Taken);
    assert_eq!(verdicts(&gate).len(), 2);
}

#[test]
fn a_mounted_secret_is_swapped_by_its_link() {
    let upstream = Upstream::start();
    let volume = Folder::new();
    for (version, user) in [("v1", ROOT), ("v2", ALICE)] {
        std::fs::create_dir(volume.path().join(version)).unwrap();
        volume.write(&format!("{version}/users.yaml"), users(&[user]));
    }
    symlink("v1", volume.path().join("..data")).unwrap();
    symlink("..data/users.yaml", volume.path().join("users.yaml")).unwrap();
    let mounted = volume.path().join("users.yaml").display().to_string();
    let gate = standard(&upstream).edit("users.yaml", &mounted).start();
    assert_eq!((login(&gate, ROOT), login(&gate, ALICE)), (200, 401));
    symlink("v2", volume.path().join("..data_tmp")).unwrap();
    std::fs::rename(
        volume.path().join("..data_tmp"),
        volume.path().join("..data"),
    )
    .unwrap();
    assert_eq!(wait_for_verdict(&gate, 0), Verdict::Taken);
    assert_eq!((login(&gate, ROOT), login(&gate, ALICE)), (401, 200));
}

#[test]
fn a_mounted_config_is_swapped_by_its_link_together_with_what_it_names() {
    let upstream = Upstream::start();
    let gate = standard(&upstream).start();
    let at = |path: &str| gate.folder().path().join(path);
    let token = gate.token("root", "memphis");
    // From plain files to a volume, which is one change as a whole.
    let moved = [
        "tollgate.yaml",
        "users.yaml",
        "k1",
        "seal",
        "upstream-password",
    ];
    for version in ["..v1", "..v2"] {
        std::fs::create_dir(at(version)).unwrap();
        for name in moved {
            std::fs::copy(at(name), at(version).join(name)).unwrap();
        }
    }
    symlink("..v1", at("..data")).unwrap();
    for name in moved {
        symlink(format!("..data/{name}"), at("link")).unwrap();
        std::fs::rename(at("link"), at(name)).unwrap();
    }
    let other = config(&gate).replace("/api/**", "/other/**");
    gate.folder().write("..v2/tollgate.yaml", other);
    gate.folder().write("..v2/users.yaml", users(&[ALICE]));
    assert_eq!(gate.get("/api/x", &token).status, 200);
    symlink("..v2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    std::fs::remove_dir_all(at("..v1")).unwrap();
    assert_eq!(wait_for_verdict(&gate, 0), Verdict::Taken);
    assert_eq!(verdicts(&gate).len(), 1);
    assert_eq!(gate.get("/api/x", &token).status, 404);
    assert_eq!(gate.get("/other/x", &token).status, 200);
    assert_eq!((login(&gate, ROOT), login(&gate, ALICE)), (401, 200));
}

#[test]
fn what_waits_for_a_restart_is_told() {
    let upstream = Upstream::start();
    let gate = standard(&upstream)
        .line("listeners:", "listeners: [ { address: \"127.0.0.1:0\", tls: { certificate: a.crt, private_key: a.key } } ]")
        .certificate("a", &["a.example"])
        .start();
    let parts_of = |parts: &str| {
        gate.wait_for_log(parts, |line| {
            line["message"] == "parts of the new config wait for a restart"
                && line["parts"] == parts
        });
    };
    let changed = config(&gate).replace("workers: 2", "workers: 3");
    assert_eq!(write(&gate, "tollgate.yaml", changed), Verdict::Taken);
    parts_of("workers");
    assert_eq!(gate.metric(RESTART_NEEDED), 1.0);
    let changed = config(&gate).replace("workers: 3", "workers: 2");
    let changed = changed.replace(
        "address: \"127.0.0.1:0\", tls",
        "address: \"127.0.0.1:1\", tls",
    );
    assert_eq!(write(&gate, "tollgate.yaml", changed), Verdict::Taken);
    parts_of("listeners");
    let changed = config(&gate).replace("\"127.0.0.1:1\"", "\"127.0.0.1:0\"");
    assert_eq!(write(&gate, "tollgate.yaml", changed), Verdict::Taken);
    assert_eq!(gate.metric(RESTART_NEEDED), 0.0);
    let told = gate.log().matches("wait for a restart").count();
    assert_eq!(told, 2, "{}", gate.log());
}

const RESTART_NEEDED: &str = "tollgate_config_restart_needed";

#[test]
fn a_file_system_that_hangs_holds_up_neither_requests_nor_the_end() {
    let (_upstream, mut gate) = start();
    let token = gate.token("root", "memphis");
    let pipe = gate.folder().path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    std::fs::rename(&pipe, gate.folder().path().join("users.yaml")).unwrap();
    let (opened, is_opened) = channel();
    let pipe = gate.folder().path().join("users.yaml");
    // Opening ends once the gate reads, and it reads as long as nobody writes.
    std::thread::spawn(move || opened.send(OpenOptions::new().write(true).open(pipe)));
    let _held = is_opened
        .recv_timeout(Duration::from_secs(20))
        .unwrap()
        .unwrap();
    for _ in 0..3 {
        assert_eq!(gate.get("/api/x", &token).status, 200);
        assert_eq!(login(&gate, ROOT), 200);
        assert_eq!(gate.on_admin("/readyz").status, 200);
        gate.signal("HUP");
    }
    assert_eq!(verdicts(&gate), []);
    gate.signal("TERM");
    assert_eq!(gate.wait(), Some(0));
}
