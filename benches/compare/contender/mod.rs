//! Who is measured?
//!
//! Each contender has one worker on the proxy's core, keeps its connections on both sides, logs no
//! exchange, and presents the same Basic credential to the upstream.

mod caddy;
mod envoy;
mod gate;
mod haproxy;
mod nginx;
mod traefik;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use jsonwebtoken::Algorithm;

use crate::keys::{self, Keys};
use crate::machine::{Machine, Place};
use crate::process::Process;
use crate::run;
use crate::trust::Trust;
use crate::wire::Target;

/// What stands between the load and the upstream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Contender {
    /// Nothing.
    Direct,
    Gate(Shape),
    Nginx,
    NginxUnbuffered,
    Haproxy,
    HaproxyJwt,
    Envoy,
    EnvoyCached,
    Caddy,
    Traefik,
}

/// In which way a gate differs from the usual one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shape {
    Usual,
    /// With so many routes.
    Routes(usize),
    /// With room for so many tokens in its cache.
    Cache(usize),
    /// With so many workers, on all cores that are to be had.
    Workers(usize),
}

/// On which listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Plain,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3.
    H2,
}

/// Where contenders run and what they read.
pub(crate) struct Site<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) folder: &'a Path,
    pub(crate) upstream: SocketAddr,
    pub(crate) keys: &'a Keys,
    pub(crate) trust: &'a Trust,
    /// The gate's binary.
    pub(crate) gate: &'a Path,
}

/// A contender that runs.
pub(crate) struct Running {
    pub(crate) process: Process,
    plain: Target,
    tls: Target,
    h2: Target,
    /// Where the gate tells its metrics.
    admin: Option<Target>,
}

/// Contenders that run; one for each algorithm, started when first asked for.
pub(crate) struct Contenders<'a> {
    site: Site<'a>,
    running: BTreeMap<(Contender, &'static str), Running>,
    started: usize,
}

impl Contender {
    pub(crate) const USUAL: Self = Self::Gate(Shape::Usual);

    /// Whether it judges tokens; the others only replace the header.
    pub(crate) fn checks_tokens(self) -> bool {
        matches!(
            self,
            Self::Gate(_) | Self::HaproxyJwt | Self::Envoy | Self::EnvoyCached
        )
    }

    /// What to start, where it is installed.
    fn program(self) -> Option<PathBuf> {
        match self {
            Self::Direct | Self::Gate(_) => None,
            Self::Nginx | Self::NginxUnbuffered => on_path("nginx"),
            Self::Haproxy | Self::HaproxyJwt => on_path("haproxy"),
            Self::Envoy | Self::EnvoyCached => peer("envoy"),
            Self::Caddy => peer("caddy"),
            Self::Traefik => peer("traefik"),
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        matches!(self, Self::Direct | Self::Gate(_)) || self.program().is_some()
    }

    /// The peer's version, in its own words.
    pub(crate) fn version(self) -> Option<String> {
        let flag = match self {
            Self::Nginx | Self::NginxUnbuffered | Self::Haproxy | Self::HaproxyJwt => "-v",
            Self::Envoy | Self::EnvoyCached => "--version",
            Self::Caddy | Self::Traefik => "version",
            Self::Direct | Self::Gate(_) => return None,
        };
        let mut command = Command::new(self.program()?);
        let output = command.arg(flag).stdin(Stdio::null()).output().ok()?;
        // nginx says it on stderr.
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let mut words = text.split(|c: char| c.is_whitespace() || c == '/');
        let version = words.find_map(|word| {
            let word = word.strip_prefix('v').unwrap_or(word);
            (word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit())).then_some(word)
        })?;
        let name = self.to_string();
        let product = name.split([' ', ',']).next().unwrap_or_default();
        Some(format!("{product} {version}"))
    }

