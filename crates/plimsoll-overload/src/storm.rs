//! Whether many come back at once: a node has died, a proxy was restarted, a network was away.
//!
//! Told from a busy hour by three things together: far more connects than in the last ten minutes,
//! suddenly, and most of them ask for what they missed. While it lasts, the ten minutes before it
//! are what it is held against.

use crate::limits;
use std::collections::VecDeque;

/// What came in one interval.
#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    per_s: f64,
    back_per_s: f64,
}

/// The detector.
#[derive(Clone, Debug, Default)]
pub struct Storm {
    /// When the interval that is open began, and what had come by then.
    began: Option<(u64, u64, u64)>,
    /// Connects per second of the last ten minutes; those of a storm are not in it.
    usual: VecDeque<f64>,
    recent: VecDeque<Interval>,
    /// When it began.
    since_ms: Option<u64>,
    /// Since when it would be over.
    calm_since_ms: Option<u64>,
}

impl Storm {
    /// Takes what has come since the start: connects, and those of them that came back. Says
    /// whether there is a storm.
    pub fn sample(&mut self, now_ms: u64, connects: u64, back: u64) -> bool {
        let Some((began_ms, connects_then, back_then)) = self.began else {
            self.began = Some((now_ms, connects, back));
            return false;
        };
        let passed_ms = now_ms.saturating_sub(began_ms);
        if passed_ms >= limits::STORM_INTERVAL_MS {
            self.began = Some((now_ms, connects, back));
            // An interval that was looked at late is longer.
            let seconds = passed_ms as f64 / 1_000.0;
            let per_s = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            let (per_s, back_per_s) = (per_s(connects, connects_then), per_s(back, back_then));
            self.close(now_ms, Interval { per_s, back_per_s });
        }
        self.since_ms.is_some()
    }

