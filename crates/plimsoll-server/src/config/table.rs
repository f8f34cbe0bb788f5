//! The keys of the configuration: the one place that names them. Reading, the environment's
//! names, messages and the reference are all made from it.

use plimsoll_core::limits;
use plimsoll_core::policy::{ChannelOptions, RecoveryMode};
use plimsoll_core::quota::Quota;
use plimsoll_core::tier::{Tier, TierOptions};
use plimsoll_overload::feature::{Class, Feature};

use super::backbone_table::BACKBONE_KEYS;
use super::key::{At, Key, Kind, Number};
use super::load_table::LOAD_KEYS;
use super::{Config, ErrorMode, LogFormat, LogLevel};
use crate::auth::TokenSettings;

pub(super) const SECOND: u64 = 1_000;
const DAY: u64 = 86_400 * SECOND;
const YEAR: u64 = 366 * DAY;
/// A message is held whole, and by many connections at once.
const MESSAGE_BYTES_TOP: u64 = 16 * 1024 * 1024;
/// What one connection may make the server keep.
const QUEUE_BYTES_TOP: u64 = 1024 * 1024 * 1024;
/// Connections no machine will have; only keeps out nonsense.
pub(super) const CONNECTIONS_TOP: u64 =
    limits::WORKERS_MAX as u64 * limits::CONNECTIONS_PER_WORKER_MAX as u64;
/// Path of the list of namespaces, the only key that is a list of tables.
pub(super) const NAMESPACES: &str = "channel.namespaces";
/// Before the names of environment variables.
pub(super) const ENV_PREFIX: &str = "PLIMSOLL_";

pub(super) const fn key<T>(path: &'static str, kind: Kind<T>, doc: &'static str) -> Key<T> {
    Key { path, kind, doc }
}

/// Features that a namespace may serve, in the order of their names in the table.
const FEATURES: [Feature; 4] =
    [Feature::Typing, Feature::Presence, Feature::Receipts, Feature::Previews];

