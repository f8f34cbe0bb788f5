//! One send for each connection and turn.
//!
//! A channel's frames of the turn lie in one buffer that goes to all its subscribers; only
//! connections marked in `special` (frames of their own, or a full socket) are looked at.

use super::conn::{Entry, NO_ENTRY, Stage};
use super::outbox::Outbox;
use super::{Core, Io, Sent};
use plimsoll_core::codes::Disconnect;
use plimsoll_core::hub::{ChannelKey, Group};
use plimsoll_core::limits;
use plimsoll_core::model::ConnKey;
use plimsoll_transport::ws::{self, Opcode};
use std::rc::Rc;

impl Core {
    /// Ends the turn: everything gathered is sent or queued.
    pub fn flush(&mut self, io: &mut impl Io) {
        loop {
            let mut slots = std::mem::take(&mut self.own.slots);
            for slot in slots.drain(..) {
                self.flush_own(slot, io);
            }
            if self.own.slots.is_empty() {
                self.own.slots = slots;
            }
            while let Some(key) = self.hub.next_dirty() {
                self.flush_channel(key, io);
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
        self.stats.queued_bytes.sub(before.0 - outbox.len() as u64);
        self.stats.queued_chunks.sub(before.1 - outbox.chunks() as u64);
        if gone {
            return self.on_hangup(slot, true, io);
        }
        if outbox.is_empty() {
            conn.outbox = None;
            io.watch(slot, !conn.paused, false);
            self.settle(slot, io);
        }
        self.rearm(slot);
    }

    /// Appends a text message for one connection; `write` gives the payload.
    pub(super) fn send_text(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        write(&mut payload);
        let compressed = self.conns.get(slot).is_some_and(|c| c.compressed)
            && payload.len() >= self.shared.policy.websocket.compression_min_size_bytes;
        let start = self.own.bytes.len();
        if compressed {
            self.deflater.append_frame(&mut self.own.bytes, Opcode::Text, &payload);
        } else {
            ws::append_frame(&mut self.own.bytes, Opcode::Text, &payload);
        }
        self.scratch = payload;
        self.stats.messages_out.add(1);
        self.add_entry(slot, start);
    }

    /// Appends raw bytes for one connection.
    pub(super) fn send_own(&mut self, slot: u32, bytes: &[u8]) {
        let start = self.own.bytes.len();
        self.own.bytes.extend_from_slice(bytes);
        self.add_entry(slot, start);
    }

    fn add_entry(&mut self, slot: u32, start: usize) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let index = self.own.entries.len() as u32;
        let end = self.own.bytes.len();
        match self.own.entries.get_mut(conn.own.1 as usize) {
            // The usual case: this connection's last entry lies right before.
            Some(last) if conn.own.1 != NO_ENTRY && last.end == start => return last.end = end,
            Some(last) if conn.own.1 != NO_ENTRY => last.next = index,
            _ => {
                conn.own.0 = index;
                self.own.slots.push(slot);
                self.special.set(slot, true);
            }
        }
        conn.own.1 = index;
        self.own.entries.push(Entry { start, end, next: NO_ENTRY });
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
            self.send_or_queue(slot, bytes.get(entry.start..entry.end).unwrap_or_default(), io);
            self.own.bytes = bytes;
        } else {
            let mut all = Vec::new();
            let mut at = Some(entry);
            while let Some(e) = at {
                all.extend_from_slice(self.own.bytes.get(e.start..e.end).unwrap_or_default());
                at = self.own.entries.get(e.next as usize).copied();
            }
            self.send_or_queue(slot, &all, io);
        }
        self.settle(slot, io);
    }

    fn send_or_queue(&mut self, slot: u32, bytes: &[u8], io: &mut impl Io) {
        self.stats.bytes_out.add(bytes.len() as u64);
        let Some(conn) = self.conns.get(slot) else { return };
        if conn.doomed {
            return;
        }
        if conn.outbox.is_some() {
            return self.queue(slot, &Rc::from(bytes), 0, io);
        }
        match io.send(slot, bytes) {
            Sent::Some(n) if n == bytes.len() => {}
            Sent::Some(n) => self.queue(slot, &Rc::from(bytes), n, io),
            Sent::Full => self.queue(slot, &Rc::from(bytes), 0, io),
            Sent::Gone => self.note_broken(slot),
        }
    }

    /// Queues what a full socket did not take. Too much of it: the client is slow, and is closed
    /// at the end of the turn (now its channel may be being written). What comes first is taken
    /// whatever its size: one turn's replies, which the client itself asked for.
    fn queue(&mut self, slot: u32, bytes: &Rc<[u8]>, from: usize, io: &mut impl Io) {
        let (now_ms, rest) = (self.now.mono_ms, bytes.len().saturating_sub(from));
        let most = self.shared.policy.client.queue_max_size_bytes;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let queued = conn.outbox.as_ref().map(|o| o.len());
        if conn.is_open() && queued.is_some_and(|queued| queued + rest > most) {
            self.slow.push(conn.key(slot));
            conn.doomed = true;
            return self.special.set(slot, true);
        }
        let fresh = queued.is_none();
        let outbox = conn.outbox.get_or_insert_with(|| Box::new(Outbox::since(now_ms)));
        outbox.push(Rc::clone(bytes), from);
        self.stats.queued_bytes.add(rest as u64);
        self.stats.queued_chunks.add(1);
        if fresh {
            self.special.set(slot, true);
            io.watch(slot, !conn.paused, true);
            self.rearm(slot);
        }
    }

    /// Drops a slow client's queue but for the frame that is cut.
    pub(super) fn cut_queue(&mut self, slot: u32) {
        let Some(outbox) = self.conns.get_mut(slot).and_then(|c| c.outbox.as_mut()) else { return };
        let before = (outbox.len() as u64, outbox.chunks() as u64);
        outbox.keep_current_frame();
        self.stats.queued_bytes.sub(before.0 - outbox.len() as u64);
        self.stats.queued_chunks.sub(before.1.saturating_sub(outbox.chunks() as u64));
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

    /// Writes a channel's frames to all its subscribers. Changes no membership: who must go is
    /// noted and goes at the end of the turn.
    fn flush_channel(&mut self, key: ChannelKey, io: &mut impl Io) {
        for index in 0..self.hub.group_count(key) {
            let Some(group) = self.hub.take_group(key, index) else { continue };
            self.flush_group(&group, io);
            self.hub.put_back(key, index, group);
        }
    }

    fn flush_group(&mut self, group: &Group, io: &mut impl Io) {
        let frames = &group.frames[..];
        let mut leftover: Option<Rc<[u8]>> = None;
        for &slot in &group.subscribers {
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
            let shared = leftover.get_or_insert_with(|| Rc::from(frames));
            self.queue(slot, shared, taken, io);
        }
        self.count_group(group, io);
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

    fn count_group(&mut self, group: &Group, io: &mut impl Io) {
        let subscribers = group.subscribers.len() as u64;
        self.stats.messages_out.add(u64::from(group.messages) * subscribers);
        self.stats.bytes_out.add(group.frames.len() as u64 * subscribers);
        if group.publications == 0 {
            return;
        }
        let delivered = u64::from(group.publications) * subscribers;
        self.stats.deliveries.add(delivered);
        let ms = io.micros().saturating_sub(group.received_us) as f64 / 1_000.0;
        self.stats.latency_ms.observe(ms, delivered);
    }
}
