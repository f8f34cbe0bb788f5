//! The contract suite on the broker inside the process.

use plimsoll_backbone::memory::Broker;
use plimsoll_backbone::suite::{self, Bed, Fault, Recorder};
use plimsoll_backbone::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Memory(Arc<Broker>);

impl Bed for Memory {
    fn connect(&self, setup: Setup) -> Later<Arc<dyn Backbone>> {
        let node = self.0.attach(setup);
        Box::pin(async move { node })
    }

    fn faults(&self) -> &'static [Fault] {
        &[Fault::Cut, Fault::Stall, Fault::RestartEmpty, Fault::Garbage]
    }

    fn inject(&self, fault: Fault, node: NodeId, channel: &str, is_on: bool) -> Later<()> {
        match fault {
            Fault::Cut if is_on => self.0.cut(node),
            Fault::Cut => self.0.heal(node),
            Fault::Stall => self.0.stall(node, is_on),
            Fault::RestartEmpty => self.0.restart_empty(),
            Fault::Garbage => self.0.inject_garbage(channel),
        }
        Box::pin(async {})
    }
}

#[tokio::test]
async fn the_suite() {
    assert_eq!(suite::run(&Memory(Broker::new())).await, []);
}

/// What a real broker cannot be made to do at will.
#[tokio::test]
async fn its_switches_and_its_clock() {
    let now = Arc::new(AtomicU64::new(0));
    let clock = now.clone();
    let broker = Broker::with_clock(Arc::new(move || clock.load(Ordering::Relaxed)));
    let heard = Arc::new(Recorder::default());
    let node = NodeId(7);
    let b = broker.attach(Setup {
        node,
        prefix: "p".into(),
        sink: heard.clone(),
        presence_lease_ms: 1,
        probe_interval_ms: 1,
    });
    let channel: Arc<str> = "c".into();
    assert_eq!(b.subscribe(vec![channel.clone()]).await, [Ok(())]);
    let keep = Keep { size: 10, ttl_ms: 100, meta_ttl_ms: 1_000 };
    let publish = |body: &'static str| Publish {
        channel: channel.clone(),
        body: body.into(),
        keep: Some(keep),
        idempotency_key: Some(body.into()),
        version: None,
    };
    broker.lose_answers(node, true);
    assert_eq!(b.publish(vec![publish("lost")]).await, [Err(Failure::Unknown)]);
    assert_eq!(heard.bodies("c"), ["lost"]);
    broker.lose_answers(node, false);
    let again = b.publish(vec![publish("lost")]).await[0].expect("answered");
    assert!(!again.is_new && again.position.is_some());
    broker.refuse(Some(Failure::Busy));
    assert_eq!(b.publish(vec![publish("refused")]).await, [Err(Failure::Busy)]);
    broker.refuse(None);
    assert_eq!(heard.bodies("c"), ["lost"]);
    let read = || b.read(vec![Read { channel: channel.clone(), keep, want: ALL }]);
    now.store(99, Ordering::Relaxed);
    let before = read().await.remove(0).expect("a page");
    now.store(100, Ordering::Relaxed);
    let expired = read().await.remove(0).expect("a page");
    assert_eq!((before.entries.len(), before.floor), (1, 0));
    assert_eq!((expired.entries.len(), expired.floor), (0, 1));
    assert_eq!(expired.position, before.position);
    now.store(1_100, Ordering::Relaxed);
    let forgotten = read().await.remove(0).expect("a page");
    assert_ne!(forgotten.position.epoch, before.position.epoch);
    assert_eq!(forgotten.position.offset, 0);
}

const ALL: Want = Want::After { offset: 0, limit: 10 };
