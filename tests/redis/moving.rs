//! Does the state move from a file into Redis, and back?

use crate::server::{Redis, access, refresh, revoke, status};
use crate::support::gate::{Gate, run};
use crate::support::upstream::Upstream;

/// What a command of the state's says, with a gate's config, which need not run.
fn state(gate: &Gate, command: &str, input: &str) -> String {
    let config = gate.folder().path().join("tollgate.yaml");
    let arguments = ["state", command, "--config", config.to_str().unwrap()];
    let output = run(&arguments, input);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_state_of_a_gate_moves_into_redis_and_back() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let on_file = || {
        let builder = redis.builder(&upstream, "");
        builder
            .line("store:", "store: { file: state.redb }")
            .start()
    };
    let mut alone = on_file();
    let pair = alone.login("root", "memphis");
    let taken_back = alone.login("eve", "memphis");
    let revocation = serde_json::json!({ "subject": "eve" });
    assert_eq!(revoke(&alone, &revocation), 200);
    alone.end();
    let shared = redis.gate(&upstream, "");
    let exported = state(&alone, "export", "");
    assert_eq!(state(&shared, "import", &exported), "2 records imported\n");
    crate::support::wait_for("the revocation", || {
        (status(&shared, &access(&taken_back)) == 401).then_some(())
    });
    let (kept, next) = refresh(&shared, &pair);
    assert_eq!(kept, 200);
    assert_eq!(refresh(&shared, &taken_back).0, 401);
    let mut back = on_file();
    back.end();
    let exported = state(&shared, "export", "");
    assert_eq!(state(&back, "import", &exported), "2 records imported\n");
    let again = state(&back, "export", "");
    let lines = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&again), lines(&exported));
    assert_eq!(refresh(&shared, &next).0, 200);
}
