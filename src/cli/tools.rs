//! The commands that do not serve.

use std::io::{BufRead as _, stdin};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use tokio::runtime::Builder;
use zeroize::Zeroizing;

use super::client::{AdminPlace, Operator};
use super::run::{prepare_file, prepare_with};
use super::say;
use super::summary::summary;
use crate::admin::RevokeRequest;
use crate::clock;
use crate::config::Config;
use crate::config::files::Files;
use crate::config::load::load;
use crate::identity::hashing::{HashAlgorithm, PasswordForm, hash};
use crate::identity::users_file::sha1_hex;
use crate::token::Tokens;
use crate::token::issue::{Grantee, issue_alone};
use crate::token::verify::verify_bearer;

/// Checks a config file and prints what would be served.
pub(super) fn check(file: &Path) -> anyhow::Result<()> {
    let files = Files::beside(file);
    let prepared = prepare_with(file, &files)?;
    let tree = load(file, &files)?;
    say(format_args!("{} can be served", file.display()));
    for line in summary(&prepared, &tree) {
        say(line);
    }
    Ok(())
}

/// Prints the hash of a password.
pub(super) fn hash_password(algorithm: HashAlgorithm, form: PasswordForm) -> anyhow::Result<()> {
    let mut password = read_line("a password")?;
    if form == PasswordForm::Sha1 {
        password = Zeroizing::new(sha1_hex(&password));
    }
    say(hash(&password, algorithm)
        .map_err(|error| anyhow!("cannot hash this password: {error}"))?);
    Ok(())
}

/// Prints the JSON Schema of the config.
pub(super) fn schema() -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(&schemars::schema_for!(
        Config
    ))?);
    Ok(())
}

/// Prints a fresh access token.
pub(super) fn mint(
    file: &Path,
    subject: String,
    scope: String,
    ttl: Option<Duration>,
) -> anyhow::Result<()> {
    let tokens = prepare_file(file)?.snapshot.tokens;
    if subject.is_empty() {
        bail!("--subject must not be empty");
    }
    let ttl = tokens.lifetimes.access(ttl);
    let grantee = Grantee {
        subject,
        scope,
        groups: Vec::new(),
        claims: serde_json::Map::new(),
        login_scope: String::new(),
        client: None,
        sealed: None,
        resource: None,
        account: None,
    };
    let token = issue_alone(&tokens, &grantee, ttl, clock::unix_now())?;
    say(token.expose());
    Ok(())
}

/// Says whether the gate would accept a token.
pub(super) fn inspect(file: &Path) -> anyhow::Result<()> {
    let tokens = prepare_file(file)?.snapshot.tokens;
    let token = read_line("a token")?;
    load_keys(&tokens, &token)?;
    match verify_bearer(&token, &tokens, clock::unix_now()) {
        Ok(verified) => {
            let scopes = Vec::from_iter(verified.scopes()).join(" ");
            say("accepted");
            say(format_args!("subject: {}", verified.subject()));
            say(format_args!("scope: {scopes}"));
            say(format_args!(
                "expires: {} (seconds since the epoch)",
                verified.expires().0
            ));
            say(format_args!(
                "sealed credential: {}",
                if verified.sealed().is_some() {
                    "yes"
                } else {
                    "no"
                }
            ));
            Ok(())
        }
        Err(reason) => bail!("refused: {}: {}", reason.label(), reason.text()),
    }
}

/// Takes tokens back at a running gate.
pub(super) fn revoke(
    place: &AdminPlace,
    operator: Operator,
    asked: Option<RevokeRequest>,
) -> anyhow::Result<()> {
    let asked = asked.context(
        "name what to revoke: --subject, --family, --application-token, --token-id or --everything",
    )?;
    let request = Request::post("/revoke")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(&asked)?)))?;
    say(place.ask(operator.sign(request)?)?.trim());
    Ok(())
}

/// Asks a running gate whether it is ready, or only whether it runs.
pub(super) fn healthcheck(place: &AdminPlace, live: bool) -> anyhow::Result<()> {
    let path = if live { "/livez" } else { "/readyz" };
    let request = Request::get(path).body(Full::default())?;
    say(place.ask_within(request, PATIENCE)?.trim());
    Ok(())
}

/// How long a probe waits for its answer: a gate that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(3);

/// Fetches the keys of the external issuer that a token says it is from, if it does.
pub(super) fn load_keys(tokens: &Tokens, token: &str) -> anyhow::Result<()> {
    if let Some(source) = tokens.issuers.source_of(token) {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(source.fetch())?;
    }
    Ok(())
}

/// A line of standard input.
pub(super) fn read_line(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    let count = stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read standard input")?;
    if count == 0 {
        bail!("expected {what} on standard input");
    }
    let bare = line.strip_suffix('\n').unwrap_or(&line);
    let bare = bare.strip_suffix('\r').unwrap_or(bare);
    Ok(Zeroizing::new(bare.to_owned()))
}
