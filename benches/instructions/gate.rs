//! How is the gate run under callgrind, and asked what it executed?

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::profile::{Profile, read};
use crate::quiet::Quiet;
use crate::tokens::{KEYS, Tokens};
use crate::upstream::{self, PASSWORD, USERNAME};

/// The gate, running under callgrind with one worker; killed on drop.
pub(crate) struct Gate {
    child: Child,
    folder: PathBuf,
    pub(crate) quiet: Quiet,
    pub(crate) tokens: Tokens,
    /// The certificate of the listener with TLS, in PEM.
    pub(crate) certificate: String,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl Gate {
    /// Starts it without counting, which makes the start quick, and begins to count once it is
    /// ready.
    pub(crate) fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let quiet = Quiet::default();
        let upstream = upstream::start(&quiet)?;
        let tokens = Tokens::mint(folder)?;
        let certified = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let certificate = certified.cert.pem();
        fs::write(folder.join("tls.crt"), &certificate)?;
        fs::write(
            folder.join("tls.key"),
            certified.signing_key.serialize_pem(),
        )?;
        fs::write(folder.join("password"), PASSWORD)?;
        let config = folder.join("tollgate.yaml");
        fs::write(&config, config_text(upstream))?;

        let log = folder.join("gate.log");
        let mut child = Command::new("valgrind")
            // Freed memory is wiped. Of a large block that is one instruction of the processor's,
            // which callgrind would count once for each byte: this has it done by vectors instead.
            .env(
                "GLIBC_TUNABLES",
                "glibc.cpu.x86_rep_stosb_threshold=1073741824",
            )
            .args([
                "--tool=callgrind",
                "--instr-atstart=no",
                "--separate-threads=yes",
            ])
            .arg(prefixed("--callgrind-out-file=", &folder.join(PROFILE)))
            .arg(prefixed("--vgdb-prefix=", &folder.join(PIPE)))
            .arg(program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start valgrind; is it installed?")?;
        let lines = lines(&mut child)?;
        let (mut plain, mut tls) = (None, None);
        loop {
            let line = lines.recv_timeout(PATIENCE).with_context(|| {
                let log = fs::read_to_string(&log).unwrap_or_default();
                format!("the gate does not get ready: {log}")
            })?;
            if line == "ready" {
                break;
            } else if let Some(address) = line.strip_prefix("listening http://") {
                plain = Some(address.parse()?);
            } else if let Some(address) = line.strip_prefix("listening https://") {
                tls = Some(address.parse()?);
            }
        }
        quiet.watch(child.id());
        let gate = Self {
            child,
            folder: folder.to_owned(),
            quiet,
            tokens,
            certificate,
            plain: plain.context("the gate has no plain listener")?,
            tls: tls.context("the gate has no TLS listener")?,
        };
        gate.tell(&["instrumentation", "on"])?;
        Ok(gate)
    }

    /// What the worker executed since this was last asked. callgrind's file can be kept.
    pub(crate) fn executed(&self, keep: Option<&Path>) -> anyhow::Result<Profile> {
        self.quiet.wait()?;
        self.tell(&["dump"])?;
        // One file for each thread. The worker's is that in which most was done.
        let mut most: Option<(Profile, String)> = None;
        for entry in fs::read_dir(&self.folder)? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(PROFILE) {
                continue;
            }
            let text = fs::read_to_string(&file)?;
            fs::remove_file(&file)?;
            let profile = read(&text).with_context(|| format!("in {}", file.display()))?;
            let held = most
                .as_ref()
                .map_or(0.0, |(held, _)| held.cost.instructions);
            if profile.cost.instructions > held {
                most = Some((profile, text));
            }
        }
        let (profile, text) = most.context("callgrind counted nothing")?;
        if let Some(keep) = keep {
            fs::write(keep, text).with_context(|| format!("cannot write {}", keep.display()))?;
        }
        Ok(profile)
    }

    /// Tells callgrind something; done when this returns.
    fn tell(&self, words: &[&str]) -> anyhow::Result<()> {
        // Without the right to trace it, vgdb waits for ever.
        let output = Command::new("timeout")
            .args(["60", "vgdb"])
            .arg(prefixed("--vgdb-prefix=", &self.folder.join(PIPE)))
            .arg(format!("--pid={}", self.child.id()))
            .args(words)
            .output()
            .context("cannot start vgdb, which comes with valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        anyhow::ensure!(status.success(), "vgdb failed, {status}: {said}");
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Either it is gone already, or killing it cannot fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(child: &mut Child) -> anyhow::Result<mpsc::Receiver<String>> {
    let stdout = child.stdout.take().context("no stdout")?;
    let (sender, lines) = mpsc::channel();
    // Reads on to the end, so that the gate's log never blocks it.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    Ok(lines)
}

fn prefixed(option: &str, path: &Path) -> String {
    format!("{option}{}", path.display())
}

fn config_text(upstream: SocketAddr) -> String {
    let routes: String = ROUTES
        .iter()
        .map(|(path, scope)| {
            format!(
                r"
  - path: {path}
    upstream: app
    require: {{ scopes: [ {scope} ] }}
    credential: {{ basic: {{ username: {USERNAME}, password_file: password }} }}"
            )
        })
        .collect();
    format!(
        r#"
listeners:
  - address: 127.0.0.1:0
  - address: 127.0.0.1:0
    tls: {{ certificate: tls.crt, private_key: tls.key }}
admin: {{ address: 127.0.0.1:0 }}
workers: 1
tokens:
  issuer: tollgate
  keys: {KEYS}
upstreams:
  app: {{ endpoints: [ "http://{upstream}" ] }}
reload: {{ interval: 0s }}
routes:{routes}
  - {{ path: /assets/**, upstream: app, public: true }}
log: {{ level: info, access_sample: 0 }}
# The keys are the bench's own; valgrind's helper attaches to the gate.
danger_loose_files: true
danger_core_dumps: true
"#
    )
}

/// Paths and the scopes that they require, besides one public route.
const ROUTES: [(&str, &str); 9] = [
    ("/api/queues/**", "write"),
    ("/api/streams/**", "write"),
    ("/api/stations/*/messages", "read"),
    ("/api/stations/**", "read"),
    ("/api/users/**", "admin"),
    ("/api/health", "read"),
    ("/admin/**", "admin"),
    ("/metrics", "read"),
    ("/ws/**", "read"),
];

/// Whom the certificate names.
pub(crate) const HOST: &str = "gate.example";
const PROFILE: &str = "callgrind.out";
const PIPE: &str = "vgdb";

/// Generous, because everything takes fifty times as long under valgrind.
const PATIENCE: Duration = Duration::from_secs(120);
