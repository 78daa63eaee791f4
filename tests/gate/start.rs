//! Does the gate say rightly whether it serves?

use std::net::TcpListener;
use std::process::Command;

use crate::support::gate::{BINARY, Builder};
use crate::support::upstream::Upstream;

const ROUTES: &str = "
  - { path: /api/**, upstream: app }
";

#[test]
fn a_port_that_another_program_holds_is_a_clear_error() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    for start in ["listeners:", "admin:"] {
        let line = if start == "admin:" {
            format!("admin: {{ address: \"{taken}\" }}")
        } else {
            format!("listeners: [ {{ address: \"{taken}\" }} ]")
        };
        let output = Builder::standard(taken, ROUTES)
            .line(start, &line)
            .run_to_end(&["run"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{start} {text}");
        assert!(
            text.contains(&format!("cannot listen on {taken}")),
            "{start} {text}"
        );
        assert!(text.contains("Address already in use"), "{start} {text}");
        assert_eq!(output.stdout, b"", "{start}");
    }
}

#[test]
fn a_gate_that_says_ready_drains_at_the_first_signal() {
    let mut gate = Builder::standard(Upstream::start().address, ROUTES).start();
    // It has its state file to itself.
    gate.end();
    for count in 0..20 {
        let ended = Command::new("sh")
            .args(["-c", SIGNAL_WHEN_READY, BINARY])
            .arg(gate.folder().path())
            .output()
            .unwrap();
        let code = String::from_utf8(ended.stdout).unwrap();
        assert_eq!(code.trim(), "0", "start {count}");
    }
}

/// Signals a gate as fast as can be; prints its exit code, beyond 128 if the signal killed it.
const SIGNAL_WHEN_READY: &str = r#"
cd "$1" && rm -f out && mkfifo out
"$0" run --config tollgate.yaml >out 2>/dev/null &
while read -r line; do
    if [ "$line" = ready ]; then kill -TERM $!; fi
done <out
wait $!
echo $?
"#;
