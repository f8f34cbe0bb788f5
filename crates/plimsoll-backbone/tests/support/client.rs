//! A node's side of the contract, for tests.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use plimsoll_backbone::*;
use plimsoll_core::model::{ClientId, StreamPosition};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Keeps what came.
#[derive(Default)]
pub struct Collector(Mutex<Vec<Event>>);

impl Sink for Collector {
    fn take(&self, events: &mut Vec<Event>) {
        self.0.lock().unwrap().append(events);
    }
}

impl Collector {
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Bodies and offsets (0 = none) of one channel.
    pub fn of(&self, channel: &str) -> Vec<(u64, String)> {
        let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
        let events = self.all().into_iter();
        events
            .filter_map(|e| match e {
                Event::Delivery(d) if &*d.channel == channel => {
                    Some((d.stamp.map_or(0, |s| s.position.offset), text(&d.body)))
                }
                _ => None,
            })
            .collect()
    }

    pub fn gaps(&self) -> usize {
        self.all().iter().filter(|e| matches!(e, Event::Gap(_))).count()
    }

    pub fn garbage(&self) -> usize {
        self.all().iter().filter(|e| matches!(e, Event::Garbage { .. })).count()
    }
}

pub const KEEP: Keep = Keep { size: 100, ttl_ms: 60_000, meta_ttl_ms: 600_000 };

pub fn setup(sink: &Arc<Collector>) -> Setup {
    Setup {
        node: NodeId(fastrand::u64(..)),
        prefix: "test".into(),
        sink: Arc::clone(sink) as Arc<dyn Sink>,
        presence_lease_ms: 2_000,
        probe_interval_ms: 500,
    }
}

pub fn plain(channel: &str, body: &str) -> Publish {
    Publish {
        channel: channel.into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        keep: None,
        idempotency_key: None,
        version: None,
    }
}

pub fn kept(channel: &str, body: &str) -> Publish {
    Publish { keep: Some(KEEP), ..plain(channel, body) }
}

pub async fn publish(b: &Arc<dyn Backbone>, p: Publish) -> Result<Published, Failure> {
    b.publish(vec![p]).await.remove(0)
}

/// Publishes until it is taken; what is `Unknown` or refused for the moment is tried again.
pub async fn publish_until(b: &Arc<dyn Backbone>, p: Publish, limit: Duration) -> Published {
    let deadline = Instant::now() + limit;
    loop {
        match publish(b, p.clone()).await {
            Ok(published) => return published,
            Err(e) => {
                assert!(e != Failure::Refused, "refused");
                assert!(Instant::now() < deadline, "not published within {limit:?}: {e}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

pub fn position(p: Result<Published, Failure>) -> StreamPosition {
    p.unwrap().position.unwrap()
}

pub async fn subscribe(b: &Arc<dyn Backbone>, channels: &[&str]) {
    let channels: Vec<Arc<str>> = channels.iter().map(|c| (*c).into()).collect();
    for result in b.subscribe(channels).await {
        result.unwrap();
    }
}

pub async fn read(b: &Arc<dyn Backbone>, channel: &str, want: Want) -> Result<Page, Failure> {
    b.read(vec![Read { channel: channel.into(), keep: KEEP, want }]).await.remove(0)
}

pub const ALL: Want = Want::After { offset: 0, limit: 1_000 };

pub fn bodies(page: &Page) -> Vec<(u64, String)> {
    let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    page.entries.iter().map(|e| (e.offset, text(&e.body))).collect()
}

pub fn member(n: u8, user: &str, node: NodeId) -> Member {
    Member { client: ClientId([n; 16]), user: user.into(), node, info: Bytes::from_static(b"{}") }
}

/// Polls until it is so.
pub async fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
