//! The contract between the server and its adapters.

use bytes::Bytes;
use plimsoll_core::model::{ClientId, StreamPosition};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// An answer that comes later. Nothing of the call happens before it is first polled; publications
/// go out in the order in which their answers are first polled.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One run of one node: random, so that a restarted node is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl NodeId {
    /// Reads its text form of 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// What every adapter is made with.
#[derive(Clone)]
pub struct Setup {
    /// Who we are.
    pub node: NodeId,
    /// What all keys, channels and subjects of this cluster begin with. Only letters, digits, `_`
    /// and `-`.
    pub prefix: Arc<str>,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
    /// How long presence entries outlive the last [`Backbone::keep_presence`], in milliseconds.
    pub presence_lease_ms: u64,
    /// Between two probes of a silent subscription connection, in milliseconds. A connection that
    /// is silent for two of them is made anew.
    pub probe_interval_ms: u64,
}

/// Takes what comes from the broker. It never waits and never calls the adapter.
pub trait Sink: Send + Sync {
    /// Takes all events, in order, and leaves `events` empty.
    fn take(&self, events: &mut Vec<Event>);
}

/// What an adapter can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Its name in the configuration: `redis`, `jetstream`, ...
    pub kind: &'static str,
    /// Publications get offsets and can be read again.
    pub history: bool,
    /// Idempotency keys are honoured.
    pub idempotency: bool,
    /// Versions are honoured.
    pub versions: bool,
    /// The largest body in bytes.
    pub body_bytes_max: usize,
}

/// How long a channel's publications are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At most so many.
    pub size: usize,
    /// Each for so long, in milliseconds.
    pub ttl_ms: u64,
    /// Epoch and offset outlive the last use by so long, in milliseconds.
    pub meta_ttl_ms: u64,
}

/// One publication on its way out.
#[derive(Clone, Debug)]
pub struct Publish {
    /// To whom.
    pub channel: Arc<str>,
    /// What: an envelope, opaque to the adapter.
    pub body: Bytes,
    /// Append it to the channel's history; `None` = only to those who listen now.
    pub keep: Option<Keep>,
    /// A second publication with the same key in the same channel within five minutes is the
    /// first one.
    pub idempotency_key: Option<Box<str>>,
    /// Number and epoch: not published unless the number is above the last one of that epoch.
    pub version: Option<(u64, Box<str>)>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where it (or the one that it repeats) stands; `None` = no history.
    pub position: Option<StreamPosition>,
    /// It is new: not a repetition, not an old version.
    pub is_new: bool,
}

/// Why something was not done, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no link to the broker node in charge. Certainly not done.
    #[error("no link to the broker")]
    Down,
    /// Too much waits for the broker already, or the broker itself refuses for the moment (it is
    /// loading, full, or without a leader). Certainly not done.
    #[error("the broker takes no more for the moment")]
    Busy,
    /// The body is larger than the broker takes. Certainly not done.
    #[error("too large for the broker")]
    TooLarge,
    /// The adapter cannot do this at all. Certainly not done.
    #[error("this broker cannot do that")]
    Unsupported,
    /// It was sent, and no answer came. It may have happened.
    #[error("no answer of the broker")]
    Unknown,
    /// The broker answered with an error that no adapter expects (a wrong type of a key, a missing
    /// permission). Certainly not done.
    #[error("refused by the broker")]
    Refused,
}

impl Failure {
    /// Did it certainly not happen?
    pub fn is_certain(self) -> bool {
        self != Self::Unknown
    }
}

/// Which publications of a channel are wanted. Answers are in ascending order in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The first ones above an offset.
    After {
        /// Exclusive.
        offset: u64,
        /// At most so many.
        limit: usize,
    },
    /// The last ones below an offset; `u64::MAX` = the newest.
    Before {
        /// Exclusive.
        offset: u64,
        /// At most so many; 0 = only the position.
        limit: usize,
    },
}

/// A reading of a channel's history. A channel without an epoch gets one by it.
#[derive(Clone, Debug)]
pub struct Read {
    /// Whose.
    pub channel: Arc<str>,
    /// How the channel keeps.
    pub keep: Keep,
    /// What.
    pub want: Want,
}

/// What was read, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the channel stands: offset 0 before its first publication.
    pub position: StreamPosition,
    /// Every publication of this epoch above this offset is still stored. A client that stands at
    /// `floor` or above can recover.
    pub floor: u64,
    /// Ascending.
    pub entries: Vec<Entry>,
}

/// A stored publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: u64,
    /// What was published.
    pub body: Bytes,
}

/// Something published, on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where: the very name that [`Backbone::subscribe`] was given.
    pub channel: Arc<str>,
    /// What was published.
    pub body: Bytes,
    /// Where it stands; `None` = no history.
    pub stamp: Option<Stamp>,
}

/// Where a delivered publication stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its own position.
    pub position: StreamPosition,
    /// The offset of the one before it in this channel and epoch; 0 = it is the first.
    pub previous: u64,
}

