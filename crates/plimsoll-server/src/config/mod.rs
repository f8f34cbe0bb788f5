//! The configuration: read from a file, the environment and flags, and checked as a whole.
//!
//! [`Config`] only ever holds values that were checked; everything else of this module is how
//! they get there. Reading is pure: texts are arguments.

mod backbone_table;
mod check;
mod doc;
mod error;
mod key;
mod load;
mod load_table;
mod nearest;
mod table;
#[cfg(test)]
mod tests;
pub mod units;
mod value;

pub use doc::reference;
pub use error::{ConfigError, Place};
pub use load::{is_ours, load, load_development};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use plimsoll_core::policy::{ChannelOptions, Namespace, Policy};
use plimsoll_overload::level::{Level, Thresholds};
use plimsoll_overload::score::Score;

use crate::auth::{Secret, TokenConfig};

/// Where clients, the HTTP API and the admin calls find the server, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address for clients and the HTTP API.
    pub listen: SocketAddr,
    /// Address for metrics, health and admin calls.
    pub admin_listen: SocketAddr,
    /// Worker threads, ≤ [`plimsoll_core::limits::WORKERS_MAX`]; 0 = one per core.
    pub workers: usize,
    /// Name of the node in `info` and logs; empty = the server makes one up.
    pub name: String,
    /// Allow the `insecure` settings on an address others can reach.
    pub allow_insecure_on_public: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: loopback(8000),
            admin_listen: loopback(9000),
            workers: 0,
            name: String::new(),
            allow_insecure_on_public: false,
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// What keeps the server from working.
    Error,
    /// What an operator should look at.
    Warn,
    /// Start, stop, problems of connections (bounded in number).
    #[default]
    Info,
    /// Decisions, for finding a fault.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Logging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// Least important level that is shown.
    pub level: LogLevel,
    /// Form of the lines.
    pub format: LogFormat,
}

/// How the HTTP API reports an error of the API (as opposed to one of HTTP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// Status 200 and an `error` object in the body (Centrifugo's default).
    #[default]
    Body,
    /// An HTTP status for each error too.
    Transport,
}

/// The HTTP API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpApiConfig {
    /// Key that callers send; unset = nobody gets in unless `insecure`.
    pub key: Secret,
    /// Callers need no key.
    pub insecure: bool,
    /// The API does not exist.
    pub disabled: bool,
    /// How errors are reported.
    pub error_mode: ErrorMode,
}

/// Admin calls on the admin address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// Key that callers send; unset = nobody gets in unless `insecure`.
    pub key: Secret,
    /// Callers need no key.
    pub insecure: bool,
}

/// What the node can carry, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityConfig {
    /// Path of a measured `capacity.json`; empty = none.
    pub file: String,
    /// Use a file of another build or machine.
    pub allow_mismatch: bool,
    /// Connections this node is rated for, without a file; 0 = not known.
    pub connections: u64,
    /// Publications per second likewise.
    pub publishes_per_second: u64,
    /// Deliveries per second likewise.
    pub deliveries_per_second: u64,
    /// Megabits per second to clients likewise.
    pub egress_mbit_per_second: u64,
    /// Millionths of the price of this node for an hour; 0 = not known.
    pub cost_per_hour_millionths: u64,
    /// Millionths of monthly active users for each connection; 0 = not known.
    pub monthly_users_per_concurrent_millionths: u64,
}

impl Default for CapacityConfig {
    fn default() -> Self {
        Self {
            file: String::new(),
            allow_mismatch: false,
            connections: 0,
            publishes_per_second: 0,
            deliveries_per_second: 0,
            egress_mbit_per_second: 0,
            cost_per_hour_millionths: 0,
            // The planner's default, which is a guess as good as any until it is measured.
            monthly_users_per_concurrent_millionths: 20 * units::DECIMAL_ONE,
        }
    }
}

/// When a level is entered and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelConfig {
    /// Millionths of the score from which it is entered.
    pub enter_millionths: u64,
    /// Millionths of the score below which it may be left.
    pub leave_millionths: u64,
    /// How long the score must have stayed below that, in milliseconds.
    pub dwell_ms: u64,
}