/// Keys with one place in the configuration.
#[rustfmt::skip]
pub(super) static KEYS: &[Key<Config>] = &[
    key("server.listen", Kind::Address(|c| &mut c.server.listen),
        "Address for clients and the HTTP API. `0.0.0.0:8000` = every IPv4 address of the host."),
    key("server.admin_listen", Kind::Address(|c| &mut c.server.admin_listen),
        "Address for metrics, health and admin calls. Keep it private."),
    key("server.workers",
        Kind::Count(0, limits::WORKERS_MAX as u64, Number::Usize(|c| &mut c.server.workers)),
        "Worker threads; 0 = one per core."),
    key("server.name", Kind::Text(|c| &mut c.server.name),
        "Name of this node in `info` and in logs; empty = made up at start."),
    key("server.allow_insecure_on_public",
        Kind::Bool(|c| &mut c.server.allow_insecure_on_public),
        "Start even though an `insecure` setting is on for an address others can reach. For a \
         closed test network only."),
    key("log.level", Kind::Choice {
            names: &["error", "warn", "info", "debug", "trace"],
            set: |c, at| c.log.level = match at {
                0 => LogLevel::Error,
                1 => LogLevel::Warn,
                3 => LogLevel::Debug,
                4 => LogLevel::Trace,
                _ => LogLevel::Info,
            },
            get: |c| c.log.level as usize,
        },
        "Least important level that is shown."),
    key("log.format", Kind::Choice {
            names: &["text", "json"],
            set: |c, at| c.log.format = if at == 1 { LogFormat::Json } else { LogFormat::Text },
            get: |c| c.log.format as usize,
        },
        "`text` for people, `json` for collectors: one object per line."),
    key("client.allowed_origins", Kind::List(|c| &mut c.policy.client.allowed_origins),
        "Web pages that may connect, by their `Origin`: `https://app.example.com`, \
         `https://*.example.com`, or `*` for every page. Clients that send no `Origin` (apps, \
         servers) always pass. Empty = no web page."),
    key("client.insecure", Kind::Bool(|c| &mut c.policy.client.insecure),
        "Development only: everybody may do everything, without a token."),
    key("client.allow_anonymous_connect_without_token",
        Kind::Bool(|c| &mut c.policy.client.allow_anonymous_connect_without_token),
        "A client without a token connects as a user with an empty id."),
    key("client.disallow_anonymous_connection_tokens",
        Kind::Bool(|c| &mut c.policy.client.disallow_anonymous_connection_tokens),
        "Refuse tokens whose user id is empty."),
    key("client.ping_interval",
        Kind::Duration(0, DAY, |c| &mut c.policy.client.ping_interval_ms),
        "Time between two pings of the server; 0 = none."),
    key("client.pong_timeout",
        Kind::Duration(0, DAY, |c| &mut c.policy.client.pong_timeout_ms),
        "A client that does not answer a ping for so long is disconnected; 0 = no answer is \
         needed. Must be shorter than `client.ping_interval`."),
    key("client.queue_max_size",
        Kind::Size(4 * 1024, QUEUE_BYTES_TOP, |c| &mut c.policy.client.queue_max_size_bytes),
        "Bytes that wait for one slow client. Above it what channels have for the client is \
         dropped and it is told to recover; where it cannot recover it is disconnected (3008)."),
    key("client.channel_limit",
        Kind::Count(1, 65_535, Number::Usize(|c| &mut c.policy.client.channel_limit)),
        "Subscriptions of one connection."),
    key("client.connection_limit",
        Kind::Count(0, CONNECTIONS_TOP, Number::Usize(|c| &mut c.policy.client.connection_limit)),
        "Connections of this node; one more gets HTTP status 503. 0 = no limit."),
    key("client.user_connection_limit",
        Kind::Count(0, CONNECTIONS_TOP,
            Number::Usize(|c| &mut c.policy.client.user_connection_limit)),
        "Connections of one user on this node. 0 = no limit."),
    key("client.stale_close_delay",
        Kind::Duration(SECOND, DAY, |c| &mut c.policy.client.stale_close_delay_ms),
        "A connection that has not sent a good `connect` by then is closed."),
    key("client.expired_close_delay",
        Kind::Duration(0, DAY, |c| &mut c.policy.client.expired_close_delay_ms),
        "How long a connection whose token ended may take to bring a new one."),
    key("client.expired_sub_close_delay",
        Kind::Duration(0, DAY, |c| &mut c.policy.client.expired_sub_close_delay_ms),
        "The same for a subscription."),
    key("client.history_max_publication_limit",
        Kind::Count(1, limits::HISTORY_SIZE_MAX as u64,
            Number::Usize(|c| &mut c.policy.client.history_max_publication_limit)),
        "Publications in one history reply."),
    key("client.recovery_max_publication_limit",
        Kind::Count(1, limits::HISTORY_SIZE_MAX as u64,
            Number::Usize(|c| &mut c.policy.client.recovery_max_publication_limit)),
        "Publications a client may have missed and still recover."),
    key("client.connect_include_server_time",
        Kind::Bool(|c| &mut c.policy.client.connect_include_server_time),
        "Tell clients the server's time when they connect."),
    key("client.subscribe_to_user_personal_channel.enabled",
        Kind::Bool(|c| &mut c.policy.client.subscribe_to_user_personal_channel),
        "Subscribe each user with an id to its personal channel `#USER`."),
    key("client.subscribe_to_user_personal_channel.personal_channel_namespace",
        Kind::Text(|c| &mut c.policy.client.user_personal_channel_namespace),
        "Namespace of the personal channels; empty = none."),
    key("client.message_rate_limit",
        Kind::Count(0, 1_000_000, Number::U32(|c| &mut c.policy.client.message_rate_limit)),
        "Commands of one connection per second; 0 = no limit. Over it commands get error 111, \
         then the client is disconnected."),
    key("client.message_rate_burst",
        Kind::Count(0, 1_000_000, Number::U32(|c| &mut c.policy.client.message_rate_burst)),
        "Commands that may come at once; at least the rate."),
    key("client.publish_rate_limit",
        Kind::Count(0, 1_000_000, Number::U32(|c| &mut c.policy.client.publish_rate_limit)),
        "Publications of one connection per second; over it they get error 111. 0 = no limit. \
         Tiers have limits of their own."),
    key("client.publish_rate_burst",
        Kind::Count(0, 1_000_000, Number::U32(|c| &mut c.policy.client.publish_rate_burst)),
        "Publications that may come at once; at least the rate."),
    key("client.subscription_token.enabled", Kind::Bool(|c| &mut c.token.subscription_enabled),
        "Check subscription tokens by the keys of this section instead of `client.token`."),
    key("websocket.message_size_limit",
        Kind::Size(1024, MESSAGE_BYTES_TOP, |c| &mut c.policy.websocket.message_size_limit_bytes),
        "Bytes of one message from a client; above it the connection is closed (1009)."),
    key("websocket.fragments_max",
        Kind::Count(1, 65_536, Number::Usize(|c| &mut c.policy.websocket.fragments_max)),
        "Frames one message may come in."),
    key("websocket.compression", Kind::Bool(|c| &mut c.policy.websocket.compression),
        "Offer permessage-deflate. Costs processor time; saves bytes of text messages."),
    key("websocket.compression_level",
        Kind::Count(1, 9, Number::U32(|c| &mut c.policy.websocket.compression_level)),
        "1 = fastest, 9 = smallest."),
    key("websocket.compression_min_size",
        Kind::Size(0, MESSAGE_BYTES_TOP,
            |c| &mut c.policy.websocket.compression_min_size_bytes),
        "Shorter messages are sent as they are."),
    key("websocket.write_timeout",
        Kind::Duration(100, 600 * SECOND, |c| &mut c.policy.websocket.write_timeout_ms),
        "A client that takes no byte for so long is disconnected (3009)."),
    key("channel.max_length",
        Kind::Count(1, limits::CHANNEL_NAME_BYTES_MAX as u64,
            Number::Usize(|c| &mut c.policy.channel.max_length)),
        "Bytes of a channel name."),
    key("channel.private_prefix", Kind::Text(|c| &mut c.policy.channel.private_prefix),
        "Channels that begin so need a subscription token; empty = none do."),
    key("channel.namespace_boundary", Kind::Text(|c| &mut c.policy.channel.namespace_boundary),
        "Ends the namespace in a channel name."),
    key("channel.user_boundary", Kind::Text(|c| &mut c.policy.channel.user_boundary),
        "Begins the list of users in the name of a user-limited channel."),
    key("channel.user_separator", Kind::Text(|c| &mut c.policy.channel.user_separator),
        "Stands between the users of that list."),
    key("http_api.key", Kind::Secret(|c| &mut c.http_api.key),
        "Key of the HTTP API. Unset = every call is refused."),
    key("http_api.insecure", Kind::Bool(|c| &mut c.http_api.insecure),
        "Development only: no key is needed."),
    key("http_api.disabled", Kind::Bool(|c| &mut c.http_api.disabled),
        "Do not offer the HTTP API at all."),
    key("http_api.error_mode", Kind::Choice {
            names: &["", "transport"],
            set: |c, at| c.http_api.error_mode = match at {
                1 => ErrorMode::Transport,
                _ => ErrorMode::Body,
            },
            get: |c| c.http_api.error_mode as usize,
        },
        "`transport` = errors of the API are HTTP statuses too, not only in the body."),
    key("admin.key", Kind::Secret(|c| &mut c.admin.key),
        "Key of the admin calls. Unset = every call that needs it is refused."),
    key("admin.insecure", Kind::Bool(|c| &mut c.admin.insecure),
        "Development only: no key is needed."),
    key("tiers.enabled", Kind::Bool(|c| &mut c.policy.tiers.enabled),
        "Connections have a tier. Off = the sections of tiers do nothing, and nobody is closed for \
         being idle."),
    key("tiers.claim", Kind::Text(|c| &mut c.token.connection.tier_claim),
        "Claim of connection tokens that holds `free`, `pro` or `enterprise`; empty = no claim \
         does, and everybody has the default."),
    key("tiers.default", Kind::Choice {
            names: TIER_NAMES,
            set: |c, at| c.policy.tiers.default = tier_at(at),
            get: |c| c.policy.tiers.default as usize,
        },
        "Tier of a user whose token says nothing of it, or something that is no tier (which is \
         counted)."),
    key("tiers.anonymous", Kind::Choice {
            names: TIER_NAMES,
            set: |c, at| c.policy.tiers.anonymous = tier_at(at),
            get: |c| c.policy.tiers.anonymous as usize,
        },
        "Tier of clients without a user id."),
    key("quotas.tenant_claim", Kind::Text(|c| &mut c.token.connection.tenant_claim),
        "Claim of connection tokens that says whose customer the user is, a text or a number; \
         empty = no claim does."),
];

