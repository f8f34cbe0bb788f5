//! One worker as a state machine: bytes, letters and deadlines in; sends and letters out.
//!
//! No socket, clock or thread: all of that is behind [`Io`]. A turn is: any number of `on_*`
//! calls, then [`Core::flush`].

mod backbone;
mod conn;
mod control;
mod door;
mod effects;
mod emergency;
mod flush;
mod hot;
mod http;
mod idle;
mod io;
mod letters;
mod notice;
mod outbox;
mod queues;
mod recovery;
#[cfg(test)]
mod tests;
mod text;

pub use io::{Io, Sent};

use crate::telemetry::stats::WorkerStats;
use crate::worker::accounts::Accounts;
use crate::worker::slab::{Bits, Slab};
use conn::{Conn, Own};
use hot::Hot;
use idle::Idle;
use notice::Notices;
use outbox::Meter;
use plimsoll_core::channel::Channels;
use plimsoll_core::home::{Figures, Home};
use plimsoll_core::hub::Hub;
use plimsoll_core::limits;
use plimsoll_core::link::Link;
use plimsoll_core::map::{self, Map};
use plimsoll_core::model::{ConnKey, Now};
use plimsoll_core::policy::Policy;
use plimsoll_core::session::{Context, Effect, Session};
use plimsoll_core::throttle::Throttle;
use plimsoll_core::token::TokenVerifier;
use plimsoll_core::wheel::Wheel;
use plimsoll_overload::admission::{Admission, Ticket};
use plimsoll_overload::gates::Gates;
use plimsoll_transport::deflate::{Deflater, Inflater};
use recovery::Recoveries;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What all workers of a node share, read-only.
pub struct Shared {
    /// Configuration.
    pub policy: Policy,
    /// Channel names.
    pub channels: Arc<Channels>,
    /// Tokens.
    pub tokens: Box<dyn TokenVerifier + Send + Sync>,
    /// Accounts of quotas.
    pub accounts: Accounts,
    /// Number of workers.
    pub workers: usize,
    /// What the load allows, as the control thread says.
    pub line: LoadLine,
    /// What a node of a cluster knows of it; `None` = there is no backbone.
    pub cluster: Option<Cluster>,
}

/// What workers know of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// This run of this node.
    pub node: u64,
    /// How long a channel without subscribers here stays subscribed, in milliseconds.
    pub linger_ms: u64,
}

/// What the control thread tells all workers about the load, published in one swap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// What may be done.
    pub gates: Gates,
    /// Bytes that the queues of all workers together may hold; 0 = the default.
    pub outbound_budget_bytes: usize,
    /// Idle connections are closed, slowly: there is no other room.
    pub close_idle: bool,
    /// Nothing is given up, whatever the load: workers do not refuse publications either.
    pub line_is_off: bool,
}

/// Where the control thread leaves what it decided, and workers pick it up: one relaxed load a
/// turn as long as nothing changes.
#[derive(Debug, Default)]
pub struct LoadLine {
    version: AtomicU64,
    told: Mutex<Told>,
}