/// The load line: when the node gives way, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverloadConfig {
    /// Act on the load. Off: it is measured and reported, and nothing is given up.
    pub enabled: bool,
    /// How pressures become one score.
    pub score: Score,
    /// Bytes of memory the node may take; 0 = the smallest limit the system sets.
    pub memory_limit_bytes: usize,
    /// Bytes all outbound queues may hold together; 0 = a fifth of the memory limit.
    pub outbound_budget_bytes: usize,
    /// Connects per second while nothing is hot; 0 = as measured, or 1,000.
    pub accepts_per_second: u64,
    /// Connects per second that are always let in.
    pub accepts_per_second_min: u64,
    /// Warning, Degraded, Critical, Emergency.
    pub levels: [LevelConfig; 4],
    /// Where changes of the level are posted (`http://…`); empty = nowhere.
    pub alert_webhook: String,
    /// The level at start, of the environment.
    pub level_at_start: Option<Level>,
    /// New connections are refused from the start on, says the environment.
    pub closed_at_start: bool,
}

impl OverloadConfig {
    /// When levels change.
    pub fn thresholds(&self) -> Thresholds {
        let score = |millionths: u64| millionths as f64 / units::DECIMAL_ONE as f64;
        Thresholds {
            enter: self.levels.map(|level| score(level.enter_millionths)),
            exit: self.levels.map(|level| score(level.leave_millionths)),
            dwell_ms: self.levels.map(|level| level.dwell_ms),
            ..Thresholds::default()
        }
    }
}

impl Default for OverloadConfig {
    fn default() -> Self {
        let usual = Thresholds::default();
        let millionths = |score: f64| (score * units::DECIMAL_ONE as f64).round() as u64;
        let level = |at: usize| LevelConfig {
            enter_millionths: millionths(usual.enter[at]),
            leave_millionths: millionths(usual.exit[at]),
            dwell_ms: usual.dwell_ms[at],
        };
        Self {
            levels: [level(0), level(1), level(2), level(3)],
            enabled: true,
            score: Score::Max,
            memory_limit_bytes: 0,
            outbound_budget_bytes: 0,
            accepts_per_second: 0,
            accepts_per_second_min: 20,
            alert_webhook: String::new(),
            level_at_start: None,
            closed_at_start: false,
        }
    }
}

/// Which broker connects the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackboneKind {
    /// None: one node.
    #[default]
    Memory,
    /// One Redis or Valkey, or a master that Sentinels name.
    Redis,
    /// A Redis or Valkey Cluster.
    RedisCluster,
    /// NATS: no history.
    Nats,
    /// NATS with JetStream.
    JetStream,
}

impl BackboneKind {
    /// In the order of [`BackboneKind::NAMES`].
    pub const ALL: [Self; 5] =
        [Self::Memory, Self::Redis, Self::RedisCluster, Self::Nats, Self::JetStream];
    /// As in the configuration.
    pub const NAMES: [&str; 5] = ["memory", "redis", "redis_cluster", "nats", "jetstream"];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or_default()
    }
}

/// The broker between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackboneConfig {
    /// Which one.
    pub kind: BackboneKind,
    /// What all keys, channels and subjects begin with.
    pub prefix: String,
    /// Signs what nodes say to each other; unset = nothing is signed.
    pub signing_key: Secret,
    /// How long a channel without subscribers stays subscribed, in milliseconds.
    pub linger_ms: u64,
    /// A node that is silent for so long is taken for gone, in milliseconds.
    pub node_lease_ms: u64,
    /// Between two probes of a silent link, in milliseconds.
    pub probe_interval_ms: u64,
    /// Redis, Valkey, and their Clusters.
    pub redis: RedisConfig,
    /// NATS and JetStream.
    pub nats: NatsConfig,
}