/// Keys of `client.token` and `client.subscription_token`.
#[rustfmt::skip]
pub(super) static TOKEN_KEYS: &[Key<TokenSettings>] = &[
    key("hmac_secret_key", Kind::Secret(|t| &mut t.hmac_secret_key),
        "Secret for HS256, HS384 and HS512; 32 random bytes or more."),
    key("hmac_previous_secret_key", Kind::Secret(|t| &mut t.hmac_previous_secret_key),
        "The secret before, still accepted while keys are changed."),
    key("hmac_previous_secret_key_valid_until",
        Kind::Count(0, u64::MAX, Number::U64(|t| &mut t.hmac_previous_secret_key_valid_until)),
        "Unix time in seconds until which the secret before counts; 0 = no end."),
    key("rsa_public_key", Kind::Text(|t| &mut t.rsa_public_key),
        "PEM text of an RSA public key (2048 bits or more) for RS256, RS384 and RS512."),
    key("ecdsa_public_key", Kind::Text(|t| &mut t.ecdsa_public_key),
        "PEM text of a public key on P-256 (ES256) or P-384 (ES384)."),
    key("ed25519_public_key", Kind::Text(|t| &mut t.ed25519_public_key),
        "PEM text of an Ed25519 public key for EdDSA."),
    key("audience", Kind::Text(|t| &mut t.audience),
        "The `aud` claim must be or contain this; empty = not checked."),
    key("issuer", Kind::Text(|t| &mut t.issuer),
        "The `iss` claim must be this; empty = not checked."),
    key("user_id_claim", Kind::Text(|t| &mut t.user_id_claim),
        "Claim with the user id; empty = `sub`."),
    key("leeway", Kind::Duration(0, 300 * SECOND, |t| &mut t.leeway_ms),
        "How far the clocks of issuer and server may differ."),
];

