//! Writes a log: a few bytes for each thing that happens, and nothing is looked up for a delivery.
//!
//! A record is a byte that tells its kind (low four bits) and its flags, the time since the last
//! record, the client as a difference to the last record's, and what the kind needs. A copy of the
//! publication that the log last saw in this channel is only that: a flag.

use super::varint::{put, put_difference};
use super::{Log, Outcome, Position, Stamp, Subscribed, Via};
use crate::limits::{
    LOG_BYTES_MAX, LOG_CHUNK_BYTES, LOG_NAME_BYTES_MAX, LOG_NAMES_MAX, LOG_RECORD_BYTES_MAX,
    LOG_SLOTS,
};
use crate::topology::{ChannelId, ClientId};
use std::collections::HashMap;

pub(super) const PUBLISHED: u8 = 1;
pub(super) const ACKNOWLEDGED: u8 = 2;
pub(super) const REFUSED: u8 = 3;
pub(super) const UNANSWERED: u8 = 4;
pub(super) const SUBSCRIBED: u8 = 5;
pub(super) const RECEIVED: u8 = 6;
pub(super) const CORRUPT: u8 = 7;
pub(super) const STRAY: u8 = 8;
pub(super) const UNSUBSCRIBED: u8 = 9;
pub(super) const CLOSED: u8 = 10;
pub(super) const BROKE: u8 = 11;
pub(super) const CUT: u8 = 12;

/// No time has passed since the last record.
pub(super) const SAME_TIME: u8 = 0x10;
/// Of deliveries: in a subscribe reply.
pub(super) const RECOVERED: u8 = 0x20;
/// Of deliveries: the channel of the last delivery.
pub(super) const SAME_CHANNEL: u8 = 0x40;
/// Of deliveries: the publication that the channel's slot holds.
pub(super) const SAME_PUBLICATION: u8 = 0x80;
/// Of subscribe replies, in their own byte.
pub(super) const HAS_ASKED: u8 = 1;
pub(super) const HAS_POSITION: u8 = 2;
pub(super) const SAYS_RECOVERED: u8 = 4;
pub(super) const SAYS_RECOVERING: u8 = 8;

/// What both sides, the writer and the reader of a log, remember of the records before.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub at_us: u64,
    pub client: ClientId,
    pub channel: ChannelId,
    /// At most [`LOG_SLOTS`].
    slots: Vec<Option<Slot>>,
}

/// The last publication of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub channel: ChannelId,
    pub offset: u64,
    pub publisher: ClientId,
    pub sequence: u32,
    pub crc: u32,
}

impl Context {
    /// What is remembered of a channel. Channels share slots: then nothing is.
    pub fn slot(&self, channel: ChannelId) -> Option<Slot> {
        let slot = *self.slots.get(channel as usize % LOG_SLOTS)?;
        slot.filter(|slot| slot.channel == channel)
    }

    pub fn remember(&mut self, slot: Slot) {
        let at = slot.channel as usize % LOG_SLOTS;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
        }
    }
}

/// Writes down what the clients of one thread do and see. Times are of [`crate::clock`].
///
/// All that concerns one client, as publisher and as subscriber, belongs into one log, in the
/// order in which the client did and saw it.
#[derive(Debug)]
pub struct Recorder {
    log: Log,
    bytes_max: usize,
    context: Context,
    /// Numbers of the names in the log.
    names: HashMap<Box<str>, u32>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::bounded(LOG_BYTES_MAX)
    }
}

impl Recorder {
    /// A recorder whose log says that it is full after so many bytes.
    pub fn bounded(bytes_max: usize) -> Self {
        let (log, context, names) = Default::default();
        Self { log, bytes_max, context, names }
    }

    /// A publication was sent. `stamp.publisher` is the client that sent it; its sequences rise.
    pub fn published(&mut self, at_us: u64, channel: ChannelId, stamp: Stamp) {
        let Some(out) = begin(&mut self.log, &mut self.context, self.bytes_max, PUBLISHED, at_us)
        else {
            return;
        };
        put_client(out, &mut self.context, stamp.publisher);
        put(out, u64::from(channel));
        put(out, u64::from(stamp.sequence));
        put_difference(out, at_us, stamp.due_us);
        out.extend_from_slice(&stamp.crc.to_le_bytes());
    }

    /// What became of it.
    pub fn answered(&mut self, at_us: u64, publisher: ClientId, sequence: u32, outcome: Outcome) {
        let kind = match outcome {
            Outcome::Acknowledged => ACKNOWLEDGED,
            Outcome::Refused(_) => REFUSED,
            Outcome::Unknown => UNANSWERED,
        };
        let Some(out) = begin(&mut self.log, &mut self.context, self.bytes_max, kind, at_us) else {
            return;
        };
        put_client(out, &mut self.context, publisher);
        put(out, u64::from(sequence));
        if let Outcome::Refused(code) = outcome {
            put(out, u64::from(code));
        }
    }

