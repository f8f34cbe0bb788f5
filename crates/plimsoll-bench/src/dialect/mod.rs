//! What clients say and servers answer, apart from how it is written.
//!
//! A dialect turns intents into bytes and bytes into events. The fleet knows only those.

mod centrifugo;
mod scan;

pub use centrifugo::CentrifugoJson;

use crate::ledger::Position;

/// How a protocol writes and reads. Commands of one message may be appended one after the other.
pub trait Dialect {
    /// Appends a connect.
    fn connect(&self, out: &mut Vec<u8>, id: u32, token: Option<&str>);
    /// Appends a subscribe, with recovery from a position if there is one.
    fn subscribe(&self, out: &mut Vec<u8>, id: u32, channel: &str, from: Option<Position<'_>>);
    /// Appends an unsubscribe.
    fn unsubscribe(&self, out: &mut Vec<u8>, id: u32, channel: &str);
    /// Appends a publish; `data` is JSON.
    fn publish(&self, out: &mut Vec<u8>, id: u32, channel: &str, data: &[u8]);
    /// Appends the answer to a ping.
    fn pong(&self, out: &mut Vec<u8>);
    /// Calls `on_event` for each thing that a WebSocket message says, until it returns `false`.
    ///
    /// # Errors
    ///
    /// The message breaks the protocol; what stood before the fault was told.
    fn read(
        &self,
        message: &str,
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), Malformed>;
}

/// A message that breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the server is malformed")]
pub struct Malformed;

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// It asks for a sign of life.
    Ping,
    /// A publication; offset 0: it has none.
    Publication {
        /// Its channel.
        channel: &'a str,
        /// Its number in the stream.
        offset: u64,
        /// Its payload.
        data: &'a [u8],
    },
    /// The answer to a command.
    Reply {
        /// The command's number.
        id: u32,
        /// What it says.
        answer: Answer<'a>,
    },
    /// A subscription was ended by the server.
    Unsubscribed {
        /// Its channel.
        channel: &'a str,
        /// Why.
        code: u32,
    },
    /// Something that the fleet does not keep book of (join, leave and the like).
    Other,
}

/// What the answer to a command says.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// The connection stands.
    Connected {
        /// Seconds between two pings; 0: there are none.
        ping_s: u32,
        /// Whether pings are to be answered.
        pong: bool,
    },
    /// The subscription stands.
    Subscribed(Subscription<'a>),
    /// The publication was accepted.
    Published,
    /// The subscription is over.
    Unsubscribed,
    /// It was refused.
    Error {
        /// Why.
        code: u32,
        /// Whether trying again is worth while.
        temporary: bool,
    },
}

/// The reply to a subscribe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscription<'a> {
    /// Where the stream is; `None` without history.
    pub position: Option<(std::borrow::Cow<'a, str>, u64)>,
    /// Whether nothing was missed.
    pub recovered: bool,
    /// Whether recovery was tried.
    pub was_recovering: bool,
    /// Publications that were missed: offset and payload.
    pub publications: Vec<(u64, &'a [u8])>,
}
