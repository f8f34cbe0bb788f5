//! Fan-out against a running server: rooms of members, a rate of deliveries, and what it costs.
//!
//! `cargo run --release --example fanout --
//! ADDRESS ROOMS MEMBERS DELIVERIES_PER_S SECONDS [THREADS]`

use plimsoll_bench::fleet::{Fleet, FleetConfig, Load, Stream, Target};
use plimsoll_bench::topology::Topology;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a payload.
const BYTES: u32 = 200;

fn number(at: usize, default: u32) -> u32 {
    std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("which address?")?;
    let (rooms, members, deliveries) = (number(2, 1), number(3, 1_000), number(4, 50_000));
    let topology = Arc::new(Topology::rooms("room", rooms, members));
    let target = Target {
        address: address.parse()?,
        host: address.clone(),
        path: "/connection/websocket".into(),
    };
    let config = FleetConfig {
        threads: number(6, 1) as usize,
        sources: 4,
        ledger: std::env::var_os("LEDGER").is_some(),
        ..FleetConfig::new(target, topology)
    };
    let fleet = Fleet::start(config)?;
    let clients = rooms * members;
    let mut load = Load { clients, ..Load::default() };
    fleet.apply(&load);
    let all = u64::from(clients);
    if !fleet.wait(Duration::from_secs(60), &mut |now| now.subscribed == all) {
        println!("not all came: {:?}", fleet.counters().failures);
    }
    let connected = fleet.counters();
    let rss = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = rss.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    println!(
        "{} connected, p99 {} us, {} us of CPU each, {} bytes of RSS each",
        connected.connected,
        connected.connect_us.value_at_quantile(0.99),
        connected.cpu_us / all.max(1),
        pages * 4_096 / all.max(1),
    );
    load.streams = vec![Stream {
        per_s: f64::from(deliveries) / f64::from(members.max(1)),
        bytes: BYTES..BYTES,
        channels: 0..rooms,
        by: (rooms == 1).then_some(0),
    }];
    fleet.apply(&load);
    std::thread::sleep(Duration::from_secs(number(5, 5).into()));
    load.streams.clear();
    fleet.apply(&load);
    fleet.wait(Duration::from_secs(5), &mut |now| now.deliveries >= now.deliveries_due);
    let run = fleet.counters().since(&connected);
    println!(
        "{} of {} deliveries, {:.3} us of CPU each, {:.2} a read, latency p50 {} p99 {} us, \
         late p99 {} us",
        run.deliveries,
        run.deliveries_due,
        run.cpu_us as f64 / run.deliveries.max(1) as f64,
        run.deliveries as f64 / run.reads.max(1) as f64,
        run.latency_us.value_at_quantile(0.5),
        run.latency_us.value_at_quantile(0.99),
        run.late_us.value_at_quantile(0.99),
    );
    let finished = fleet.finish();
    println!("unreached {} of {}, {:?}", finished.unreached, finished.probed, finished.examples);
    Ok(())
}
