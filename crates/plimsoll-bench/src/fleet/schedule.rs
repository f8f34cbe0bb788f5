//! When things are due: fixed in advance, whatever the server does. Pure.

/// First connections at a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ramp {
    /// Clients `0..wanted` are to be connected.
    pub wanted: u32,
    /// 0: as soon as may be.
    per_s: f64,
    /// Client `base` is due at `base_us`, those below were before.
    base: u32,
    base_us: u64,
}

impl Ramp {
    /// Another target or rate from `at_us` on. The same as before changes nothing.
    pub fn set(&mut self, at_us: u64, wanted: u32, per_s: f64) {
        if (self.wanted, self.per_s) == (wanted, per_s) {
            return;
        }
        let base = self.due_until(at_us).min(wanted);
        *self = Self { wanted, per_s, base, base_us: at_us };
    }

    /// When a client's first connection is due; `None`: as soon as may be.
    pub fn due_us(&self, client: u32) -> Option<u64> {
        let steps = f64::from(client.saturating_sub(self.base));
        (self.per_s > 0.0).then(|| self.base_us + (steps * 1e6 / self.per_s) as u64)
    }

    /// Clients below this one were due by `at_us`.
    fn due_until(&self, at_us: u64) -> u32 {
        let steps = at_us.saturating_sub(self.base_us) as f64 * self.per_s / 1e6;
        match self.per_s > 0.0 {
            true => self.base.saturating_add(steps as u32).min(self.wanted),
            false => self.wanted,
        }
    }
}

/// Arrivals at a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrivals {
    /// Between two, on average.
    gap_us: f64,
    /// Independent of each other (exponential gaps), or evenly.
    random: bool,
    next_us: f64,
}

impl Arrivals {
    /// From `at_us` on; `None` for a rate of 0. The first comes within a gap, by chance.
    pub fn new(per_s: f64, random: bool, at_us: u64, rng: &mut fastrand::Rng) -> Option<Self> {
        if !(per_s > 0.0 && per_s.is_finite()) {
            return None;
        }
        let mut made = Self { gap_us: 1e6 / per_s, random, next_us: at_us as f64 };
        made.next_us += match random {
            true => made.gap(rng),
            false => made.gap_us * rng.f64(),
        };
        Some(made)
    }

    /// When the next is due.
    pub fn next_us(&self) -> u64 {
        self.next_us as u64
    }

    /// Takes the next one if it is due, and says when it was.
    pub fn take(&mut self, now_us: u64, rng: &mut fastrand::Rng) -> Option<u64> {
        let due_us = self.next_us();
        if due_us > now_us {
            return None;
        }
        self.next_us += self.gap(rng);
        Some(due_us)
    }

    fn gap(&self, rng: &mut fastrand::Rng) -> f64 {
        match self.random {
            // 1 - U is never 0.
            true => -(1.0 - rng.f64()).ln() * self.gap_us,
            false => self.gap_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_goes_by_its_rate() {
        let mut ramp = Ramp::default();
        ramp.set(1_000_000, 100, 10.0);
        assert_eq!(ramp.due_us(0), Some(1_000_000));
        assert_eq!(ramp.due_us(10), Some(2_000_000));
        ramp.set(1_500_000, 100, 10.0);
        assert_eq!(ramp.due_us(10), Some(2_000_000), "the same again changes nothing");
    }

    #[test]
    fn another_rate_goes_on_where_the_first_was() {
        let mut ramp = Ramp::default();
        ramp.set(1_000_000, 100, 10.0);
        ramp.set(2_000_000, 100, 100.0);
        assert_eq!(ramp.due_us(10), Some(2_000_000));
        assert_eq!(ramp.due_us(20), Some(2_100_000));
        ramp.set(10_000_000, 150, 1.0);
        assert_eq!(ramp.due_us(100), Some(10_000_000));
        assert_eq!(ramp.due_us(101), Some(11_000_000));
        ramp.set(10_000_000, 50, 1.0);
        ramp.set(10_000_000, 60, 1.0);
        assert_eq!(ramp.due_us(50), Some(10_000_000));
    }

    #[test]
    fn without_a_rate_all_may_start() {
        let mut ramp = Ramp::default();
        ramp.set(5, 100, 0.0);
        assert_eq!(ramp.due_us(99), None);
        ramp.set(2_000_000, 200, 10.0);
        assert_eq!(ramp.due_us(100), Some(2_000_000));
    }

    fn arrivals(per_s: f64, random: bool, until_us: u64) -> Vec<u64> {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut arrivals = Arrivals::new(per_s, random, 0, &mut rng).unwrap();
        std::iter::from_fn(|| arrivals.take(until_us, &mut rng)).collect()
    }

    #[test]
    fn even_arrivals_keep_their_gap() {
        let all = arrivals(1_000.0, false, 1_000_000);
        assert_eq!(all.len(), 1_000);
        assert!(all.windows(2).all(|pair| (999..=1_001).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn random_arrivals_keep_their_rate_and_scatter() {
        let all = arrivals(1_000.0, true, 10_000_000);
        assert!((9_500..10_500).contains(&all.len()), "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of exponential gaps the deviation is the mean.
        assert!((0.9..1.1).contains(&(spread.sqrt() / mean)));
    }

    #[test]
    fn late_ones_keep_their_time() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut arrivals = Arrivals::new(10.0, false, 0, &mut rng).unwrap();
        let first = arrivals.take(5_000_000, &mut rng).unwrap();
        let second = arrivals.take(5_000_000, &mut rng).unwrap();
        assert!(first < 100_000 && second - first == 100_000);
        assert_eq!(arrivals.take(first, &mut rng), None);
    }

    #[test]
    fn no_rate_no_arrivals() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Arrivals::new(rate, true, 0, &mut fastrand::Rng::with_seed(1)), None);
        }
    }
}
