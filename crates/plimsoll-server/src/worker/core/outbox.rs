//! What a full socket did not take, and what of it is given up when there is too much.
//!
//! A connection that keeps up has no outbox. One that does not has its chunks in order, with two
//! liberties: what is personal and belongs to no stream (pings, acknowledgements, errors) goes
//! ahead of the frames of channels, never of other personal ones, at a frame's boundary; and what
//! is worth least is dropped first. Whatever is left out of a channel is written down in `missed`,
//! so that it is told.

use plimsoll_core::hub::ChannelKey;
use plimsoll_overload::feature::Class;
use plimsoll_transport::ws;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Counts the bytes that all queues of a worker hold; what several share counts once.
#[derive(Clone, Default)]
pub struct Meter(Rc<Cell<usize>>);

impl Meter {
    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.0.get()
    }

    /// Copies bytes that queues will share.
    pub fn share(&self, bytes: &[u8]) -> Rc<Shared> {
        self.0.set(self.0.get() + bytes.len());
        Rc::new(Shared { bytes: bytes.into(), meter: self.clone() })
    }
}

/// Bytes in one or many queues.
pub struct Shared {
    bytes: Box<[u8]>,
    meter: Meter,
}

impl Shared {
    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.meter.0.set(self.meter.0.get().saturating_sub(self.bytes.len()));
    }
}

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// For this connection alone, and bound to no stream: may overtake.
    Urgent,
    /// For this connection alone, in its place: replies and pushes about subscriptions.
    Own,
    /// Frames of a channel.
    Channel(ChannelKey, Class),
}

struct Chunk {
    bytes: Rc<Shared>,
    from: usize,
    to: usize,
    tag: Tag,
    queued_ms: u64,
    /// A part of it is with the kernel: the frame that is cut must be completed.
    started: bool,
}

impl Chunk {
    fn len(&self) -> usize {
        self.to - self.from
    }

    /// Where the frame ends that is cut at `from`; `from` itself when that is a boundary.
    fn boundary(&self) -> usize {
        let mut at = head_len(&self.bytes.bytes);
        while at < self.from {
            let rest = self.bytes.bytes.get(at..);
            let Some(len) = rest.and_then(ws::frame_len) else { return self.from };
            at += len.max(1);
        }
        at.min(self.to)
    }

    fn is_of(&self, key: ChannelKey) -> bool {
        matches!(self.tag, Tag::Channel(k, _) if k == key)
    }
}

/// The upgrade's answer may stand before the first frame; a frame never begins with an `H`.
fn head_len(bytes: &[u8]) -> usize {
    if bytes.first() != Some(&b'H') {
        return 0;
    }
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4)
}

/// Chunks waiting for one socket.
#[derive(Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Since when the socket has taken nothing, monotonic milliseconds.
    pub stalled_since_ms: u64,
    /// Channels of which something was left out, told at the turn's end.
    missed: Vec<(ChannelKey, Class)>,
}

impl Outbox {
    /// Empty; the socket has been full since then.
    pub fn since(now_ms: u64) -> Self {
        Self { stalled_since_ms: now_ms, ..Self::default() }
    }

