//! The contract as tests: what every adapter passes, whoever wrote it.
//!
//! An adapter's test makes a [`Bed`]: nodes on one broker, and the faults that it can inject. Each
//! case is a function; [`run`] runs them all and says of each whether it was done. A case that
//! the bed cannot stage, or that is about something the adapter does not offer, is never left out
//! in silence: the caller compares the outcomes with what it expects.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // It is a test.

mod faults;
mod order;
mod presence;
mod proxy;
mod recorder;
mod recovery;
mod wire;

pub use faults::*;
pub use order::*;
pub use presence::*;
pub use proxy::Proxy;
pub use recorder::Recorder;
pub use recovery::*;
pub use wire::*;

use crate::contract::*;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a bed can do to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Break the links of one node, and restore them.
    Cut,
    /// Let nothing pass on the links of one node, without breaking them.
    Stall,
    /// Restart the broker without what it had stored, links broken.
    RestartEmpty,
    /// Write bytes that are no publication to where a channel's deliveries come from.
    Garbage,
}

/// Where an adapter is tested: one broker.
pub trait Bed: Send + Sync {
    /// Connects one more node.
    fn connect(&self, setup: Setup) -> Later<Arc<dyn Backbone>>;

    /// Which faults it can inject. The cases of the others are not done.
    fn faults(&self) -> &'static [Fault];

    /// Begins ([`Fault::Cut`], [`Fault::Stall`]: `is_on`) or ends a fault of one node, or does it
    /// once. The answer comes when it is done at the broker's side; the adapter may see it later.
    fn inject(&self, fault: Fault, node: NodeId, channel: &str, is_on: bool) -> Later<()>;

    /// What the broker really keeps when this is asked for: it may round up. The suite checks that
    /// no less is kept than asked for, and no more than this.
    fn keeps(&self, asked: Keep) -> Keep {
        asked
    }

    /// Offsets follow each other without holes, and start at 1.
    fn is_contiguous(&self) -> bool {
        true
    }

    /// How many channels the case of many channels subscribes to.
    fn many(&self) -> usize {
        10_000
    }

    /// How long after a fault ended a node needs at most until all is well again.
    fn heals_within(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// What became of a case. A failed one panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Done,
    /// The bed cannot inject this.
    NotStaged(Fault),
    /// The adapter does not offer this.
    NotOffered(&'static str),
}

/// A case, as a value.
pub type Case = for<'a> fn(&'a dyn Bed) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// All cases, by name.
        pub const CASES: &[(&str, Case)] = &[$((stringify!($name), |bed| Box::pin($name(bed)))),*];
    };
}

cases![
    all_nodes_see_one_order,
    one_publisher_is_fifo,
    an_ack_is_what_is_delivered,
    an_idempotent_retry_is_one_publication,
    an_idempotent_retry_on_two_nodes_is_one_publication,
    an_old_version_is_not_published,
    unsubscribed_is_unsubscribed,
    subscribing_again_and_again_doubles_nothing,
    everything_above_the_floor_is_stored,
    recovery_at_every_edge,
    what_expired_is_told_by_the_floor,
    clearing_keeps_the_epoch,
    pages_of_history,
    without_history_nothing_is_stored,
    presence_of_two_nodes,
    presence_ends_with_the_lease,
    presence_has_a_bound,
    odd_names_are_kept_apart,
    the_largest_body_and_one_more,
    messages_to_nodes,
    garbage_is_dropped,
    a_cut_is_a_gap,
    down_is_told_and_nothing_comes_later,
    a_stalled_link_is_never_a_false_answer,
    a_probe_says_whether_it_works,
    many_channels_are_restored,
    an_emptied_broker_has_new_epochs,
];

/// Runs all cases, one after the other. Returns what was not done, and why.
pub async fn run(bed: &dyn Bed) -> Vec<(&'static str, Outcome)> {
    let mut left = Vec::new();
    for (name, case) in CASES {
        let start = Instant::now();
        println!("{name} ...");
        let outcome = within(Duration::from_secs(90), name, case(bed)).await;
        println!("{name}: {outcome:?} in {} ms", start.elapsed().as_millis());
        if outcome != Outcome::Done {
            left.push((*name, outcome));
        }
    }
    left
}

