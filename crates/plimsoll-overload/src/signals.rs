//! What is measured, what it is held against, and the pressure of each resource.

use crate::limits;

/// One sample of everything the node can see. What it cannot see is `None` and exerts no pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// CPU time used, as a share of what this process may use (quota or cores), 0–1.
    pub cpu_use_ratio: Option<f64>,
    /// Share of scheduling periods that were throttled, over the last 3 s, 0–1.
    pub throttled_ratio: Option<f64>,
    /// Share of the last 10 s in which a task waited for a CPU (own cgroup), in percent.
    pub cpu_stall_percent: Option<f64>,
    /// Overdue time of the workers' ticks in the last second, 99th percentile, in milliseconds.
    pub loop_lag_p99_ms: Option<f64>,
    /// Memory in use without what the kernel can drop, with socket buffers, in bytes.
    pub memory_used_bytes: Option<f64>,
    /// The smallest of the limits that apply, in bytes.
    pub memory_limit_bytes: Option<f64>,
    /// How often the `high` mark was passed since the last sample.
    pub memory_high_events: Option<f64>,
    /// How often the hard limit was met since the last sample.
    pub memory_max_events: Option<f64>,
    /// How often the out-of-memory killer was called since the last sample.
    pub memory_oom_events: Option<f64>,
    /// Share of the last 10 s in which a task waited for memory (own cgroup), in percent.
    pub memory_stall_percent: Option<f64>,
    /// Bytes in outbound queues that only those queues keep alive.
    pub outbound_queued_bytes: Option<f64>,
    /// What outbound queues may hold together, in bytes.
    pub outbound_budget_bytes: Option<f64>,
    /// Age of the oldest queued frame of a connection, 99th percentile over the connections of a
    /// worker, of the worst worker, in milliseconds. Who has nothing queued has age 0.
    pub oldest_frame_age_p99_ms: Option<f64>,
    /// Open descriptors.
    pub descriptors_used: Option<f64>,
    /// Limit of open descriptors.
    pub descriptors_limit: Option<f64>,
    /// Connections accepted and not connected yet, without those parked.
    pub handshakes_in_flight: Option<f64>,
    /// Handshakes that are parked.
    pub handshakes_parked: Option<f64>,
    /// Bytes written to clients per second.
    pub egress_bytes_per_s: Option<f64>,
    /// Round trip of a publication through the backbone, 99th percentile, in milliseconds.
    pub backbone_latency_p99_ms: Option<f64>,
    /// State of the backbone's circuit breaker; `None` without a backbone.
    pub backbone_state: Option<BackboneState>,
    /// Open client connections.
    pub connections: Option<f64>,
    /// Connects since the start, whatever became of them; each connection counts once.
    pub connects_total: Option<u64>,
    /// Those of them that came back.
    pub connects_back_total: Option<u64>,
    /// Share of the offered work, by cost, that this node refused or dropped in the last second:
    /// publications, ephemeral frames, history pages. Connects do not count, admission paces them.
    pub shed_ratio: Option<f64>,
}

/// How the backbone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackboneState {
    /// Calls go through.
    Up,
    /// Calls are being tried again, one at a time.
    Probing,
    /// Calls are refused.
    Down,
}

/// The load at which every objective was still met, per resource: pressure 1.0. From a measured
/// capacity file, or from configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rated {
    /// Share of the CPU that may be used, 0–1.
    pub cpu_use_ratio: f64,
    /// Budget of loop lag, in milliseconds.
    pub loop_lag_ms: f64,
    /// Share of the memory limit that may be used, 0–1.
    pub memory_ratio: f64,
    /// Budget of the oldest frame's age, in milliseconds.
    pub outbound_age_ms: f64,
    /// Handshakes in flight; `None` = not rated.
    pub handshakes_in_flight: Option<f64>,
    /// Parked handshakes; `None` = not rated.
    pub handshakes_parked: Option<f64>,
    /// Bytes per second to clients; `None` = not rated.
    pub egress_bytes_per_s: Option<f64>,
    /// Budget of the backbone's latency, in milliseconds.
    pub backbone_latency_ms: f64,
    /// Connections; `None` = not rated.
    pub connections: Option<f64>,
}