    /// Connects per second that are usual; `None` before it is known.
    pub fn usual_per_s(&self) -> Option<f64> {
        if self.usual.len() < limits::STORM_INTERVALS_MIN {
            return None;
        }
        let mut sorted: Vec<f64> = self.usual.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// Connects per second of the last minute that was none.
    fn minute_per_s(&self) -> f64 {
        let last = self.usual.iter().rev().take(limits::STORM_INTERVALS_MINUTE);
        let count = last.len().max(1) as f64;
        last.sum::<f64>() / count
    }

    fn close(&mut self, now_ms: u64, interval: Interval) {
        push(&mut self.recent, interval, limits::STORM_INTERVALS_RECENT);
        let count = self.recent.len() as f64;
        let per_s = self.recent.iter().map(|i| i.per_s).sum::<f64>() / count;
        let back_per_s = self.recent.iter().map(|i| i.back_per_s).sum::<f64>() / count;
        let share = if per_s > 0.0 { back_per_s / per_s } else { 0.0 };
        let Some(since_ms) = self.since_ms else {
            let far = self.usual_per_s().is_some_and(|usual| {
                per_s > limits::STORM_FACTOR * usual && per_s >= limits::STORM_CONNECTS_PER_S_MIN
            });
            // A node that fills up slowly is no storm, however far it gets.
            let sudden = per_s > limits::STORM_JUMP * self.minute_per_s();
            if far && sudden && share > limits::STORM_BACK_RATIO {
                (self.since_ms, self.calm_since_ms) = (Some(now_ms), None);
            } else {
                push(&mut self.usual, interval.per_s, limits::STORM_INTERVALS_MAX);
            }
            return;
        };
        // Half of what it takes to begin.
        let usual = self.usual_per_s().unwrap_or(0.0);
        let calm = per_s <= limits::STORM_FACTOR / 2.0 * usual
            || per_s < limits::STORM_CONNECTS_PER_S_MIN / 2.0
            || share < limits::STORM_BACK_RATIO / 2.0;
        self.calm_since_ms = if calm { self.calm_since_ms.or(Some(now_ms)) } else { None };
        let calmed = self.calm_since_ms.is_some_and(|at| now_ms - at >= limits::STORM_CALM_MS);
        if now_ms.saturating_sub(since_ms) >= limits::STORM_MS_MAX {
            // What lasts so long is how it is now.
            self.usual.clear();
            self.since_ms = None;
        } else if calmed {
            self.since_ms = None;
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a script of (seconds, connects per second at their begin and end, share that comes
    /// back); gives the seconds at which a storm began and ended.
    fn run(script: &[(u64, f64, f64, f64)]) -> Vec<(u64, bool)> {
        let (mut storm, mut was, mut changes) = (Storm::default(), false, Vec::new());
        let (mut now_ms, mut connects, mut back) = (0_u64, 0.0, 0.0);
        for (seconds, from, to, share) in script {
            for step in 0..seconds * 4 {
                let per_s = from + (to - from) * step as f64 / (seconds * 4) as f64;
                connects += per_s / 4.0;
                back += per_s / 4.0 * share;
                now_ms += 250;
                let is = storm.sample(now_ms, connects as u64, back as u64);
                if is != was {
                    changes.push((now_ms / 1_000, is));
                }
                was = is;
            }
        }
        changes
    }

    #[test]
    fn what_is_no_storm() {
        for (name, script) in [
            ("steady", vec![(1_800, 50.0, 50.0, 0.9)]),
            ("quiet", vec![(1_800, 0.2, 0.2, 1.0)]),
            ("a handful on a quiet node", vec![(600, 0.1, 0.1, 0.5), (5, 8.0, 8.0, 1.0)]),
            ("ramp", vec![(300, 10.0, 10.0, 0.9), (1_200, 10.0, 200.0, 0.9)]),
            ("spike of new ones", vec![(600, 10.0, 10.0, 0.1), (60, 500.0, 500.0, 0.3)]),
            ("twice as many", vec![(600, 50.0, 50.0, 0.9), (600, 140.0, 140.0, 0.9)]),
            ("cold start", vec![(60, 3_000.0, 3_000.0, 1.0), (600, 20.0, 20.0, 0.5)]),
        ] {
            assert_eq!(run(&script), [], "{name}");
        }
    }

    #[test]
    fn a_day_is_no_storm() {
        // From 20 per second at night to 220 in the evening, half of them coming back.
        let hour = |h: f64| 120.0 - 100.0 * (h / 24.0 * std::f64::consts::TAU).cos();
        let day: Vec<_> =
            (0..24).map(|h| (3_600, hour(f64::from(h)), hour(f64::from(h) + 1.0), 0.6)).collect();
        assert_eq!(run(&day), []);
    }

    #[test]
    fn a_storm_is_seen_within_seconds_and_ends() {
        let usual = (600, 50.0, 50.0, 0.3);
        let changes = run(&[usual, (30, 2_000.0, 2_000.0, 0.95), (300, 50.0, 50.0, 0.3)]);
        let [(began, true), (ended, false)] = changes[..] else { panic!("{changes:?}") };
        assert!((600..=606).contains(&began), "{began}");
        assert!((640..=652).contains(&ended), "{ended}");
        // It does not end because it has become the usual.
        let changes = run(&[usual, (500, 2_000.0, 2_000.0, 0.95), (60, 50.0, 50.0, 0.3)]);
        let [(_, true), (ended, false)] = changes[..] else { panic!("{changes:?}") };
        assert!((1_110..=1_125).contains(&ended), "{ended}");
        // But at some time it has.
        let changes = run(&[usual, (3_000, 2_000.0, 2_000.0, 0.95)]);
        let [(_, true), (ended, false)] = changes[..] else { panic!("{changes:?}") };
        assert!((1_200..=1_215).contains(&ended), "{ended}");
    }

    #[test]
    fn a_look_that_comes_late_makes_no_storm() {
        let mut storm = Storm::default();
        let mut now_ms = 0;
        for _ in 0..400 {
            now_ms += 2_000;
            storm.sample(now_ms, now_ms / 50, now_ms / 50);
        }
        now_ms += 60_000;
        assert!(!storm.sample(now_ms, now_ms / 50, now_ms / 50));
        assert_eq!(storm.usual_per_s(), Some(20.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn without_a_rise_or_without_those_who_come_back_there_is_none(
            per_s in 0.0_f64..5_000.0,
            share in 0.0_f64..=1.0,
            noise in prop::collection::vec(0.5_f64..1.45, 50),
            peaks in prop::collection::vec(1.0_f64..100.0, 50),
        ) {
            let level: Vec<_> =
                noise.iter().map(|n| (20, per_s * n, per_s * n, share)).collect();
            prop_assert_eq!(run(&level), []);
            let new: Vec<_> =
                peaks.iter().map(|n| (20, per_s * n, per_s * n, share / 2.01)).collect();
            prop_assert_eq!(run(&new), []);
        }
    }
}
