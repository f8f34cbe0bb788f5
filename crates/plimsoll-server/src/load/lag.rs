//! How late a worker's loop is: a tick is due every 100 ms, and the loop says when it came to it.
//!
//! The worker writes plain stores; any other thread reads. A loop that hangs says nothing, so the
//! reader counts what is overdue at that moment too, as a person waiting would.

use std::sync::atomic::{AtomicU64, Ordering};

/// Between two ticks, in microseconds.
pub const TICK_US: u64 = 100_000;
/// Ticks of the window that is read: one second.
const WINDOW_TICKS: u64 = 10;
/// Delays kept. After a stall up to ten are stored at once, and in the second after it ten more
/// ticks are due; all of those must be there together.
const SLOTS: usize = 32;
/// No tick is due; also a slot that was never written.
const NONE: u64 = u64::MAX;

/// Written by one worker, read by others. It allocates nothing and has no lock.
#[derive(Debug)]
pub struct LagMeter {
    /// Upper half: the tick at which it was stored; lower half: the delay in microseconds. One
    /// word, so that a reader never sees the halves of two.
    slots: [AtomicU64; SLOTS],
    /// Slots written; the next one to write, modulo their number. Only the worker uses it.
    written: AtomicU64,
    /// When the next tick is due, or [`NONE`].
    due_us: AtomicU64,
}

impl Default for LagMeter {
    fn default() -> Self {
        Self {
            slots: [const { AtomicU64::new(NONE) }; SLOTS],
            written: AtomicU64::new(0),
            due_us: AtomicU64::new(NONE),
        }
    }
}

impl LagMeter {
    /// To be called by the worker in each turn of its loop, with its clock in microseconds. If a
    /// tick was due its delay is kept, and that of each one missed after it, for ten at most.
    pub fn tick(&self, now_us: u64) {
        let due_us = self.due_us.load(Ordering::Relaxed);
        if due_us == NONE {
            // The first turn, or the first one after a rest: nothing was due.
            self.due_us.store(next(now_us), Ordering::Release);
            return;
        }
        if now_us < due_us {
            return;
        }
        let mut late_us = now_us - due_us;
        for _ in 0..WINDOW_TICKS {
            self.keep(now_us, late_us);
            let Some(next) = late_us.checked_sub(TICK_US) else { break };
            late_us = next;
        }
        self.due_us.store(next(now_us), Ordering::Release);
    }

    /// When the loop must wake for the next tick; `None` if it never ticked or rests. A worker
    /// that sleeps longer measures its own sleep.
    pub fn due_us(&self) -> Option<u64> {
        Some(self.due_us.load(Ordering::Relaxed)).filter(|due| *due != NONE)
    }

    /// To be called by the worker before a sleep without an end: nothing is due until it ticks
    /// again. What delays its waking up is not seen then.
    pub fn rest(&self) {
        self.due_us.store(NONE, Ordering::Release);
    }

    fn keep(&self, now_us: u64, late_us: u64) {
        let written = self.written.load(Ordering::Relaxed);
        let late = late_us.min(u64::from(u32::MAX));
        if let Some(slot) = self.slots.get(written as usize % SLOTS) {
            slot.store(tick_of(now_us) << 32 | late, Ordering::Relaxed);
        }
        self.written.store(written.wrapping_add(1), Ordering::Relaxed);
    }

    /// Delays kept within the last second, and the one that is running. In microseconds.
    fn delays(&self, now_us: u64) -> impl Iterator<Item = u64> + '_ {
        let due_us = self.due_us.load(Ordering::Acquire);
        let running = (due_us < now_us).then(|| now_us - due_us);
        let now = tick_of(now_us);
        let kept = self.slots.iter().map(|s| s.load(Ordering::Relaxed)).filter(move |slot| {
            // A slot of the future is one that was written after `now_us` was read.
            let age = now.wrapping_sub(slot >> 32) & u64::from(u32::MAX);
            *slot != NONE && (age < WINDOW_TICKS || age > u64::from(u32::MAX) - WINDOW_TICKS)
        });
        kept.map(|slot| slot & u64::from(u32::MAX)).chain(running)
    }
}

fn next(now_us: u64) -> u64 {
    now_us.saturating_add(TICK_US).min(NONE - 1)
}

/// Number of the tick a time falls into. 32 bits of it last for 13 years.
fn tick_of(us: u64) -> u64 {
    (us / TICK_US) & u64::from(u32::MAX)
}

/// Delays of the last second, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// The largest.
    pub max_us: u64,
    /// At most 1 % are larger (nearest rank). With fewer than a hundred delays, which is fewer
    /// than ten workers, this is the largest one.
    pub p99_us: u64,
}

