//! The Redis Cluster adapter against six real servers.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/client.rs"]
mod client;
#[path = "support/redis.rs"]
mod server;

use client::*;
use plimsoll_backbone::redis::{self, ConnectError, RedisConfig};
use plimsoll_backbone::*;
use plimsoll_core::model::StreamPosition;
use server::{Cluster, Server};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After it a manual failover has happened or was given up.
const FAILOVER_TIME: Duration = Duration::from_secs(6);
const SOON: Duration = Duration::from_secs(20);
/// A second, and what a busy machine takes from it.
const TOLD: Duration = Duration::from_millis(1_500);
const LONG: Duration = Duration::from_secs(40);

fn config(cluster: &Cluster) -> RedisConfig {
    // The last one is a replica: any node does.
    let addresses = vec![cluster.servers[5].address(), cluster.servers[0].address()];
    RedisConfig { addresses, ..RedisConfig::default() }
}

/// Six servers on a busy machine may be silent for a second.
fn patient(sink: &Arc<Collector>) -> Setup {
    Setup { probe_interval_ms: 2_000, ..setup(sink) }
}

async fn connect(cluster: &Cluster) -> (Arc<dyn Backbone>, Arc<Collector>) {
    let sink = Arc::new(Collector::default());
    let backbone = redis::connect_cluster(config(cluster), patient(&sink)).await.unwrap();
    (backbone, sink)
}

async fn connect_to(server: &Server) -> (Arc<dyn Backbone>, Arc<Collector>) {
    let config = RedisConfig { addresses: vec![server.address()], ..RedisConfig::default() };
    let sink = Arc::new(Collector::default());
    (redis::connect_cluster(config, patient(&sink)).await.unwrap(), sink)
}

fn names(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| format!("room:{n}").into()).collect()
}

async fn subscribe_all(b: &Arc<dyn Backbone>, channels: &[Arc<str>]) {
    let results = b.subscribe(channels.to_vec()).await;
    let bad: Vec<_> = results.iter().zip(channels).filter(|(r, _)| r.is_err()).take(5).collect();
    assert!(bad.is_empty(), "{bad:?} {:?}", b.status());
}

