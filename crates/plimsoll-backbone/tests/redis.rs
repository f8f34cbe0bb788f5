//! The Redis adapter against real servers.
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/redis.rs"]
mod server;

use bytes::Bytes;
use client::*;
use plimsoll_backbone::redis::{self, RedisConfig};
use plimsoll_backbone::*;
use server::Server;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn config(server: &Server) -> RedisConfig {
    RedisConfig { addresses: vec![server.address()], ..RedisConfig::default() }
}

async fn connect(server: &Server) -> (Arc<dyn Backbone>, Arc<Collector>) {
    let sink = Arc::new(Collector::default());
    let backbone = redis::connect(config(server), setup(&sink)).await.unwrap();
    (backbone, sink)
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_come_in_order_and_stay() {
    let server = Server::redis(&[]);
    let (b, sink) = connect(&server).await;
    let (_other, other_sink) = connect(&server).await;
    subscribe(&_other, &["a"]).await;
    subscribe(&b, &["a", "b"]).await;
    let batch = (1..=80).map(|n| kept("a", &format!("m{n}"))).chain([plain("b", "hi")]);
    for (n, result) in b.publish(batch.collect()).await.into_iter().enumerate() {
        let p = result.unwrap();
        assert!(p.is_new);
        assert_eq!(p.position.map_or(0, |p| p.offset), if n < 80 { n as u64 + 1 } else { 0 });
    }
    until("all are there", SOON, || sink.of("a").len() == 80 && other_sink.of("a").len() == 80)
        .await;
    let expected: Vec<_> = (1..=80).map(|n| (n, format!("m{n}"))).collect();
    assert_eq!(sink.of("a"), expected);
    assert_eq!(other_sink.of("a"), expected);
    until("b", SOON, || sink.of("b") == [(0, "hi".into())]).await;
    assert!(other_sink.of("b").is_empty());
    let page = read(&b, "a", ALL).await.unwrap();
    assert_eq!(bodies(&page), expected);
    assert_eq!((page.position.offset, page.floor), (80, 0));
    let before = read(&b, "a", Want::Before { offset: u64::MAX, limit: 3 }).await.unwrap();
    assert_eq!(bodies(&before), expected[77..]);
    let before = read(&b, "a", Want::Before { offset: 5, limit: 2 }).await.unwrap();
    assert_eq!(bodies(&before), expected[2..4]);
    let after = read(&b, "a", Want::After { offset: 5, limit: 2 }).await.unwrap();
    assert_eq!(bodies(&after), expected[5..7]);
    assert_eq!(b.clear("a".into()).await, Ok(()));
    let page = read(&b, "a", ALL).await.unwrap();
    assert_eq!((page.position.offset, page.floor, page.entries.len()), (80, 80, 0));
    assert_eq!(position(publish(&b, kept("a", "next")).await).offset, 81);
    assert_eq!(position(publish(&b, kept("a", "next")).await).epoch, page.position.epoch);
    assert_eq!(b.probe().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_bounded_by_size_and_by_each_ones_age() {
    let server = Server::redis(&[]);
    let (b, _sink) = connect(&server).await;
    let keep = Keep { size: 5, ttl_ms: 400, meta_ttl_ms: 60_000 };
    let with = |body: &str| Publish { keep: Some(keep), ..kept("a", body) };
    for n in 1..=8 {
        publish(&b, with(&n.to_string())).await.unwrap();
    }
    let read = || async {
        b.read(vec![Read { channel: "a".into(), keep, want: ALL }]).await.remove(0).unwrap()
    };
    let page = read().await;
    assert_eq!((page.position.offset, page.floor, page.entries.len()), (8, 3, 5));
    let begun = Instant::now();
    while read().await.entries.len() == 5 {
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    publish(&b, with("9")).await.unwrap();
    let page = read().await;
    assert_eq!((page.position.offset, page.floor), (9, 8));
    assert_eq!(bodies(&page), [(9, "9".to_owned())]);
    let ttl: i64 = server.cli(&["PTTL", &server.cli(&["KEYS", "*:s:a"])]).parse().unwrap();
    assert!((1..=600).contains(&ttl), "{ttl}");
    // A channel that was only asked about is forgotten soon.
    client::read(&b, "never", ALL).await.unwrap();
    let ttl: i64 = server.cli(&["PTTL", &server.cli(&["KEYS", "*:m:never"])]).parse().unwrap();
    assert!((1..=600_000).contains(&ttl), "{ttl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_and_old_versions_are_not_published() {
    let server = Server::redis(&[]);
    let (b, sink) = connect(&server).await;
    subscribe(&b, &["a", "p"]).await;
    let with_key = |p: Publish| Publish { idempotency_key: Some("k".into()), ..p };
    let first = publish(&b, with_key(kept("a", "1"))).await.unwrap();
    let again = publish(&b, with_key(kept("a", "2"))).await.unwrap();
    assert!(first.is_new && !again.is_new);
    assert_eq!(first.position, again.position);
    assert!(publish(&b, with_key(plain("p", "1"))).await.unwrap().is_new);
    assert!(!publish(&b, with_key(plain("p", "2"))).await.unwrap().is_new);
    let version = |p: Publish, n, e: &str| Publish { version: Some((n, e.into())), ..p };
    for (n, epoch, is_new) in [
        (5, "x", true),
        (5, "x", false),
        (4, "x", false),
        (u64::MAX - 1, "x", true),
        (u64::MAX - 1, "x", false),
        (u64::MAX, "x", true),
        (1, "y", true),
        (2, "y", true),
    ] {
        let p = publish(&b, version(kept("a", "v"), n, epoch)).await.unwrap();
        assert_eq!(p.is_new, is_new, "{n} {epoch}");
        assert!(p.position.is_some());
        let p = publish(&b, version(plain("p", "v"), n, epoch)).await.unwrap();
        assert_eq!(p.is_new, is_new, "{n} {epoch}");
    }
    until("those that are new", SOON, || sink.of("a").len() == 6 && sink.of("p").len() == 6).await;
    // The same text split otherwise is another key.
    let p = Publish { idempotency_key: Some("bc".into()), ..kept("a", "1") };
    assert!(publish(&b, p).await.unwrap().is_new);
    let p = Publish { idempotency_key: Some("c".into()), ..kept("ab", "1") };
    assert!(publish(&b, p).await.unwrap().is_new);
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_leased_by_each_node() {
    let server = Server::redis(&[]);
    let (a, _) = connect(&server).await;
    let (b, _) = connect(&server).await;
    let (n1, n2) = (NodeId(1), NodeId(2));
    let c: Arc<str> = "c".into();
    let add = |m: Member| PresenceChange::Add(Arc::clone(&c), m);
    a.note_presence(vec![add(member(1, "u", n1)), add(member(2, "u", n2)), add(member(3, "", n2))])
        .await
        .unwrap();
    assert_eq!(b.presence_stats(c.clone()).await, Ok(Tally { clients: 3, users: 2 }));
    let mut members = b.presence(c.clone(), 3).await.unwrap();
    members.sort_by_key(|m| m.client.0);
    assert_eq!(members, [member(1, "u", n1), member(2, "u", n2), member(3, "", n2)]);
    assert_eq!(b.presence(c.clone(), 2).await, Err(Failure::TooLarge));
    let remove = |n, node| PresenceChange::Remove(Arc::clone(&c), member(n, "", node).client, node);
    a.note_presence(vec![remove(1, n2), remove(3, n2), remove(9, n1)]).await.unwrap();
    assert_eq!(b.presence_stats(c.clone()).await, Ok(Tally { clients: 2, users: 1 }));
    a.note_presence(vec![add(member(1, "v", n1))]).await.unwrap();
    assert_eq!(b.presence_stats(c.clone()).await, Ok(Tally { clients: 2, users: 2 }));
    // A node that does not renew is gone, though others renew the channel.
    let sink = Arc::new(Collector::default());
    let first = Setup { node: n1, ..setup(&sink) };
    let first = redis::connect(config(&server), first).await.unwrap();
    let begun = Instant::now();
    while b.presence_stats(c.clone()).await.unwrap().clients == 2 {
        assert!(begun.elapsed() < SOON);
        first.keep_presence(vec![c.clone(), "empty".into()]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() > Duration::from_millis(1_000));
    assert_eq!(b.presence(c.clone(), 9).await.unwrap(), [member(1, "v", n1)]);
    assert_eq!(b.presence_stats(c.clone()).await, Ok(Tally { clients: 1, users: 1 }));
    let begun = Instant::now();
    while !server.cli(&["KEYS", "*:[pul]:*"]).is_empty() {
        assert!(begun.elapsed() < SOON, "nothing is left of it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_tell_each_other() {
    let server = Server::redis(&[]);
    let (a, a_sink) = connect(&server).await;
    let sink = Arc::new(Collector::default());
    let settings = setup(&sink);
    let me = settings.node;
    let _b = redis::connect(config(&server), settings).await.unwrap();
    let told = |sink: &Collector| {
        let told = sink.all().into_iter();
        told.filter_map(|e| if let Event::Told(body) = e { Some(body) } else { None })
            .collect::<Vec<_>>()
    };
    // Both have heard of their own channel once a probe has come back.
    assert_eq!(_b.probe().await, Ok(()));
    assert_eq!(a.probe().await, Ok(()));
    a.tell(None, Bytes::from_static(b"all")).await.unwrap();
    a.tell(Some(me), Bytes::from_static(b"you")).await.unwrap();
    until("both", SOON, || told(&sink).len() == 2 && told(&a_sink).len() == 1).await;
    assert_eq!(told(&sink), ["all", "you"]);
    assert_eq!(told(&a_sink), ["all"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_are_names() {
    let server = Server::redis(&[]);
    let (b, sink) = connect(&server).await;
    let monitor_file = server.directory().join("monitor");
    let mut monitor = std::process::Command::new("redis-cli")
        .args(["-p", &server.port.to_string(), "MONITOR"])
        .stdout(std::fs::File::create(&monitor_file).unwrap())
        .spawn()
        .unwrap();
    server::wait("MONITOR", SOON, || {
        server.cli(&["PING"]);
        std::fs::read_to_string(&monitor_file).unwrap().contains("PING")
    });
    let names = [
        "",
        " ",
        "a b",
        "a\r\nFLUSHALL\r\n",
        "*1\r\n$8\r\nFLUSHALL\r\n",
        "\0",
        "{",
        "}{",
        "{x}",
        "a:{b}:c",
        "*",
        ">",
        "a.b",
        "\u{ff}\u{10ffff}",
        "__keyspace@0__:x",
        "%s%n",
        "'; redis.call('FLUSHALL') --",
        &"é".repeat(127),
    ];
    subscribe(&b, &names).await;
    for name in names {
        position(publish(&b, kept(name, name)).await);
        publish(&b, Publish { idempotency_key: Some(name.into()), ..plain(name, "x") })
            .await
            .unwrap();
        let page = read(&b, name, ALL).await.unwrap();
        assert_eq!(bodies(&page), [(1, name.to_owned())]);
        b.note_presence(vec![PresenceChange::Add(name.into(), member(1, name, NodeId(1)))])
            .await
            .unwrap();
        assert_eq!(&*b.presence(name.into(), 5).await.unwrap()[0].user, name);
        until(name, SOON, || sink.of(name) == [(1, name.to_owned()), (0, "x".into())]).await;
    }
    b.unsubscribe(names.iter().map(|n| (*n).into()).collect()).await;
    assert_eq!(b.probe().await, Ok(()));
    server::wait("the end of the log", SOON, || {
        server.cli(&["ECHO", "finished"]);
        std::fs::read_to_string(&monitor_file).unwrap().contains("finished")
    });
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    only_our_commands(&std::fs::read_to_string(&monitor_file).unwrap());
}

/// Of each line of MONITOR the command: none of them came out of a name.
fn only_our_commands(log: &str) {
    for line in log.lines().filter(|l| l.contains('[')) {
        let command = line.split('"').nth(1).unwrap_or_default().to_ascii_lowercase();
        let known = [
            "ping",
            "evalsha",
            "publish",
            "subscribe",
            "unsubscribe",
            "get",
            "set",
            "time",
            "hmget",
            "hset",
            "xadd",
            "pexpire",
            "del",
            "xrange",
            "pttl",
            "hget",
            "hincrby",
            "hlen",
            "hgetall",
            "role",
            "command",
            "hello",
            "client",
            "echo",
            "xtrim",
        ];
        assert!(known.contains(&&*command), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_dropped_and_told() {
    let server = Server::redis(&[]);
    let (b, sink) = connect(&server).await;
    subscribe(&b, &["a"]).await;
    publish(&b, kept("a", "1")).await.unwrap();
    until("the first", SOON, || sink.of("a").len() == 1).await;
    let channels = server.cli(&["PUBSUB", "CHANNELS", "*:c:a"]);
    let head = channels.strip_suffix(":c:a").unwrap().to_owned();
    for (n, garbage) in ["", "x", "h", "habc", "habcdefgh12", "{\"a\":1}"].iter().enumerate() {
        server.cli(&["PUBLISH", &channels, garbage]);
        until(garbage, SOON, || sink.garbage() == n + 1).await;
    }
    // Far too long: it is left out while it comes.
    server.cli_with(&["PUBLISH", &channels], &vec![b'x'; 5_000_000]);
    until("the long one", SOON, || sink.garbage() == 7).await;
    publish(&b, kept("a", "2")).await.unwrap();
    until("the second", SOON, || sink.of("a").len() == 2).await;
    assert_eq!(sink.gaps(), 0, "the link has stayed");
    // A foreign entry in the stream: what it blocks begins anew, with another epoch.
    let before = read(&b, "a", ALL).await.unwrap();
    server.cli(&["XADD", &format!("{head}:s:a"), "9-9", "foreign", "x"]);
    assert_eq!(bodies(&read(&b, "a", ALL).await.unwrap()), bodies(&before));
    let after = position(publish(&b, kept("a", "3")).await);
    assert_ne!(after.epoch, before.position.epoch);
    assert_eq!(after.offset, 1);
    // A wrong type is refused, and nothing else suffers.
    server.cli(&["SET", &format!("{head}:s:a"), "x"]);
    let batch = vec![kept("a", "4"), kept("b", "1")];
    let results = b.publish(batch).await;
    assert_eq!(results[0], Err(Failure::Refused));
    assert_eq!(position(results[1]).offset, 1);
    assert_eq!(read(&b, "a", ALL).await, Err(Failure::Refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_were_flushed_are_loaded_again() {
    let server = Server::redis(&[]);
    let (b, _sink) = connect(&server).await;
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(position(publish(&b, kept("a", "1")).await).offset, 1);
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(read(&b, "a", ALL).await.unwrap().entries.len(), 1);
    // Flushed under load: an order is never turned round.
    for round in 0..20 {
        server.cli(&["SCRIPT", "FLUSH"]);
        let calls: Vec<_> =
            (0..50).map(|n| b.publish(vec![kept("b", &format!("{round:03} {n:03}"))])).collect();
        let mut running = Vec::new();
        for call in calls {
            running.push(tokio::spawn(call));
        }
        for call in running {
            match call.await.unwrap().remove(0) {
                Ok(_) | Err(Failure::Busy) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(position(publish(&b, kept("b", "end")).await).offset > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_the_limit_passes_and_one_above_does_not() {
    let server = Server::redis(&[]);
    let (b, sink) = connect(&server).await;
    subscribe(&b, &["a"]).await;
    let max = b.capabilities().body_bytes_max;
    let body = "x".repeat(max);
    publish(&b, kept("a", &body)).await.unwrap();
    publish(&b, plain("a", &body)).await.unwrap();
    until("both", SOON, || sink.of("a").len() == 2).await;
    let long = format!("{body}x");
    assert_eq!(publish(&b, kept("a", &long)).await, Err(Failure::TooLarge));
    assert_eq!(publish(&b, plain("a", &long)).await, Err(Failure::TooLarge));
    let results = b.publish(vec![plain("a", "1"), plain("a", &long), kept("a", "2")]).await;
    assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_channels_need_two_connections() {
    let server = Server::redis(&[]);
    let (b, sink) = connect(&server).await;
    let channels: Vec<Arc<str>> = (0..10_000).map(|n| format!("room:{n}").into()).collect();
    for chunk in channels.chunks(1_000) {
        for result in b.subscribe(chunk.to_vec()).await {
            result.unwrap();
        }
    }
    assert_eq!(server.named(redis::COMMANDS_NAME), 1);
    assert_eq!(server.named(redis::SUBSCRIPTIONS_NAME), 1);
    let count = || {
        server.cli(&["PUBSUB", "CHANNELS", "test:*:c:*"]).lines().filter(|l| !l.is_empty()).count()
    };
    assert_eq!(count(), 10_000);
    publish(&b, plain("room:77", "x")).await.unwrap();
    until("one", SOON, || sink.of("room:77").len() == 1).await;
    // A hundred thousand times in and out.
    for round in 0..100 {
        let some: Vec<Arc<str>> = (0..1_000).map(|n| format!("cycle:{round}:{n}").into()).collect();
        for result in b.subscribe(some.clone()).await {
            result.unwrap();
        }
        b.unsubscribe(some).await;
    }
    b.unsubscribe(channels).await;
    server::wait("none is left", SOON, || count() == 0);
    assert_eq!(server.named(redis::SUBSCRIPTIONS_NAME), 1);
    assert_eq!(sink.gaps(), 0);
}
