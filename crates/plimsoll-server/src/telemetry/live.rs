//! Once a second: rates, headroom, the time to the load line and live costs of this node.

use super::stats::CellOf;
use crate::control::capacity::Capacity;
use crate::load::process;
use crate::node::Node;
use plimsoll_capacity::headroom::{Costs, Load, TREND_STEP_S, Trend, Usage};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two samples.
const STEP: Duration = Duration::from_secs(1);
/// Rates and processor time are smoothed over about so many seconds: one burst is no load.
const SMOOTHING_S: f64 = 5.0;

/// Counters whose rates are told.
const COUNTERS: [(&str, CellOf); 7] = [
    ("messages_in", |s| &s.messages_in),
    ("messages_out", |s| &s.messages_out),
    ("connects", |s| &s.established),
    ("bytes_out", |s| &s.bytes_out),
    ("publications", |s| &s.publications),
    ("deliveries", |s| &s.deliveries),
    ("reconnects", |s| &s.reconnects),
];

type Counts = [u64; COUNTERS.len()];

/// The latest sample, for whoever asks.
#[derive(Debug, Default)]
pub struct Live(Mutex<Sample>);

/// What one second says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Events per second by name, over the last second.
    pub rates: Vec<(&'static str, u64)>,
    /// What is used, rates smoothed.
    pub usage: Usage,
    /// Headroom by load, where it has a line.
    pub headroom: Vec<(Load, f64)>,
    /// Seconds to the line by load, where it has one; none: it is not on its way there.
    pub seconds_to_line: Vec<(Load, Option<f64>)>,
    /// Costs at the mean use of the last quarter of an hour.
    pub costs: Costs,
}

impl Live {
    /// The latest sample.
    pub fn sample(&self) -> Sample {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, sample: Sample) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sample;
    }
}

/// Samples `node` for ever. The first sample is there when this returns.
pub fn spawn(node: Arc<Node>) {
    let mut sampler = Sampler::default();
    node.live.set(sampler.next(&see(&node), &node.capacity));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(STEP).await;
            node.live.set(sampler.next(&see(&node), &node.capacity));
        }
    });
}

/// What is seen of a node at one moment.
struct Seen {
    /// Seconds since the start.
    at_s: f64,
    counts: Counts,
    cpu_s: f64,
    connections: f64,
    memory_bytes: f64,
    descriptors: f64,
}

fn see(node: &Node) -> Seen {
    Seen {
        at_s: node.started.elapsed().as_secs_f64(),
        counts: COUNTERS.map(|(_, cell)| node.stats.iter().map(|s| cell(s).get()).sum()),
        cpu_s: process::cpu_seconds(),
        connections: node.population.connections() as f64,
        memory_bytes: process::resident_bytes(),
        descriptors: process::open_descriptors(),
    }
}

#[derive(Default)]
struct Sampler {
    /// Time, counts and processor time of the sample before.
    before: Option<(f64, Counts, f64)>,
    usage: Usage,
    trend: Trend,
    trend_due_s: f64,
}

impl Sampler {
    fn next(&mut self, seen: &Seen, capacity: &Capacity) -> Sample {
        let before = self.before.replace((seen.at_s, seen.counts, seen.cpu_s));
        let (rates, cores, share) = match before {
            Some((at_s, counts, cpu_s)) => {
                let seconds = (seen.at_s - at_s).max(0.001);
                let mut rates = [0.0; COUNTERS.len()];
                for ((rate, now), then) in rates.iter_mut().zip(seen.counts).zip(counts) {
                    *rate = now.saturating_sub(then) as f64 / seconds;
                }
                let cores = ((seen.cpu_s - cpu_s) / seconds).max(0.0);
                (rates, cores, 1.0 - (-seconds / SMOOTHING_S).exp())
            }
            None => ([0.0; COUNTERS.len()], 0.0, 1.0),
        };
        self.take(seen, rates, cores, share);
        if seen.at_s >= self.trend_due_s {
            self.trend_due_s = seen.at_s + TREND_STEP_S as f64;
            self.trend.push(seen.at_s, self.usage);
        }
        let lines = &capacity.lines;
        let with_line = Load::ALL.into_iter().filter_map(|load| Some((load, lines.of(load)?)));
        let mean = |load| self.trend.mean(load).unwrap_or_default();
        Sample {
            rates: COUNTERS
                .iter()
                .zip(rates)
                .map(|((name, _), r)| (*name, r.round() as u64))
                .collect(),
            usage: self.usage,
            headroom: lines.headroom(&self.usage).collect(),
            seconds_to_line: with_line
                .map(|(load, line)| (load, self.trend.seconds_to(load, line)))
                .collect(),
            costs: Costs::new(&capacity.price, mean(Load::Connections), mean(Load::Deliveries)),
        }
    }

