//! Figures of one worker: plain cells that only it writes and the scraper reads.
//!
//! A load and a store without a lock prefix each: the price of a counter on the hot path.

use crate::load::lag::LagMeter;
use plimsoll_core::quota::{LIMITS_COUNT, Limit};
use plimsoll_core::tier::Tier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the owning thread may.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes away; only the owning thread may.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).saturating_sub(n), Relaxed);
    }

    /// Replaces; only the owning thread may.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Reads, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram with fixed upper bounds and one writer.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[Cell]>,
    /// Sum of the values in millionths.
    sum_micros: Cell,
}

impl Histogram {
    /// Empty; one more bucket than bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| Cell::default()).collect();
        Self { bounds, counts, sum_micros: Cell::default() }
    }

    /// Counts `times` observations of `value`.
    pub fn observe(&self, value: f64, times: u64) {
        let at = self.bounds.iter().position(|b| value <= *b).unwrap_or(self.bounds.len());
        if let Some(cell) = self.counts.get(at) {
            cell.add(times);
        }
        self.sum_micros.add((value * 1e6) as u64 * times);
    }

    /// Upper bounds.
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Observations by bucket, the last one above all bounds.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().map(Cell::get)
    }

    /// Sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum_micros.get() as f64 / 1e6
    }
}

/// Upper bounds of `realtime_connection_duration_seconds`.
pub const DURATION_S: &[f64] = &[1.0, 10.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0];
/// Upper bounds of `realtime_message_delivery_latency_ms`.
pub const LATENCY_MS: &[f64] = &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0];
/// Upper bounds of `realtime_fanout_recipients`.
pub const RECIPIENTS: &[f64] = &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0];

/// Picks a figure of a worker.
pub type CellOf = fn(&WorkerStats) -> &Cell;

/// What a worker counts of read marks.
#[derive(Debug, Default)]
pub struct MarkStats {
    /// Those that rose.
    pub risen: Cell,
    /// Those not above the last one of their user.
    pub old: Cell,
    /// Those refused.
    pub refused: Cell,
    /// Publications that told some.
    pub pushes: Cell,
}

/// What a worker counts of channels that live on a backbone.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// Holes in the offsets of the backbone.
    pub gaps: Cell,
    /// Publications read to fill them.
    pub healed: Cell,
    /// Publications of the backbone that came twice.
    pub repeated: Cell,
    /// Channels whose subscribers were told that something is missing.
    pub lost: Cell,
    /// Members of nodes that went silently.
    pub ghosts: Cell,
}

