//! Tokens for trying things out. Real ones are made by the application's backend.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Map, Value};

use super::{Refusal, Secret, TokenConfig, Verifier};

/// What a token is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// User id; empty = anonymous.
    pub user: String,
    /// For a subscription token, its channel.
    pub channel: Option<String>,
    /// How long it is good for, in milliseconds (rounded up to seconds); `None` = forever.
    pub ttl_ms: Option<u64>,
    /// JSON text of the `info` claim.
    pub info: Option<String>,
}

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// Only HMAC secrets sign; the configuration has none for this kind of token.
    NoSecret,
    /// `info` is not JSON.
    Info,
    /// The configured rules would refuse the token.
    Refused(Refusal),
    /// The signature could not be made.
    Crypto,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSecret => f.write_str("no hmac_secret_key is configured to sign with"),
            Self::Info => f.write_str("info is not valid JSON"),
            Self::Refused(why) => write!(f, "the server would refuse it: {why}"),
            Self::Crypto => f.write_str("signing failed"),
        }
    }
}

impl std::error::Error for SignError {}

/// An HS256 token by the secret of `config`, with the audience and issuer it asks for, made at
/// `unix_ms` and checked by the same rules the server has.
pub fn sign(
    config: &TokenConfig,
    request: &TokenRequest,
    unix_ms: u64,
) -> Result<String, SignError> {
    let settings = match request.channel {
        Some(_) => config.for_subscription(),
        None => &config.connection,
    };
    if settings.hmac_secret_key.is_empty() {
        return Err(SignError::NoSecret);
    }
    let user_claim = match settings.user_id_claim.as_str() {
        "" => "sub",
        own => own,
    };
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put(user_claim, request.user.as_str().into());
    let issued_at = unix_ms / 1_000;
    put("iat", issued_at.into());
    if let Some(ttl_ms) = request.ttl_ms {
        put("exp", issued_at.saturating_add(ttl_ms.div_ceil(1_000)).into());
    }
    if let Some(channel) = &request.channel {
        put("channel", channel.as_str().into());
    }
    if let Some(info) = &request.info {
        put("info", serde_json::from_str(info).map_err(|_| SignError::Info)?);
    }
    if !settings.audience.is_empty() {
        put("aud", settings.audience.as_str().into());
    }
    if !settings.issuer.is_empty() {
        put("iss", settings.issuer.as_str().into());
    }
    let token = hs256(&settings.hmac_secret_key, &Value::Object(claims).to_string())?;
    check(config, request, &token, unix_ms)?;
    Ok(token)
}

fn hs256(secret: &Secret, claims: &str) -> Result<String, SignError> {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let signature =
        crypto::sign(message.as_bytes(), &key, Algorithm::HS256).map_err(|_| SignError::Crypto)?;
    Ok(format!("{message}.{signature}"))
}

fn check(
    config: &TokenConfig,
    request: &TokenRequest,
    token: &str,
    unix_ms: u64,
) -> Result<(), SignError> {
    // An unusable public key beside the secret is for `check-config` to tell.
    let Ok(verifier) = Verifier::new(config) else { return Ok(()) };
    let result = match request.channel {
        Some(_) => verifier.check_subscription(token, unix_ms).map(|_| ()),
        None => verifier.check_connection(token, unix_ms).map(|_| ()),
    };
    result.map_err(SignError::Refused)
}
