//! The fleet against a server with good manners and bad ones.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod server;

use plimsoll_bench::fleet::reconnect::Profile;
use plimsoll_bench::fleet::{Counters, Fleet, FleetConfig, Load, Settle, Stream, Target};
use plimsoll_bench::ledger::{Channel, Ledger, Run, judge};
use plimsoll_bench::topology::Topology;
use server::{Manner, Server};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn config(server: &Server, rooms: u32, members: u32) -> FleetConfig {
    let target = Target {
        address: server.address,
        host: "test".into(),
        path: "/connection/websocket".into(),
    };
    FleetConfig {
        threads: 2,
        sources: 3,
        reconnect: Profile::Phoenix,
        ledger: true,
        ..FleetConfig::new(target, Arc::new(Topology::rooms("room:", rooms, members)))
    }
}

fn stream(per_s: f64, rooms: u32) -> Stream {
    Stream { per_s, bytes: 100..300, channels: 0..rooms, by: None }
}

/// Waits for a condition; the figures are shown if it does not come.
#[track_caller]
fn until(fleet: &Fleet, condition: impl Fn(&Counters) -> bool) -> Counters {
    let came = fleet.wait(PATIENCE, &mut |counters| condition(counters));
    let counters = fleet.counters();
    assert!(came, "{}", figures(&counters));
    counters
}

/// The figures that tell what went wrong.
fn figures(now: &Counters) -> String {
    format!(
        "connected {} subscribed {} attempts {} connects {} cuts {} failures {:?} closes {:?} \
         recoveries {:?} errors {:?} published {} acknowledged {} deliveries {} of {}",
        now.connected,
        now.subscribed,
        now.attempts,
        now.connects,
        now.cuts,
        now.failures,
        now.closes,
        now.recoveries,
        now.errors,
        now.published,
        now.acknowledged,
        now.deliveries,
        now.deliveries_due,
    )
}

/// A fleet whose clients are all there.
#[track_caller]
fn connected(server: &Server, rooms: u32, members: u32) -> (Fleet, Load) {
    let fleet = Fleet::start(config(server, rooms, members)).unwrap();
    let load = Load { clients: rooms * members, ..Load::default() };
    fleet.apply(&load);
    until(&fleet, |now| now.subscribed == u64::from(rooms * members));
    (fleet, load)
}

/// Starts a fleet of four clients against a bad server, and waits.
#[track_caller]
fn bad(manner: Manner, reconnect: Profile, condition: impl Fn(&Counters) -> bool) -> Counters {
    let server = Server::start(manner);
    let fleet = Fleet::start(FleetConfig { reconnect, ..config(&server, 2, 2) }).unwrap();
    fleet.apply(&Load { clients: 4, ..Load::default() });
    let counters = until(&fleet, condition);
    let finished = fleet.finish_within(Settle { answers: Duration::ZERO, heal: Duration::ZERO });
    assert_eq!(finished.broken_threads, 0);
    counters
}

fn publish_and_compare(manner: Manner) {
    let server = Server::start(manner);
    let (fleet, mut load) = connected(&server, 4, 5);
    load.streams = vec![stream(300.0, 4)];
    fleet.apply(&load);
    until(&fleet, |now| now.published >= 150);
    load.streams.clear();
    fleet.apply(&load);
    let now = until(&fleet, |now| {
        now.acknowledged == now.published && now.deliveries == now.deliveries_due
    });
    assert_eq!((now.deliveries, now.due), (5 * now.published, now.published));
    assert!(now.failures.is_empty() && now.errors.is_empty() && now.closes.is_empty());
    assert_eq!(now.latency_us.len(), now.deliveries);
    assert_eq!(now.ack_us.len(), now.acknowledged);
    assert_eq!(now.connect_us.len(), 20);
    assert!(now.delivery_bytes > 100 * now.deliveries);
    let finished = fleet.finish();
    assert_eq!((finished.probed, finished.unreached), (20, 0));
    assert_eq!((finished.counters.published, finished.broken_threads), (now.published + 4, 0));
    assert_eq!(finished.logs.len(), 2);
    assert!(finished.logs.iter().all(|log| log.bytes() > 0));
    let seen = server.seen();
    assert_eq!(seen.goodbyes.load(Ordering::Relaxed), 20, "everyone says goodbye");
    assert_eq!(seen.requests.load(Ordering::Relaxed), 20);
}

