//! What was asked for on the command line, and with which exit code does it end?

mod client;
pub(crate) mod dumps;
mod explain;
mod keep;
mod keys;
mod panics;
mod reference;
pub mod reload;
pub mod run;
mod session;
pub mod signals;
mod state;
mod summary;
pub mod tools;

use std::fmt::Display;
use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::admin::RevokeRequest;
use crate::config::load::ConfigError;
use crate::identity::hashing::{HashAlgorithm, PasswordForm};
use client::{AdminPlace, Operator};
use keys::{GeneratedAlgorithm, RsaBits};
use reference::Topic;

/// A reverse proxy that authenticates: no token, no passage.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 fine, 1 failed, 2 wrong usage or config.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as the config says, until SIGTERM or SIGINT; changes of its files are taken live
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Check the config without serving, and print what would be served
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show the whole main job in one process: a legacy upstream, the gate, curl lines to paste
    Demo {
        /// Where clients connect; port 0 picks a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
        listen: String,
        /// Where operators connect; port 0 picks a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
        admin: String,
    },
    /// Say what the gate would do with a request, and why: the route, what it requires, what the
    /// token has, what the upstream would get
    Explain {
        #[command(flatten)]
        config: ConfigFile,
        /// The method, such as GET
        method: String,
        /// The URL, such as https://gate.example/stations/north/produce/single
        url: String,
        /// The access token; `-` reads it from standard input, where no process list shows it
        #[arg(long, allow_hyphen_values = true)]
        token: Option<String>,
        /// The name of the listener that it comes to [default: the first]
        #[arg(long)]
        listener: Option<String>,
        /// What CONNECT of MQTT calls its client [default: whatever would do]
        #[arg(long)]
        client_id: Option<String>,
    },
    /// Ask a running gate whether it is ready, as a container's probe: exit code 0 if it is, else 1
    Healthcheck {
        #[command(flatten)]
        place: AdminPlace,
        /// Ask only whether it runs, which it does while it drains, too
        #[arg(long)]
        live: bool,
    },
    /// Read a password from standard input and print its hash for a users file
    HashPassword {
        /// The algorithm
        #[arg(long, value_enum, default_value = "argon2id")]
        algorithm: HashAlgorithm,
        /// What is hashed; `sha1` for a users file's `sha1_hash`
        #[arg(long, value_enum, default_value = "plain")]
        form: PasswordForm,
    },
    /// Work with keys
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Move what the store keeps: refresh families, application tokens, revocations
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Work with tokens
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Print the JSON Schema of the config
    Schema,
    /// Print a reference in Markdown, as it stands in `docs/`
    Reference {
        /// Of what
        #[arg(value_enum)]
        topic: Topic,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Say which keys a running gate judges tokens with, how old they are, and what went wrong
    List {
        #[command(flatten)]
        place: AdminPlace,
        #[command(flatten)]
        operator: Operator,
    },
    /// Make a new key for `tokens.keys`; the config for it goes to standard error
    Generate {
        /// What it is for
        #[arg(long, value_enum)]
        algorithm: GeneratedAlgorithm,
        /// The size of an RSA key
        #[arg(long, value_enum, default_value = "2048")]
        bits: RsaBits,
        /// A file to make, which only its owner can read; it must not exist [default: standard
        /// output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Print all of it as lines of JSON; no token is in it, but hashes and sealed credentials are
    Export {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Read an export from standard input
    Import {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print a fresh access token, signed with the config's first key
    Mint {
        #[command(flatten)]
        config: ConfigFile,
        /// Whom the token is about (`sub`)
        #[arg(long)]
        subject: String,
        /// Scopes, space-separated
        #[arg(long, default_value = "")]
        scope: String,
        /// How long it lives, such as 15m [default: tokens.access_ttl]
        #[arg(long, value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
    },
    /// Take tokens back at a running gate, from the very next request on
    Revoke {
        #[command(flatten)]
        place: AdminPlace,
        #[command(flatten)]
        operator: Operator,
        /// Every token of this subject
        #[arg(long, group = "what", allow_hyphen_values = true)]
        subject: Option<String>,
        /// Every token of this login: the `fam` of its tokens
        #[arg(long, group = "what", allow_hyphen_values = true)]
        family: Option<String>,
        /// Every token that was issued up to now, of everybody, and every application token
        #[arg(long, group = "what")]
        everything: bool,
        /// This application token, by its number, with all that it bought
        #[arg(long, group = "what", value_name = "NUMBER")]
        application_token: Option<u64>,
        /// This token: its `jti`
        #[arg(long, group = "what", allow_hyphen_values = true)]
        token_id: Option<String>,
    },
    /// Read a token from standard input and say whether the gate would accept it, and why not
    Inspect {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The config file
    #[arg(long = "config", value_name = "FILE")]
    path: PathBuf,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    panics::tell_no_secrets();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let forbidden = dumps::forbid().context("core dumps cannot be forbidden");
    match forbidden.and_then(|()| dispatch(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            let is_config = error.is::<ConfigError>();
            ExitCode::from(if is_config { USAGE } else { FAILED })
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { config } => run::run(&config.path),
        Command::Check { config } => tools::check(&config.path),
        Command::Demo { listen, admin } => crate::demo::run(&listen, &admin),
        Command::Explain {
            config,
            method,
            url,
            token,
            listener,
            client_id,
        } => {
            let question = explain::Question {
                method: &method,
                url: &url,
                token: token.as_deref(),
                listener: listener.as_deref(),
                client_id: client_id.as_deref(),
            };
            explain::explain(&config.path, question)
        }
        Command::Healthcheck { place, live } => tools::healthcheck(&place, live),
        Command::HashPassword { algorithm, form } => tools::hash_password(algorithm, form),
        Command::Schema => tools::schema(),
        Command::Reference { topic } => reference::print(topic),
        Command::State {
            command: StateCommand::Export { config },
        } => state::export(&config.path),
        Command::State {
            command: StateCommand::Import { config },
        } => state::import(&config.path),
        Command::Keys { command } => match command {
            KeysCommand::List { place, operator } => keys::list(&place, operator),
            KeysCommand::Generate {
                algorithm,
                bits,
                out,
            } => keys::generate(algorithm, bits, out.as_deref()),
        },
        Command::Token {
            command:
                TokenCommand::Mint {
                    config,
                    subject,
                    scope,
                    ttl,
                },
        } => tools::mint(&config.path, subject, scope, ttl),
        Command::Token {
            command:
                TokenCommand::Revoke {
                    place,
                    operator,
                    subject,
                    family,
                    everything,
                    application_token,
                    token_id,
                },
        } => {
            let asked = subject
                .map(RevokeRequest::Subject)
                .or_else(|| family.map(RevokeRequest::Family))
                .or_else(|| application_token.map(RevokeRequest::ApplicationToken))
                .or_else(|| token_id.map(RevokeRequest::TokenId))
                .or_else(|| everything.then_some(RevokeRequest::Everything(true)));
            tools::revoke(&place, operator, asked)
        }
        Command::Token {
            command: TokenCommand::Inspect { config },
        } => tools::inspect(&config.path),
    }
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn complain(error: &anyhow::Error) {
    let _ = writeln!(stderr(), "tollgate: {error:#}");
}

/// Tells the one who called what is not the output itself.
fn remark(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}

/// Prints for the one who called; who no longer listens misses it, and nothing else happens.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(stdout(), "{text}");
}
