//! `permessage-deflate` (RFC 7692), one context per worker.
//!
//! Neither direction keeps a context between messages, so one [`Inflater`] and one [`Deflater`]
//! serve all connections of a thread. Both allocate at their first use.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::ws::{Opcode, Violation, append_frame, frame_header};

/// What a sender cuts off the end of each message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The tail, and an empty last block: a stream that ends anywhere but here was cut or never ended.
const TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];
/// Last blocks within one message. The format allows them; nobody needs more than one.
const STREAMS_MAX: usize = 16;
/// First size of the output buffer.
const SCRATCH_START: usize = 4 * 1024;
/// A buffer that grew above this is given back after the message.
const SCRATCH_KEPT: usize = 256 * 1024;

const CORRUPT: Violation = Violation { code: 1007, reason: "the compressed data is corrupt" };
const TOO_BIG: Violation = Violation { code: 1009, reason: "the message is too big" };

/// Decompresses messages, one after the other.
#[derive(Default)]
pub struct Inflater {
    context: Option<Box<Decompress>>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("scratch", &self.scratch.len()).finish_non_exhaustive()
    }
}

impl Inflater {
    /// Decompresses a whole message, given as it came from the wire.
    ///
    /// # Errors
    ///
    /// 1009 as soon as the output passes `bytes_max`, 1007 for data that is no such message.
    pub fn inflate(&mut self, data: &[u8], bytes_max: usize) -> Result<&[u8], Violation> {
        if self.scratch.len() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        let context = self.context.get_or_insert_with(|| Box::new(Decompress::new(false)));
        let mut run = Run { context, scratch: &mut self.scratch, len: 0, bytes_max };
        let len = run.message(data)?;
        self.scratch.get(..len).ok_or(CORRUPT)
    }

    /// Bytes held for output between messages.
    pub fn held_bytes(&self) -> usize {
        self.scratch.len()
    }
}

struct Run<'a> {
    context: &'a mut Decompress,
    scratch: &'a mut Vec<u8>,
    len: usize,
    bytes_max: usize,
}

impl Run<'_> {
    fn message(&mut self, data: &[u8]) -> Result<usize, Violation> {
        let mut rest = data;
        for _ in 0..STREAMS_MAX {
            // A message of no bytes at all is written by some as nothing; one whose last block
            // is marked as such need not have the tail.
            if rest.is_empty() {
                return Ok(self.len);
            }
            self.context.reset(false);
            let used = self.feed(rest)?;
            if let Some(used) = used {
                rest = rest.get(used..).unwrap_or_default();
                continue;
            }
            return match self.feed(&TAIL_AND_END)? {
                Some(used) if used == TAIL_AND_END.len() => Ok(self.len),
                _ => Err(CORRUPT),
            };
        }
        Err(CORRUPT)
    }

    /// Feeds all of `input`; `Some(used)` when the stream ended within it.
    fn feed(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        let mut used = 0;
        loop {
            self.make_room()?;
            let room = self.scratch.get_mut(self.len..).unwrap_or_default();
            let (before_in, before_out) = (self.context.total_in(), self.context.total_out());
            let rest = input.get(used..).unwrap_or_default();
            let status = self.context.decompress(rest, room, FlushDecompress::None);
            let status = status.map_err(|_| CORRUPT)?;
            let (took, made) = (
                usize::try_from(self.context.total_in() - before_in).map_err(|_| CORRUPT)?,
                usize::try_from(self.context.total_out() - before_out).map_err(|_| CORRUPT)?,
            );
            used += took;
            self.len += made;
            if self.len > self.bytes_max {
                return Err(TOO_BIG);
            }
            match status {
                Status::StreamEnd => return Ok(Some(used)),
                _ if self.len == self.scratch.len() => {}
                _ if used == input.len() => return Ok(None),
                _ if took == 0 && made == 0 => return Err(CORRUPT),
                _ => {}
            }
        }
    }

    /// Keeps at least one byte free, and never more than one byte above the cap.
    fn make_room(&mut self) -> Result<(), Violation> {
        if self.len < self.scratch.len() {
            return Ok(());
        }
        let wanted = (self.scratch.len() * 2).max(SCRATCH_START);
        let size = wanted.min(self.bytes_max.saturating_add(1));
        if size <= self.len {
            return Err(TOO_BIG);
        }
        self.scratch.resize(size, 0);
        Ok(())
    }
}

/// Compresses messages, one after the other.
pub struct Deflater {
    level: Compression,
    context: Option<Box<Compress>>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").field("level", &self.level.level()).finish_non_exhaustive()
    }
}

impl Default for Deflater {
    /// The fastest level: it costs a third of the usual one for nearly its gain.
    fn default() -> Self {
        Self::new(1)
    }
}

impl Deflater {
    /// A compressor of a level from 1 (fast) to 9.
    pub fn new(level: u32) -> Self {
        Self { level: Compression::new(level.clamp(1, 9)), context: None, scratch: Vec::new() }
    }

    /// Appends a text or binary frame, compressed if that makes it shorter.
    pub fn append_frame(&mut self, out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
        match self.compress(payload) {
            Some(data) if data.len() < payload.len() => {
                let (header, len) = frame_header(opcode, data.len(), true);
                out.extend_from_slice(header.get(..len).unwrap_or_default());
                out.extend_from_slice(data);
            }
            _ => append_frame(out, opcode, payload),
        }
        if self.scratch.len() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
    }

    /// A message as it goes over the wire; nothing if the compressor failed.
    pub fn compress(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let level = self.level;
        let context = self.context.get_or_insert_with(|| Box::new(Compress::new(level, false)));
        context.reset();
        let wanted = payload.len() + payload.len() / 8 + 64;
        if self.scratch.len() < wanted {
            self.scratch.resize(wanted, 0);
        }
        loop {
            let used = usize::try_from(context.total_in()).ok()?;
            let made = usize::try_from(context.total_out()).ok()?;
            let room = self.scratch.get_mut(made..)?;
            let space = room.len();
            context.compress(payload.get(used..)?, room, FlushCompress::Sync).ok()?;
            let made_now = usize::try_from(context.total_out()).ok()?;
            // Room left over is how the compressor says that it has flushed everything.
            if made_now - made < space {
                return self.scratch.get(..made_now)?.strip_suffix(&TAIL);
            }
            self.scratch.resize(self.scratch.len() * 2, 0);
        }
    }
}
