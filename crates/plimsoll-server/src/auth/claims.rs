//! What the claims of a verified token say.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use plimsoll_core::limits;
use plimsoll_core::tier::{Tier, TierClaim};
use plimsoll_core::token::{ConnectionClaims, Overrides, SubscriptionClaims, SubscriptionOptions};

use super::json::{Fields, compact, string};
use super::{Refusal, TokenSettings};

/// The last second of the year 9999. A larger "date" is a mistake (mostly milliseconds).
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

/// `b64info` and `b64data` are standard base64; the padding is left out by some libraries.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Claims of a verified token, read by name.
pub(super) struct Claims<'a> {
    fields: Fields<'a>,
    settings: &'a TokenSettings,
    unix_ms: u64,
}

impl<'a> Claims<'a> {
    pub(super) fn new(
        json: &'a str,
        settings: &'a TokenSettings,
        unix_ms: u64,
    ) -> Result<Self, Refusal> {
        let fields = Fields::parse(json).ok_or(Refusal::ClaimsJson)?;
        Ok(Self { fields, settings, unix_ms })
    }

    pub(super) fn connection(&self) -> Result<ConnectionClaims, Refusal> {
        self.check_issuer_and_audience()?;
        if !self.text("channel")?.is_empty() {
            return Err(Refusal::HasChannel);
        }
        let user = self.user()?;
        let info = self.json_or_base64(&self.fields, "info", "b64info")?;
        let subs = self.subs()?;
        let (tier, tenant) = (self.tier(), self.tenant());
        let expires_at_ms = self.expiry()?;
        Ok(ConnectionClaims { user, expires_at_ms, info, subs, tier, tenant })
    }

    pub(super) fn subscription(&self) -> Result<SubscriptionClaims, Refusal> {
        self.check_issuer_and_audience()?;
        let channel = self.text("channel")?;
        if channel.is_empty() {
            return Err(Refusal::NoChannel);
        }
        if channel.len() > limits::CHANNEL_NAME_BYTES_MAX {
            return Err(Refusal::Claim("channel"));
        }
        let client = self.text("client")?;
        let user = self.user()?;
        let options = self.options(&self.fields)?;
        let expires_at_ms = self.expiry()?;
        Ok(SubscriptionClaims {
            user,
            channel: channel.into(),
            client: (!client.is_empty()).then(|| client.into()),
            expires_at_ms,
            options,
        })
    }

    fn check_issuer_and_audience(&self) -> Result<(), Refusal> {
        let wanted = &self.settings.issuer;
        if !wanted.is_empty() && self.fields.get("iss").and_then(string).as_ref() != Some(wanted) {
            return Err(Refusal::Issuer);
        }
        let wanted = &self.settings.audience;
        if wanted.is_empty() {
            return Ok(());
        }
        let given = self.fields.get("aud").ok_or(Refusal::Audience)?;
        let list = match string(given) {
            Some(one) => vec![one],
            None => serde_json::from_str(given).map_err(|_| Refusal::Claim("aud"))?,
        };
        if list.contains(wanted) { Ok(()) } else { Err(Refusal::Audience) }
    }

    /// When the connection or subscription ends, in Unix milliseconds. Asked last: a token that
    /// is wrong in any other way is invalid, not expired, else clients would renew it forever.
    fn expiry(&self) -> Result<Option<u64>, Refusal> {
        let (now, leeway) = (self.unix_ms, self.settings.leeway_ms);
        let exp = self.date("exp")?;
        let expire_at = self.date("expire_at")?;
        // Not used, but a token with nonsense in it is not one of ours.
        self.date("iat")?;
        if self.date("nbf")?.is_some_and(|from| from > now.saturating_add(leeway)) {
            return Err(Refusal::NotYetValid);
        }
        let is_over = |at: &u64| now >= at.saturating_add(leeway);
        if exp.as_ref().is_some_and(is_over) {
            return Err(Refusal::Expired);
        }
        let ends = match expire_at {
            Some(0) => None,
            Some(at) => Some(at),
            None => exp,
        };
        if ends.as_ref().is_some_and(is_over) {
            return Err(Refusal::Expired);
        }
        // Accepted by the leeway alone: it ends in a second, not in the past.
        Ok(ends.map(|at| at.max(now.saturating_add(1_000))))
    }

    /// A date in Unix milliseconds, from seconds that may have a fraction.
    fn date(&self, name: &'static str) -> Result<Option<u64>, Refusal> {
        let Some(raw) = self.fields.get(name) else { return Ok(None) };
        let wrong = Refusal::Claim(name);
        let number: serde_json::Number = serde_json::from_str(raw).map_err(|_| wrong)?;
        if let Some(seconds) = number.as_u64() {
            return if seconds <= UNIX_SECONDS_MAX {
                Ok(Some(seconds * 1_000))
            } else {
                Err(wrong)
            };
        }
        match number.as_f64() {
            // In range, so the conversion loses no more than the fraction of a millisecond.
            Some(seconds) if (0.0..=UNIX_SECONDS_MAX as f64).contains(&seconds) => {
                Ok(Some((seconds * 1_000.0) as u64))
            }
            _ => Err(wrong),
        }
    }

    fn user(&self) -> Result<Box<str>, Refusal> {
        let (name, shown) = match self.settings.user_id_claim.as_str() {
            "" => ("sub", "sub"),
            own => (own, "user_id_claim"),
        };
        let user = match self.fields.get(name) {
            Some(raw) => string(raw).ok_or(Refusal::Claim(shown))?,
            None => String::new(),
        };
        if user.len() > limits::USER_ID_BYTES_MAX {
            return Err(Refusal::Claim(shown));
        }
        Ok(user.into())
    }

