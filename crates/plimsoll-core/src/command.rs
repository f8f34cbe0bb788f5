//! What a client asks for, whatever the dialect it is written in.

use std::borrow::Cow;

/// One command. `id` 0: no reply is wanted (only `Send` and `Pong` may have it).
#[derive(Debug, PartialEq)]
pub struct Command<'a> {
    /// Chosen by the client, told back in the reply.
    pub id: u32,
    /// What to do.
    pub body: Body<'a>,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Body<'a> {
    /// Authenticate; must come first.
    Connect(Connect<'a>),
    /// Get a channel's publications.
    Subscribe(Subscribe<'a>),
    /// Get them no more.
    Unsubscribe {
        /// Channel name.
        channel: Cow<'a, str>,
    },
    /// Send to a channel.
    Publish {
        /// Channel name.
        channel: Cow<'a, str>,
        /// Raw JSON, checked and compacted; empty when the client sent none.
        data: Cow<'a, str>,
    },
    /// Who is subscribed.
    Presence {
        /// Channel name.
        channel: Cow<'a, str>,
    },
    /// How many are subscribed.
    PresenceStats {
        /// Channel name.
        channel: Cow<'a, str>,
    },
    /// What was published.
    History(History<'a>),
    /// Application ping, not available in this protocol.
    Ping,
    /// Asynchronous message to the server.
    Send {
        /// It says that the user is active, which needs no handler.
        active: bool,
    },
    /// Call of an application method.
    Rpc,
    /// New connection token.
    Refresh {
        /// The token.
        token: Cow<'a, str>,
    },
    /// New subscription token.
    SubRefresh {
        /// Channel name.
        channel: Cow<'a, str>,
        /// The token.
        token: Cow<'a, str>,
    },
    /// Answer to the server's ping.
    Pong,
}

/// The first command.
#[derive(Debug, Default, PartialEq)]
pub struct Connect<'a> {
    /// Connection token; empty = none.
    pub token: Cow<'a, str>,
    /// Server-side subscriptions wanted, with positions.
    pub subs: Vec<Subscribe<'a>>,
}

/// A subscription as asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Subscribe<'a> {
    /// Channel name.
    pub channel: Cow<'a, str>,
    /// Subscription token; empty = none.
    pub token: Cow<'a, str>,
    /// Deliver what was missed since `offset` and `epoch`.
    pub recover: bool,
    /// Last epoch seen.
    pub epoch: Cow<'a, str>,
    /// Last offset seen.
    pub offset: u64,
    /// Notice gaps.
    pub positioned: bool,
    /// Be able to recover.
    pub recoverable: bool,
    /// Push joins and leaves.
    pub join_leave: bool,
    /// Delta format asked for; empty = none.
    pub delta: Cow<'a, str>,
    /// A tags filter was sent.
    pub filtered: bool,
    /// Bit 1: refuse (112) rather than subscribe unrecovered.
    pub flag: i64,
    /// Subscription type; only 0 (stream) exists here.
    pub kind: i32,
}

/// A page of history as asked for.
#[derive(Debug, Default, PartialEq)]
pub struct History<'a> {
    /// Channel name.
    pub channel: Cow<'a, str>,
    /// Publications wanted: 0 = the position alone, negative = as many as allowed.
    pub limit: i32,
    /// Exclusive start.
    pub since: Option<(u64, Cow<'a, str>)>,
    /// Newest first.
    pub reverse: bool,
}
