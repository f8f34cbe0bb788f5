//! JetStream when its servers fail: leaders that end or step down, and streams that are purged.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/nats.rs"]
mod support;

use plimsoll_backbone::nats::{NatsConfig, connect_jetstream};
use plimsoll_backbone::suite::Recorder;
use plimsoll_backbone::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::Server;

const KEEP: Keep = Keep { size: 5_000, ttl_ms: 600_000, meta_ttl_ms: 600_000 };
/// A cluster agreed on a new leader after 4 to 8 s; the machine may be slow beside.
const FAILOVER: Duration = Duration::from_secs(30);

struct Node {
    b: Arc<dyn Backbone>,
    heard: Arc<Recorder>,
}

async fn node(servers: &[Server], first: usize) -> Node {
    let heard = Arc::new(Recorder::default());
    let setup = Setup {
        node: NodeId(fastrand::u64(1..)),
        prefix: "faults".into(),
        sink: heard.clone(),
        presence_lease_ms: 5_000,
        probe_interval_ms: 500,
    };
    let urls = (0..servers.len()).map(|i| servers[(first + i) % servers.len()].url()).collect();
    let config = NatsConfig { urls, replicas: servers.len(), ..NatsConfig::default() };
    let end = Instant::now() + FAILOVER;
    loop {
        match connect_jetstream(config.clone(), setup.clone()).await {
            Ok(b) => return Node { b, heard },
            Err(e) => assert!(Instant::now() < end, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Node {
    /// Publishes with a key until it is acknowledged, and returns its position.
    async fn append(&self, channel: &Arc<str>, body: &str) -> plimsoll_core::model::StreamPosition {
        let end = Instant::now() + FAILOVER;
        loop {
            let p = Publish {
                channel: channel.clone(),
                body: body.to_owned().into(),
                keep: Some(KEEP),
                idempotency_key: Some(body.into()),
                version: None,
            };
            match self.b.publish(vec![p]).await[0] {
                Ok(done) => return done.position.unwrap(),
                Err(e) => assert!(Instant::now() < end, "{body}: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn subscribe(&self, channel: &Arc<str>) {
        let end = Instant::now() + FAILOVER;
        while self.b.subscribe(vec![channel.clone()]).await != [Ok(())] {
            assert!(Instant::now() < end, "not subscribed");
        }
    }

    async fn page(&self, channel: &Arc<str>) -> Page {
        let end = Instant::now() + FAILOVER;
        loop {
            let want = Want::After { offset: 0, limit: 5_000 };
            let read = Read { channel: channel.clone(), keep: KEEP, want };
            match self.b.read(vec![read]).await.remove(0) {
                Ok(page) => return page,
                Err(e) => assert!(Instant::now() < end, "reading: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn gaps(&self) -> usize {
        self.heard.look(|e| e.iter().filter(|e| matches!(e, Event::Gap(_))).count())
    }

    /// Everything acknowledged was delivered, or the node was told to read again.
    async fn nothing_lost_in_silence(
        &self,
        channel: &Arc<str>,
        acked: &BTreeSet<u64>,
        gaps: usize,
    ) {
        let missing = || {
            let seen = self.heard.deliveries(channel);
            let seen: BTreeSet<u64> =
                seen.iter().filter_map(|d| d.stamp).map(|s| s.position.offset).collect();
            acked.difference(&seen).copied().collect::<Vec<_>>()
        };
        let end = Instant::now() + Duration::from_secs(10);
        while !missing().is_empty() && self.gaps() == gaps {
            assert!(Instant::now() < end, "in silence, without a gap: {:?}", missing());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let stored: BTreeSet<u64> =
            self.page(channel).await.entries.iter().map(|e| e.offset).collect();
        let lost: Vec<_> = acked.difference(&stored).collect();
        assert!(lost.is_empty(), "acknowledged, and not stored: {lost:?}");
    }
}

async fn api(server: &Server, what: &str, question: &'static str) -> Value {
    let client = async_nats::connect(server.url()).await.unwrap();
    let answer = client.request(format!("$JS.API.{what}"), question.into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// The name of the only stream.
async fn stream(server: &Server) -> String {
    let names = api(server, "STREAM.NAMES", "").await;
    names["streams"][0].as_str().unwrap_or_else(|| panic!("no stream: {names}")).to_owned()
}

async fn leader(server: &Server) -> Option<usize> {
    let info = api(server, &format!("STREAM.INFO.{}", stream(server).await), "").await;
    info["cluster"]["leader"].as_str()?.strip_prefix('n')?.parse().ok()
}

/// Publishes all the time while something happens to the leader of the stream.
async fn through(newer: bool, kill: bool) {
    let mut servers = Server::three(newer);
    let (a, b) = (node(&servers, 0).await, node(&servers, 1).await);
    let channel: Arc<str> = "busy".into();
    b.subscribe(&channel).await;
    let mut acked = BTreeSet::new();
    acked.insert(a.append(&channel, "first").await.offset);
    b.heard.until_body(&channel, "first").await;
    let at = leader(&servers[0]).await.unwrap();
    let gaps = b.gaps();
    let publishes = tokio::spawn(async move {
        for i in 0..300 {
            acked.insert(a.append(&channel, &format!("{i}")).await.offset);
        }
        (acked, channel)
    });
    b.heard.until_body("busy", "50").await;
    if kill {
        servers[at].kill();
    } else {
        let name = stream(&servers[0]).await;
        let answer = api(&servers[0], &format!("STREAM.LEADER.STEPDOWN.{name}"), "").await;
        assert_eq!(answer["success"], true, "{answer}");
    }
    let (acked, channel) = publishes.await.unwrap();
    assert_eq!(acked.len(), 301);
    b.nothing_lost_in_silence(&channel, &acked, gaps).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_steps_down() {
    through(true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_the_distribution_steps_down() {
    through(false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed() {
    through(true, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_the_distribution_is_killed() {
    through(false, true).await;
}

/// Who stood before a purge cannot recover; who stood at the end has missed nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_stream_says_so() {
    for newer in [false, true] {
        let servers = [Server::start(newer)];
        let (a, channel) = (node(&servers, 0).await, Arc::from("purged"));
        let mut last = a.append(&channel, "0").await;
        for i in 1..5 {
            last = a.append(&channel, &format!("{i}")).await;
        }
        let name = stream(&servers[0]).await;
        let purged = api(&servers[0], &format!("STREAM.PURGE.{name}"), "").await;
        assert_eq!(purged["success"], true, "{purged}");
        let page = a.page(&channel).await;
        assert_eq!((page.entries.len(), page.floor), (0, last.offset));
        assert_eq!(page.position.epoch, last.epoch);
        assert!(a.append(&channel, "next").await.offset > last.offset);
    }
}
