//! What books of ten million deliveries take: bytes of the logs, and memory with the judgement.
//!
//! `cargo run --release -p plimsoll-bench --example ledger_size -- [fan-out, 10] [threads, 4]`

use plimsoll_bench::ledger::{
    Channel, Ledger, Outcome, Position, Recorder, Run, Stamp, Stored, Subscribed, Via, judge,
};
use std::time::Instant;

const DELIVERIES: u32 = 10_000_000;
const CLIENTS: u32 = 10_000;
/// A publication in so many microseconds.
const EVERY_US: u64 = 200;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|n| n.parse::<u32>().ok());
    let fan_out = arguments.next().unwrap_or(10).clamp(1, CLIENTS);
    let threads = arguments.next().unwrap_or(4).clamp(1, 64);
    let begin = Instant::now();
    let ledger = books(fan_out, threads as usize);
    let recorded = begin.elapsed();
    let bytes: usize = ledger.logs.iter().map(|log| log.bytes()).sum();
    let begin = Instant::now();
    let verdict = judge(&ledger);
    let judged = begin.elapsed();
    println!("{verdict}");
    println!(
        "fan-out {fan_out}: {:.1} bytes a delivery, all records counted; {:.0} ns a record \
         (with making it up); judged in {judged:.1?}; most memory of the process: {} MiB",
        bytes as f64 / f64::from(DELIVERIES),
        recorded.as_nanos() as f64 / f64::from(DELIVERIES + 2 * DELIVERIES / fan_out),
        memory_mib(),
    );
}

/// Rooms of `fan_out` clients each, a random member publishes, everybody gets it.
fn books(fan_out: u32, threads: usize) -> Ledger {
    let mut random = fastrand::Rng::with_seed(1);
    let rooms = CLIENTS / fan_out;
    let mut recorders: Vec<Recorder> = (0..threads).map(|_| Recorder::default()).collect();
    let of = |client: u32| client as usize % threads;
    for client in 0..rooms * fan_out {
        let position = Some(Position { epoch: "epoch", offset: 0 });
        let reply = Subscribed { asked: None, position, recovered: false, was_recovering: false };
        recorders[of(client)].subscribed(0, client, client / fan_out, reply);
    }
    let mut offsets = vec![0; rooms as usize];
    let mut sequences = vec![0; (rooms * fan_out) as usize];
    let mut at_us = 1;
    for _ in 0..DELIVERIES / fan_out {
        let room = random.u32(0..rooms);
        let publisher = room * fan_out + random.u32(0..fan_out);
        let (offset, sequence) = (&mut offsets[room as usize], &mut sequences[publisher as usize]);
        *offset += 1;
        *sequence += 1;
        let stamp = Stamp { publisher, sequence: *sequence, due_us: at_us, crc: random.u32(..) };
        recorders[of(publisher)].published(at_us, room, stamp);
        for (n, client) in (room * fan_out..(room + 1) * fan_out).enumerate() {
            // A read brings some; then the clock is looked at again.
            let later = at_us + 50 + n as u64 / 8;
            let recorder = &mut recorders[of(client)];
            recorder.received(later, client, room, *offset, Some(stamp), Via::Live);
        }
        let outcome = Outcome::Acknowledged;
        recorders[of(publisher)].answered(at_us + 50, publisher, *sequence, outcome);
        at_us += random.u64(0..2 * EVERY_US);
    }
    let stored = (0..rooms).map(|channel| Stored {
        channel,
        epoch: "epoch".into(),
        top: offsets[channel as usize],
        publications: Vec::new(),
    });
    Ledger {
        run: Run::new("size", 0, at_us + 20_000_000),
        channels: (0..rooms)
            .map(|n| Channel { name: format!("room:{n}").into(), history: true })
            .collect(),
        stored: stored.collect(),
        logs: recorders.into_iter().map(Recorder::finish).collect(),
        comparisons: Vec::new(),
    }
}

/// The most that the process has had, as the kernel says.
fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
