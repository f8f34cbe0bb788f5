//! A broker inside the process: the contract in its plainest form, for tests and for one node.
//!
//! Any number of nodes attach to one [`Broker`]. Its switches break what a real broker breaks: the
//! link of one node, the store, the answers. Everything ends with the process.

use crate::contract::*;
use crate::limits;
use plimsoll_core::model::{ClientId, Epoch, StreamPosition};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

mod node;

use node::Attached;

/// Milliseconds that only go forward.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The broker. Cheap to share.
pub struct Broker {
    inner: Mutex<Inner>,
    clock: Clock,
}

#[derive(Default)]
struct Inner {
    channels: HashMap<Arc<str>, Channel>,
    presence: HashMap<Arc<str>, BTreeMap<ClientId, Present>>,
    nodes: HashMap<NodeId, Node>,
    rng: fastrand::Rng,
    refusal: Option<Failure>,
    swept_ms: u64,
}

struct Node {
    setup: Setup,
    wanted: HashSet<Arc<str>>,
    is_linked: bool,
    is_stalled: bool,
    loses_answers: bool,
    /// What came while the link was stalled; `None` = it was too much and was dropped.
    waiting: Option<Vec<Event>>,
    figures: BrokerFigures,
}

struct Channel {
    epoch: Epoch,
    top: u64,
    entries: VecDeque<(Entry, u64)>,
    keep: Option<Keep>,
    keys: HashMap<Box<str>, (Option<StreamPosition>, u64)>,
    key_order: VecDeque<(Box<str>, u64)>,
    version: Option<(u64, Box<str>)>,
    used_ms: u64,
}

struct Present {
    member: Member,
    until_ms: u64,
}

impl Broker {
    /// A broker with the clock of the process.
    pub fn new() -> Arc<Self> {
        let start = Instant::now();
        Self::with_clock(Arc::new(move || {
            u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
        }))
    }

