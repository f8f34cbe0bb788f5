//! A worker whose channels live on a backbone.

use super::*;
use crate::worker::core::Cluster;
use plimsoll_core::link::{Arrival, News, Opened, Replica};
use plimsoll_core::model::{Epoch, Publication, StreamPosition};

struct Node {
    core: Core,
    io: FakeIo,
    channel: Arc<str>,
}

impl Node {
    fn new() -> Self {
        let policy = World::policy(false);
        let shared = Arc::new(Shared {
            channels: Arc::new(Channels::new(policy.channel.clone()).unwrap()),
            accounts: Accounts::new(policy.quotas),
            policy,
            tokens: Box::new(NoTokens),
            workers: 1,
            line: LoadLine::default(),
            cluster: Some(Cluster { node: 1, linger_ms: 5_000 }),
        });
        let core = Core::new(0, shared, Arc::default(), Now::default(), 1);
        Self { core, io: FakeIo::new(1, 1), channel: "room".into() }
    }

    fn subscribe(&mut self) -> u32 {
        let (slot, _) = self.core.on_accept();
        self.io.sockets.insert(slot, (Vec::new(), usize::MAX));
        self.core.on_bytes(slot, &mut HEAD.to_vec(), &mut self.io);
        let text = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"room\"}}";
        let mut frame = Vec::new();
        ws::encode_client(&mut frame, ws::Opcode::Text, [1, 2, 3, 4], text.as_bytes());
        self.core.on_bytes(slot, &mut frame, &mut self.io);
        slot
    }

    fn hear(&mut self, news: News) {
        let (channel, received_us) = (Arc::clone(&self.channel), 0);
        self.core.on_letter(Letter::News { channel, news, received_us }, &mut self.io);
        self.core.flush(&mut self.io);
    }

    /// What reached a client since the last time.
    fn read(&mut self, slot: u32) -> String {
        let bytes = self.io.sockets.get_mut(&slot).map(|(b, _)| std::mem::take(b));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }
}

fn at(epoch: u64, offset: u64) -> StreamPosition {
    StreamPosition { epoch: Epoch::from_random(epoch), offset }
}

fn replica(position: StreamPosition) -> Replica {
    Replica { position, floor: position.offset, publications: Vec::new(), whole: true }
}

fn arrival(position: StreamPosition) -> News {
    let data = format!("{{\"n\":{}}}", position.offset).into();
    let (offset, previous) = (position.offset, position.offset - 1);
    let (tags, info) = (None, None);
    let publication =
        Publication { offset, previous, epoch: None, data, tags, info, appended_ms: 0 };
    News::Arrived(Arrival::Publication { publication, epoch: Some(position.epoch) })
}

#[test]
fn after_a_loss_lower_offsets_are_no_repetitions() {
    let mut node = Node::new();
    let old = [node.subscribe(), node.subscribe()];
    node.hear(News::Opened(Ok(Opened { replica: Some(replica(at(1, 100))), ..Opened::default() })));
    node.hear(arrival(at(1, 101)));
    assert!(old.iter().all(|slot| node.read(*slot).contains("{\"n\":101}")));
    // The broker lost all. One who comes meanwhile waits for what is read.
    node.core.on_letter(Letter::Gap(None), &mut node.io);
    let new = node.subscribe();
    node.hear(News::Read(Ok(replica(at(2, 2)))));
    for slot in old {
        assert!(node.read(slot).contains("\"code\":2500"), "told");
    }
    assert!(node.read(new).contains("\"offset\":2"), "in the new life");
    node.hear(arrival(at(2, 3)));
    assert!(node.read(new).contains("{\"n\":3}"), "not dropped as an old one");
    assert!(old.iter().all(|slot| node.read(*slot).is_empty()));
}
