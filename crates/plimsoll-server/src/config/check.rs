//! What must hold between keys, and what is allowed but worth a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use plimsoll_core::limits;
use plimsoll_core::policy::{ChannelOptions, RecoveryMode};
use plimsoll_core::tier::{Tier, TierPolicy};
use plimsoll_overload::feature::{Class, Feature};

use plimsoll_overload::level::{GAP_MIN, Level};
use plimsoll_overload::overrides::{ACCEPT_VARIABLE, LEVEL_VARIABLE};

use super::table::NAMESPACES;
use super::{BackboneConfig, BackboneKind, Config, ConfigError, Place};
use crate::auth::{Secret, TokenConfig, TokenSettings, Verifier};
use crate::load::webhook::Target;

/// Shorter secrets can be guessed from one token (RFC 7518 asks for the size of the hash).
const HMAC_SECRET_BYTES_MIN: usize = 32;
/// Shorter keys can be tried out.
const KEY_BYTES_MIN: usize = 16;
/// Longest prefix of keys at a broker.
const PREFIX_BYTES_MAX: usize = 64;
/// Longest of the texts that divide channel names.
const BOUNDARY_BYTES_MAX: usize = 8;
/// Secrets of examples that the whole world knows.
const KNOWN_SECRETS: [&str; 6] = [
    "bbe7d157-a253-4094-9759-06a8236543f9",
    "d7627bb6-2292-4911-82e1-615c0ed3eebb",
    "46b38493-147e-4e3f-86e0-dc5ec54f5133",
    "change-me-to-32-random-bytes-or-more",
    "secret",
    "changeme",
];

struct Checker<'a> {
    places: &'a BTreeMap<String, Place>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

/// Checks `config` as a whole, fills its warnings and returns what is wrong.
pub(super) fn check(config: &mut Config, places: &BTreeMap<String, Place>) -> Vec<ConfigError> {
    let mut checker = Checker { places, errors: Vec::new(), warnings: Vec::new() };
    checker.addresses(config);
    checker.client(config);
    checker.tokens(&config.token);
    checker.keys(config);
    checker.channels(config);
    checker.capacity(config);
    checker.overload(config);
    checker.levels(config);
    checker.tiers(config);
    checker.backbone(config);
    for options in all_options(config) {
        // Centrifugo's way to say "the default".
        if options.history_meta_ttl_ms == 0 {
            options.history_meta_ttl_ms = limits::HISTORY_META_TTL_MS;
        }
    }
    config.warnings = checker.warnings;
    checker.errors
}

fn all_options(config: &mut Config) -> impl Iterator<Item = &mut ChannelOptions> {
    let channel = &mut config.policy.channel;
    let named = channel.namespaces.iter_mut().map(|namespace| &mut namespace.options);
    named.chain([&mut channel.without_namespace])
}

