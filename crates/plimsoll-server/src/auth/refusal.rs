//! Why a token was refused, for the log.

use std::fmt;

use plimsoll_core::token::TokenError;

/// The reason for refusing a token. Holds nothing of the token itself, so it may be logged;
/// the peer only learns "expired" or "invalid".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than [`plimsoll_core::limits::TOKEN_BYTES_MAX`].
    TooLong,
    /// Not `header.claims.signature`.
    Shape,
    /// A part is not unpadded base64url.
    Base64,
    /// The header is not a JSON object, or has a field twice.
    HeaderJson,
    /// A field of the header asks for what is not supported.
    HeaderField(&'static str),
    /// `alg` is unknown, or no configured key goes with it.
    Algorithm,
    /// The signature does not fit the configured key.
    Signature,
    /// The claims are not a JSON object, or have a claim twice.
    ClaimsJson,
    /// The named claim has a wrong type, is out of range or too long.
    Claim(&'static str),
    /// `aud` does not contain the configured audience.
    Audience,
    /// `iss` is not the configured issuer.
    Issuer,
    /// `nbf` lies in the future.
    NotYetValid,
    /// A subscription token where a connection token is needed.
    HasChannel,
    /// No `channel`: not a subscription token.
    NoChannel,
    /// Everything is right, but its time is over.
    Expired,
}

impl Refusal {
    /// What the session needs to know.
    pub fn kind(self) -> TokenError {
        match self {
            Self::Expired => TokenError::Expired,
            _ => TokenError::Invalid,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TooLong => "token is too long",
            Self::Shape => "token does not have three parts",
            Self::Base64 => "a part of the token is not base64url",
            Self::HeaderJson => "token header is not a JSON object with distinct fields",
            Self::HeaderField(name) => return write!(f, "token header: `{name}` not acceptable"),
            Self::Algorithm => "no key is configured for the token's algorithm",
            Self::Signature => "token signature does not match the configured key",
            Self::ClaimsJson => "token claims are not a JSON object with distinct names",
            Self::Claim(name) => return write!(f, "token claim `{name}` is not acceptable"),
            Self::Audience => "token audience is not the configured one",
            Self::Issuer => "token issuer is not the configured one",
            Self::NotYetValid => "token is not valid yet (nbf)",
            Self::HasChannel => "a subscription token was used to connect",
            Self::NoChannel => "subscription token has no channel",
            Self::Expired => "token is expired",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}