/// Everything one worker counts.
#[derive(Debug)]
pub struct WorkerStats {
    /// How late the loop is.
    pub lag: LagMeter,
    /// WebSocket connections now.
    pub active: Cell,
    /// Upgrades completed.
    pub established: Cell,
    /// Connections ended in a regular way.
    pub closed: Cell,
    /// Requests for an upgrade refused.
    pub rejected: Cell,
    /// Connections ended by a violation or a broken socket.
    pub errors: Cell,
    /// Sockets accepted, whatever became of them.
    pub accepted: Cell,
    /// Pauses of accepting because no descriptor was left for clients.
    pub accept_pauses: Cell,
    /// Lifetimes.
    pub duration_s: Histogram,
    /// Commands received.
    pub messages_in: Cell,
    /// Bytes received on WebSocket connections.
    pub bytes_in: Cell,
    /// Messages sent: publications, replies, pushes and pings.
    pub messages_out: Cell,
    /// Bytes given to the kernel or queued for it.
    pub bytes_out: Cell,
    /// Publications appended at this home.
    pub publications: Cell,
    /// Bytes of their payloads.
    pub publication_bytes: Cell,
    /// Publications delivered to subscribers.
    pub deliveries: Cell,
    /// Slices in which channels with very many subscribers were written.
    pub hot_slices: Cell,
    /// Connections accepted and not connected yet.
    pub handshakes: Cell,
    /// Connects, whatever became of them; each connection counts once.
    pub connects: Cell,
    /// Those of them that came back: they asked for what they missed.
    pub connects_back: Cell,
    /// Times that spare memory was given back in an emergency.
    pub memory_given_back: Cell,
    /// Recoveries that wait for their turn now.
    pub recoveries_waiting: Cell,
    /// Recoveries that were told to ask again.
    pub recoveries_deferred: Cell,
    /// Age of the oldest queued frame of a connection, 99th percentile, in milliseconds.
    pub oldest_frame_age_ms: Cell,
    /// Connects that wait at the door now.
    pub parked: Cell,
    /// Connects refused at the door.
    pub connects_refused: Cell,
    /// Connections now by tier.
    pub tier_free: Cell,
    /// See above.
    pub tier_pro: Cell,
    /// See above.
    pub tier_enterprise: Cell,
    /// Tokens whose tier is none.
    pub tiers_unknown: Cell,
    /// Connections closed because the user did nothing for as long as the tier allows.
    pub idle_closed: Cell,
    /// Idle connections closed because of the load.
    pub idle_shed: Cell,
    /// Commands refused because somebody is over a limit, by limit.
    pub limited: [Cell; LIMITS_COUNT],
    /// Publications refused because the worker could not keep up.
    pub publications_refused: Cell,
    /// Ephemeral publications that came too soon after another one of the same client.
    pub ephemeral_throttled: Cell,
    /// Ephemeral publications not queued for a connection that was behind.
    pub dropped_ephemeral: Cell,
    /// States replaced by newer ones before a slow connection got them.
    pub conflated: Cell,
    /// Channels of a connection of which something was left out because it was too slow.
    pub fell_behind: Cell,
    /// From receipt of a publication to the write that carried it.
    pub latency_ms: Histogram,
    /// Local subscribers of each publication.
    pub recipients: Histogram,
    /// Bytes queued for sockets that are full.
    pub queued_bytes: Cell,
    /// Messages or parts of them queued for sockets that are full.
    pub queued_chunks: Cell,
    /// Joins and leaves told.
    pub presence_updates: Cell,
    /// Joins and leaves not told because the member was back in time.
    pub presence_debounced: Cell,
    /// Joins and leaves not told because they undid each other.
    pub presence_coalesced: Cell,
    /// Joins and leaves of which at most the number of members was told.
    pub presence_suppressed: Cell,
    /// Read marks.
    pub marks: MarkStats,
    /// Channels that live on a backbone.
    pub link: LinkStats,
    /// Recoveries that were complete.
    pub recovered: Cell,
    /// Recoveries that were told to be incomplete.
    pub not_recovered: Cell,
    /// Connections that recovered a subscription soon after their start.
    pub reconnects: Cell,
    /// Error replies.
    pub error_replies: Cell,
    /// Connections cut because they did not keep up (3008).
    pub slow: Cell,
    /// Connections cut because the socket took nothing (3009).
    pub write_errors: Cell,
    /// Connections cut for bad input (3501 and WebSocket violations).
    pub bad_input: Cell,
    /// Publications refused because a worker's mailbox was full.
    pub congested: Cell,
    /// Gaps found between home and subscribers.
    pub gaps: Cell,
    /// Panics caught.
    pub panics: Cell,
    /// Subscriptions now.
    pub subscriptions: Cell,
    /// Channels with local subscribers now.
    pub channels_local: Cell,
    /// Channels with state at this home now.
    pub channels_home: Cell,
    /// Turns of the loop.
    pub turns: Cell,
    /// Log lines about connections held back by the rate limit.
    pub log_lines_suppressed: Cell,
}

impl WorkerStats {
    /// Refusals by a limit.
    pub fn of_limit(&self, limit: Limit) -> &Cell {
        &self.limited[limit as usize]
    }

    /// Connections of a tier.
    pub fn of_tier(&self, tier: Tier) -> &Cell {
        match tier {
            Tier::Free => &self.tier_free,
            Tier::Pro => &self.tier_pro,
            Tier::Enterprise => &self.tier_enterprise,
        }
    }
}

impl Default for WorkerStats {
    fn default() -> Self {
        let c = Cell::default;
        Self {
            lag: LagMeter::default(),
            active: c(),
            established: c(),
            closed: c(),
            rejected: c(),
            errors: c(),
            accepted: c(),
            accept_pauses: c(),
            duration_s: Histogram::new(DURATION_S),
            messages_in: c(),
            bytes_in: c(),
            messages_out: c(),
            bytes_out: c(),
            publications: c(),
            publication_bytes: c(),
            deliveries: c(),
            hot_slices: c(),
            handshakes: c(),
            connects: c(),
            connects_back: c(),
            memory_given_back: c(),
            recoveries_waiting: c(),
            recoveries_deferred: c(),
            oldest_frame_age_ms: c(),
            parked: c(),
            connects_refused: c(),
            tier_free: c(),
            tier_pro: c(),
            tier_enterprise: c(),
            tiers_unknown: c(),
            idle_closed: c(),
            idle_shed: c(),
            limited: Default::default(),
            publications_refused: c(),
            ephemeral_throttled: c(),
            dropped_ephemeral: c(),
            conflated: c(),
            fell_behind: c(),
            latency_ms: Histogram::new(LATENCY_MS),
            recipients: Histogram::new(RECIPIENTS),
            queued_bytes: c(),
            queued_chunks: c(),
            presence_updates: c(),
            presence_debounced: c(),
            presence_coalesced: c(),
            presence_suppressed: c(),
            marks: MarkStats::default(),
            link: LinkStats::default(),
            recovered: c(),
            not_recovered: c(),
            reconnects: c(),
            error_replies: c(),
            slow: c(),
            write_errors: c(),
            bad_input: c(),
            congested: c(),
            gaps: c(),
            panics: c(),
            subscriptions: c(),
            channels_local: c(),
            channels_home: c(),
            turns: c(),
            log_lines_suppressed: c(),
        }
    }
}
