//! At what pace those who came back may ask for what they missed.
//!
//! A recovery has no rate of its own: it costs what it costs, from a look at an empty list to
//! three hundred messages to encode. So the pace is a share of a worker's time, divided by what
//! recoveries have cost lately. It is never zero.

use crate::limits;

/// The pace of one worker.
#[derive(Clone, Debug)]
pub struct RecoveryPace {
    /// Microseconds that may be spent now; below zero nothing more is begun.
    budget_us: f64,
    filled_us: u64,
    /// What one has cost lately, in microseconds: at the channel's home, and where it is answered.
    home_us: f64,
    answer_us: f64,
}

impl Default for RecoveryPace {
    fn default() -> Self {
        let half = limits::RECOVERY_COST_US / 2.0;
        let budget_us = limits::RECOVERY_BURST_US;
        Self { budget_us, filled_us: 0, home_us: half, answer_us: half }
    }
}

impl RecoveryPace {
    /// Whether one more may begin at `now_us`. It may: its expected cost is taken.
    pub fn begin(&mut self, now_us: u64) -> bool {
        self.fill(now_us);
        let may = self.budget_us > 0.0;
        if may {
            self.spend();
        }
        may
    }

    /// One begins without being asked about.
    pub fn begin_unpaced(&mut self, now_us: u64) {
        self.fill(now_us);
        self.spend();
    }

    /// A look into a history took so long.
    pub fn home_took(&mut self, us: u64) {
        self.home_us += (bounded(us) - self.home_us) * limits::RECOVERY_COST_WEIGHT;
    }

    /// An answer took so long.
    pub fn answer_took(&mut self, us: u64) {
        self.answer_us += (bounded(us) - self.answer_us) * limits::RECOVERY_COST_WEIGHT;
    }

    /// What one costs, in microseconds; at least 1.
    pub fn cost_us(&self) -> f64 {
        (self.home_us + self.answer_us).max(1.0)
    }

    /// The pace that follows from it, in recoveries per second.
    pub fn per_s(&self) -> f64 {
        limits::RECOVERY_TIME_RATIO * 1e6 / self.cost_us()
    }

    /// Milliseconds until one more may begin, if nothing else does.
    pub fn wait_ms(&self) -> u64 {
        let debt_us = (-self.budget_us).max(0.0);
        (debt_us / limits::RECOVERY_TIME_RATIO / 1_000.0).ceil() as u64 + 1
    }

    fn fill(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.filled_us) as f64;
        self.filled_us = self.filled_us.max(now_us);
        let budget_us = self.budget_us + passed_us * limits::RECOVERY_TIME_RATIO;
        self.budget_us = budget_us.min(limits::RECOVERY_BURST_US);
    }

    fn spend(&mut self) {
        // What was begun unpaced is not held against the others for ever.
        self.budget_us = (self.budget_us - self.cost_us()).max(-limits::RECOVERY_DEBT_US_MAX);
    }
}

/// One that was interrupted must not stop the others for minutes.
fn bounded(us: u64) -> f64 {
    (us as f64).min(limits::RECOVERY_COST_US_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many begin in 10 s if as many as may do, each costing `us`, asked every `every_us`.
    fn begun(us: u64, every_us: u64) -> f64 {
        let mut pace = RecoveryPace::default();
        // The cost is known: the first second does not count.
        (0..200).for_each(|_| {
            pace.home_took(us / 2);
            pace.answer_took(us.div_ceil(2));
        });
        let mut count = 0.0;
        for now_us in (0..11_000_000).step_by(every_us as usize) {
            while pace.begin(now_us) {
                count += f64::from(u8::from(now_us > 1_000_000));
            }
        }
        count / 10.0
    }

    #[test]
    fn a_quarter_of_the_time_whatever_one_costs() {
        for (us, expect) in [(1, 250_000.0), (100, 2_500.0), (1_000, 250.0), (20_000, 12.5)] {
            for every_us in [1_000, 10_000, 50_000] {
                let found = begun(us, every_us);
                assert!((found / expect - 1.0).abs() < 0.05, "{us} µs each: {found} per s");
            }
        }
    }

    #[test]
    fn what_was_not_asked_about_is_paid_for() {
        let mut pace = RecoveryPace::default();
        (0..10_000).for_each(|_| pace.begin_unpaced(0));
        assert!(!pace.begin(0));
        let wait_ms = pace.wait_ms();
        assert!(!pace.begin(wait_ms * 1_000 / 2));
        assert!(pace.begin(wait_ms * 1_000), "not later than it says: {wait_ms} ms");
    }

    proptest! {
        #[test]
        fn it_never_stops(
            steps in prop::collection::vec((0_u64..3, 0..u64::MAX / 4, 0_u64..5_000_000), 0..200)
        ) {
            let mut pace = RecoveryPace::default();
            let mut now_us = 0_u64;
            for (kind, us, passed_us) in steps {
                now_us += passed_us;
                match kind {
                    0 => pace.home_took(us),
                    1 => pace.answer_took(us),
                    _ => pace.begin_unpaced(now_us),
                }
                prop_assert!(pace.cost_us() >= 1.0 && pace.per_s() > 0.5);
            }
            pace.begin(now_us);
            let most_ms = limits::RECOVERY_DEBT_US_MAX / limits::RECOVERY_TIME_RATIO / 1_000.0;
            prop_assert!(pace.wait_ms() as f64 <= most_ms + 2.0);
            prop_assert!(pace.begin(now_us + pace.wait_ms() * 1_000));
        }
    }
}