impl Default for Rated {
    fn default() -> Self {
        Self {
            cpu_use_ratio: 0.90,
            loop_lag_ms: 20.0,
            memory_ratio: 0.90,
            outbound_age_ms: 1_000.0,
            handshakes_in_flight: None,
            handshakes_parked: None,
            egress_bytes_per_s: None,
            backbone_latency_ms: 100.0,
            connections: None,
        }
    }
}

impl Rated {
    /// The first field that is not a number above zero.
    pub(crate) fn wrong(&self) -> Option<&'static str> {
        let optional = |v: Option<f64>| v.unwrap_or(1.0);
        [
            ("cpu_use_ratio", self.cpu_use_ratio),
            ("loop_lag_ms", self.loop_lag_ms),
            ("memory_ratio", self.memory_ratio),
            ("outbound_age_ms", self.outbound_age_ms),
            ("handshakes_in_flight", optional(self.handshakes_in_flight)),
            ("handshakes_parked", optional(self.handshakes_parked)),
            ("egress_bytes_per_s", optional(self.egress_bytes_per_s)),
            ("backbone_latency_ms", self.backbone_latency_ms),
            ("connections", optional(self.connections)),
        ]
        .iter()
        .find(|(_, value)| !value.is_finite() || *value <= 0.0)
        .map(|(name, _)| *name)
    }
}

/// What can be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Processor time.
    Cpu,
    /// Punctuality of the workers' loops.
    Lag,
    /// Memory.
    Memory,
    /// Outbound queues.
    Outbound,
    /// File descriptors.
    Descriptors,
    /// Handshakes.
    Accept,
    /// Bytes to clients.
    Egress,
    /// The backbone between nodes.
    Backbone,
    /// The number of connections.
    Connections,
}

/// How many resources there are.
pub const RESOURCES_COUNT: usize = 9;

/// One row of the table of resources.
#[derive(Clone, Copy, Debug)]
pub struct ResourceRow {
    /// Which.
    pub resource: Resource,
    /// Its name in metrics, in the admin status and in logs.
    pub name: &'static str,
    /// Time constant of a rising pressure in seconds; 0 = at once.
    pub up_s: f64,
    /// Time constant of a falling pressure in seconds; 0 = at once.
    pub down_s: f64,
    /// How the pressure comes about, for people.
    pub meaning: &'static str,
}

const fn row(
    resource: Resource,
    name: &'static str,
    up_s: f64,
    down_s: f64,
    meaning: &'static str,
) -> ResourceRow {
    ResourceRow { resource, name, up_s, down_s, meaning }
}

/// Every resource, in the order of [`Resource`]. What fills suddenly and kills (memory,
/// descriptors) rises unsmoothed; what jumps about (CPU) is averaged.
pub const RESOURCES: [ResourceRow; RESOURCES_COUNT] = [
    row(
        Resource::Cpu,
        "cpu",
        3.0,
        3.0,
        "CPU use / rated use. 1 % throttled periods = 0.70, 20 % = 0.84. Stall counts up to 0.69",
    ),
    row(Resource::Lag, "lag", 1.0, 1.0, "p99 of the workers' loop lag / 20 ms"),
    row(
        Resource::Memory,
        "memory",
        0.0,
        10.0,
        "use / 90 % of the limit. A `high` event = 0.90, `max` or `oom` = 1.05, 10 % stall = 0.85",
    ),
    row(
        Resource::Outbound,
        "outbound",
        1.0,
        1.0,
        "queued bytes / budget, or p99 of the oldest frame's age / 1 s (which counts up to 0.84)",
    ),
    row(
        Resource::Descriptors,
        "descriptors",
        0.0,
        10.0,
        "open descriptors / (limit - reserve); the reserve is 1 %, at least 512, at most a quarter",
    ),
    row(
        Resource::Accept,
        "accept",
        1.0,
        1.0,
        "handshakes in flight / 5 s of the pace, or parked / 4 s of the pace; up to 0.94",
    ),
    row(Resource::Egress, "egress", 1.0, 1.0, "bytes/s to clients / rated"),
    row(
        Resource::Backbone,
        "backbone",
        3.0,
        3.0,
        "p99 latency / 100 ms, up to 0.94. Breaker open = 0.90, probing = 0.75",
    ),
    row(Resource::Connections, "connections", 0.0, 0.0, "open connections / rated"),
];

