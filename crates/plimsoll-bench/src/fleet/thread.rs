//! A thread of the fleet: its loop, its orders, and what is due.

use super::client::{Client, Stage, Standing, Subscription};
use super::counters::count;
use super::handle::{Order, Report};
use super::places::Members;
use super::publish::Running;
use super::schedule::{Arrivals, Ramp};
use super::seen::Seen;
use super::shared::Shared;
use super::timers::{Due, Timers};
use super::{Counters, Load};
use crate::clock::{now_us, thread_cpu_us};
use crate::ledger::{Log, Recorder};
use crate::limits;
use crate::topology::{ChannelId, ClientId};
use plimsoll_transport::deflate::Inflater;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

/// Marks events of the alarm.
const ALARM: u64 = u64::MAX;

/// A thread of the fleet, with every n-th client. Clients are known by their place in it.
pub(super) struct Thread {
    /// Which thread of this process, and of all.
    pub at: usize,
    pub number: u32,
    pub shared: Arc<Shared>,
    orders: Receiver<Order>,
    alarm: Arc<OwnedFd>,
    pub epoll: OwnedFd,
    pub clients: Vec<Client>,
    pub subscriptions: Vec<Subscription>,
    pub members: Members,
    ramp: Ramp,
    /// The next client that the ramp has not started.
    ramp_next: usize,
    handshakes_max: u32,
    pub timers: Timers,
    pub streams: Vec<Running>,
    cuts: Option<Arrivals>,
    leaves_ratio: f64,
    resubscribes: Option<Arrivals>,
    /// What it does from now on.
    pub phase: Phase,
    pub counters: Counters,
    pub recorder: Option<Recorder>,
    pub seen: Seen,
    pub rng: fastrand::Rng,
    pub request: Request,
    /// Commands, and the frames around them, while they are made.
    pub message: Vec<u8>,
    pub frame: Vec<u8>,
    pub buffer: Box<[u8]>,
    pub inflater: Inflater,
    /// Now; read anew before each thing that happens.
    pub now_us: u64,
    started_us: u64,
    /// CPU time spent on looking for work in vain, and that of the last look if it was.
    vain_us: u64,
    vain_since_us: Option<u64>,
    next_sweep_ms: u32,
    /// Connections being made, clients that wait to come back, and commands without an answer.
    pub under_way: u32,
    pub waiting: u32,
    pub waits: u64,
}

/// The upgrade request of each target, and what proves that it was understood.
pub(super) struct Request {
    pub bytes: Vec<Vec<u8>>,
    pub accept: [u8; 28],
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// The last publications are on their way.
    Probing,
    /// Everyone leaves.
    Finishing,
}

