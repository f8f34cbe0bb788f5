//! Channels with very many subscribers are written in slices, so that one of them does not keep
//! the others waiting.
//!
//! What such a channel has gathered is taken together with the list of those who were there. Each
//! turn sends one slice of one list, channels in rotation, and more as long as the turn's other
//! work took longer. What comes meanwhile gathers, and leaves in one write per subscriber when
//! the list is through: the busier the worker, the more messages a write carries. All together
//! get half of the time.

use super::outbox::{Shared, Tag};
use super::{Core, Io};
use plimsoll_core::hub::ChannelKey;
use plimsoll_core::limits;
use plimsoll_overload::feature::Class;
use std::collections::VecDeque;
use std::rc::Rc;

/// In the place of a subscriber that has left.
const GONE: u32 = u32::MAX;

/// A group of a channel that is being written.
struct Sending {
    key: ChannelKey,
    tag: Tag,
    frames: Vec<u8>,
    messages: u32,
    publications: u32,
    received_us: u64,
    slots: Vec<u32>,
    /// So many have been served.
    next: usize,
    /// Where in `frames` begins what is for the last of `slots`.
    late: Vec<u32>,
    /// What full sockets did not take.
    leftover: Option<Rc<Shared>>,
}

impl Sending {
    /// Those who get all of it.
    fn on_time(&self) -> usize {
        self.slots.len() - self.late.len().min(self.slots.len())
    }

    /// What the one at this place gets.
    fn frames_of(&self, at: usize) -> &[u8] {
        let late = at.checked_sub(self.on_time()).and_then(|late| self.late.get(late));
        self.frames.get(late.map_or(0, |start| *start as usize)..).unwrap_or_default()
    }
}

/// What is being written in slices.
pub(super) struct Hot {
    /// Subscribers from which on a channel is.
    pub subscribers: usize,
    /// Sockets of one slice.
    pub slice: usize,
    sending: VecDeque<Sending>,
    /// Until then no other begins: they have had their half of the time.
    free_us: u64,
    spare: Vec<u32>,
}

impl Default for Hot {
    fn default() -> Self {
        Self {
            subscribers: limits::HOT_SUBSCRIBERS,
            slice: limits::HOT_SLICE,
            sending: VecDeque::new(),
            free_us: 0,
            spare: Vec::new(),
        }
    }
}

impl Hot {
    /// Is nothing under way?
    pub fn is_idle(&self) -> bool {
        self.sending.is_empty()
    }

    /// Gives up what is under way, and spare memory.
    pub fn clear(&mut self) {
        (self.sending, self.spare) = (VecDeque::new(), Vec::new());
    }

    /// Gives spare memory back.
    pub fn drop_spare(&mut self) {
        self.spare = Vec::new();
    }

    fn is_sending(&self, key: ChannelKey) -> bool {
        self.sending.iter().any(|s| s.key == key)
    }

    /// Takes a subscriber out that is about to leave the channel; gives what it has not got yet.
    pub fn forget(&mut self, key: ChannelKey, slot: u32) -> Option<&[u8]> {
        let of_channel = self.sending.iter_mut().filter(|s| s.key == key);
        let (sending, at) = of_channel.into_iter().find_map(|sending| {
            let left = sending.slots.get(sending.next..)?;
            let at = sending.next + left.iter().position(|s| *s == slot)?;
            Some((sending, at))
        })?;
        *sending.slots.get_mut(at)? = GONE;
        Some(sending.frames_of(at))
    }

    /// The half of the time that is not theirs is counted from where they began.
    fn spent(&mut self, began_us: u64, took_us: u64) {
        self.free_us = self.free_us.max(began_us) + 2 * took_us;
    }
}

