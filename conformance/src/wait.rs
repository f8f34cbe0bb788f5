//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const BETWEEN: Duration = Duration::from_millis(5);

/// Looks until `condition` holds; false when it does not within the time.
pub fn until(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(BETWEEN);
    }
}

/// Does something every so often; keeps the average when it was held up.
pub struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    /// The first turn is due now.
    pub fn new(every: Duration) -> Self {
        Self { next: Instant::now(), every }
    }

    /// Returns when the next turn is due. After a long hold-up the turns missed are left out.
    pub fn turn(&mut self) {
        let now = Instant::now();
        if self.next > now {
            thread::sleep(self.next - now);
        }
        self.next = (self.next + self.every).max(now.checked_sub(10 * self.every).unwrap_or(now));
    }
}