fn count(servers: &[Server], verb: &str) -> usize {
    let lines = |s: &Server| s.cli(&["PUBSUB", verb]).lines().filter(|l| l.contains(":c:")).count();
    servers.iter().map(lines).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_spread_and_everything_works() {
    // A busy machine is no reason for a failover here.
    let cluster = Cluster::start_with(&server::redis_binary(), 6, 1, 20_000);
    let (b, sink) = connect(&cluster).await;
    let (_other, other_sink) = connect(&cluster).await;
    let channels = names(2_000);
    subscribe_all(&b, &channels).await;
    subscribe_all(&_other, &channels).await;
    let batch: Vec<_> = channels.iter().flat_map(|c| [kept(c, "1"), plain(c, "2")]).collect();
    for some in batch.chunks(256) {
        assert!(b.publish(some.to_vec()).await.iter().all(Result::is_ok));
    }
    let both = [(1, "1".to_owned()), (0, "2".to_owned())];
    for channel in &channels {
        until(channel, SOON, || sink.of(channel).len() == 2 && other_sink.of(channel).len() == 2)
            .await;
        assert_eq!(other_sink.of(channel), both);
    }
    for some in channels.chunks(256) {
        let reads = some.iter().map(|c| Read { channel: c.clone(), keep: KEEP, want: ALL });
        for page in b.read(reads.collect()).await {
            assert_eq!(bodies(&page.unwrap()), [(1, "1".to_owned())]);
        }
    }
    let changes =
        channels.iter().map(|c| PresenceChange::Add(c.clone(), member(1, "u", NodeId(1))));
    b.note_presence(changes.collect()).await.unwrap();
    b.keep_presence(channels.clone()).await.unwrap();
    assert_eq!(b.presence(channels[9].clone(), 2).await.unwrap().len(), 1);
    b.tell(None, "all".into()).await.unwrap();
    until("told", SOON, || other_sink.all().iter().any(|e| matches!(e, Event::Told(_)))).await;
    assert_eq!(b.probe().await, Ok(()));
    // One connection of each kind and adapter to each master, none to a replica.
    for server in &cluster.servers {
        let each = if cluster.is_master(server) { 2 } else { 0 };
        assert_eq!(server.named(redis::COMMANDS_NAME), each);
        assert_eq!(server.named(redis::SUBSCRIPTIONS_NAME), each);
    }
    assert_eq!(b.status().brokers.len(), 3);
    let each: Vec<_> =
        cluster.servers.iter().map(|s| count(std::slice::from_ref(s), "SHARDCHANNELS")).collect();
    let masters: Vec<_> = each.into_iter().filter(|n| *n > 0).collect();
    assert_eq!(masters.len(), 3);
    assert!(masters.iter().all(|n| (500..850).contains(n)), "{masters:?}");
    for round in 0..10 {
        let some: Vec<Arc<str>> = (0..1_000).map(|n| format!("cycle:{round}:{n}").into()).collect();
        assert!(b.subscribe(some.clone()).await.iter().all(Result::is_ok));
        b.unsubscribe(some).await;
    }
    b.unsubscribe(channels.clone()).await;
    _other.unsubscribe(channels).await;
    server::wait("none is left", SOON, || count(&cluster.servers, "SHARDCHANNELS") == 0);
    let nodes = cluster.servers[0].cli(&["CLUSTER", "NODES"]);
    assert_eq!((sink.gaps(), other_sink.gaps()), (0, 0), "{nodes}\n{:?}", b.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_master_is_replaced_and_the_others_go_on() {
    let mut cluster = Cluster::start(6, 1);
    let (b, sink) = connect(&cluster).await;
    let channels = names(300);
    subscribe_all(&b, &channels).await;
    let publish_all = |body: &str| b.publish(channels.iter().map(|c| kept(c, body)).collect());
    let before: HashMap<_, _> =
        channels.iter().cloned().zip(publish_all("1").await.into_iter().map(position)).collect();
    let dead = cluster.servers.iter().position(|s| cluster.is_master(s)).unwrap();
    cluster.servers[dead].kill();
    let begun = Instant::now();
    let mut acked: HashMap<Arc<str>, StreamPosition> = HashMap::new();
    while acked.len() < channels.len() {
        assert!(begun.elapsed() < LONG, "{} of {}", acked.len(), channels.len());
        let call = Instant::now();
        for (channel, result) in channels.iter().zip(publish_all("2").await) {
            if let Ok(p) = result {
                acked.entry(channel.clone()).or_insert(p.position.unwrap());
            }
        }
        assert!(call.elapsed() < TOLD);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Those of the dead one have new epochs, the others have not.
    let is_new = |c: &Arc<str>| acked[c].epoch != before[c].epoch;
    let new = channels.iter().filter(|c| is_new(c)).count();
    assert!((60..140).contains(&new), "{new}");
    let gap_of = |c: &Arc<str>| {
        sink.all().iter().any(|e| match e {
            Event::Gap(Scope::Channels(some)) => some.contains(c),
            Event::Gap(Scope::All) => panic!("only a third is concerned"),
            _ => false,
        })
    };
    for channel in &channels {
        until("each lost one has a gap", SOON, || gap_of(channel) == is_new(channel)).await;
    }
    let last = publish_all("3").await;
    assert!(last.iter().all(Result::is_ok));
    for channel in &channels {
        until("delivered", SOON, || sink.of(channel).last().is_some_and(|(_, b)| b == "3")).await;
    }
    until("probes come back", SOON, || b.status().brokers.iter().all(|n| n.up)).await;
    assert_eq!(b.probe().await, Ok(()));
}

type Acked = HashMap<Arc<str>, Vec<StreamPosition>>;

/// Publishes all the time: of each channel what was acknowledged, and how often what failed.
async fn load(
    b: Arc<dyn Backbone>,
    channels: Vec<Arc<str>>,
    stop: Arc<AtomicBool>,
) -> (Acked, HashMap<String, usize>) {
    let mut acked = Acked::new();
    let mut failures = HashMap::new();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let batch = channels.iter().map(|c| kept(c, &n.to_string())).collect();
        for (channel, result) in channels.iter().zip(b.publish(batch).await) {
            match result {
                Ok(p) => acked.entry(channel.clone()).or_default().push(p.position.unwrap()),
                Err(e) => *failures.entry(format!("{e:?}")).or_insert(0) += 1,
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (acked, failures)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_its_channels_along() {
    let cluster = Cluster::start_with(&server::redis_binary(), 6, 1, 20_000);
    let (b, sink) = connect(&cluster).await;
    let channels = names(300);
    subscribe_all(&b, &channels).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(Arc::clone(&b), channels.clone(), Arc::clone(&stop)));
    let masters: Vec<_> = cluster.servers.iter().filter(|s| cluster.is_master(s)).collect();
    let (from, to) = (masters[0], masters[1]);
    let ids = [from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"])];
    // About a quarter of what the first one has.
    let out = from.cli(&[
        "--cluster",
        "reshard",
        &from.address(),
        "--cluster-from",
        &ids[0],
        "--cluster-to",
        &ids[1],
        "--cluster-slots",
        "1500",
        "--cluster-yes",
    ]);
    assert!(!out.contains("ERR"), "{out}");
    let settled = Instant::now();
    loop {
        let batch = channels.iter().map(|c| kept(c, "settled")).collect();
        if b.publish(batch).await.iter().all(Result::is_ok) {
            break;
        }
        assert!(settled.elapsed() < SOON, "{:?}", b.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (acked, failures) = load.await.unwrap();
    assert!(failures.keys().all(|f| f == "Busy" || f == "Down"), "{failures:?}");
    let moved: Vec<_> = channels
        .iter()
        .filter(|c| {
            let all = sink.all();
            all.iter().any(|e| matches!(e, Event::Gap(Scope::Channels(some)) if some.contains(c)))
        })
        .collect();
    assert!((10..80).contains(&moved.len()), "{} have moved", moved.len());
    for channel in &channels {
        let acked = &acked[channel];
        assert!(acked.iter().all(|p| p.epoch == acked[0].epoch), "nothing was lost: no new epoch");
        assert!(acked.windows(2).all(|w| w[0].offset < w[1].offset));
        let page = read(&b, channel, ALL).await.unwrap();
        assert_eq!(page.position.epoch, acked[0].epoch);
        assert!(page.position.offset >= acked.last().unwrap().offset);
    }
    // Every channel still gets what is published, once.
    sink.forget();
    assert!(
        b.publish(channels.iter().map(|c| plain(c, "x")).collect()).await.iter().all(Result::is_ok)
    );
    for channel in &channels {
        until("delivered", SOON, || !sink.of(channel).is_empty()).await;
    }
    assert_eq!(b.probe().await, Ok(()));
    let delivered: usize = channels.iter().map(|c| sink.of(c).len()).sum();
    assert_eq!(delivered, channels.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_on_its_way_is_found_where_its_keys_are() {
    let cluster = Cluster::start_with(&server::redis_binary(), 3, 0, 20_000);
    let (b, sink) = connect_to(&cluster.servers[0]).await;
    subscribe(&b, &["a"]).await;
    let first = position(publish(&b, kept("a", "1")).await);
    let has = |s: &&Server| !s.cli(&["PUBSUB", "SHARDCHANNELS", "*:c:a"]).is_empty();
    let from = cluster.servers.iter().find(has).unwrap();
    let to = cluster.servers.iter().find(|s| s.port != from.port).unwrap();
    let channel = from.cli(&["PUBSUB", "SHARDCHANNELS", "*:c:a"]);
    let slot = from.cli(&["CLUSTER", "KEYSLOT", &channel]);
    let (id, other) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &other]), "OK");
    // One of three keys has gone: for the moment, no server can do it.
    let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
    let keys: Vec<&str> = keys.lines().collect();
    assert_eq!(keys.len(), 3);
    let port = to.port.to_string();
    let migrate = |keys: &[&str]| {
        let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        command.extend(keys);
        assert_eq!(from.cli(&command), "OK");
    };
    migrate(&keys[..1]);
    assert_eq!(publish(&b, kept("a", "2")).await, Err(Failure::Busy));
    assert_eq!(read(&b, "a", ALL).await, Err(Failure::Busy));
    // All have gone, the slot has not.
    migrate(&keys[1..]);
    let page = read(&b, "a", ALL).await.unwrap();
    assert_eq!((page.position, page.entries.len()), (first, 1));
    let second = position(publish(&b, kept("a", "2")).await);
    assert_eq!((second.epoch, second.offset), (first.epoch, 2));
    for server in [to, from] {
        assert_eq!(server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &other]), "OK");
    }
    let third = publish_until(&b, kept("a", "3"), SOON).await.position.unwrap();
    assert_eq!((third.epoch, third.offset), (first.epoch, 3));
    until("a gap is told", SOON, || sink.gaps() == 1).await;
    publish(&b, kept("a", "4")).await.unwrap();
    until("delivered", SOON, || sink.of("a").last() == Some(&(4, "4".into()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_failover_leaves_nobody_behind() {
    let cluster = Cluster::start(6, 1);
    let (b, sink) = connect(&cluster).await;
    let channels = names(300);
    subscribe_all(&b, &channels).await;
    let old = cluster.servers.iter().find(|s| cluster.is_master(s)).unwrap();
    let id = old.cli(&["CLUSTER", "MYID"]);
    let replica = cluster
        .servers
        .iter()
        .find(|s| {
            !cluster.is_master(s)
                && s.cli(&["CLUSTER", "NODES"])
                    .lines()
                    .any(|l| l.contains("myself") && l.contains(&id))
        })
        .unwrap();
    assert_eq!(replica.cli(&["CLUSTER", "FAILOVER"]), "OK");
    // It gives up by itself after five seconds when the two do not come together in time.
    let mut asked = Instant::now();
    server::wait("the replica is master", LONG, || {
        if asked.elapsed() > FAILOVER_TIME && !cluster.is_master(replica) {
            asked = Instant::now();
            replica.cli(&["CLUSTER", "FAILOVER"]);
        }
        cluster.is_master(replica)
    });
    until("no link to the old one", LONG, || {
        old.named(redis::COMMANDS_NAME) == 0 && old.named(redis::SUBSCRIPTIONS_NAME) == 0
    })
    .await;
    until("links to the new one", LONG, || {
        replica.named(redis::COMMANDS_NAME) == 1 && replica.named(redis::SUBSCRIPTIONS_NAME) == 1
    })
    .await;
    let settled = Instant::now();
    while b.probe().await.is_err() {
        assert!(settled.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sink.forget();
    let batch = channels.iter().map(|c| plain(c, "x")).collect();
    assert!(b.publish(batch).await.iter().all(Result::is_ok));
    for channel in &channels {
        until("delivered", SOON, || !sink.of(channel).is_empty()).await;
        assert_eq!(sink.of(channel).len(), 1, "{channel}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_master_is_replaced_too() {
    let cluster = Cluster::start(6, 1);
    let (b, sink) = connect(&cluster).await;
    let channels = names(100);
    subscribe_all(&b, &channels).await;
    let stopped = cluster.servers.iter().find(|s| cluster.is_master(s)).unwrap();
    stopped.signal("-STOP");
    let begun = Instant::now();
    loop {
        let call = Instant::now();
        let batch = channels.iter().map(|c| kept(c, "x")).collect();
        let all = b.publish(batch).await.iter().all(Result::is_ok);
        assert!(call.elapsed() < TOLD);
        if all {
            break;
        }
        assert!(begun.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It comes back, as a replica that thinks for a moment that it is a master.
    stopped.signal("-CONT");
    server::wait("it is a replica", LONG, || !cluster.is_master(stopped));
    let settled = Instant::now();
    while b.probe().await.is_err() {
        assert!(settled.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("no link to it", SOON, || stopped.named(redis::SUBSCRIPTIONS_NAME) == 0).await;
    sink.forget();
    let batch = channels.iter().map(|c| plain(c, "y")).collect();
    assert!(b.publish(batch).await.iter().all(Result::is_ok));
    for channel in &channels {
        until("delivered", SOON, || sink.of(channel) == [(0, "y".into())]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cluster_is_told() {
    let single = Server::redis(&[]);
    let sink = Arc::new(Collector::default());
    let at = RedisConfig { addresses: vec![single.address()], ..RedisConfig::default() };
    let error = redis::connect_cluster(at, setup(&sink)).await.err().unwrap();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    let at = RedisConfig { addresses: vec![], ..RedisConfig::default() };
    let error = redis::connect_cluster(at, setup(&sink)).await.err().unwrap();
    assert!(matches!(error, ConnectError::Config(_)), "{error}");
}
