//! Redis, Valkey, with or without Sentinels, and Redis Cluster.
//!
//! | file | what |
//! |---|---|
//! | `config` | how to reach it |
//! | `backbone`, `presence` | the contract: what becomes which command |
//! | `script`, `scripts/` | what happens inside Redis, in one step each |
//! | `keys` | names, partitions, slots |
//! | `registry` | what is subscribed to, whatever the links do |
//! | `node` | one server: its two links, kept up |
//! | `commands` | the command link (the `redis` crate) |
//! | `subscriber`, `session`, `wire`, `plain` | the subscription link (our own) |
//! | `sentinel`, `cluster` | where the servers are |
//!
//! Why it is so: `docs/adr/0018-redis.md`.

mod backbone;
mod cluster;
mod commands;
mod config;
mod join;
mod keys;
mod net;
mod node;
mod plain;
mod presence;
mod registry;
mod script;
mod sentinel;
mod session;
mod subscriber;
mod wire;

pub use cluster::connect_cluster;
pub use config::{ConnectError, RedisConfig, SentinelConfig, TlsConfig};

use crate::contract::{Backbone, Setup};
use crate::limits;
use backbone::{Redis, Table};
use config::Address;
use net::Dialer;
use node::{Node, Place, Shared};
use sentinel::Sentinels;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use subscriber::Greeted;

/// What `CLIENT LIST` calls the command link.
pub const COMMANDS_NAME: &str = "plimsoll-commands";
/// What `CLIENT LIST` calls the subscription link.
pub const SUBSCRIPTIONS_NAME: &str = "plimsoll-subscriptions";
/// The name to which everybody listens.
const EVERYBODY: &str = "all";

/// Connects to a single Redis, or to the master that Sentinels name. Both links are there when it
/// returns; later they are kept up whatever happens.
///
/// # Errors
///
/// The configuration cannot be right, nobody answers within [`limits::CONNECT_MS`], or the server
/// refuses us.
pub async fn connect(config: RedisConfig, setup: Setup) -> Result<Arc<dyn Backbone>, ConnectError> {
    check(&config, &setup)?;
    let (place, broker, host) = match &config.sentinel {
        Some(sentinel) => {
            let sentinels = Sentinels::new(sentinel)?;
            let host = config.addresses.first().or(sentinel.addresses.first());
            let host = host.cloned().unwrap_or_default();
            (Place::Sentinel(sentinels), sentinel.master_name.clone(), host)
        }
        None => {
            let [one] = &config.addresses[..] else {
                return Err(ConnectError::Config("a single Redis has one address".into()));
            };
            (Place::Fixed(Address::parse(one)?), one.clone(), one.clone())
        }
    };
    let dialer = Dialer::new(config.tls.as_ref(), &host_of(&host)?)?;
    let sentinels = match &place {
        Place::Sentinel(sentinels) => Some(Arc::clone(sentinels)),
        Place::Fixed(_) => None,
    };
    let partitions = config.partitions;
    let shared = Shared::new(config, setup, dialer, false);
    let node = Node::new(&shared, &broker, place);
    for partition in 0..partitions {
        shared.registry.restore(partition, &node.orders);
    }
    let commands = node.connect_commands().await?;
    let subscriptions = match Greeted::connect(&node).await {
        Ok(link) => link,
        Err(error) => {
            commands.kill();
            return Err(error);
        }
    };
    node.set_commands(&commands);
    if let Some(sentinels) = sentinels {
        tokio::spawn(sentinels.follow(Arc::clone(&node)));
    }
    tokio::spawn(Arc::clone(&node).keep_commands(Some(commands)));
    tokio::spawn(subscriber::keep(Arc::clone(&node), Some(subscriptions)));
    let limit = Duration::from_millis(limits::CONNECT_MS);
    if tokio::time::timeout(limit, node.wait_up()).await.is_err() {
        shared.close();
        let why = "our own channels were not subscribed: are there rights for them?".into();
        return Err(ConnectError::Refused { broker, why });
    }
    let table = Table { nodes: vec![node], by_partition: vec![Some(0); partitions] };
    Ok(Arc::new(Redis { shared, table: Arc::new(Mutex::new(Arc::new(table))) }))
}

/// The host of an address, for certificates.
fn host_of(address: &str) -> Result<String, ConnectError> {
    Ok(match Address::parse(address)? {
        Address::Tcp(host, _) => host,
        Address::Unix(_) => "localhost".into(),
    })
}

fn check(config: &RedisConfig, setup: &Setup) -> Result<(), ConnectError> {
    let wrong = |why: &str| Err(ConnectError::Config(why.into()));
    if !(1..=limits::REDIS_PARTITIONS_MAX).contains(&config.partitions) {
        return wrong("partitions must be 1 to 4096");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if setup.prefix.is_empty() || !setup.prefix.bytes().all(allowed) {
        return wrong("the prefix must consist of letters, digits, _ and -");
    }
    Ok(())
}