    /// Bytes waiting, whoever else waits for the same.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Chunks waiting.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// When the chunk that leaves next was queued.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.chunks.front().map(|c| c.queued_ms)
    }

    /// Appends the rest of `bytes` after `from`; `from` > 0 means that a part was sent.
    pub fn push(&mut self, bytes: Rc<Shared>, from: usize, tag: Tag, now_ms: u64) {
        let to = bytes.len();
        if from >= to {
            return;
        }
        self.bytes += to - from;
        let chunk = Chunk { bytes, from, to, tag, queued_ms: now_ms, started: from > 0 };
        match tag {
            Tag::Urgent => self.push_ahead(chunk),
            _ => self.chunks.push_back(chunk),
        }
    }

    /// Ahead of the frames of channels at the end; behind the frame that is being sent and all
    /// that is personal, the upgrade's answer and the connect's reply included.
    fn push_ahead(&mut self, chunk: Chunk) {
        self.split_started();
        let passed = |c: &Chunk| !c.started && matches!(c.tag, Tag::Channel(..));
        let at = self.chunks.iter().rposition(|c| !passed(c)).map_or(0, |last| last + 1);
        self.chunks.insert(at, chunk);
    }

    /// Makes the frame that is being sent a chunk of its own.
    fn split_started(&mut self) {
        let Some(front) = self.chunks.front_mut().filter(|c| c.started) else { return };
        let boundary = front.boundary();
        if boundary >= front.to {
            return;
        }
        let rest = Chunk {
            bytes: Rc::clone(&front.bytes),
            from: boundary,
            to: front.to,
            tag: front.tag,
            queued_ms: front.queued_ms,
            started: false,
        };
        if boundary == front.from {
            *front = rest;
        } else {
            front.to = boundary;
            self.chunks.insert(1, rest);
        }
    }

    /// The bytes to send next.
    pub fn front(&self) -> Option<&[u8]> {
        self.chunks.front().and_then(|c| c.bytes.bytes.get(c.from..c.to))
    }

    /// The socket took `n` of the bytes that [`Outbox::front`] gave.
    pub fn advance(&mut self, n: usize) {
        let Some(front) = self.chunks.front_mut() else { return };
        front.from += n;
        front.started |= n > 0;
        self.bytes = self.bytes.saturating_sub(n);
        if front.from >= front.to {
            self.chunks.pop_front();
        }
    }

    /// Drops older states of a channel: the next one says all.
    pub fn conflate(&mut self, key: ChannelKey) -> usize {
        self.drop_where(|c| c.is_of(key))
    }

    /// Drops what is only worth something at once.
    pub fn drop_ephemeral(&mut self) -> usize {
        self.drop_where(|c| matches!(c.tag, Tag::Channel(_, Class::Ephemeral)))
    }

    /// Gives up all frames of channels, to begin anew from what the client says it has.
    pub fn fall_behind(&mut self) -> usize {
        self.split_started();
        for chunk in self.chunks.iter().filter(|c| !c.started) {
            if let Tag::Channel(key, class) = chunk.tag
                && !self.missed.iter().any(|(k, _)| *k == key)
            {
                self.missed.push((key, class));
            }
        }
        self.drop_where(|c| matches!(c.tag, Tag::Channel(..)))
    }

    /// Notes that frames of a channel are not even queued.
    pub fn miss(&mut self, key: ChannelKey, class: Class) {
        if !self.misses(key) {
            self.missed.push((key, class));
        }
    }

    /// Was something of this channel left out, and not yet told?
    pub fn misses(&self, key: ChannelKey) -> bool {
        self.missed.iter().any(|(k, _)| *k == key)
    }

    /// The channels of which something was left out.
    pub fn missed(&self) -> &[(ChannelKey, Class)] {
        &self.missed
    }

    /// All that was left out has been told.
    pub fn forget_missed(&mut self) {
        self.missed = Vec::new();
    }

    /// Drops everything but the rest of the frame of which a part is with the kernel already, so
    /// that a close frame can follow.
    pub fn keep_current_frame(&mut self) {
        self.split_started();
        self.drop_where(|_| true);
    }

    /// Drops whole chunks of which nothing was sent; how many bytes those were.
    fn drop_where(&mut self, unwanted: impl Fn(&Chunk) -> bool) -> usize {
        self.split_started();
        let before = self.bytes;
        self.chunks.retain(|c| c.started || !unwanted(c));
        self.bytes = self.chunks.iter().map(Chunk::len).sum();
        before - self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ws::Opcode;

    const KEY: ChannelKey = ChannelKey(1);
    const OTHER: ChannelKey = ChannelKey(2);
    const DURABLE: Tag = Tag::Channel(KEY, Class::Durable);

    fn frames(lens: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for n in lens {
            ws::append_frame(&mut bytes, Opcode::Text, &vec![b'x'; *n]);
        }
        bytes
    }

    fn drain(o: &mut Outbox) -> Vec<u8> {
        let mut got = Vec::new();
        while let Some(byte) = o.front().and_then(|f| f.first().copied()) {
            got.push(byte);
            o.advance(1);
        }
        got
    }

    #[test]
    fn a_cut_frame_is_completed_and_the_rest_dropped() {
        let meter = Meter::default();
        let bytes = frames(&[10, 200, 30]);
        let first = 12;
        for (sent, rest) in
            [(0, 0), (first, 0), (first + 1, 203), (first + 203, 1), (first + 204, 0)]
        {
            let whole = meter.share(&bytes);
            let mut o = Outbox::default();
            o.push(Rc::clone(&whole), 0, DURABLE, 0);
            o.push(whole, 0, Tag::Own, 0);
            o.advance(sent);
            o.keep_current_frame();
            assert_eq!(o.len(), rest, "{sent} sent");
            assert_eq!(drain(&mut o), &bytes[sent..sent + rest]);
        }
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn urgent_chunks_wait_for_a_boundary_only() {
        let meter = Meter::default();
        let stream = frames(&[10, 20]);
        for (sent, ahead) in [(0, 0), (3, 12), (12, 12), (13, 34)] {
            let mut o = Outbox::default();
            o.push(meter.share(&stream), 0, DURABLE, 0);
            o.advance(sent);
            o.push(meter.share(b"\x81\x01a"), 0, Tag::Urgent, 1);
            o.push(meter.share(b"\x81\x01b"), 0, Tag::Urgent, 1);
            let mut expect = stream[sent..ahead.max(sent)].to_vec();
            expect.extend_from_slice(b"\x81\x01a\x81\x01b");
            expect.extend_from_slice(&stream[ahead.max(sent)..]);
            assert_eq!(o.len(), expect.len());
            assert_eq!(drain(&mut o), expect, "{sent} sent");
        }
        let mut o = Outbox::default();
        let head = b"HTTP/1.1 101 X\r\n\r\n";
        o.push(meter.share(&[&head[..], &stream].concat()), 3, Tag::Own, 0);
        o.push(meter.share(&stream), 0, DURABLE, 0);
        o.push(meter.share(b"\x81\x01a"), 0, Tag::Urgent, 1);
        assert_eq!(drain(&mut o), [&head[3..], &stream, b"\x81\x01a", &stream].concat());
        // Not even where nothing of it has been sent.
        o.push(meter.share(head), 0, Tag::Own, 0);
        o.push(meter.share(b"\x81\x01a"), 0, Tag::Urgent, 1);
        assert_eq!(drain(&mut o), [&head[..], b"\x81\x01a"].concat());
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn the_least_goes_first_and_what_must_be_told_is_noted() {
        let meter = Meter::default();
        let mut o = Outbox::default();
        let one = |n: usize| meter.share(&frames(&[n]));
        o.push(one(50), 4, DURABLE, 0);
        o.push(one(10), 0, Tag::Channel(OTHER, Class::Ephemeral), 0);
        o.push(one(20), 0, Tag::Channel(OTHER, Class::State), 0);
        o.push(one(30), 0, DURABLE, 0);
        o.push(one(5), 0, Tag::Own, 0);
        assert_eq!(o.drop_ephemeral(), 12);
        assert_eq!(o.conflate(OTHER), 22);
        assert!(o.missed().is_empty());
        assert_eq!(o.fall_behind(), 32);
        assert_eq!(o.len(), 48 + 7, "the frame that was begun, and the reply");
        assert!(o.misses(KEY) && !o.misses(OTHER));
        assert_eq!(o.missed(), [(KEY, Class::Durable)]);
        o.forget_missed();
        assert!(!o.misses(KEY));
        assert_eq!(meter.bytes(), 52 + 7);
        drain(&mut o);
        assert_eq!((o.len(), meter.bytes()), (0, 0));
    }

    #[test]
    fn what_is_shared_counts_once() {
        let meter = Meter::default();
        let bytes = meter.share(&frames(&[100]));
        let mut all: Vec<Outbox> = (0..10).map(|_| Outbox::default()).collect();
        all.iter_mut().for_each(|o| o.push(Rc::clone(&bytes), 0, DURABLE, 0));
        drop(bytes);
        assert_eq!(meter.bytes(), 102);
        drop(all);
        assert_eq!(meter.bytes(), 0);
    }
}
