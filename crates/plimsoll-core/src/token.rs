//! What a verified token says. Verification itself needs cryptography and lives in the server;
//! sessions see it as [`TokenVerifier`].

use crate::tier::TierClaim;

/// A channel's part of a connection token, or of the API's `subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Raw JSON that appears as `chan_info`.
    pub info: Option<Box<str>>,
    /// Raw JSON returned in the subscribe reply or push.
    pub data: Option<Box<str>>,
    /// Overrides of the namespace's options.
    pub overrides: Overrides,
}

/// `override` of tokens and API: `None` keeps what the namespace says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Keep presence of this subscription.
    pub presence: Option<bool>,
    /// Announce it by join and leave.
    pub join_leave: Option<bool>,
    /// Make it recoverable.
    pub force_recovery: Option<bool>,
    /// Make it positioned.
    pub force_positioning: Option<bool>,
    /// Push join and leave to it.
    pub force_push_join_leave: Option<bool>,
}

/// Claims of a connection token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionClaims {
    /// User id; empty = anonymous.
    pub user: Box<str>,
    /// When the connection expires, in Unix milliseconds; `None` = never.
    pub expires_at_ms: Option<u64>,
    /// Raw JSON that appears as `conn_info`.
    pub info: Option<Box<str>>,
    /// Server-side subscriptions (`subs` and `channels`).
    pub subs: Vec<(Box<str>, SubscriptionOptions)>,
    /// What it says of the tier.
    pub tier: TierClaim,
    /// Whose customer the user is; empty = nobody's.
    pub tenant: Box<str>,
}

/// Claims of a subscription token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// Must equal the connection's user.
    pub user: Box<str>,
    /// Must equal the requested channel.
    pub channel: Box<str>,
    /// When set, must equal the connection's client id.
    pub client: Option<Box<str>>,
    /// When the subscription expires, in Unix milliseconds; `None` = never.
    pub expires_at_ms: Option<u64>,
    /// Info, data and overrides.
    pub options: SubscriptionOptions,
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It was good once: the client should fetch a new one (error 109).
    Expired,
    /// It is not acceptable, whatever the reason. The reason is never told to the peer.
    Invalid,
}

/// Checks tokens. Pure for a given time: no I/O, no clock.
pub trait TokenVerifier {
    /// Checks a connection token at `unix_ms`.
    fn connection(&self, token: &str, unix_ms: u64) -> Result<ConnectionClaims, TokenError>;
    /// What a connection token says of its tier, without a look at its signature: good for a
    /// place in a queue that ends with [`TokenVerifier::connection`], and for nothing else.
    fn unverified_tier(&self, _token: &str) -> TierClaim {
        TierClaim::Absent
    }
    /// Checks a subscription token at `unix_ms`.
    fn subscription(&self, token: &str, unix_ms: u64) -> Result<SubscriptionClaims, TokenError>;
}
