//! A server without faults and its clients: who is cut, who comes back, what expires and when, is
//! random; what is written down is true.

use super::{Act, Books, Line, Place, stamp};
use plimsoll_bench::ledger::{Channel, Outcome, Run, Stamp, Stored, Via};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Publications of a history, and of a recovery.
const HISTORY_SIZE: usize = 6;
const RECOVERY_MAX: u64 = 4;
/// Time for everything to settle, in milliseconds.
const HEAL_MS: u64 = 2_000;

/// What a run consists of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub clients: u32,
    pub with_history: u32,
    pub without_history: u32,
    pub threads: u32,
    pub steps: u32,
    pub probes: bool,
    /// It ends as soon as everything has come, and everybody is cut then.
    pub settled: bool,
}

/// What is on its way to a client.
#[derive(Clone, Debug)]
enum Message {
    Answer(u32, Outcome),
    Subscribed {
        channel: u32,
        asked: Option<Place>,
        position: Option<Place>,
        recovered: bool,
        publications: Vec<(u64, Stamp)>,
    },
    Push(u32, u64, Stamp),
    Unsubscribed(u32, u32),
}

#[derive(Default)]
struct Client {
    connected: bool,
    queue: VecDeque<Message>,
    sequence: u32,
    /// Answers that have not come.
    waiting: BTreeSet<u32>,
    /// Where it is in each channel with history.
    positions: BTreeMap<u32, Place>,
}

struct Stream {
    has_history: bool,
    epoch: u32,
    top: u64,
    kept: VecDeque<(u64, Stamp)>,
    subscribers: BTreeSet<u32>,
}

struct World {
    random: fastrand::Rng,
    now_us: u64,
    plan: Plan,
    clients: Vec<Client>,
    streams: Vec<Stream>,
    lines: Vec<Line>,
    recoveries: u64,
}

/// A run.
pub fn run(plan: Plan) -> Books {
    let channels = plan.with_history + plan.without_history;
    let stream = |number| Stream {
        has_history: number < plan.with_history,
        epoch: 0,
        top: 0,
        kept: VecDeque::new(),
        subscribers: BTreeSet::new(),
    };
    let mut world = World {
        random: fastrand::Rng::with_seed(plan.seed),
        now_us: 1_000_000,
        plan,
        clients: (0..plan.clients).map(|_| Client::default()).collect(),
        streams: (0..channels).map(stream).collect(),
        lines: Vec::new(),
        recoveries: 0,
    };
    world.everybody_is_back();
    for _ in 0..plan.steps {
        world.step();
    }
    world.everybody_is_back();
    let mut run = Run::new("simulated", 1_000_000, 0);
    if plan.probes {
        run.probes_from_us = Some(world.now_us);
        for channel in 0..channels {
            world.publish(channel % plan.clients, channel, true);
        }
        (0..plan.clients).for_each(|client| world.read(client, usize::MAX));
    }
    run.settled = plan.settled;
    if plan.settled {
        run.ended_us = world.now_us;
        world.now_us += 1;
        (0..plan.clients).for_each(|client| world.cut(client));
    } else {
        run.ended_us = world.now_us + HEAL_MS * 1_000;
    }
    run.heal_ms = HEAL_MS;
    run.history_size = Some(HISTORY_SIZE as u64);
    run.recovery_max = Some(RECOVERY_MAX);
    run.recoveries_planned = world.recoveries;
    run.exact_without_history = true;
    world.books(run)
}

/// Client `c` is in every channel whose number has another rest than `c` by three.
pub fn is_member(client: u32, channel: u32) -> bool {
    client % 3 != channel % 3
}

impl World {
    fn books(self, run: Run) -> Books {
        let name = |(n, s): (usize, &Stream)| Channel {
            name: format!("{}:{n}", if s.has_history { "room" } else { "typing" }).into(),
            history: s.has_history,
        };
        let stored = |(n, s): (usize, &Stream)| Stored {
            channel: n as u32,
            epoch: s.epoch().into(),
            top: s.top,
            publications: s.kept.iter().map(|(offset, stamp)| (*offset, Some(*stamp))).collect(),
        };
        let streams = || self.streams.iter().enumerate();
        Books {
            run,
            channels: streams().map(name).collect(),
            stored: streams().filter(|(_, s)| s.has_history).map(stored).collect(),
            lines: self.lines,
            comparisons: Vec::new(),
            threads: self.plan.threads,
        }
    }

