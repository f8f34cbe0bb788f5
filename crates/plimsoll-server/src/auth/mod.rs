//! Tokens: which keys check them, what they say, and how a development token is made.
//!
//! [`Verifier`] implements the sessions' [`plimsoll_core::token::TokenVerifier`]. It reads no
//! clock and does no I/O but a debug line of the log: the time is an argument, and the headers that
//! name a key elsewhere (`jku`, `x5u`, `jwk`, `kid`) are never followed.

mod claims;
mod json;
mod keys;
mod refusal;
mod secret;
mod sign;
#[cfg(test)]
mod tests;
mod verifier;

pub use keys::KeyError;
pub use refusal::Refusal;
pub use secret::Secret;
pub use sign::{SignError, TokenRequest, sign};
pub use verifier::Verifier;

/// Default of `leeway`: how far the clocks of issuer and server may differ, in milliseconds.
pub const LEEWAY_MS: u64 = 5_000;

/// Keys and rules for one kind of token. All keys empty = no token of this kind is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// Secret of HS256, HS384 and HS512.
    pub hmac_secret_key: Secret,
    /// The secret before a rotation, accepted besides the current one.
    pub hmac_previous_secret_key: Secret,
    /// Until when the previous secret counts, in Unix seconds; 0 = no end.
    pub hmac_previous_secret_key_valid_until: u64,
    /// PEM of the RSA public key (2,048–8,192 bits) of RS256, RS384 and RS512.
    pub rsa_public_key: String,
    /// PEM of the public key of ES256 (P-256) or ES384 (P-384).
    pub ecdsa_public_key: String,
    /// PEM of the Ed25519 public key of EdDSA.
    pub ed25519_public_key: String,
    /// `aud` must be or contain this; empty = not checked.
    pub audience: String,
    /// `iss` must be this; empty = not checked.
    pub issuer: String,
    /// Claim that holds the user id; empty = `sub`.
    pub user_id_claim: String,
    /// Claim that holds the tier; empty = none does.
    pub tier_claim: String,
    /// Claim that holds the tenant; empty = none does.
    pub tenant_claim: String,
    /// Allowed difference of clocks for `exp`, `nbf` and `expire_at`, in milliseconds.
    pub leeway_ms: u64,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            hmac_secret_key: Secret::default(),
            hmac_previous_secret_key: Secret::default(),
            hmac_previous_secret_key_valid_until: 0,
            rsa_public_key: String::new(),
            ecdsa_public_key: String::new(),
            ed25519_public_key: String::new(),
            audience: String::new(),
            issuer: String::new(),
            user_id_claim: String::new(),
            tier_claim: "tier".into(),
            tenant_claim: "tenant".into(),
            leeway_ms: LEEWAY_MS,
        }
    }
}

impl TokenSettings {
    /// Is there any key, so that a token can be accepted at all?
    pub fn has_key(&self) -> bool {
        !self.hmac_secret_key.is_empty()
            || !self.hmac_previous_secret_key.is_empty()
            || !self.rsa_public_key.is_empty()
            || !self.ecdsa_public_key.is_empty()
            || !self.ed25519_public_key.is_empty()
    }
}

/// Settings of both kinds of token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenConfig {
    /// Connection tokens, and subscription tokens unless those have their own settings.
    pub connection: TokenSettings,
    /// Do subscription tokens have their own settings?
    pub subscription_enabled: bool,
    /// Subscription tokens, when enabled.
    pub subscription: TokenSettings,
}

impl TokenConfig {
    /// The settings subscription tokens are checked by.
    pub fn for_subscription(&self) -> &TokenSettings {
        if self.subscription_enabled { &self.subscription } else { &self.connection }
    }
}
