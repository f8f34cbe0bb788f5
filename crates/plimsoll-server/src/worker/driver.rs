//! The loop of a worker thread: epoll, accept, read, letters, deadlines, one flush per turn.

use super::core::{Core, Io, Shared};
use super::letter::Letter;
use super::mailbox::{Mailbox, Sleeper, Wake};
use super::sockets::Sockets;
use crate::node::Links;
use crate::telemetry::stats::WorkerStats;
use plimsoll_core::limits;
use plimsoll_core::model::Now;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LISTENER: u64 = u64::MAX;
const WAKER: u64 = u64::MAX - 1;
/// How long accepting pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines of the log that say so.
const PAUSE_TOLD: Duration = Duration::from_secs(10);
/// How long a stopping worker waits for its clients to say goodbye.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// An eventfd as an alarm clock for a worker.
pub struct EventFd(Arc<OwnedFd>);

impl Wake for EventFd {
    fn wake(&self) {
        // Full means that a wake is pending already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// What a worker thread is started with.
pub struct Setup {
    /// Which worker.
    pub id: u16,
    /// Its own listening socket (`SO_REUSEPORT`), non-blocking.
    pub listener: TcpListener,
    /// Shared, read-only.
    pub shared: Arc<Shared>,
    /// Its figures.
    pub stats: Arc<WorkerStats>,
    /// How it is woken.
    pub sleeper: Arc<Sleeper>,
    /// The descriptor behind `sleeper`.
    pub alarm: Arc<OwnedFd>,
    /// Boxes it reads: one for each worker, and the control runtime's.
    pub inbox: Vec<Arc<Mailbox<Letter>>>,
    /// Its boxes at the other workers, by worker.
    pub outbox: Vec<Arc<Mailbox<Letter>>>,
    /// Ways to the control runtime.
    pub links: Links,
    /// Zero of the monotonic clock.
    pub started: Instant,
}

/// Makes the alarm of a worker.
pub fn alarm() -> std::io::Result<(Arc<OwnedFd>, Arc<Sleeper>)> {
    let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let sleeper = Sleeper::new(Box::new(EventFd(Arc::clone(&fd))));
    Ok((fd, sleeper))
}

struct Driver {
    core: Core,
    sockets: Sockets,
    setup: Setup,
    buffer: Box<[u8]>,
    letters: Vec<Letter>,
    accept_again: Option<Instant>,
    pause_told: Option<Instant>,
    stop_by: Option<Instant>,
}

/// Runs a worker until the node stops.
pub fn run(setup: Setup) -> std::io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN;
    epoll::add(&epoll, setup.listener.as_fd(), epoll::EventData::new_u64(LISTENER), flags)?;
    epoll::add(&epoll, &*setup.alarm, epoll::EventData::new_u64(WAKER), flags)?;
    let seed = fastrand::u64(..);
    let now = clock(setup.started);
    let core = Core::new(setup.id, Arc::clone(&setup.shared), Arc::clone(&setup.stats), now, seed);
    let sockets =
        Sockets::new(setup.id, epoll, setup.outbox.clone(), setup.links.clone(), setup.started);
    let buffer = vec![0; limits::READ_BUFFER_BYTES].into_boxed_slice();
    let driver = Driver {
        core,
        sockets,
        setup,
        buffer,
        letters: Vec::new(),
        accept_again: None,
        pause_told: None,
        stop_by: None,
    };
    driver.run()
}

impl Driver {
    fn run(mut self) -> std::io::Result<()> {
        let mut events = Vec::with_capacity(limits::EVENTS_PER_TURN);
        let (mut waiting_letters, mut idle) = (false, true);
        loop {
            let timeout = self.timeout(waiting_letters);
            events.clear();
            match epoll::wait(&self.sockets.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            self.setup.sleeper.awake();
            let now = clock(self.setup.started);
            let micros = self.sockets.micros();
            self.setup.stats.lag.tick(micros);
            self.core.begin_turn(now, micros);
            for event in &events {
                self.on_event(event.data.u64(), event.flags);
            }
            self.read_letters();
            self.survive(|d| d.core.on_deadlines(&mut d.sockets));
            self.accept_after_pause();
            self.flush();
            self.core.end_turn(&mut self.sockets);
            waiting_letters = self.sockets.post_all();
            let was_idle = std::mem::replace(&mut idle, self.core.is_idle());
            if idle && !was_idle {
                self.core.rest();
                self.sockets.rest();
            }
            if self.is_over() {
                return Ok(());
            }
        }
    }

    /// How long the loop may sleep. Before a real sleep the letter boxes are looked at once
    /// more, with `asleep` set: whoever posts after that look wakes us.
    fn timeout(&mut self, waiting_letters: bool) -> Option<Timespec> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        if waiting_letters {
            // A full mailbox of another worker: try again in a moment, without spinning.
            return Some(Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
        }
        let mut wait_ms = self.core.wait_ms();
        if let Some(at) = self.accept_again {
            let left = at.saturating_duration_since(Instant::now());
            wait_ms = wait_ms.min(left.as_millis() as u64 + 1);
        }
        if self.stop_by.is_some() {
            wait_ms = wait_ms.min(20);
        }
        if self.core.is_idle() {
            // Nobody is there to be kept waiting.
            self.setup.stats.lag.rest();
        } else if let Some(due_us) = self.setup.stats.lag.due_us() {
            let left_us = due_us.saturating_sub(self.sockets.micros());
            wait_ms = wait_ms.min(left_us.div_ceil(1_000));
        }
        if wait_ms == 0 {
            return Some(NOW);
        }
        self.setup.sleeper.about_to_sleep();
        if !self.setup.inbox.iter().all(|b| b.is_empty()) {
            return Some(NOW);
        }
        (wait_ms != u64::MAX).then(|| Timespec {
            tv_sec: (wait_ms / 1_000) as i64,
            tv_nsec: (wait_ms % 1_000 * 1_000_000) as i64,
        })
    }

    fn on_event(&mut self, data: u64, flags: epoll::EventFlags) {
        match data {
            LISTENER => self.accept(),
            WAKER => {
                let mut count = [0u8; 8];
                let _ = rustix::io::read(&*self.setup.alarm, &mut count);
            }
            _ => {
                let (slot, generation) = (data as u32, (data >> 32) as u32);
                if self.sockets.is_current(slot, generation) {
                    self.guarded(slot, |d| d.on_socket(slot, generation, flags));
                }
            }
        }
        self.flush_if_much();
    }

    fn flush_if_much(&mut self) {
        if self.core.wants_flush() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.survive(|d| d.core.flush(&mut d.sockets)) {
            self.survive(|d| d.core.abandon(&mut d.sockets));
        }
    }

    fn on_socket(&mut self, slot: u32, generation: u32, flags: epoll::EventFlags) {
        use epoll::EventFlags as F;
        if flags.contains(F::OUT) {
            self.core.on_writable(slot, &mut self.sockets);
        }
        if flags.intersects(F::IN | F::HUP | F::ERR) && self.sockets.is_current(slot, generation) {
            match self.sockets.receive(slot, &mut self.buffer) {
                Ok(0) => self.core.on_hangup(slot, false, &mut self.sockets),
                Ok(n) => {
                    if let Some(bytes) = self.buffer.get_mut(..n) {
                        self.core.on_bytes(slot, bytes, &mut self.sockets);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.core.on_hangup(slot, true, &mut self.sockets),
            }
        }
    }

    /// A panic ends the connection that caused it and nothing else.
    fn guarded(&mut self, slot: u32, run: impl FnOnce(&mut Self)) {
        if !self.survive(run) {
            self.survive(|d| d.core.on_hangup(slot, true, &mut d.sockets));
        }
    }

    /// A panic is counted and logged, and the worker lives on. False when there was one.
    fn survive(&mut self, run: impl FnOnce(&mut Self)) -> bool {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(self)));
        if outcome.is_err() {
            self.setup.stats.panics.add(1);
            tracing::error!(worker = self.setup.id, "a panic was caught");
        }
        outcome.is_ok()
    }

    fn accept(&mut self) {
        for _ in 0..limits::ACCEPTS_PER_TURN {
            if !self.sockets.reserve() {
                return self.pause_accept();
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let accepted = accept_with(&self.setup.listener, flags);
            if accepted.is_err() {
                self.sockets.unreserve();
            }
            match accepted {
                Ok(fd) => {
                    let (slot, generation) = self.core.on_accept();
                    if self.sockets.adopt(slot, generation, fd).is_err() {
                        self.core.on_hangup(slot, true, &mut self.sockets);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.pause_accept();
                }
                // The peer gave up before we came, or the like: go on with the next.
                Err(_) => {}
            }
        }
    }

    /// No descriptor left for clients: looking at the listener again at once would spin. Who comes
    /// meanwhile waits in the kernel's queue.
    fn pause_accept(&mut self) {
        let now = Instant::now();
        self.setup.stats.accept_pauses.add(1);
        if self.pause_told.is_none_or(|told| now.duration_since(told) >= PAUSE_TOLD) {
            self.pause_told = Some(now);
            tracing::warn!(worker = self.setup.id, "no file descriptor left: accepting pauses");
        }
        let _ = epoll::delete(&self.sockets.epoll, self.setup.listener.as_fd());
        self.accept_again = Some(now + ACCEPT_PAUSE);
    }

    fn accept_after_pause(&mut self) {
        if self.accept_again.is_some_and(|at| at <= Instant::now()) {
            self.accept_again = None;
            let data = epoll::EventData::new_u64(LISTENER);
            let listener = self.setup.listener.as_fd();
            let _ = epoll::add(&self.sockets.epoll, listener, data, epoll::EventFlags::IN);
        }
    }

    fn read_letters(&mut self) {
        for i in 0..self.setup.inbox.len() {
            let mut letters = std::mem::take(&mut self.letters);
            if let Some(inbox) = self.setup.inbox.get(i) {
                inbox.take(&mut letters);
            }
            for letter in letters.drain(..) {
                // No connection is to blame for a panic here.
                self.survive(|d| d.core.on_letter(letter, &mut d.sockets));
                self.flush_if_much();
            }
            self.letters = letters;
        }
        if self.letters.capacity() > limits::PUBLICATIONS_PER_TURN {
            self.letters = Vec::new();
        }
        self.setup.stats.log_lines_suppressed.set(self.sockets.suppressed_lines());
    }

    fn is_over(&mut self) -> bool {
        // Not before the order to stop was read: whoever gave it waits for the report.
        if !self.core.is_stopping() {
            return false;
        }
        let by = *self.stop_by.get_or_insert_with(|| Instant::now() + STOP_PATIENCE);
        self.core.is_idle() || by <= Instant::now()
    }
}

fn clock(started: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: started.elapsed().as_millis() as u64, unix_ms: unix.as_millis() as u64 }
}
