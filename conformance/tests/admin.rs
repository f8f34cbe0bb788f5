//! The admin listener: true figures, and answers while the workers have no time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::OPEN;
use plimsoll_conformance::client::{Client, Event, PATIENCE};
use plimsoll_conformance::fleet;
use plimsoll_conformance::http;
use plimsoll_conformance::metrics::Scrape;
use plimsoll_conformance::server::Server;
use plimsoll_conformance::wait;
use serde_json::{Value, json};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

static TURN: Mutex<()> = Mutex::new(());

/// The names that dashboards and alerts rely on, as far as a node without a backbone has them.
const NAMES: [&str; 14] = [
    "realtime_active_connections",
    "realtime_connection_capacity",
    "realtime_connections_total",
    "realtime_connection_duration_seconds_bucket",
    "realtime_connection_duration_seconds_count",
    "realtime_messages_received_total",
    "realtime_messages_sent_total",
    "realtime_message_delivery_latency_ms_bucket",
    "realtime_message_delivery_latency_ms_count",
    "realtime_message_queue_depth",
    "realtime_fanout_recipients_bucket",
    "realtime_delivery_errors_total",
    "realtime_presence_updates_total",
    "realtime_online_users",
];

#[test]
fn metrics_have_their_names_and_health_is_told() {
    let server = Server::start(OPEN);
    let mut client = Client::anonymous(server.clients());
    client.subscribe("room:a");
    let scrape = server.metrics();
    let families = scrape.families();
    let missing: Vec<&&str> = NAMES.iter().filter(|n| !families.contains(**n)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}; there are {families:?}");
    for status in ["established", "closed", "rejected", "error"] {
        let label = format!("status=\"{status}\"");
        let value = scrape.labelled("realtime_connections_total", &label);
        assert!(value.is_some(), "realtime_connections_total has no {label}");
    }
    for path in ["/health", "/ready"] {
        let response = http::get(server.admin(), path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
    }
    let status = http::get(server.admin(), "/admin/status");
    assert_eq!(status.status, 200, "{}", status.text());
    let status: Value = serde_json::from_str(&status.text()).expect("/admin/status is JSON");
    for key in ["version", "workers", "connections", "channels"] {
        assert!(status.get(key).is_some(), "/admin/status has no {key}: {status}");
    }
    assert_eq!(http::get(server.admin(), "/nosuch").status, 404);
}

const SUBSCRIBERS: u64 = 20;
const PUBLICATIONS: u64 = 50;

#[test]
fn metrics_are_what_happened() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(OPEN);
    let address = server.clients();
    let before = server.metrics();
    let mut publisher = Client::anonymous(address);
    let mut subscribers: Vec<Client> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut client = Client::anonymous(address);
            client.subscribe("room:counted");
            client
        })
        .collect();
    let connected = server.metrics();
    let active = connected.sum("realtime_active_connections");
    assert_eq!(active, Some((SUBSCRIBERS + 1) as f64));
    let established = |s: &Scrape| {
        s.labelled("realtime_connections_total", "status=\"established\"").unwrap_or(f64::NAN)
    };
    assert_eq!(established(&connected) - established(&before), (SUBSCRIBERS + 1) as f64);
    assert_eq!(connected.growth(&before, "realtime_messages_received_total"), commands(0));

    // Half by a client (each gets a reply as well), half by the API (no reply on a WebSocket).
    for n in 0..PUBLICATIONS {
        let params = json!({ "channel": "room:counted", "data": n });
        if n % 2 == 0 {
            publisher.call("publish", &params).unwrap();
        } else {
            server.api("publish", &params);
        }
    }
    for client in &mut subscribers {
        for n in 0..PUBLICATIONS {
            let push = client.push(PATIENCE).expect("a publication");
            assert_eq!(push.pointer("/push/pub/data"), Some(&json!(n)), "{push}");
        }
    }
    let deliveries = (PUBLICATIONS * SUBSCRIBERS) as f64;
    let by_client = (PUBLICATIONS / 2) as f64;
    // A counter may be added to just after the write that it counts.
    let mut now = server.metrics();
    wait::until(PATIENCE, || {
        now = server.metrics();
        now.growth(&connected, "realtime_message_delivery_latency_ms_count") >= deliveries
            && now.growth(&connected, "realtime_messages_sent_total") >= deliveries + by_client
    });
    assert_eq!(now.growth(&before, "realtime_messages_received_total"), commands(PUBLICATIONS / 2));
    assert_eq!(now.growth(&connected, "realtime_messages_sent_total"), deliveries + by_client);
    let latencies = now.growth(&connected, "realtime_message_delivery_latency_ms_count");
    assert_eq!(latencies, deliveries);
    let fanned = now.growth(&connected, "realtime_fanout_recipients_count");
    assert!(fanned >= PUBLICATIONS as f64, "{fanned} publications were fanned out");
    assert_eq!(now.growth(&connected, "realtime_fanout_recipients_sum"), deliveries);

    drop(subscribers);
    drop(publisher);
    let gone = || server.metrics().sum("realtime_active_connections") == Some(0.0);
    assert!(wait::until(PATIENCE, gone), "connections that are gone are counted");
    let after = server.metrics();
    let durations = after.growth(&before, "realtime_connection_duration_seconds_count");
    assert_eq!(durations, (SUBSCRIBERS + 1) as f64);
    assert_eq!(after.sum("realtime_message_queue_depth"), Some(0.0));
}

