//! Exponential averages, each resource with its own time constants.

use crate::limits;
use crate::signals::{Pressures, Resource};

/// Smooths pressures; knows what it saw before.
#[derive(Clone, Debug, Default)]
pub struct Smoother {
    value: Pressures,
    seen_ms: [u64; crate::signals::RESOURCES_COUNT],
    last_ms: Option<u64>,
}

impl Smoother {
    /// Takes a sample and gives the smoothed pressures. A clock that goes backwards stands still.
    pub fn sample(&mut self, now_ms: u64, raw: &Pressures) -> Pressures {
        let passed_ms = self.last_ms.map_or(0, |last| now_ms.saturating_sub(last));
        self.last_ms = Some(self.last_ms.map_or(now_ms, |last| last.max(now_ms)));
        for resource in Resource::ALL {
            self.one(now_ms, passed_ms, resource, raw.get(resource));
        }
        self.value
    }

    fn one(&mut self, now_ms: u64, passed_ms: u64, resource: Resource, raw: Option<f64>) {
        let seen_ms = &mut self.seen_ms[resource as usize];
        let Some(raw) = raw else {
            if now_ms.saturating_sub(*seen_ms) > limits::MISSING_HELD_MS {
                self.value.set(resource, None);
            }
            return;
        };
        *seen_ms = now_ms;
        let raw = raw.min(limits::PRESSURE_MAX);
        // What was never seen was nothing: a process that has just started is busy for a moment,
        // and its first sample must not stand for seconds.
        let old = self.value.get(resource).unwrap_or(0.0);
        let row = resource.row();
        let constant_s = if raw > old { row.up_s } else { row.down_s };
        self.value.set(resource, Some(step(old, raw, passed_ms, constant_s)));
    }
}

/// One step of an exponential average with a time constant: after `constant_s` a step of the
/// input is followed by 63 %.
pub(crate) fn step(old: f64, new: f64, passed_ms: u64, constant_s: f64) -> f64 {
    if constant_s <= 0.0 {
        return new;
    }
    let weight = 1.0 - (-(passed_ms as f64) / (constant_s * 1_000.0)).exp();
    old + (new - old) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(resource: Resource, pressure: Option<f64>) -> Pressures {
        let mut all = Pressures::default();
        all.set(resource, pressure);
        all
    }

    /// Holds `from` for a minute, then `to`, and gives the value after `after_ms`.
    fn check(resource: Resource, from: f64, to: f64, after_ms: u64, expect: f64) {
        let mut smoother = Smoother::default();
        smoother.sample(0, &only(resource, None));
        smoother.sample(60_000, &only(resource, Some(from)));
        let mut last = None;
        for now in (60_250..=60_000 + after_ms).step_by(250) {
            last = smoother.sample(now, &only(resource, Some(to))).get(resource);
        }
        let found = last.expect("sampled");
        assert!((found - expect).abs() < 0.002, "{resource:?}: {found}, expected {expect}");
    }

    #[test]
    fn follows_with_its_time_constant() {
        check(Resource::Cpu, 0.0, 1.0, 3_000, 0.632);
        check(Resource::Lag, 0.0, 1.0, 1_000, 0.632);
        check(Resource::Memory, 0.0, 1.0, 250, 1.0);
        check(Resource::Memory, 1.0, 0.0, 10_000, 0.368);
        check(Resource::Connections, 1.0, 0.2, 250, 0.2);
        check(Resource::Lag, 0.0, 50.0, 60_000, limits::PRESSURE_MAX);
    }

    #[test]
    fn a_missing_signal_is_held_and_then_forgotten() {
        let mut smoother = Smoother::default();
        smoother.sample(1_000, &only(Resource::Memory, Some(0.9)));
        let held = smoother.sample(6_000, &only(Resource::Memory, None));
        assert_eq!(held.get(Resource::Memory), Some(0.9));
        let gone = smoother.sample(6_001, &only(Resource::Memory, None));
        assert_eq!(gone.get(Resource::Memory), None);
    }

    #[test]
    fn a_clock_that_goes_backwards_stands_still() {
        let mut smoother = Smoother::default();
        smoother.sample(10_000, &only(Resource::Memory, Some(0.5)));
        let back = smoother.sample(1_000, &only(Resource::Memory, Some(0.1)));
        assert_eq!(back.get(Resource::Memory), Some(0.5));
        let same = smoother.sample(10_000, &only(Resource::Memory, Some(0.1)));
        assert_eq!(same.get(Resource::Memory), Some(0.5), "no time has passed");
    }

    #[test]
    fn a_first_sample_counts_no_more_than_others() {
        let mut smoother = Smoother::default();
        smoother.sample(0, &only(Resource::Cpu, None));
        let first = smoother.sample(250, &only(Resource::Cpu, Some(1.0)));
        assert!(first.get(Resource::Cpu).is_some_and(|p| (p - 0.08).abs() < 0.001), "{first:?}");
        let memory = smoother.sample(500, &only(Resource::Memory, Some(0.9)));
        assert_eq!(memory.get(Resource::Memory), Some(0.9), "nothing is averaged there");
    }
}
