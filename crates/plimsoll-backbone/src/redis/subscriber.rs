//! The subscription link: one connection that carries out orders and takes deliveries, kept up.

use super::config::{Address, ConnectError};
use super::keys::Kind;
use super::net;
use super::node::{Node, Pause};
use super::plain::{Plain, unreachable};
use super::registry::Order;
use super::session::{End, Session};
use crate::contract::Role;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A connection that has greeted, to a master.
pub(super) struct Greeted(Plain);

impl Greeted {
    /// Connects and greets.
    pub(super) async fn connect(node: &Node) -> Result<Self, ConnectError> {
        let address = node.locate().await?;
        if node.commands().is_ok_and(|commands| commands.address != address) {
            // One of the links is with a master that was.
            return Err(unreachable(&address, &"the command link is with another server"));
        }
        net::within(Self::greet(node, &address), &address).await
    }

    async fn greet(node: &Node, address: &Address) -> Result<Self, ConnectError> {
        let config = &node.shared.config;
        let (user, password) = (config.user.as_deref(), config.password.as_deref());
        let mut plain = Plain::open(&node.shared.dialer, address, user, password).await?;
        plain.send([&b"ROLE"[..]]).await?;
        if &plain.answer().await?[..] != b"master" {
            return Err(unreachable(address, &"it is not a master"));
        }
        let name = super::SUBSCRIPTIONS_NAME.as_bytes();
        plain.send([&b"CLIENT"[..], b"SETNAME", name]).await?;
        // The name is only for operators.
        let _ = plain.answer().await;
        Ok(Self(plain))
    }
}

/// Keeps the subscription link up until the node ends. `first`: it is there already.
pub(super) async fn keep(node: Arc<Node>, mut first: Option<Greeted>) {
    let mut pause = Pause::new();
    let mut warned = false;
    let mut again = false;
    while !node.has_ended() {
        let made = match first.take() {
            Some(link) => Ok(link),
            None => tokio::select! {
                made = Greeted::connect(&node) => made,
                () = node.wait_ended() => return,
            },
        };
        match made {
            Ok(link) => {
                (pause, warned) = (Pause::new(), false);
                node.figures.reconnects.fetch_add(u64::from(again), Relaxed);
                let end = run(&node, link, again).await;
                tracing::warn!(broker = %node.broker, ?end, "subscription link to Redis ended");
                again = true;
                if end == End::Slow {
                    node.figures.cut_as_slow.fetch_add(1, Relaxed);
                }
                node.shared.doubt.notify_one();
            }
            Err(error) => {
                if !warned {
                    tracing::warn!(broker = %node.broker, %error, "no subscription link to Redis");
                    warned = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause.next()) => {}
                    () = node.wait_ended() => return,
                }
            }
        }
    }
}

/// One life of the link.
async fn run(node: &Arc<Node>, link: Greeted, again: bool) -> End {
    let registry = &node.shared.registry;
    let Plain { stream, buffer, address } = link.0;
    node.set_subscribed(Some(address));
    let mut owed = 0;
    let partitions = node.partitions();
    node.choose_probe(&partitions);
    for partition in partitions {
        owed += node.ask_for_services(partition);
        owed += registry.restore(partition, &node.orders);
    }
    node.tell_link(Role::Subscriptions, true);
    let mut session = Session::new(node, owed, again && !node.shared.sharded);
    let end = session.serve(stream, buffer).await;
    node.probe_ready.store(false, Relaxed);
    node.up.send_replace(false);
    node.set_subscribed(None);
    for partition in node.partitions() {
        registry.lost(partition);
    }
    node.tell_link(Role::Subscriptions, false);
    end
}

impl Node {
    /// Orders what this node itself listens to in a partition. Answers how many orders that is.
    pub(super) fn ask_for_services(&self, partition: usize) -> usize {
        let keys = &self.shared.keys;
        let me = self.shared.setup.node.to_string();
        let mut count = 0;
        for name in [super::EVERYBODY, &me] {
            if keys.partition(name) == partition {
                self.ask_for(partition, Kind::Node, name);
                count += 1;
            }
        }
        if self.probe_partition.load(Relaxed) == partition {
            self.ask_for(partition, Kind::Probe, &me);
            count += 1;
        }
        count
    }

    /// Is probed in one of these partitions.
    pub(super) fn choose_probe(&self, partitions: &[usize]) {
        let probed = self.probe_partition.load(Relaxed);
        if !partitions.contains(&probed) {
            let first = partitions.first().copied().unwrap_or(usize::MAX);
            self.probe_ready.store(false, Relaxed);
            self.probe_partition.store(first, Relaxed);
            if first != usize::MAX {
                self.ask_for(first, Kind::Probe, &self.shared.setup.node.to_string());
            }
        }
    }

    fn ask_for(&self, partition: usize, kind: Kind, name: &str) {
        self.orders.push(Order {
            subscribe: true,
            partition,
            kind,
            name: name.into(),
            seq: self.shared.registry.next_seq(),
            restores: true,
        });
    }
}