    /// A text or a number; anything else is no tenant, since other claims of that name may exist.
    fn tenant(&self) -> Box<str> {
        let raw = match self.settings.tenant_claim.as_str() {
            "" => None,
            name => self.fields.get(name),
        };
        let number = |raw: &str| raw.bytes().all(|b| b.is_ascii_digit()).then(|| raw.to_owned());
        let tenant = raw.and_then(|raw| string(raw).or_else(|| number(raw))).unwrap_or_default();
        // Two long names with the same beginning would be one, so a long one is none.
        if tenant.len() > limits::USER_ID_BYTES_MAX { Box::from("") } else { tenant.into() }
    }

    /// A mistake here costs nobody the connection: it is told apart and counted.
    pub(super) fn tier(&self) -> TierClaim {
        let raw = match self.settings.tier_claim.as_str() {
            "" => None,
            name => self.fields.get(name),
        };
        match raw.map(|raw| string(raw).as_deref().and_then(Tier::parse)) {
            None => TierClaim::Absent,
            Some(known) => known.map_or(TierClaim::Unknown, TierClaim::Known),
        }
    }

    /// A claim that is a string or absent.
    fn text(&self, name: &'static str) -> Result<String, Refusal> {
        match self.fields.get(name) {
            Some(raw) => string(raw).ok_or(Refusal::Claim(name)),
            None => Ok(String::new()),
        }
    }

    /// `subs`, then those of `channels` it does not have.
    fn subs(&self) -> Result<Vec<(Box<str>, SubscriptionOptions)>, Refusal> {
        let mut subs: Vec<(Box<str>, SubscriptionOptions)> = Vec::new();
        if let Some(raw) = self.fields.get("subs") {
            let map = Fields::parse(raw).ok_or(Refusal::Claim("subs"))?;
            for (channel, raw) in map.iter() {
                let options = match raw {
                    "null" => SubscriptionOptions::default(),
                    _ => self.options(&Fields::parse(raw).ok_or(Refusal::Claim("subs"))?)?,
                };
                push_sub(&mut subs, channel, options, "subs")?;
            }
        }
        if let Some(raw) = self.fields.get("channels") {
            let list: Vec<String> =
                serde_json::from_str(raw).map_err(|_| Refusal::Claim("channels"))?;
            for channel in list {
                if !subs.iter().any(|(known, _)| **known == *channel) {
                    push_sub(&mut subs, &channel, SubscriptionOptions::default(), "channels")?;
                }
            }
        }
        Ok(subs)
    }

    fn options(&self, fields: &Fields<'_>) -> Result<SubscriptionOptions, Refusal> {
        Ok(SubscriptionOptions {
            info: self.json_or_base64(fields, "info", "b64info")?,
            data: self.json_or_base64(fields, "data", "b64data")?,
            overrides: overrides(fields)?,
        })
    }

    /// Raw JSON of the claim `base64` if it is there and not empty, else of `plain`.
    fn json_or_base64(
        &self,
        fields: &Fields<'_>,
        plain: &'static str,
        base64: &'static str,
    ) -> Result<Option<Box<str>>, Refusal> {
        let limit = match plain {
            "info" => limits::INFO_BYTES_MAX,
            _ => limits::TOKEN_BYTES_MAX,
        };
        if let Some(raw) = fields.get(base64) {
            let wrong = Refusal::Claim(base64);
            let encoded = string(raw).ok_or(wrong)?;
            if !encoded.is_empty() {
                let bytes = BASE64.decode(encoded).map_err(|_| wrong)?;
                let text = str::from_utf8(&bytes).map_err(|_| wrong)?;
                let value = compact(text).filter(|json| json.len() <= limit);
                return value.map(Some).ok_or(wrong);
            }
        }
        let Some(raw) = fields.get(plain) else { return Ok(None) };
        let value = compact(raw).filter(|json| json.len() <= limit);
        value.map(Some).ok_or(Refusal::Claim(plain))
    }
}

fn push_sub(
    subs: &mut Vec<(Box<str>, SubscriptionOptions)>,
    channel: &str,
    options: SubscriptionOptions,
    claim: &'static str,
) -> Result<(), Refusal> {
    let fits = (1..=limits::CHANNEL_NAME_BYTES_MAX).contains(&channel.len());
    if !fits || subs.len() >= limits::SERVER_SUBS_MAX {
        return Err(Refusal::Claim(claim));
    }
    subs.push((channel.into(), options));
    Ok(())
}

fn overrides(fields: &Fields<'_>) -> Result<Overrides, Refusal> {
    let Some(raw) = fields.get("override") else { return Ok(Overrides::default()) };
    let wrong = Refusal::Claim("override");
    let given = Fields::parse(raw).ok_or(wrong)?;
    let flag = |name: &str| -> Result<Option<bool>, Refusal> {
        let Some(raw) = given.get(name) else { return Ok(None) };
        let object = Fields::parse(raw).ok_or(wrong)?;
        match object.get("value") {
            Some(raw) => serde_json::from_str(raw).map(Some).map_err(|_| wrong),
            None => Ok(Some(false)),
        }
    };
    Ok(Overrides {
        presence: flag("presence")?,
        join_leave: flag("join_leave")?,
        force_recovery: flag("force_recovery")?,
        force_positioning: flag("force_positioning")?,
        force_push_join_leave: flag("force_push_join_leave")?,
    })
}
