//! The broker as one node uses it.

use super::{Broker, Inner, Present};
use crate::contract::*;
use crate::limits;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One node at the broker.
pub(super) struct Attached {
    pub(super) broker: Arc<Broker>,
    pub(super) node: NodeId,
}

impl Attached {
    /// Does something with the broker at the first poll: at once with a link, never without one,
    /// and after the stall (or not at all) on a frozen one.
    fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Inner, NodeId, u64) -> Result<T, Failure> + Send + 'static,
    ) -> Later<Result<T, Failure>> {
        let (broker, node) = (self.broker.clone(), self.node);
        Box::pin(async move {
            let deadline = Instant::now() + Duration::from_millis(limits::CALL_MS);
            loop {
                {
                    let mut inner = broker.lock();
                    let n = inner.nodes.get(&node).ok_or(Failure::Down)?;
                    if !n.is_linked {
                        return Err(Failure::Down);
                    }
                    if !n.is_stalled {
                        if let Some(failure) = inner.refusal {
                            return Err(failure);
                        }
                        return act(&mut inner, node, (broker.clock)());
                    }
                }
                if Instant::now() >= deadline {
                    return Err(Failure::Unknown);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    }

    fn each<I: Send + 'static, T: Send + 'static>(
        &self,
        items: Vec<I>,
        mut act: impl FnMut(&mut Inner, NodeId, u64, I) -> Result<T, Failure> + Send + 'static,
    ) -> Later<Vec<Result<T, Failure>>> {
        let count = items.len();
        let call = self.call(move |inner, node, now| {
            Ok(items.into_iter().map(|i| act(inner, node, now, i)).collect::<Vec<_>>())
        });
        Box::pin(async move {
            call.await.unwrap_or_else(|failure| (0..count).map(|_| Err(failure)).collect())
        })
    }
}

impl Backbone for Attached {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "memory",
            history: true,
            idempotency: true,
            versions: true,
            body_bytes_max: limits::ENVELOPE_BYTES_MAX,
        }
    }

    fn publish(&self, batch: Vec<Publish>) -> Later<Vec<Result<Published, Failure>>> {
        self.each(batch, |inner, node, now, p| {
            let published = inner.publish(p, now)?;
            match inner.nodes.get(&node) {
                Some(n) if n.loses_answers => Err(Failure::Unknown),
                _ => Ok(published),
            }
        })
    }

    fn subscribe(&self, channels: Vec<Arc<str>>) -> Later<Vec<Result<(), Failure>>> {
        self.each(channels, |inner, node, _, channel| {
            let n = inner.nodes.get_mut(&node).ok_or(Failure::Down)?;
            n.wanted.insert(channel);
            Ok(())
        })
    }

    fn unsubscribe(&self, channels: Vec<Arc<str>>) -> Later<()> {
        let (broker, node) = (self.broker.clone(), self.node);
        Box::pin(async move {
            broker.with(node, |n| {
                for name in &channels {
                    n.wanted.remove(name);
                }
            });
        })
    }

    fn read(&self, reads: Vec<Read>) -> Later<Vec<Result<Page, Failure>>> {
        self.each(reads, |inner, _, now, read| {
            Ok(inner.channel(&read.channel, Some(read.keep), now).page(read.want))
        })
    }

    fn clear(&self, channel: Arc<str>) -> Later<Result<(), Failure>> {
        self.call(move |inner, _, _| {
            if let Some(c) = inner.channels.get_mut(&channel) {
                c.entries.clear();
            }
            Ok(())
        })
    }

    fn tell(&self, to: Option<NodeId>, body: Bytes) -> Later<Result<(), Failure>> {
        self.call(move |inner, _, _| {
            if body.len() > limits::ENVELOPE_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            let meant = |id: &NodeId| to.is_none_or(|to| to == *id);
            for (_, n) in inner.nodes.iter_mut().filter(|(id, n)| meant(id) && n.is_linked) {
                n.say(vec![Event::Told(body.clone())]);
            }
            Ok(())
        })
    }

    fn note_presence(&self, changes: Vec<PresenceChange>) -> Later<Result<(), Failure>> {
        self.call(move |inner, node, now| {
            let lease = inner.nodes.get(&node).map_or(0, |n| n.setup.presence_lease_ms);
            for change in changes {
                match change {
                    PresenceChange::Add(channel, member) => {
                        let all = inner.presence.entry(channel).or_default();
                        let until_ms = now.saturating_add(lease);
                        all.insert(member.client, Present { member, until_ms });
                    }
                    PresenceChange::Remove(channel, client, of) => {
                        if let Some(all) = inner.presence.get_mut(&channel) {
                            all.retain(|id, p| *id != client || p.member.node != of);
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn keep_presence(&self, channels: Vec<Arc<str>>) -> Later<Result<(), Failure>> {
        self.call(move |inner, node, now| {
            let lease = inner.nodes.get(&node).map_or(0, |n| n.setup.presence_lease_ms);
            for channel in channels {
                let all = inner.presence.get_mut(&channel).into_iter().flat_map(|a| a.values_mut());
                for p in all.filter(|p| p.member.node == node && p.until_ms > now) {
                    p.until_ms = now.saturating_add(lease);
                }
            }
            Ok(())
        })
    }

    fn presence(&self, channel: Arc<str>, most: usize) -> Later<Result<Vec<Member>, Failure>> {
        self.call(move |inner, _, now| {
            let members: Vec<Member> =
                inner.members(&channel, now).take(most.saturating_add(1)).cloned().collect();
            if members.len() > most { Err(Failure::TooLarge) } else { Ok(members) }
        })
    }

    fn presence_stats(&self, channel: Arc<str>) -> Later<Result<Tally, Failure>> {
        self.call(move |inner, _, now| {
            let users: Vec<Arc<str>> =
                inner.members(&channel, now).map(|m| m.user.clone()).collect();
            let distinct: HashSet<&Arc<str>> = users.iter().collect();
            Ok(Tally { clients: users.len(), users: distinct.len() })
        })
    }

    fn probe(&self) -> Later<Result<(), Failure>> {
        self.call(|_, _, _| Ok(()))
    }

    fn status(&self) -> Status {
        let inner = self.broker.lock();
        Status {
            brokers: inner.nodes.get(&self.node).map(|n| n.figures.clone()).into_iter().collect(),
            loss_window: "everything acknowledged is lost when the process ends".into(),
            server: "memory".into(),
        }
    }

    fn close(&self) -> Later<()> {
        let (broker, node) = (self.broker.clone(), self.node);
        Box::pin(async move {
            broker.lock().nodes.remove(&node);
        })
    }
}