/// Of a tenant or user: more than any node has, only keeps out nonsense.
const QUOTA_TOP: u64 = 1_000_000_000;

/// Keys of `quotas.tenant` and of `quotas.user`.
#[rustfmt::skip]
pub(super) static QUOTA_KEYS: &[Key<Quota>] = &[
    key("connects_per_second",
        Kind::Count(0, QUOTA_TOP, Number::U32(|q| &mut q.connects.per_second)),
        "Connects, all connections together; over it they get error 111 and try again. 0 = no \
         limit."),
    key("connects_burst", Kind::Count(0, QUOTA_TOP, Number::U32(|q| &mut q.connects.burst)),
        "Connects that may come at once; 0 = those of a second."),
    key("publishes_per_second",
        Kind::Count(0, QUOTA_TOP, Number::U32(|q| &mut q.publishes.per_second)),
        "Publications of clients; over it they get error 111. 0 = no limit."),
    key("publishes_burst", Kind::Count(0, QUOTA_TOP, Number::U32(|q| &mut q.publishes.burst)),
        "Publications that may come at once; 0 = those of a second."),
    key("deliveries_per_second",
        Kind::Count(0, QUOTA_TOP, Number::U32(|q| &mut q.deliveries.per_second)),
        "Deliveries on this node: a publication costs as many as its channel has subscribers here. \
         0 = no limit."),
    key("deliveries_burst", Kind::Count(0, QUOTA_TOP, Number::U32(|q| &mut q.deliveries.burst)),
        "Deliveries that may be made at once, and how far one publication may go into debt; 0 = \
         those of a second."),
];