impl Core {
    /// Begins to write a hot channel, or lets it gather if that is not its time.
    pub(super) fn begin_hot(&mut self, key: ChannelKey) {
        let free_ms = self.hot.free_us / 1_000;
        if self.hot.is_sending(key) || self.now.mono_ms < free_ms {
            return self.hub.hold_until(key, free_ms.max(self.now.mono_ms + 1));
        }
        let class = self.hub.get_mut(key).map_or(Class::Durable, |c| c.class);
        for index in 0..self.hub.group_count(key) {
            let Some(mut group) = self.hub.take_group(key, index) else { continue };
            let mut slots = std::mem::take(&mut self.hot.spare);
            slots.clear();
            slots.extend_from_slice(&group.subscribers);
            self.hot.sending.push_back(Sending {
                key,
                tag: Tag::Channel(key, class),
                frames: std::mem::take(&mut group.frames),
                messages: group.messages,
                publications: group.publications,
                received_us: group.received_us,
                slots,
                next: 0,
                late: std::mem::take(&mut group.late),
                leftover: None,
            });
            self.hub.put_back(key, index, group);
        }
    }

    /// One slice, and more as long as the turn's other work took longer.
    pub(super) fn send_hot(&mut self, io: &mut impl Io) {
        if self.hot.is_idle() {
            return;
        }
        let mut now_us = io.micros();
        let others_us = now_us.saturating_sub(self.received_us);
        let mut spent_us = 0;
        while let Some(mut sending) = self.hot.sending.pop_front() {
            let (began_us, most) = (now_us, sending.next + self.hot.slice);
            let mut took_us = 0;
            while sending.next < most.min(sending.slots.len()) && took_us < limits::HOT_SLICE_US {
                self.send_some(&mut sending, limits::HOT_STEP.min(self.hot.slice), io);
                now_us = io.micros();
                took_us = now_us.saturating_sub(began_us);
            }
            self.stats.hot_slices.add(1);
            self.hot.spent(began_us, took_us);
            spent_us += took_us;
            if sending.next < sending.slots.len() {
                self.hot.sending.push_back(sending);
            } else {
                self.end_hot(sending);
            }
            if spent_us >= others_us {
                break;
            }
        }
    }

    /// Writes the rest of what is under way of a channel: something must follow it at once.
    pub(super) fn complete_hot(&mut self, key: ChannelKey, io: &mut impl Io) {
        while let Some(at) = self.hot.sending.iter().position(|s| s.key == key) {
            let Some(mut sending) = self.hot.sending.remove(at) else { return };
            self.send_some(&mut sending, usize::MAX, io);
            self.end_hot(sending);
        }
    }

    /// Writes to the next ones, at most so many.
    fn send_some(&mut self, sending: &mut Sending, most: usize, io: &mut impl Io) {
        let from = sending.next;
        let end = from.saturating_add(most).min(sending.slots.len());
        let cut = sending.on_time().clamp(from, end);
        sending.next = end;
        let tag = sending.tag;
        if let Some(slots) = sending.slots.get(from..cut) {
            self.send_frames(slots, &sending.frames, tag, &mut sending.leftover, io);
        }
        for at in cut..end {
            let (Some(slot), frames) = (sending.slots.get(at), sending.frames_of(at)) else {
                break;
            };
            if !frames.is_empty() {
                self.send_frames(std::slice::from_ref(slot), frames, tag, &mut None, io);
            }
        }
        let slots = sending.slots.get(from..end).unwrap_or_default();
        let served = slots.iter().filter(|slot| **slot != GONE).count() as u64;
        let bytes = sending.frames.len() as u64;
        let counts = (sending.messages, sending.publications);
        self.count_written(counts, bytes, served, sending.received_us, io);
    }

    /// It is through: what gathered meanwhile is next.
    fn end_hot(&mut self, sending: Sending) {
        self.hub.recycle(sending.frames);
        if sending.slots.capacity() > self.hot.spare.capacity() {
            self.hot.spare = sending.slots;
        }
        if !self.hot.is_sending(sending.key) {
            let most_ms = self.hub.get_mut(sending.key).map_or(0, |c| c.window_ms_max);
            let window_ms = u64::from(self.gates.batching_window_ms.min(most_ms));
            self.hub.hold_until(sending.key, self.now.mono_ms + window_ms);
        }
    }
}
