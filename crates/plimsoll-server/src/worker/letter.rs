//! What workers and the control runtime write to each other.

use plimsoll_core::codes::Disconnect;
use plimsoll_core::home::{Answer, Event, Request};
use plimsoll_core::link::News;
use plimsoll_core::model::{ClientId, ConnKey, Since};
use plimsoll_core::token::SubscriptionOptions;
use std::sync::Arc;

/// A letter to a worker.
#[derive(Debug)]
pub enum Letter {
    /// A session's request to a channel's home, which the reader is.
    Ask {
        /// The asking worker.
        from: u16,
        /// The asking connection there.
        conn: ConnKey,
        /// The command's id.
        id: u32,
        /// Channel name.
        channel: Arc<str>,
        /// What is asked.
        request: Request,
        /// When the command was received, monotonic microseconds.
        received_us: u64,
    },
    /// The home's answer to it.
    Answer {
        /// Who asked.
        conn: ConnKey,
        /// The command's id.
        id: u32,
        /// Channel name.
        channel: Arc<str>,
        /// The answer.
        answer: Answer,
    },
    /// Something for the reader's subscribers of a channel.
    Event {
        /// Channel name.
        channel: Arc<str>,
        /// What happened.
        event: Event,
        /// When it was received, monotonic microseconds.
        received_us: u64,
    },
    /// The backbone has something for a channel whose home the reader is.
    News {
        /// Channel name.
        channel: Arc<str>,
        /// What.
        news: News,
        /// When it was received, monotonic microseconds.
        received_us: u64,
    },
    /// Deliveries of these channels (`None`: of all) may be missing.
    Gap(Option<Arc<[Arc<str>]>>),
    /// This node of the cluster is taken for gone.
    NodeGone(u64),
    /// Something of the API or of the process; answered under `ticket`.
    Control {
        /// Names the waiting caller.
        ticket: u64,
        /// What to do.
        order: Order,
    },
}

/// What the control runtime orders.
#[derive(Debug)]
pub enum Order {
    /// Ask the home of a channel, which the reader is.
    Home {
        /// Channel name.
        channel: Arc<str>,
        /// What is asked.
        request: Request,
        /// When the request was received, monotonic microseconds.
        received_us: u64,
    },
    /// Do something to connections of a user.
    Users(Selection, UserOrder),
    /// List channels with subscribers that are at home here.
    Channels,
    /// Tell all clients something about the load.
    Notice {
        /// One JSON object, the data of the push.
        json: Arc<str>,
        /// The same for those who connect from now on; `None` = nothing.
        greeting: Option<Arc<str>>,
        /// Over how many milliseconds to tell them.
        spread_ms: u64,
    },
    /// Show that the worker answers.
    Echo,
    /// Close everything: the node stops.
    Stop,
}

/// Which connections are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// All of this user; empty = by client id alone.
    pub user: Box<str>,
    /// Only this connection.
    pub client: Option<ClientId>,
    /// But not these.
    pub except: Vec<ClientId>,
}

/// What happens to them.
#[derive(Clone, Debug)]
pub enum UserOrder {
    /// End the connection.
    Disconnect(Disconnect),
    /// End a subscription (an empty channel: all).
    Unsubscribe {
        /// Channel name.
        channel: Box<str>,
    },
    /// Add a subscription.
    Subscribe {
        /// Channel name.
        channel: Box<str>,
        /// Info, data, overrides.
        options: SubscriptionOptions,
        /// Recover since.
        recover: Option<Since>,
        /// Unix milliseconds.
        expires_at_ms: Option<u64>,
    },
    /// Change when the connection expires.
    Refresh {
        /// At once.
        expired: bool,
        /// Unix milliseconds; `None` = never.
        expires_at_ms: Option<u64>,
    },
}

/// What comes back to the control runtime.
#[derive(Debug)]
pub enum Report {
    /// To `Home`.
    Home(Answer),
    /// To `Users`: how many connections it concerned.
    Users(usize),
    /// To `Channels`: names and subscribers.
    Channels(Vec<(Arc<str>, usize)>),
    /// To `Notice`: it will be told.
    Noted,
    /// To `Echo`.
    Echo,
    /// To `Stop`.
    Stopping,
}
