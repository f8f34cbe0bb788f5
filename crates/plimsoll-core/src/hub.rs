//! Who of this worker's connections gets which channel, and what this turn has for them.
//!
//! Subscribers of one channel and encoding stand in one dense array; the turn's finished frames
//! gather in one buffer beside it. Nothing is touched per subscriber until the flush.

use crate::limits;
use crate::map::{self, Map};
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
}

/// A channel with subscribers on this worker.
pub struct LocalChannel {
    /// Its name.
    pub name: Arc<str>,
    /// One for each encoding in use.
    pub groups: SmallVec<[Group; 1]>,
    /// Offset of the last publication seen; `None` while no position is known.
    pub last_offset: Option<u64>,
    dirty: bool,
}

/// All channels with subscribers on this worker.
pub struct Hub {
    by_name: Map<Arc<str>, ChannelKey>,
    channels: Vec<Option<LocalChannel>>,
    free: Vec<u32>,
    dirty: Vec<ChannelKey>,
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

    /// Adds a subscriber. Flush the channel before: it must not get what came earlier.
    pub fn subscribe(&mut self, name: &Arc<str>, slot: u32, encoding: Encoding) -> Place {
        let key = self.find(name).unwrap_or_else(|| self.insert(name));
        self.subscriptions += 1;
        let mut place = Place { channel: key, group: 0, index: 0 };
        if let Some(channel) = self.get_mut(key) {
            let known = channel.groups.iter().position(|g| g.encoding == encoding);
            let group = known.unwrap_or_else(|| {
                channel.groups.push(Group { encoding, ..Group::default() });
                channel.groups.len() - 1
            });
            let subscribers = &mut channel.groups[group].subscribers;
            subscribers.push(slot);
            place.group = group as u8;
            place.index = subscribers.len() as u32 - 1;
        }
        place
    }

    /// Removes a subscriber; another one may have moved into its place: its slot is returned.
    /// Flush the channel before: it must not lose what came earlier.
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

    /// The next channel with frames of this turn; it counts as clean from now on.
    pub fn next_dirty(&mut self) -> Option<ChannelKey> {
        while let Some(key) = self.dirty.pop() {
            // Channels flushed or removed in between are still listed.
            if self.is_dirty(key) {
                self.clean(key);
                return Some(key);
            }
        }
        None
    }

    /// Is any channel dirty?
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
    pub fn put_back(&mut self, key: ChannelKey, index: usize, mut taken: Group) {
        let mut frames = std::mem::take(&mut taken.frames);
        if let Some(group) = self.get_mut(key).and_then(|c| c.groups.get_mut(index)) {
            group.subscribers = taken.subscribers;
        }
        frames.clear();
        if self.spare.len() < limits::SPARE_BUFFERS_MAX
            && frames.capacity() <= limits::SPARE_BUFFER_BYTES_MAX
        {
            self.spare.push(frames);
        }
    }

    fn insert(&mut self, name: &Arc<str>) -> ChannelKey {
        let channel = LocalChannel {
            name: Arc::clone(name),
            groups: SmallVec::new(),
            last_offset: None,
            dirty: false,
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

    #[test]
    fn a_left_place_is_taken_by_the_last() {
        let mut hub = Hub::new(1);
        let name: Arc<str> = "a".into();
        let places: Vec<_> = (0..3).map(|s| hub.subscribe(&name, s, Encoding::default())).collect();
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
        hub.subscribe(&name, 1, Encoding::default());
        hub.subscribe(&name, 2, joins);
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
        assert_eq!(hub.next_dirty(), Some(key));
        assert_eq!(hub.next_dirty(), None);
        let first = hub.take_group(key, 0).unwrap();
        assert_eq!((first.frames.len(), first.publications), (15, 3));
        hub.put_back(key, 0, first);
        let second = hub.take_group(key, 1).unwrap();
        assert_eq!((second.frames.len(), second.publications), (19, 3));
        hub.put_back(key, 1, second);
        assert_eq!(hub.gathered_bytes(), 0);
        assert!(hub.take_group(key, 0).is_none());
    }
}