    /// A subscribe was answered by a success. What the reply brings is recorded right after it.
    pub fn subscribed(
        &mut self,
        at_us: u64,
        client: ClientId,
        channel: ChannelId,
        reply: Subscribed<'_>,
    ) {
        let Some(asked) = self.place(reply.asked) else {
            return;
        };
        let Some(position) = self.place(reply.position) else {
            return;
        };
        let Some(out) = begin(&mut self.log, &mut self.context, self.bytes_max, SUBSCRIBED, at_us)
        else {
            return;
        };
        put_client(out, &mut self.context, client);
        put(out, u64::from(channel));
        let says = [
            (asked.is_some(), HAS_ASKED),
            (position.is_some(), HAS_POSITION),
            (reply.recovered, SAYS_RECOVERED),
            (reply.was_recovering, SAYS_RECOVERING),
        ];
        out.push(says.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum());
        for (epoch, offset) in [asked, position].into_iter().flatten() {
            put(out, u64::from(epoch));
            put(out, offset);
        }
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
        let slot = self.context.slot(channel);
        let now = stamp.map(|Stamp { publisher, sequence, crc, .. }| Slot {
            channel,
            offset,
            publisher,
            sequence,
            crc,
        });
        let mut kind = if now.is_some() { RECEIVED } else { CORRUPT };
        kind |= if via == Via::Recovered { RECOVERED } else { 0 };
        kind |= if channel == self.context.channel { SAME_CHANNEL } else { 0 };
        kind |= if now.is_some() && now == slot { SAME_PUBLICATION } else { 0 };
        let Some(out) = begin(&mut self.log, &mut self.context, self.bytes_max, kind, at_us) else {
            return;
        };
        put_client(out, &mut self.context, client);
        if kind & SAME_CHANNEL == 0 {
            put(out, u64::from(channel));
            self.context.channel = channel;
        }
        if kind & SAME_PUBLICATION != 0 {
            return;
        }
        put_difference(out, slot.map_or(0, |slot| slot.offset), offset);
        if let Some(now) = now {
            put(out, u64::from(now.publisher));
            put(out, u64::from(now.sequence));
            out.extend_from_slice(&now.crc.to_le_bytes());
            self.context.remember(now);
        }
    }

    /// A publication of a channel came that the client had not asked for, or had left (C8).
    pub fn stray(&mut self, at_us: u64, client: ClientId, channel: &str) {
        let Some(name) = self.name(channel) else {
            return;
        };
        let Some(out) = begin(&mut self.log, &mut self.context, self.bytes_max, STRAY, at_us)
        else {
            return;
        };
        put_client(out, &mut self.context, client);
        put(out, u64::from(name));
    }

    /// A subscription ended: by the server (its code), or by the client (0; recorded when the
    /// server has confirmed it, since until then publications may come).
    pub fn unsubscribed(&mut self, at_us: u64, client: ClientId, channel: ChannelId, code: u32) {
        let Some(out) =
            begin(&mut self.log, &mut self.context, self.bytes_max, UNSUBSCRIBED, at_us)
        else {
            return;
        };
        put_client(out, &mut self.context, client);
        put(out, u64::from(channel));
        put(out, u64::from(code));
    }

    /// The server ended the connection, or it broke (`None`).
    pub fn closed(&mut self, at_us: u64, client: ClientId, code: Option<u16>) {
        let kind = if code.is_some() { CLOSED } else { BROKE };
        let Some(out) = begin(&mut self.log, &mut self.context, self.bytes_max, kind, at_us) else {
            return;
        };
        put_client(out, &mut self.context, client);
        if let Some(code) = code {
            put(out, u64::from(code));
        }
    }

    /// The client ended the connection.
    pub fn cut(&mut self, at_us: u64, client: ClientId) {
        if let Some(out) = begin(&mut self.log, &mut self.context, self.bytes_max, CUT, at_us) {
            put_client(out, &mut self.context, client);
        }
    }

    /// Bytes of records so far.
    pub fn bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Whether something was not written down for want of room.
    pub fn is_full(&self) -> bool {
        self.log.full
    }

    /// The book.
    pub fn finish(self) -> Log {
        self.log
    }

    /// A position with its epoch as a number; the outer `None`: the log is full.
    fn place(&mut self, position: Option<Position<'_>>) -> Option<Option<(u32, u64)>> {
        match position {
            Some(Position { epoch, offset }) => Some(Some((self.name(epoch)?, offset))),
            None => Some(None),
        }
    }

    /// The number of a name, which is new or known.
    fn name(&mut self, name: &str) -> Option<u32> {
        let name = &name[..name.floor_char_boundary(LOG_NAME_BYTES_MAX)];
        if let Some(number) = self.names.get(name) {
            return Some(*number);
        }
        if self.log.full || self.log.names.len() >= LOG_NAMES_MAX {
            self.log.full = true;
            return None;
        }
        let number = self.log.names.len() as u32;
        self.log.names.push(name.into());
        self.names.insert(name.into(), number);
        Some(number)
    }
}

/// Begins a record with its kind and time; `None` when the log is full.
fn begin<'a>(
    log: &'a mut Log,
    context: &mut Context,
    bytes_max: usize,
    kind: u8,
    at_us: u64,
) -> Option<&'a mut Vec<u8>> {
    let room = |chunk: &Vec<u8>| LOG_CHUNK_BYTES - chunk.len() >= LOG_RECORD_BYTES_MAX;
    if !log.full && !log.chunks.last().is_some_and(room) {
        if (log.chunks.len() + 1).saturating_mul(LOG_CHUNK_BYTES) > bytes_max {
            log.full = true;
        } else {
            log.chunks.push(Vec::with_capacity(LOG_CHUNK_BYTES));
        }
    }
    if log.full {
        return None;
    }
    let out = log.chunks.last_mut()?;
    if at_us == context.at_us {
        out.push(kind | SAME_TIME);
    } else {
        out.push(kind);
        put_difference(out, context.at_us, at_us);
        context.at_us = at_us;
    }
    Some(out)
}

fn put_client(out: &mut Vec<u8>, context: &mut Context, client: ClientId) {
    put_difference(out, u64::from(context.client), u64::from(client));
    context.client = client;
}