impl Lag {
    /// Of one worker or several. `now_us` is on the clock the workers use. `None` if no tick was
    /// due within the last second.
    pub fn of<'m>(meters: impl IntoIterator<Item = &'m LagMeter>, now_us: u64) -> Option<Self> {
        let mut delays: Vec<u64> = meters.into_iter().flat_map(|m| m.delays(now_us)).collect();
        delays.sort_unstable();
        let rank = (delays.len() * 99).div_ceil(100);
        let p99_us = *delays.get(rank.checked_sub(1)?)?;
        Some(Self { max_us: *delays.last()?, p99_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000;

    fn max_ms(meter: &LagMeter, now_ms: u64) -> Option<u64> {
        Lag::of([meter], now_ms * MS).map(|lag| lag.max_us / MS)
    }

    /// A meter that ticked at these milliseconds.
    fn ticked(at_ms: impl IntoIterator<Item = u64>) -> LagMeter {
        let meter = LagMeter::default();
        at_ms.into_iter().for_each(|ms| meter.tick(ms * MS));
        meter
    }

    #[test]
    fn nothing_is_due_at_first() {
        let meter = LagMeter::default();
        assert_eq!((meter.due_us(), max_ms(&meter, 5_000)), (None, None));
        meter.tick(7);
        assert_eq!(meter.due_us(), Some(7 + TICK_US));
        assert_eq!(Lag::of([&meter], 7 + TICK_US), None);
        assert_eq!(Lag::of([], 7), None);
    }

    #[test]
    fn delays_are_kept_for_a_second() {
        let meter = ticked([1_000, 1_050, 1_130]);
        assert_eq!(meter.due_us(), Some(1_230 * MS));
        assert_eq!(max_ms(&meter, 1_130), Some(30));
        for turn in 0..9 {
            meter.tick((1_230 + turn * 100) * MS);
        }
        assert_eq!(max_ms(&meter, 2_030), Some(30));
        meter.tick(2_130 * MS);
        assert_eq!(max_ms(&meter, 2_130), Some(0));
    }

    #[test]
    fn a_loop_that_hangs_is_seen_while_it_hangs() {
        let meter = ticked([1_000, 1_100]);
        assert_eq!(max_ms(&meter, 1_200), Some(0));
        assert_eq!(max_ms(&meter, 1_900), Some(700));
        assert_eq!(max_ms(&meter, 9_200), Some(8_000));
    }

    #[test]
    fn a_stall_counts_for_each_tick_it_swallowed() {
        let meter = ticked([1_000, 1_450]);
        let all = |now_ms| {
            let mut all: Vec<_> = meter.delays(now_ms * MS).map(|us| us / MS).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(all(1_450), [50, 150, 250, 350]);
        // The worst of a long one stays for its second, however busy that is.
        meter.tick(9_550 * MS);
        assert_eq!(all(9_550).len(), 10);
        for turn in 1..10 {
            meter.tick((9_550 + turn * 101) * MS);
        }
        assert_eq!(max_ms(&meter, 10_459), Some(8_000));
        assert_eq!(max_ms(&meter, 10_559), Some(1));
    }

    #[test]
    fn a_rest_is_not_a_delay() {
        let meter = ticked([1_000]);
        meter.rest();
        assert_eq!((meter.due_us(), max_ms(&meter, 60_000)), (None, None));
        meter.tick(60_000 * MS);
        assert_eq!(max_ms(&meter, 60_000), None);
        meter.tick(60_105 * MS);
        assert_eq!(max_ms(&meter, 60_105), Some(5));
    }

    #[test]
    fn the_99th_percentile_is_by_nearest_rank() {
        let meters: Vec<_> = (0..20).map(|_| ticked((10..21).map(|n| n * 100))).collect();
        let late = ticked([1_900, 2_040]);
        let lag = |n: usize| Lag::of(meters.iter().take(n).chain([&late]), 2_040 * MS).unwrap();
        // 201 delays, two may be larger; the late one is one of them, and so not the 99th.
        assert_eq!(lag(20), Lag { max_us: 40 * MS, p99_us: 0 });
        assert_eq!(lag(2), Lag { max_us: 40 * MS, p99_us: 40 * MS });
    }

    #[test]
    fn it_is_read_while_it_is_written() {
        let meter = LagMeter::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200_000).for_each(|n| meter.tick(n * 103_000)));
            // The reader's clock is the writer's last tick, wherever that is.
            for _ in 0..2_000 {
                let due_us = meter.due_us().unwrap_or(0);
                for late_us in meter.delays(due_us) {
                    assert!(late_us == 3_000, "{late_us}");
                }
            }
        });
    }

    proptest! {
        #[test]
        fn any_times(times in proptest::collection::vec(any::<u64>(), 0..60)) {
            let meter = LagMeter::default();
            for (n, time) in times.iter().enumerate() {
                if n % 7 == 6 {
                    meter.rest();
                }
                meter.tick(*time);
                if let Some(lag) = Lag::of([&meter], *time) {
                    prop_assert!(lag.p99_us <= lag.max_us);
                }
            }
        }

        #[test]
        fn the_worst_of_the_last_second_is_never_lost(
            gaps_ms in proptest::collection::vec(0u64..400, 1..80)
        ) {
            let meter = LagMeter::default();
            let (mut now, mut due) = (1_000, None);
            let mut late: Vec<(u64, u64)> = Vec::new();
            for gap in gaps_ms {
                now += gap;
                if let Some(at) = due.filter(|at| *at <= now) {
                    late.push((now, now - at));
                }
                if due.is_none_or(|at| at <= now) {
                    due = Some(now + 100);
                }
                meter.tick(now * MS);
                let recent = late.iter().filter(|(at, _)| at / 100 + 10 > now / 100);
                prop_assert_eq!(max_ms(&meter, now), recent.map(|(_, l)| *l).max());
            }
        }
    }
}
