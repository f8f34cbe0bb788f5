//! The handle of a fleet: orders go to its threads, figures come back.

use super::remote::{self, Process};
use super::shared::Shared;
use super::thread::Thread;
use super::{Counters, FleetConfig, Load, socket};
use crate::clock::now_us;
use crate::ledger::Log;
use crate::limits;
use crate::topology::{ChannelId, ClientId};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running fleet. Dropped without [`Fleet::finish`], it is cut off at once.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    shared: Arc<Shared>,
    round: AtomicU64,
    /// Files of the processes, while there are any.
    folder: Option<TempDir>,
}

/// How long the end of a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// For answers that are out, and for clients that are on their way back.
    pub answers: Duration,
    /// For a publication into every channel with history to reach its subscribers (C10); only
    /// with books kept. Zero: it is not tried.
    pub heal: Duration,
}

impl Default for Settle {
    fn default() -> Self {
        Self { answers: Duration::from_secs(5), heal: Duration::from_secs(10) }
    }
}

/// What a fleet leaves behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Everything from start to end.
    pub counters: Counters,
    /// When it was settled; the connections that end later, the fleet itself has ended.
    pub settled_us: u64,
    /// The books, one of each thread; empty ones unless they were kept.
    pub logs: Vec<Log>,
    /// Subscriptions that the last publication of their channel should have reached (C10).
    pub probed: u64,
    /// Those of them that it did not reach in time.
    pub unreached: u64,
    /// Some of the unreached ones.
    pub examples: Vec<(ClientId, ChannelId)>,
    /// Threads that ended before their time, by a fault of the generator: the run is void.
    pub broken_threads: usize,
}

/// What a thread says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// The reading it answers.
    pub round: u64,
    pub counters: Counters,
    /// Commands without an answer, and clients on their way.
    pub pending: u64,
    /// Subscriptions that wait for a last publication.
    pub unreached: u64,
    pub probed: u64,
    pub examples: Vec<(ClientId, ChannelId)>,
    /// It ended.
    pub over: bool,
}

/// What a thread is told.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Do this from now on; given at this time.
    Apply(Arc<Load>, u64),
    /// Publish no more, cut no more; clients on their way come in.
    Quiet,
    /// Cut every connection.
    DropAll,
    /// Say how things stand.
    Report(u64),
    /// Publish into every channel with history, and watch it arrive.
    Probe,
    /// Close everything, properly, and end.
    Finish,
}

/// A part of the fleet.
#[derive(Debug)]
enum Member {
    /// A thread of this process.
    Thread { orders: SyncSender<Order>, alarm: Arc<OwnedFd>, thread: Option<JoinHandle<Log>> },
    /// Another process.
    Process(Process),
}

impl Fleet {
    /// Starts the threads or processes. Nobody connects before [`Fleet::apply`].
    ///
    /// With several processes this program is started again as `bench agent` (see [`agent`]).
    ///
    /// [`agent`]: super::agent
    ///
    /// # Errors
    ///
    /// The system gives no thread, process or descriptor.
    pub fn start(config: FleetConfig) -> io::Result<Self> {
        if config.processes <= 1 {
            return Self::start_part(config, 0);
        }
        let processes = config.processes.min(limits::FLEET_PROCESSES_MAX);
        let config = FleetConfig { processes, ..config };
        let folder = tempfile::tempdir()?;
        remote::write_topology(&config, folder.path())?;
        let shared = Arc::new(Shared::new(config.clone(), 0, processes));
        let mut members = Vec::new();
        for process in 0..processes as u32 {
            let started = Process::start(&config, process, folder.path(), Arc::clone(&shared))?;
            members.push(Member::Process(started));
        }
        Ok(Self { members, shared, round: AtomicU64::new(0), folder: Some(folder) })
    }

    /// Starts the threads of one process of the fleet.
    pub(super) fn start_part(config: FleetConfig, process: u32) -> io::Result<Self> {
        let threads = config.threads.clamp(1, limits::FLEET_THREADS_MAX);
        socket::raise_descriptor_limit();
        let config = FleetConfig { threads, ..config };
        let shared = Arc::new(Shared::new(config, process, threads));
        let mut made = Self { members: Vec::new(), shared, round: AtomicU64::new(0), folder: None };
        for at in 0..threads {
            let member = made.member(at)?;
            made.members.push(member);
        }
        Ok(made)
    }

    fn member(&self, at: usize) -> io::Result<Member> {
        let alarm = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (orders, inbox): (_, Receiver<Order>) = sync_channel(limits::FLEET_ORDERS_MAX);
        let thread = Thread::new(at, Arc::clone(&self.shared), inbox, Arc::clone(&alarm))?;
        let builder = std::thread::Builder::new().name(format!("fleet-{at}"));
        let guard = Guard { at, shared: Arc::clone(&self.shared) };
        let thread = builder.spawn(move || {
            let _guard = guard;
            thread.run()
        })?;
        Ok(Member::Thread { orders, alarm, thread: Some(thread) })
    }

    /// From now on the threads look for work all the time instead of sleeping.
    ///
    /// For measuring a server on the same machine: it then never pays for waking a sleeper, which
    /// no server does whose clients are elsewhere. Each thread takes a core, but
    /// [`Counters::cpu_us`] leaves out what was spent on looking in vain.
    pub fn stay_awake(&self) {
        self.shared.stay_awake(true);
        for member in &self.members {
            if let Member::Process(process) = member {
                process.stay_awake();
            }
        }
        // Those that sleep just now have to hear of it.
        let _ = self.counters();
    }

