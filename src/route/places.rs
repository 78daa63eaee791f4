//! Where may a credential stand, and of which kind may it be?

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::Span;

/// Where a token may stand. Exactly one may be there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenPlacesConfig {
    /// `Authorization: Bearer`.
    pub header: bool,
    /// The names of query parameters. A token in a URL ends up in histories and logs before the
    /// gate sees it; list none where clients can do better.
    pub query: Vec<String>,
    /// Among the subprotocols that a WebSocket's client offers: `bearer.` and the token, or
    /// `base64url.bearer.authorization.k8s.io.` and the token in base64url. It is taken out of the
    /// list; browsers want one subprotocol besides, for the service to choose.
    pub subprotocol: bool,
    /// The cookie of a browser's session; only for what this site's own pages ask for. Default:
    /// where the `browser` login is.
    pub cookie: Option<bool>,
    /// A ticket for a token, as the query parameter `ticket`. Default: where tickets are given.
    pub ticket: Option<bool>,
}

impl Default for TokenPlacesConfig {
    fn default() -> Self {
        Self {
            header: true,
            query: vec!["authorization".to_owned(), "access_token".to_owned()],
            subprotocol: true,
            cookie: None,
            ticket: None,
        }
    }
}

/// Which credentials the gate gives out besides tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// Sessions, to browsers.
    pub sessions: bool,
    /// Tickets.
    pub tickets: bool,
}

/// Where a credential may stand, and of which kind.
#[expect(clippy::struct_excessive_bools, reason = "each is a place of its own")]
#[derive(Clone, Debug)]
pub struct TokenPlaces {
    /// `Authorization`.
    pub header: bool,
    /// The names of query parameters that hold tokens.
    pub query: Vec<String>,
    /// `Sec-WebSocket-Protocol`.
    pub subprotocol: bool,
    /// The cookie of a browser's session.
    pub cookie: bool,
    /// Whether there are tickets.
    pub tickets: bool,
    /// Whether `Authorization` may be Basic.
    pub basic: bool,
}

impl TokenPlacesConfig {
    /// With what it leaves open.
    #[must_use]
    pub fn build(&self, given: Given, basic: bool) -> TokenPlaces {
        TokenPlaces {
            header: self.header,
            query: self.query.clone(),
            subprotocol: self.subprotocol,
            cookie: self.cookie.unwrap_or(given.sessions),
            tickets: self.ticket.unwrap_or(given.tickets),
            basic,
        }
    }
}

impl Default for TokenPlaces {
    fn default() -> Self {
        TokenPlacesConfig::default().build(Given::default(), false)
    }
}

/// Clients that send a name and password by Basic on every request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BasicConfig {
    /// How long a pair that was verified is known again, by a keyed hash of it, without asking
    /// anybody: so long a changed password goes on working if an upstream or a directory alone
    /// knows of the change.
    pub remember: Span,
}

impl Default for BasicConfig {
    fn default() -> Self {
        Self {
            remember: Span::seconds(5 * 60),
        }
    }
}
