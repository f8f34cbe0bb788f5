//! What a session wants done. It does nothing itself.

use crate::codes::{ClientError, Disconnect, Unsubscribed};
use crate::history::Page;
use crate::home::{Request, Subscribed};
use crate::hub::Place;
use crate::model::{ClientId, ClientInfo, Publication, StreamPosition};
use crate::quota::Limit;
use crate::tier::Tier;
use std::sync::Arc;

/// One thing to do, in order.
#[derive(Debug)]
pub enum Effect {
    /// Answer a command.
    Reply {
        /// The command's id.
        id: u32,
        /// The result.
        body: ReplyBody,
    },
    /// Refuse a command.
    Error {
        /// The command's id.
        id: u32,
        /// Why.
        error: ClientError,
    },
    /// Refuse a command because somebody is over a limit.
    Limited {
        /// The command's id.
        id: u32,
        /// Which limit.
        limit: Limit,
    },
    /// Answer a publish as if it were done, and count it as left out: the one before still holds.
    LeftOut {
        /// The command's id.
        id: u32,
    },
    /// Ask the channel's home; the answer comes back by `Session::on_answer`.
    Ask {
        /// The command's id (0: nobody waits for a reply).
        id: u32,
        /// Channel name.
        channel: Arc<str>,
        /// What to ask.
        request: Request,
    },
    /// Put the subscription into the hub, and tell the session its place.
    Activate {
        /// Channel name.
        channel: Arc<str>,
        /// Gets join and leave pushes.
        join_leave: bool,
        /// Top of the stream at that moment.
        position: Option<StreamPosition>,
    },
    /// Take the subscription out of the hub, and tell the channel's home.
    Leave(Left),
    /// Call `Session::finish_unsubscribe` once the effects before this one are done: the
    /// subscription's end came while it was pending.
    FinishUnsubscribe {
        /// The unsubscribe command's id; 0: the server ended it.
        id: u32,
        /// Channel name.
        channel: Arc<str>,
    },
    /// Tell the client something it did not ask for.
    Push(Push),
    /// The server's ping.
    Ping,
    /// The connection is authenticated as this user.
    Enter {
        /// User id, never empty.
        user: Arc<str>,
    },
    /// The connection is authenticated and has this tier, for its whole life.
    Tiered {
        /// Which.
        tier: Tier,
        /// The token says something that is no tier: this is the default.
        mistaken: bool,
    },
    /// End the connection.
    Close(Disconnect),
}

/// A subscription that ended.
#[derive(Debug)]
pub struct Left {
    /// Channel name.
    pub channel: Arc<str>,
    /// Its place in the hub; `None` when it never got one.
    pub place: Option<Place>,
    /// The member, when presence or join and leave know it.
    pub member: Option<ClientId>,
    /// Tell the others.
    pub announce: bool,
}

impl Left {
    /// Undoes a subscription that its home granted but nobody waits for any more.
    pub fn unwanted(channel: &Arc<str>, granted: &Subscribed) -> Self {
        Self {
            channel: Arc::clone(channel),
            place: None,
            member: granted.member,
            announce: granted.announce,
        }
    }
}

/// Results by command.
#[derive(Debug)]
pub enum ReplyBody {
    /// Authenticated.
    Connect(Box<ConnectResult>),
    /// Subscribed.
    Subscribe(Box<SubscribeResult>),
    /// Not subscribed any more.
    Unsubscribe,
    /// Appended and on its way.
    Publish,
    /// Who is there.
    Presence(Vec<ClientInfo>),
    /// How many are there.
    PresenceStats {
        /// Connections.
        clients: usize,
        /// Distinct users.
        users: usize,
    },
    /// A page of publications.
    History(Page),
    /// The connection lives on.
    Refresh {
        /// Seconds until it expires; `None` = never.
        ttl_s: Option<u64>,
    },
    /// The subscription lives on.
    SubRefresh {
        /// Seconds until it expires; `None` = never.
        ttl_s: Option<u64>,
    },
}

/// Result of `connect`.
#[derive(Debug)]
pub struct ConnectResult {
    /// Connection id.
    pub client: ClientId,
    /// Seconds until the connection expires; `None` = never.
    pub ttl_s: Option<u64>,
    /// Server-side subscriptions.
    pub subs: Vec<(Arc<str>, SubscribeResult)>,
    /// Seconds between pings; 0 = none.
    pub ping_s: u64,
    /// Pings are to be answered.
    pub pong: bool,
    /// Unix time in milliseconds, when configured.
    pub time_ms: Option<u64>,
}

/// Result of `subscribe`.
#[derive(Clone, Debug, Default)]
pub struct SubscribeResult {
    /// Seconds until the subscription expires; `None` = never.
    pub ttl_s: Option<u64>,
    /// Recovery is possible.
    pub recoverable: bool,
    /// Offsets are followed.
    pub positioned: bool,
    /// Epoch, and the offset to go on from.
    pub position: Option<StreamPosition>,
    /// Missed publications, ascending.
    pub publications: Vec<Arc<Publication>>,
    /// Nothing is missing.
    pub recovered: bool,
    /// Recovery was tried.
    pub was_recovering: bool,
    /// Raw JSON from the token or the API.
    pub data: Option<Box<str>>,
}

/// What a client is told without having asked.
#[derive(Debug)]
pub enum Push {
    /// The server ended a subscription.
    Unsubscribe {
        /// Channel name.
        channel: Arc<str>,
        /// Code and reason.
        why: Unsubscribed,
    },
    /// The server added a subscription.
    Subscribe {
        /// Channel name.
        channel: Arc<str>,
        /// Position and data.
        result: Box<SubscribeResult>,
    },
    /// The server changed when the connection expires.
    Refresh {
        /// Seconds until then; `None` = never.
        ttl_s: Option<u64>,
    },
}