/// Connects, subscribes and this many publishes.
fn commands(publishes: u64) -> f64 {
    (SUBSCRIBERS + 1 + SUBSCRIBERS + publishes) as f64
}

const CROWD: usize = 1_000;
const SCRAPES: usize = 60;

#[test]
fn the_admin_listener_answers_while_workers_are_saturated() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Each of the crowd gets megabytes a second: a reader that hangs for a moment is not cut.
    let client = "[client]\nmessage_rate_limit = 0\nqueue_max_size = \"64MiB\"";
    let server = Server::start(&OPEN.replace("[client]", client));
    let address = server.clients();
    let crowd = fleet::open(address, CROWD, |_| "room:crowd".to_owned());
    let crowd = crowd.unwrap_or_else(|e| panic!("{e}"));
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let read_bytes = Arc::new(AtomicU64::new(0));
    let reader = {
        let (stop, read_bytes) = (Arc::clone(&stop), Arc::clone(&read_bytes));
        thread::spawn(move || drain(crowd, &stop, &read_bytes))
    };
    let publisher = {
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let (client, read_bytes) = (Client::anonymous(address), Arc::clone(&read_bytes));
        thread::spawn(move || publish_hard(client, &stop, &acknowledged, &read_bytes))
    };
    let busy = wait::until(PATIENCE, || acknowledged.load(Ordering::Acquire) > 50);
    assert!(busy, "void: no publications");
    let (before, start) = (server.metrics(), Instant::now());
    let read_before = read_bytes.load(Ordering::Acquire);
    let mut times = Vec::new();
    for n in 0..SCRAPES {
        let path = ["/metrics", "/health", "/admin/status"][n % 3];
        let asked = Instant::now();
        let response = http::get(server.admin(), path);
        times.push(asked.elapsed());
        assert_eq!(response.status, 200, "{path}");
        thread::sleep(Duration::from_millis(30));
    }
    let (after, took) = (server.metrics(), start.elapsed());
    let read_in_all = read_bytes.load(Ordering::Acquire);
    stop.store(true, Ordering::Release);
    publisher.join().expect("the publisher did not panic");
    reader.join().expect("the reader did not panic");
    let sent = after.growth(&before, "realtime_messages_sent_total");
    let rate = sent / took.as_secs_f64();
    let left = after.sum("realtime_active_connections");
    assert_eq!(left, Some((CROWD + 1) as f64), "void: the crowd was cut");
    // What the crowd has read bears the counter out.
    let read = (read_in_all - read_before) as f64 / took.as_secs_f64();
    assert!(
        read >= rate * BYTES_MIN as f64 * 0.8,
        "{rate:.0} deliveries/s counted, {read:.0} bytes/s read"
    );
    assert!(rate > 10_000.0, "void: only {rate:.0} deliveries/s");
    times.sort();
    let (median, slowest) = (times[SCRAPES / 2], times[SCRAPES - 1]);
    println!(
        "admin: at {rate:.0} deliveries/s median {median:?}, slowest {slowest:?}, {:.0} MB/s read",
        read / 1e6
    );
    assert!(median < Duration::from_millis(100), "median {median:?}, slowest {slowest:?}");
}

/// Publications in one frame, bytes of each (and more), frames that the crowd may lag behind.
const BATCH: u64 = 64;
const BYTES_MIN: u64 = 200;
const LAG: u64 = 8;

/// Publishes as fast as the crowd can read, until told to stop.
fn publish_hard(
    mut client: Client,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
    read_bytes: &AtomicU64,
) {
    let publish = |id: u32| {
        format!(r#"{{"id":{id},"publish":{{"channel":"room:crowd","data":"{id:0200}"}}}}"#)
    };
    let mut batches: u64 = 0;
    while !stop.load(Ordering::Acquire) {
        // On a machine that has no time for the readers they must not be cut for it.
        let read = batches.saturating_sub(LAG) * BATCH * CROWD as u64 * BYTES_MIN;
        if read_bytes.load(Ordering::Acquire) < read {
            thread::yield_now();
            continue;
        }
        batches += 1;
        let ids: Vec<u32> = (0..BATCH).map(|_| client.next_id()).collect();
        let frame: Vec<String> = ids.iter().map(|id| publish(*id)).collect();
        client.send(&frame.join("\n")).expect("publications are taken");
        for _ in ids {
            match client.next_line(PATIENCE) {
                Event::Line(_) => acknowledged.fetch_add(1, Ordering::AcqRel),
                other => panic!("instead of a reply: {other:?}"),
            };
        }
    }
}

/// Reads and forgets what comes on all connections.
fn drain(mut crowd: Vec<std::net::TcpStream>, stop: &AtomicBool, read_bytes: &AtomicU64) {
    let mut piece = vec![0; 256 * 1024];
    for stream in &crowd {
        stream.set_nonblocking(true).expect("a socket is switched");
    }
    while !stop.load(Ordering::Acquire) {
        let mut idle = true;
        for stream in &mut crowd {
            if let Ok(n @ 1..) = stream.read(&mut piece) {
                idle = false;
                read_bytes.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::AcqRel);
            }
        }
        if idle {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
