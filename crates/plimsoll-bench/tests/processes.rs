//! A fleet of several processes. They are started from this very program, which therefore has a
//! main function of its own: called `bench agent`, it is one of them.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod server;

use plimsoll_bench::fleet::reconnect::Profile;
use plimsoll_bench::fleet::{self, Counters, Fleet, FleetConfig, Load, Stream, Target};
use plimsoll_bench::topology::Topology;
use server::{Manner, Server};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CLIENTS: u32 = 30;

fn main() -> ExitCode {
    if std::env::args().skip(1).eq(["bench".to_owned(), "agent".to_owned()]) {
        return fleet::agent();
    }
    three_processes_are_one_fleet();
    println!("test three_processes_are_one_fleet ... ok");
    who_drops_a_fleet_leaves_no_process();
    println!("test who_drops_a_fleet_leaves_no_process ... ok");
    ExitCode::SUCCESS
}

fn started(server: &Server) -> Fleet {
    let target = Target {
        address: server.address,
        host: "test".into(),
        path: "/connection/websocket".into(),
    };
    let topology = Topology::rooms("room:", 3, CLIENTS / 3);
    let config = FleetConfig {
        processes: 3,
        threads: 2,
        reconnect: Profile::Phoenix,
        ledger: true,
        ..FleetConfig::new(target, Arc::new(topology))
    };
    Fleet::start(config).unwrap()
}

#[track_caller]
fn until(fleet: &Fleet, condition: impl Fn(&Counters) -> bool) -> Counters {
    let came = fleet.wait(Duration::from_secs(30), &mut |counters| condition(counters));
    let now = fleet.counters();
    let failures = &now.failures;
    assert!(
        came,
        "connected {} of {CLIENTS}, published {}, acknowledged {}, deliveries {} of {}, \
         {failures:?}",
        now.connected, now.published, now.acknowledged, now.deliveries, now.deliveries_due
    );
    now
}

fn three_processes_are_one_fleet() {
    let server = Server::start(Manner::Good);
    let fleet = started(&server);
    let mut load = Load { clients: CLIENTS, ..Load::default() };
    fleet.apply(&load);
    until(&fleet, |now| now.subscribed == u64::from(CLIENTS));
    let stream = Stream { per_s: 300.0, bytes: 100..300, channels: 0..3, by: None };
    load.streams = vec![stream];
    fleet.apply(&load);
    until(&fleet, |now| now.published >= 100);
    load.streams.clear();
    fleet.apply(&load);
    let now = until(&fleet, |now| {
        now.acknowledged == now.published && now.deliveries == now.deliveries_due
    });
    assert_eq!(now.deliveries, 10 * now.published);
    assert_eq!(now.latency_us.len(), now.deliveries);
    fleet.drop_all();
    until(&fleet, |now| now.recoveries[0] == u64::from(CLIENTS));
    let finished = fleet.finish();
    assert_eq!((finished.probed, finished.unreached), (30, 0));
    assert_eq!((finished.logs.len(), finished.broken_threads), (6, 0));
    assert!(finished.logs.iter().all(|log| log.bytes() > 0));
    assert_eq!(finished.counters.connected, 0);
    assert_eq!(server.seen().goodbyes.load(Ordering::Relaxed), u64::from(CLIENTS));
}

fn who_drops_a_fleet_leaves_no_process() {
    let server = Server::start(Manner::Good);
    let fleet = started(&server);
    fleet.apply(&Load { clients: CLIENTS, ..Load::default() });
    until(&fleet, |now| now.connected == u64::from(CLIENTS));
    assert_eq!(children(), 3);
    // It waits for its children.
    drop(fleet);
    assert_eq!(children(), 0);
}

/// Processes that this thread has started and that have not been waited for.
fn children() -> usize {
    std::fs::read_to_string("/proc/thread-self/children").unwrap().split_whitespace().count()
}
