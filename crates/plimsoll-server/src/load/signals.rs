//! From what was read and counted to the signals of the load line.

use super::lag::Lag;
use super::{MemoryReadings, Readings};
use crate::bridge::PUBLISH_MS;
use crate::telemetry::stats::{CellOf, WorkerStats};
use plimsoll_overload::signals::{BackboneState, Signals};
use std::collections::VecDeque;
use std::sync::Arc;

/// Samples of the window over which throttled periods are counted: 3 s. A period of a quota is
/// 100 ms, so one sample has two or three.
const THROTTLING_SAMPLES: usize = 12;
/// Cores used for each worker from which on its lag is its own.
const BUSY_RATIO_MIN: f64 = 0.5;
/// Lag beside workers that use less, in milliseconds: 0.8 of the budget of 20.
const OTHERS_LAG_MS_MAX: f64 = 16.0;
/// Samples back at which the loops must have been late, too: 1 s. A single hiccup is no load.
const LAG_SAMPLES: usize = 4;
/// Samples over which refused work is counted: 1 s.
const SHED_SAMPLES: usize = 4;
/// Samples over which the latency of the backbone is measured: 3 s.
const LATENCY_SAMPLES: usize = 12;
/// What a latency above the histogram's last bound counts as, in milliseconds.
const BEYOND_MS: f64 = 1_000.0;
/// Memory used at least so far for an event at the limit to count. The kernel drops page cache
/// there too, which says nothing of us.
const EVENTS_USED_RATIO_MIN: f64 = 0.80;
/// Part of the memory limit that outbound queues may hold, unless configured.
const OUTBOUND_BUDGET_RATIO: f64 = 0.20;

/// What the node counts itself, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Seconds since the start.
    pub at_s: f64,
    /// Workers.
    pub workers: usize,
    /// 99th percentile of the workers' lag in the last second.
    pub lag_p99_ms: Option<f64>,
    /// Bytes in outbound queues.
    pub queued_bytes: u64,
    /// Bytes given to sockets since the start.
    pub bytes_out: u64,
    /// Connections.
    pub connections: usize,
    /// Connections accepted and not connected yet, parked ones included.
    pub handshakes: u64,
    /// Connects since the start, and those that came back.
    pub connects: (u64, u64),
    /// Connects that wait at the door.
    pub parked: u64,
    /// Age of the oldest queued frame, 99th percentile over the connections of the worst worker.
    pub oldest_frame_age_ms: u64,
    /// Publications accepted and refused since the start.
    pub publications: (u64, u64),
    /// The backbone: its state, and publications by latency since the start.
    pub backbone: Option<(BackboneState, [u64; PUBLISH_MS.len() + 1])>,
}

impl Counted {
    /// Of the workers. `now_us` is on their clock.
    pub fn of(workers: &[Arc<WorkerStats>], connections: usize, now_us: u64) -> Self {
        let lag = Lag::of(workers.iter().map(|w| &w.lag), now_us);
        let sum = |of: CellOf| workers.iter().map(|w| of(w).get()).sum::<u64>();
        Self {
            at_s: now_us as f64 / 1e6,
            // Where nobody is, nobody waits.
            workers: workers.len(),
            lag_p99_ms: Some(lag.map_or(0.0, |l| l.p99_us as f64 / 1e3)),
            queued_bytes: sum(|w| &w.queued_bytes),
            bytes_out: sum(|w| &w.bytes_out),
            connections,
            handshakes: sum(|w| &w.handshakes),
            connects: (sum(|w| &w.connects), sum(|w| &w.connects_back)),
            parked: sum(|w| &w.parked),
            oldest_frame_age_ms: workers
                .iter()
                .map(|w| w.oldest_frame_age_ms.get())
                .max()
                .unwrap_or(0),
            publications: (sum(|w| &w.publications), sum(|w| &w.publications_refused)),
            backbone: None,
        }
    }
}

/// The lag that is ours. A node whose workers use little and are late all the same waits for others
/// on the machine: giving things up would not help much, so that alone is a Warning at most.
fn ours(lag_ms: f64, readings: &Readings, counted: &Counted) -> f64 {
    let cores = readings.cpu.allowed_cores.unwrap_or(f64::MAX).min(counted.workers.max(1) as f64);
    match readings.cpu.process_cores {
        Some(used) if used < BUSY_RATIO_MIN * cores => lag_ms.min(OTHERS_LAG_MS_MAX),
        _ => lag_ms,
    }
}

