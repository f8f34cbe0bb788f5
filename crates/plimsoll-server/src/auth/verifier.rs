//! From the text of a token to its claims.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plimsoll_core::limits;
use plimsoll_core::tier::TierClaim;
use plimsoll_core::token::{ConnectionClaims, SubscriptionClaims, TokenError, TokenVerifier};

use super::claims::Claims;
use super::json::{Fields, string};
use super::keys::{KeyError, Keys};
use super::{Refusal, TokenConfig, TokenSettings};

/// Checks tokens by the configured keys. Cheap to share: it is immutable and `Sync`.
#[derive(Clone)]
pub struct Verifier {
    connection: Side,
    subscription: Side,
}

#[derive(Clone)]
struct Side {
    settings: TokenSettings,
    keys: Keys,
}

impl Verifier {
    /// Reads the keys of `config`; an unusable key is an error, a missing one is not.
    pub fn new(config: &TokenConfig) -> Result<Self, KeyError> {
        let side = |settings: &TokenSettings| {
            Ok(Side { settings: settings.clone(), keys: Keys::new(settings)? })
        };
        Ok(Self {
            connection: side(&config.connection)?,
            subscription: side(config.for_subscription())?,
        })
    }

    /// Like [`TokenVerifier::connection`], with the reason.
    pub fn check_connection(&self, token: &str, unix_ms: u64) -> Result<ConnectionClaims, Refusal> {
        let side = &self.connection;
        let json = side.verified_claims(token, unix_ms)?;
        Claims::new(&json, &side.settings, unix_ms)?.connection()
    }

    /// Like [`TokenVerifier::subscription`], with the reason.
    pub fn check_subscription(
        &self,
        token: &str,
        unix_ms: u64,
    ) -> Result<SubscriptionClaims, Refusal> {
        let side = &self.subscription;
        let json = side.verified_claims(token, unix_ms)?;
        Claims::new(&json, &side.settings, unix_ms)?.subscription()
    }
}

impl TokenVerifier for Verifier {
    fn connection(&self, token: &str, unix_ms: u64) -> Result<ConnectionClaims, TokenError> {
        self.check_connection(token, unix_ms).map_err(told)
    }

    fn unverified_tier(&self, token: &str) -> TierClaim {
        let side = &self.connection;
        let claims = token.split('.').nth(1).filter(|_| token.len() <= limits::TOKEN_BYTES_MAX);
        let json = claims.and_then(|claims| decode(claims).ok());
        let claims = json.as_deref().and_then(|j| Claims::new(j, &side.settings, 0).ok());
        claims.map_or(TierClaim::Absent, |c| c.tier())
    }

    fn subscription(&self, token: &str, unix_ms: u64) -> Result<SubscriptionClaims, TokenError> {
        self.check_subscription(token, unix_ms).map_err(told)
    }
}

/// The reason goes to the log, for whoever looks for it: a peer could fill a louder one.
fn told(refusal: Refusal) -> TokenError {
    tracing::debug!(target: "plimsoll::token", reason = %refusal, "token refused");
    refusal.kind()
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Side {
    /// The JSON text of the claims of `token`, once its signature is found good.
    fn verified_claims(&self, token: &str, unix_ms: u64) -> Result<String, Refusal> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Shape)?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::Shape)?;
        if header.is_empty() || signature.is_empty() || claims.contains('.') {
            return Err(Refusal::Shape);
        }
        let alg = algorithm(&decode(header)?)?;
        self.keys.verify(&alg, message, signature, unix_ms)?;
        decode(claims)
    }
}

fn decode(part: &str) -> Result<String, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Base64)?;
    String::from_utf8(bytes).map_err(|_| Refusal::Base64)
}

/// `alg` of a header that asks for nothing we do not know. Where a header names a key (`kid`,
/// `jku`, `jwk`, `x5u`, `x5c`) it is not listened to: the keys are those of the configuration.
fn algorithm(header: &str) -> Result<String, Refusal> {
    let fields = Fields::parse(header).ok_or(Refusal::HeaderJson)?;
    for field in ["crit", "b64", "enc", "zip"] {
        if fields.has(field) {
            return Err(Refusal::HeaderField(field));
        }
    }
    if let Some(raw) = fields.get("typ") {
        let is_jwt = string(raw).is_some_and(|typ| typ.eq_ignore_ascii_case("JWT"));
        if !is_jwt {
            return Err(Refusal::HeaderField("typ"));
        }
    }
    fields.get("alg").and_then(string).ok_or(Refusal::HeaderField("alg"))
}
