//! How do connections come in? Within the bounds, or they are told off; errors back off.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use http::Uri;
use socket2::{Domain, Protocol, Socket, Type};
#[cfg(target_os = "linux")]
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::ListenerConfig;
use super::connection::serve;
use super::drain::WorkerDrain;
use super::peer::{Entrance, TrustedProxies};
use super::shed::{Admission, Cut, Held};
use super::tls::Tls;
use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::dialect::LoginConfig;
use crate::forward_auth::{ForwardAuthConfig, Proxies};
use crate::gate::Gate;
use crate::mqtt::config::Spoken;
use crate::stream::notice_death;

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    /// The address, with the port that was really taken.
    pub address: SocketAddr,
    /// The name in metrics.
    pub name: String,
    /// What the next handshakes are done with; without it the listener speaks plain HTTP.
    pub tls: Option<ArcSwap<Tls>>,
    /// The path that connections stand for, if MQTT is spoken.
    pub(crate) mqtt: Option<Uri>,
    /// The address as it is written in the config.
    written: String,
    proxies: TrustedProxies,
    forward_auth: Option<ForwardAuthConfig>,
    /// Keeps the port; it never listens.
    _first: Socket,
}

/// A listener that is checked but not bound yet.
#[derive(Debug)]
pub struct Unbound {
    address: SocketAddr,
    written: String,
    name: String,
    tls: Option<Tls>,
    mqtt: Option<Uri>,
    proxies: TrustedProxies,
    forward_auth: Option<ForwardAuthConfig>,
}

impl ListenerConfig {
    /// The name in metrics, and for login entries.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.address.0)
    }

    /// Notes listeners that would be taken for each other: the system would share out one
    /// address's connections among them, since each worker listens on it as well.
    pub fn check_apart(all: &[Self], problems: &mut Problems) {
        for (index, listener) in all.iter().enumerate() {
            let mut before = all.iter().take(index);
            let address = &listener.address.0;
            let has_name = |other: &Self| other.name.is_some() && other.name == listener.name;
            if before.clone().any(has_name) {
                let at = format_args!("listeners[{index}].name");
                problems.add(at, "is another listener's, too");
            }
            // As one writes an address, another may not.
            let socket = address.parse::<SocketAddr>().ok();
            let socket = socket.filter(|socket| socket.port() != 0);
            if socket.is_some() && before.any(|other| other.address.0.parse().ok() == socket) {
                let at = format_args!("listeners[{index}].address");
                problems.add(at, "is another listener's, too");
            }
        }
    }

    /// Notes logins that would never be reached, since something else is answered there.
    pub(crate) fn check_logins(all: &[Self], logins: &[LoginConfig], problems: &mut Problems) {
        let asks =
            |listener: &&Self| listener.forward_auth.is_some() || listener.protocol == Spoken::Mqtt;
        let asking = all.iter().filter(asks);
        for (index, login) in logins.iter().enumerate() {
            let mut asking = asking.clone().map(Self::name);
            let is_there = match &login.listener {
                Some(name) => !asking.any(|asking| asking == name),
                None => all.is_empty() || asking.count() < all.len(),
            };
            if !is_there {
                let at = format_args!("login[{index}]");
                problems.add(at, "would be reached by nobody: a listener for `forward_auth` or MQTT answers nothing else");
            }
        }
    }

    /// Reads what it needs; notes every problem.
    #[must_use]
    pub fn build(&self, at: &str, files: &Files, problems: &mut Problems) -> Option<Unbound> {
        let text = &self.address.0;
        let address = text.parse::<SocketAddr>();
        let address = address.map_err(|_| {
            format!("`{text}` is not an address and port, such as 0.0.0.0:8443 or [::]:8443")
        });
        let address = problems.take(format_args!("{at}.address"), address);
        let tls = self
            .tls
            .as_ref()
            .map(|tls| tls.build((&format!("{at}.tls"), self.protocol), files, problems));
        let proxies = TrustedProxies::build(
            &self.trusted_proxies,
            self.danger_trust_everyone,
            at,
            problems,
        );
        if let Some(forward_auth) = &self.forward_auth {
            let proxies = match (self.danger_trust_everyone, self.trusted_proxies.is_empty()) {
                (true, _) => Proxies::Everyone,
                (false, true) => Proxies::None,
                (false, false) => Proxies::Named,
            };
            forward_auth.check(at, proxies, problems);
            if self.protocol == Spoken::Mqtt {
                let at = format_args!("{at}.forward_auth");
                problems.add(at, "is asked over HTTP, not with `protocol: mqtt`");
            }
        }
        let mqtt = self.mqtt_path(at, problems);
        let address = address?;
        if tls.is_none() && !address.ip().is_loopback() && !self.danger_plaintext {
            problems.add(at, "would speak without TLS to other machines: give it `tls`, a loopback address, or `danger_plaintext: true`");
        }
        let tls = match tls {
            None => None,
            Some(tls) => Some(tls?),
        };
        Some(Unbound {
            address,
            written: text.clone(),
            name: self.name().to_owned(),
            tls,
            mqtt,
            proxies,
            forward_auth: self.forward_auth.clone(),
        })
    }

    /// The path that connections of MQTT stand for; notes every problem.
    fn mqtt_path(&self, at: &str, problems: &mut Problems) -> Option<Uri> {
        let at = format_args!("{at}.path");
        match (self.protocol, &self.path) {
            (Spoken::Http, None) => None,
            (Spoken::Http, Some(_)) => {
                problems.add(at, "is of use only with `protocol: mqtt`");
                None
            }
            (Spoken::Mqtt, None) => {
                problems.add(at, "is missing: a connection of MQTT names no path, so say for which one it stands");
                None
            }
            (Spoken::Mqtt, Some(path)) => {
                let is_path = path.starts_with('/') && !path.contains(['?', '#']);
                let path = path.parse::<Uri>().ok().filter(|_| is_path);
                problems.take(at, path.ok_or("must be a path, such as /mqtt"))
            }
        }
    }
}