/// The memory this node has, in bytes: the smallest of all limits, or of the machine.
pub fn memory_limit_bytes(memory: &MemoryReadings) -> Option<f64> {
    let limits = [memory.limit_bytes, memory.machine_bytes];
    limits.into_iter().flatten().filter(|l| *l > 0.0).min_by(f64::total_cmp)
}

/// Makes signals; keeps what needs more than one sample.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Configured bytes of all outbound queues; 0 = a share of the memory limit.
    outbound_budget_bytes: usize,
    /// Periods and throttled ones.
    periods: VecDeque<(f64, f64)>,
    lags: VecDeque<Option<f64>>,
    /// Publications accepted and refused, of a second.
    publications: VecDeque<(u64, u64)>,
    /// Publications to the backbone by latency, since the start.
    publishing: VecDeque<[u64; PUBLISH_MS.len() + 1]>,
    /// Time and bytes of the sample before.
    before: Option<(f64, u64)>,
}

impl Gauge {
    /// With the configured budget of outbound queues; 0 = none is configured.
    pub fn new(outbound_budget_bytes: usize) -> Self {
        Self { outbound_budget_bytes, ..Self::default() }
    }

    /// The signals of one sample.
    pub fn signals(&mut self, readings: &Readings, counted: &Counted) -> Signals {
        let memory = &readings.memory;
        let limit = memory_limit_bytes(memory);
        let near = memory
            .used_bytes
            .zip(limit)
            .is_none_or(|(used, limit)| used >= EVENTS_USED_RATIO_MIN * limit);
        let percent = |stall: super::Stall| stall.average_10s.map(|ratio| ratio * 100.0);
        Signals {
            cpu_use_ratio: readings.cpu.used_ratio,
            throttled_ratio: self.throttled(readings),
            cpu_stall_percent: percent(readings.stalls.cpu_some),
            loop_lag_p99_ms: self.lag(counted.lag_p99_ms).map(|ms| ours(ms, readings, counted)),
            memory_used_bytes: memory.used_bytes,
            memory_limit_bytes: limit,
            memory_high_events: memory.high_events.filter(|_| near),
            memory_max_events: memory.max_events.filter(|_| near),
            memory_oom_events: memory.oom_events,
            memory_stall_percent: percent(readings.stalls.memory_some),
            outbound_queued_bytes: Some(counted.queued_bytes as f64),
            outbound_budget_bytes: self.outbound_budget_bytes(limit),
            descriptors_used: readings.descriptors.open,
            descriptors_limit: readings.descriptors.limit,
            egress_bytes_per_s: self.egress(counted),
            connections: Some(counted.connections as f64),
            handshakes_in_flight: Some(counted.handshakes.saturating_sub(counted.parked) as f64),
            handshakes_parked: Some(counted.parked as f64),
            oldest_frame_age_p99_ms: Some(counted.oldest_frame_age_ms as f64),
            connects_total: Some(counted.connects.0),
            connects_back_total: Some(counted.connects.1),
            shed_ratio: self.shed(counted.publications),
            backbone_latency_p99_ms: self.backbone_latency(counted),
            backbone_state: counted.backbone.as_ref().map(|(state, _)| *state),
        }
    }

    /// 99th percentile over 3 s, by the bounds of the histogram; `None` = nothing was published.
    fn backbone_latency(&mut self, counted: &Counted) -> Option<f64> {
        let (_, counts) = counted.backbone.as_ref()?;
        push(&mut self.publishing, *counts, LATENCY_SAMPLES);
        let (first, last) = (self.publishing.front()?, self.publishing.back()?);
        let now: Vec<u64> = last.iter().zip(first).map(|(l, f)| l.saturating_sub(*f)).collect();
        let all: u64 = now.iter().sum();
        let mut above = all;
        for (count, bound) in now.iter().zip(PUBLISH_MS.iter().chain([&BEYOND_MS])) {
            above -= count;
            if all > 0 && above * 100 <= all {
                return Some(*bound);
            }
        }
        None
    }

    /// Share of the periods of 3 s in which the quota ran out.
    fn throttled(&mut self, readings: &Readings) -> Option<f64> {
        let (periods, throttled) = readings.cpu.periods.zip(readings.cpu.throttled_periods)?;
        push(&mut self.periods, (periods, throttled), THROTTLING_SAMPLES);
        let sum = |of: fn(&(f64, f64)) -> f64| self.periods.iter().map(of).sum::<f64>();
        let all = sum(|p| p.0);
        (all > 0.0).then(|| sum(|p| p.1) / all)
    }

