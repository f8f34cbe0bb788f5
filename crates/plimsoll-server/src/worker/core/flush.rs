//! One send for each connection and turn.
//!
//! A channel's frames of the turn lie in one buffer that goes to all its subscribers; only
//! connections marked in `special` (frames of their own, or a full socket) are looked at.

use super::conn::{Entry, NO_ENTRY, Stage};
use super::outbox::{Shared, Tag};
use super::{Core, Io, Sent};
use plimsoll_core::codes::Disconnect;
use plimsoll_core::hub::{ChannelKey, Group};
use plimsoll_core::limits;
use plimsoll_core::model::ConnKey;
use plimsoll_overload::actions::Compression;
use plimsoll_overload::feature::Class;
use plimsoll_transport::ws::{self, Opcode};
use std::rc::Rc;

impl Core {
    /// Ends the turn: everything gathered is sent or queued.
    pub fn flush(&mut self, io: &mut impl Io) {
        let begun_us = io.micros();
        self.hub.wake(self.now.mono_ms, self.stopping || self.wants_flush());
        self.relieve();
        loop {
            let mut slots = std::mem::take(&mut self.own.slots);
            for slot in slots.drain(..) {
                self.flush_own(slot, io);
            }
            if self.own.slots.is_empty() {
                self.own.slots = slots;
            }
            self.flush_channels(io);
            while let Some(key) = self.behind.pop() {
                if self.is_current(key) {
                    self.tell_missed(key.slot, io);
                }
            }
            while let Some(key) = self.broken.pop() {
                if self.is_current(key) {
                    self.on_hangup(key.slot, true, io);
                }
            }
            while let Some(key) = self.slow.pop() {
                if self.is_current(key) {
                    self.close(key.slot, Disconnect::SLOW, io);
                }
            }
            // Closing some may have told others something (leaves).
            if self.own.slots.is_empty() && !self.hub.has_dirty() {
                break;
            }
        }
        self.update_gauges();
        self.own.entries.clear();
        self.own.bytes.clear();
        if self.own.bytes.capacity() > limits::SPARE_BUFFER_BYTES_MAX {
            self.own = Default::default();
        }
        self.flush_us += io.micros().saturating_sub(begun_us);
    }

    /// After the turn's last flush: how long everybody had to wait in it.
    pub fn end_turn(&mut self, io: &mut impl Io) {
        self.give_back();
        let now_us = io.micros();
        let turn_us = now_us.saturating_sub(self.received_us);
        self.throttle.turn_ended(now_us, turn_us, std::mem::take(&mut self.flush_us));
    }

    /// Writes the channels that are due, hot ones in slices.
    fn flush_channels(&mut self, io: &mut impl Io) {
        let now_ms = self.now.mono_ms;
        while let Some(key) = self.hub.next_dirty(now_ms) {
            let whole = self.stopping || self.hub.subscriber_count(key) < self.hot.subscribers;
            if whole || self.wants_flush() {
                self.flush_channel(key, io);
            } else {
                self.begin_hot(key);
            }
        }
        self.send_hot(io);
    }

    fn is_current(&self, key: ConnKey) -> bool {
        self.conns.get(key.slot).is_some_and(|c| c.generation == key.generation)
    }

    fn note_broken(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get(slot) {
            self.broken.push(conn.key(slot));
        }
    }

    /// Has so much gathered that the turn should end?
    pub fn wants_flush(&self) -> bool {
        self.own.bytes.len() + self.hub.gathered_bytes() > limits::TURN_BYTES_MAX
    }

    /// The socket takes bytes again.
    pub fn on_writable(&mut self, slot: u32, io: &mut impl Io) {
        let now_ms = self.now.mono_ms;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let Some(outbox) = conn.outbox.as_mut() else { return };
        let before = (outbox.len() as u64, outbox.chunks() as u64);
        let mut gone = false;
        while let Some(bytes) = outbox.front() {
            let wanted = bytes.len();
            match io.send(slot, bytes) {
                Sent::Some(n) => {
                    outbox.advance(n);
                    outbox.stalled_since_ms = now_ms;
                    if n < wanted {
                        break;
                    }
                }
                Sent::Full => break,
                Sent::Gone => {
                    gone = true;
                    break;
                }
            }
        }
        self.recount(slot, before);
        if gone {
            return self.on_hangup(slot, true, io);
        }
        self.drop_empty_outbox(slot, io);
        self.rearm(slot);
    }

