//! A budget for retries: they may add a tenth to the load of a dependency, not multiply it.

use crate::limits;

/// Share of calls that may be retries.
pub const RETRY_RATIO: f64 = 0.1;

/// Retries that may be saved up.
pub const RETRIES_SAVED_MAX: f64 = 100.0;

/// Retries a quiet dependency is allowed at start.
const SAVED_AT_START: f64 = 10.0;

/// The retry budget of one dependency. Retry at one layer only.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    saved: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: SAVED_AT_START }
    }
}

impl RetryBudget {
    /// A first attempt is made.
    pub fn called(&mut self) {
        self.saved = (self.saved + RETRY_RATIO).min(RETRIES_SAVED_MAX);
    }

    /// Whether a call that has been attempted `attempts` times may be attempted again.
    #[must_use]
    pub fn may_retry(&mut self, attempts: u32) -> bool {
        let may = attempts < limits::ATTEMPTS_MAX && self.saved >= 1.0;
        if may {
            self.saved -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_calls() {
        let mut budget = RetryBudget::default();
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.called();
            retries += (1..10).take_while(|attempts| budget.may_retry(*attempts)).count();
        }
        assert!((1_000..=1_010).contains(&retries), "{retries}");
        (0..100_000).for_each(|_| budget.called());
        assert_eq!((0..10_000).filter(|_| budget.may_retry(1)).count(), 100);
        assert!(!RetryBudget::default().may_retry(limits::ATTEMPTS_MAX));
    }
}