impl Unbound {
    /// Takes the address.
    ///
    /// # Errors
    /// The operating system's, with the address.
    pub fn bind(self) -> Result<Listener, BindError> {
        let Self {
            address,
            written,
            name,
            tls,
            mqtt,
            proxies,
            forward_auth,
        } = self;
        let bound = bind(address).and_then(|first| {
            let address = first.local_addr()?.as_socket();
            Ok((
                first,
                address.ok_or_else(|| io::Error::other("no IP address"))?,
            ))
        });
        let (first, address) = bound.map_err(|source| BindError { address, source })?;
        Ok(Listener {
            address,
            name,
            tls: tls.map(ArcSwap::from_pointee),
            mqtt,
            written,
            proxies,
            forward_auth,
            _first: first,
        })
    }
}

/// An address could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl Listener {
    /// One more socket on the address, for one worker.
    ///
    /// # Errors
    /// The operating system's.
    pub fn socket(&self) -> io::Result<std::net::TcpListener> {
        let socket = bind(self.address)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Takes on the certificates that `next` has for the listener with the same address and name,
    /// and takes that out of it. Handshakes from now on see them; open connections go on. Where
    /// nothing differs, sessions can still be resumed. Gives what was replaced.
    pub fn renew(&self, next: &mut Vec<Unbound>) -> Option<Arc<Tls>> {
        let is_same = |other: &Unbound| other.written == self.written && other.name == self.name;
        let place = next.iter().position(is_same)?;
        let (current, next) = (self.tls.as_ref()?, next.remove(place).tls?);
        if current.load().is_same(&next) {
            return None;
        }
        Some(current.swap(Arc::new(next)))
    }

    /// Which other proxy asks here, if one does; then nothing else is answered.
    #[must_use]
    pub const fn asker(&self) -> Option<&ForwardAuthConfig> {
        self.forward_auth.as_ref()
    }

    /// `http` or `https`, `mqtt` or `mqtts`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        match (&self.mqtt, &self.tls) {
            (None, None) => "http",
            (None, Some(_)) => "https",
            (Some(_), None) => "mqtt",
            (Some(_), Some(_)) => "mqtts",
        }
    }
}

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 1024;

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted connections take it on.
    notice_death(&socket)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts connections until the drain begins, and then those whose handshakes have.
pub(super) async fn accept(
    listener: Arc<Listener>,
    socket: std::net::TcpListener,
    gate: Rc<Gate>,
    admission: Admission,
    drain: WorkerDrain,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, listener = listener.name, "a listener cannot be used");
            return;
        }
    };
    let entrance = Rc::new(Entrance {
        listener: listener.name.clone(),
        proxies: listener.proxies.clone(),
        forward_auth: listener.forward_auth.clone(),
    });
    let serve = |(stream, peer): (TcpStream, SocketAddr)| {
        let address = peer.ip().to_canonical();
        let most = gate.limits().connections_per_address;
        let is_proxy = listener.proxies.hold(address);
        let admitted = match gate.is_out_of_memory() {
            true => Err(Cut::Memory),
            false => admission.admit(address, (!is_proxy).then_some(most)),
        };
        let held = match admitted {
            Ok(held) => held,
            Err(cut) => {
                gate.metrics().cut(&listener.name, cut.label());
                if listener.tls.is_none() && listener.mqtt.is_none() {
                    spawn_local(admission.clone().say_farewell(stream, cut));
                }
                return;
            }
        };
        let (gate, listener) = (Rc::clone(&gate), Arc::clone(&listener));
        let (entrance, accepted) = (Rc::clone(&entrance), (stream, peer, held));
        spawn_local(serve(gate, listener, entrance, accepted, drain.clone()));
    };
    let mut begun = std::pin::pin!(drain.begun());
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            () = &mut begun => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                pause = FIRST_PAUSE;
                serve(accepted);
            }
            Err(error) => {
                // Most often all file descriptors are in use: waiting lets some come free.
                tracing::error!(%error, listener = listener.name, "accepting a connection failed");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // Closing the socket would reset what waits in its queue, and what is about to.
    if let Err(error) = refuse_beginnings(&socket) {
        tracing::debug!(%error, "handshakes that begin now may be lost");
    }
    let _ = timeout(HANDSHAKES, async {
        while let Ok(accepted) = socket.accept().await {
            serve(accepted);
        }
    })
    .await;
    while let Some(Ok(accepted)) = socket.accept().now_or_never() {
        serve(accepted);
    }
}

/// From now on drops the first packet of TCP handshakes (SYN without ACK), by a classic BPF filter
/// over the TCP header (Linux, `SO_ATTACH_FILTER`): the client sends it again after a second, when
/// the socket is closed and the system hands it to another process that listens on the address, if
/// there is one. Handshakes that have begun go on.
#[cfg(target_os = "linux")]
fn refuse_beginnings(socket: &TcpListener) -> io::Result<()> {
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // <linux/bpf_common.h>: BPF_LD|BPF_B|BPF_ABS, BPF_ALU|BPF_AND, BPF_JMP|BPF_JEQ, BPF_RET.
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x54, 0, 0, SYN | ACK),
        SockFilter::new(0x15, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn refuse_beginnings(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How long handshakes that have begun may take to end while a listener closes: the longest way
/// there and back that is cared for.
const HANDSHAKES: Duration = Duration::from_millis(250);

/// A connection, its client's address, and the place that it holds.
pub(super) type Accepted = (TcpStream, SocketAddr, Held);

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
