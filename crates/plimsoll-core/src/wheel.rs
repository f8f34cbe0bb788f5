//! Deadlines of connections: one entry each, without an allocation.
//!
//! A hashed wheel with lists through the entries themselves (16 bytes each). Moving and
//! removing cost a few writes; a deadline beyond the wheel's reach is looked at once a turn of it.

const NONE: u32 = u32::MAX;
/// Milliseconds of one step.
const TICK_MS: u64 = 64;
/// Steps: the wheel reaches 65 s, beyond the longest usual ping interval.
const SLOTS: usize = 1_024;

#[derive(Clone, Copy)]
struct Entry {
    deadline_ms: u64,
    next: u32,
    prev: u32,
}

const FREE: Entry = Entry { deadline_ms: u64::MAX, next: NONE, prev: NONE };

/// At most one deadline for each key.
pub struct Wheel {
    heads: Box<[u32]>,
    entries: Vec<Entry>,
    /// The tick up to which all has fired.
    tick: u64,
    armed: usize,
}

impl Wheel {
    /// Empty, with time starting at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        let heads = vec![NONE; SLOTS].into_boxed_slice();
        Self { heads, entries: Vec::new(), tick: now_ms / TICK_MS, armed: 0 }
    }

    /// Sets the deadline of `key`; `u64::MAX` removes it.
    pub fn set(&mut self, key: u32, deadline_ms: u64) {
        let index = key as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, FREE);
        }
        if self.entries[index].deadline_ms == deadline_ms {
            return;
        }
        self.unlink(key);
        if deadline_ms != u64::MAX {
            self.link(key, deadline_ms);
        }
    }

    /// The deadline of `key`, `u64::MAX` when it has none.
    pub fn get(&self, key: u32) -> u64 {
        self.entries.get(key as usize).map_or(u64::MAX, |e| e.deadline_ms)
    }

    /// Milliseconds until something may be due; `None` when nothing is set.
    pub fn wait_ms(&self, now_ms: u64) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        let busy = (1..=SLOTS as u64).find(|d| self.heads[slot_of(self.tick + d)] != NONE);
        let at = (self.tick + busy.unwrap_or(SLOTS as u64)) * TICK_MS;
        Some(at.saturating_sub(now_ms))
    }

    /// Removes what is due at `now_ms` and appends its keys to `due`.
    pub fn expire(&mut self, now_ms: u64, due: &mut Vec<u32>) {
        let until = now_ms / TICK_MS;
        // More than a whole turn behind: every slot is looked at once.
        let first = self.tick.max(until.saturating_sub(SLOTS as u64)) + 1;
        for tick in first..=until {
            self.tick = tick;
            let mut key = self.heads[slot_of(tick)];
            while key != NONE {
                let entry = self.entries[key as usize];
                self.unlink(key);
                if entry.deadline_ms <= now_ms {
                    due.push(key);
                } else {
                    // It was beyond the wheel's reach when it was set.
                    self.link(key, entry.deadline_ms);
                }
                key = entry.next;
            }
        }
        self.tick = self.tick.max(until);
    }

    fn link(&mut self, key: u32, deadline_ms: u64) {
        // Never before the next tick (it would wait a whole turn), rounded up: never early.
        let tick = deadline_ms.div_ceil(TICK_MS).max(self.tick + 1);
        let tick = tick.min(self.tick + SLOTS as u64);
        let slot = slot_of(tick);
        let head = self.heads[slot];
        // `prev` of a list's first entry holds its slot, marked by the high bit being set.
        self.entries[key as usize] =
            Entry { deadline_ms, next: head, prev: HEAD_MARK | slot as u32 };
        if head != NONE {
            self.entries[head as usize].prev = key;
        }
        self.heads[slot] = key;
        self.armed += 1;
    }

    fn unlink(&mut self, key: u32) {
        let entry = self.entries[key as usize];
        if entry.deadline_ms == u64::MAX {
            return;
        }
        if entry.prev & HEAD_MARK != 0 {
            self.heads[(entry.prev & !HEAD_MARK) as usize] = entry.next;
        } else {
            self.entries[entry.prev as usize].next = entry.next;
        }
        if entry.next != NONE {
            self.entries[entry.next as usize].prev = entry.prev;
        }
        self.entries[key as usize] = FREE;
        self.armed -= 1;
    }
}

const HEAD_MARK: u32 = 0x8000_0000;

fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Against a map: all that is due fires, within one tick, and nothing early.
        #[test]
        fn fires_like_a_map(
            ops in proptest::collection::vec((0u32..40, 0u64..200_000, 0u64..3_000), 1..200),
        ) {
            let mut wheel = Wheel::new(0);
            let mut model: HashMap<u32, u64> = HashMap::new();
            let mut now = 0;
            for (key, ahead, step) in ops {
                if ahead % 7 == 0 {
                    wheel.set(key, u64::MAX);
                    model.remove(&key);
                } else {
                    wheel.set(key, now + ahead);
                    model.insert(key, now + ahead);
                }
                now += step;
                let mut due = Vec::new();
                wheel.expire(now, &mut due);
                for key in due {
                    let at = model.remove(&key);
                    prop_assert!(at.is_some_and(|at| at <= now), "{key} fired early or twice");
                }
                // What is still set may be late by a tick (and by the step it was set in).
                for (key, at) in &model {
                    prop_assert!(*at + 2 * TICK_MS > now, "{key} due at {at} not fired at {now}");
                }
                prop_assert_eq!(wheel.armed, model.len());
            }
        }
    }
}
