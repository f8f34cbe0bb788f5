//! What happens to bytes that a full socket did not take: what waits, what is given up, and who is
//! told of it.

use super::outbox::{Outbox, Shared, Tag};
use super::{Core, Io};
use plimsoll_core::limits;
use plimsoll_overload::actions::ShedQueues;
use plimsoll_overload::feature::Class;
use plimsoll_overload::limits::SAMPLE_INTERVAL_MS;
use std::rc::Rc;
use std::sync::Arc;

/// How full a queue is, seen from what is to join it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pressed {
    No,
    Soft,
    Hard,
}

impl Pressed {
    fn of(outbox: &Outbox, now_ms: u64, rest: usize, most: usize, crowded: bool) -> Self {
        let age_ms = outbox.oldest_ms().map_or(0, |at| now_ms.saturating_sub(at));
        if crowded || outbox.len() + rest > most || age_ms > limits::QUEUE_HARD_AGE_MS {
            Self::Hard
        } else if outbox.len() > limits::QUEUE_SOFT_BYTES || age_ms > limits::QUEUE_SOFT_AGE_MS {
            Self::Soft
        } else {
            Self::No
        }
    }
}

impl Core {
    /// Queues what a full socket did not take. Too much of it: the client has fallen behind, or is
    /// slow and is closed at the end of the turn (now its channel may be being written). What comes
    /// first is taken whatever its size: one turn's replies, which the client itself asked for.
    pub(super) fn queue(
        &mut self,
        slot: u32,
        bytes: &Rc<Shared>,
        from: usize,
        tag: Tag,
        io: &mut impl Io,
    ) {
        let (now_ms, rest) = (self.now.mono_ms, bytes.len().saturating_sub(from));
        let most = self.shared.policy.client.queue_max_size_bytes;
        let crowded = self.meter.bytes() > self.queues_bytes_max;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let (key, open) = (conn.key(slot), conn.is_open());
        let fresh = conn.outbox.is_none();
        let outbox = conn.outbox.get_or_insert_with(|| Box::new(Outbox::since(now_ms)));
        let before = (outbox.len() as u64, outbox.chunks() as u64);
        let load = Pressed::of(outbox, now_ms, rest, most, crowded);
        match tag {
            Tag::Channel(channel, _) if outbox.misses(channel) => return,
            Tag::Channel(channel, class) if load != Pressed::No && !fresh => {
                if class == Class::Ephemeral {
                    outbox.drop_ephemeral();
                    self.stats.dropped_ephemeral.add(1);
                } else if load == Pressed::Hard {
                    outbox.fall_behind();
                    outbox.miss(channel, class);
                    self.behind.push(key);
                } else {
                    if class == Class::State {
                        outbox.conflate(channel);
                        self.stats.conflated.add(1);
                    }
                    outbox.push(Rc::clone(bytes), from, tag, now_ms);
                }
            }
            _ => {
                if open && !fresh && outbox.len() + rest > most {
                    outbox.fall_behind();
                    self.behind.push(key);
                }
                if open && !fresh && outbox.len() + rest > most {
                    self.slow.push(key);
                    conn.doomed = true;
                } else {
                    outbox.push(Rc::clone(bytes), from, tag, now_ms);
                }
            }
        }
        self.recount(slot, before);
        if fresh {
            self.special.set(slot, true);
            let paused = self.conns.get(slot).is_some_and(|c| c.paused);
            io.watch(slot, !paused, true);
            self.rearm(slot);
        }
    }

    /// Follows a queue's change in the worker's figures.
    pub(super) fn recount(&self, slot: u32, (bytes, chunks): (u64, u64)) {
        let Some(outbox) = self.conns.get(slot).and_then(|c| c.outbox.as_ref()) else { return };
        let (bytes_now, chunks_now) = (outbox.len() as u64, outbox.chunks() as u64);
        self.stats.queued_bytes.add(bytes_now);
        self.stats.queued_bytes.sub(bytes);
        self.stats.queued_chunks.add(chunks_now);
        self.stats.queued_chunks.sub(chunks);
    }

