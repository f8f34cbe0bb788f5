//! What is to happen at a time. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An entry: when, for which client (its place), in which generation of it, and what.
type Entry = (u64, u32, u32, Due);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The client connects.
    Connect,
    /// It asks again for a subscription (its place among the client's).
    Subscribe(u32),
}

/// Times of clients, earliest first.
///
/// Entries are not taken back: who takes them out compares the generation. A client has one
/// connect and its subscriptions at most, so that the number is bounded.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<Entry>>);

impl Timers {
    pub fn add(&mut self, due_us: u64, client: usize, generation: u32, due: Due) {
        self.0.push(Reverse((due_us, client as u32, generation, due)));
    }

    /// When the earliest is due.
    pub fn next_us(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((due_us, ..))| *due_us)
    }

    /// Takes the earliest if it is due: when it was, whose, of which generation, what.
    pub fn take(&mut self, now_us: u64) -> Option<(u64, usize, u32, Due)> {
        let Reverse((due_us, client, generation, due)) = *self.0.peek()?;
        if due_us > now_us {
            return None;
        }
        self.0.pop();
        Some((due_us, client as usize, generation, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_none_too_early() {
        let mut timers = Timers::default();
        for (due_us, client) in [(30, 1), (10, 2), (20, 3)] {
            timers.add(due_us, client, 7, Due::Connect);
        }
        assert_eq!((timers.next_us(), timers.take(9)), (Some(10), None));
        assert_eq!(timers.take(25), Some((10, 2, 7, Due::Connect)));
        assert_eq!(timers.take(25), Some((20, 3, 7, Due::Connect)));
        assert_eq!(timers.take(25), None);
        assert_eq!(timers.take(30), Some((30, 1, 7, Due::Connect)));
        assert_eq!(timers.next_us(), None);
    }
}
