//! How far a running node is from its load line, when it will be there, and what it costs.

use crate::fit;
use crate::measured::{CapacityFile, Resource};
use std::collections::VecDeque;

/// What a node is loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// Connections now.
    Connections,
    /// Connects per second.
    Connects,
    /// Publications accepted per second.
    Publishes,
    /// Deliveries per second.
    Deliveries,
    /// Bytes per second written to clients.
    Egress,
    /// Cores in use.
    Cpu,
    /// Resident bytes.
    Memory,
    /// Open descriptors.
    Descriptors,
}

impl Load {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Connects,
        Self::Publishes,
        Self::Deliveries,
        Self::Egress,
        Self::Cpu,
        Self::Memory,
        Self::Descriptors,
    ];

    /// The name in labels and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Connects => "connects",
            Self::Publishes => "publishes",
            Self::Deliveries => "deliveries",
            Self::Egress => "egress",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
        }
    }

    /// The measured figure that bounds it; none for what the machine bounds.
    fn resource(self) -> Option<Resource> {
        match self {
            Self::Connections => Some(Resource::Connections),
            Self::Connects => Some(Resource::ConnectsPerS),
            Self::Publishes => Some(Resource::PublishesPerS),
            Self::Deliveries => Some(Resource::DeliveriesPerS),
            Self::Egress => Some(Resource::EgressBytesPerS),
            Self::Cpu | Self::Memory | Self::Descriptors => None,
        }
    }
}

/// What a node uses. What is not known is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Connections now.
    pub connections: f64,
    /// Connects per second.
    pub connects_per_s: f64,
    /// Publications accepted per second.
    pub publishes_per_s: f64,
    /// Deliveries per second.
    pub deliveries_per_s: f64,
    /// Bytes per second written to clients.
    pub egress_bytes_per_s: f64,
    /// Cores in use.
    pub cpu_cores: f64,
    /// Resident bytes.
    pub memory_bytes: f64,
    /// Open descriptors.
    pub descriptors: f64,
}

impl Usage {
    /// One of them, in its unit.
    pub fn of(&self, load: Load) -> f64 {
        match load {
            Load::Connections => self.connections,
            Load::Connects => self.connects_per_s,
            Load::Publishes => self.publishes_per_s,
            Load::Deliveries => self.deliveries_per_s,
            Load::Egress => self.egress_bytes_per_s,
            Load::Cpu => self.cpu_cores,
            Load::Memory => self.memory_bytes,
            Load::Descriptors => self.descriptors,
        }
    }
}

/// Share of cores, memory and descriptors that may be used: the bound of a ramp's step.
pub const MACHINE_SHARE: f64 = 0.8;

/// What the machine and the configuration bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineLimits {
    /// Cores the node may use; 0 = not known.
    pub cores: f64,
    /// Bytes of memory the node may use; 0 = not known.
    pub memory_bytes: f64,
    /// Descriptors the node may open; 0 = not known.
    pub descriptors: f64,
    /// Connections the configuration allows; 0 = no limit.
    pub connection_limit: f64,
}

/// The load lines of a node: what each load may be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lines([Option<f64>; Load::ALL.len()]);

impl Lines {
    /// Rated figures of `file` where it has them. Cores, memory and descriptors are bounded at
    /// [`MACHINE_SHARE`] of what there is, and connections by the configuration's limit and the
    /// descriptors as well. A load that nothing bounds has no line.
    pub fn new(limits: &MachineLimits, file: Option<&CapacityFile>) -> Self {
        let known = |value: f64| Some(value).filter(|v| v.is_finite() && *v > 0.0);
        let rated = |load: Load| {
            let figure = file?.resources.get(&load.resource()?)?;
            known(figure.rated)
        };
        let least = |bounds: [Option<f64>; 3]| bounds.into_iter().flatten().reduce(f64::min);
        Self(Load::ALL.map(|load| match load {
            Load::Cpu => known(MACHINE_SHARE * limits.cores),
            Load::Memory => known(MACHINE_SHARE * limits.memory_bytes),
            Load::Descriptors => known(MACHINE_SHARE * limits.descriptors),
            Load::Connections => {
                least([rated(load), known(limits.connection_limit), known(limits.descriptors)])
            }
            _ => rated(load),
        }))
    }