    /// A broker with a clock of the caller: entries, leases and keys expire by it.
    pub fn with_clock(clock: Clock) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), clock })
    }

    /// Attaches a node. The same node id again takes the place of the former one.
    pub fn attach(self: &Arc<Self>, setup: Setup) -> Arc<dyn Backbone> {
        let node = setup.node;
        let mut seat = Node {
            setup,
            wanted: HashSet::new(),
            is_linked: true,
            is_stalled: false,
            loses_answers: false,
            waiting: Some(Vec::new()),
            figures: BrokerFigures { broker: "memory".into(), up: true, ..Default::default() },
        };
        let mut inner = self.lock();
        seat.say(links(true));
        inner.nodes.insert(node, seat);
        Arc::new(Attached { broker: self.clone(), node })
    }

    /// Breaks the link of a node, until [`Broker::heal`].
    pub fn cut(&self, node: NodeId) {
        self.with(node, |n| {
            if std::mem::take(&mut n.is_linked) {
                n.figures.up = false;
                n.say(links(false));
            }
        });
    }

    /// Restores the link of a node: it is told of the gap.
    pub fn heal(&self, node: NodeId) {
        self.with(node, |n| {
            if !std::mem::replace(&mut n.is_linked, true) {
                n.come_back();
            }
        });
    }

    /// Freezes the link of a node: nothing passes, and nothing breaks either.
    pub fn stall(&self, node: NodeId, is_stalled: bool) {
        self.with(node, |n| {
            n.is_stalled = is_stalled;
            if !is_stalled {
                let waiting = n.waiting.replace(Vec::new());
                n.say(waiting.unwrap_or_else(|| vec![Event::Gap(Scope::All)]));
            }
        });
    }

    /// Whether the answers to publications of a node are lost: they happen, and the node hears
    /// [`Failure::Unknown`].
    pub fn lose_answers(&self, node: NodeId, loses: bool) {
        self.with(node, |n| n.loses_answers = loses);
    }

    /// Every call fails with this; `None` = no more.
    pub fn refuse(&self, with: Option<Failure>) {
        self.lock().refusal = with;
    }

    /// The broker loses everything and starts anew: channels get new epochs, and nodes with a link
    /// are told of the gap.
    pub fn restart_empty(&self) {
        let mut inner = self.lock();
        inner.channels.clear();
        inner.presence.clear();
        for n in inner.nodes.values_mut().filter(|n| n.is_linked) {
            n.say(links(false));
            n.come_back();
        }
    }

    /// What is not a publication of a node arrives in a channel: its subscribers are told of
    /// garbage.
    pub fn inject_garbage(&self, channel: &str) {
        let mut inner = self.lock();
        for n in inner.nodes.values_mut() {
            if let Some(name) = n.wanted.get(channel).cloned() {
                n.say(vec![Event::Garbage { channel: Some(name), why: "injected" }]);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, node: NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(n) = self.lock().nodes.get_mut(&node) {
            change(n);
        }
    }
}

fn links(up: bool) -> Vec<Event> {
    let link = |role| Event::Link(Link { broker: "memory".into(), role, up });
    vec![link(Role::Commands), link(Role::Subscriptions)]
}

impl Node {
    /// Passes events on, or keeps them while the link is stalled.
    fn say(&mut self, mut events: Vec<Event>) {
        if !self.is_stalled {
            return self.setup.sink.take(&mut events);
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.append(&mut events);
            if waiting.len() > limits::MEMORY_STALLED_MAX {
                self.waiting = None;
            }
        }
    }

    fn come_back(&mut self) {
        self.figures.up = true;
        self.figures.reconnects += 1;
        self.figures.resubscribes += self.wanted.len() as u64;
        self.figures.gaps += 1;
        let mut events = links(true);
        events.push(Event::Gap(Scope::All));
        self.say(events);
    }
}

impl Inner {
    /// The channel, made where there is none; what has outlived its use is dropped now and then.
    fn channel(&mut self, name: &Arc<str>, keep: Option<Keep>, now: u64) -> &mut Channel {
        if now.saturating_sub(self.swept_ms) >= limits::MEMORY_SWEEP_MS {
            self.swept_ms = now;
            self.channels.retain(|_, c| now.saturating_sub(c.used_ms) < c.life_ms());
        }
        let rng = &mut self.rng;
        let channel = self.channels.entry(name.clone()).or_insert_with(|| Channel::new(rng, now));
        if now.saturating_sub(channel.used_ms) >= channel.life_ms() {
            *channel = Channel::new(rng, now);
        }
        channel.used_ms = now;
        channel.keep = keep.or(channel.keep);
        channel.expire(now);
        channel
    }

    fn publish(&mut self, p: Publish, now: u64) -> Result<Published, Failure> {
        if p.body.len() > limits::ENVELOPE_BYTES_MAX {
            return Err(Failure::TooLarge);
        }
        let is_new_channel = !self.channels.contains_key(&p.channel);
        if is_new_channel && self.channels.len() >= limits::MEMORY_CHANNELS_MAX {
            return Err(Failure::Busy);
        }
        let stamp = if p.keep.is_none() && p.idempotency_key.is_none() && p.version.is_none() {
            None
        } else {
            let channel = self.channel(&p.channel, p.keep, now);
            match channel.append(&p, now) {
                Appended::New(stamp) => stamp,
                Appended::Old(position) => return Ok(Published { position, is_new: false }),
            }
        };
        let delivery = Delivery { channel: p.channel, body: p.body, stamp };
        for n in self.nodes.values_mut() {
            if n.is_linked
                && let Some(name) = n.wanted.get(&delivery.channel)
            {
                let delivery = Delivery { channel: name.clone(), ..delivery.clone() };
                n.figures.deliveries += 1;
                n.say(vec![Event::Delivery(delivery)]);
            }
        }
        Ok(Published { position: stamp.map(|s| s.position), is_new: true })
    }

    fn members(&mut self, channel: &str, now: u64) -> impl Iterator<Item = &Member> {
        if let Some(all) = self.presence.get_mut(channel) {
            all.retain(|_, p| p.until_ms > now);
            if all.is_empty() {
                self.presence.remove(channel);
            }
        }
        self.presence.get(channel).into_iter().flat_map(|all| all.values().map(|p| &p.member))
    }
}

enum Appended {
    New(Option<Stamp>),
    Old(Option<StreamPosition>),
}

impl Channel {
    fn new(rng: &mut fastrand::Rng, now: u64) -> Self {
        Self {
            epoch: Epoch::from_random(rng.u64(..)),
            top: 0,
            entries: VecDeque::new(),
            keep: None,
            keys: HashMap::new(),
            key_order: VecDeque::new(),
            version: None,
            used_ms: now,
        }
    }

    /// Without publications there is nothing to recover: such a channel is forgotten sooner.
    fn life_ms(&self) -> u64 {
        match self.keep {
            Some(keep) if self.top > 0 => keep.meta_ttl_ms.max(keep.ttl_ms),
            _ => limits::EMPTY_STREAM_MS,
        }
    }

    fn position(&self) -> StreamPosition {
        StreamPosition { epoch: self.epoch, offset: self.top }
    }

    fn expire(&mut self, now: u64) {
        while self.key_order.front().is_some_and(|(_, until)| *until <= now)
            || self.key_order.len() > limits::MEMORY_KEYS_MAX
        {
            if let Some((key, _)) = self.key_order.pop_front() {
                self.keys.remove(&key);
            }
        }
        let Some(keep) = self.keep else { return };
        while self.entries.len() > keep.size
            || self.entries.front().is_some_and(|(_, at)| now.saturating_sub(*at) >= keep.ttl_ms)
        {
            self.entries.pop_front();
        }
    }

    fn append(&mut self, p: &Publish, now: u64) -> Appended {
        if let Some((position, _)) = p.idempotency_key.as_ref().and_then(|k| self.keys.get(k)) {
            return Appended::Old(*position);
        }
        if let (Some((number, epoch)), Some((last, last_epoch))) = (&p.version, &self.version)
            && epoch == last_epoch
            && number <= last
        {
            return Appended::Old(p.keep.map(|_| self.position()));
        }
        self.version = p.version.clone().or(self.version.take());
        let stamp = p.keep.map(|_| {
            let previous = self.top;
            self.top += 1;
            self.entries.push_back((Entry { offset: self.top, body: p.body.clone() }, now));
            Stamp { position: self.position(), previous }
        });
        if let Some(key) = &p.idempotency_key {
            let until = now.saturating_add(limits::IDEMPOTENCY_MS);
            self.keys.insert(key.clone(), (stamp.map(|s| s.position), until));
            self.key_order.push_back((key.clone(), until));
        }
        self.expire(now);
        Appended::New(stamp)
    }

    fn page(&self, want: Want) -> Page {
        let all = || self.entries.iter().map(|(entry, _)| entry);
        let entries = match want {
            Want::After { offset, limit } => {
                all().filter(|e| e.offset > offset).take(limit).cloned().collect()
            }
            Want::Before { offset, limit } => {
                let below = all().filter(|e| e.offset < offset).count();
                all().take(below).skip(below.saturating_sub(limit)).cloned().collect()
            }
        };
        Page {
            position: self.position(),
            floor: all().next().map_or(self.top, |e| e.offset - 1),
            entries,
        }
    }
}
