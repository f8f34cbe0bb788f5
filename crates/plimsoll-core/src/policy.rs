//! What the configuration allows: channel options by namespace, client rules, permissions.
//!
//! Names and meanings are Centrifugo's where they correspond. Checked values only: whoever
//! builds these types has refused what makes no sense.

use crate::limits;
use crate::quota::QuotaPolicy;
use crate::tier::{Tier, TierPolicy};
use plimsoll_overload::feature::{Class, Feature};

/// How a subscription catches up after it was away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Every publication since the client's position, or none of them.
    #[default]
    Stream,
    /// The latest publication only.
    Cache,
}

/// Options of the channels of one namespace (or of those without one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Keep who is subscribed; enables `presence` and `presence_stats`.
    pub presence: bool,
    /// Tell subscribers that ask for it who came and went.
    pub join_leave: bool,
    /// Tell all subscribers, asked or not.
    pub force_push_join_leave: bool,
    /// A member that is back within so many milliseconds has not left; 0 = every leave is told.
    pub presence_leave_debounce_ms: u64,
    /// Joins and leaves are gathered for so many milliseconds; 0 = each is told at once.
    pub presence_coalesce_ms: u64,
    /// Channels with more members are told their number only; 0 = no such limit.
    pub presence_roster_max: usize,
    /// How long a read mark is kept without a new one of its user, in milliseconds.
    pub receipts_ttl_ms: u64,
    /// Publications kept; 0 = no history.
    pub history_size: usize,
    /// How long a publication is kept, in milliseconds; 0 = no history.
    pub history_ttl_ms: u64,
    /// How long epoch and offset outlive the last publication, in milliseconds.
    pub history_meta_ttl_ms: u64,
    /// Every subscription is positioned.
    pub force_positioning: bool,
    /// A client may ask for a positioned subscription.
    pub allow_positioning: bool,
    /// Every subscription is recoverable.
    pub force_recovery: bool,
    /// A client may ask for a recoverable subscription.
    pub allow_recovery: bool,
    /// What recovery delivers.
    pub recovery_mode: RecoveryMode,
    /// In cache mode: deliver the latest publication to a new subscriber too.
    pub auto_cache_recover: bool,
    /// Any authenticated client may subscribe.
    pub allow_subscribe_for_client: bool,
    /// Clients without a user id too.
    pub allow_subscribe_for_anonymous: bool,
    /// Any authenticated client may publish.
    pub allow_publish_for_client: bool,
    /// Subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// Clients without a user id may publish too.
    pub allow_publish_for_anonymous: bool,
    /// Any authenticated client may read presence.
    pub allow_presence_for_client: bool,
    /// Subscribers may read presence.
    pub allow_presence_for_subscriber: bool,
    /// Clients without a user id may read presence too.
    pub allow_presence_for_anonymous: bool,
    /// Any authenticated client may read history.
    pub allow_history_for_client: bool,
    /// Subscribers may read history.
    pub allow_history_for_subscriber: bool,
    /// Clients without a user id may read history too.
    pub allow_history_for_anonymous: bool,
    /// `name#user1,user2`: only the listed users may subscribe.
    pub allow_user_limited_channels: bool,
    /// The part after the namespace must match; compiled and applied by the server.
    pub channel_regex: Option<String>,
    /// A publication must be a JSON object.
    pub require_json_object: bool,
    /// How precious its publications are when not all can be delivered.
    pub class: Class,
    /// What it serves that may be given up under load; `None`: the core, never given up.
    pub feature: Option<Feature>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            presence: false,
            join_leave: false,
            force_push_join_leave: false,
            presence_leave_debounce_ms: 0,
            presence_coalesce_ms: 0,
            presence_roster_max: 0,
            receipts_ttl_ms: limits::READ_MARK_TTL_MS,
            history_size: 0,
            history_ttl_ms: 0,
            history_meta_ttl_ms: limits::HISTORY_META_TTL_MS,
            force_positioning: false,
            allow_positioning: false,
            force_recovery: false,
            allow_recovery: false,
            recovery_mode: RecoveryMode::Stream,
            auto_cache_recover: false,
            allow_subscribe_for_client: false,
            allow_subscribe_for_anonymous: false,
            allow_publish_for_client: false,
            allow_publish_for_subscriber: false,
            allow_publish_for_anonymous: false,
            allow_presence_for_client: false,
            allow_presence_for_subscriber: false,
            allow_presence_for_anonymous: false,
            allow_history_for_client: false,
            allow_history_for_subscriber: false,
            allow_history_for_anonymous: false,
            allow_user_limited_channels: false,
            channel_regex: None,
            require_json_object: false,
            class: Class::Durable,
            feature: None,
        }
    }
}