/// Waits for something, or fails with its name.
pub(crate) async fn within<T>(time: Duration, what: &str, f: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, f).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not done within {} ms", time.as_millis()),
    }
}

/// A node of a case: an adapter and what it said.
pub(crate) struct Node {
    pub id: NodeId,
    pub b: Arc<dyn Backbone>,
    pub heard: Arc<Recorder>,
}

pub(crate) const LEASE_MS: u64 = 1_500;
pub(crate) const PROBE_MS: u64 = 500;

/// Connects one more node of a cluster.
pub(crate) async fn node(bed: &dyn Bed) -> Node {
    let heard = Arc::new(Recorder::default());
    let id = NodeId(fastrand::u64(1..));
    let setup = Setup {
        node: id,
        prefix: "suite".into(),
        sink: heard.clone(),
        presence_lease_ms: LEASE_MS,
        probe_interval_ms: PROBE_MS,
    };
    let b = within(Duration::from_secs(10), "connecting", bed.connect(setup)).await;
    let n = Node { id, b, heard };
    n.healthy(Duration::from_secs(10)).await;
    n
}

impl Node {
    /// Waits until everything works.
    pub async fn healthy(&self, time: Duration) {
        let end = Instant::now() + time;
        while let Err(failure) = self.b.probe().await {
            assert!(Instant::now() < end, "not healthy: {failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn subscribe(&self, channel: &Arc<str>) {
        assert_eq!(self.b.subscribe(vec![channel.clone()]).await, [Ok(())], "{channel:?}");
    }

    pub async fn publish(&self, p: Publish) -> Result<Published, Failure> {
        let answers = self.b.publish(vec![p]).await;
        assert_eq!(answers.len(), 1);
        answers[0]
    }

    /// Publishes with history and returns the offset.
    pub async fn append(&self, channel: &Arc<str>, body: &str, keep: Keep) -> u64 {
        let done = self.publish(publish(channel, body, Some(keep))).await.expect("published");
        assert!(done.is_new, "{body}");
        done.position.expect("a position").offset
    }

    pub async fn read(&self, channel: &Arc<str>, keep: Keep, want: Want) -> Page {
        let read = Read { channel: channel.clone(), keep, want };
        let mut pages = self.b.read(vec![read]).await;
        assert_eq!(pages.len(), 1);
        pages.remove(0).expect("a page")
    }

    pub async fn all(&self, channel: &Arc<str>, keep: Keep) -> Page {
        self.read(channel, keep, Want::After { offset: 0, limit: 10_000 }).await
    }

    pub fn has_history(&self) -> bool {
        self.b.capabilities().history
    }

    /// What a publication of a case keeps: something, where the adapter can.
    pub fn keep(&self) -> Option<Keep> {
        self.has_history().then_some(LONG)
    }
}

/// Longer than any case.
pub(crate) const LONG: Keep = Keep { size: 1_000, ttl_ms: 300_000, meta_ttl_ms: 600_000 };

/// A channel that no other case has.
pub(crate) fn fresh(name: &str) -> Arc<str> {
    format!("{name}:{:08x}", fastrand::u32(..)).into()
}

pub(crate) fn publish(channel: &Arc<str>, body: &str, keep: Option<Keep>) -> Publish {
    Publish {
        channel: channel.clone(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        keep,
        idempotency_key: None,
        version: None,
    }
}

pub(crate) async fn close(nodes: impl IntoIterator<Item = Node>) {
    for n in nodes {
        within(Duration::from_secs(5), "closing", n.b.close()).await;
    }
}

/// Does the case need a fault that the bed cannot inject?
pub(crate) fn cannot(bed: &dyn Bed, fault: Fault) -> Option<Outcome> {
    (!bed.faults().contains(&fault)).then_some(Outcome::NotStaged(fault))
}