impl Resource {
    /// All of them, in order.
    pub const ALL: [Self; RESOURCES_COUNT] = [
        Self::Cpu,
        Self::Lag,
        Self::Memory,
        Self::Outbound,
        Self::Descriptors,
        Self::Accept,
        Self::Egress,
        Self::Backbone,
        Self::Connections,
    ];

    /// Its row in the table.
    pub const fn row(self) -> &'static ResourceRow {
        &RESOURCES[self as usize]
    }

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        self.row().name
    }
}

/// The pressure of each resource: 1.0 = rated load, `None` = unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressures([Option<f64>; RESOURCES_COUNT]);

impl Pressures {
    /// The pressure of one resource.
    pub const fn get(&self, resource: Resource) -> Option<f64> {
        self.0[resource as usize]
    }

    /// Sets it. What is not a number becomes unknown, what is negative zero.
    pub fn set(&mut self, resource: Resource, pressure: Option<f64>) {
        self.0[resource as usize] = pressure.filter(|p| !p.is_nan()).map(|p| p.max(0.0));
    }

    /// Every resource with its pressure, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Resource, Option<f64>)> + '_ {
        Resource::ALL.into_iter().map(|r| (r, self.get(r)))
    }

    /// The highest known pressure among `resources`, with its resource; the first of equals.
    pub fn highest(&self, resources: &[Resource]) -> Option<(Resource, f64)> {
        let known = resources.iter().filter_map(|r| self.get(*r).map(|p| (*r, p)));
        known.fold(None, |best, next| match best {
            Some((_, pressure)) if pressure >= next.1 => best,
            _ => Some(next),
        })
    }
}

/// The pressure of each resource in this one sample, not smoothed.
pub fn pressures(signals: &Signals, rated: &Rated) -> Pressures {
    let mut all = Pressures::default();
    all.set(Resource::Cpu, cpu(signals, rated));
    all.set(Resource::Lag, share(signals.loop_lag_p99_ms, Some(rated.loop_lag_ms)));
    all.set(Resource::Memory, memory(signals, rated));
    all.set(Resource::Outbound, outbound(signals, rated));
    all.set(Resource::Descriptors, descriptors(signals));
    let in_flight = share(signals.handshakes_in_flight, rated.handshakes_in_flight);
    let parked = share(signals.handshakes_parked, rated.handshakes_parked);
    let handshakes = larger([in_flight, parked]).map(|p| p.min(limits::ACCEPT_PRESSURE_MAX));
    all.set(Resource::Accept, handshakes);
    all.set(Resource::Egress, share(signals.egress_bytes_per_s, rated.egress_bytes_per_s));
    all.set(Resource::Backbone, backbone(signals, rated));
    all.set(Resource::Connections, share(signals.connections, rated.connections));
    all
}

/// Whether this sample alone is reason enough to rise, as far as `resources` are concerned.
pub fn urgent(signals: &Signals, resources: &[Resource]) -> bool {
    resources.iter().any(|resource| match resource {
        Resource::Memory => {
            happened(signals.memory_max_events) || happened(signals.memory_oom_events)
        }
        Resource::Descriptors => {
            descriptors(signals).is_some_and(|p| p > limits::DESCRIPTORS_URGENT)
        }
        _ => false,
    })
}

fn cpu(signals: &Signals, rated: &Rated) -> Option<f64> {
    let throttled = signals.throttled_ratio.map(|ratio| {
        let (warning, full) = (limits::THROTTLED_WARNING_RATIO, limits::THROTTLED_FULL_RATIO);
        if ratio <= warning {
            0.70 * ratio / warning
        } else {
            let more = limits::THROTTLED_PRESSURE_MAX - 0.70;
            0.70 + more * ((ratio - warning) / (full - warning)).min(1.0)
        }
    });
    let stall = share(signals.cpu_stall_percent, Some(limits::CPU_STALL_FULL_PERCENT))
        .map(|s| s.min(1.0) * limits::CPU_STALL_PRESSURE_MAX);
    larger([share(signals.cpu_use_ratio, Some(rated.cpu_use_ratio)), throttled, stall])
}

