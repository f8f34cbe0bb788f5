//! The contract suite on Redis and Valkey: one server, behind Sentinels, a Cluster.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/redis.rs"]
mod server;

use plimsoll_backbone::redis::{self, RedisConfig, SentinelConfig};
use plimsoll_backbone::suite::{self, Bed, Fault, Outcome, Proxy};
use plimsoll_backbone::*;
use server::{Cluster, Server};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// One server; each node has a way of its own to it.
struct Single {
    server: Arc<Mutex<Server>>,
    address: SocketAddr,
    proxies: Arc<Mutex<HashMap<NodeId, Arc<Proxy>>>>,
}

impl Single {
    fn new(server: Server) -> Self {
        let address = server.address().parse().unwrap();
        Self { server: Arc::new(Mutex::new(server)), address, proxies: Arc::default() }
    }
}

/// Writes what is no publication to where a channel's deliveries come from.
fn garbage(server: &Server, verb: &str, channel: &str) {
    let list = if verb == "SPUBLISH" { "SHARDCHANNELS" } else { "CHANNELS" };
    let end = format!(":c:{channel}");
    for name in server.cli(&["PUBSUB", list]).lines().filter(|l| l.ends_with(&end)) {
        server.cli(&[verb, name, "garbage"]);
    }
}

impl Bed for Single {
    fn connect(&self, setup: Setup) -> Later<Arc<dyn Backbone>> {
        let (address, proxies) = (self.address, Arc::clone(&self.proxies));
        Box::pin(async move {
            let proxy = Proxy::start(address).await.unwrap();
            let addresses = vec![proxy.address().to_string()];
            proxies.lock().unwrap().insert(setup.node, proxy);
            let config = RedisConfig { addresses, ..RedisConfig::default() };
            redis::connect(config, setup).await.unwrap()
        })
    }

    fn faults(&self) -> &'static [Fault] {
        &[Fault::Cut, Fault::Stall, Fault::RestartEmpty, Fault::Garbage]
    }

    fn inject(&self, fault: Fault, node: NodeId, channel: &str, is_on: bool) -> Later<()> {
        let proxy = self.proxies.lock().unwrap().get(&node).cloned();
        match fault {
            Fault::Cut if is_on => proxy.unwrap().cut(),
            Fault::Stall if is_on => proxy.unwrap().freeze(),
            Fault::Cut | Fault::Stall => proxy.unwrap().heal(),
            Fault::RestartEmpty => {
                let mut server = self.server.lock().unwrap();
                server.kill();
                server.resume();
            }
            Fault::Garbage => garbage(&self.server.lock().unwrap(), "PUBLISH", channel),
        }
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    let bed = Single::new(Server::redis(&[]));
    assert_eq!(suite::run(&bed).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn valkey() {
    let bed = Single::new(Server::start(server::valkey_binary(), &[]));
    assert_eq!(suite::run(&bed).await, []);
}

/// A Cluster of six; links go to where it says, so that they cannot be broken on their way.
struct Six(Cluster);

impl Bed for Six {
    fn connect(&self, setup: Setup) -> Later<Arc<dyn Backbone>> {
        let addresses = vec![self.0.servers[0].address()];
        let config = RedisConfig { addresses, ..RedisConfig::default() };
        Box::pin(async move { redis::connect_cluster(config, setup).await.unwrap() })
    }

    fn faults(&self) -> &'static [Fault] {
        &[Fault::Garbage]
    }

    fn inject(&self, _: Fault, _: NodeId, channel: &str, _: bool) -> Later<()> {
        for server in self.0.servers.iter().filter(|s| self.0.is_master(s)) {
            garbage(server, "SPUBLISH", channel);
        }
        Box::pin(async {})
    }
}

/// What needs links that break; `redis_cluster.rs` breaks the servers instead.
fn not_staged(left: &[(&str, Outcome)]) {
    for (name, outcome) in left {
        assert!(
            matches!(outcome, Outcome::NotStaged(Fault::Cut | Fault::Stall | Fault::RestartEmpty)),
            "{name}: {outcome:?}"
        );
    }
    assert_eq!(left.len(), 6, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cluster() {
    let bed = Six(Cluster::start_with(&server::redis_binary(), 6, 1, 20_000));
    not_staged(&suite::run(&bed).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn valkey_cluster() {
    let bed = Six(Cluster::start_with(&server::valkey_binary(), 6, 1, 20_000));
    not_staged(&suite::run(&bed).await);
}

/// A master that a Sentinel names.
struct Watched {
    master: Server,
    sentinel: Server,
}

impl Bed for Watched {
    fn connect(&self, setup: Setup) -> Later<Arc<dyn Backbone>> {
        let sentinel = SentinelConfig {
            addresses: vec![self.sentinel.address()],
            master_name: "main".into(),
            user: None,
            password: None,
            tls: None,
        };
        let config = RedisConfig {
            addresses: Vec::new(),
            sentinel: Some(sentinel),
            ..RedisConfig::default()
        };
        Box::pin(async move { redis::connect(config, setup).await.unwrap() })
    }

    fn faults(&self) -> &'static [Fault] {
        &[Fault::Garbage]
    }

    fn inject(&self, _: Fault, _: NodeId, channel: &str, _: bool) -> Later<()> {
        garbage(&self.master, "PUBLISH", channel);
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_sentinel() {
    let master = Server::redis(&[]);
    let config = format!("sentinel monitor main 127.0.0.1 {} 1\n", master.port);
    let sentinel = Server::sentinel(&config);
    not_staged(&suite::run(&Watched { master, sentinel }).await);
}
