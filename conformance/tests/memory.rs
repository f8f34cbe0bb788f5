//! What connections cost, that they give it back, and what slow readers may cost.
//!
//! Alone in its process, and one test at a time: figures of memory bear no company.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::OPEN;
use plimsoll_conformance::client::{Client, Event, PATIENCE};
use plimsoll_conformance::fleet;
use plimsoll_conformance::raw::{self, Ending, Raw};
use plimsoll_conformance::server::Server;
use plimsoll_conformance::wait;
use serde_json::json;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

static TURN: Mutex<()> = Mutex::new(());

const IDLE: usize = 15_000;
const WARM: usize = 1_000;
const CHURN: usize = 100_000;
/// How long freed memory may take to be given back.
const BACK: Duration = Duration::from_secs(30);
/// Memory that has not fallen for so long has come to rest.
const STEADY: Duration = Duration::from_secs(8);

fn config() -> String {
    OPEN.replace("[client]", "[client]\nping_interval = \"300s\"")
}

/// Channels of about 100 subscribers.
fn channel(index: usize) -> String {
    format!("room:{}", index % 150)
}

fn open(server: &Server, count: usize) -> Vec<TcpStream> {
    fleet::open(server.clients(), count, channel).unwrap_or_else(|e| panic!("{e}"))
}

/// Ends the fleet, and waits until the server has seen it.
fn leave(server: &Server, fleet: Vec<TcpStream>) {
    fleet::close(fleet);
    let none = || server.metrics().sum("realtime_active_connections") == Some(0.0);
    assert!(wait::until(PATIENCE, none), "the server still counts connections");
}

/// Waits until memory falls no more, and returns the least seen.
fn rests(server: &Server) -> u64 {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    wait::until(BACK, || {
        let now = server.rss();
        if now < least {
            (least, since) = (now, Instant::now());
        }
        since.elapsed() >= STEADY
    });
    least
}

fn per_cent_over(now: u64, start: u64) -> f64 {
    (now as f64 / start as f64 - 1.0) * 100.0
}

#[test]
fn idle_connections_are_cheap_and_give_all_back() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(&config());
    let cold = server.rss();
    let warm_fleet = open(&server, WARM);
    leave(&server, warm_fleet);
    let start = rests(&server);
    let limit = start + start / 5;

    let part = open(&server, IDLE / 3);
    let third = server.rss();
    let rest = open(&server, IDLE - IDLE / 3);
    let active = server.metrics().sum("realtime_active_connections");
    assert_eq!(active, Some(IDLE as f64), "void: not all are connected");
    let full = server.rss();
    let each = (full as f64 - third as f64) / (IDLE - IDLE / 3) as f64;
    fleet::close(part);
    leave(&server, rest);
    let after = rests(&server);

    let churning = Instant::now();
    let mut done = 0;
    while done < CHURN {
        let fleet = open(&server, 2_000);
        done += fleet.len();
        fleet::close(fleet);
    }
    leave(&server, Vec::new());
    let took = churning.elapsed();
    let established = server.metrics().labelled("realtime_connections_total", "established");
    assert!(established >= Some((WARM + IDLE + CHURN) as f64), "void: {established:?} established");
    let churned = rests(&server);

    let kib = |bytes: u64| bytes / 1024;
    println!(
        "memory: cold {} KiB, start {} KiB, {IDLE} idle {} KiB ({each:.0} bytes each), after \
         {} KiB ({:+.0} % of start, {:+.0} % of cold), after {done} more in {took:.0?} {} KiB \
         ({:+.0} %, {:+.0} %)",
        kib(cold),
        kib(start),
        kib(full),
        kib(after),
        per_cent_over(after, start),
        per_cent_over(after, cold),
        kib(churned),
        per_cent_over(churned, start),
        per_cent_over(churned, cold),
    );
    assert!(after <= limit, "{} KiB are kept after {IDLE} left", kib(after));
    assert!(churned <= limit, "{} KiB are kept after {done} came and left", kib(churned));
    assert_eq!(server.metrics().sum("plimsoll_panics_total"), Some(0.0));
}

/// Publications to the busy room, and their size.
const PUBLICATIONS: u64 = 1_200;
const PAYLOAD: usize = 4_000;
const READERS: usize = 100;

