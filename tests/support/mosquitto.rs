//! How does a test start a real Mosquitto?

use std::process::Command;

use crate::services::{Folder, Process, start_on_free_ports, succeeded};

/// A Mosquitto with one user, a plain listener and one for WebSockets.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    _server: Process,
    _folder: Folder,
    pub(crate) plain: u16,
    pub(crate) websockets: u16,
}

impl Mosquitto {
    pub(crate) fn with_user(name: &str, password: &str) -> Self {
        let started = start_on_free_ports(|ports| Self::start(ports, name, password));
        started.unwrap_or_else(|log| panic!("no Mosquitto\n{log}"))
    }

    fn start([plain, websockets]: [u16; 2], name: &str, password: &str) -> Result<Self, String> {
        let folder = Folder::create();
        let passwords = folder.file("passwords");
        let output = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args([name, password])
            .output()
            .expect("mosquitto_passwd; run tests/install.sh");
        succeeded(&output);
        let config = format!(
            "# Only root is changed into another user, who could not read this folder.
user root
log_dest stderr
allow_anonymous false
password_file {}
listener {plain} 127.0.0.1
listener {websockets} 127.0.0.1
protocol websockets
",
            passwords.display()
        );
        let config = folder.write("mosquitto.conf", &config);
        let server = Process::start(
            Command::new("/usr/sbin/mosquitto").arg("-c").arg(config),
            &folder,
        );
        // It stops with an error when it cannot listen, so it listens when it says this.
        if !server.stderr.wait_for(|line| line.ends_with(" running")) {
            return Err(server.said());
        }
        Ok(Self {
            _server: server,
            _folder: folder,
            plain,
            websockets,
        })
    }
}
