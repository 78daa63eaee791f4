//! Why was a request refused, and whose fault is it? A closed set.

use http::StatusCode;

/// Whose fault a refusal is; decides the level of the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client sent something that cannot be let through.
    Downstream,
    /// The gate itself could not decide or serve.
    Gate,
    /// The upstream failed, or refused the gate's credentials.
    Upstream,
}

impl Side {
    /// The label in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Gate => "gate",
            Self::Upstream => "upstream",
        }
    }
}

/// The exact reason of a refusal. A closed set: logs, metrics and tests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The path can be read in more than one way, and the route does not allow that form.
    AmbiguousPath,
    /// The request can be read as another one, or as one for another host; its connection ends.
    AmbiguousRequest,
    /// The request or its body is not what the endpoint or HTTP asks for.
    MalformedRequest,
    /// More than one credential was presented, or one was repeated.
    SeveralCredentials,
    /// Nothing was presented (RFC 6750 section 3.1: no error code).
    MissingCredential,
    /// The token is not a JWT that could be judged.
    MalformedToken,
    /// `exp` has passed.
    Expired,
    /// `nbf` lies ahead.
    NotYetValid,
    /// `iss` is not the configured issuer.
    WrongIssuer,
    /// `aud` does not name this gate.
    WrongAudience,
    /// A refresh token where an access token belongs, or the reverse.
    WrongType,
    /// The token's algorithm is not its key's algorithm.
    WrongAlgorithm,
    /// No configured key has the token's key id.
    UnknownKey,
    /// No key of the token's issuer is at hand, or all are too old to go on with.
    KeysUnavailable,
    /// The signature does not verify.
    InvalidSignature,
    /// An external issuer at which somebody wants to log in cannot be asked.
    IssuerUnavailable,
    /// The token is genuine, but its subject is not among those that may come from its issuer.
    SubjectNotAllowed,
    /// The token, its login or its subject was revoked, or its family is not known.
    Revoked,
    /// A refresh token that was used before: all that came from its login has been ended.
    RefreshTokenReused,
    /// Login failed. Says on purpose not whether the account exists.
    BadCredentials,
    /// Well-formed, but not possible.
    UnprocessableRequest,
    /// This account can have no application tokens.
    NoApplicationTokens,
    /// The account has no application token of this number.
    UnknownApplicationToken,
    /// The ticket was never given, was used, or is too old.
    BadTicket,
    /// Too many logins failed of late; this one was not judged.
    Throttled,
    /// A client did not prove that it is who it says.
    BadClientCredentials,
    /// A credential stood where the proxy that asks would forward it to the upstream.
    UncutCredential,
    /// Who asks for another's request is no trusted proxy.
    UntrustedPeer,
    /// A login asked in a way that the endpoint does not know.
    UnsupportedGrant,
    /// A login asked for a scope that the account does not have.
    ScopeNotGranted,
    /// The token lacks a scope that the route requires.
    InsufficientScope,
    /// The principal is in none of the groups that the route requires.
    WrongGroup,
    /// A claim is not what the route requires.
    WrongClaim,
    /// A segment of the path is not the principal's own.
    NotOwnPath,
    /// The client identifier in CONNECT is not one that the route allows this principal.
    ClientIdNotAllowed,
    /// The will would be published where the principal may not publish.
    TopicNotAllowed,
    /// A browser would not keep what a session of this account has to hold.
    SessionTooLarge,
    /// The subject has as many sessions as it may.
    TooManySessions,
    /// No upstream credential is mapped to this principal.
    NoUpstreamCredential,
    /// No route matches.
    RouteNotFound,
    /// A route matches but for its methods, or an endpoint was asked with the wrong method.
    MethodNotAllowed,
    /// The client did not send its request in time.
    RequestTimeout,
    /// The client sent its body more slowly than it may.
    UploadTooSlow,
    /// The body of a login is larger than the limit.
    BodyTooLarge,
    /// A page of another site asked with the cookie of this one's session.
    CrossSite,
    /// The request's target or a header is too long.
    HeadersTooLarge,
    /// The store cannot take or tell what is needed.
    StoreUnavailable,
    /// A bounded queue of the gate is full.
    Overloaded,
    /// The gate itself failed; the log line has the cause.
    Internal,
    /// The upstream refused the credentials that the gate presented.
    UpstreamRefusedCredential,
    /// No endpoint of the upstream could be reached.
    UpstreamUnreachable,
    /// All endpoints of the upstream are down, or more requests wait for it than may.
    UpstreamUnavailable,
    /// The upstream closed or broke the connection before it answered.
    UpstreamBroken,
    /// The upstream did not answer in time.
    UpstreamTimeout,
}