#[test]
fn slow_readers_are_cut_and_others_lose_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(&config());
    let address = server.clients();
    let mut publisher = Client::anonymous(address);
    let descriptors = server.metrics().sum("process_open_fds");
    let mut slow: Vec<Raw> = (0..READERS).map(|index| slow_reader(address, index)).collect();
    let good: Vec<_> = (0..READERS)
        .map(|_| {
            let mut client = Client::anonymous(address);
            client.subscribe("room:busy");
            thread::spawn(move || hear_all(&mut client))
        })
        .collect();
    let start = server.rss();
    let mut worst = start;
    let filler = "x".repeat(PAYLOAD);
    for n in 1..=PUBLICATIONS {
        let params = json!({ "channel": "room:busy", "data": { "n": n, "x": filler } });
        let reply = publisher.call("publish", &params).unwrap_or_else(|e| panic!("{n}: {e}"));
        assert!(reply.get("publish").is_some(), "{reply}");
        if n % 10 == 0 {
            worst = worst.max(server.rss());
        }
    }
    for reader in good {
        let outcome = reader.join().expect("a reader did not panic");
        outcome.unwrap_or_else(|e| panic!("a good reader: {e}"));
    }
    // All of it is more than kernel and queue hold for one: each slow one must be cut.
    let cut = |server: &Server| server.metrics().sum("realtime_active_connections") <= Some(1.0);
    let all = wait::until(Duration::from_secs(15), || cut(&server));
    worst = worst.max(server.rss());
    let active = server.metrics().sum("realtime_active_connections");
    assert!(all, "{active:?} connections are left: slow ones were not cut");
    let cut_for = |reason: &str| {
        let label = format!("error_type=\"{reason}\"");
        server.metrics().labelled("realtime_delivery_errors_total", &label).unwrap_or(0.0)
    };
    assert_eq!(cut_for("slow") + cut_for("write_error"), READERS as f64, "cut as slow");
    // A socket of 2 KiB takes minutes to be read to its end; the server's side tells enough.
    let freed = || server.metrics().sum("process_open_fds") <= descriptors;
    assert!(
        wait::until(PATIENCE, freed),
        "sockets of closed connections are kept: {:?} descriptors, {descriptors:?} before",
        server.metrics().sum("process_open_fds")
    );
    let readable = slow.iter_mut().step_by(2);
    let endings: Vec<Ending> = readable.map(|raw| raw.ending(PATIENCE)).collect();
    for ending in &endings {
        let fits = matches!(ending, Ending::Code(3008 | 3009) | Ending::Plain);
        assert!(fits, "a slow reader was ended by {ending:?}");
    }
    let grown = worst - start;
    println!(
        "slow readers: {READERS} cut, {} of {} told a code; good ones had all of {PUBLICATIONS}; \
         memory at most +{} KiB",
        endings.iter().filter(|e| matches!(e, Ending::Code(_))).count(),
        endings.len(),
        grown / 1024
    );
    // One queue of 1 MiB each, and a third for what the allocator needs.
    let bound = (READERS as u64) * (1 << 20) * 4 / 3;
    assert!(grown <= bound, "memory grew by {} KiB, the bound is {}", grown / 1024, bound / 1024);
    assert_eq!(server.metrics().sum("plimsoll_panics_total"), Some(0.0));
}

/// Subscribes and never reads again; every other one with a tiny receive buffer.
fn slow_reader(address: SocketAddr, index: usize) -> Raw {
    let mut raw = Raw::connected(address);
    if index % 2 == 1 {
        let _ = socket2::SockRef::from(raw.stream()).set_recv_buffer_size(2 * 1024);
    }
    raw.send(&raw::text(r#"{"id":2,"subscribe":{"channel":"room:busy"}}"#));
    raw.frame(PATIENCE).expect("a reply to the subscribe");
    raw
}

/// Reads until the last publication; all must come, in order.
fn hear_all(client: &mut Client) -> Result<(), String> {
    for n in 1..=PUBLICATIONS {
        let Event::Line(line) = client.next_line(PATIENCE) else {
            return Err(format!("nothing instead of {n} (closed: {:?})", client.last_close()));
        };
        let value: serde_json::Value = serde_json::from_str(&line).map_err(|e| e.to_string())?;
        if value.pointer("/push/pub/data/n").and_then(serde_json::Value::as_u64) != Some(n) {
            return Err(format!("{} instead of {n}", &line[..line.len().min(200)]));
        }
    }
    Ok(())
}
