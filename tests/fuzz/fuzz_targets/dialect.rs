//! Does every dialect take any request apart without a slip, and into no more than came?
//!
//! The first line is the dialect, the method and the path; header fields follow up to an empty
//! line, then the body.

#![no_main]

use std::time::Duration;

use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use tollgate::dialect::{
    ApplicationCommand, Asked, AskedLifetimes, Asker, Client, DialectName, Endpoint, Grant,
};
use tollgate::identity::Attempt;
use tollgate::refusal::Refusal;
use tollgate::token::Lifetimes;

mod shared;

/// The longest body that reaches a dialect is larger; this much is as good.
const LONGEST: usize = 16 * 1024;
/// More than any refusal has to say.
const LONGEST_REFUSAL: usize = 1024;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > LONGEST {
        return;
    }
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let Some((first, fields)) = lines.split_first() else {
        return;
    };
    let Ok(first) = str::from_utf8(first) else {
        return;
    };
    let mut words = first.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (Some(dialect), Ok(method), Ok(uri)) = (
        named(word()),
        word().parse::<Method>(),
        word().parse::<Uri>(),
    ) else {
        return;
    };
    let dialect = dialect.dialect();
    let head = shared::head(&method, uri, fields);
    let Some(endpoint) = dialect.endpoint(&head, head.uri.path()) else {
        return;
    };
    if matches!(endpoint, Endpoint::WrongMethod(_)) {
        return;
    }
    match dialect.parse(endpoint, &head, rest) {
        Ok(grant) => {
            let told = texts(&grant);
            let length: usize = told.iter().map(String::len).sum();
            // Decoding makes nothing longer; a text may be told twice, as user and as client.
            assert!(
                length <= 2 * bytes.len() + ADDED,
                "{length} of {}",
                bytes.len()
            );
            check_debug(&grant);
        }
        Err(refusal) => check_refusal(&dialect.refused(Some(endpoint), &refusal), &refusal),
    }
});

/// What a dialect may add of its own to what came.
const ADDED: usize = 64;

fn named(name: &str) -> Option<DialectName> {
    Some(match name {
        "basic" => DialectName::Basic,
        "datarhei" => DialectName::Datarhei,
        "emnify" => DialectName::Emnify,
        "jmvstream" => DialectName::Jmvstream,
        "memphis" => DialectName::Memphis,
        "oauth2" => DialectName::Oauth2,
        "ticket" => DialectName::Ticket,
        _ => return None,
    })
}

/// All texts of what is asked for.
fn texts(grant: &Grant) -> Vec<String> {
    let mut texts = Vec::new();
    match grant {
        Grant::Login(attempt, asked) => {
            add_attempt(&mut texts, attempt);
            add_asked(&mut texts, asked);
        }
        Grant::Refresh(token, asked) => {
            texts.push(token.expose().clone());
            add_asked(&mut texts, asked);
        }
        Grant::Revoke(token) | Grant::Ticket(token) => texts.push(token.expose().clone()),
        Grant::Introspect(token, asker) => {
            texts.push(token.expose().clone());
            match asker {
                Asker::Account(attempt) => add_attempt(&mut texts, attempt),
                Asker::Bearer(token) => texts.push(token.expose().clone()),
            }
        }
        Grant::Applications(token, command) => {
            texts.push(token.expose().clone());
            match command {
                ApplicationCommand::Change(_, change) => texts.extend(change.description.clone()),
                ApplicationCommand::Create { description, .. } => {
                    texts.extend(description.clone());
                }
                ApplicationCommand::List => {}
            }
        }
    }
    texts
}

fn add_attempt(texts: &mut Vec<String>, attempt: &Attempt) {
    texts.push(attempt.identifier.clone());
    texts.push(attempt.secret.expose().clone());
    texts.extend(attempt.resource.clone());
}

fn add_asked(texts: &mut Vec<String>, asked: &Asked) {
    texts.extend(asked.scope.clone());
    match &asked.client {
        Some(Client::Confidential(attempt)) => add_attempt(texts, attempt),
        Some(Client::Public(name)) => texts.push(name.clone()),
        Some(Client::Account | Client::Unnamed) | None => {}
    }
    let AskedLifetimes { access, refresh } = asked.lifetimes;
    let most = Duration::from_secs(3600);
    let rules = Lifetimes {
        access: most,
        refresh: most,
        max_access: most,
        max_refresh: most,
    };
    for asked in [access, refresh] {
        assert_ne!(asked, Some(Duration::ZERO), "a token that is never good");
    }
    assert!(rules.access(access) <= most && rules.refresh(refresh) <= most);
}

/// A secret is not told where somebody prints what was asked for.
fn check_debug(grant: &Grant) {
    let (secret, others) = match grant {
        Grant::Login(attempt, asked) => {
            let mut others = vec![attempt.identifier.clone()];
            others.extend(attempt.resource.clone());
            add_asked(&mut others, asked);
            (attempt.secret.expose(), others)
        }
        Grant::Refresh(token, asked) => {
            let mut others = Vec::new();
            add_asked(&mut others, asked);
            (token.expose(), others)
        }
        Grant::Revoke(token) | Grant::Ticket(token) => (token.expose(), Vec::new()),
        Grant::Introspect(..) | Grant::Applications(..) => return,
    };
    // Shorter ones may stand there by chance, as may what was told elsewhere too.
    let is_telling = secret.len() >= 8 && secret.contains(['!', '~', '%']);
    if is_telling && !others.iter().any(|other| other.contains(secret.as_str())) {
        assert!(!format!("{grant:?}").contains(secret.as_str()), "{grant:?}");
    }
}

fn check_refusal(response: &http::Response<bytes::Bytes>, refusal: &Refusal) {
    // A body is the client's affair, whatever some services call it.
    assert!(refusal.reason.status().is_client_error(), "{refusal:?}");
    let status = response.status();
    assert!(
        status.is_client_error() || status.is_server_error(),
        "{refusal:?}"
    );
    assert!(response.body().len() <= LONGEST_REFUSAL, "{refusal:?}");
}