impl Reason {
    /// The status that the client gets.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::AmbiguousPath
            | Self::AmbiguousRequest
            | Self::MalformedRequest
            | Self::SeveralCredentials
            | Self::UnsupportedGrant
            | Self::ScopeNotGranted => StatusCode::BAD_REQUEST,
            Self::MissingCredential
            | Self::MalformedToken
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::WrongType
            | Self::WrongAlgorithm
            | Self::UnknownKey
            | Self::InvalidSignature
            | Self::Revoked
            | Self::RefreshTokenReused
            | Self::BadCredentials
            | Self::BadTicket
            | Self::BadClientCredentials
            | Self::UncutCredential => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope
            | Self::SubjectNotAllowed
            | Self::WrongGroup
            | Self::WrongClaim
            | Self::CrossSite
            | Self::NotOwnPath
            | Self::ClientIdNotAllowed
            | Self::TopicNotAllowed
            | Self::NoApplicationTokens
            | Self::NoUpstreamCredential
            | Self::SessionTooLarge
            | Self::UntrustedPeer => StatusCode::FORBIDDEN,
            Self::UnprocessableRequest => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RouteNotFound | Self::UnknownApplicationToken => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Throttled | Self::TooManySessions => StatusCode::TOO_MANY_REQUESTS,
            Self::RequestTimeout | Self::UploadTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::KeysUnavailable
            | Self::IssuerUnavailable
            | Self::Overloaded
            | Self::StoreUnavailable
            | Self::UpstreamUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamRefusedCredential | Self::UpstreamUnreachable | Self::UpstreamBroken => {
                StatusCode::BAD_GATEWAY
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The label in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::AmbiguousPath => "ambiguous_path",
            Self::AmbiguousRequest => "ambiguous_request",
            Self::MalformedRequest => "malformed_request",
            Self::SeveralCredentials => "several_credentials",
            Self::MissingCredential => "missing_credential",
            Self::MalformedToken => "malformed_token",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::WrongType => "wrong_type",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::InvalidSignature => "invalid_signature",
            Self::KeysUnavailable => "keys_unavailable",
            Self::IssuerUnavailable => "issuer_unavailable",
            Self::SubjectNotAllowed => "subject_not_allowed",
            Self::Revoked => "revoked",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::StoreUnavailable => "store_unavailable",
            Self::BadCredentials => "bad_credentials",
            Self::UnprocessableRequest => "unprocessable_request",
            Self::NoApplicationTokens => "no_application_tokens",
            Self::UnknownApplicationToken => "unknown_application_token",
            Self::BadTicket => "bad_ticket",
            Self::Throttled => "throttled",
            Self::BadClientCredentials => "bad_client_credentials",
            Self::UncutCredential => "uncut_credential",
            Self::UntrustedPeer => "untrusted_peer",
            Self::UnsupportedGrant => "unsupported_grant",
            Self::ScopeNotGranted => "scope_not_granted",
            Self::InsufficientScope => "insufficient_scope",
            Self::WrongGroup => "wrong_group",
            Self::WrongClaim => "wrong_claim",
            Self::NotOwnPath => "not_own_path",
            Self::ClientIdNotAllowed => "client_id_not_allowed",
            Self::TopicNotAllowed => "topic_not_allowed",
            Self::SessionTooLarge => "session_too_large",
            Self::TooManySessions => "too_many_sessions",
            Self::NoUpstreamCredential => "no_upstream_credential",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::UploadTooSlow => "upload_too_slow",
            Self::BodyTooLarge => "body_too_large",
            Self::CrossSite => "cross_site",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::UpstreamRefusedCredential => "upstream_refused_credential",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Internal
            | Self::IssuerUnavailable
            | Self::KeysUnavailable
            | Self::Overloaded
            | Self::SessionTooLarge
            | Self::StoreUnavailable => Side::Gate,
            Self::UpstreamRefusedCredential
            | Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamBroken
            | Self::UpstreamTimeout => Side::Upstream,
            _ => Side::Downstream,
        }
    }

    /// The text that a client may see: never a secret, never an internal name.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::AmbiguousPath => "The path can be read in more than one way.",
            Self::AmbiguousRequest => "The request can be read in more than one way.",
            Self::MalformedRequest => "The request is malformed.",
            Self::SeveralCredentials => "More than one credential was presented.",
            Self::MissingCredential => "A token is required.",
            Self::MalformedToken => "The token is malformed.",
            Self::Expired => "The token has expired.",
            Self::NotYetValid => "The token is not valid yet.",
            Self::WrongIssuer => "The token has the wrong issuer.",
            Self::WrongAudience => "The token is meant for another audience.",
            Self::WrongType => "The token is of the wrong type.",
            Self::WrongAlgorithm | Self::UnknownKey | Self::InvalidSignature => {
                "The token's signature could not be verified."
            }
            Self::Revoked | Self::RefreshTokenReused => "The token has been revoked.",
            Self::BadCredentials => "The credentials are not valid.",
            Self::UnprocessableRequest => "This cannot be done.",
            Self::NoApplicationTokens => "This account cannot have application tokens.",
            Self::UnknownApplicationToken => "There is no such application token.",
            Self::BadTicket => "The ticket is not good, or not any more.",
            Self::Throttled => "Too many logins failed; try again later.",
            Self::BadClientCredentials => "The client's credentials are not valid.",
            Self::UnsupportedGrant => "This grant type is not supported.",
            Self::ScopeNotGranted => "The account does not have this scope.",
            Self::InsufficientScope => "The token does not have the required scope.",
            Self::SubjectNotAllowed | Self::WrongGroup | Self::WrongClaim => {
                "This account may not do this."
            }
            Self::NotOwnPath => "This belongs to another account.",
            Self::ClientIdNotAllowed => "This account may not use this client identifier.",
            Self::TopicNotAllowed => "This account may not publish there.",
            Self::SessionTooLarge => {
                "This account has more groups and claims than a browser's session can hold."
            }
            Self::TooManySessions => "This account has too many sessions.",
            Self::NoUpstreamCredential => "This account has no access to the service.",
            Self::UncutCredential => "The token is taken in the Authorization header alone.",
            Self::RouteNotFound | Self::UntrustedPeer => "Nothing is served here.",
            Self::MethodNotAllowed => "The method is not allowed here.",
            Self::RequestTimeout => "The request was not received in time.",
            Self::UploadTooSlow => "The body came too slowly.",
            Self::BodyTooLarge => "The body is too large.",
            Self::CrossSite => "A page of another site may not do this.",
            Self::HeadersTooLarge => "The request's headers are too large.",
            Self::IssuerUnavailable => "The login cannot be judged now; try again shortly.",
            Self::KeysUnavailable => "The token cannot be judged now; try again shortly.",
            Self::Overloaded | Self::StoreUnavailable => "The gate is busy; try again shortly.",
            Self::Internal => "The gate failed.",
            Self::UpstreamRefusedCredential => "The service refused the gate's credentials.",
            Self::UpstreamUnreachable => "The service cannot be reached.",
            Self::UpstreamUnavailable => "The service is busy or down; try again shortly.",
            Self::UpstreamBroken => "The service broke off before it answered.",
            Self::UpstreamTimeout => "The service did not answer in time.",
        }
    }

    /// RFC 6750 section 3.1's error code for `WWW-Authenticate`, where the reason has one.
    #[must_use]
    pub const fn bearer_error(self) -> Option<&'static str> {
        match self {
            Self::MissingCredential | Self::BadCredentials | Self::BadClientCredentials => None,
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::SeveralCredentials | Self::UncutCredential => Some("invalid_request"),
            reason if matches!(reason.status(), StatusCode::UNAUTHORIZED) => Some("invalid_token"),
            _ => None,
        }
    }
}
