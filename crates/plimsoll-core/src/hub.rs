//! Who of this worker's connections gets which channel, and what this turn has for them.
//!
//! Subscribers of one channel and encoding stand in one dense array; the turn's finished frames
//! gather in one buffer beside it. Nothing is touched per subscriber until the flush.

use crate::limits;
use crate::map::{self, Map};
use plimsoll_overload::feature::Class;
use smallvec::SmallVec;
use std::sync::Arc;

/// A channel within one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey(pub u32);

/// How frames are written for a group of subscribers. Groups of one channel differ in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// permessage-deflate was negotiated.
    pub compressed: bool,
    /// Gets join and leave pushes.
    pub join_leave: bool,
}

/// Where a subscriber stands in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The channel.
    pub channel: ChannelKey,
    /// Which group of it.
    pub group: u8,
    /// Index in the group's array.
    pub index: u32,
}

/// Subscribers with the same encoding.
#[derive(Default)]
pub struct Group {
    /// What they need.
    pub encoding: Encoding,
    /// Slots of connections.
    pub subscribers: Vec<u32>,
    /// Finished frames of this turn.
    pub frames: Vec<u8>,
    /// How many frames.
    pub messages: u32,
    /// How many of them are publications.
    pub publications: u32,
    /// When the first of them was received, in microseconds; for the delivery latency.
    pub received_us: u64,
    /// The last subscribers came while frames were gathered: where in `frames` begins what is
    /// for them, in the order of `subscribers`.
    pub late: Vec<u32>,
}

/// A channel with subscribers on this worker.
pub struct LocalChannel {
    /// Its name.
    pub name: Arc<str>,
    /// One for each encoding in use.
    pub groups: SmallVec<[Group; 1]>,
    /// Offset of the last publication seen; `None` while no position is known.
    pub last_offset: Option<u64>,
    /// How precious its publications are.
    pub class: Class,
    /// Writes never wait longer than this for more frames, in milliseconds: the least that
    /// anybody was promised who subscribed since the channel was last empty.
    pub window_ms_max: u32,
    dirty: bool,
    /// Not written before, monotonic milliseconds.
    not_before_ms: u64,
}

/// Channels that are held become due at multiples of this, in milliseconds.
const WAKE_STEP_MS: u64 = 4;

/// All channels with subscribers on this worker.
pub struct Hub {
    by_name: Map<Arc<str>, ChannelKey>,
    channels: Vec<Option<LocalChannel>>,
    free: Vec<u32>,
    dirty: Vec<ChannelKey>,
    /// Dirty channels that are written later, and when.
    waiting: Vec<(u64, ChannelKey)>,
    /// The first time in `waiting`.
    wake_ms: u64,
    spare: Vec<Vec<u8>>,
    gathered: usize,
    subscriptions: usize,
}

impl Hub {
    /// Without channels.
    pub fn new(seed: u64) -> Self {
        Self {
            by_name: map::with_seed(seed),
            channels: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            waiting: Vec::new(),
            wake_ms: u64::MAX,
            spare: Vec::new(),
            gathered: 0,
            subscriptions: 0,
        }
    }

    /// Channels with subscribers here.
    pub fn channel_count(&self) -> usize {
        self.by_name.len()
    }