const TIER_NAMES: &[&str] = &["free", "pro", "enterprise"];

fn tier_at(at: usize) -> Tier {
    Tier::ALL.get(at).copied().unwrap_or_default()
}

/// Keys of each of `tiers.free`, `tiers.pro` and `tiers.enterprise`.
#[rustfmt::skip]
pub(super) static TIER_KEYS: &[Key<TierOptions>] = &[
    key("idle_timeout", Kind::Duration(0, YEAR, |t| &mut t.idle_timeout_ms),
        "A connection whose user does nothing for so long is closed (4501) and does not come back \
         by itself; 0 = never."),
    key("ping_interval", Kind::Duration(0, DAY, |t| &mut t.ping_interval_ms),
        "Time between two pings, instead of `client.ping_interval`; 0 = none."),
    key("batch_window", Kind::Duration(0, 10 * SECOND, |t| &mut t.batch_window_ms),
        "Under load, writes of a channel wait for more messages; never longer than this where one \
         of its subscribers has the tier."),
    key("compression", Kind::Bool(|t| &mut t.compression),
        "Compress what is sent, where `websocket.compression` is on and the client can."),
    key("publish_rate_limit",
        Kind::Count(0, 1_000_000, Number::U32(|t| &mut t.publish_rate_limit)),
        "Publications of one connection per second; over it they get error 111. 0 = no limit."),
    key("publish_rate_burst",
        Kind::Count(0, 1_000_000, Number::U32(|t| &mut t.publish_rate_burst)),
        "Publications that may come at once; at least the rate."),
    key("admission", Kind::Choice {
            names: &["rest", "top"],
            set: |t, at| t.top_admission = at == 1,
            get: |t| usize::from(t.top_admission),
        },
        "`top` = when connects have to wait, these come right after those who come back."),
];

