//! What is asked of a channel's home, and what it answers.

use crate::codes::ClientError;
use crate::history::{Page, Recovery};
use crate::model::{ClientId, ClientInfo, Publication, Since, StreamPosition};
use crate::presence::{self, Told};
use crate::quota::Payer;
use std::sync::Arc;

/// What a worker (or the API) asks of a channel's home.
#[derive(Clone, Debug)]
pub enum Request {
    /// Register interest of the asking worker and tell the position, in one step.
    Subscribe(SubscribeRequest),
    /// One subscription of the asking worker less.
    Unsubscribe {
        /// The member that left, when it was announced or present.
        member: Option<ClientId>,
        /// Tell the others.
        announce: bool,
    },
    /// Append and fan out.
    Publish(PublishRequest),
    /// Who is there.
    Presence,
    /// How many are there.
    PresenceStats,
    /// A page of publications.
    History {
        /// Exclusive start.
        since: Option<Since>,
        /// Publications at most.
        limit: usize,
        /// Newest first.
        reverse: bool,
    },
    /// Drop all publications.
    HistoryRemove,
}

/// A subscription that passed all checks of permission.
#[derive(Clone, Debug, Default)]
pub struct SubscribeRequest {
    /// The subscription follows offsets.
    pub positioned: bool,
    /// Where the client stands, when it wants to recover.
    pub recover: Option<Since>,
    /// Refuse (112) rather than subscribe unrecovered.
    pub must_recover: bool,
    /// Keep as a member (presence, join and leave).
    pub member: Option<ClientInfo>,
    /// Tell the others.
    pub announce: bool,
    /// Tell the read marks of the channel; of which user the own one.
    pub reader: Option<Arc<str>>,
}

/// A publication to append.
#[derive(Clone, Debug, Default)]
pub struct PublishRequest {
    /// Raw JSON, checked and compacted.
    pub data: Box<str>,
    /// The publishing client.
    pub info: Option<ClientInfo>,
    /// Who pays for its deliveries; `None` = nobody need.
    pub payer: Option<Arc<Payer>>,
    /// Raw JSON object of strings.
    pub tags: Option<Box<str>>,
    /// The same key within five minutes is the same publication.
    pub idempotency_key: Option<Box<str>>,
    /// Fan out only.
    pub skip_history: bool,
    /// Suppress unless above the last version of the same epoch.
    pub version: Option<(u64, Box<str>)>,
    /// Where it comes from, for tracing.
    pub trace: Option<Box<Trace>>,
}

/// W3C trace context of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`.
    pub parent: Box<str>,
    /// `tracestate`.
    pub state: Option<Box<str>>,
}

/// The home's answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To `Subscribe`.
    Subscribed(Subscribed),
    /// To `Publish`: where it stands now, if the channel keeps history.
    Published(Option<StreamPosition>),
    /// To `Presence`.
    Presence(Vec<ClientInfo>),
    /// To `PresenceStats`.
    Stats {
        /// Connections.
        clients: usize,
        /// Distinct user ids.
        users: usize,
    },
    /// To `History`.
    History(Page),
    /// To `Unsubscribe` and `HistoryRemove`.
    Done,
    /// Refused.
    Error(ClientError),
}

/// State of a channel at the moment of subscribing.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// Top of the stream, for positioned subscriptions.
    pub position: Option<StreamPosition>,
    /// What recovery found, when it was tried.
    pub recovery: Option<Recovery>,
    /// The offset the client recovers from.
    pub since_offset: u64,
    /// The member as asked for, so that a subscription nobody waits for can be undone.
    pub member: Option<ClientId>,
    /// Whether its coming was announced.
    pub announce: bool,
    /// The read marks, where the channel has some.
    pub marks: Option<Arc<Publication>>,
}

/// What goes to every interested worker.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something was published.
    Publication(Arc<Publication>),
    /// Who came or went, or how many are there: for those that want joins and leaves.
    Presence(Told),
    /// Publications are missing and cannot be had any more: who follows positions is told.
    Lost,
}

/// Answer and event of one request. The answer goes first, then the event, then what
/// [`Home::take_told`](super::Home::take_told) has.
pub struct Outcome {
    /// For who asked.
    pub answer: Answer,
    /// For all interested workers.
    pub event: Option<Event>,
}

/// What a home has done, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Joins and leaves.
    pub presence: presence::Figures,
    /// Read marks that have risen.
    pub marks_risen: u64,
    /// Read marks not above the last one of their user.
    pub marks_old: u64,
    /// Read marks refused.
    pub marks_refused: u64,
    /// Publications that told read marks.
    pub mark_pushes: u64,
    /// Typing notices that came too soon after one of the same user.
    pub typing_throttled: u64,
    /// Typing notices in too large rooms, or at too high a load.
    pub typing_dropped: u64,
}
