//! What all tasks of the adapter share: the connection, and what is counted.

use crate::contract::*;
use crate::limits;
use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// What all tasks of the adapter share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) prefix: Arc<str>,
    pub(super) node: NodeId,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) peers: Mutex<HashSet<NodeId>>,
    pub(super) deliveries: AtomicU64,
    pub(super) plain: String,
    pub(super) broker: Arc<str>,
    pub(super) up: AtomicBool,
    pub(super) probes: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    pub(super) next_probe: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) resubscribes: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) slow: AtomicU64,
    pub(super) in_flight: AtomicU64,
}

impl Shared {
    pub(super) fn subject(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Is it a subject of publications without history?
    pub(super) fn is_plain(&self, subject: &str) -> bool {
        subject.starts_with(&self.plain)
    }

    /// Does the server answer a reading with several messages?
    pub(super) fn has_batches(&self) -> bool {
        let version = self.client.server_info().version;
        let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or_default());
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) >= (2, 11)
    }

    pub(super) fn tell_gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        self.sink.take(&mut vec![Event::Gap(Scope::All)]);
    }

    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(super) fn tell_link(&self, up: bool) {
        if self.up.swap(up, Ordering::Relaxed) != up {
            let link = |role| Event::Link(Link { broker: Arc::clone(&self.broker), role, up });
            self.sink.take(&mut vec![link(Role::Commands), link(Role::Subscriptions)]);
        }
    }

    /// Sends something and waits until it is back: what was sent before has arrived, and what was
    /// subscribed before is.
    pub(super) async fn round_trip(&self) -> Result<(), Failure> {
        if !self.is_up() {
            return Err(Failure::Down);
        }
        let id = self.next_probe.fetch_add(1, Ordering::Relaxed);
        let (back, came) = oneshot::channel();
        {
            let mut probes = self.probes();
            if probes.len() >= limits::IN_FLIGHT_MAX {
                return Err(Failure::Busy);
            }
            probes.insert(id, back);
        }
        let subject = self.subject(&format!("probe.{}", self.node));
        let sent = self.client.publish(subject, Bytes::from(id.to_string())).await;
        let patience = Duration::from_millis(limits::CALL_MS);
        let is_back =
            sent.is_ok() && matches!(tokio::time::timeout(patience, came).await, Ok(Ok(())));
        self.probes().remove(&id);
        if is_back { Ok(()) } else { Err(Failure::Unknown) }
    }

    pub(super) fn probes(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