impl LoadLine {
    /// Tells the workers; each has it from its next turn on.
    pub fn tell(&self, told: Told) {
        let mut cell = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *cell != told {
            *cell = told;
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// What was told last.
    pub fn told(&self) -> Told {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker.
pub struct Core {
    id: u16,
    shared: Arc<Shared>,
    stats: Arc<WorkerStats>,
    now: Now,
    /// When what is being handled was received.
    received_us: u64,
    conns: Slab<Conn>,
    next_generation: u32,
    /// Slots that a channel's flush must look at: frames of their own, blocked, or closing.
    special: Bits,
    /// Frames for single connections, gathered in this turn.
    own: Own,
    wheel: Wheel,
    hub: Hub,
    home: Home,
    /// To the backbone, when there is one.
    link: Option<Link>,
    /// What home and link have to tell is being told.
    spreading: bool,
    users: Map<Arc<str>, SmallVec<[u32; 1]>>,
    nobody: Arc<str>,
    inflater: Option<Inflater>,
    deflater: Deflater,
    scratch: Vec<u8>,
    due: Vec<u32>,
    /// Connections found broken while sending; closed at the end of the turn.
    broken: Vec<ConnKey>,
    /// Connections whose queue is too long; closed at the end of the turn.
    slow: Vec<ConnKey>,
    /// Connections of whose channels something was left out; told at the end of the turn.
    behind: Vec<ConnKey>,
    /// What the queues of this worker hold.
    meter: Meter,
    /// Bytes that all queues of this worker may hold.
    queues_bytes_max: usize,
    gates: Gates,
    line_version: u64,
    notices: Notices,
    line_is_off: bool,
    throttle: Throttle,
    /// Of this turn: how long it spent on delivering, in microseconds.
    flush_us: u64,
    door: Admission,
    /// Connections that wait at the door, with their generation.
    tickets: Map<u32, (u32, Ticket)>,
    next_relief_ms: u64,
    idle: Idle,
    next_ages_ms: u64,
    next_give_back_ms: u64,
    recoveries: Recoveries,
    hot: Hot,
    spare_effects: Vec<Vec<Effect>>,
    next_sweep_ms: u64,
    seed: u64,
    stopping: bool,
}

impl Core {
    /// A worker without connections. `seed` feeds hashing and epochs.
    pub fn new(id: u16, shared: Arc<Shared>, stats: Arc<WorkerStats>, now: Now, seed: u64) -> Self {
        let recovery = shared.policy.client.recovery_max_publication_limit;
        let level = shared.policy.websocket.compression_level;
        Self {
            id,
            stats,
            now,
            received_us: 0,
            conns: Slab::default(),
            next_generation: 0,
            special: Bits::default(),
            own: Own::default(),
            wheel: Wheel::new(now.mono_ms),
            hub: Hub::new(seed),
            home: Home::new(Arc::clone(&shared.channels), recovery, seed.rotate_left(17)),
            spreading: false,
            link: shared.cluster.map(|c| Link::new(c.node, c.linger_ms, seed)),
            users: map::with_seed(seed ^ 3),
            nobody: Arc::from(""),
            inflater: None,
            deflater: Deflater::new(level),
            scratch: Vec::new(),
            due: Vec::new(),
            broken: Vec::new(),
            slow: Vec::new(),
            behind: Vec::new(),
            meter: Meter::default(),
            queues_bytes_max: limits::OUTBOUND_BYTES_MAX / shared.workers.max(1),
            gates: Gates::default(),
            line_version: 0,
            notices: Notices::default(),
            line_is_off: false,
            throttle: Throttle::default(),
            flush_us: 0,
            door: Admission::new(now.mono_ms, f64::MAX, limits::PARKED_CONNECTS_MAX),
            tickets: map::with_seed(seed ^ 5),
            next_relief_ms: now.mono_ms,
            idle: Idle::default(),
            next_ages_ms: now.mono_ms,
            next_give_back_ms: now.mono_ms,
            recoveries: Recoveries::default(),
            hot: Hot::default(),
            spare_effects: Vec::new(),
            next_sweep_ms: now.mono_ms,
            seed,
            stopping: false,
            shared,
        }
    }

    /// A turn begins; `received_us` is the monotonic time in microseconds of what comes.
    pub fn begin_turn(&mut self, now: Now, received_us: u64) {
        self.now = now;
        self.received_us = received_us;
        // A panic may have left it so.
        self.spreading = false;
        self.stats.turns.add(1);
        let version = self.shared.line.version.load(Ordering::Acquire);
        if version != self.line_version {
            self.line_version = version;
            self.obey(self.shared.line.told());
        }
    }

    fn obey(&mut self, told: Told) {
        self.gates = told.gates;
        self.home.obey(&told.gates, self.now.mono_ms);
        self.line_is_off = told.line_is_off;
        self.idle.emergency = told.close_idle;
        if !told.gates.recovery_paced {
            self.recoveries.hurry(self.now.mono_ms);
        }
        let share = 1.0 / self.shared.workers.max(1) as f64;
        let [mine, min] =
            [told.gates.accepts_per_s, told.gates.accepts_per_s_min].map(|n| n * share);
        self.door.steer(self.now.mono_ms, mine, min, told.gates.admission);
        if told.outbound_budget_bytes > 0 {
            self.queues_bytes_max = told.outbound_budget_bytes / self.shared.workers.max(1);
        }
    }

    /// Milliseconds until [`Core::on_deadlines`] has something to do.
    pub fn wait_ms(&self) -> u64 {
        if !self.hot.is_idle() {
            return 0;
        }
        let sweep = self.next_sweep_ms.saturating_sub(self.now.mono_ms);
        let sweep = if self.home.is_empty() { u64::MAX } else { sweep };
        let held =
            self.hub.next_due_ms().map_or(u64::MAX, |at| at.saturating_sub(self.now.mono_ms));
        let door = self.door.next_deadline_ms(self.now.mono_ms);
        let door = door.map_or(u64::MAX, |at| at.saturating_sub(self.now.mono_ms));
        let notice = self.notices.wait_ms(self.now.mono_ms);
        let wheel = self.wheel.wait_ms(self.now.mono_ms).unwrap_or(u64::MAX);
        let recovery = self.recoveries.due_ms();
        let recovery = recovery.map_or(u64::MAX, |at| at.saturating_sub(self.now.mono_ms));
        let home = self.home.due_ms().map_or(u64::MAX, |at| at.saturating_sub(self.now.mono_ms));
        let idle = self.idle_wait_ms();
        let link = self.link.as_ref().and_then(Link::due_ms);
        let link = link.map_or(u64::MAX, |at| at.saturating_sub(self.now.mono_ms));
        let idle = idle.min(link);
        wheel.min(home).min(sweep).min(held).min(door).min(notice).min(recovery).min(idle)
    }

    /// Handles all deadlines that have passed.
    pub fn on_deadlines(&mut self, io: &mut impl Io) {
        if self.next_sweep_ms <= self.now.mono_ms {
            self.next_sweep_ms = self.now.mono_ms + 1_000;
            self.home.sweep(self.now.mono_ms);
            if self.id == 0 {
                self.shared.accounts.sweep(self.now.mono_ms);
            }
            self.update_gauges();
        }
        if self.home.due_ms().is_some_and(|at| at <= self.now.mono_ms) {
            self.home.on_time(self.now.mono_ms);
            self.spread_told(self.received_us, io);
        }
        self.link_on_time(io);
        self.tell_notices();
        self.open_the_door(io);
        self.serve_recoveries(io);
        self.watch_ages();
        self.close_idle(io);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now.mono_ms, &mut due);
        for slot in due.drain(..) {
            self.on_deadline(slot, io);
        }
        self.due = due;
    }

    /// Was the worker ordered to stop?
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Is nothing left of this worker's connections?
    pub fn is_idle(&self) -> bool {
        self.conns.is_empty()
    }

    /// After a panic in the middle of a flush nobody knows who got what: all connections of this
    /// worker end (their clients come back and recover), and what gathered is dropped.
    pub fn abandon(&mut self, io: &mut impl Io) {
        self.own = Own::default();
        self.hub = Hub::new(self.seed);
        self.hot.clear();
        self.broken.clear();
        self.slow.clear();
        self.behind.clear();
        for slot in self.conns.slots() {
            self.on_hangup(slot, true, io);
        }
        self.own = Own::default();
    }

    /// After the last connection has left: what grew with the crowd is given back.
    pub fn rest(&mut self) {
        self.wheel = Wheel::new(self.now.mono_ms);
        self.special = Bits::default();
        self.own = Own::default();
        self.scratch = Vec::new();
        self.due = Vec::new();
        self.spare_effects = Vec::new();
        self.users.shrink_to_fit();
        self.hub.shrink();
        self.hot.clear();
        self.home.shrink();
    }

    /// Runs something of a session and then what it wants done.
    fn with_session(
        &mut self,
        slot: u32,
        io: &mut impl Io,
        run: impl FnOnce(&mut Session, &Context<'_>, &mut Vec<Effect>),
    ) {
        let mut fx = self.spare_effects.pop().unwrap_or_default();
        let random = io.random();
        if let Some(session) = self.conns.get_mut(slot).and_then(Conn::session_mut) {
            let context = Context {
                policy: &self.shared.policy,
                channels: &self.shared.channels,
                tokens: &*self.shared.tokens,
                now: self.now,
                random,
                gates: &self.gates,
                payers: &self.shared.accounts,
            };
            run(session, &context, &mut fx);
        }
        self.perform(slot, &mut fx, io);
        fx.clear();
        self.spare_effects.push(fx);
        self.rearm(slot);
    }

    /// Sets the connection's one deadline anew.
    fn rearm(&mut self, slot: u32) {
        let policy = &self.shared.policy;
        let deadline = self.conns.get(slot).map_or(u64::MAX, |c| c.deadline_ms(policy));
        self.wheel.set(slot, deadline);
    }

    fn update_gauges(&mut self) {
        self.stats.channels_home.set(self.home.len() as u64);
        self.stats.channels_local.set(self.hub.channel_count() as u64);
        self.stats.subscriptions.set(self.hub.subscription_count() as u64);
        if let Some(link) = &mut self.link {
            let (figures, stats) = (link.take_figures(), &self.stats.link);
            stats.gaps.add(figures.gaps);
            stats.healed.add(figures.healed);
            stats.repeated.add(figures.repeated);
            stats.lost.add(figures.lost);
            stats.ghosts.add(figures.ghosts);
        }
        let (figures, stats) = (self.home.take_figures(), &self.stats);
        if figures == Figures::default() {
            return;
        }
        stats.presence_updates.add(figures.presence.told);
        stats.presence_debounced.add(figures.presence.debounced);
        stats.presence_coalesced.add(figures.presence.coalesced);
        stats.presence_suppressed.add(figures.presence.suppressed);
        stats.marks.risen.add(figures.marks_risen);
        stats.marks.old.add(figures.marks_old);
        stats.marks.refused.add(figures.marks_refused);
        stats.marks.pushes.add(figures.mark_pushes);
        stats.ephemeral_throttled.add(figures.typing_throttled);
        stats.dropped_ephemeral.add(figures.typing_dropped);
    }
}
