//! Who published what, who saw what, and whether the two agree.
//!
//! A [`Recorder`] for each thread writes a compact [`Log`] while the run goes on. A [`Ledger`] has
//! all logs of a run and what the server kept; it can be saved, loaded and judged. [`judge`] is
//! pure. Its rules:
//!
//! - C1 *no silent loss*: from a subscribe reply on a subscriber sees every offset, until it is
//!   told otherwise. At the end it has everything that was published long enough before.
//! - C2 *no reorder, no duplicate*: offsets rise by one, live and recovered together; without
//!   history, publications of one connection of a publisher come in its order, each once.
//! - C3 *agreement*: an offset of an epoch is the same publication, with the bytes that were
//!   sent, for everybody and for the history.
//! - C4 *no invention*: what was seen was sent, into this channel, and was not refused.
//! - C5 *an ack means stored*: an acknowledged publication is in the history or was seen, or there
//!   is room for it among the offsets that nobody saw, or its epoch is gone. Without history:
//!   somebody who was there has seen it.
//! - C6 *truth of `recovered`*: `true` leaves no gap, `false` has a reason.
//! - C7 *order of a publisher*: in a stream, publications of one connection keep their order.
//! - C8 *isolation*: nobody receives what he is not subscribed to.
//! - C9 *counters*: the server's figures are the ledger's.
//! - C10 *liveness*: the probes after the last fault reach everybody who is subscribed, in time.

mod events;
mod file;
mod healing;
mod judge;
mod recorder;
mod varint;
mod verdict;

pub use file::LoadError;
pub use healing::{Healing, healing};
pub use judge::judge;
pub use recorder::Recorder;
pub use verdict::{Counts, Judgement, Rule, Verdict, Violation};

use crate::topology::{ChannelId, ClientId};
use serde::{Deserialize, Serialize};

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
    /// The connection ended, or the run, before a reply; or the reply said that nobody knows.
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

/// What a judge has to know of a run. Times are of [`crate::clock`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What run it was, for people.
    pub name: String,
    /// Its beginning: from here the verdict counts time.
    pub started_us: u64,
    /// Its end. Connections and subscriptions that end later stood at the end.
    pub ended_us: u64,
    /// Whether the run has waited before its end until nothing was under way, or for `heal_ms`:
    /// then everything has to have come, and not only what was published `heal_ms` before.
    pub settled: bool,
    /// How long a publication may be on its way, in milliseconds (C1 at the end, C10).
    pub heal_ms: u64,
    /// Publications from here on are probes (C10).
    pub probes_from_us: Option<u64>,
    /// Publications that a channel's history keeps, if known.
    pub history_size: Option<u64>,
    /// How long it keeps them, in milliseconds, if known.
    pub history_ttl_ms: Option<u64>,
    /// Publications of one recovery at most, if known.
    pub recovery_max: Option<u64>,
    /// Fewer deliveries make the run void.
    pub deliveries_planned: u64,
    /// Fewer successful recoveries make the run void.
    pub recoveries_planned: u64,
    /// Whether a channel without history may lose nothing for a subscriber that stays. Such
    /// channels promise at most once, so that losses are counted and break nothing otherwise.
    pub exact_without_history: bool,
    /// Whether offsets may leave out numbers, since several channels share the counter. Then the
    /// next one is the next that anybody saw, and violations name offsets by their rank.
    #[serde(default)]
    pub sparse_offsets: bool,
}

impl Run {
    /// A run about whose server nothing is known, and for which nothing was planned.
    pub fn new(name: &str, started_us: u64, ended_us: u64) -> Self {
        Self {
            name: name.to_owned(),
            started_us,
            ended_us,
            settled: false,
            heal_ms: HEAL_MS,
            probes_from_us: None,
            history_size: None,
            history_ttl_ms: None,
            recovery_max: None,
            deliveries_planned: 0,
            recoveries_planned: 0,
            exact_without_history: false,
            sparse_offsets: false,
        }
    }
}

/// How long a publication may be on its way unless a run says otherwise, in milliseconds.
pub const HEAL_MS: u64 = 10_000;

/// A channel of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: Box<str>,
    /// Whether it has history: then subscribe replies have to name positions.
    pub history: bool,
}

/// The history of a channel at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub channel: ChannelId,
    /// Its epoch.
    pub epoch: Box<str>,
    /// Offset of the last publication, whether it is still kept or not.
    pub top: u64,
    /// Offset and stamp (`None`: corrupt) of what is kept, ascending.
    pub publications: Vec<(u64, Option<Stamp>)>,
}

/// A figure of the server and what it has to be (C9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Of which figure.
    pub name: String,
    /// By the ledger.
    pub expected: u64,
    /// By the server, as the difference over the run.
    pub found: u64,
}

/// All books of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// What the run was.
    pub run: Run,
    /// Its channels, by number.
    pub channels: Vec<Channel>,
    /// Logs of all threads of all processes. Each client stands in one of them.
    pub logs: Vec<Log>,
    /// Histories at the end, of those channels whose history was read.
    pub stored: Vec<Stored>,
    /// Figures of the server.
    pub comparisons: Vec<Comparison>,
}