    fn start(
        self,
        site: &Site<'_>,
        algorithm: Algorithm,
        folder: &Path,
    ) -> anyhow::Result<Running> {
        fs::create_dir_all(folder)?;
        if let Self::Gate(shape) = self {
            return gate::start(site, algorithm, shape, folder);
        }
        let program = self.program().context("not installed")?;
        let place = Setup {
            site,
            folder,
            algorithm,
            plain: free_address()?,
            secure: free_address()?,
        };
        let mut command = site.machine.proxy_command(&program, Place::Own);
        match self {
            Self::Direct | Self::Gate(_) => anyhow::bail!("is no peer"),
            Self::Nginx => nginx::prepare(&place, true, &mut command)?,
            Self::NginxUnbuffered => nginx::prepare(&place, false, &mut command)?,
            Self::Haproxy => haproxy::prepare(&place, false, &mut command)?,
            Self::HaproxyJwt => haproxy::prepare(&place, true, &mut command)?,
            Self::Envoy => envoy::prepare(&place, false, &mut command)?,
            Self::EnvoyCached => envoy::prepare(&place, true, &mut command)?,
            Self::Caddy => caddy::prepare(&place, &mut command)?,
            Self::Traefik => traefik::prepare(&place, &mut command)?,
        }
        let process = Process::start(&self.to_string(), &mut command, folder)?;
        for address in [place.plain, place.secure] {
            wait_for(|| Ok(TcpStream::connect(address)?))
                .with_context(|| process.complaint("does not listen"))?;
        }
        let running = Running::new(site, process, place.plain, place.secure);
        wait_for(|| running.route())
            .with_context(|| running.process.complaint("knows no route"))?;
        Ok(running)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Gate(Shape::Usual) => f.write_str("Tollgate"),
            Self::Gate(Shape::Routes(1)) => f.write_str("Tollgate, 1 route"),
            Self::Gate(Shape::Routes(count)) => write!(f, "Tollgate, {count} routes"),
            Self::Gate(Shape::Cache(entries)) => write!(f, "Tollgate, cache of {entries}"),
            Self::Gate(Shape::Workers(1)) => f.write_str("Tollgate, 1 worker"),
            Self::Gate(Shape::Workers(count)) => write!(f, "Tollgate, {count} workers"),
            Self::Nginx => f.write_str("nginx"),
            Self::NginxUnbuffered => f.write_str("nginx, unbuffered"),
            Self::Haproxy => f.write_str("HAProxy"),
            Self::HaproxyJwt => f.write_str("HAProxy jwt_verify"),
            Self::Envoy => f.write_str("Envoy jwt_authn"),
            Self::EnvoyCached => f.write_str("Envoy jwt_authn, cache"),
            Self::Caddy => f.write_str("Caddy"),
            Self::Traefik => f.write_str("Traefik"),
        }
    }
}

/// What a peer's config is made of.
struct Setup<'a> {
    site: &'a Site<'a>,
    /// Its own.
    folder: &'a Path,
    algorithm: Algorithm,
    plain: SocketAddr,
    secure: SocketAddr,
}

impl Setup<'_> {
    /// A file of the folder that all share, as text for a config.
    fn shared(&self, file: &str) -> String {
        self.site.folder.join(file).display().to_string()
    }

    /// Writes a file into the peer's own folder and tells where it is.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

impl Running {
    fn new(site: &Site<'_>, process: Process, plain: SocketAddr, secure: SocketAddr) -> Self {
        let over = |tls: &std::sync::Arc<rustls::ClientConfig>| Target {
            address: secure,
            tls: Some(tls.clone()),
        };
        Self {
            process,
            plain: Target::plain(plain),
            tls: over(&site.trust.http1),
            h2: over(&site.trust.http2),
            admin: None,
        }
    }

    /// Some listen before they have read where requests go.
    fn route(&self) -> anyhow::Result<()> {
        let mut connection = self.plain.connect()?;
        let status = connection.exchange(&run::get("none"))?.status;
        anyhow::ensure!(
            matches!(status.as_str(), "200" | "401"),
            "answered {status}"
        );
        Ok(())
    }

    /// One of the gate's metrics now, by its name and labels.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let admin = self.admin.as_ref().context("it tells no metrics")?;
        let mut connection = admin.connect()?;
        let response = connection.exchange(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let text = std::str::from_utf8(response.body)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.with_context(|| format!("no metric {name}"))?;
        Ok(value.trim().parse()?)
    }

    pub(crate) fn target(&self, protocol: Protocol) -> &Target {
        match protocol {
            Protocol::Plain => &self.plain,
            Protocol::Tls => &self.tls,
            Protocol::H2 => &self.h2,
        }
    }
}

impl<'a> Contenders<'a> {
    pub(crate) fn new(site: Site<'a>) -> Self {
        Self {
            site,
            running: BTreeMap::new(),
            started: 0,
        }
    }

    /// Starts it, so that `get` has it.
    pub(crate) fn start(&mut self, who: Contender, algorithm: Algorithm) -> anyhow::Result<()> {
        let running = self.fresh(who, algorithm)?;
        self.running.insert((who, keys::key_id(algorithm)), running);
        Ok(())
    }

    /// One that has done nothing yet, beside those that run.
    pub(crate) fn fresh(
        &mut self,
        who: Contender,
        algorithm: Algorithm,
    ) -> anyhow::Result<Running> {
        self.started += 1;
        let folder = self.site.folder.join(format!("{}", self.started));
        who.start(&self.site, algorithm, &folder)
            .with_context(|| format!("{who} does not start"))
    }

    pub(crate) fn get(&self, who: Contender, algorithm: Algorithm) -> Option<&Running> {
        self.running.get(&(who, keys::key_id(algorithm)))
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.running.values().map(|running| &running.process)
    }
}

/// What Debian installs may be where only root looks for programs.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// What `install.sh` has put into `target/peers`.
fn peer(name: &str) -> Option<PathBuf> {
    let file = crate::target_folder().join("peers").join("bin").join(name);
    file.is_file().then_some(file)
}

/// Peers do not tell which port they got, so one is chosen for them.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn wait_for<T>(attempt: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        match attempt() {
            Err(_) if tries < 200 => {
                tries += 1;
                thread::sleep(Duration::from_millis(50));
            }
            other => return other.map(drop),
        }
    }
}
