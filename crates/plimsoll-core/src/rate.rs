//! A token bucket in eight bytes.

/// Permits up to `burst` at once and `per_second` on average.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// Tokens left, in thousandths.
    millis: u32,
    /// When it was last filled, in (wrapping) monotonic milliseconds.
    filled_ms: u32,
}

impl TokenBucket {
    /// Full at `now_ms`.
    pub fn full(burst: u32, now_ms: u64) -> Self {
        Self { millis: burst.min(u32::MAX / 1_000) * 1_000, filled_ms: now_ms as u32 }
    }

    /// Takes one token, if there is one. A rate of 0 means no limit.
    pub fn take(&mut self, per_second: u32, burst: u32, now_ms: u64) -> bool {
        if per_second == 0 {
            return true;
        }
        let passed = (now_ms as u32).wrapping_sub(self.filled_ms);
        // per_second tokens a second are per_second thousandths a millisecond.
        let gained = u64::from(passed) * u64::from(per_second);
        let most = u64::from(burst.max(1)) * 1_000;
        self.millis = (u64::from(self.millis) + gained).min(most).min(u64::from(u32::MAX)) as u32;
        self.filled_ms = now_ms as u32;
        match self.millis.checked_sub(1_000) {
            Some(left) => {
                self.millis = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut b = TokenBucket::full(3, 0);
        assert_eq!((0..5).filter(|_| b.take(10, 3, 0)).count(), 3);
        assert!(!b.take(10, 3, 99));
        assert!(b.take(10, 3, 100), "one token each 100 ms");
        assert_eq!((0..50).filter(|_| b.take(10, 3, 100_000)).count(), 3, "never above the burst");
        assert!((0..1_000).all(|_| b.take(0, 0, 0)), "0 is no limit");
    }
}
