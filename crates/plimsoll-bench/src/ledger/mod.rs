//! Who published what, who saw what, and whether the two agree.

use crate::topology::{ChannelId, ClientId};

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

/// Writes down what the clients of one thread do and see. Times are of [`crate::clock`].
#[derive(Debug, Default)]
pub struct Recorder {
    log: Log,
}

/// A book in compact form.
#[derive(Clone, Debug, Default)]
pub struct Log {}

impl Recorder {
    /// A publication was sent.
    pub fn published(&mut self, at_us: u64, channel: ChannelId, stamp: Stamp) {
        let _ = (at_us, channel, stamp);
    }

    /// What became of it.
    pub fn answered(&mut self, at_us: u64, publisher: ClientId, sequence: u32, outcome: Outcome) {
        let _ = (at_us, publisher, sequence, outcome);
    }

    /// A subscribe was answered by a success.
    pub fn subscribed(
        &mut self,
        at_us: u64,
        client: ClientId,
        channel: ChannelId,
        reply: Subscribed<'_>,
    ) {
        let _ = (at_us, client, channel, reply);
    }

    /// A publication came. `offset` 0: the channel has none. `stamp` `None`: it is corrupt.
    pub fn received(
        &mut self,
        at_us: u64,
        client: ClientId,
        channel: ChannelId,
        offset: u64,
        stamp: Option<Stamp>,
        via: Via,
    ) {
        let _ = (at_us, client, channel, offset, stamp, via);
    }

    /// A publication of a channel came that the client had not asked for, or had left (C8).
    pub fn stray(&mut self, at_us: u64, client: ClientId, channel: &str) {
        let _ = (at_us, client, channel);
    }

    /// A subscription ended: by the server (its code) or by the client (0).
    pub fn unsubscribed(&mut self, at_us: u64, client: ClientId, channel: ChannelId, code: u32) {
        let _ = (at_us, client, channel, code);
    }

    /// The server ended the connection, or it broke (`None`).
    pub fn closed(&mut self, at_us: u64, client: ClientId, code: Option<u16>) {
        let _ = (at_us, client, code);
    }

    /// The client ended the connection.
    pub fn cut(&mut self, at_us: u64, client: ClientId) {
        let _ = (at_us, client);
    }

    /// The book.
    pub fn finish(self) -> Log {
        self.log
    }
}