    fn write(&mut self, client: u32, act: Act) {
        self.now_us += self.random.u64(0..60);
        self.lines.push(Line { at_us: self.now_us, client, act });
    }

    fn step(&mut self) {
        let client = self.random.u32(0..self.plan.clients);
        let channel = self.random.u32(0..self.streams.len() as u32);
        match self.random.u32(0..100) {
            0..40 => self.publish(client, channel, false),
            40..80 => {
                let some = self.random.usize(1..8);
                self.read(client, some);
            }
            80..86 => self.cut(client),
            86..93 => self.connect(client),
            93..95 => self.insufficient(client, channel),
            95..98 => self.resubscribe(client, channel),
            98 => self.expire(channel),
            _ if self.random.u32(0..4) == 0 => self.restart(),
            _ => {}
        }
    }

    fn publish(&mut self, client: u32, channel: u32, is_probe: bool) {
        if !self.clients[client as usize].connected {
            return;
        }
        self.clients[client as usize].sequence += 1;
        let sequence = self.clients[client as usize].sequence;
        let stamp = stamp(client, sequence);
        self.write(client, Act::Published(channel, stamp));
        self.clients[client as usize].waiting.insert(sequence);
        match if is_probe { 0 } else { self.random.u32(0..30) } {
            1 => self.answer(client, sequence, Outcome::Refused(103)),
            // The connection ends before the server has it.
            2 => self.cut(client),
            fate => {
                self.append(channel, stamp);
                self.answer(client, sequence, Outcome::Acknowledged);
                if fate == 3 {
                    self.cut(client);
                }
            }
        }
    }

    fn append(&mut self, channel: u32, stamp: Stamp) {
        let stream = &mut self.streams[channel as usize];
        if stream.has_history {
            stream.top += 1;
            stream.kept.push_back((stream.top, stamp));
            if stream.kept.len() > HISTORY_SIZE {
                stream.kept.pop_front();
            }
        }
        for client in &stream.subscribers {
            let queue = &mut self.clients[*client as usize].queue;
            queue.push_back(Message::Push(channel, stream.top, stamp));
        }
    }

    fn answer(&mut self, client: u32, sequence: u32, outcome: Outcome) {
        self.clients[client as usize].queue.push_back(Message::Answer(sequence, outcome));
    }

    fn connect(&mut self, client: u32) {
        if self.clients[client as usize].connected {
            return;
        }
        self.clients[client as usize].connected = true;
        for channel in 0..self.streams.len() as u32 {
            if is_member(client, channel) {
                self.subscribe(client, channel);
            }
        }
    }

    /// The server's part of a subscribe.
    fn subscribe(&mut self, client: u32, channel: u32) {
        let fresh = self.random.u32(0..12) == 0;
        let known = self.clients[client as usize].positions.get(&channel).cloned();
        let asked = known.filter(|_| !fresh);
        let stream = &mut self.streams[channel as usize];
        stream.subscribers.insert(client);
        let (mut position, mut recovered, mut publications) = (None, false, Vec::new());
        if stream.has_history {
            let mut told = stream.top;
            if let Some((epoch, offset)) = &asked {
                let missed = stream.top.saturating_sub(*offset);
                recovered = *epoch == stream.epoch()
                    && missed <= RECOVERY_MAX
                    && missed <= stream.kept.len() as u64;
                if recovered {
                    told = *offset;
                    let after = stream.kept.iter().filter(|(o, _)| o > offset);
                    publications = after.copied().collect();
                }
            }
            position = Some((stream.epoch(), told));
        }
        let message = Message::Subscribed { channel, asked, position, recovered, publications };
        self.clients[client as usize].queue.push_back(message);
    }

