//! How does a test start a real Mosquitto?

use std::process::Command;

use crate::services::{Folder, Process, start_on_free_ports, succeeded};

/// A Mosquitto with one user, a plain listener and one for WebSockets.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    _server: Process,
    pub(crate) folder: Folder,
    pub(crate) plain: u16,
    pub(crate) websockets: u16,
}

impl Mosquitto {
    pub(crate) fn with_user(name: &str, password: &str) -> Self {
        Self::with_config(|folder, [plain, websockets]| {
            let passwords = folder.file("passwords");
            let output = Command::new("mosquitto_passwd")
                .args(["-b", "-c"])
                .arg(&passwords)
                .args([name, password])
                .output()
                .expect("mosquitto_passwd; run tests/install.sh");
            succeeded(&output);
            format!(
                "allow_anonymous false
password_file {}
listener {plain} 127.0.0.1
listener {websockets} 127.0.0.1
protocol websockets
",
                passwords.display()
            )
        })
    }

    /// With the config that is made for a folder, in which it runs, and two free ports.
    pub(crate) fn with_config(config: impl Fn(&Folder, [u16; 2]) -> String) -> Self {
        let started = start_on_free_ports(|ports| {
            let folder = Folder::create();
            let config = config(&folder, ports);
            Self::start(folder, ports, &config)
        });
        started.unwrap_or_else(|log| panic!("no Mosquitto\n{log}"))
    }

    fn start(folder: Folder, [plain, websockets]: [u16; 2], config: &str) -> Result<Self, String> {
        // Only root is changed into another user, who could not read this folder.
        let config = format!("user root\nlog_dest stderr\n{config}");
        let config = folder.write("mosquitto.conf", &config);
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(config).current_dir(folder.file("."));
        let server = Process::start(&mut command, &folder);
        // It stops with an error when it cannot listen, so it listens when it says this.
        if !server.stderr.wait_for(|line| line.ends_with(" running")) {
            return Err(server.said());
        }
        Ok(Self {
            _server: server,
            folder,
            plain,
            websockets,
        })
    }
}