    /// With a rated load that an operator knows: the least of it and of the line there is. Zero, or
    /// what is not a number, changes nothing.
    pub fn bounded(mut self, load: Load, rated: f64) -> Self {
        if rated.is_finite() && rated > 0.0 {
            let lines = Load::ALL.iter().zip(&mut self.0);
            for (_, line) in lines.filter(|(l, _)| **l == load) {
                *line = Some(line.map_or(rated, |line| line.min(rated)));
            }
        }
        self
    }

    /// The line of a load, above 0.
    pub fn of(&self, load: Load) -> Option<f64> {
        Load::ALL.iter().zip(self.0).find(|(l, _)| **l == load).and_then(|(_, line)| line)
    }

    /// Headroom by load, for those that have a line.
    pub fn headroom(&self, usage: &Usage) -> impl Iterator<Item = (Load, f64)> {
        let lines = Load::ALL.into_iter().zip(self.0);
        lines.filter_map(move |(load, line)| Some((load, headroom(usage.of(load), line?))))
    }
}

/// `1 − use / line`, within −1 to 1: 1 when idle, 0 at the line, −1 at twice the line or more. A
/// use that is not a number counts as none.
pub fn headroom(usage: f64, line: f64) -> f64 {
    let ratio = usage / line;
    if ratio.is_nan() { 1.0 } else { (1.0 - ratio).clamp(-1.0, 1.0) }
}

/// Between two samples of a [`Trend`], seconds.
pub const TREND_STEP_S: u64 = 10;
/// Samples of a trend: a quarter of an hour.
pub const TREND_SAMPLES_MAX: usize = 90;
/// Fewer than two minutes of samples show no trend.
const TREND_SAMPLES_MIN: usize = 12;
/// A quarter of an hour tells nothing of what is more than a day ahead.
const HORIZON_S: f64 = 86_400.0;

/// What a node used in the last quarter of an hour.
#[derive(Clone, Debug, Default)]
pub struct Trend {
    /// Seconds since any beginning, and the usage then; oldest first.
    samples: VecDeque<(f64, Usage)>,
}

impl Trend {
    /// Adds a sample, `at_s` later than those before; the oldest leaves when it is full.
    pub fn push(&mut self, at_s: f64, usage: Usage) {
        if self.samples.len() >= TREND_SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at_s, usage));
    }

    /// Seconds until `load` reaches `line`, if it goes on as it did: 0 when it is there, none when
    /// it does not rise beyond doubt (95 % interval of the least-squares slope), or so slowly that
    /// it takes more than a day.
    pub fn seconds_to(&self, load: Load, line: f64) -> Option<f64> {
        let (now_s, last) = self.samples.back()?;
        if last.of(load) >= line {
            return Some(0.0);
        }
        if self.samples.len() < TREND_SAMPLES_MIN {
            return None;
        }
        let times: Vec<f64> = self.samples.iter().map(|(at, _)| at - now_s).collect();
        let used: Vec<f64> = self.samples.iter().map(|(_, usage)| usage.of(load)).collect();
        let trend = fit::line(&times, &used).filter(fit::Line::rises)?;
        let seconds = ((line - trend.at(0.0)) / trend.slope).max(0.0);
        (seconds <= HORIZON_S).then_some(seconds)
    }

    /// The mean of a load over the samples; none without any.
    pub fn mean(&self, load: Load) -> Option<f64> {
        let sum: f64 = self.samples.iter().map(|(_, usage)| usage.of(load)).sum();
        let n = self.samples.len();
        (n > 0).then(|| sum / n as f64)
    }
}

