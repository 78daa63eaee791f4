//! What does a client ask for, once its wire has been understood?

use std::time::Duration;

use ipnet::IpNet;

use crate::clock::UnixTime;
use crate::config::secret::Secret;
use crate::identity::Attempt;
use crate::store::application::{ApplicationChange, ApplicationToken};

/// What a client asks for.
#[derive(Debug)]
pub enum Grant {
    /// Tokens for credentials.
    Login(Attempt, Asked),
    /// Tokens for a refresh token.
    Refresh(Secret<String>, Asked),
    /// The end of this token, and of all that came from its login if it is a refresh token.
    Revoke(Secret<String>),
    /// What is in this token.
    Introspect(Secret<String>, Asker),
    /// A ticket for this access token.
    Ticket(Secret<String>),
    /// Something about the application tokens of who holds this access token.
    Applications(Secret<String>, ApplicationCommand),
}

/// Who asks what is in a token.
#[derive(Debug)]
pub enum Asker {
    /// An account.
    Account(Attempt),
    /// The holder of an access token.
    Bearer(Secret<String>),
}

/// How tokens are asked for, beyond whose they are.
#[derive(Debug, Default)]
pub struct Asked {
    /// How long they are to live.
    pub lifetimes: AskedLifetimes,
    /// Fewer scopes than the account has, space-separated.
    pub scope: Option<String>,
    /// The client, where the dialect knows clients apart from accounts; tokens then name it.
    pub client: Option<Client>,
}

/// The client that asks on an account's behalf (RFC 6749 section 2.1).
#[derive(Debug)]
pub enum Client {
    /// The account itself is the client: it gets no refresh token, since it has its credentials
    /// at hand (RFC 6749 section 4.4.3).
    Account,
    /// It proves to be this account.
    Confidential(Attempt),
    /// It gives a name and proves nothing.
    Public(String),
    /// It says nothing about itself: the account counts as the client.
    Unnamed,
}

impl From<AskedLifetimes> for Asked {
    fn from(lifetimes: AskedLifetimes) -> Self {
        Self {
            lifetimes,
            scope: None,
            client: None,
        }
    }
}

/// The lifetimes that a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLifetimes {
    /// The access token's.
    pub access: Option<Duration>,
    /// The refresh token's.
    pub refresh: Option<Duration>,
}

/// What is to happen with application tokens.
#[derive(Debug)]
pub enum ApplicationCommand {
    /// One changes.
    Change(u64, ApplicationChange),
    /// A new one is made.
    Create {
        /// What its creator says of it.
        description: Option<String>,
        /// From when on it is no longer good.
        expires: Option<UnixTime>,
        /// From where alone it is good.
        network: Option<IpNet>,
    },
    /// They are listed.
    List,
}

/// What happened with application tokens.
#[derive(Debug)]
pub enum ApplicationAnswer {
    /// It was changed.
    Changed,
    /// It was made: this is the only time that it is told.
    Created(Secret<String>),
    /// These are there.
    Listed(Vec<ApplicationToken>),
}