    /// What the fleet is to do from now on.
    pub fn apply(&self, load: &Load) {
        self.order_load(load.clone(), now_us());
    }

    /// The same, given at a time.
    pub(super) fn order_load(&self, load: Load, at_us: u64) {
        self.shared.expect_elsewhere(load.clients);
        self.order(&Order::Apply(Arc::new(load), at_us));
    }

    /// Cuts every connection at once, without a close frame. They come back by their profile.
    pub fn drop_all(&self) {
        self.order(&Order::DropAll);
    }

    /// What happened until now.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters { at_us: now_us(), ..Counters::default() };
        for report in self.reports() {
            sum.merge(&report.counters);
        }
        sum
    }

    /// Looks at the counters until the condition holds; `false` if it does not in time.
    pub fn wait(&self, patience: Duration, until: &mut dyn FnMut(&Counters) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if until(&self.counters()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(Duration::from_millis(limits::LOOK_MS)));
        }
    }

    /// [`Fleet::finish_within`] the usual times.
    pub fn finish(self) -> Finished {
        self.finish_within(Settle::default())
    }

    /// Publishes no more, waits for what is out, has a last publication reach everyone, closes
    /// all connections and returns the books. What is unanswered by then is unknown.
    pub fn finish_within(mut self, settle: Settle) -> Finished {
        self.order(&Order::Quiet);
        self.settle(settle.answers, |report| report.pending == 0);
        if self.shared.config.ledger && !settle.heal.is_zero() {
            self.order(&Order::Probe);
            self.settle(settle.heal, |report| report.unreached == 0);
        }
        let reports = self.reports();
        let mut finished = Finished {
            counters: Counters::default(),
            settled_us: now_us(),
            logs: Vec::new(),
            probed: reports.iter().map(|report| report.probed).sum(),
            unreached: reports.iter().map(|report| report.unreached).sum(),
            examples: reports.into_iter().flat_map(|report| report.examples).collect(),
            broken_threads: 0,
        };
        (finished.logs, finished.broken_threads) = self.end();
        finished.counters = self.last_report().counters;
        finished.counters.at_us = now_us();
        finished
    }

    /// Has everyone leave: the books, and how many threads broke.
    pub(super) fn end(&mut self) -> (Vec<Log>, usize) {
        self.order(&Order::Finish);
        let (mut logs, mut broken) = (Vec::new(), 0);
        for member in &mut self.members {
            match member {
                Member::Thread { thread, .. } => match thread.take().map(JoinHandle::join) {
                    Some(Ok(log)) => logs.push(log),
                    _ => broken += 1,
                },
                Member::Process(process) => match process.end() {
                    Some((more, broken_there)) => {
                        logs.extend(more);
                        broken += broken_there;
                    }
                    None => broken += self.shared.config.threads,
                },
            }
        }
        (logs, broken)
    }

    /// What was said last, of all members together.
    pub(super) fn last_report(&self) -> Report {
        Report::sum(u64::MAX, self.shared.reports(0, Duration::ZERO))
    }

    /// Fresh figures of all members together.
    pub(super) fn report(&self, round: u64) -> Report {
        Report::sum(round, self.reports())
    }

    fn settle(&self, patience: Duration, done: impl Fn(&Report) -> bool) {
        let deadline = Instant::now() + patience;
        while !self.reports().iter().all(|report| report.over || done(report)) {
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(limits::LOOK_MS));
        }
    }

    pub(super) fn order(&self, order: &Order) {
        for member in &self.members {
            match member {
                Member::Process(process) => process.order(order),
                // A thread that is gone takes no orders; `finish` tells of it.
                Member::Thread { orders, alarm, .. } if orders.send(order.clone()).is_ok() => {
                    // Full means that a wake is pending already.
                    let _ = rustix::io::write(alarm, &1u64.to_ne_bytes());
                }
                Member::Thread { .. } => {}
            }
        }
    }

    /// Fresh reports of all threads, or the last ones of those that do not answer in time.
    fn reports(&self) -> Vec<Report> {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        self.order(&Order::Report(round));
        // A process waits for its threads first.
        let steps = if self.folder.is_some() { 3 } else { 1 };
        let patience = Duration::from_millis(steps * limits::REPORT_MS_MAX);
        self.shared.reports(round, patience)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // A thread whose orders end cuts its connections and ends.
        for member in self.members.drain(..) {
            let Member::Thread { orders, alarm, thread } = member else { continue };
            drop(orders);
            let _ = rustix::io::write(&*alarm, &1u64.to_ne_bytes());
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }
}

impl Report {
    /// What several members say, as one.
    fn sum(round: u64, all: Vec<Self>) -> Self {
        let mut sum = Self { round, ..Self::default() };
        for report in all {
            sum.counters.merge(&report.counters);
            sum.pending += report.pending;
            sum.unreached += report.unreached;
            sum.probed += report.probed;
            sum.examples.extend(report.examples);
        }
        sum.examples.truncate(limits::EXAMPLES_MAX);
        sum
    }
}

/// Says that its thread is over, however it ended.
struct Guard {
    at: usize,
    shared: Arc<Shared>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.tell_end(self.at);
    }
}
