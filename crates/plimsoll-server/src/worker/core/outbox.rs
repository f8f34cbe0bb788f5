//! What a full socket did not take.

use plimsoll_transport::ws;
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes waiting for one socket, in order. Leftovers of a channel's turn are shared by all that
/// were blocked in it.
#[derive(Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Since when the socket has taken nothing, monotonic milliseconds.
    pub stalled_since_ms: u64,
}

struct Chunk {
    bytes: Rc<[u8]>,
    from: usize,
}

impl Outbox {
    /// Empty; the socket has been full since then.
    pub fn since(now_ms: u64) -> Self {
        Self { stalled_since_ms: now_ms, ..Self::default() }
    }

    /// Bytes waiting.
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

    /// Appends the rest of `bytes` after `from`.
    pub fn push(&mut self, bytes: Rc<[u8]>, from: usize) {
        if from < bytes.len() {
            self.bytes += bytes.len() - from;
            self.chunks.push_back(Chunk { bytes, from });
        }
    }

    /// The bytes to send next.
    pub fn front(&self) -> Option<&[u8]> {
        self.chunks.front().and_then(|c| c.bytes.get(c.from..))
    }

    /// The socket took `n` of the bytes that [`Outbox::front`] gave.
    pub fn advance(&mut self, n: usize) {
        let Some(front) = self.chunks.front_mut() else { return };
        front.from += n;
        self.bytes = self.bytes.saturating_sub(n);
        if front.from >= front.bytes.len() {
            self.chunks.pop_front();
        }
    }

    /// Drops everything but the rest of the frame of which a part is with the kernel already, so
    /// that a close frame can follow.
    pub fn keep_current_frame(&mut self) {
        let rest = self.chunks.front().map_or(&[][..], current_frame_rest);
        let rest: Rc<[u8]> = Rc::from(rest);
        self.chunks.clear();
        self.bytes = 0;
        self.push(rest, 0);
    }
}

/// The unsent rest of the frame that is cut at `from`; nothing when `from` is a boundary.
fn current_frame_rest(chunk: &Chunk) -> &[u8] {
    let mut at = 0;
    while at < chunk.from {
        let Some(len) = chunk.bytes.get(at..).and_then(ws::frame_len) else { return &[] };
        at += len.max(1);
    }
    chunk.bytes.get(chunk.from..at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ws::Opcode;

    #[test]
    fn a_cut_frame_is_completed_and_the_rest_dropped() {
        let mut bytes = Vec::new();
        for n in [10usize, 200, 30] {
            ws::append_frame(&mut bytes, Opcode::Text, &vec![b'x'; n]);
        }
        let whole: Rc<[u8]> = bytes.clone().into();
        let first = 12;
        for (sent, rest) in
            [(0, 0), (first, 0), (first + 1, 203), (first + 203, 1), (first + 204, 0)]
        {
            let mut o = Outbox::default();
            o.push(Rc::clone(&whole), 0);
            o.push(Rc::clone(&whole), 0);
            o.advance(sent);
            o.keep_current_frame();
            assert_eq!(o.len(), rest, "{sent} sent");
            assert_eq!(o.front().unwrap_or_default(), &bytes[sent..sent + rest]);
        }
    }

    #[test]
    fn bytes_leave_in_order() {
        let mut o = Outbox::default();
        o.push(Rc::from(&b"abc"[..]), 1);
        o.push(Rc::from(&b"de"[..]), 0);
        let mut got = Vec::new();
        while let Some(byte) = o.front().and_then(|f| f.first().copied()) {
            got.push(byte);
            o.advance(1);
        }
        assert_eq!((got.as_slice(), o.len()), (&b"bcde"[..], 0));
    }
}