/// Options of `channel.without_namespace` and of each of `channel.namespaces`.
#[rustfmt::skip]
pub(super) static OPTION_KEYS: &[Key<ChannelOptions>] = &[
    key("presence", Kind::Bool(|o| &mut o.presence),
        "Keep who is subscribed."),
    key("join_leave", Kind::Bool(|o| &mut o.join_leave),
        "Tell subscribers that ask for it who came and went."),
    key("force_push_join_leave", Kind::Bool(|o| &mut o.force_push_join_leave),
        "Tell all subscribers, asked or not."),
    key("presence_leave_debounce",
        Kind::Duration(0, 600 * SECOND, |o| &mut o.presence_leave_debounce_ms),
        "A member that is back within this time has not left: no leave and no join are told, and \
         it stays in presence. `10s` hides reconnects. 0 = every leave is told at once."),
    key("presence_coalesce", Kind::Duration(0, 600 * SECOND, |o| &mut o.presence_coalesce_ms),
        "Joins and leaves are gathered for so long, and what undoes itself is not told. 0 = no."),
    key("presence_roster_max",
        Kind::Count(0, limits::PRESENCE_ENTRIES_MAX as u64,
            Number::Usize(|o| &mut o.presence_roster_max)),
        "Channels with more members are told how many there are, not who; try 200. 0 = no limit."),
    key("receipts_ttl", Kind::Duration(60 * SECOND, YEAR, |o| &mut o.receipts_ttl_ms),
        "How long the read mark of a user is kept without a new one (`feature = \"receipts\"`)."),
    key("history_size",
        Kind::Count(0, limits::HISTORY_SIZE_MAX as u64, Number::Usize(|o| &mut o.history_size)),
        "Publications kept per channel; needs `history_ttl`. 0 = none."),
    key("history_ttl", Kind::Duration(0, YEAR, |o| &mut o.history_ttl_ms),
        "How long a publication is kept; needs `history_size`."),
    key("history_meta_ttl", Kind::Duration(0, 10 * YEAR, |o| &mut o.history_meta_ttl_ms),
        "How long a channel remembers its position after its last publication; at least \
         `history_ttl`. 0 = the default."),
    key("force_positioning", Kind::Bool(|o| &mut o.force_positioning),
        "Every subscription notices that it missed something. Needs history."),
    key("allow_positioning", Kind::Bool(|o| &mut o.allow_positioning),
        "A client may ask for that."),
    key("force_recovery", Kind::Bool(|o| &mut o.force_recovery),
        "Every subscription gets what it missed while away. Needs history."),
    key("allow_recovery", Kind::Bool(|o| &mut o.allow_recovery),
        "A client may ask for that."),
    key("force_recovery_mode", Kind::Choice {
            names: &["stream", "cache"],
            set: |o, at| o.recovery_mode = match at {
                1 => RecoveryMode::Cache,
                _ => RecoveryMode::Stream,
            },
            get: |o| o.recovery_mode as usize,
        },
        "What recovery delivers: `stream` = all missed publications, `cache` = the latest only."),
    key("class", Kind::Choice {
            names: &["durable", "state", "ephemeral"],
            set: |o, at| o.class = match at {
                1 => Class::State,
                2 => Class::Ephemeral,
                _ => Class::Durable,
            },
            get: |o| match o.class {
                Class::State => 1,
                Class::Ephemeral => 2,
                _ => 0,
            },
        },
        "What publications are worth when a client or the node cannot keep up: `durable` = never \
         lost silently, `state` = only the latest counts, `ephemeral` = best effort, first to go."),
    key("feature", Kind::Choice {
            names: &["none", "typing", "presence", "receipts", "previews"],
            set: |o, at| o.feature = FEATURES.get(at.wrapping_sub(1)).copied(),
            get: |o| FEATURES.iter().position(|f| o.feature == Some(*f)).map_or(0, |at| at + 1),
        },
        "Which feature the channels serve; an overloaded node gives features up in a known order. \
         `none` = the core, which is never given up."),
    key("auto_cache_recover", Kind::Bool(|o| &mut o.auto_cache_recover),
        "In cache mode, give the latest publication to new subscribers too."),
    key("allow_subscribe_for_client", Kind::Bool(|o| &mut o.allow_subscribe_for_client),
        "Any user with an id may subscribe."),
    key("allow_subscribe_for_anonymous", Kind::Bool(|o| &mut o.allow_subscribe_for_anonymous),
        "Users without an id may subscribe too; goes with `allow_subscribe_for_client`."),
    key("allow_publish_for_client", Kind::Bool(|o| &mut o.allow_publish_for_client),
        "Any user with an id may publish, without passing through a backend."),
    key("allow_publish_for_subscriber", Kind::Bool(|o| &mut o.allow_publish_for_subscriber),
        "Subscribers may publish."),
    key("allow_publish_for_anonymous", Kind::Bool(|o| &mut o.allow_publish_for_anonymous),
        "The same for users without an id; goes with one of the two before."),
    key("allow_presence_for_client", Kind::Bool(|o| &mut o.allow_presence_for_client),
        "Any user with an id may read presence."),
    key("allow_presence_for_subscriber", Kind::Bool(|o| &mut o.allow_presence_for_subscriber),
        "Subscribers may read presence."),
    key("allow_presence_for_anonymous", Kind::Bool(|o| &mut o.allow_presence_for_anonymous),
        "The same for users without an id; goes with one of the two before."),
    key("allow_history_for_client", Kind::Bool(|o| &mut o.allow_history_for_client),
        "Any user with an id may read history."),
    key("allow_history_for_subscriber", Kind::Bool(|o| &mut o.allow_history_for_subscriber),
        "Subscribers may read history."),
    key("allow_history_for_anonymous", Kind::Bool(|o| &mut o.allow_history_for_anonymous),
        "The same for users without an id; goes with one of the two before."),
    key("allow_user_limited_channels", Kind::Bool(|o| &mut o.allow_user_limited_channels),
        "Users listed in the channel's name (`dialog#42,43`) may subscribe, others not."),
    key("channel_regex", Kind::OptionalText(|o| &mut o.channel_regex),
        "The name after the namespace must match; empty = any."),
    key("publication_data_format", Kind::Choice {
            names: &["", "json", "json_object"],
            // JSON is all this server takes, so `json` says nothing new.
            set: |o, at| o.require_json_object = at == 2,
            get: |o| if o.require_json_object { 2 } else { 0 },
        },
        "`json_object` = a publication must be a JSON object, not any JSON value."),
];

