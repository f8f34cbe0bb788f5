//! The Redis adapter behind Sentinels.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/client.rs"]
mod client;
#[path = "support/redis.rs"]
mod server;

use client::*;
use plimsoll_backbone::redis::{self, RedisConfig, SentinelConfig};
use plimsoll_backbone::*;
use server::Server;
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(40);

struct Group {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Group {
    /// A master, a replica, three Sentinels.
    fn start() -> Self {
        let fast = ["--repl-diskless-sync-delay", "0"];
        let master = Server::redis(&fast);
        let mut arguments = fast.to_vec();
        let port = master.port.to_string();
        arguments.extend(["--replicaof", "127.0.0.1", &port]);
        let replica = Server::redis(&arguments);
        server::wait("the replica is in step", LONG, || {
            replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
        });
        let config = format!(
            "sentinel monitor main 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000\n"
        );
        let sentinels = (0..3).map(|_| Server::sentinel(&config)).collect::<Vec<_>>();
        server::wait("Sentinels know each other", LONG, || {
            sentinels.iter().all(|s| {
                let info = s.cli(&["SENTINEL", "MASTER", "main"]);
                let mut lines = info.lines();
                lines.find(|l| *l == "num-other-sentinels");
                let others = lines.next() == Some("2");
                let mut lines = info.lines();
                lines.find(|l| *l == "num-slaves");
                others && lines.next() == Some("1")
            })
        });
        Self { servers: vec![master, replica], sentinels }
    }

    fn config(&self) -> RedisConfig {
        RedisConfig {
            addresses: Vec::new(),
            sentinel: Some(SentinelConfig {
                addresses: self.sentinels.iter().map(Server::address).collect(),
                master_name: "main".into(),
                user: None,
                password: None,
                tls: None,
            }),
            ..RedisConfig::default()
        }
    }

    async fn connect(&self) -> (Arc<dyn Backbone>, Arc<Collector>) {
        let sink = Arc::new(Collector::default());
        let backbone = redis::connect(self.config(), setup(&sink)).await.unwrap();
        (backbone, sink)
    }
}

/// After a failover everything works, on the new master only.
async fn works_on(b: &Arc<dyn Backbone>, sink: &Collector, server: &Server, old: Page) {
    until("a gap is told", LONG, || sink.gaps() >= 1).await;
    publish_until(b, kept("a", "after"), LONG).await;
    until("delivered", LONG, || sink.of("a").iter().any(|(_, body)| body == "after")).await;
    let page = read(b, "a", ALL).await.unwrap();
    assert_ne!(page.position.epoch, old.position.epoch, "the replica may have lost something");
    until("links to the new master", LONG, || {
        server.named(redis::COMMANDS_NAME) == 1 && server.named(redis::SUBSCRIPTIONS_NAME) == 1
    })
    .await;
    assert_eq!(b.probe().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_master_is_replaced() {
    let mut group = Group::start();
    let (b, sink) = group.connect().await;
    subscribe(&b, &["a"]).await;
    publish(&b, kept("a", "before")).await.unwrap();
    assert!(b.status().loss_window.contains("replica"), "{}", b.status().loss_window);
    let old = read(&b, "a", ALL).await.unwrap();
    sink.forget();
    group.servers[0].kill();
    works_on(&b, &sink, &group.servers[1], old).await;
    // A Sentinel that is gone does not matter.
    group.sentinels[0].kill();
    assert_eq!(b.probe().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_master_is_left_and_a_way_back_is_a_new_epoch() {
    let group = Group::start();
    let (b, sink) = group.connect().await;
    subscribe(&b, &["a", "quiet"]).await;
    publish(&b, kept("a", "before")).await.unwrap();
    publish(&b, kept("quiet", "1")).await.unwrap();
    let old = read(&b, "a", ALL).await.unwrap();
    let quiet = read(&b, "quiet", ALL).await.unwrap();
    sink.forget();
    assert_eq!(group.sentinels[0].cli(&["SENTINEL", "FAILOVER", "main"]), "OK");
    works_on(&b, &sink, &group.servers[1], old.clone()).await;
    assert_eq!(group.servers[0].named(redis::COMMANDS_NAME), 0);
    assert_eq!(group.servers[0].named(redis::SUBSCRIPTIONS_NAME), 0);
    // Back to the first, the same process. A channel that was not touched meanwhile is new, too.
    server::wait("the first is a replica in step", LONG, || {
        group.servers[0].cli(&["INFO", "replication"]).contains("master_link_status:up")
    });
    sink.forget();
    server::wait("a second failover is allowed", LONG, || {
        group.sentinels[0].cli(&["SENTINEL", "FAILOVER", "main"]) == "OK"
    });
    works_on(&b, &sink, &group.servers[0], old).await;
    let page = read(&b, "quiet", ALL).await.unwrap();
    assert_ne!(page.position.epoch, quiet.position.epoch);
}