fn memory(signals: &Signals, rated: &Rated) -> Option<f64> {
    let rated_bytes = signals.memory_limit_bytes.map(|limit| limit * rated.memory_ratio);
    let limited = happened(signals.memory_max_events) || happened(signals.memory_oom_events);
    let event = if limited {
        Some(limits::MEMORY_MAX_PRESSURE)
    } else {
        happened(signals.memory_high_events).then_some(limits::MEMORY_HIGH_PRESSURE)
    };
    let stall = share(signals.memory_stall_percent, Some(limits::MEMORY_STALL_DEGRADED_PERCENT))
        .map(|s| (s * 0.85).min(1.0));
    larger([share(signals.memory_used_bytes, rated_bytes), event, stall])
}

fn outbound(signals: &Signals, rated: &Rated) -> Option<f64> {
    let bytes = share(signals.outbound_queued_bytes, signals.outbound_budget_bytes);
    let age = share(signals.oldest_frame_age_p99_ms, Some(rated.outbound_age_ms))
        .map(|a| a.min(limits::OUTBOUND_AGE_PRESSURE_MAX));
    larger([bytes, age])
}

fn descriptors(signals: &Signals) -> Option<f64> {
    let usable = signals.descriptors_limit.map(|limit| limit - descriptors_reserved(limit));
    share(signals.descriptors_used, usable)
}

/// Descriptors of `limit` that are kept back for the admin listener, the backbone and files.
pub fn descriptors_reserved(limit: f64) -> f64 {
    (limit / 100.0).max(limits::DESCRIPTORS_RESERVED_MIN).min(limit / 4.0)
}

fn backbone(signals: &Signals, rated: &Rated) -> Option<f64> {
    let state = signals.backbone_state.map(|state| match state {
        BackboneState::Up => 0.0,
        BackboneState::Probing => limits::BACKBONE_PROBING_PRESSURE,
        BackboneState::Down => limits::BACKBONE_OPEN_PRESSURE,
    });
    let latency = share(signals.backbone_latency_p99_ms, Some(rated.backbone_latency_ms))
        .map(|l| l.min(limits::BACKBONE_PRESSURE_MAX));
    larger([latency, state])
}

/// `part / whole`; unknown if either is, or if the whole is nothing.
fn share(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    let (part, whole) = (part?, whole?);
    (whole > 0.0 && !part.is_nan()).then(|| part / whole)
}

fn happened(events: Option<f64>) -> bool {
    events.is_some_and(|n| n > 0.0)
}