impl Checker<'_> {
    fn fail(&mut self, path: &str, message: impl Into<String>) {
        // An option that stands at its default is wrong where its namespace begins.
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let place = self.places.get(path).or_else(|| self.places.get(parent));
        self.errors.push(ConfigError {
            place: place.cloned().unwrap_or_default(),
            path: path.to_owned(),
            message: message.into(),
            suggestion: None,
        });
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    fn addresses(&mut self, config: &Config) {
        let server = &config.server;
        if server.listen == server.admin_listen && server.listen.port() != 0 {
            self.fail("server.admin_listen", "must differ from server.listen");
        }
        let exposed = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
        let insecure = [
            ("client.insecure", config.policy.client.insecure, server.listen),
            (
                "http_api.insecure",
                config.http_api.insecure && !config.http_api.disabled,
                server.listen,
            ),
            ("admin.insecure", config.admin.insecure, server.admin_listen),
        ];
        for (path, on, address) in insecure {
            match on {
                false => (),
                true if !exposed(address) => {
                    self.warn(format!("{path} is on: for development only"))
                }
                true if server.allow_insecure_on_public => {
                    self.warn(format!("{path} is on for {address}, which others can reach"));
                }
                true => self.fail(
                    path,
                    format!(
                        "is on, and {address} can be reached by others: listen on 127.0.0.1, set \
                         a key or token secret instead, or set \
                         server.allow_insecure_on_public = true"
                    ),
                ),
            }
        }
    }

    fn client(&mut self, config: &Config) {
        let client = &config.policy.client;
        if client.ping_interval_ms > 0 && client.pong_timeout_ms >= client.ping_interval_ms {
            let path = match self.places.contains_key("client.pong_timeout") {
                true => "client.pong_timeout",
                false => "client.ping_interval",
            };
            self.fail(path, "client.pong_timeout must be shorter than client.ping_interval");
        }
        if client.message_rate_limit > client.message_rate_burst {
            let message = "must be at least client.message_rate_limit";
            self.fail("client.message_rate_burst", message);
        }
        if client.publish_rate_limit > client.publish_rate_burst {
            let message = "must be at least client.publish_rate_limit";
            self.fail("client.publish_rate_burst", message);
        }
        if client.queue_max_size_bytes < config.policy.websocket.message_size_limit_bytes {
            self.warn(
                "client.queue_max_size is less than websocket.message_size_limit: a long \
                 publication disconnects its subscribers",
            );
        }
        for origin in &client.allowed_origins {
            if let Err(message) = check_origin(origin) {
                self.fail("client.allowed_origins", format!("{origin:?}: {message}"));
            }
        }
        if client.allowed_origins.iter().any(|origin| origin == "*") {
            self.warn("client.allowed_origins has \"*\": pages of every site may connect");
        }
        let namespace = &client.user_personal_channel_namespace;
        let known = config.policy.channel.namespaces.iter().any(|own| own.name == *namespace);
        if client.subscribe_to_user_personal_channel && !namespace.is_empty() && !known {
            let path = "client.subscribe_to_user_personal_channel.personal_channel_namespace";
            self.fail(path, format!("no namespace is named {namespace:?}"));
        }
        let nobody = !client.insecure
            && !client.allow_anonymous_connect_without_token
            && !config.token.connection.has_key();
        if nobody {
            self.warn("no client can connect: client.token has no key");
        }
    }

    fn tokens(&mut self, tokens: &TokenConfig) {
        self.token_section("client.token", &tokens.connection);
        if tokens.subscription_enabled {
            if !tokens.subscription.has_key() {
                let path = "client.subscription_token.enabled";
                self.fail(path, "client.subscription_token has no key");
            }
            self.token_section("client.subscription_token", &tokens.subscription);
        } else if tokens.subscription != TokenSettings::default() {
            self.warn(
                "client.subscription_token has settings but is not enabled: client.token counts",
            );
        }
    }

    fn token_section(&mut self, section: &str, settings: &TokenSettings) {
        let one = TokenConfig { connection: settings.clone(), ..TokenConfig::default() };
        if let Err(error) = Verifier::new(&one) {
            self.fail(&format!("{section}.{}", error.setting), error.message);
        }
        let secrets = [
            ("hmac_secret_key", &settings.hmac_secret_key),
            ("hmac_previous_secret_key", &settings.hmac_previous_secret_key),
        ];
        for (name, secret) in secrets {
            self.secret(&format!("{section}.{name}"), secret, HMAC_SECRET_BYTES_MIN);
        }
        let open_end = !settings.hmac_previous_secret_key.is_empty()
            && settings.hmac_previous_secret_key_valid_until == 0;
        if open_end {
            self.warn(format!(
                "{section}.hmac_previous_secret_key counts forever: set \
                 hmac_previous_secret_key_valid_until"
            ));
        }
    }

    fn keys(&mut self, config: &Config) {
        let api = &config.http_api;
        if !api.disabled && !api.insecure && api.key.is_empty() {
            self.warn("http_api.key is not set: every call of the HTTP API is refused");
        }
        self.secret("http_api.key", &api.key, KEY_BYTES_MIN);
        self.secret("admin.key", &config.admin.key, KEY_BYTES_MIN);
    }

    fn secret(&mut self, path: &str, secret: &Secret, bytes_min: usize) {
        if secret.is_empty() {
            return;
        }
        if KNOWN_SECRETS.contains(&secret.expose()) {
            self.warn(format!("{path} is the secret of an example: anyone can know it"));
        } else if secret.expose().len() < bytes_min {
            self.warn(format!("{path} is shorter than {bytes_min} bytes and may be guessed"));
        }
    }

    /// The file itself is read at the start: here all is text.
    fn capacity(&mut self, config: &Config) {
        if config.capacity.allow_mismatch && config.capacity.file.is_empty() {
            self.warn("capacity.allow_mismatch does nothing without capacity.file");
        }
        let c = &config.capacity;
        let rates = [
            c.connections,
            c.publishes_per_second,
            c.deliveries_per_second,
            c.egress_mbit_per_second,
        ];
        if !c.file.is_empty() && rates.iter().any(|rate| *rate > 0) {
            self.warn("rated loads of [capacity] do nothing beside capacity.file");
        }
    }

    fn overload(&mut self, config: &Config) {
        let overload = &config.overload;
        let rated = overload.accepts_per_second;
        if rated > 0 && overload.accepts_per_second_min > rated {
            let message = "must not be above overload.accepts_per_second";
            self.fail("overload.accepts_per_second_min", message);
        }
        if !overload.alert_webhook.is_empty()
            && let Err(error) = Target::parse(&overload.alert_webhook)
        {
            self.fail("overload.alert_webhook", error.to_string());
        }
        let pinned = overload.level_at_start.is_some() || overload.closed_at_start;
        if !overload.enabled && pinned {
            self.warn(format!(
                "{LEVEL_VARIABLE} and {ACCEPT_VARIABLE} do nothing while overload.enabled = false"
            ));
        }
    }

    fn backbone(&mut self, config: &Config) {
        let backbone = &config.backbone;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let prefix = &backbone.prefix;
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(fits) {
            self.fail("backbone.prefix", "must have 1 to 64 letters, digits, `_` or `-`");
        }
        self.secret("backbone.signing_key", &backbone.signing_key, KEY_BYTES_MIN);
        match backbone.kind {
            BackboneKind::Memory if *backbone != BackboneConfig::default() => {
                self.warn("backbone has settings but backbone.kind is `memory`: they do nothing");
            }
            BackboneKind::Redis | BackboneKind::RedisCluster => {
                let redis = &backbone.redis;
                if redis.addresses.is_empty() && redis.sentinels.is_empty() {
                    self.fail("backbone.redis.addresses", "must name a server");
                }
                if backbone.kind == BackboneKind::RedisCluster && !redis.sentinels.is_empty() {
                    self.fail("backbone.redis.sentinels", "a Cluster has no Sentinels");
                }
                let one = backbone.kind == BackboneKind::Redis && redis.sentinels.is_empty();
                if one && redis.addresses.len() > 1 {
                    self.fail("backbone.redis.addresses", "more than one is a Cluster's");
                }
            }
            BackboneKind::Nats | BackboneKind::JetStream if backbone.nats.urls.is_empty() => {
                self.fail("backbone.nats.urls", "must name a server");
            }
            _ => {}
        }
        if backbone.kind == BackboneKind::Nats {
            self.no_history(config);
        }
    }

    /// NATS without JetStream keeps nothing.
    fn no_history(&mut self, config: &Config) {
        let channel = &config.policy.channel;
        let named = channel.namespaces.iter().map(|n| (n.name.as_str(), &n.options));
        for (name, options) in named.chain([("", &channel.without_namespace)]) {
            if options.has_history() {
                let message = format!(
                    "namespace `{name}` has history, and backbone.kind `nats` keeps none: use \
                     `jetstream`, or set history_size = 0"
                );
                self.fail("backbone.kind", message);
            }
        }
    }

    fn levels(&mut self, config: &Config) {
        let (thresholds, before) = (config.overload.thresholds(), self.errors.len());
        let mut below: Option<(&str, f64, f64)> = None;
        let limits = thresholds.enter.iter().zip(&thresholds.exit);
        for (level, (enter, leave)) in Level::ALL.iter().skip(1).zip(limits) {
            let path = |key: &str| format!("overload.{}.{key}", level.name());
            if let Some((name, below_enter, below_leave)) = below {
                let rise = |key: &str| format!("must be above overload.{name}.{key}");
                if *enter <= below_enter {
                    self.fail(&path("enter"), rise("enter"));
                }
                if *leave <= below_leave {
                    self.fail(&path("leave"), rise("leave"));
                }
            }
            // A little slack: 0.85 - 0.80 is 0.04999….
            if enter - leave < GAP_MIN - 1e-9 {
                let message = format!("must lie at least {GAP_MIN} below {}", path("enter"));
                self.fail(&path("leave"), message);
            }
            below = Some((level.name(), *enter, *leave));
        }
        if self.errors.len() == before
            && let Some(reason) = thresholds.wrong()
        {
            self.fail("overload.emergency.dwell", reason);
        }
    }

    fn tiers(&mut self, config: &Config) {
        let (tiers, client) = (&config.policy.tiers, &config.policy.client);
        if !tiers.enabled {
            if *tiers != TierPolicy::default() {
                self.warn("tiers have settings but tiers.enabled is off: they do nothing");
            }
            return;
        }
        for (tier, options) in Tier::ALL.into_iter().zip(&tiers.options) {
            let path = |name: &str| format!("tiers.{}.{name}", tier.name());
            let ping_ms = options.ping_interval_ms;
            if ping_ms > 0 && client.pong_timeout_ms >= ping_ms {
                self.fail(&path("ping_interval"), "must be longer than client.pong_timeout");
            }
            if options.publish_rate_limit > options.publish_rate_burst {
                self.fail(&path("publish_rate_burst"), "must be at least publish_rate_limit");
            }
        }
    }

    fn channels(&mut self, config: &Config) {
        let channel = &config.policy.channel;
        let boundaries = [
            ("channel.private_prefix", &channel.private_prefix),
            ("channel.namespace_boundary", &channel.namespace_boundary),
            ("channel.user_boundary", &channel.user_boundary),
            ("channel.user_separator", &channel.user_separator),
        ];
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (path, text) in boundaries {
            let optional = path == "channel.private_prefix";
            if text.is_empty() && optional {
                continue;
            }
            let fits = (1..=BOUNDARY_BYTES_MAX).contains(&text.len());
            if !fits || !text.bytes().all(|b| b.is_ascii_graphic()) {
                let message = format!("must be 1–{BOUNDARY_BYTES_MAX} visible ASCII characters");
                self.fail(path, message);
            } else if !seen.insert(text) {
                self.fail(path, "must differ from the other boundaries");
            }
        }
        self.options("channel.without_namespace", &channel.without_namespace);
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (at, namespace) in channel.namespaces.iter().enumerate() {
            let path = format!("{NAMESPACES}[{at}]");
            let name = namespace.name.as_str();
            if !is_namespace_name(name) {
                let message = match name {
                    "" => "is missing".to_owned(),
                    _ => format!("{name:?} must be two or more of a-z, A-Z, 0-9, `-`, `_`"),
                };
                self.fail(&format!("{path}.name"), message);
            } else if !names.insert(name) {
                self.fail(&format!("{path}.name"), format!("{name:?} is there twice"));
            }
            self.options(&path, &namespace.options);
        }
    }

    /// Channels whose publications are no messages.
    fn signals(&mut self, section: &str, options: &ChannelOptions) {
        let path = |name: &str| format!("{section}.{name}");
        let kept = options.has_history();
        match options.feature {
            Some(Feature::Typing) if kept => {
                self.fail(&path("feature"), "typing is never kept: leave history off");
            }
            Some(Feature::Typing) if options.class != Class::Ephemeral => {
                self.fail(&path("feature"), "typing needs class = \"ephemeral\"");
            }
            Some(Feature::Receipts) if kept => {
                let message = "receipts are kept as marks, not as history: leave history off";
                self.fail(&path("feature"), message);
            }
            Some(Feature::Receipts) if options.class != Class::Durable => {
                self.fail(&path("feature"), "receipts need class = \"durable\", the default");
            }
            _ => {}
        }
    }

    fn options(&mut self, section: &str, options: &ChannelOptions) {
        let path = |name: &str| format!("{section}.{name}");
        match (options.history_size > 0, options.history_ttl_ms > 0) {
            (true, false) => self.fail(&path("history_size"), "history needs history_ttl too"),
            (false, true) => self.fail(&path("history_ttl"), "history needs history_size too"),
            _ => (),
        }
        let meta_ttl = options.history_meta_ttl_ms;
        if meta_ttl > 0 && meta_ttl < options.history_ttl_ms {
            self.fail(&path("history_meta_ttl"), "must be at least history_ttl");
        }
        let positions = [
            ("force_positioning", options.force_positioning),
            ("allow_positioning", options.allow_positioning),
            ("force_recovery", options.force_recovery),
            ("allow_recovery", options.allow_recovery),
        ];
        for (name, on) in positions {
            if on && !options.has_history() {
                self.fail(&path(name), "needs history: set history_size and history_ttl");
            }
        }
        if options.auto_cache_recover && options.recovery_mode != RecoveryMode::Cache {
            let message = "needs force_recovery_mode = \"cache\"";
            self.fail(&path("auto_cache_recover"), message);
        }
        let latest_only = options.recovery_mode == RecoveryMode::Cache;
        if options.class == Class::Ephemeral && options.has_history() {
            self.fail(&path("class"), "ephemeral publications are not kept: leave history off");
        }
        if options.class == Class::State && options.has_history() && !latest_only {
            let message = "with history, a state needs force_recovery_mode = \"cache\"";
            self.fail(&path("class"), message);
        }
        if options.force_push_join_leave && !options.join_leave {
            self.warn(format!("{section}: force_push_join_leave does nothing without join_leave"));
        }
        self.signals(section, options);
        let debounces = options.presence_leave_debounce_ms > 0 || options.presence_coalesce_ms > 0;
        if debounces && !options.presence && !options.join_leave {
            self.warn(format!(
                "{section}: presence_leave_debounce and presence_coalesce do nothing without \
                 presence or join_leave"
            ));
        }
        if let Some(pattern) = &options.channel_regex
            && let Err(error) = regex_lite::Regex::new(pattern)
        {
            self.fail(&path("channel_regex"), format!("is not a regular expression: {error}"));
        }
    }
}

/// `^[-a-zA-Z0-9_]{2,}$`
fn is_namespace_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    name.len() >= 2 && name.bytes().all(good)
}

/// An origin is `scheme://host[:port]`, and nothing else ever equals one.
fn check_origin(origin: &str) -> Result<(), &'static str> {
    if origin == "*" {
        return Ok(());
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err("must have a scheme, as https://app.example.com");
    };
    if scheme.is_empty() || host.is_empty() {
        return Err("must be scheme://host or scheme://host:port");
    }
    if host.contains('/') {
        return Err("must end after the host: browsers send no path");
    }
    Ok(())
}