    /// Subscriptions here.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions
    }

    /// Bytes gathered in this turn and not yet taken.
    pub fn gathered_bytes(&self) -> usize {
        self.gathered
    }

    /// Gives back what a crowd that has left needed.
    pub fn shrink(&mut self) {
        self.spare = Vec::new();
        self.dirty = Vec::new();
        self.waiting = Vec::new();
        self.by_name.shrink_to_fit();
        if self.by_name.is_empty() {
            self.channels = Vec::new();
            self.free = Vec::new();
        }
    }

    /// The key of a channel that has subscribers.
    pub fn find(&self, name: &str) -> Option<ChannelKey> {
        self.by_name.get(name).copied()
    }

    /// A channel by key.
    pub fn get_mut(&mut self, key: ChannelKey) -> Option<&mut LocalChannel> {
        self.channels.get_mut(key.0 as usize)?.as_mut()
    }

    /// Are there frames that its subscribers have not been sent?
    pub fn is_dirty(&self, key: ChannelKey) -> bool {
        matches!(self.channels.get(key.0 as usize), Some(Some(c)) if c.dirty)
    }

    /// Adds a subscriber. It does not get what was gathered earlier. `class` says what the
    /// channel is, if it has no subscriber yet.
    pub fn subscribe(
        &mut self,
        name: &Arc<str>,
        slot: u32,
        encoding: Encoding,
        class: impl FnOnce() -> Class,
    ) -> Place {
        let key = self.find(name).unwrap_or_else(|| self.insert(name, class()));
        self.subscriptions += 1;
        let mut place = Place { channel: key, group: 0, index: 0 };
        if let Some(channel) = self.get_mut(key) {
            let known = channel.groups.iter().position(|g| g.encoding == encoding);
            let group = known.unwrap_or_else(|| {
                channel.groups.push(Group { encoding, ..Group::default() });
                channel.groups.len() - 1
            });
            let at = &mut channel.groups[group];
            if !at.frames.is_empty() {
                at.late.push(at.frames.len() as u32);
            }
            at.subscribers.push(slot);
            place.group = group as u8;
            place.index = at.subscribers.len() as u32 - 1;
        }
        place
    }

    /// The connection that stands there.
    pub fn subscriber_at(&self, place: Place) -> Option<u32> {
        let channel = matches_some(self.channels.get(place.channel.0 as usize))?;
        let group = channel.groups.get(usize::from(place.group))?;
        group.subscribers.get(place.index as usize).copied()
    }

    /// What was gathered for a subscriber that is about to leave. `None`: it cannot leave before
    /// the channel is flushed, because others came later.
    pub fn gathered_for(&self, place: Place) -> Option<&[u8]> {
        let channel = matches_some(self.channels.get(place.channel.0 as usize))?;
        let group = channel.groups.get(usize::from(place.group))?;
        group.late.is_empty().then_some(&group.frames[..])
    }

    /// Removes a subscriber; another one may have moved into its place: its slot is returned.
    /// It loses what [`Hub::gathered_for`] has.
    pub fn unsubscribe(&mut self, place: Place) -> Option<u32> {
        let channel = self.channels.get_mut(place.channel.0 as usize)?.as_mut()?;
        let group = channel.groups.get_mut(usize::from(place.group))?;
        let index = place.index as usize;
        if index >= group.subscribers.len() {
            return None;
        }
        group.subscribers.swap_remove(index);
        let moved = group.subscribers.get(index).copied();
        if group.subscribers.len() * 4 < group.subscribers.capacity() {
            group.subscribers.shrink_to(group.subscribers.len() * 2);
        }
        self.subscriptions -= 1;
        if channel.groups.iter().all(|g| g.subscribers.is_empty()) {
            self.remove(place.channel);
        }
        moved
    }

    /// Appends a finished frame to every group of the channel that `wants` says; `encode` writes
    /// the frame for an encoding and is called once for each.
    /// Returns false when a buffer of the channel is full: flush it before the next.
    pub fn append(
        &mut self,
        key: ChannelKey,
        received_us: Option<u64>,
        mut wants: impl FnMut(Encoding) -> bool,
        mut encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) -> bool {
        let Some(Some(channel)) = self.channels.get_mut(key.0 as usize) else { return true };
        let mut room = true;
        for group in &mut channel.groups {
            if group.subscribers.is_empty() || !wants(group.encoding) {
                continue;
            }
            if group.frames.capacity() == 0 {
                group.frames = self.spare.pop().unwrap_or_default();
            }
            let before = group.frames.len();
            encode(group.encoding, &mut group.frames);
            self.gathered += group.frames.len() - before;
            group.messages += 1;
            if let Some(at) = received_us {
                if group.publications == 0 {
                    group.received_us = at;
                }
                group.publications += 1;
            }
            if !channel.dirty {
                channel.dirty = true;
                self.dirty.push(key);
            }
            room &= group.frames.len() < limits::CHANNEL_BUFFER_BYTES_MAX;
        }
        room
    }

    /// The next channel with frames that may be written now; it counts as clean from now on.
    /// Those whose time has not come wait for [`Hub::next_due_ms`].
    pub fn next_dirty(&mut self, now_ms: u64) -> Option<ChannelKey> {
        while let Some(key) = self.dirty.pop() {
            // Channels flushed or removed in between are still listed.
            if !self.is_dirty(key) {
                continue;
            }
            let due_ms = self.get_mut(key).map_or(0, |c| c.not_before_ms);
            if due_ms > now_ms {
                self.waiting.push((due_ms, key));
                self.wake_ms = self.wake_ms.min(due_ms);
                continue;
            }
            self.clean(key);
            return Some(key);
        }
        None
    }

    /// Lets channels whose time has come be written by [`Hub::next_dirty`]; with `all`, every one.
    pub fn wake(&mut self, now_ms: u64, all: bool) {
        if !all && now_ms < self.wake_ms {
            return;
        }
        self.wake_ms = u64::MAX;
        let mut kept = 0;
        for at in 0..self.waiting.len() {
            let (due_ms, key) = self.waiting[at];
            if all || due_ms <= now_ms {
                if let Some(channel) = self.get_mut(key).filter(|_| all) {
                    channel.not_before_ms = 0;
                }
                self.dirty.push(key);
            } else {
                self.waiting[kept] = (due_ms, key);
                self.wake_ms = self.wake_ms.min(due_ms);
                kept += 1;
            }
        }
        self.waiting.truncate(kept);
    }

    /// When the first waiting channel is to be written.
    pub fn next_due_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.wake_ms)
    }

    /// Collects what a channel has, and what comes for it, until then: one write carries it all.
    pub fn hold_until(&mut self, key: ChannelKey, not_before_ms: u64) {
        let Some(channel) = self.get_mut(key) else { return };
        // In steps, so that many channels become due together and their list is read seldom.
        let due_ms = not_before_ms.checked_next_multiple_of(WAKE_STEP_MS).unwrap_or(u64::MAX);
        channel.not_before_ms = channel.not_before_ms.max(due_ms);
        if !channel.dirty && channel.groups.iter().any(|g| !g.frames.is_empty()) {
            channel.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Is any channel dirty whose time has come?
    pub fn has_dirty(&self) -> bool {
        self.dirty.iter().any(|key| self.is_dirty(*key))
    }

    /// Marks a channel clean, because the caller sends its frames now.
    pub fn clean(&mut self, key: ChannelKey) {
        if let Some(channel) = self.get_mut(key) {
            channel.dirty = false;
        }
    }

    /// How many subscribers a channel has here.
    pub fn subscriber_count(&self, key: ChannelKey) -> usize {
        let channel = matches_some(self.channels.get(key.0 as usize));
        channel.map_or(0, |c| c.groups.iter().map(|g| g.subscribers.len()).sum())
    }

    /// How many groups a channel has.
    pub fn group_count(&self, key: ChannelKey) -> usize {
        matches_some(self.channels.get(key.0 as usize)).map_or(0, |c| c.groups.len())
    }

    /// Takes a group's frames and lends its subscribers, for a send without borrowing the hub.
    /// Give both back by [`Hub::put_back`].
    pub fn take_group(&mut self, key: ChannelKey, group: usize) -> Option<Group> {
        let group = self.get_mut(key)?.groups.get_mut(group)?;
        if group.frames.is_empty() {
            return None;
        }
        let encoding = group.encoding;
        let taken = std::mem::replace(group, Group { encoding, ..Group::default() });
        self.gathered -= taken.frames.len().min(self.gathered);
        Some(taken)
    }

    /// Ends what [`Hub::take_group`] began.
    pub fn put_back(&mut self, key: ChannelKey, index: usize, taken: Group) {
        if let Some(group) = self.get_mut(key).and_then(|c| c.groups.get_mut(index)) {
            group.subscribers = taken.subscribers;
        }
        self.recycle(taken.frames);
    }

    /// Gives back the buffers that are kept.
    pub fn drop_spare(&mut self) {
        self.spare = Vec::new();
    }

    /// Keeps a buffer for the next frames, unless there are enough or it grew too large.
    pub fn recycle(&mut self, mut frames: Vec<u8>) {
        frames.clear();
        if self.spare.len() < limits::SPARE_BUFFERS_MAX
            && (1..=limits::SPARE_BUFFER_BYTES_MAX).contains(&frames.capacity())
        {
            self.spare.push(frames);
        }
    }

    fn insert(&mut self, name: &Arc<str>, class: Class) -> ChannelKey {
        let channel = LocalChannel {
            name: Arc::clone(name),
            groups: SmallVec::new(),
            last_offset: None,
            class,
            window_ms_max: u32::MAX,
            dirty: false,
            not_before_ms: 0,
        };
        let key = match self.free.pop() {
            Some(index) => {
                self.channels[index as usize] = Some(channel);
                ChannelKey(index)
            }
            None => {
                self.channels.push(Some(channel));
                ChannelKey(self.channels.len() as u32 - 1)
            }
        };
        self.by_name.insert(Arc::clone(name), key);
        key
    }

    fn remove(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(key.0 as usize).and_then(Option::take) {
            self.by_name.remove(&channel.name);
            self.free.push(key.0);
        }
    }
}

fn matches_some(channel: Option<&Option<LocalChannel>>) -> Option<&LocalChannel> {
    channel.and_then(Option::as_ref)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Class {
        Class::Durable
    }

    #[test]
    fn a_left_place_is_taken_by_the_last() {
        let mut hub = Hub::new(1);
        let name: Arc<str> = "a".into();
        let places: Vec<_> =
            (0..3).map(|s| hub.subscribe(&name, s, Encoding::default(), plain)).collect();
        assert_eq!(hub.unsubscribe(places[0]), Some(2));
        assert_eq!(hub.unsubscribe(Place { index: 1, ..places[0] }), None);
        assert_eq!(hub.subscription_count(), 1);
        assert_eq!(hub.unsubscribe(places[0]), None);
        assert_eq!(hub.channel_count(), 0);
        assert_eq!(hub.find("a"), None);
    }

    #[test]
    fn a_turn_gathers_once_for_each_encoding() {
        let mut hub = Hub::new(1);
        let name: Arc<str> = "a".into();
        let joins = Encoding { join_leave: true, ..Default::default() };
        hub.subscribe(&name, 1, Encoding::default(), plain);
        hub.subscribe(&name, 2, joins, plain);
        let key = hub.find("a").unwrap();
        let mut encoded = 0;
        for _ in 0..3 {
            assert!(hub.append(
                key,
                Some(5),
                |_| true,
                |_, out| {
                    encoded += 1;
                    out.extend_from_slice(b"frame");
                }
            ));
        }
        assert!(hub.append(key, None, |e| e.join_leave, |_, out| out.extend_from_slice(b"join")));
        assert_eq!(encoded, 6);
        assert_eq!(hub.next_dirty(0), Some(key));
        assert_eq!(hub.next_dirty(0), None);
        let first = hub.take_group(key, 0).unwrap();
        assert_eq!((first.frames.len(), first.publications), (15, 3));
        hub.put_back(key, 0, first);
        let second = hub.take_group(key, 1).unwrap();
        assert_eq!((second.frames.len(), second.publications), (19, 3));
        hub.put_back(key, 1, second);
        assert_eq!(hub.gathered_bytes(), 0);
        assert!(hub.take_group(key, 0).is_none());
    }

    fn say(hub: &mut Hub, key: ChannelKey) {
        hub.append(key, Some(5), |_| true, |_, out| out.extend_from_slice(b"frame"));
    }

    #[test]
    fn a_channel_that_is_held_gathers_until_its_time() {
        let mut hub = Hub::new(1);
        let name: Arc<str> = "a".into();
        hub.subscribe(&name, 1, Encoding::default(), plain);
        let key = hub.find("a").unwrap();
        hub.hold_until(key, 97);
        say(&mut hub, key);
        assert_eq!((hub.next_dirty(50), hub.next_due_ms()), (None, Some(100)));
        say(&mut hub, key);
        hub.wake(99, false);
        assert_eq!(hub.next_dirty(99), None);
        hub.wake(100, false);
        assert_eq!((hub.next_dirty(100), hub.next_due_ms()), (Some(key), None));
        let group = hub.take_group(key, 0).unwrap();
        assert_eq!(group.publications, 2);
        hub.put_back(key, 0, group);
        hub.hold_until(key, 300);
        say(&mut hub, key);
        assert_eq!(hub.next_dirty(150), None);
        hub.wake(150, true);
        assert_eq!(hub.next_dirty(150), Some(key));
    }

    #[test]
    fn who_comes_late_gets_only_what_follows() {
        let mut hub = Hub::new(1);
        let name: Arc<str> = "a".into();
        let first = hub.subscribe(&name, 1, Encoding::default(), plain);
        say(&mut hub, first.channel);
        assert_eq!(hub.gathered_for(first), Some(&b"frame"[..]));
        hub.subscribe(&name, 2, Encoding::default(), plain);
        say(&mut hub, first.channel);
        hub.subscribe(&name, 3, Encoding::default(), plain);
        assert_eq!(hub.gathered_for(first), None, "others came later: flush first");
        let group = hub.take_group(first.channel, 0).unwrap();
        assert_eq!((&group.subscribers[..], &group.late[..]), (&[1, 2, 3][..], &[5, 10][..]));
        hub.put_back(first.channel, 0, group);
        assert_eq!(hub.gathered_for(first), Some(&b""[..]));
    }
}