/// The largest of those that are known.
fn larger<const N: usize>(values: [Option<f64>; N]) -> Option<f64> {
    values.into_iter().flatten().fold(None, |most, v| Some(most.map_or(v, |m: f64| m.max(v))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(signals: Signals, resource: Resource, expect: Option<f64>) {
        let rated = Rated {
            connections: Some(1_000.0),
            handshakes_in_flight: Some(100.0),
            handshakes_parked: Some(20.0),
            egress_bytes_per_s: Some(1e6),
            ..Rated::default()
        };
        let found = pressures(&signals, &rated).get(resource);
        let near = match (found, expect) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        };
        assert!(near, "{resource:?} of {signals:?}: {found:?}, expected {expect:?}");
    }

    fn none() -> Signals {
        Signals::default()
    }

    #[test]
    fn nothing_known_is_no_pressure() {
        for resource in Resource::ALL {
            check(none(), resource, None);
        }
        assert!(!urgent(&none(), &Resource::ALL));
    }

    #[test]
    fn cpu_and_lag() {
        check(Signals { cpu_use_ratio: Some(0.45), ..none() }, Resource::Cpu, Some(0.5));
        check(Signals { throttled_ratio: Some(0.01), ..none() }, Resource::Cpu, Some(0.70));
        check(Signals { throttled_ratio: Some(0.5), ..none() }, Resource::Cpu, Some(0.84));
        check(Signals { cpu_stall_percent: Some(99.0), ..none() }, Resource::Cpu, Some(0.69));
        let both = Signals { cpu_use_ratio: Some(0.9), throttled_ratio: Some(0.0), ..none() };
        check(both, Resource::Cpu, Some(1.0));
        check(Signals { cpu_use_ratio: Some(f64::NAN), ..none() }, Resource::Cpu, None);
        check(Signals { cpu_use_ratio: Some(-1.0), ..none() }, Resource::Cpu, Some(0.0));
        check(Signals { loop_lag_p99_ms: Some(30.0), ..none() }, Resource::Lag, Some(1.5));
    }

    #[test]
    fn memory_of_every_kind() {
        let used = |bytes: f64| Signals {
            memory_used_bytes: Some(bytes),
            memory_limit_bytes: Some(1_000.0),
            ..none()
        };
        check(used(450.0), Resource::Memory, Some(0.5));
        check(Signals { memory_limit_bytes: None, ..used(450.0) }, Resource::Memory, None);
        check(Signals { memory_limit_bytes: Some(0.0), ..used(1.0) }, Resource::Memory, None);
        let high = Signals { memory_high_events: Some(1.0), ..used(450.0) };
        check(high, Resource::Memory, Some(0.90));
        assert!(!urgent(&high, &Resource::ALL));
        let killed = Signals { memory_oom_events: Some(1.0), ..none() };
        check(killed, Resource::Memory, Some(1.05));
        assert!(urgent(&killed, &Resource::ALL) && !urgent(&killed, &[Resource::Cpu]));
        let stalled = Signals { memory_stall_percent: Some(10.0), ..used(450.0) };
        check(stalled, Resource::Memory, Some(0.85));
    }

    #[test]
    fn queues_descriptors_and_handshakes() {
        let queued = Signals {
            outbound_queued_bytes: Some(50.0),
            outbound_budget_bytes: Some(100.0),
            oldest_frame_age_p99_ms: Some(300.0),
            ..none()
        };
        check(queued, Resource::Outbound, Some(0.5));
        let old = Signals { oldest_frame_age_p99_ms: Some(60_000.0), ..queued };
        check(old, Resource::Outbound, Some(0.84));
        let open = |used, limit| Signals {
            descriptors_used: Some(used),
            descriptors_limit: Some(limit),
            ..none()
        };
        check(open(96.0, 256.0), Resource::Descriptors, Some(0.5));
        check(open(99_000.0, 100_000.0), Resource::Descriptors, Some(1.0));
        assert!(urgent(&open(98_500.0, 100_000.0), &Resource::ALL));
        assert!(!urgent(&open(97_000.0, 100_000.0), &Resource::ALL));
        let both =
            Signals { handshakes_in_flight: Some(10.0), handshakes_parked: Some(18.0), ..none() };
        check(both, Resource::Accept, Some(0.9));
        let many = Signals { handshakes_parked: Some(1e6), ..both };
        check(many, Resource::Accept, Some(0.94));
        check(Signals { connections: Some(500.0), ..none() }, Resource::Connections, Some(0.5));
        check(Signals { egress_bytes_per_s: Some(2e6), ..none() }, Resource::Egress, Some(2.0));
    }

    #[test]
    fn a_backbone_alone_never_passes_degraded() {
        let slow = Signals { backbone_latency_p99_ms: Some(1e9), ..none() };
        check(slow, Resource::Backbone, Some(0.94));
        let down = Signals { backbone_state: Some(BackboneState::Down), ..none() };
        check(down, Resource::Backbone, Some(0.90));
        let up = Signals { backbone_state: Some(BackboneState::Up), ..none() };
        check(up, Resource::Backbone, Some(0.0));
    }

    #[test]
    fn tables_are_in_the_order_of_their_enum() {
        for (at, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!((resource as usize, resource.row().resource), (at, resource));
        }
    }
}