    /// Moves the usage `share` of the way to what was seen.
    fn take(&mut self, seen: &Seen, rates: [f64; COUNTERS.len()], cores: f64, share: f64) {
        let smooth = |kept: f64, new: f64| kept + share * (new - kept);
        let [_, _, connects, bytes_out, publications, deliveries, _] = rates;
        let kept = self.usage;
        self.usage = Usage {
            connections: seen.connections,
            connects_per_s: smooth(kept.connects_per_s, connects),
            publishes_per_s: smooth(kept.publishes_per_s, publications),
            deliveries_per_s: smooth(kept.deliveries_per_s, deliveries),
            egress_bytes_per_s: smooth(kept.egress_bytes_per_s, bytes_out),
            cpu_cores: smooth(kept.cpu_cores, cores),
            memory_bytes: seen.memory_bytes,
            descriptors: seen.descriptors,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::capacity;

    fn capacity_of(connection_limit: usize) -> Capacity {
        let mut config = Config::default();
        config.policy.client.connection_limit = connection_limit;
        config.capacity.cost_per_hour_millionths = 500_000;
        capacity::load(&config).unwrap()
    }

    /// A node with 2 connections more and 500 deliveries more each second, at half a core.
    fn seen(second: u64) -> Seen {
        Seen {
            at_s: second as f64,
            counts: [0, 500 * second, 2 * second, 0, 5 * second, 500 * second, 0],
            cpu_s: second as f64 / 2.0,
            connections: 2.0 * second as f64,
            memory_bytes: 1e6,
            descriptors: 10.0,
        }
    }

    fn run(seconds: u64, capacity: &Capacity) -> Sample {
        let mut sampler = Sampler::default();
        let mut last = sampler.next(&seen(0), capacity);
        for second in 1..=seconds {
            last = sampler.next(&seen(second), capacity);
        }
        last
    }

    #[test]
    fn the_first_sample_knows_what_needs_no_time() {
        let capacity = capacity_of(1_000);
        let first = run(0, &capacity);
        let of = |load| first.headroom.iter().find(|(l, _)| *l == load).map(|(_, h)| *h);
        assert_eq!(of(Load::Connections), Some(1.0));
        assert!(of(Load::Memory).unwrap() > 0.99 && of(Load::Deliveries).is_none());
        assert!(first.rates.iter().all(|(_, rate)| *rate == 0));
        assert_eq!(first.costs, Costs::default());
        assert!(first.seconds_to_line.iter().all(|(_, seconds)| seconds.is_none()));
    }

    #[test]
    fn a_steady_rise() {
        let capacity = capacity_of(1_000);
        let last = run(300, &capacity);
        let rate = |name| last.rates.iter().find(|(n, _)| *n == name).map(|(_, rate)| *rate);
        assert_eq!((rate("deliveries"), rate("connects")), (Some(500), Some(2)));
        assert!((last.usage.cpu_cores - 0.5).abs() < 1e-6);
        assert!((last.usage.deliveries_per_s - 500.0).abs() < 1e-3);
        let of = |load| last.headroom.iter().find(|(l, _)| *l == load).map(|(_, h)| *h).unwrap();
        assert!((of(Load::Connections) - 0.4).abs() < 1e-9);
        let to = |load| last.seconds_to_line.iter().find(|(l, _)| *l == load).unwrap().1;
        // 400 are left at 2 a second.
        assert!((to(Load::Connections).unwrap() - 200.0).abs() < 1.0, "{last:?}");
        assert_eq!((to(Load::Memory), to(Load::Descriptors)), (None, None));
        // 300 connections on average, 0.5 an hour.
        let cost = last.costs.per_connection_month.unwrap();
        assert!((cost - 0.5 * 720.0 / 300.0).abs() < 0.01, "{cost}");
    }

    #[test]
    fn a_burst_is_smoothed() {
        let capacity = capacity_of(0);
        let mut sampler = Sampler::default();
        let at = |at_s: f64, deliveries: u64| Seen {
            at_s,
            counts: [0, 0, 0, 0, 0, deliveries, 0],
            ..seen(0)
        };
        sampler.next(&at(0.0, 0), &capacity);
        let burst = sampler.next(&at(1.0, 1_000), &capacity);
        assert_eq!(burst.rates[5], ("deliveries", 1_000));
        assert!((burst.usage.deliveries_per_s - 181.3).abs() < 0.1, "{burst:?}");
        let after = sampler.next(&at(2.0, 1_000), &capacity);
        assert!(after.usage.deliveries_per_s < burst.usage.deliveries_per_s);
    }
}