/// What comes from the broker.
#[derive(Clone, Debug)]
pub enum Event {
    /// A publication in a subscribed channel.
    Delivery(Delivery),
    /// A message of a node to us or to all.
    Told(Bytes),
    /// Deliveries of these channels may be missing. What comes after it is complete again.
    Gap(Scope),
    /// A link was lost or is there again.
    Link(Link),
    /// Something that is not ours was dropped.
    Garbage {
        /// In which channel, if that is known.
        channel: Option<Arc<str>>,
        /// A few words; never the content.
        why: &'static str,
    },
}

/// Which channels are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All subscribed ones.
    All,
    /// These.
    Channels(Vec<Arc<str>>),
}

/// The state of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which broker node: `host:port`.
    pub broker: Arc<str>,
    /// For what.
    pub role: Role,
    /// Whether it is there.
    pub up: bool,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Publishing, reading, presence.
    Commands,
    /// Deliveries.
    Subscriptions,
}

/// Somebody present in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Connection id.
    pub client: ClientId,
    /// User id; may be empty.
    pub user: Arc<str>,
    /// The node that has the connection.
    pub node: NodeId,
    /// What the caller wants to know of it: opaque to the adapter.
    pub info: Bytes,
}

/// Somebody came or went.
#[derive(Clone, Debug)]
pub enum PresenceChange {
    /// Is there. Coming again replaces the entry.
    Add(Arc<str>, Member),
    /// Is not there any more. An entry of another node with the same client is left alone.
    Remove(Arc<str>, ClientId, NodeId),
}

/// How many are present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections.
    pub clients: usize,
    /// Distinct user ids.
    pub users: usize,
}

/// What an adapter says of one broker node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerFigures {
    /// `host:port`.
    pub broker: String,
    /// Both links are there.
    pub up: bool,
    /// Links made anew since the start.
    pub reconnects: u64,
    /// Subscriptions restored since the start.
    pub resubscribes: u64,
    /// Gaps reported since the start.
    pub gaps: u64,
    /// Subscription links that the broker cut because we did not read fast enough, as far as that
    /// can be seen.
    pub cut_as_slow: u64,
    /// Deliveries since the start.
    pub deliveries: u64,
    /// Calls that wait for an answer.
    pub in_flight: u64,
}

/// What an adapter says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// By broker node.
    pub brokers: Vec<BrokerFigures>,
    /// What acknowledged publications can be lost, and when: one sentence for the operator.
    pub loss_window: String,
    /// Name and version of the broker.
    pub server: String,
}

/// A broker, as a node uses it. The rules are those of the crate's first page.
pub trait Backbone: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Appends and publishes each, in order; an answer for each, in order.
    fn publish(&self, batch: Vec<Publish>) -> Later<Vec<Result<Published, Failure>>>;

    /// Deliveries of these channels are wanted from now until [`Backbone::unsubscribe`]. The answer
    /// comes when the broker has confirmed. What failed is not wanted: ask again. A channel that is
    /// subscribed already stays so.
    fn subscribe(&self, channels: Vec<Arc<str>>) -> Later<Vec<Result<(), Failure>>>;

    /// Deliveries are not wanted any more; some may still come. Never fails: without a link the
    /// channel is merely not subscribed again. Calls of `subscribe` and `unsubscribe` take effect
    /// in the order in which their answers are first polled.
    fn unsubscribe(&self, channels: Vec<Arc<str>>) -> Later<()>;

    /// Reads histories; an answer for each, in order.
    fn read(&self, reads: Vec<Read>) -> Later<Vec<Result<Page, Failure>>>;

    /// Drops a channel's publications; epoch and offset go on.
    fn clear(&self, channel: Arc<str>) -> Later<Result<(), Failure>>;

    /// Tells a node, or all nodes (ourselves included), something: [`Event::Told`] there. At most
    /// once.
    fn tell(&self, to: Option<NodeId>, body: Bytes) -> Later<Result<(), Failure>>;

    /// Notes who came and went, in order. All or (in part) nothing: on an error, say it again.
    fn note_presence(&self, changes: Vec<PresenceChange>) -> Later<Result<(), Failure>>;

    /// Our entries of these channels are still true: their lease begins anew.
    fn keep_presence(&self, channels: Vec<Arc<str>>) -> Later<Result<(), Failure>>;

    /// Who is present, at most so many ([`Failure::TooLarge`] above it).
    fn presence(&self, channel: Arc<str>, most: usize) -> Later<Result<Vec<Member>, Failure>>;

    /// How many are present, without reading who.
    fn presence_stats(&self, channel: Arc<str>) -> Later<Result<Tally, Failure>>;

    /// The nodes that are alive, for adapters without a store, which ask the nodes themselves.
    fn note_peers(&self, _nodes: &[NodeId]) {}

    /// Sends something through the broker and waits until it is back by the subscription link, on
    /// every broker node in use.
    fn probe(&self) -> Later<Result<(), Failure>>;

    /// What there is to say about it.
    fn status(&self) -> Status;

    /// Ends all links. What is in flight may fail.
    fn close(&self) -> Later<()>;
}
