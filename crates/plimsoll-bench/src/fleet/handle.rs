//! The handle of a fleet: orders go to its threads, figures come back.

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

/// A running fleet. Dropped without [`Fleet::finish`], it is cut off at once.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    shared: Arc<Shared>,
    round: AtomicU64,
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

#[derive(Debug)]
struct Member {
    orders: SyncSender<Order>,
    alarm: Arc<OwnedFd>,
    thread: Option<JoinHandle<Log>>,
}

impl Fleet {
    /// Starts the threads. Nobody connects before [`Fleet::apply`].
    ///
    /// # Errors
    ///
    /// The system gives no thread or descriptor.
    pub fn start(config: FleetConfig) -> io::Result<Self> {
        let threads = config.threads.clamp(1, limits::FLEET_THREADS_MAX);
        socket::raise_descriptor_limit();
        let shared = Arc::new(Shared::new(config, 0, threads));
        let mut made = Self { members: Vec::new(), shared, round: AtomicU64::new(0) };
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
        Ok(Member { orders, alarm, thread: Some(thread) })
    }

    /// What the fleet is to do from now on.
    pub fn apply(&self, load: &Load) {
        self.order(&Order::Apply(Arc::new(load.clone()), now_us()));
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
        self.order(&Order::Finish);
        let mut finished = Finished {
            counters: Counters::default(),
            logs: Vec::new(),
            probed: reports.iter().map(|report| report.probed).sum(),
            unreached: reports.iter().map(|report| report.unreached).sum(),
            examples: reports.into_iter().flat_map(|report| report.examples).collect(),
            broken_threads: 0,
        };
        for member in &mut self.members {
            match member.thread.take().map(JoinHandle::join) {
                Some(Ok(log)) => finished.logs.push(log),
                _ => finished.broken_threads += 1,
            }
        }
        for report in self.shared.reports(0, Duration::ZERO) {
            finished.counters.merge(&report.counters);
        }
        finished.counters.at_us = now_us();
        finished
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

    fn order(&self, order: &Order) {
        for member in &self.members {
            // A thread that is gone takes no orders; `finish` tells of it.
            if member.orders.send(order.clone()).is_ok() {
                // Full means that a wake is pending already.
                let _ = rustix::io::write(&*member.alarm, &1u64.to_ne_bytes());
            }
        }
    }

    /// Fresh reports of all threads, or the last ones of those that do not answer in time.
    fn reports(&self) -> Vec<Report> {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        self.order(&Order::Report(round));
        let patience = Duration::from_millis(limits::REPORT_MS_MAX);
        self.shared.reports(round, patience)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // A thread whose orders end cuts its connections and ends.
        for mut member in self.members.drain(..) {
            drop(member.orders);
            let _ = rustix::io::write(&*member.alarm, &1u64.to_ne_bytes());
            if let Some(thread) = member.thread.take() {
                let _ = thread.join();
            }
        }
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
