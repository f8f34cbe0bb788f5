//! Which adapter a configuration means, and how it is made.

use crate::config::{self, BackboneConfig, BackboneKind};
use plimsoll_backbone::nats::{self, NatsConfig};
use plimsoll_backbone::redis::{self, RedisConfig, SentinelConfig, TlsConfig};
use plimsoll_backbone::{Backbone, Setup};
use std::sync::Arc;

/// Why there is no link.
pub struct ConnectError {
    /// Trying again is of no use.
    pub is_final: bool,
    /// In words.
    pub what: String,
}

/// Makes the adapter and its links.
pub async fn connect(
    config: &BackboneConfig,
    setup: Setup,
) -> Result<Arc<dyn Backbone>, ConnectError> {
    match config.kind {
        BackboneKind::Memory => Err(mistaken("memory is no broker")),
        BackboneKind::Redis => {
            redis::connect(redis_of(&config.redis)?, setup).await.map_err(of_redis)
        }
        BackboneKind::RedisCluster => {
            redis::connect_cluster(redis_of(&config.redis)?, setup).await.map_err(of_redis)
        }
        BackboneKind::Nats => nats::connect(nats_of(&config.nats), setup).await.map_err(of_nats),
        BackboneKind::JetStream => {
            nats::connect_jetstream(nats_of(&config.nats), setup).await.map_err(of_nats)
        }
    }
}

fn mistaken(what: &str) -> ConnectError {
    ConnectError { is_final: true, what: what.into() }
}

fn of_redis(error: redis::ConnectError) -> ConnectError {
    let is_final =
        matches!(error, redis::ConnectError::Config(_) | redis::ConnectError::Refused { .. });
    ConnectError { is_final, what: error.to_string() }
}

/// One address of Redis as a URL.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    tls: bool,
    host: &'a str,
    db: u16,
}

/// Reads `redis://host:port/db`, `rediss://…` or `host:port`. Who logs in is said by keys of its
/// own, so that no password stands in an address that is logged.
fn address(text: &str) -> Result<Address<'_>, ConnectError> {
    let bad = |why: &str| mistaken(&format!("backbone.redis.addresses: `{text}`: {why}"));
    if text.starts_with("unix:") {
        return Ok(Address { tls: false, host: text, db: 0 });
    }
    let (tls, rest) = match text.split_once("://") {
        None => (false, text),
        Some(("redis" | "valkey", rest)) => (false, rest),
        Some(("rediss" | "valkeys", rest)) => (true, rest),
        Some(_) => return Err(bad("the scheme must be redis:// or rediss://")),
    };
    let (host, db) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err(ConnectError {
            is_final: true,
            what: "backbone.redis.addresses: a user or password stands in keys of its own: \
                   backbone.redis.user and backbone.redis.password"
                .into(),
        });
    }
    let db = match db {
        "" => 0,
        db => db.parse().map_err(|_| bad("the database must be a number"))?,
    };
    if host.is_empty() {
        return Err(bad("there is no host"));
    }
    Ok(Address { tls, host, db })
}

fn redis_of(config: &config::RedisConfig) -> Result<RedisConfig, ConnectError> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let addresses: Vec<Address<'_>> =
        config.addresses.iter().map(|a| address(a)).collect::<Result<_, _>>()?;
    let tls = addresses.iter().any(|a| a.tls);
    if addresses.iter().any(|a| a.tls != tls) {
        return Err(mistaken("backbone.redis.addresses: all with TLS, or none"));
    }
    let tls = tls
        .then(|| TlsConfig { ca_file: text(&config.ca_file).map(Into::into), server_name: None });
    let with_port = |a: &Address<'_>| match a.host {
        host if host.starts_with("unix:") || host.rsplit_once(':').is_some() => host.to_owned(),
        host => format!("{host}:6379"),
    };
    let sentinel = (!config.sentinels.is_empty()).then(|| SentinelConfig {
        addresses: config.sentinels.clone(),
        master_name: config.sentinel_master.clone(),
        user: text(&config.sentinel_user),
        password: text(config.sentinel_password.expose()),
        tls: tls.clone(),
    });
    Ok(RedisConfig {
        addresses: match sentinel {
            Some(_) => Vec::new(),
            None => addresses.iter().map(with_port).collect(),
        },
        user: text(&config.user),
        password: text(config.password.expose()),
        db: addresses.first().map_or(0, |a| a.db),
        tls,
        sentinel,
        partitions: usize::try_from(config.partitions).unwrap_or(1),
    })
}

fn of_nats(error: nats::ConnectError) -> ConnectError {
    let is_final = matches!(error, nats::ConnectError::Config(_));
    ConnectError { is_final, what: error.to_string() }
}

fn nats_of(config: &config::NatsConfig) -> NatsConfig {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    NatsConfig {
        urls: config.urls.clone(),
        user: text(&config.user),
        password: text(config.password.expose()),
        token: text(config.token.expose()),
        credentials_file: text(&config.credentials_file).map(Into::into),
        ca_file: text(&config.ca_file).map(Into::into),
        replicas: usize::try_from(config.replicas).unwrap_or(1),
        memory_storage: config.memory_storage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let ok = |text, tls, host, db| {
            let read = address(text).map_err(|e| e.what);
            assert_eq!(read, Ok(Address { tls, host, db }), "{text}");
        };
        ok("localhost:6379", false, "localhost:6379", 0);
        ok("redis://10.0.0.1:7000/3", false, "10.0.0.1:7000", 3);
        ok("rediss://cache.example.com:6380", true, "cache.example.com:6380", 0);
        ok("unix:/run/redis.sock", false, "unix:/run/redis.sock", 0);
        for bad in ["http://a:1", "redis://", "redis://a:1/x", "redis://u:secret@a:1"] {
            let error = address(bad).expect_err(bad);
            assert!(error.is_final && !error.what.contains("secret@"), "{}", error.what);
        }
    }
}
