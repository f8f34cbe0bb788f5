//! A room with thousands of subscribers at a high rate, and a small one beside it on the same
//! worker: the small one must not wait for the large one.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::OPEN;
use plimsoll_conformance::client::{Client, PATIENCE};
use plimsoll_conformance::fleet;
use plimsoll_conformance::server::Server;
use plimsoll_conformance::wait::Pace;
use serde_json::json;
use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Members of the large room.
const MEMBERS: usize = 3_000;
/// Messages per second there.
const LARGE_PER_S: u32 = 200;
/// Between two messages in the small one, in milliseconds: at random, or they would fall in step
/// with the other room.
const SMALL_MS: std::ops::Range<u64> = 5..25;
/// How long.
const MEASURED: Duration = Duration::from_secs(8);

/// Reads all sockets until it is told to stop, so that nobody is slow; counts the bytes.
fn drain(mut members: Vec<TcpStream>, stop: &AtomicBool, bytes: &AtomicU64) {
    for member in &members {
        member.set_nonblocking(true).expect("a socket can be non-blocking");
    }
    let mut piece = vec![0; 256 * 1024];
    while !stop.load(Relaxed) {
        for member in &mut members {
            if let Ok(n) = member.read(&mut piece) {
                bytes.fetch_add(n as u64, Relaxed);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Publishes to the large room until it is told to stop; how many.
fn shout(server: &Server, stop: &AtomicBool) -> u32 {
    let mut client = Client::anonymous(server.clients());
    let mut pace = Pace::new(Duration::from_secs(1) / LARGE_PER_S);
    let text = "x".repeat(200);
    let mut sent = 0;
    while !stop.load(Relaxed) {
        pace.turn();
        client.call("publish", &json!({ "channel": "room:large", "data": text })).expect("taken");
        sent += 1;
    }
    sent
}

/// Times from publication to delivery in the small room, sorted.
fn whisper(server: &Server) -> Vec<Duration> {
    let (mut from, mut to) =
        (Client::anonymous(server.clients()), Client::anonymous(server.clients()));
    to.subscribe("room:small");
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < MEASURED {
        thread::sleep(Duration::from_millis(fastrand::u64(SMALL_MS)));
        let sent = Instant::now();
        let id = from.next_id();
        let n = times.len();
        let publish = json!({"id": id, "publish": {"channel": "room:small", "data": n}});
        from.send(&publish.to_string()).expect("sent");
        let push = to.push(PATIENCE).expect("a delivery");
        assert_eq!(push["push"]["pub"]["data"], n, "{push}");
        times.push(sent.elapsed());
        from.reply(id, PATIENCE).expect("an acknowledgement");
    }
    times.sort();
    times
}

#[test]
fn a_small_room_does_not_wait_for_a_large_one() {
    let server = Server::start(&OPEN.replace("workers = 2", "workers = 1"));
    let alone = whisper(&server);
    let members = fleet::open(server.clients(), MEMBERS, |_| "room:large".to_owned());
    let members = members.expect("all members are in");
    let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let before = server.metrics();
    let (beside, sent) = thread::scope(|scope| {
        let (stop, bytes) = (&*stop, &*bytes);
        scope.spawn(move || drain(members, stop, bytes));
        let server = &server;
        let shouting = scope.spawn(move || shout(server, stop));
        thread::sleep(Duration::from_millis(500));
        let beside = whisper(server);
        stop.store(true, Relaxed);
        (beside, shouting.join().expect("nothing went wrong"))
    });
    let after = server.metrics();
    let at = |times: &[Duration], share: usize| times[times.len() * share / 100];
    let delivered = after.growth(&before, "plimsoll_deliveries_total");
    let slices = after.sum("plimsoll_hot_slices_total").unwrap_or_default();
    println!(
        "alone: p50 {:?}, p99 {:?}; beside: p50 {:?}, p99 {:?}, most {:?} ({} times); large room: \
         {sent} sent, {delivered} deliveries, {} MB read, {slices} slices",
        at(&alone, 50),
        at(&alone, 99),
        at(&beside, 50),
        at(&beside, 99),
        beside.last().expect("some"),
        beside.len(),
        bytes.load(Relaxed) / 1_000_000,
    );
    assert!(slices > 100.0, "void: {slices} slices");
    assert!(delivered > MEMBERS as f64 * 100.0, "void: {delivered} deliveries");
    // One slice, and what a busy machine adds.
    let p90 = at(&beside, 90);
    assert!(p90 < Duration::from_millis(40), "90 % within {p90:?}");
    assert_eq!(after.sum("plimsoll_slow_consumers_total").unwrap_or_default(), 0.0);
}