/// Hours of a month of 30 days, by which all monthly figures go.
pub const HOURS_PER_MONTH: f64 = 720.0;

/// Price of a node, and who its users are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Price of this node for an hour, with its share of what it needs; 0 = not known.
    pub cost_per_hour: f64,
    /// Monthly active users for each connection (mean of the month); 0 = not known.
    pub monthly_users_per_concurrent: f64,
}

/// What this node's work costs, in the currency of its price. None: the price is not known, or
/// there was nothing to divide it by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    /// Of a connection held for a month.
    pub per_connection_month: Option<f64>,
    /// Of a million deliveries.
    pub per_million_deliveries: Option<f64>,
    /// Of a monthly active user, for a month.
    pub per_monthly_active_user: Option<f64>,
}

impl Costs {
    /// Costs at a mean of so many connections and deliveries per second.
    pub fn new(price: &Price, connections: f64, deliveries_per_s: f64) -> Self {
        let share = |cost: f64, by: f64| {
            Some(cost / by).filter(|c| price.cost_per_hour > 0.0 && by > 0.0 && c.is_finite())
        };
        let month = price.cost_per_hour * HOURS_PER_MONTH;
        Self {
            per_connection_month: share(month, connections),
            per_million_deliveries: share(price.cost_per_hour, deliveries_per_s * 3_600.0 / 1e6),
            per_monthly_active_user: share(month, connections * price.monthly_users_per_concurrent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::sample;
    use proptest::prelude::*;

    fn limits() -> MachineLimits {
        MachineLimits {
            cores: 4.0,
            memory_bytes: 8e9,
            descriptors: 20_000.0,
            connection_limit: 0.0,
        }
    }

    #[test]
    fn lines_come_from_the_file_or_the_machine() {
        let check = |limits: MachineLimits, file: Option<&CapacityFile>, expect: [f64; 8]| {
            let lines = Lines::new(&limits, file);
            let found = Load::ALL.map(|load| lines.of(load).unwrap_or(0.0));
            for (found, expect) in found.iter().zip(expect) {
                assert!((found - expect).abs() < 1e-6, "{found} {expect}");
            }
        };
        let file = sample();
        check(limits(), None, [20_000.0, 0.0, 0.0, 0.0, 0.0, 3.2, 6.4e9, 16_000.0]);
        check(limits(), Some(&file), [7e3, 0.0, 0.0, 1.4e5, 0.0, 3.2, 6.4e9, 16_000.0]);
        let few = MachineLimits { connection_limit: 5_000.0, ..limits() };
        check(few, Some(&file), [5e3, 0.0, 0.0, 1.4e5, 0.0, 3.2, 6.4e9, 16_000.0]);
        check(MachineLimits::default(), None, [0.0; 8]);
    }

    #[test]
    fn headroom_of_a_load() {
        let check = |usage, line, expect: f64| {
            assert!((headroom(usage, line) - expect).abs() < 1e-12, "{usage} {line}");
        };
        check(0.0, 10.0, 1.0);
        check(4.0, 10.0, 0.6);
        check(10.0, 10.0, 0.0);
        check(15.0, 10.0, -0.5);
        check(1e9, 10.0, -1.0);
        check(1.0, 0.0, -1.0);
        check(0.0, 0.0, 1.0);
        check(f64::NAN, 10.0, 1.0);
        let lines = Lines::new(&limits(), Some(&sample()));
        let usage = Usage { connections: 3_500.0, memory_bytes: 6.4e9, ..Usage::default() };
        let all: Vec<_> = lines.headroom(&usage).map(|(load, h)| (load.name(), h)).collect();
        let expect = [
            ("connections", 0.5),
            ("deliveries", 1.0),
            ("cpu", 1.0),
            ("memory", 0.0),
            ("descriptors", 1.0),
        ];
        assert_eq!(all, expect);
    }

    fn trend(samples: usize, of: impl Fn(f64) -> f64) -> Trend {
        let mut trend = Trend::default();
        for n in 0..samples {
            let at = n as f64 * TREND_STEP_S as f64;
            trend.push(at, Usage { connections: of(at), ..Usage::default() });
        }
        trend
    }

    #[test]
    fn time_to_the_line() {
        let check = |samples: usize, of: fn(f64) -> f64, expect: Option<f64>| {
            let found = trend(samples, of).seconds_to(Load::Connections, 1_000.0);
            match (found, expect) {
                (Some(found), Some(expect)) => {
                    assert!((found - expect).abs() < 0.02 * expect + 1e-6, "{found} {expect}");
                }
                _ => assert_eq!(found, expect),
            }
        };
        // 1/s more, 500 at the end of 89 steps.
        check(90, |t| t - 390.0, Some(500.0));
        check(90, |t| t - 390.0 + 3.0 * (t / 7.0).sin(), Some(500.0));
        check(90, |_| 500.0, None);
        check(90, |t| 900.0 - t / 10.0, None);
        check(90, |t| 500.0 + 100.0 * (t * 1.3).sin(), None);
        check(90, |t| 500.0 + t / 1_000.0, None);
        check(11, |t| 9.0 * t, None);
        check(12, |t| t, Some(890.0));
        check(1, |_| 1_000.0, Some(0.0));
        check(0, |_| 0.0, None);
        // The fit says that the line was passed, and it was not.
        check(90, |t| if t < 880.0 { t * 1.2 } else { 999.0 }, Some(0.0));
    }

    #[test]
    fn the_past_is_forgotten() {
        let long = trend(1_000, |t| if t < 9_000.0 { 900.0 } else { 100.0 });
        assert_eq!(long.samples.len(), TREND_SAMPLES_MAX);
        assert_eq!(long.seconds_to(Load::Connections, 1_000.0), None);
        assert_eq!(trend(1_000, |t| t).mean(Load::Connections), Some(9_545.0));
        assert_eq!(Trend::default().mean(Load::Connections), None);
    }

    #[test]
    fn costs() {
        let check = |price: Price, connections, deliveries, expect: [Option<f64>; 3]| {
            let found = Costs::new(&price, connections, deliveries);
            let found = [
                found.per_connection_month,
                found.per_million_deliveries,
                found.per_monthly_active_user,
            ];
            for (found, expect) in found.iter().zip(expect) {
                let same = match (found, expect) {
                    (Some(a), Some(b)) => (a - b).abs() < 1e-9,
                    (a, b) => *a == b,
                };
                assert!(same, "{found:?} {expect:?}");
            }
        };
        let price = Price { cost_per_hour: 0.5, monthly_users_per_concurrent: 20.0 };
        check(price, 36_000.0, 25_000.0, [Some(0.01), Some(0.5 / 90.0), Some(0.0005)]);
        check(price, 0.0, 0.0, [None; 3]);
        check(price, f64::NAN, 0.0, [None; 3]);
        check(Price::default(), 10.0, 10.0, [None; 3]);
        let nobody = Price { monthly_users_per_concurrent: 0.0, ..price };
        check(nobody, 360.0, 0.0, [Some(1.0), None, None]);
    }

    proptest! {
        #[test]
        fn headroom_is_always_a_share(usage in any::<f64>(), line in any::<f64>()) {
            prop_assert!((-1.0..=1.0).contains(&headroom(usage, line)));
        }

        #[test]
        fn a_projection_is_in_the_future(
            used in prop::collection::vec(0.0..1e6f64, 0..100), line in 1.0..1e6f64,
        ) {
            let mut trend = Trend::default();
            for (n, connections) in used.iter().enumerate() {
                let usage = Usage { connections: *connections, ..Usage::default() };
                trend.push(10.0 * n as f64, usage);
            }
            if let Some(seconds) = trend.seconds_to(Load::Connections, line) {
                prop_assert!((0.0..=HORIZON_S).contains(&seconds));
            }
        }
    }
}