    /// The lag now or of the second before, whichever is less.
    fn lag(&mut self, now_ms: Option<f64>) -> Option<f64> {
        push(&mut self.lags, now_ms, LAG_SAMPLES + 1);
        if self.lags.len() <= LAG_SAMPLES {
            return Some(0.0);
        }
        let before = self.lags.front().copied().flatten();
        Some(now_ms?.min(before?))
    }

    /// Share of the publications of a second that were refused: what costs most is counted.
    fn shed(&mut self, now: (u64, u64)) -> Option<f64> {
        push(&mut self.publications, now, SHED_SAMPLES + 1);
        let before = self.publications.front()?;
        let accepted = now.0.saturating_sub(before.0) as f64;
        let refused = now.1.saturating_sub(before.1) as f64;
        Some(if refused > 0.0 { refused / (accepted + refused) } else { 0.0 })
    }

    fn egress(&mut self, counted: &Counted) -> Option<f64> {
        let (at_s, bytes) = self.before.replace((counted.at_s, counted.bytes_out))?;
        let seconds = counted.at_s - at_s;
        (seconds > 0.0).then(|| counted.bytes_out.saturating_sub(bytes) as f64 / seconds)
    }

    fn outbound_budget_bytes(&self, limit: Option<f64>) -> Option<f64> {
        match self.outbound_budget_bytes {
            0 => limit.map(|limit| limit * OUTBOUND_BUDGET_RATIO),
            bytes => Some(bytes as f64),
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// Every signal with its name, for the metric and the page.
pub fn named(signals: &Signals) -> impl Iterator<Item = (&'static str, f64)> {
    let s = signals;
    [
        ("cpu_use_ratio", s.cpu_use_ratio),
        ("throttled_ratio", s.throttled_ratio),
        ("cpu_stall_percent", s.cpu_stall_percent),
        ("loop_lag_p99_ms", s.loop_lag_p99_ms),
        ("memory_used_bytes", s.memory_used_bytes),
        ("memory_limit_bytes", s.memory_limit_bytes),
        ("memory_high_events", s.memory_high_events),
        ("memory_max_events", s.memory_max_events),
        ("memory_oom_events", s.memory_oom_events),
        ("memory_stall_percent", s.memory_stall_percent),
        ("outbound_queued_bytes", s.outbound_queued_bytes),
        ("outbound_budget_bytes", s.outbound_budget_bytes),
        ("oldest_frame_age_p99_ms", s.oldest_frame_age_p99_ms),
        ("descriptors_used", s.descriptors_used),
        ("descriptors_limit", s.descriptors_limit),
        ("handshakes_in_flight", s.handshakes_in_flight),
        ("handshakes_parked", s.handshakes_parked),
        ("egress_bytes_per_s", s.egress_bytes_per_s),
        ("backbone_latency_p99_ms", s.backbone_latency_p99_ms),
        ("connections", s.connections),
        ("shed_ratio", s.shed_ratio),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{CpuReadings, Stall};

    fn at(at_s: f64) -> Counted {
        Counted { at_s, lag_p99_ms: Some(0.0), ..Counted::default() }
    }

    #[test]
    fn what_is_not_known_is_no_signal() {
        let signals = Gauge::default().signals(&Readings::default(), &Counted::default());
        let known: Vec<_> = named(&signals).map(|(name, _)| name).collect();
        let expect = [
            "loop_lag_p99_ms",
            "outbound_queued_bytes",
            "oldest_frame_age_p99_ms",
            "handshakes_in_flight",
            "handshakes_parked",
            "connections",
            "shed_ratio",
        ];
        assert_eq!(known, expect);
    }

    #[test]
    fn throttling_is_a_share_of_three_seconds() {
        let mut gauge = Gauge::default();
        let mut sample = |periods, throttled| {
            let cpu = CpuReadings {
                periods: Some(periods),
                throttled_periods: Some(throttled),
                ..CpuReadings::default()
            };
            gauge.signals(&Readings { cpu, ..Readings::default() }, &at(0.0)).throttled_ratio
        };
        assert_eq!(sample(0.0, 0.0), None);
        assert_eq!(sample(2.0, 1.0), Some(0.5));
        assert_eq!(sample(3.0, 0.0), Some(0.2));
        let last = (0..THROTTLING_SAMPLES).map(|_| sample(2.0, 0.0)).last();
        assert_eq!(last, Some(Some(0.0)));
    }

    #[test]
    fn one_hiccup_is_no_lag() {
        let mut gauge = Gauge::default();
        let mut sample = |ms| {
            let counted = Counted { lag_p99_ms: Some(ms), ..Counted::default() };
            gauge.signals(&Readings::default(), &counted).loop_lag_p99_ms
        };
        // The lag of a second is seen in four samples.
        for ms in [0.0, 0.0, 0.0, 0.0, 200.0, 200.0, 200.0, 200.0, 1.0, 1.0] {
            assert!(sample(ms).is_some_and(|lag| lag <= 1.0), "{ms}");
        }
        let late: Vec<_> = (0..6).map(|_| sample(50.0)).collect();
        assert_eq!(late[3], Some(1.0));
        assert_eq!(late[4..], [Some(50.0), Some(50.0)]);
    }

    #[test]
    fn lag_beside_idle_workers_is_a_warning_at_most() {
        let counted = Counted { workers: 2, ..Counted::default() };
        for (used, allowed, expect) in [
            (Some(0.3), Some(2.0), OTHERS_LAG_MS_MAX),
            (Some(1.1), Some(2.0), 300.0),
            (Some(0.6), Some(1.0), 300.0),
            (Some(1.1), Some(64.0), 300.0),
            (Some(0.9), None, OTHERS_LAG_MS_MAX),
            (None, Some(2.0), 300.0),
        ] {
            let mut readings = Readings::default();
            (readings.cpu.process_cores, readings.cpu.allowed_cores) = (used, allowed);
            assert_eq!(ours(300.0, &readings, &counted), expect, "{used:?} of {allowed:?}");
            assert_eq!(ours(3.0, &readings, &counted), 3.0);
        }
    }

    #[test]
    fn refused_publications_are_shed_for_a_second() {
        let mut gauge = Gauge::default();
        let mut sample = |accepted, refused| {
            let counted = Counted { publications: (accepted, refused), ..Counted::default() };
            gauge.signals(&Readings::default(), &counted).shed_ratio
        };
        assert_eq!(sample(1_000, 50), Some(0.0));
        assert_eq!(sample(1_030, 60), Some(0.25));
        let last = (0..SHED_SAMPLES).map(|_| sample(1_030, 60)).last();
        assert_eq!(last, Some(Some(0.0)));
    }

    #[test]
    fn events_count_where_memory_is_used() {
        let check = |used: f64, machine: f64, expect: Option<f64>| {
            let memory = MemoryReadings {
                used_bytes: Some(used),
                limit_bytes: Some(100.0),
                machine_bytes: Some(machine),
                max_events: Some(3.0),
                oom_events: Some(1.0),
                ..MemoryReadings::default()
            };
            let readings = Readings { memory, ..Readings::default() };
            let signals = Gauge::default().signals(&readings, &at(0.0));
            assert_eq!(signals.memory_max_events, expect, "{used} of {machine}");
            assert_eq!(signals.memory_oom_events, Some(1.0));
            assert_eq!(signals.memory_limit_bytes, Some(machine.min(100.0)));
        };
        check(79.0, 1_000.0, None);
        check(80.0, 1_000.0, Some(3.0));
        check(45.0, 50.0, Some(3.0));
    }

    #[test]
    fn rates_and_budgets() {
        let memory = MemoryReadings { machine_bytes: Some(1e9), ..MemoryReadings::default() };
        let mut readings = Readings { memory, ..Readings::default() };
        readings.stalls.cpu_some = Stall { ratio: None, average_10s: Some(0.25) };
        let mut gauge = Gauge::default();
        let first = gauge.signals(&readings, &at(1.0));
        assert_eq!(first.egress_bytes_per_s, None);
        assert_eq!(first.outbound_budget_bytes, Some(2e8));
        assert_eq!(first.cpu_stall_percent, Some(25.0));
        let counted = Counted { bytes_out: 500, queued_bytes: 7, connections: 9, ..at(1.25) };
        let second = gauge.signals(&readings, &counted);
        assert_eq!(second.egress_bytes_per_s, Some(2_000.0));
        assert_eq!(second.outbound_queued_bytes, Some(7.0));
        assert_eq!(second.connections, Some(9.0));
        let configured = Gauge::new(4_096).signals(&readings, &at(0.0));
        assert_eq!(configured.outbound_budget_bytes, Some(4_096.0));
    }
}