    /// Tells a client of what was left out: it gets that by recovery, or has to go.
    pub(super) fn tell_missed(&mut self, slot: u32, io: &mut impl Io) {
        let outbox = self.conns.get(slot).and_then(|c| c.outbox.as_ref());
        let missed: Vec<_> = outbox.map(|o| o.missed().to_vec()).unwrap_or_default();
        for (key, class) in missed {
            // A channel that nobody here has any more has no name.
            let name = self.hub.get_mut(key).map(|c| Arc::clone(&c.name)).unwrap_or_default();
            self.stats.fell_behind.add(1);
            let precious = class == Class::Durable;
            self.with_session(slot, io, |s, _, fx| s.fell_behind(&name, precious, fx));
        }
        // Not before: leaving the channel writes what it had gathered, and that must be left out.
        if let Some(outbox) = self.conns.get_mut(slot).and_then(|c| c.outbox.as_mut()) {
            outbox.forget_missed();
        }
        self.drop_empty_outbox(slot, io);
    }

    /// When the queues of all clients hold too much, the longest are given up first.
    pub(super) fn relieve(&mut self) {
        let now_ms = self.now.mono_ms;
        let over = self.meter.bytes() > self.queues_bytes_max / 100 * 85;
        let shed = match self.gates.shed_queues {
            None if over => Some(ShedQueues { queues_per_pass: 50, bytes_min: 1 }),
            shed => shed,
        };
        let catch_up = self.gates.catch_up;
        if (shed.is_none() && !catch_up) || now_ms < self.next_relief_ms {
            return;
        }
        self.next_relief_ms = now_ms + limits::RELIEF_INTERVAL_MS;
        let wanted = |slot: u32| {
            let outbox = self.conns.get(slot)?.outbox.as_ref()?;
            let soft = Pressed::of(outbox, now_ms, 0, usize::MAX, false) != Pressed::No;
            let long = shed.is_some_and(|shed| outbox.len() >= shed.bytes_min as usize);
            (long || (catch_up && soft)).then_some((outbox.len(), slot))
        };
        // Only who is marked can have a queue.
        let mut longest: Vec<(usize, u32)> = self.special.ones().filter_map(wanted).collect();
        longest.sort_unstable_by(|a, b| b.cmp(a));
        let per_pass = shed.map_or(0, |shed| shed.queues_per_pass as usize);
        let most = if catch_up { limits::CATCH_UP_PER_PASS_MAX } else { per_pass };
        for (_, slot) in longest.into_iter().take(most) {
            let Some(conn) = self.conns.get_mut(slot) else { continue };
            let key = conn.key(slot);
            let Some(outbox) = conn.outbox.as_mut() else { continue };
            let before = (outbox.len() as u64, outbox.chunks() as u64);
            outbox.fall_behind();
            self.behind.push(key);
            self.recount(slot, before);
        }
    }

    /// How old the oldest queued frame is, 99th percentile over this worker's connections: exact,
    /// since all but the blocked ones have none. The worst hundredth is left out, and at least
    /// one: a reader that stands still has a reason of its own.
    pub(super) fn watch_ages(&mut self) {
        let now_ms = self.now.mono_ms;
        if now_ms < self.next_ages_ms {
            return;
        }
        self.next_ages_ms = now_ms + SAMPLE_INTERVAL_MS;
        if self.stats.queued_chunks.get() == 0 {
            return self.stats.oldest_frame_age_ms.set(0);
        }
        let oldest = |slot| self.conns.get(slot)?.outbox.as_ref()?.oldest_ms();
        let ages = self.special.ones().filter_map(oldest).map(|at| now_ms.saturating_sub(at));
        let mut ages: Vec<u64> = ages.collect();
        let left_out = self.conns.len().div_ceil(100);
        let age_ms = match left_out < ages.len() {
            true => *ages.select_nth_unstable_by(left_out, |a, b| b.cmp(a)).1,
            false => 0,
        };
        self.stats.oldest_frame_age_ms.set(age_ms);
    }

    /// Drops a slow client's queue but for the frame that is cut.
    pub(super) fn cut_queue(&mut self, slot: u32) {
        let Some(outbox) = self.conns.get_mut(slot).and_then(|c| c.outbox.as_mut()) else { return };
        let before = (outbox.len() as u64, outbox.chunks() as u64);
        outbox.keep_current_frame();
        self.recount(slot, before);
    }
}
