//! Proxies that many people know, with one worker, no log and no token check, to compare with.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;

use crate::gate::{CERTIFICATE, PRIVATE_KEY};
use crate::machine::Machine;
use crate::process::Process;
use crate::wire::Target;

/// A running plain proxy.
pub(crate) struct Yardstick {
    pub(crate) process: Process,
    pub(crate) plain: Target,
    pub(crate) tls: Target,
}

/// Which plain proxy.
#[derive(Clone, Copy)]
pub(crate) enum Make {
    Haproxy,
    Nginx,
}

impl Yardstick {
    /// Starts it, or tells why not: a bench goes on without a yardstick.
    pub(crate) fn start(
        make: Make,
        machine: &Machine,
        folder: &Path,
        upstream: SocketAddr,
        tls: &Arc<ClientConfig>,
    ) -> Option<Self> {
        let name = make.name();
        match make.version() {
            Ok(version) => println!("found   {version}"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("skipped {name}: not installed");
                return None;
            }
            Err(error) => {
                println!("skipped {name}: {error}");
                return None;
            }
        }
        let started = make.start(machine, folder, upstream, tls);
        started
            .inspect_err(|error| println!("skipped {name}: {error:#}"))
            .ok()
    }
}

impl Make {
    fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// nginx says it on stderr, HAProxy on stdout.
    fn version(self) -> io::Result<String> {
        let output = Command::new(self.name())
            .arg("-v")
            .stdin(Stdio::null())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned())
    }

    fn start(
        self,
        machine: &Machine,
        folder: &Path,
        upstream: SocketAddr,
        tls: &Arc<ClientConfig>,
    ) -> anyhow::Result<Yardstick> {
        let name = self.name();
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let (plain, secure) = (free_address()?, free_address()?);
        let file = folder.join("config");
        let mut command = machine.proxy_command(name);
        match self {
            Self::Haproxy => {
                fs::write(
                    &file,
                    haproxy_config(plain, secure, upstream, &bundle(&folder)?),
                )?;
                command.arg("-db").arg("-f").arg(&file);
            }
            Self::Nginx => {
                fs::write(&file, nginx_config(plain, secure, upstream))?;
                command
                    .args(["-e", "stderr", "-c", "config", "-p"])
                    .arg(&folder);
            }
        }
        let process = Process::start(name, &mut command, &folder)?;
        wait_for(plain).with_context(|| process.complaint("does not listen"))?;
        Ok(Yardstick {
            process,
            plain: Target::plain(plain),
            tls: Target {
                address: secure,
                tls: Some(tls.clone()),
            },
        })
    }
}

/// One process, kept connections on both sides, nothing logged.
fn nginx_config(plain: SocketAddr, secure: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 1000000000;
  upstream bench {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {plain};
    listen {secure} ssl;
    ssl_certificate ../{CERTIFICATE}; ssl_certificate_key ../{PRIVATE_KEY};
    ssl_protocols TLSv1.3;
    location / {{ proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
"
    )
}

fn haproxy_config(
    plain: SocketAddr,
    secure: SocketAddr,
    upstream: SocketAddr,
    bundle: &Path,
) -> String {
    format!(
        "global
  nbthread 1
  maxconn 4096
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend bench
  bind {plain}
  bind {secure} ssl crt {bundle}
  default_backend bench
backend bench
  http-reuse always
  server upstream {upstream} pool-max-conn 1024
",
        bundle = bundle.display(),
    )
}

/// HAProxy wants the certificate and the key in one file.
fn bundle(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let above = folder.parent().unwrap_or(folder);
    let pem = [
        fs::read(above.join(CERTIFICATE))?,
        fs::read(above.join(PRIVATE_KEY))?,
    ]
    .concat();
    let file = folder.join("bundle.pem");
    fs::write(&file, pem)?;
    Ok(file)
}

/// Neither proxy tells which port it got, so one is chosen for it.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn wait_for(address: SocketAddr) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match TcpStream::connect(address) {
            Err(_) if tries < 100 => {
                tries += 1;
                thread::sleep(Duration::from_millis(50));
            }
            other => return other.map(drop),
        }
    }
}
