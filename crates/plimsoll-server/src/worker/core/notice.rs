//! Telling every client about the load, spread over seconds.

use super::Core;
use plimsoll_core::limits::NOTICE_STEP_MAX;
use plimsoll_core::session::Phase;
use std::sync::Arc;

/// Between two steps, in milliseconds.
const STEP_MS: u64 = 10;

/// The notice that is on its way, and what newcomers are told.
#[derive(Debug, Default)]
pub(super) struct Notices {
    greeting: Option<Arc<str>>,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    push: Vec<u8>,
    /// Those who were there when it began, in the order in which they are told.
    slots: Vec<u32>,
    told: usize,
    started_ms: u64,
    spread_ms: u64,
    next_ms: u64,
}

impl Notices {
    /// What those are told who connect from now on.
    pub fn greet_with(&mut self, greeting: Option<Arc<str>>) {
        self.greeting = greeting;
    }

    /// Begins to tell `slots`. A notice that is still on its way ends: this one says more.
    pub fn begin(&mut self, json: &str, slots: Vec<u32>, now_ms: u64, spread_ms: u64) {
        let pending = Pending {
            push: push(json),
            slots,
            told: 0,
            started_ms: now_ms,
            spread_ms,
            next_ms: now_ms,
        };
        self.pending = Some(pending).filter(|p| !p.slots.is_empty());
    }

    /// Milliseconds until somebody is to be told.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        self.pending.as_ref().map_or(u64::MAX, |p| p.next_ms.saturating_sub(now_ms))
    }

    /// Those whose turn it is.
    fn take_due(&mut self, now_ms: u64) -> Option<(Pending, std::ops::Range<usize>)> {
        let mut pending = self.pending.take_if(|p| p.next_ms <= now_ms)?;
        let all = pending.slots.len();
        let passed_ms = now_ms.saturating_sub(pending.started_ms);
        let due = match pending.spread_ms {
            0 => all,
            spread_ms => (all as u64).saturating_mul(passed_ms).div_ceil(spread_ms) as usize,
        };
        let from = pending.told;
        // The first one at once; late ones in steps, too.
        let to = due.max(1).min(all).min(from.saturating_add(NOTICE_STEP_MAX)).max(from);
        pending.told = to;
        let apart_ms = pending.spread_ms / all.max(1) as u64;
        pending.next_ms = now_ms.saturating_add(apart_ms.max(STEP_MS));
        Some((pending, from..to))
    }
}

/// A message of the protocol that belongs to no channel.
fn push(json: &str) -> Vec<u8> {
    format!(r#"{{"push":{{"message":{{"data":{json}}}}}}}"#).into_bytes()
}

impl Core {
    /// Tells a client that has just connected what does not work now.
    pub(super) fn greet(&mut self, slot: u32) {
        if let Some(greeting) = self.notices.greeting.clone() {
            self.send_text(slot, |out| out.extend_from_slice(&push(&greeting)));
        }
    }

    /// Tells those whose turn it is.
    pub(super) fn tell_notices(&mut self) {
        let Some((pending, due)) = self.notices.take_due(self.now.mono_ms) else { return };
        for slot in pending.slots.get(due).unwrap_or_default() {
            // Who came later, or has not been answered yet, is greeted instead.
            let hears = self.conns.get_mut(*slot).is_some_and(|conn| {
                let before = conn.opened_ms <= pending.started_ms;
                before && conn.session_mut().is_some_and(|s| s.phase() == Phase::Open)
            });
            if hears {
                self.send_urgent(*slot, |out| out.extend_from_slice(&pending.push));
            }
        }
        if pending.told < pending.slots.len() {
            self.notices.pending = Some(pending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a notice to `count` slots as a loop does that wakes when it is due, but not more often
    /// than every `turn_ms`: when each was told, and the most in one step.
    fn run(count: u32, spread_ms: u64, turn_ms: u64) -> (Vec<(u32, u64)>, usize) {
        let mut notices = Notices::default();
        notices.begin("{}", (0..count).collect(), 1_000, spread_ms);
        let (mut now_ms, mut told, mut most) = (1_000, Vec::new(), 0);
        while notices.wait_ms(now_ms) < u64::MAX {
            if let Some((pending, due)) = notices.take_due(now_ms) {
                most = most.max(due.len());
                told.extend(pending.slots[due].iter().map(|slot| (*slot, now_ms - 1_000)));
                notices.pending = Some(pending).filter(|p| p.told < p.slots.len());
            }
            now_ms += notices.wait_ms(now_ms).clamp(1, 60_000).max(turn_ms);
        }
        (told, most)
    }

    #[test]
    fn everybody_is_told_once_within_the_spread() {
        let check = |count: u32, spread_ms: u64, turn_ms: u64, late_ms: u64| {
            let (told, most) = run(count, spread_ms, turn_ms);
            let slots: Vec<u32> = told.iter().map(|(slot, _)| *slot).collect();
            assert_eq!(slots, (0..count).collect::<Vec<_>>(), "{count} {spread_ms}");
            let last = told.last().map_or(0, |(_, at)| *at);
            assert!(last <= spread_ms + late_ms, "{count}: the last one after {last} ms");
            assert!(most <= NOTICE_STEP_MAX, "{most} in one step");
            let half = told.iter().filter(|(_, at)| *at <= spread_ms / 2).count();
            let fair = count as usize * 4 / 10;
            assert!(late_ms > 100 || half >= fair, "{half} of {count} in the first half");
        };
        check(1, 5_000, 1, 100);
        check(3, 5_000, 1, 100);
        check(1_000, 5_000, 1, 100);
        check(100_000, 10_000, 1, 100);
        // A busy loop is late, and tells no more in one step for that.
        check(10_000, 5_000, 500, 20_000);
        check(500, 0, 1, 100);
        assert!(run(0, 5_000, 1).0.is_empty());
    }

    #[test]
    fn a_newer_notice_takes_the_place() {
        let mut notices = Notices::default();
        assert_eq!(notices.wait_ms(0), u64::MAX);
        notices.begin("1", vec![1, 2], 0, 5_000);
        notices.begin("2", vec![3], 10, 5_000);
        let (pending, due) = notices.take_due(10).unwrap();
        assert_eq!((&*pending.push, due), (&*push("2"), 0..1));
        assert_eq!(pending.slots, [3]);
    }
}
