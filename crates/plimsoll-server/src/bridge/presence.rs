//! Who came and went on this node, noted at the backbone and told to the other nodes.
//!
//! First noted, then told; in order, one batch at a time; and again until it has worked. Whoever
//! reads the backbone after hearing of a member finds it there.

use super::{Bridge, unix_ms};
use bytes::Bytes;
use plimsoll_backbone::{Failure, Member, NodeId, PresenceChange, Publish};
use plimsoll_core::limits;
use plimsoll_core::model::{ClientId, ClientInfo};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Changes that wait to be noted.
#[derive(Default)]
pub(super) struct Presence {
    waiting: VecDeque<Noted>,
    /// What a batch that is on its way gives back, if it fails.
    on_the_way: Option<Arc<Mutex<Outcome>>>,
    not_before: Option<Instant>,
    /// Members of this node by channel.
    here: HashMap<Arc<str>, HashSet<ClientId>>,
    kept: Option<Instant>,
}

#[derive(Clone)]
struct Noted {
    change: PresenceChange,
    /// What the other nodes are told.
    event: Option<(Arc<str>, Bytes)>,
}

#[derive(Default)]
enum Outcome {
    #[default]
    Pending,
    Done,
    Failed(Vec<Noted>),
}

impl Presence {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.on_the_way.is_none()
    }

    fn push(&mut self, noted: Noted) {
        if self.waiting.len() >= limits::PRESENCE_WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(noted);
    }
}

impl Bridge {
    pub(super) fn queue_member(
        &self,
        to: &mut Presence,
        channel: Arc<str>,
        info: &ClientInfo,
        here: bool,
        announce: bool,
    ) {
        if here {
            to.here.entry(Arc::clone(&channel)).or_default().insert(info.client);
        } else if let Some(clients) = to.here.get_mut(&channel) {
            clients.remove(&info.client);
            if clients.is_empty() {
                to.here.remove(&channel);
            }
        }
        let body = self.wire.member(&channel, info, here, announce, unix_ms());
        let event = Some((Arc::clone(&channel), body));
        let node = self.wire.node;
        let change = match here {
            true => {
                let (client, user) = (info.client, Arc::clone(&info.user));
                let info = self.wire.presence_info(&channel, info);
                PresenceChange::Add(channel, Member { client, user, node, info })
            }
            false => PresenceChange::Remove(channel, info.client, node),
        };
        to.push(Noted { change, event });
    }

    pub(super) fn queue_forget(
        &self,
        to: &mut Presence,
        channel: Arc<str>,
        client: ClientId,
        node: u64,
    ) {
        let change = PresenceChange::Remove(channel, client, NodeId(node));
        to.push(Noted { change, event: None });
    }

    /// Notes what waits, one batch at a time, and keeps what is noted alive.
    pub(super) fn start_presence(self: &Arc<Self>, presence: &mut Presence) {
        self.take_outcome(presence);
        self.figures.presence_waiting.set(presence.waiting.len() as u64);
        self.keep_members(presence);
        let later = presence.not_before.is_some_and(|at| at > Instant::now());
        if presence.on_the_way.is_some() || presence.waiting.is_empty() || later {
            return;
        }
        let count = presence.waiting.len().min(limits::BACKBONE_BATCH_MAX);
        let batch: Vec<Noted> = presence.waiting.drain(..count).collect();
        let outcome = Arc::<Mutex<Outcome>>::default();
        presence.on_the_way = Some(Arc::clone(&outcome));
        let bridge = Arc::clone(self);
        tokio::spawn(async move {
            let ended = match bridge.note(&batch).await {
                true => Outcome::Done,
                false => Outcome::Failed(batch),
            };
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = ended;
            bridge.bell.notify_one();
        });
    }

    fn take_outcome(&self, presence: &mut Presence) {
        let Some(outcome) = &presence.on_the_way else { return };
        let ended = std::mem::take(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner));
        match ended {
            Outcome::Pending => return,
            Outcome::Done => presence.not_before = None,
            Outcome::Failed(batch) => {
                for noted in batch.into_iter().rev() {
                    presence.waiting.push_front(noted);
                }
                let excess = presence.waiting.len().saturating_sub(limits::PRESENCE_WAITING_MAX);
                presence.waiting.drain(..excess);
                presence.not_before = Some(Instant::now() + RETRY);
            }
        }
        presence.on_the_way = None;
    }

    async fn note(&self, batch: &[Noted]) -> bool {
        let changes = batch.iter().map(|n| n.change.clone()).collect();
        match self.backbone.note_presence(changes).await {
            Ok(()) => {}
            // Again would be the same, and everybody behind it would wait for ever.
            Err(failure @ (Failure::Refused | Failure::TooLarge | Failure::Unsupported)) => {
                tracing::warn!(%failure, "the broker does not note who is present");
            }
            Err(_) => return false,
        }
        let publish = |(channel, body): (Arc<str>, Bytes)| Publish {
            channel,
            body,
            keep: None,
            idempotency_key: None,
            version: None,
        };
        let events: Vec<_> = batch.iter().filter_map(|n| n.event.clone()).map(publish).collect();
        let told = self.backbone.publish(events).await;
        told.iter().all(Result::is_ok)
    }

    /// Entries outlive a node that is gone by a lease; those of a living one are kept.
    fn keep_members(self: &Arc<Self>, presence: &mut Presence) {
        let every = Duration::from_millis(limits::PRESENCE_LEASE_MS / 3);
        let due = presence.kept.is_none_or(|at| at.elapsed() >= every);
        if !due || presence.here.is_empty() {
            return;
        }
        presence.kept = Some(Instant::now());
        let channels: Vec<Arc<str>> = presence.here.keys().cloned().collect();
        let bridge = Arc::clone(self);
        tokio::spawn(async move {
            for some in channels.chunks(limits::BACKBONE_OPENS_MAX) {
                // A failure is a broken link, and that is noticed elsewhere.
                let _ = bridge.backbone.keep_presence(some.to_vec()).await;
            }
        });
    }
}

/// Between two attempts to note the same.
const RETRY: Duration = Duration::from_millis(500);