/// Centrifugo's keys that are not here, by the start of their paths: told apart from typing
/// errors.
pub(super) static ABSENT: &[(&str, &str)] = &[
    ("client.token.jwks_public_endpoint", "keys from a JWKS endpoint are not supported"),
    ("client.token.audience_regex", "use `audience`"),
    ("client.token.issuer_regex", "use `issuer`"),
    ("client.proxy", "proxies to a backend are not supported"),
    ("rpc", "RPC is not supported"),
    ("engine", "only the memory engine exists, and it needs no setting"),
    ("broker", "only the memory broker exists, and it needs no setting"),
    ("presence_manager", "presence is kept in memory, without a setting"),
    ("http_server", "use `server.listen` and `server.admin_listen`"),
];

/// A key and where its section's values are.
pub(super) enum Slot {
    Main(&'static Key<Config>),
    Token(&'static Key<TokenSettings>, At<Config, TokenSettings>),
    Options(&'static Key<ChannelOptions>, At<Config, ChannelOptions>),
    Tier(&'static Key<TierOptions>, At<Config, TierOptions>),
    Quota(&'static Key<Quota>, At<Config, Quota>),
    /// The list of namespaces.
    Namespaces,
}

/// Every key with its full path, in the order of the reference.
pub(super) fn slots() -> Vec<(String, Slot)> {
    let mut slots = Vec::new();
    let token = |slots: &mut Vec<_>, section: &str, at: At<Config, TokenSettings>| {
        let keys = TOKEN_KEYS.iter();
        slots.extend(keys.map(|key| (format!("{section}.{}", key.path), Slot::Token(key, at))));
    };
    for key in KEYS.iter().chain(LOAD_KEYS).chain(BACKBONE_KEYS) {
        if key.path == "client.subscription_token.enabled" {
            token(&mut slots, "client.token", |c| &mut c.token.connection);
        }
        slots.push((key.path.to_owned(), Slot::Main(key)));
        if key.path == "client.subscription_token.enabled" {
            token(&mut slots, "client.subscription_token", |c| &mut c.token.subscription);
        }
        if key.path == "channel.user_separator" {
            let at: At<Config, ChannelOptions> = |c| &mut c.policy.channel.without_namespace;
            slots.extend(OPTION_KEYS.iter().map(|key| {
                (format!("channel.without_namespace.{}", key.path), Slot::Options(key, at))
            }));
            slots.push((NAMESPACES.to_owned(), Slot::Namespaces));
        }
        if key.path == "quotas.tenant_claim" {
            let quotas: [(&str, At<Config, Quota>); 2] = [
                ("quotas.tenant", |c| &mut c.policy.quotas.tenant),
                ("quotas.user", |c| &mut c.policy.quotas.user),
            ];
            for (section, at) in quotas {
                let keys = QUOTA_KEYS.iter();
                slots.extend(
                    keys.map(|key| (format!("{section}.{}", key.path), Slot::Quota(key, at))),
                );
            }
        }
        if key.path == "tiers.anonymous" {
            let tiers: [At<Config, TierOptions>; 3] = [
                |c| &mut c.policy.tiers.options[0],
                |c| &mut c.policy.tiers.options[1],
                |c| &mut c.policy.tiers.options[2],
            ];
            for (name, at) in TIER_NAMES.iter().zip(tiers) {
                let keys = TIER_KEYS.iter();
                slots.extend(
                    keys.map(|key| (format!("tiers.{name}.{}", key.path), Slot::Tier(key, at))),
                );
            }
        }
    }
    slots
}

/// Name of the environment variable of the key at `path`.
pub(super) fn env_name(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.replace('.', "_").to_uppercase())
}
