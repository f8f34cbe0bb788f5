//! What the bridge counts. One thread writes: that of the bridge.

use crate::telemetry::stats::{Cell, Histogram};

/// Upper bounds of `realtime_pubsub_publish_latency_ms`.
pub const PUBLISH_MS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0];
/// Upper bounds of `plimsoll_pubsub_lag_ms`.
pub const LAG_MS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 1_000.0, 10_000.0];
/// Upper bounds of `plimsoll_pubsub_batch_size`.
pub const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Everything the bridge counts.
#[derive(Debug)]
pub struct BridgeFigures {
    /// From the handing over of a publication to its acknowledgement.
    pub publish_ms: Histogram,
    /// From the publication time (of the publishing node's clock) to the receipt.
    pub lag_ms: Histogram,
    /// Publications of one call.
    pub batch: Histogram,
    /// Acknowledged publications.
    pub published: Cell,
    /// Refused for certain.
    pub refused: Cell,
    /// Without an answer.
    pub unknown: Cell,
    /// Refused without asking, since the breaker was open.
    pub broken: Cell,
    /// Deliveries received.
    pub received: Cell,
    /// Their bytes.
    pub received_bytes: Cell,
    /// What was not ours, by the reason.
    pub garbage: [Cell; GARBAGE.len()],
    /// Deliveries dropped because a worker did not keep up.
    pub dropped: Cell,
    /// Gaps that the adapter reported.
    pub gaps: Cell,
    /// Channels read again.
    pub reads: Cell,
    /// Channels opened.
    pub opens: Cell,
    /// Openings that failed.
    pub opens_failed: Cell,
    /// Channels given back.
    pub closes: Cell,
    /// Changes of presence that wait to be noted.
    pub presence_waiting: Cell,
}

/// Reasons of garbage, the last one for all others.
pub const GARBAGE: [&str; 6] = ["malformed", "version", "field", "signature", "too_large", "other"];

impl Default for BridgeFigures {
    fn default() -> Self {
        Self {
            publish_ms: Histogram::new(PUBLISH_MS),
            lag_ms: Histogram::new(LAG_MS),
            batch: Histogram::new(BATCH),
            published: Cell::default(),
            refused: Cell::default(),
            unknown: Cell::default(),
            broken: Cell::default(),
            received: Cell::default(),
            received_bytes: Cell::default(),
            garbage: Default::default(),
            dropped: Cell::default(),
            gaps: Cell::default(),
            reads: Cell::default(),
            opens: Cell::default(),
            opens_failed: Cell::default(),
            closes: Cell::default(),
            presence_waiting: Cell::default(),
        }
    }
}

impl BridgeFigures {
    /// Counts something that was not ours.
    pub fn count_garbage(&self, why: &str) {
        let at = GARBAGE.iter().position(|g| *g == why).unwrap_or(GARBAGE.len() - 1);
        if let Some(cell) = self.garbage.get(at) {
            cell.add(1);
        }
    }
}