/// Redis, Valkey, Sentinel, Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://host:port/db`, or `rediss://` for TLS; of a Cluster, one or more of its nodes.
    pub addresses: Vec<String>,
    /// ACL user; empty = the default user.
    pub user: String,
    /// Its password; unset = none.
    pub password: Secret,
    /// File with the certificates that are trusted; empty = those of the system.
    pub ca_file: String,
    /// Sentinels, as `host:port`; empty = no Sentinel.
    pub sentinels: Vec<String>,
    /// What the Sentinels call the master.
    pub sentinel_master: String,
    /// User at the Sentinels.
    pub sentinel_user: String,
    /// Password at the Sentinels.
    pub sentinel_password: Secret,
    /// Parts into which a Cluster's channels are divided. The same on all nodes, for ever.
    pub partitions: u64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            addresses: vec!["redis://127.0.0.1:6379".into()],
            user: String::new(),
            password: Secret::default(),
            ca_file: String::new(),
            sentinels: Vec::new(),
            sentinel_master: "mymaster".into(),
            sentinel_user: String::new(),
            sentinel_password: Secret::default(),
            partitions: 128,
        }
    }
}

/// NATS and JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsConfig {
    /// `nats://host:port`, or `tls://`; several of one cluster.
    pub urls: Vec<String>,
    /// User; empty = none.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Token instead of a user.
    pub token: Secret,
    /// File with credentials (JWT and seed); empty = none.
    pub credentials_file: String,
    /// File with the certificates that are trusted; empty = those of the system.
    pub ca_file: String,
    /// Copies of each JetStream message.
    pub replicas: u64,
    /// JetStream keeps messages in memory, not in files.
    pub memory_storage: bool,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".into()],
            user: String::new(),
            password: Secret::default(),
            token: Secret::default(),
            credentials_file: String::new(),
            ca_file: String::new(),
            replicas: 1,
            memory_storage: false,
        }
    }
}

impl Default for BackboneConfig {
    fn default() -> Self {
        Self {
            kind: BackboneKind::Memory,
            prefix: "plimsoll".into(),
            signing_key: Secret::default(),
            linger_ms: plimsoll_core::limits::BACKBONE_LINGER_MS,
            node_lease_ms: plimsoll_core::limits::NODE_LEASE_MS,
            probe_interval_ms: 5_000,
            redis: RedisConfig::default(),
            nats: NatsConfig::default(),
        }
    }
}

/// The checked configuration. `Default` is safe: nobody gets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Addresses and threads.
    pub server: ServerConfig,
    /// Logging.
    pub log: LogConfig,
    /// Rules for sessions, channels and WebSocket.
    pub policy: Policy,
    /// Keys of tokens; [`crate::auth::Verifier::new`] takes it.
    pub token: TokenConfig,
    /// The HTTP API.
    pub http_api: HttpApiConfig,
    /// Admin calls.
    pub admin: AdminConfig,
    /// What the node can carry, and what it costs.
    pub capacity: CapacityConfig,
    /// The load line.
    pub overload: OverloadConfig,
    /// The broker between nodes.
    pub backbone: BackboneConfig,
    /// What is allowed but should be looked at, each a sentence.
    pub warnings: Vec<String>,
}

impl Config {
    /// For trying things out on one machine: everything is allowed, on loopback only. Pages of
    /// other origins are still kept out, as any web page the developer visits could reach a
    /// loopback address.
    pub fn development() -> Self {
        let mut config = Self::default();
        config.policy.client.insecure = true;
        config.policy.client.allow_anonymous_connect_without_token = true;
        config.policy.client.message_rate_limit = 0;
        config.http_api.insecure = true;
        config.admin.insecure = true;
        let chat = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            history_size: 100,
            history_ttl_ms: 3_600_000,
            force_recovery: true,
            ..ChannelOptions::default()
        };
        config.policy.channel.namespaces = vec![
            Namespace { name: "chat".into(), options: chat },
            Namespace { name: "typing".into(), options: ChannelOptions::default() },
        ];
        config.allow_own_pages();
        config
    }

    /// Lets in the pages that this server itself delivers on loopback.
    pub(crate) fn allow_own_pages(&mut self) {
        let port = self.server.listen.port();
        self.policy.client.allowed_origins =
            vec![format!("http://{}", self.server.listen), format!("http://localhost:{port}")];
    }
}