#[test]
fn every_delivery_is_counted_once() {
    publish_and_compare(Manner::Good);
}

#[test]
fn bytes_may_come_one_by_one() {
    publish_and_compare(Manner::Trickle);
}

#[test]
fn who_was_dropped_comes_back_and_recovers() {
    let server = Server::start(Manner::Good);
    let (fleet, mut load) = connected(&server, 2, 10);
    load.streams = vec![stream(100.0, 2)];
    fleet.apply(&load);
    until(&fleet, |now| now.acknowledged >= 20);
    fleet.drop_all();
    let now = until(&fleet, |now| now.subscribed == 20 && now.recoveries[0] == 20);
    assert_eq!((now.cuts, now.recoveries, now.subscribes), (20, [20, 0], 40));
    assert_eq!(now.back_us.len(), 20);
    assert_eq!(now.connect_us.len(), 20);
    let finished = fleet.finish();
    assert_eq!(finished.unreached, 0);
    assert_eq!(server.seen().recovers.load(Ordering::Relaxed), 20);
}

#[test]
fn churn_leaves_nobody_behind() {
    let server = Server::start(Manner::Good);
    let (fleet, mut load) = connected(&server, 3, 10);
    load.streams = vec![stream(100.0, 3)];
    load.cuts_per_s = 50.0;
    load.leaves_ratio = 0.5;
    load.resubscribes_per_s = 50.0;
    fleet.apply(&load);
    until(&fleet, |now| now.cuts >= 60 && now.recoveries[0] >= 15);
    load.cuts_per_s = 0.0;
    load.resubscribes_per_s = 0.0;
    fleet.apply(&load);
    let now = until(&fleet, |now| now.subscribed == 30 && now.connected == 30);
    assert!(now.failures.is_empty(), "{:?}", now.failures);
    assert!(now.connect_us.len() > 30, "who left comes back as new");
    let finished = fleet.finish();
    assert_eq!((finished.unreached, finished.broken_threads), (0, 0));
    assert!(server.seen().unsubscribes.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_smaller_load_sends_clients_away() {
    let server = Server::start(Manner::Good);
    let (fleet, mut load) = connected(&server, 1, 20);
    load.clients = 7;
    fleet.apply(&load);
    until(&fleet, |now| now.connected == 7 && now.subscribed == 7 && now.cuts == 13);
    load.clients = 9;
    fleet.apply(&load);
    until(&fleet, |now| now.connected == 9);
    assert!(server.seen().goodbyes.load(Ordering::Relaxed) >= 13);
}

#[test]
fn connections_keep_their_rate() {
    let server = Server::start(Manner::Good);
    let fleet = Fleet::start(config(&server, 1, 40)).unwrap();
    let before = plimsoll_bench::clock::now_us();
    fleet.apply(&Load { clients: 40, connects_per_s: 100.0, ..Load::default() });
    let now = until(&fleet, |now| now.connected == 40);
    assert!(now.at_us - before >= 390_000, "40 clients at 100 a second");
}

#[test]
fn refusals_are_counted_by_their_reason() {
    let check = |manner, profile, reason: &str, attempts: u64| {
        let now = bad(manner, profile, |now| now.failures.get(reason) >= Some(&attempts));
        assert_eq!((now.connects, now.connected), (0, 0));
        assert_eq!(now.failures.keys().collect::<Vec<_>>(), [&reason], "{manner:?}");
    };
    let busy: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    check(Manner::Answer(busy), Profile::Phoenix, "upgrade refused (5xx)", 12);
    check(Manner::Answer(busy), Profile::Never, "upgrade refused (5xx)", 4);
    check(Manner::Answer(b"HTTP/1.1 404 No\r\n\r\n"), Profile::Never, "upgrade refused (4xx)", 4);
    check(Manner::Answer(b"hello\r\n\r\n"), Profile::Never, "malformed", 4);
    check(Manner::Answer(&[b'x'; 9_000]), Profile::Never, "malformed", 4);
    check(Manner::Answer(b""), Profile::Never, "closed by the server", 4);
    check(Manner::WrongProof, Profile::Never, "malformed", 4);
    check(Manner::UpgradeThen(&[0xff; 64]), Profile::Never, "malformed", 4);
    check(Manner::UpgradeThen(b"\x81\x02[]"), Profile::Never, "malformed", 4);
    check(Manner::UpgradeThen(b"\x81\x02\xff\xfe"), Profile::Never, "malformed", 4);
    check(Manner::UpgradeThen(b"\x82\x02{}"), Profile::Never, "malformed", 4);
    check(Manner::ConnectError(101, false), Profile::CentrifugeJs, "connect refused", 4);
    check(Manner::ConnectError(101, true), Profile::Phoenix, "connect refused", 12);
}

#[test]
fn nobody_listens() {
    let server = Server::start(Manner::Good);
    let mut config = config(&server, 1, 3);
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.targets[0].address = listener.local_addr().unwrap();
    drop(listener);
    let fleet = Fleet::start(config).unwrap();
    fleet.apply(&Load { clients: 3, ..Load::default() });
    let now = until(&fleet, |now| now.failures.get("connection refused") >= Some(&9));
    assert_eq!(now.connects, 0);
}

#[test]
fn close_codes_decide_who_comes_back() {
    let closed = |code, times| move |now: &Counters| now.closes.get(&code) >= Some(&times);
    let now = bad(Manner::Close(3500), Profile::CentrifugeJs, closed(3500, 4));
    assert_eq!((now.attempts, now.connects), (4, 4));
    bad(Manner::Close(3001), Profile::CentrifugeJs, closed(3001, 8));
    bad(Manner::Close(4200), Profile::PusherJs, closed(4200, 40));
    bad(Manner::Hang, Profile::Phoenix, closed(1006, 12));
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    for bytes in [
        b"\x81\x01x" as &[u8],
        b"\x81\x0a{\"id\":77}x",
        b"\x81\x15{\"id\":77,\"publish\":{}}",
        b"\x83\x00",
        b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let now = bad(Manner::ConnectThen(bytes), Profile::Never, |now| {
            now.failures.get("malformed") == Some(&4)
        });
        assert_eq!((now.connects, now.connected), (4, 0));
    }
}

#[test]
fn a_server_that_does_not_answer_is_left() {
    let now = bad(Manner::Silent, Profile::CentrifugeJs, |now| {
        now.failures.get("no answer to the connect") >= Some(&4)
    });
    assert_eq!(now.connects, 0);
}

#[test]
fn answers_that_never_come_do_not_hold_up_the_end() {
    let server = Server::start(Manner::NoAnswers);
    let (fleet, mut load) = connected(&server, 1, 2);
    load.streams = vec![stream(100.0, 1)];
    fleet.apply(&load);
    until(&fleet, |now| now.published >= 10);
    let short = Duration::from_millis(200);
    let finished = fleet.finish_within(Settle { answers: short, heal: short });
    assert_eq!((finished.counters.acknowledged, finished.counters.deliveries), (0, 0));
    assert_eq!((finished.probed, finished.unreached), (2, 2), "what was lost is told");
    assert_eq!(finished.examples.len(), 2);
}

#[test]
fn where_nobody_may_publish_nothing_is_expected() {
    let server = Server::start(Manner::Refuse(103));
    let (fleet, mut load) = connected(&server, 1, 2);
    load.streams = vec![stream(100.0, 1)];
    fleet.apply(&load);
    until(&fleet, |now| now.errors.get(&103) >= Some(&10));
    let finished = fleet.finish();
    assert_eq!((finished.probed, finished.unreached, finished.counters.acknowledged), (0, 0, 0));
}

#[test]
fn an_internal_error_leaves_a_publication_unknown() {
    let server = Server::start(Manner::Refuse(100));
    let (fleet, mut load) = connected(&server, 1, 2);
    load.streams = vec![stream(100.0, 1)];
    fleet.apply(&load);
    until(&fleet, |now| now.unknown >= 10 && now.errors.get(&100) >= Some(&10));
    let finished = fleet.finish_within(Settle { heal: Duration::ZERO, ..Settle::default() });
    let ledger = Ledger {
        run: Run::new("unknown", 0, finished.settled_us),
        channels: vec![Channel { name: "room:0".into(), history: true }],
        logs: finished.logs,
        stored: Vec::new(),
        comparisons: Vec::new(),
    };
    let counts = judge(&ledger).counts;
    assert_eq!((counts.unknown, counts.refused), (counts.published, 0));
    assert_eq!(finished.counters.unknown, counts.published);
}

#[test]
fn clients_are_on_all_nodes_and_change_them() {
    let servers = [Server::start(Manner::Good), Server::start(Manner::Good)];
    let mut config = config(&servers[0], 1, 20);
    config.targets.push(Target { address: servers[1].address, ..config.targets[0].clone() });
    let fleet = Fleet::start(config).unwrap();
    fleet.apply(&Load { clients: 20, ..Load::default() });
    until(&fleet, |now| now.subscribed == 20);
    let requests = || servers.each_ref().map(|s| s.seen().requests.load(Ordering::Relaxed));
    let first = requests();
    assert!(first.iter().all(|n| *n >= 3) && first.iter().sum::<u64>() == 20, "{first:?}");
    fleet.drop_all();
    until(&fleet, |now| now.subscribed == 20 && now.connects == 40);
    let second = requests();
    assert_eq!(second.iter().sum::<u64>(), 40);
    assert!(second.iter().zip(first).all(|(now, then)| *now >= then + 3), "{first:?} {second:?}");
}

#[test]
fn latency_counts_from_the_intended_time() {
    let server = Server::start(Manner::Stall(400));
    let (fleet, mut load) = connected(&server, 1, 2);
    load.streams = vec![Stream { by: Some(1), ..stream(100.0, 1) }];
    fleet.apply(&load);
    let now = until(&fleet, |now| now.acknowledged >= 60);
    // While the server slept, some forty publications were due: each waited its part of it.
    let slow = now.ack_us.count_between(100_000, 10_000_000);
    assert!(slow >= 20, "{slow}");
    assert!(now.ack_us.max() >= 390_000);
}

#[test]
fn subscriptions_that_the_server_ends() {
    let run = |code: u32, condition: &dyn Fn(&Counters) -> bool| {
        let server = Server::start(Manner::Unsubscribe(code));
        let (fleet, mut load) = connected(&server, 1, 3);
        load.streams = vec![Stream { by: Some(0), ..stream(50.0, 1) }];
        fleet.apply(&load);
        until(&fleet, |now| now.unsubscribes.get(&code) == Some(&3) && condition(now));
        server.seen().recovers.load(Ordering::Relaxed)
    };
    assert_eq!(run(2500, &|now| now.subscribed == 3 && now.recoveries[0] == 3), 3);
    assert_eq!(run(2000, &|now| now.subscribed == 0 && now.acknowledged > 5), 0);
}

#[test]
fn signs_of_life_are_given() {
    let server = Server::start(Manner::Good);
    let (fleet, _) = connected(&server, 1, 3);
    server.push("room:0", "{}");
    server.push_frame("room:0", b"\x89\x02hi");
    let seen = server.seen();
    until(&fleet, |_| {
        (seen.pongs.load(Ordering::Relaxed), seen.pong_frames.load(Ordering::Relaxed)) == (3, 3)
    });
    assert_eq!(fleet.counters().connected, 3);
}

#[test]
fn a_server_that_gets_better_gets_its_clients() {
    let server = Server::start(Manner::Answer(b"HTTP/1.1 503 Busy\r\n\r\n"));
    let fleet = Fleet::start(config(&server, 2, 5)).unwrap();
    fleet.apply(&Load { clients: 10, ..Load::default() });
    until(&fleet, |now| now.attempts >= 20);
    server.behave(Manner::Good);
    let now = until(&fleet, |now| now.subscribed == 10);
    assert_eq!(now.connect_us.len(), 10, "a first connection counts from its intended start");
}