impl ChannelOptions {
    /// Are publications kept (and numbered)?
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && self.history_ttl_ms > 0
    }
}

/// A named group of channels: `name:rest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `^[-a-zA-Z0-9_]{2,}$`
    pub name: String,
    /// Its channels' options.
    pub options: ChannelOptions,
}

/// How channel names are read, and which namespaces exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPolicy {
    /// Bytes of a name, ≤ [`limits::CHANNEL_NAME_BYTES_MAX`].
    pub max_length: usize,
    /// Channels that begin so need a subscription token (`$`). Empty = feature off.
    pub private_prefix: String,
    /// Ends the namespace (`:`).
    pub namespace_boundary: String,
    /// Begins the list of users (`#`).
    pub user_boundary: String,
    /// Between users of the list (`,`).
    pub user_separator: String,
    /// Options of channels without a namespace.
    pub without_namespace: ChannelOptions,
    /// At most [`limits::NAMESPACES_MAX`], names distinct.
    pub namespaces: Vec<Namespace>,
}

impl Default for ChannelPolicy {
    fn default() -> Self {
        Self {
            max_length: limits::CHANNEL_NAME_BYTES_MAX,
            private_prefix: "$".into(),
            namespace_boundary: ":".into(),
            user_boundary: "#".into(),
            user_separator: ",".into(),
            without_namespace: ChannelOptions::default(),
            namespaces: Vec::new(),
        }
    }
}

/// Rules for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPolicy {
    /// Patterns of the `Origin` header (`https://app.example.com`, `https://*.example.com`, `*`).
    /// Requests without `Origin` pass; with an empty list only those do.
    pub allowed_origins: Vec<String>,
    /// Development: everybody may do everything, no token needed.
    pub insecure: bool,
    /// A connect without a token makes an anonymous user.
    pub allow_anonymous_connect_without_token: bool,
    /// A token with an empty user is refused (3507).
    pub disallow_anonymous_connection_tokens: bool,
    /// Between two pings of the server, in milliseconds; 0 = no pings.
    pub ping_interval_ms: u64,
    /// Until the pong, in milliseconds, less than the interval; 0 = none expected.
    pub pong_timeout_ms: u64,
    /// Bytes queued for one connection: above it 3008.
    pub queue_max_size_bytes: usize,
    /// Subscriptions of one connection.
    pub channel_limit: usize,
    /// Connections of this node; 0 = no limit. One more is refused with 503.
    pub connection_limit: usize,
    /// Connections of one user on this node; 0 = no limit (3504).
    pub user_connection_limit: usize,
    /// Unauthenticated connections are closed (3502) after, in milliseconds.
    pub stale_close_delay_ms: u64,
    /// An expired connection may refresh for so long, in milliseconds (then 3005).
    pub expired_close_delay_ms: u64,
    /// The same for an expired subscription (then 2501).
    pub expired_sub_close_delay_ms: u64,
    /// Publications in one history reply.
    pub history_max_publication_limit: usize,
    /// Publications in one recovery.
    pub recovery_max_publication_limit: usize,
    /// `connect` replies carry the server's time.
    pub connect_include_server_time: bool,
    /// Each user with an id is subscribed to `#user` by the server.
    pub subscribe_to_user_personal_channel: bool,
    /// Namespace of the personal channel; empty = none.
    pub user_personal_channel_namespace: String,
    /// Commands of one connection per second; 0 = no limit. Over it: error 111, then 3013.
    pub message_rate_limit: u32,
    /// Commands that may come at once; at least the rate.
    pub message_rate_burst: u32,
    /// Publications of one connection without a tier per second; 0 = no limit. Over it: error 111.
    pub publish_rate_limit: u32,
    /// Publications that may come at once; at least the rate.
    pub publish_rate_burst: u32,
}