    fn read(&mut self, client: u32, most: usize) {
        for _ in 0..most {
            let Some(message) = self.clients[client as usize].queue.pop_front() else { return };
            match message {
                Message::Answer(sequence, outcome) => {
                    self.clients[client as usize].waiting.remove(&sequence);
                    self.write(client, Act::Answered(sequence, outcome));
                }
                Message::Push(channel, offset, stamp) => {
                    self.received(client, channel, offset, stamp, Via::Live);
                }
                Message::Subscribed { channel, asked, position, recovered, publications } => {
                    self.recoveries += u64::from(recovered);
                    if let Some(position) = position.clone() {
                        self.clients[client as usize].positions.insert(channel, position);
                    }
                    let act = Act::Subscribed { channel, asked, position, recovered };
                    self.write(client, act);
                    for (offset, stamp) in publications {
                        self.received(client, channel, offset, stamp, Via::Recovered);
                    }
                }
                Message::Unsubscribed(channel, code) => {
                    self.write(client, Act::Unsubscribed(channel, code));
                    self.subscribe(client, channel);
                }
            }
        }
    }

    fn received(&mut self, client: u32, channel: u32, offset: u64, stamp: Stamp, via: Via) {
        if let Some(position) = self.clients[client as usize].positions.get_mut(&channel) {
            position.1 = offset;
        }
        self.write(client, Act::Received { channel, offset, stamp: Some(stamp), via });
    }

    fn cut(&mut self, client: u32) {
        if self.clients[client as usize].connected {
            let act = match self.random.u32(0..3) {
                0 => Act::Closed(None),
                1 => Act::Closed(Some(3008)),
                _ => Act::Cut,
            };
            self.disconnected(client, act);
        }
    }

    fn disconnected(&mut self, client: u32, act: Act) {
        self.write(client, act);
        self.streams.iter_mut().for_each(|stream| {
            stream.subscribers.remove(&client);
        });
        let gone = &mut self.clients[client as usize];
        gone.connected = false;
        gone.queue.clear();
        // Whether a missing answer is written down is the recorder's choice.
        for sequence in std::mem::take(&mut gone.waiting) {
            if sequence % 2 == 0 {
                self.write(client, Act::Answered(sequence, Outcome::Unknown));
            }
        }
    }

    /// The server cannot keep its promise: from some point on nothing comes, and it says so.
    fn insufficient(&mut self, client: u32, channel: u32) {
        if !self.streams[channel as usize].subscribers.remove(&client) {
            return;
        }
        let is_push = |m: &Message| matches!(m, Message::Push(of, ..) if *of == channel);
        let queue = &mut self.clients[client as usize].queue;
        let keep = self.random.usize(0..4);
        let mut had = 0;
        queue.retain(|message| {
            had += usize::from(is_push(message));
            !is_push(message) || had <= keep
        });
        queue.push_back(Message::Unsubscribed(channel, 2500));
    }

    fn resubscribe(&mut self, client: u32, channel: u32) {
        if self.streams[channel as usize].subscribers.remove(&client) {
            let queue = &mut self.clients[client as usize].queue;
            queue.push_back(Message::Unsubscribed(channel, 0));
        }
    }

    /// A channel's history is gone, and those who are there are told.
    fn expire(&mut self, channel: u32) {
        let stream = &mut self.streams[channel as usize];
        if !stream.has_history {
            return;
        }
        (stream.epoch, stream.top) = (stream.epoch + 1, 0);
        stream.kept.clear();
        for client in stream.subscribers.clone() {
            self.insufficient(client, channel);
        }
    }

    /// Everything is gone, everybody is.
    fn restart(&mut self) {
        for client in 0..self.plan.clients {
            if self.clients[client as usize].connected {
                self.disconnected(client, Act::Closed(None));
            }
        }
        (0..self.streams.len() as u32).for_each(|channel| self.expire(channel));
    }

    fn everybody_is_back(&mut self) {
        for _ in 0..3 {
            for client in 0..self.plan.clients {
                self.connect(client);
                self.read(client, usize::MAX);
            }
        }
    }
}

impl Stream {
    fn epoch(&self) -> String {
        format!("e{}", self.epoch)
    }
}
