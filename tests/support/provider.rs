//! A real, certified OpenID provider for tests.

use std::path::Path;
use std::process::Command;

use crate::services::{Folder, Process, curl};

/// `oidc-provider` from npm, as tests/oidc/provider.mjs configures it.
pub(crate) struct Provider {
    pub(crate) process: Process,
    _folder: Folder,
    pub(crate) url: String,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let folder = Folder::create();
        let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("node");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc/provider.mjs");
        let process = Process::start(Command::new("node").arg(script).arg(modules), &folder);
        let is_up = process
            .stdout
            .wait_for(|line| line.starts_with("listening "));
        assert!(
            is_up,
            "no provider; run tests/install.sh\n{}",
            process.said()
        );
        let said = process.stdout.text();
        let url = said
            .lines()
            .find_map(|line| line.strip_prefix("listening "));
        Self {
            url: url.expect("its URL").to_owned(),
            process,
            _folder: folder,
        }
    }

    /// An access token for this resource.
    pub(crate) fn token(&self, resource: &str) -> String {
        let resource = format!("resource={resource}");
        let form = ["grant_type=client_credentials", "scope=read", &resource];
        let form = form.map(|field| ["--data-urlencode", field]).concat();
        let client = ["--user", "batch:secret-of-batch"];
        let answer = curl(
            &format!("{}/token", self.url),
            &[&client, &form[..]].concat(),
        );
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.process.said());
        answer.field("access_token")
    }

    /// From now on tokens are signed with new keys.
    pub(crate) fn rotate(&self) {
        let answer = curl(&format!("{}/rotate", self.url), &["--request", "POST"]);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// From now on people may log in for the client `gate`, and are sent back to this URL.
    pub(crate) fn sends_back_to(&self, redirect_uri: &str) {
        let url = format!("{}/client", self.url);
        let uri = format!("redirect_uri={redirect_uri}");
        let answer = curl(
            &url,
            &["--get", "--request", "POST", "--data-urlencode", &uri],
        );
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// The secret by which the client `gate` proves who it is.
pub(crate) const CLIENT_SECRET: &str = "secret/of the+gate";
