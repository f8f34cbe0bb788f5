//! The checked keys of one kind of token, and which algorithm each of them may be used with.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use super::{Refusal, TokenSettings};

/// Bytes of an uncompressed point on P-256, P-384 and P-521.
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;
const P521_POINT_BYTES: usize = 133;
/// An `RSAPublicKey` of 2,048 bits takes 270 bytes of DER, one of 1,024 bits 140.
const RSA_DER_BYTES_MIN: usize = 260;

/// A key of the configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// Name of the setting within its section (`rsa_public_key`).
    pub setting: &'static str,
    /// What is wrong with it.
    pub message: &'static str,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

impl std::error::Error for KeyError {}

/// Keys by algorithm family. A token's `alg` selects among them and never makes a key of one
/// family serve another (an RSA key read as an HMAC secret is public knowledge).
#[derive(Clone, Default)]
pub(super) struct Keys {
    hmac: Option<DecodingKey>,
    hmac_previous: Option<(DecodingKey, u64)>,
    rsa: Option<DecodingKey>,
    ecdsa: Option<(Algorithm, DecodingKey)>,
    ed25519: Option<DecodingKey>,
}

impl Keys {
    /// Reads the keys of `settings`.
    pub(super) fn new(settings: &TokenSettings) -> Result<Self, KeyError> {
        let secret =
            |text: &str| (!text.is_empty()).then(|| DecodingKey::from_secret(text.as_bytes()));
        let previous = secret(settings.hmac_previous_secret_key.expose());
        let until_ms = match settings.hmac_previous_secret_key_valid_until {
            0 => u64::MAX,
            seconds => seconds.saturating_mul(1_000),
        };
        Ok(Self {
            hmac: secret(settings.hmac_secret_key.expose()),
            hmac_previous: previous.map(|key| (key, until_ms)),
            rsa: given(&settings.rsa_public_key).map(|pem| rsa(&pem)).transpose()?,
            ecdsa: given(&settings.ecdsa_public_key).map(|pem| ecdsa(&pem)).transpose()?,
            ed25519: given(&settings.ed25519_public_key).map(|pem| ed25519(&pem)).transpose()?,
        })
    }

    /// Checks `signature` (base64url) over `message` by the key that goes with `alg`.
    pub(super) fn verify(
        &self,
        alg: &str,
        message: &str,
        signature: &str,
        unix_ms: u64,
    ) -> Result<(), Refusal> {
        let (alg, key) = self.select(alg).ok_or(Refusal::Algorithm)?;
        let good = |key: Option<&DecodingKey>| {
            key.is_some_and(|key| {
                crypto::verify(signature, message.as_bytes(), key, alg).unwrap_or(false)
            })
        };
        if good(key) {
            return Ok(());
        }
        let is_hmac = matches!(alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        match &self.hmac_previous {
            Some((previous, until_ms)) if is_hmac && unix_ms <= *until_ms => {
                good(Some(previous)).then_some(()).ok_or(Refusal::Signature)
            }
            _ => Err(Refusal::Signature),
        }
    }

    /// The algorithm named `alg`, if a configured key is for it. The key itself may be missing
    /// for HMAC alone: then there is only a previous secret.
    fn select(&self, alg: &str) -> Option<(Algorithm, Option<&DecodingKey>)> {
        let hmac = |alg| {
            let any = self.hmac.is_some() || self.hmac_previous.is_some();
            any.then_some((alg, self.hmac.as_ref()))
        };
        let rsa = |alg| self.rsa.as_ref().map(|key| (alg, Some(key)));
        let ecdsa = |alg| {
            self.ecdsa.as_ref().and_then(|(own, key)| (*own == alg).then_some((alg, Some(key))))
        };
        match alg {
            "HS256" => hmac(Algorithm::HS256),
            "HS384" => hmac(Algorithm::HS384),
            "HS512" => hmac(Algorithm::HS512),
            "RS256" => rsa(Algorithm::RS256),
            "RS384" => rsa(Algorithm::RS384),
            "RS512" => rsa(Algorithm::RS512),
            "ES256" => ecdsa(Algorithm::ES256),
            "ES384" => ecdsa(Algorithm::ES384),
            "EdDSA" => self.ed25519.as_ref().map(|key| (Algorithm::EdDSA, Some(key))),
            _ => None,
        }
    }
}

/// The PEM text if one is set. In environment variables line breaks are often written as `\n`.
fn given(pem: &str) -> Option<String> {
    let text = pem.trim();
    match text {
        "" => None,
        _ if text.contains('\n') => Some(text.to_owned()),
        _ => Some(text.replace("\\n", "\n")),
    }
}

fn rsa(pem: &str) -> Result<DecodingKey, KeyError> {
    let fail = |message| KeyError { setting: "rsa_public_key", message };
    only_public(pem).map_err(fail)?;
    let key = DecodingKey::from_rsa_pem(pem.as_bytes())
        .map_err(|_| fail("not the PEM text of an RSA public key"))?;
    match key.try_get_as_bytes() {
        Ok(der) if der.len() >= RSA_DER_BYTES_MIN => Ok(key),
        _ => Err(fail("RSA keys must have 2048 bits or more")),
    }
}

fn ecdsa(pem: &str) -> Result<(Algorithm, DecodingKey), KeyError> {
    let fail = |message| KeyError { setting: "ecdsa_public_key", message };
    only_public(pem).map_err(fail)?;
    let key = DecodingKey::from_ec_pem(pem.as_bytes())
        .map_err(|_| fail("not the PEM text of an ECDSA public key"))?;
    match key.try_get_as_bytes().map(<[u8]>::len) {
        Ok(P256_POINT_BYTES) => Ok((Algorithm::ES256, key)),
        Ok(P384_POINT_BYTES) => Ok((Algorithm::ES384, key)),
        Ok(P521_POINT_BYTES) => {
            Err(fail("ES512 (P-521) is not supported; use a P-256 or P-384 key"))
        }
        _ => Err(fail("must be an uncompressed key on P-256 (ES256) or P-384 (ES384)")),
    }
}

fn ed25519(pem: &str) -> Result<DecodingKey, KeyError> {
    let fail = |message| KeyError { setting: "ed25519_public_key", message };
    only_public(pem).map_err(fail)?;
    DecodingKey::from_ed_pem(pem.as_bytes())
        .map_err(|_| fail("not the PEM text of an Ed25519 public key"))
}

/// A private key has no business here, and the first bit string of a certificate is not the
/// key.
fn only_public(pem: &str) -> Result<(), &'static str> {
    if pem.contains("PRIVATE KEY") {
        return Err("this is a private key; the server needs the public key only");
    }
    if pem.contains("CERTIFICATE") {
        return Err("this is a certificate; give its public key (openssl x509 -pubkey -noout)");
    }
    Ok(())
}
