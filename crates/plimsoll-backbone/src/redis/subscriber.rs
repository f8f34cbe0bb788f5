//! The subscription link: one connection that carries out orders and takes deliveries, kept up.

use super::config::{Address, ConnectError};
use super::keys::Kind;
use super::net::{self, Stream};
use super::node::{Node, Pause};
use super::registry::Order;
use super::session::{End, Session};
use super::wire::{self, Scan};
use crate::contract::{Failure, Role};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A connection that has greeted.
pub(super) struct Greeted {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    address: Address,
}

impl Greeted {
    /// Connects and greets.
    pub(super) async fn connect(node: &Node) -> Result<Self, ConnectError> {
        let address = node.locate().await?;
        if node.commands().is_ok_and(|commands| commands.address != address) {
            // One of the links is with a master that was.
            let why = format!("the command link is not at {address} yet");
            return Err(ConnectError::Unreachable { broker: node.broker.to_string(), why });
        }
        net::within(Self::greet(node, &address), &address).await
    }

    async fn greet(node: &Node, address: &Address) -> Result<Self, ConnectError> {
        let broker = address.to_string();
        let unreachable = |e: &dyn std::fmt::Display| ConnectError::Unreachable {
            broker: broker.clone(),
            why: e.to_string(),
        };
        let config = &node.shared.config;
        let stream = node.shared.dialer.open(address).await.map_err(|e| unreachable(&e))?;
        let mut greeted = Self { stream, buffer: BytesMut::new(), address: address.clone() };
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &config.password {
            let user = config.user.as_deref().unwrap_or("default");
            hello.extend([b"AUTH", user.as_bytes(), password.as_bytes()]);
        }
        let name = super::SUBSCRIPTIONS_NAME.as_bytes();
        let mut out = Vec::new();
        wire::command(&mut out, hello);
        wire::command(&mut out, [&b"ROLE"[..]]);
        wire::command(&mut out, [&b"CLIENT"[..], b"SETNAME", name]);
        greeted.stream.write_all(&out).await.map_err(|e| unreachable(&e))?;
        greeted.answer().await?;
        let role = greeted.answer().await?;
        if &role[..] != b"master" {
            return Err(unreachable(&"it is not a master"));
        }
        // The name is only for operators.
        let _ = greeted.answer().await;
        Ok(greeted)
    }

    /// The first element of the next answer.
    async fn answer(&mut self) -> Result<Bytes, ConnectError> {
        let broker = self.address.to_string();
        let unreachable =
            |why: &str| ConnectError::Unreachable { broker: broker.clone(), why: why.into() };
        loop {
            match wire::scan(&self.buffer) {
                Scan::Frame(frame) => {
                    let bytes = self.buffer.split_to(frame.len).freeze();
                    let part = bytes.slice(frame.part(0));
                    if frame.kind == b'-' {
                        let why = String::from_utf8_lossy(&part).into_owned();
                        let code = why.split(' ').next().unwrap_or_default();
                        if super::commands::failure(code) == Failure::Busy {
                            return Err(unreachable(&why));
                        }
                        return Err(ConnectError::Refused { broker, why });
                    }
                    return Ok(part);
                }
                Scan::More => {}
                Scan::Skip(..) | Scan::Broken => return Err(unreachable("it is no Redis")),
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(unreachable("it closed the connection")),
                Ok(_) => {}
                Err(e) => return Err(unreachable(&e.to_string())),
            }
        }
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
    node.set_subscribed(Some(link.address));
    let mut owed = 0;
    for partition in node.partitions() {
        owed += node.ask_for_services(partition);
        owed += registry.restore(partition, &node.orders);
    }
    node.up.send_replace(true);
    node.tell_link(Role::Subscriptions, true);
    let mut session = Session::new(node, owed, again && !node.shared.sharded);
    let end = session.serve(link.stream, link.buffer).await;
    node.up.send_replace(false);
    node.set_subscribed(None);
    for partition in node.partitions() {
        registry.lost(partition);
    }
    node.tell_link(Role::Subscriptions, false);
    end
}

impl Node {
    /// Orders what this node itself listens to in a partition, and makes it the probed one if
    /// there is none. Answers how many orders that is.
    pub(super) fn ask_for_services(&self, partition: usize) -> usize {
        let mut count = 0;
        let shared = &self.shared;
        let me = shared.setup.node.to_string();
        let mut order = |kind, name: &str| {
            count += 1;
            self.orders.push(Order {
                subscribe: true,
                partition,
                kind,
                name: name.into(),
                seq: shared.registry.next_seq(),
                restores: true,
            });
        };
        for name in [super::EVERYBODY, &me] {
            if shared.keys.partition(name) == partition {
                order(Kind::Node, name);
            }
        }
        let probed = self.probe_partition.load(Relaxed);
        if probed == usize::MAX || probed == partition || !self.owns(probed) {
            self.probe_partition.store(partition, Relaxed);
            order(Kind::Probe, &me);
        }
        count
    }

    pub(super) fn owns(&self, partition: usize) -> bool {
        self.shared.registry.is_of(partition, &self.orders)
    }
}