    /// An empty outbox goes, unless something that was left out of it has not been told yet.
    pub(super) fn drop_empty_outbox(&mut self, slot: u32, io: &mut impl Io) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if conn.outbox.as_ref().is_some_and(|o| o.is_empty() && o.missed().is_empty()) {
            conn.outbox = None;
            io.watch(slot, !conn.paused, false);
            self.settle(slot, io);
        }
    }

    /// Appends a text message for one connection; `write` gives the payload.
    pub(super) fn send_text(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.append_text(slot, false, write);
    }

    /// The same for what may overtake the frames of channels: it belongs to no subscription.
    pub(super) fn send_urgent(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.append_text(slot, true, write);
    }

    fn append_text(&mut self, slot: u32, urgent: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        write(&mut payload);
        let compressed = self.conns.get(slot).is_some_and(|c| c.deflates)
            && payload.len() >= self.compressed_from();
        let start = self.own.bytes.len();
        if compressed {
            self.deflater.append_frame(&mut self.own.bytes, Opcode::Text, &payload);
        } else {
            ws::append_frame(&mut self.own.bytes, Opcode::Text, &payload);
        }
        self.scratch = payload;
        self.stats.messages_out.add(1);
        self.add_entry(slot, start, urgent);
    }

    /// Payloads of so many bytes and more are compressed at the present load, where the client
    /// agreed to it. Each message says for itself whether it is.
    pub(super) fn compressed_from(&self) -> usize {
        let configured = self.shared.policy.websocket.compression_min_size_bytes;
        match self.gates.compression {
            Compression::Configured => configured,
            Compression::Off => usize::MAX,
            Compression::On => configured.min(limits::COMPRESSED_BYTES_MIN),
        }
    }

    /// Appends raw bytes for one connection.
    pub(super) fn send_own(&mut self, slot: u32, bytes: &[u8]) {
        let start = self.own.bytes.len();
        self.own.bytes.extend_from_slice(bytes);
        self.add_entry(slot, start, false);
    }

    fn add_entry(&mut self, slot: u32, start: usize, urgent: bool) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let index = self.own.entries.len() as u32;
        let end = self.own.bytes.len();
        match self.own.entries.get_mut(conn.own.1 as usize) {
            // The usual case: this connection's last entry lies right before.
            Some(last) if conn.own.1 != NO_ENTRY && last.end == start => {
                last.end = end;
                return last.urgent &= urgent;
            }
            Some(last) if conn.own.1 != NO_ENTRY => last.next = index,
            _ => {
                conn.own.0 = index;
                self.own.slots.push(slot);
                self.special.set(slot, true);
            }
        }
        conn.own.1 = index;
        self.own.entries.push(Entry { start, end, next: NO_ENTRY, urgent });
    }

    /// Sends or queues a connection's own frames.
    fn flush_own(&mut self, slot: u32, io: &mut impl Io) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let (first, _) = std::mem::replace(&mut conn.own, (NO_ENTRY, NO_ENTRY));
        let Some(entry) = self.own.entries.get(first as usize).copied() else {
            return self.settle(slot, io);
        };
        if entry.next == NO_ENTRY {
            let bytes = std::mem::take(&mut self.own.bytes);
            let frames = bytes.get(entry.start..entry.end).unwrap_or_default();
            self.send_or_queue(slot, frames, entry.urgent, io);
            self.own.bytes = bytes;
        } else {
            let (mut all, mut urgent) = (Vec::new(), true);
            let mut at = Some(entry);
            while let Some(e) = at {
                all.extend_from_slice(self.own.bytes.get(e.start..e.end).unwrap_or_default());
                urgent &= e.urgent;
                at = self.own.entries.get(e.next as usize).copied();
            }
            self.send_or_queue(slot, &all, urgent, io);
        }
        self.settle(slot, io);
    }

    fn send_or_queue(&mut self, slot: u32, bytes: &[u8], urgent: bool, io: &mut impl Io) {
        self.stats.bytes_out.add(bytes.len() as u64);
        let Some(conn) = self.conns.get(slot) else { return };
        if conn.doomed {
            return;
        }
        let sent = match conn.outbox {
            Some(_) => Sent::Full,
            None => io.send(slot, bytes),
        };
        let taken = match sent {
            Sent::Some(n) if n == bytes.len() => return,
            Sent::Some(n) => n,
            Sent::Full => 0,
            Sent::Gone => return self.note_broken(slot),
        };
        let tag = if urgent { Tag::Urgent } else { Tag::Own };
        let shared = self.meter.share(bytes);
        self.queue(slot, &shared, taken, tag, io);
    }

    /// After its bytes are out: the mark goes, and a closing connection says that it is done.
    fn settle(&mut self, slot: u32, io: &mut impl Io) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let busy = conn.doomed || conn.outbox.is_some() || conn.own.0 != NO_ENTRY;
        if busy || conn.is_connecting() {
            return;
        }
        if let Stage::Closing { shut, .. } = &mut conn.stage {
            if !std::mem::replace(shut, true) {
                io.shut(slot);
            }
            return;
        }
        self.special.set(slot, false);
    }

    pub(super) fn flush_if_dirty(&mut self, key: ChannelKey, io: &mut impl Io) {
        if self.hub.is_dirty(key) {
            self.hub.clean(key);
            self.flush_channel(key, io);
        }
    }

    /// Writes a channel's frames to all its subscribers; the next ones gather for a window if the
    /// load says so. Changes no membership: who must go is noted and goes at the end of the turn.
    fn flush_channel(&mut self, key: ChannelKey, io: &mut impl Io) {
        self.complete_hot(key, io);
        let local = self.hub.get_mut(key).map(|c| (c.class, c.window_ms_max));
        let (class, window_ms_max) = local.unwrap_or((Class::Durable, 0));
        for index in 0..self.hub.group_count(key) {
            let Some(group) = self.hub.take_group(key, index) else { continue };
            self.flush_group(&group, Tag::Channel(key, class), io);
            self.hub.put_back(key, index, group);
        }
        let window_ms = u64::from(self.gates.batching_window_ms.min(window_ms_max));
        if window_ms > 0 {
            self.hub.hold_until(key, self.now.mono_ms + window_ms);
        }
    }

    fn flush_group(&mut self, group: &Group, tag: Tag, io: &mut impl Io) {
        let on_time = group.subscribers.len() - group.late.len().min(group.subscribers.len());
        let (first, late) = group.subscribers.split_at(on_time);
        self.send_frames(first, &group.frames, tag, &mut None, io);
        for (slot, start) in late.iter().zip(&group.late) {
            let frames = group.frames.get(*start as usize..).unwrap_or_default();
            if !frames.is_empty() {
                self.send_frames(std::slice::from_ref(slot), frames, tag, &mut None, io);
            }
        }
        let counts = (group.messages, group.publications);
        let (bytes, served) = (group.frames.len() as u64, group.subscribers.len() as u64);
        self.count_written(counts, bytes, served, group.received_us, io);
    }

    /// To each of `slots`; `leftover` is what full sockets share.
    pub(super) fn send_frames(
        &mut self,
        slots: &[u32],
        frames: &[u8],
        tag: Tag,
        leftover: &mut Option<Rc<Shared>>,
        io: &mut impl Io,
    ) {
        for &slot in slots {
            let sent = match self.special.get(slot) {
                false => io.send(slot, frames),
                true => self.send_special(slot, frames, io),
            };
            let taken = match sent {
                Sent::Some(n) if n == frames.len() => continue,
                Sent::Some(n) => n,
                Sent::Full => 0,
                Sent::Gone => {
                    self.note_broken(slot);
                    continue;
                }
            };
            let meter = &self.meter;
            let shared = Rc::clone(leftover.get_or_insert_with(|| meter.share(frames)));
            self.queue(slot, &shared, taken, tag, io);
        }
    }

    /// To a connection with frames of its own (they go first), a full socket, or a connect that
    /// has not been answered.
    fn send_special(&mut self, slot: u32, frames: &[u8], io: &mut impl Io) -> Sent {
        let Some(conn) = self.conns.get(slot) else { return Sent::Some(frames.len()) };
        if conn.doomed {
            return Sent::Some(frames.len());
        }
        if conn.is_connecting() {
            self.hold(slot, frames);
            return Sent::Some(frames.len());
        }
        self.flush_own(slot, io);
        match self.conns.get(slot) {
            Some(conn) if conn.outbox.is_some() => Sent::Full,
            Some(_) => io.send(slot, frames),
            None => Sent::Some(frames.len()),
        }
    }

    /// Keeps frames until the connect is answered.
    fn hold(&mut self, slot: u32, frames: &[u8]) {
        let most = self.shared.policy.client.queue_max_size_bytes;
        let Some(open) = self.conns.get_mut(slot).and_then(|c| c.open_mut()) else { return };
        let held = open.held.get_or_insert_default();
        if held.len() + frames.len() <= most {
            return held.extend_from_slice(frames);
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.doomed = true;
            self.slow.push(conn.key(slot));
        }
    }

    /// The connect is answered: what was held follows.
    pub(super) fn release_held(&mut self, slot: u32) {
        let open = self.conns.get_mut(slot).and_then(|c| c.open_mut());
        if let Some(held) = open.and_then(|o| o.held.take()) {
            self.send_own(slot, &held);
        }
    }

    /// Counts `bytes` with so many messages and publications, written to `served` subscribers.
    pub(super) fn count_written(
        &self,
        (messages, publications): (u32, u32),
        bytes: u64,
        served: u64,
        received_us: u64,
        io: &mut impl Io,
    ) {
        self.stats.messages_out.add(u64::from(messages) * served);
        self.stats.bytes_out.add(bytes * served);
        if publications == 0 {
            return;
        }
        let delivered = u64::from(publications) * served;
        self.stats.deliveries.add(delivered);
        let ms = io.micros().saturating_sub(received_us) as f64 / 1_000.0;
        self.stats.latency_ms.observe(ms, delivered);
    }
}
