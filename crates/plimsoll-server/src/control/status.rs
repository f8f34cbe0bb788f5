//! `/admin/status`: the state of the node in one object.

use crate::node::Node;
use crate::telemetry::memory;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What happened per second, over the last second.
#[derive(Default)]
pub struct Rates {
    values: [AtomicU64; 4],
}

/// Counters whose rates are told, in the order of `Rates::values`.
const RATED: [&str; 4] = ["messages_in", "messages_out", "connects", "bytes_out"];

impl Rates {
    /// Samples once a second for ever.
    pub fn spawn(node: Arc<Node>) -> Arc<Self> {
        let rates = Arc::new(Self::default());
        let sampled = Arc::clone(&rates);
        tokio::spawn(async move {
            let mut before = (Instant::now(), totals(&node));
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = (Instant::now(), totals(&node));
                let seconds = now.0.duration_since(before.0).as_secs_f64().max(0.001);
                for ((cell, a), b) in sampled.values.iter().zip(before.1).zip(now.1) {
                    let rate = b.saturating_sub(a) as f64 / seconds;
                    cell.store(rate.round() as u64, Ordering::Relaxed);
                }
                before = now;
            }
        });
        rates
    }
}

fn totals(node: &Node) -> [u64; 4] {
    let sum = |pick: fn(&crate::telemetry::stats::WorkerStats) -> u64| {
        node.stats.iter().map(|s| pick(s)).sum()
    };
    [
        sum(|s| s.messages_in.get()),
        sum(|s| s.messages_out.get()),
        sum(|s| s.established.get()),
        sum(|s| s.bytes_out.get()),
    ]
}

/// What is lost when this node ends.
const LOSS_WINDOW: &str = "history, presence and positions live in this process and end with it";

/// The object.
pub fn render(node: &Node, rates: &Rates) -> String {
    let rates: serde_json::Map<String, serde_json::Value> = RATED
        .iter()
        .zip(&rates.values)
        .map(|(name, v)| (format!("{name}_per_second"), v.load(Ordering::Relaxed).into()))
        .collect();
    let workers: Vec<_> = node
        .stats
        .iter()
        .map(|s| {
            json!({
                "connections": s.active.get(),
                "subscriptions": s.subscriptions.get(),
                "channels": s.channels_local.get(),
                "queued_bytes": s.queued_bytes.get(),
                "turns": s.turns.get(),
            })
        })
        .collect();
    let channels: u64 = node.stats.iter().map(|s| s.channels_home.get()).sum();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "name": node.name,
        "uid": node.uid,
        "started_at": node.started_unix_s,
        "uptime_seconds": node.started.elapsed().as_secs(),
        "stopping": node.is_stopping(),
        "workers": workers,
        "connections": node.population.connections(),
        "users": node.population.users(),
        "channels": channels,
        "rates": rates,
        "memory": { "resident_bytes": memory::resident_bytes() },
        "loss_window": LOSS_WINDOW,
    });
    format!("{status:#}\n")
}
