//! Who published what, who saw what, and whether the two agree.

mod events;
mod recorder;
mod varint;

pub use recorder::Recorder;

use crate::topology::ClientId;

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The client that published it.
    pub publisher: ClientId,
    /// Counted by the publisher over all channels, from 1.
    pub sequence: u32,
    /// When it was due, microseconds of [`crate::clock`].
    pub due_us: u64,
    /// CRC-32 of the payload.
    pub crc: u32,
}

/// What became of a publication, as its publisher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply was a success.
    Acknowledged,
    /// The reply was this error.
    Refused(u32),
    /// The connection ended, or the run, before a reply.
    Unknown,
}

/// How a publication came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a push.
    Live,
    /// In a subscribe reply.
    Recovered,
}

/// A place in a stream: after the publication of this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// Which life of the stream.
    pub epoch: &'a str,
    /// Its last publication.
    pub offset: u64,
}

/// A successful reply to a subscribe.
#[derive(Clone, Copy, Debug)]
pub struct Subscribed<'a> {
    /// The position that was named, when recovery was asked for.
    pub asked: Option<Position<'a>>,
    /// The position of the reply; `None` for a channel without history.
    pub position: Option<Position<'a>>,
    /// `recovered` of the reply.
    pub recovered: bool,
    /// `was_recovering` of the reply.
    pub was_recovering: bool,
}

/// The book of one thread in compact form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Records. None stands in two pieces.
    chunks: Vec<Vec<u8>>,
    /// Epochs, and channels of strays.
    names: Vec<Box<str>>,
    /// Something was not written down.
    full: bool,
}

impl Log {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// Whether it was full before the run was over, which makes the run void.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// A name by its number.
    fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", |name| name)
    }
}
