//! What the backbone delivers, on its way to the homes of channels.

use super::{BridgeFigures, Post, Wire, unix_ms};
use crate::worker::letter::Letter;
use bytes::Bytes;
use plimsoll_backbone::envelope::Kind;
use plimsoll_backbone::{Delivery, Event, Link, Role, Scope, Sink};
use plimsoll_core::limits;
use plimsoll_core::link::News;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, mpsc};

/// Opens what comes and hands it on; never waits.
pub struct Inlet {
    /// Opens envelopes.
    pub wire: Wire,
    /// Ways to the workers.
    pub post: Arc<Post>,
    /// What happened.
    pub figures: Arc<BridgeFigures>,
    told: mpsc::Sender<Bytes>,
    links: Mutex<HashMap<(Arc<str>, Role), bool>>,
    bell: Arc<Notify>,
    started: Instant,
}

impl Inlet {
    /// `told` takes what nodes say to each other, `bell` wakes the bridge.
    pub fn new(
        wire: Wire,
        told: mpsc::Sender<Bytes>,
        bell: Arc<Notify>,
        started: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            wire,
            post: Arc::default(),
            figures: Arc::default(),
            told,
            links: Mutex::default(),
            bell,
            started,
        })
    }

    /// Is every link there that was ever spoken of?
    pub fn is_up(&self) -> bool {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.values().all(|up| *up)
    }

    fn open(&self, delivery: Delivery, received_us: u64) -> Option<(Arc<str>, Letter)> {
        self.figures.received.add(1);
        self.figures.received_bytes.add(delivery.body.len() as u64);
        match self.wire.open(&delivery) {
            Ok(opened) => {
                let lag_ms = unix_ms().saturating_sub(opened.published_ms);
                self.figures.lag_ms.observe(lag_ms as f64, 1);
                // Members of our own are known before others hear of them.
                let own = opened.node == self.wire.node;
                if own && opened.kind != Kind::Publication {
                    return None;
                }
                if let Some(parent) = opened.traceparent.as_deref() {
                    tracing::debug!(target: "plimsoll::trace", traceparent = parent, lag_ms,
                        from = %opened.node, "a publication was received");
                }
                let (channel, news) = (delivery.channel, News::Arrived(opened.arrival));
                let letter = Letter::News { channel: Arc::clone(&channel), news, received_us };
                Some((channel, letter))
            }
            Err(unreadable) => {
                self.figures.count_garbage(unreadable.label());
                None
            }
        }
    }

    fn on_link(&self, link: Link) {
        let what = match link.role {
            Role::Commands => "commands",
            Role::Subscriptions => "subscriptions",
        };
        match link.up {
            true => tracing::info!(broker = %link.broker, role = what, "the broker is reached"),
            false => tracing::warn!(broker = %link.broker, role = what, "the broker is lost"),
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() < limits::NODES_MAX || links.contains_key(&(link.broker.clone(), link.role))
        {
            links.insert((link.broker, link.role), link.up);
        }
    }

    fn on_gap(&self, scope: Scope) {
        self.figures.gaps.add(1);
        let channels: Option<Arc<[Arc<str>]>> = match scope {
            Scope::All => None,
            Scope::Channels(channels) => Some(channels.into()),
        };
        // Each home looks for its own.
        self.post.put_all(|| Letter::Gap(channels.clone()));
    }
}

impl Sink for Inlet {
    fn take(&self, events: &mut Vec<Event>) {
        let received_us = self.started.elapsed().as_micros() as u64;
        let mut news = Vec::with_capacity(events.len());
        for event in events.drain(..) {
            match event {
                Event::Delivery(delivery) => news.extend(self.open(delivery, received_us)),
                Event::Told(body) => {
                    if body.len() > limits::CONTROL_BYTES_MAX || self.told.try_send(body).is_err() {
                        self.figures.count_garbage("too_large");
                    }
                }
                Event::Gap(scope) => {
                    // What came before it goes first.
                    self.figures.dropped.add(self.post.deliver(&mut news));
                    self.on_gap(scope);
                }
                Event::Link(link) => self.on_link(link),
                Event::Garbage { why, .. } => {
                    self.figures.count_garbage("other");
                    tracing::debug!(why, "something on the broker is not ours");
                }
            }
        }
        self.figures.dropped.add(self.post.deliver(&mut news));
        if self.post.flush() {
            self.bell.notify_one();
        }
    }
}
