//! Who published what, who saw what, and whether the two agree.
//!
//! [`run`] drives publishers and subscribers and writes everything down; [`check`] is pure and
//! judges the books by these rules:
//!
//! - C1 *no silent loss*: while a client was not told otherwise it saw every offset.
//! - C2 *no reorder, no duplicate*: offsets rise by one, live and recovered together.
//! - C3 *agreement*: an offset is the same publication, with the same bytes, for everybody.
//! - C4 *no invention*: what was seen was sent there, and was not refused.
//! - C5 *an ack means stored*: acknowledged publications are in the stream.
//! - C6 *truth of `recovered`*: `true` leaves no gap, `false` had a reason.
//! - C7 *publisher FIFO*: the publications of one publisher keep their order.

mod check;
mod drive;
mod publisher;
mod subscriber;

pub use check::{Limits, Rule, Verdict, Violation, check};
pub use drive::{Plan, run};

use std::sync::Arc;

/// Name of a publication: which publisher, and its how-many-eth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PubId {
    /// Number of the publisher.
    pub publisher: u32,
    /// Counted by the publisher over all channels.
    pub sequence: u64,
}

/// What became of a publication, as the publisher knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply was a success.
    Acknowledged,
    /// The reply was this error.
    Refused(u64),
    /// There was no reply.
    Unknown,
}

/// A line of a publisher's book.
#[derive(Clone, Debug)]
pub struct Published {
    /// Where to.
    pub channel: Arc<str>,
    /// Its name.
    pub id: PubId,
    /// CRC-32 of the payload's bytes as sent.
    pub body: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// A place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which life of the stream.
    pub epoch: Arc<str>,
    /// The last publication before this place.
    pub offset: u64,
}

/// How a publication came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a push.
    Live,
    /// In a subscribe reply.
    Recovered,
}

/// A line of a subscriber's book.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A subscribe was answered by a success.
    Subscribed {
        /// The position that was named, when recovery was asked for.
        asked: Option<Position>,
        /// The position of the reply.
        position: Position,
        /// `recovered` of the reply.
        recovered: bool,
        /// `was_recovering` of the reply.
        was_recovering: bool,
    },
    /// A publication.
    Received {
        /// Its offset.
        offset: u64,
        /// Its name; `None` when the payload could not be read.
        id: Option<PubId>,
        /// CRC-32 of the payload's bytes as received.
        body: u32,
        /// How it came.
        via: Via,
    },
    /// The subscription ended, by the server (its code) or by the client (0).
    Unsubscribed(u64),
    /// The server ended the connection, or it broke.
    Closed(Option<u16>),
    /// The client ended the connection.
    Cut,
    /// Everything is over: what was published must have arrived.
    Settled,
}

/// A subscriber's book. Each has one channel.
#[derive(Clone, Debug)]
pub struct Book {
    /// Number of the subscriber.
    pub subscriber: u32,
    /// Its channel.
    pub channel: Arc<str>,
    /// In the order in which things happened.
    pub entries: Vec<Entry>,
}

/// What the server has of a stream at the end.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The channel.
    pub channel: Arc<str>,
    /// The stream's end.
    pub top: Position,
    /// Offset, name (`None`: unreadable) and CRC-32 of what is kept, ascending.
    pub publications: Vec<(u64, Option<PubId>, u32)>,
}

/// All books of a run.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Of all publishers, each in its order.
    pub published: Vec<Published>,
    /// Of all subscribers.
    pub books: Vec<Book>,
    /// Of the server.
    pub stored: Vec<Stored>,
}

/// The payload of a publication: its name, filler and the CRC-32 of both.
///
/// Members are in the order of the alphabet, so that reading and writing it changes no byte.
fn payload(id: PubId) -> String {
    let name = format!("{}#{}", id.publisher, id.sequence);
    let filler = "x".repeat(usize::try_from(id.sequence % 97).unwrap_or(0));
    let crc = crc32(format!("{name}{filler}").as_bytes());
    format!(r#"{{"crc":{crc},"filler":"{filler}","id":"{name}"}}"#)
}

/// The name in a payload, if the payload is whole.
fn read_payload(text: &str) -> Option<PubId> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let (name, filler) = (value["id"].as_str()?, value["filler"].as_str()?);
    let crc = crc32(format!("{name}{filler}").as_bytes());
    if value["crc"].as_u64() != Some(u64::from(crc)) {
        return None;
    }
    let (publisher, sequence) = name.split_once('#')?;
    Some(PubId { publisher: publisher.parse().ok()?, sequence: sequence.parse().ok()? })
}

/// CRC-32 (IEEE), bit by bit: the books are short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_name_and_notices_changes() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let id = PubId { publisher: 3, sequence: 96 };
        let text = payload(id);
        assert_eq!(read_payload(&text), Some(id));
        let again: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(again.to_string(), text);
        assert_eq!(read_payload(&text.replace("3#96", "3#97")), None);
        assert_eq!(read_payload(&text.replacen('x', "y", 1)), None);
        assert_eq!(read_payload("{}"), None);
    }
}
