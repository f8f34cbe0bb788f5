//! Telling the people on call that the level has changed, without filling their pockets.

use crate::level::Level;
use crate::limits;

/// One event for a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The level of the last alert.
    pub from: Level,
    /// The level now.
    pub to: Level,
    /// When, in milliseconds of the caller's clock.
    pub at_ms: u64,
    /// Changes since the last alert that made none.
    pub suppressed: u64,
}

/// Decides which level changes become alerts: at most one per minute, except that a level higher
/// than all of the last minute is told at once. That makes five per minute at the very most.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    told: Level,
    sent_ms: Option<u64>,
    /// The highest level told in this interval.
    highest: Level,
    last: Level,
    suppressed: u64,
}

impl Alerts {
    /// Takes the level of a sample.
    pub fn sample(&mut self, now_ms: u64, level: Level) -> Option<Alert> {
        let changed = level != self.last;
        self.last = level;
        let over = |sent| now_ms.saturating_sub(sent) >= limits::ALERT_INTERVAL_MS;
        let rested = self.sent_ms.is_none_or(over);
        if level == self.told || !(rested || level > self.highest) {
            self.suppressed += u64::from(changed);
            return None;
        }
        let alert =
            Alert { from: self.told, to: level, at_ms: now_ms, suppressed: self.suppressed };
        // What was told before counts, too: falling and rising again is no news of its own.
        self.highest = if rested { level.max(self.told) } else { self.highest.max(level) };
        // A rise within the interval does not open a new one.
        self.sent_ms = if rested { Some(now_ms) } else { self.sent_ms };
        self.told = level;
        self.suppressed = 0;
        Some(alert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Level::{Critical, Degraded, Emergency, Normal, Warning};

    /// (second, level) in, (second, to, suppressed) out.
    fn check(script: &[(u64, Level)], expect: &[(u64, Level, u64)]) {
        let mut alerts = Alerts::default();
        let sent: Vec<_> = script
            .iter()
            .filter_map(|(s, level)| alerts.sample(s * 1_000, *level))
            .map(|a| (a.at_ms / 1_000, a.to, a.suppressed))
            .collect();
        assert_eq!(sent, expect, "{script:?}");
    }

    #[test]
    fn rises_at_once_falls_when_a_minute_is_over() {
        check(&[(0, Normal), (1, Normal)], &[]);
        check(
            &[(1, Warning), (2, Critical), (3, Emergency), (20, Critical), (61, Critical)],
            &[(1, Warning, 0), (2, Critical, 0), (3, Emergency, 0), (61, Critical, 1)],
        );
        check(
            &[(1, Warning), (20, Normal), (60, Normal), (61, Normal)],
            &[(1, Warning, 0), (61, Normal, 1)],
        );
        // It has gone and come again within the minute: one alert.
        check(&[(1, Degraded), (20, Warning), (30, Degraded), (99, Degraded)], &[(1, Degraded, 0)]);
    }

    #[test]
    fn flapping_makes_one_alert_a_minute() {
        let flapping: Vec<_> =
            (0..600).map(|s| (s, if s % 2 == 0 { Degraded } else { Normal })).collect();
        let mut alerts = Alerts::default();
        let sent = flapping.iter().filter(|(s, l)| alerts.sample(s * 1_000, *l).is_some()).count();
        assert!((9..=11).contains(&sent), "{sent}");
    }
}