impl Default for ClientPolicy {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            insecure: false,
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            ping_interval_ms: 25_000,
            pong_timeout_ms: 8_000,
            queue_max_size_bytes: limits::QUEUE_BYTES_MAX,
            channel_limit: limits::CHANNELS_PER_CLIENT_MAX,
            connection_limit: 0,
            user_connection_limit: 0,
            stale_close_delay_ms: limits::HANDSHAKE_MS,
            expired_close_delay_ms: 25_000,
            expired_sub_close_delay_ms: 25_000,
            history_max_publication_limit: limits::HISTORY_PAGE_MAX,
            recovery_max_publication_limit: limits::RECOVERY_PAGE_MAX,
            connect_include_server_time: false,
            subscribe_to_user_personal_channel: false,
            user_personal_channel_namespace: String::new(),
            message_rate_limit: 500,
            message_rate_burst: 1_000,
            publish_rate_limit: 0,
            publish_rate_burst: 0,
        }
    }
}

/// WebSocket rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketPolicy {
    /// Bytes of one message from a client (1009 above it).
    pub message_size_limit_bytes: usize,
    /// Frames of one message.
    pub fragments_max: usize,
    /// Offer permessage-deflate.
    pub compression: bool,
    /// 1–9.
    pub compression_level: u32,
    /// Messages shorter than this are sent plain.
    pub compression_min_size_bytes: usize,
    /// A blocked socket that takes no byte for so long is closed (3009), in milliseconds.
    pub write_timeout_ms: u64,
}

impl Default for WebSocketPolicy {
    fn default() -> Self {
        Self {
            message_size_limit_bytes: limits::MESSAGE_BYTES_MAX,
            fragments_max: limits::FRAGMENTS_MAX,
            compression: false,
            compression_level: 1,
            compression_min_size_bytes: 128,
            write_timeout_ms: limits::WRITE_STALL_MS,
        }
    }
}

/// All that sessions and workers need to know of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Channel names and namespaces.
    pub channel: ChannelPolicy,
    /// Clients.
    pub client: ClientPolicy,
    /// WebSocket.
    pub websocket: WebSocketPolicy,
    /// Tiers.
    pub tiers: TierPolicy,
    /// Quotas.
    pub quotas: QuotaPolicy,
}

impl Policy {
    /// Between two pings for a connection of this tier, in milliseconds; 0 = no pings.
    pub fn ping_interval_ms(&self, tier: Option<Tier>) -> u64 {
        self.tiers.of(tier).map_or(self.client.ping_interval_ms, |t| t.ping_interval_ms)
    }

    /// Publications per second and at once for a connection of this tier, of which `factor`
    /// (0–1) is left; a rate of 0 = no limit.
    pub fn publish_limit(&self, tier: Option<Tier>, factor: f32) -> (u32, u32) {
        let (rate, burst) = match self.tiers.of(tier) {
            Some(t) => (t.publish_rate_limit, t.publish_rate_burst),
            None => (self.client.publish_rate_limit, self.client.publish_rate_burst),
        };
        // Something is always left, and 0 is no limit. The factor is not exact: 0.2 of 50 is 10.
        let left = |n: u32| (f64::from(n) * f64::from(factor) - 1e-3).ceil() as u32;
        (left(rate), left(burst))
    }

    /// After how long a connection of this tier is closed for being idle, in milliseconds;
    /// 0 = never.
    pub fn idle_timeout_ms(&self, tier: Option<Tier>) -> u64 {
        self.tiers.of(tier).map_or(0, |t| t.idle_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_shrink_to_whole_publications_and_never_to_none() {
        let mut policy = Policy::default();
        (policy.client.publish_rate_limit, policy.client.publish_rate_burst) = (50, 100);
        for (factor, left) in
            [(1.0, (50, 100)), (0.2, (10, 20)), (0.1, (5, 10)), (0.7, (35, 70)), (0.01, (1, 1))]
        {
            assert_eq!(policy.publish_limit(None, factor), left, "{factor}");
        }
        (policy.client.publish_rate_limit, policy.client.publish_rate_burst) = (0, 0);
        assert_eq!(policy.publish_limit(None, 0.1), (0, 0), "no limit");
    }
}