impl Thread {
    pub fn new(
        at: usize,
        shared: Arc<Shared>,
        orders: Receiver<Order>,
        alarm: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*alarm, epoll::EventData::new_u64(ALARM), epoll::EventFlags::IN)?;
        let number = shared.number(at);
        let (topology, places) = (&shared.config.topology, shared.places);
        let (mut clients, mut subscriptions) = (Vec::new(), 0u32);
        for place in 0..places.count(number) {
            clients.push(Client { first_subscription: subscriptions, ..Client::default() });
            subscriptions += topology.channels_of(places.client(number, place)).len() as u32;
        }
        let seed = shared.config.seed.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9));
        let mut rng = fastrand::Rng::with_seed(seed);
        Ok(Self {
            at,
            number,
            orders,
            alarm,
            epoll,
            clients,
            subscriptions: vec![Subscription::default(); subscriptions as usize],
            members: Members::new(topology, places, number),
            ramp: Ramp::default(),
            ramp_next: 0,
            handshakes_max: limits::HANDSHAKES,
            timers: Timers::default(),
            streams: Vec::new(),
            cuts: None,
            leaves_ratio: 0.0,
            resubscribes: None,
            phase: Phase::Running,
            counters: Counters::default(),
            recorder: shared.config.ledger.then(Recorder::default),
            seen: Seen::new(topology),
            request: Request::new(&shared.config.targets, &mut rng),
            shared,
            rng,
            message: Vec::new(),
            frame: Vec::new(),
            buffer: vec![0; limits::FLEET_READ_BYTES].into_boxed_slice(),
            inflater: Inflater::default(),
            now_us: now_us(),
            started_us: now_us(),
            vain_us: 0,
            vain_since_us: None,
            next_sweep_ms: 0,
            under_way: 0,
            waiting: 0,
            waits: 0,
        })
    }

    /// Runs until it is told to finish, or nobody is left to tell it.
    pub fn run(mut self) -> Log {
        let mut events = Vec::with_capacity(limits::FLEET_EVENTS_MAX);
        loop {
            let awake = self.shared.is_awake();
            let timeout = if awake { Timespec::default() } else { self.timeout() };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => {
                    count(&mut self.counters.failures, "no events");
                    break;
                }
            }
            self.count_vain(awake && events.is_empty());
            for (done, event) in events.iter().enumerate() {
                self.now_us = now_us();
                match event.data.u64() {
                    ALARM => {
                        let _ = rustix::io::read(&*self.alarm, &mut [0u8; 8]);
                    }
                    data => self.on_socket(data as u32 as usize, (data >> 32) as u32, event.flags),
                }
                if done % limits::FLEET_READS_PER_LOOK == limits::FLEET_READS_PER_LOOK - 1 {
                    self.publish_due();
                }
            }
            self.now_us = now_us();
            if !self.on_orders() {
                break;
            }
            self.on_time();
            if self.phase == Phase::Finishing && self.is_empty() {
                break;
            }
        }
        self.abandon();
        self.tell(u64::MAX);
        self.recorder.map(Recorder::finish).unwrap_or_default()
    }

    /// Counts the CPU time from one look in vain to the next.
    fn count_vain(&mut self, in_vain: bool) {
        if !in_vain {
            self.vain_since_us = None;
            return;
        }
        let now = thread_cpu_us();
        self.vain_us += self.vain_since_us.map_or(0, |since| now.saturating_sub(since));
        self.vain_since_us = Some(now);
    }

    fn is_empty(&self) -> bool {
        self.clients.iter().all(|client| client.socket.is_none())
    }

    /// Until the next thing is due.
    fn timeout(&self) -> Timespec {
        let sweep_us = self.started_us + u64::from(self.next_sweep_ms) * 1_000;
        let times = [self.timers.next_us(), self.ramp_us()].into_iter().flatten();
        let arrivals = [self.cuts, self.resubscribes].into_iter().flatten();
        let streams = self.streams.iter().filter_map(|stream| stream.arrivals);
        let due = arrivals.chain(streams).map(|arrivals| arrivals.next_us());
        let next_us = times.chain(due).fold(sweep_us, u64::min);
        let left_us = next_us.saturating_sub(now_us());
        let tv_nsec = (left_us % 1_000_000 * 1_000) as i64;
        Timespec { tv_sec: (left_us / 1_000_000) as i64, tv_nsec }
    }

    /// `false`: it is over.
    fn on_orders(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Apply(load, at_us)) => self.apply(&load, at_us),
                Ok(Order::Quiet) => {
                    self.quiet();
                    self.ramp.set(self.now_us, self.ramp_position(), 0.0);
                }
                Ok(Order::DropAll) => {
                    for at in 0..self.clients.len() {
                        self.cut(at);
                    }
                }
                Ok(Order::Report(round)) => self.tell(round),
                Ok(Order::Probe) => self.phase = Phase::Probing,
                Ok(Order::Finish) => {
                    // It may have come in the turn in which the last report was made: who reads
                    // the books must not find these ends before that.
                    self.now_us = now_us();
                    self.quiet();
                    self.phase = Phase::Finishing;
                    (0..self.clients.len()).for_each(|at| self.dismiss(at));
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return self.phase == Phase::Finishing,
            }
        }
    }

    fn apply(&mut self, load: &Load, at_us: u64) {
        let clients = load.clients.min(self.shared.config.topology.clients());
        self.ramp.set(at_us, clients, load.connects_per_s);
        let all = if load.handshakes_max == 0 { limits::HANDSHAKES } else { load.handshakes_max };
        self.handshakes_max = (all / self.shared.places.threads()).max(1);
        let mine = self.shared.places.count_below(self.number, clients);
        for at in mine..self.clients.len() {
            self.dismiss(at);
        }
        self.ramp_next = self.ramp_next.min(mine);
        let share = self.clients.len() as f64 / f64::from(self.shared.places.clients().max(1));
        self.cuts = Arrivals::new(load.cuts_per_s * share, true, at_us, &mut self.rng);
        self.leaves_ratio = load.leaves_ratio;
        let per_s = load.resubscribes_per_s * share;
        self.resubscribes = Arrivals::new(per_s, true, at_us, &mut self.rng);
        self.apply_streams(&load.streams, at_us);
    }

    fn quiet(&mut self) {
        self.streams.clear();
        self.cuts = None;
        self.resubscribes = None;
    }

    /// The client from which on none was started.
    fn ramp_position(&self) -> ClientId {
        match self.ramp_next < self.clients.len() {
            true => self.client_id(self.ramp_next).min(self.ramp.wanted),
            false => self.ramp.wanted,
        }
    }

    /// When the next client of the ramp is due, unless it has to wait for others' handshakes.
    fn ramp_us(&self) -> Option<u64> {
        let client = self.client_id(self.ramp_next);
        let open = client < self.ramp.wanted && self.ramp_next < self.clients.len();
        let open = open && self.under_way < self.handshakes_max;
        open.then(|| self.ramp.due_us(client).unwrap_or(0))
    }

    fn on_time(&mut self) {
        for _ in 0..limits::PER_TURN_MAX {
            let Some(due_us) = self.ramp_us().filter(|due_us| *due_us <= self.now_us) else {
                break;
            };
            let at = self.ramp_next;
            self.ramp_next += 1;
            // Without a rate nothing was intended before now.
            let intended_us = if due_us == 0 { self.now_us } else { due_us };
            self.begin(at, intended_us);
        }
        for _ in 0..limits::PER_TURN_MAX {
            let Some((due_us, at, generation, due)) = self.timers.take(self.now_us) else { break };
            if self.clients.get(at).is_some_and(|client| client.generation == generation) {
                match due {
                    Due::Connect => self.come_back(at, due_us),
                    Due::Subscribe(place) => self.subscribe_again(at, place),
                }
            }
        }
        self.publish_due();
        self.churn_due();
        if self.now_ms() >= self.next_sweep_ms {
            self.next_sweep_ms = self.now_ms() + limits::SWEEP_MS;
            self.sweep();
        }
    }

    fn churn_due(&mut self) {
        for _ in 0..limits::PER_TURN_MAX {
            let due = self.cuts.as_mut().and_then(|cuts| cuts.take(self.now_us, &mut self.rng));
            if due.is_none() {
                break;
            }
            let Some(at) = self.any_connected() else { continue };
            match self.rng.f64() < self.leaves_ratio {
                true => self.leave(at),
                false => self.cut(at),
            }
        }
        for _ in 0..limits::PER_TURN_MAX {
            let arrivals = self.resubscribes.as_mut();
            if arrivals.and_then(|a| a.take(self.now_us, &mut self.rng)).is_none() {
                break;
            }
            if let Some(at) = self.any_connected() {
                self.resubscribe(at);
            }
        }
    }

    fn any_connected(&mut self) -> Option<usize> {
        if self.clients.is_empty() {
            return None;
        }
        (0..limits::TRIES_MAX)
            .map(|_| self.rng.usize(..self.clients.len()))
            .find(|at| self.clients.get(*at).is_some_and(|client| client.stage == Stage::Ready))
    }

    /// Looks for connections that take too long, or have fallen silent.
    fn sweep(&mut self) {
        let now_ms = self.now_ms();
        for at in 0..self.clients.len() {
            let Some(client) = self.clients.get(at) else { break };
            let silence_ms = u32::from(client.ping_s) * 1_000 + limits::PING_DELAY_MS;
            let silent = client.ping_s > 0 && now_ms.saturating_sub(client.heard_ms) > silence_ms;
            match client.stage {
                Stage::Out | Stage::Waiting => {}
                Stage::Ready if !silent => {}
                Stage::Ready => self.fall_silent(at),
                _ if now_ms < client.deadline_ms => {}
                _ => self.take_too_long(at),
            }
        }
    }

    /// Says how things stand.
    fn tell(&mut self, round: u64) {
        self.counters.cpu_us = thread_cpu_us().saturating_sub(self.vain_us);
        let mut report = Report {
            round,
            counters: self.counters.clone(),
            pending: self.waits + u64::from(self.under_way) + u64::from(self.waiting),
            ..Report::default()
        };
        if self.phase == Phase::Probing {
            self.probe(&mut report);
        }
        self.shared.tell(self.at, report);
    }

    /// Whether the client has to be connected, and its first connection was due.
    pub fn is_wanted(&self, client: ClientId) -> bool {
        client < self.ramp.wanted
    }

    /// Number of the client at a place.
    pub fn client_id(&self, at: usize) -> ClientId {
        self.shared.places.client(self.number, at)
    }

    /// Milliseconds since the thread's start.
    pub fn now_ms(&self) -> u32 {
        (self.now_us.saturating_sub(self.started_us) / 1_000) as u32
    }

    /// A subscription of a client, by its place among them.
    pub fn subscription(&mut self, at: usize, place: u32) -> Option<&mut Subscription> {
        let first = self.clients.get(at)?.first_subscription;
        self.subscriptions.get_mut((first + place) as usize)
    }

    /// A channel of a client, by the subscription's place.
    pub fn channel(&self, at: usize, place: u32) -> Option<ChannelId> {
        let channels = self.shared.config.topology.channels_of(self.client_id(at));
        channels.get(place as usize).copied()
    }

    /// Whether the subscription stands.
    pub fn stands(&self, at: usize, place: u32) -> bool {
        let first = self.clients.get(at).map(|client| client.first_subscription);
        let subscription = first.and_then(|first| self.subscriptions.get((first + place) as usize));
        subscription.is_some_and(|subscription| subscription.standing == Standing::On)
    }
}
