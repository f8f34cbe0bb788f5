//! What a home asks of the backbone, and what it hears from there.

use crate::home::{Answer, Event, PublishRequest};
use crate::model::{ClientId, ClientInfo, ConnKey, Epoch, Publication, Since, StreamPosition};
use std::sync::Arc;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A command of a session.
    Session {
        /// Its worker.
        worker: u16,
        /// Its connection there; generation 0 = nobody waits.
        conn: ConnKey,
        /// The command's id.
        id: u32,
    },
    /// A caller of the control runtime.
    Caller {
        /// Names it.
        ticket: u64,
    },
}

impl Asker {
    /// The worker whose interest in a channel is counted.
    pub fn worker(&self) -> Option<u16> {
        match self {
            Self::Session { worker, .. } => Some(*worker),
            Self::Caller { .. } => None,
        }
    }
}

/// Something that the backbone is asked to do. What is asked about one channel is done in order.
#[derive(Clone, Debug)]
pub enum Call {
    /// Subscribe a channel on this node, and then read how it stands: [`News::Opened`].
    Open {
        /// Channel name.
        channel: Arc<str>,
    },
    /// Nobody of this node wants the channel any more.
    Close {
        /// Channel name.
        channel: Arc<str>,
    },
    /// Append and publish; the asker is answered directly.
    Publish {
        /// Who waits.
        asker: Asker,
        /// Channel name.
        channel: Arc<str>,
        /// What.
        request: PublishRequest,
    },
    /// A read mark that this home has accepted: tell the others.
    Mark {
        /// Channel name.
        channel: Arc<str>,
        /// As it was published.
        request: PublishRequest,
    },
    /// Read what follows an offset, or (`None`) the newest: [`News::Read`].
    Read {
        /// Channel name.
        channel: Arc<str>,
        /// Exclusive.
        since: Option<StreamPosition>,
    },
    /// Read who is there: [`News::Roster`].
    Roster {
        /// Channel name.
        channel: Arc<str>,
    },
    /// A member of this node came or went: note it, and tell the others.
    Member {
        /// Channel name.
        channel: Arc<str>,
        /// Who.
        info: ClientInfo,
        /// Came.
        here: bool,
        /// The subscribers are to be told.
        announce: bool,
    },
    /// A member of a node that is gone: no longer there.
    Forget {
        /// Channel name.
        channel: Arc<str>,
        /// Whose connection it was.
        client: ClientId,
        /// The node.
        node: u64,
    },
    /// Who is there, for somebody who asked.
    Presence {
        /// Who waits.
        asker: Asker,
        /// Channel name.
        channel: Arc<str>,
    },
    /// How many are there, for somebody who asked.
    Stats {
        /// Who waits.
        asker: Asker,
        /// Channel name.
        channel: Arc<str>,
    },
    /// A page of publications, for somebody who asked.
    History {
        /// Who waits.
        asker: Asker,
        /// Channel name.
        channel: Arc<str>,
        /// Exclusive start.
        since: Option<Since>,
        /// Publications at most.
        limit: usize,
        /// Newest first.
        reverse: bool,
    },
    /// Drop all publications, for somebody who asked.
    Clear {
        /// Who waits.
        asker: Asker,
        /// Channel name.
        channel: Arc<str>,
    },
}

impl Call {
    /// The channel that it is about.
    pub fn channel(&self) -> &Arc<str> {
        match self {
            Self::Open { channel }
            | Self::Close { channel }
            | Self::Publish { channel, .. }
            | Self::Mark { channel, .. }
            | Self::Read { channel, .. }
            | Self::Roster { channel }
            | Self::Member { channel, .. }
            | Self::Forget { channel, .. }
            | Self::Presence { channel, .. }
            | Self::Stats { channel, .. }
            | Self::History { channel, .. }
            | Self::Clear { channel, .. } => channel,
        }
    }
}

/// What the backbone knows of a channel with history.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Where it stands.
    pub position: StreamPosition,
    /// Nothing above this offset is missing: it is in `publications`, or not above the offset that
    /// was asked for.
    pub floor: u64,
    /// Publications with their offsets, ascending.
    pub publications: Vec<Publication>,
    /// They are all there are up to `position`: nothing more is to be read.
    pub whole: bool,
}

/// A member, and the node whose connection it is.
pub type Member = (ClientInfo, u64);

/// Who is there, on all nodes.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// By name.
    pub list: Vec<Member>,
    /// There are more than can be told by name, and `list` has none of them.
    pub too_many: bool,
}

/// How a channel stands at the moment of opening.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// The newest publications, where there is history.
    pub replica: Option<Replica>,
    /// Who is there.
    pub members: Members,
}

/// Why the backbone has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// What the home hears about a channel.
#[derive(Clone, Debug)]
pub enum News {
    /// To [`Call::Open`].
    Opened(Result<Opened, Unavailable>),
    /// To [`Call::Read`].
    Read(Result<Replica, Unavailable>),
    /// To [`Call::Roster`].
    Roster(Result<Members, Unavailable>),
    /// Something was published, on whatever node.
    Arrived(Arrival),
}

/// Something that was published.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A message. With history its `offset` and `previous` are those of the backbone.
    Publication {
        /// What.
        publication: Publication,
        /// Which life of the stream its offset belongs to.
        epoch: Option<Epoch>,
    },
    /// A read mark, as it was published.
    Mark(PublishRequest),
    /// A member came, on another node.
    Join {
        /// Who.
        info: ClientInfo,
        /// Where.
        node: u64,
        /// The subscribers are to be told.
        announce: bool,
    },
    /// A member went, on another node.
    Leave {
        /// Who.
        client: ClientId,
        /// The subscribers are to be told.
        announce: bool,
    },
}

/// What comes out of a link, to be done in order.
#[derive(Clone, Debug)]
pub enum Out {
    /// For who asked.
    Answer(Asker, Arc<str>, Answer),
    /// For all workers with subscribers of the channel.
    Event(Arc<str>, Event),
    /// For the backbone.
    Call(Call),
}

/// What happened to links since the last time, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Holes in the offsets that were found, whether healed or not.
    pub gaps: u64,
    /// Publications that came a second time and were left out.
    pub repeated: u64,
    /// Channels whose subscribers were told that they missed something.
    pub lost: u64,
    /// Members of nodes that went silently.
    pub ghosts: u64,
    /// Publications read again after a hole.
    pub healed: u64,
}
