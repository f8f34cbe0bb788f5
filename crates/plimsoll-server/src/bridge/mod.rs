//! Between the workers and the backbone: a thread of its own, which takes what the homes of
//! channels ask, and hands them what the backbone delivers.
//!
//! Nothing here waits for a socket of a client, and nothing waits for one slow call: publications
//! go out in batches, in order, several on their way; openings and readings in batches of their
//! own; questions of clients each for itself.

mod figures;
mod inlet;
mod open;
mod post;
mod presence;
mod publish;
mod query;
mod wire;

pub use figures::{BridgeFigures, GARBAGE, PUBLISH_MS};
pub use inlet::Inlet;
pub use post::Post;
pub use wire::Wire;

use crate::node::Tickets;
use crate::worker::letter::{Letter, Report};
use crate::worker::mailbox::{Mailbox, Sleeper, Wake};
use open::Jobs;
use plimsoll_backbone::{Backbone, Later};
use plimsoll_core::channel::Channels;
use plimsoll_core::home::Answer;
use plimsoll_core::limits;
use plimsoll_core::link::{Asker, Call};
use plimsoll_core::model::ConnKey;
use plimsoll_overload::breaker::{self, Breaker};
use plimsoll_overload::signals::BackboneState;
use presence::Presence;
use publish::Publishing;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Wakes the bridge.
pub struct Bell(pub Arc<Notify>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// The boxes in which workers leave what they ask.
pub struct CallBoxes {
    /// One for each worker.
    pub boxes: Vec<Arc<Mailbox<Call>>>,
    /// Whether the bridge may sleep.
    pub sleeper: Arc<Sleeper>,
    /// What wakes it.
    pub bell: Arc<Notify>,
}

impl CallBoxes {
    /// Empty ones.
    pub fn new(workers: usize) -> Self {
        let bell = Arc::<Notify>::default();
        let sleeper = Sleeper::new(Box::new(Bell(Arc::clone(&bell))));
        let one = |_| Arc::new(Mailbox::new(limits::BACKBONE_CALLS_MAX, Arc::clone(&sleeper)));
        Self { boxes: (0..workers).map(one).collect(), sleeper, bell }
    }
}

/// What a bridge is made of.
pub struct Parts {
    /// The adapter.
    pub backbone: Arc<dyn Backbone>,
    /// Where its events arrive.
    pub inlet: Arc<Inlet>,
    /// Names of channels.
    pub channels: Arc<Channels>,
    /// Callers that wait.
    pub tickets: Arc<Tickets>,
    /// Publications read when a channel is opened: as many as one recovery may have.
    pub recovery_limit: usize,
    /// Publications of one page of history at most.
    pub history_limit: usize,
    /// Zero of the monotonic clock.
    pub started: Instant,
    /// Wakes the bridge's loop.
    pub bell: Arc<Notify>,
}

/// The bridge, as its tasks share it.
pub struct Bridge {
    /// The adapter.
    pub backbone: Arc<dyn Backbone>,
    /// Where its events arrive.
    pub inlet: Arc<Inlet>,
    /// What happened.
    pub figures: Arc<BridgeFigures>,
    wire: Wire,
    post: Arc<Post>,
    channels: Arc<Channels>,
    tickets: Arc<Tickets>,
    recovery_limit: usize,
    history_limit: usize,
    started: Instant,
    bell: Arc<Notify>,
    breaker: Mutex<Breaker>,
    /// Batches of publications on their way.
    batches: AtomicUsize,
    /// Batches of openings and readings on their way.
    jobs: AtomicUsize,
    /// Questions on their way.
    queries: AtomicUsize,
    /// Nodes that members are said to be on.
    spoken_of: Mutex<HashSet<u64>>,
    stopping: AtomicBool,
}

impl Bridge {
    /// Between the workers and an adapter that is connected.
    pub fn new(parts: Parts) -> Arc<Self> {
        let inlet = parts.inlet;
        Arc::new(Self {
            backbone: parts.backbone,
            figures: Arc::clone(&inlet.figures),
            wire: inlet.wire.clone(),
            post: Arc::clone(&inlet.post),
            inlet,
            channels: parts.channels,
            tickets: parts.tickets,
            recovery_limit: parts.recovery_limit,
            history_limit: parts.history_limit,
            started: parts.started,
            bell: parts.bell,
            breaker: Mutex::new(Breaker::new(breaker::Config {
                open_ms: 500,
                open_ms_max: 5_000,
                probe_timeout_ms: limits::BACKBONE_CALL_MS,
                ..breaker::Config::default()
            })),
            batches: AtomicUsize::new(0),
            jobs: AtomicUsize::new(0),
            queries: AtomicUsize::new(0),
            spoken_of: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// How the backbone does: down while a link is missing or publications are not even tried.
    pub fn state(&self) -> BackboneState {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).state();
        match breaker {
            _ if !self.inlet.is_up() => BackboneState::Down,
            breaker::State::Open => BackboneState::Down,
            breaker::State::HalfOpen => BackboneState::Probing,
            breaker::State::Closed => BackboneState::Up,
        }
    }

    /// How the backbone does, and publications by latency since the start.
    pub fn pulse(&self) -> (BackboneState, [u64; PUBLISH_MS.len() + 1]) {
        let mut counts = [0; PUBLISH_MS.len() + 1];
        for (to, n) in counts.iter_mut().zip(self.figures.publish_ms.counts()) {
            *to = n;
        }
        (self.state(), counts)
    }

    /// A real round trip through the backbone.
    pub async fn probe(&self) -> bool {
        let patience = Duration::from_millis(limits::BACKBONE_CALL_MS);
        matches!(tokio::time::timeout(patience, self.backbone.probe()).await, Ok(Ok(())))
    }

    /// Ends [`Bridge::run`] once nothing is left to do, or after a moment.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// Serves the workers until the node stops.
    pub async fn run(self: Arc<Self>, calls: CallBoxes) {
        let mut work = Work::default();
        let mut taken = Vec::new();
        let mut stop_by: Option<Instant> = None;
        loop {
            for mailbox in &calls.boxes {
                mailbox.take(&mut taken);
                for call in taken.drain(..) {
                    self.sort(call, &mut work).await;
                }
            }
            self.start_jobs(&mut work.jobs).await;
            self.start_presence(&mut work.presence);
            self.start_publishing(&mut work.publishing).await;
            let waits = self.post.flush();
            if self.stopping.load(Ordering::Relaxed) {
                let by = *stop_by.get_or_insert_with(|| Instant::now() + STOP_PATIENCE);
                let idle = work.is_idle() && self.is_idle();
                if idle || by <= Instant::now() {
                    return;
                }
            }
            let pause = match (waits, work.is_idle()) {
                // A mailbox is full: again in a moment.
                (true, _) => Duration::from_millis(1),
                // Something may have waited too long.
                (false, false) => Duration::from_millis(20),
                (false, true) => Duration::from_secs(1),
            };
            calls.sleeper.about_to_sleep();
            if calls.boxes.iter().all(|b| b.is_empty()) {
                let _ = tokio::time::timeout(pause, self.bell.notified()).await;
            }
            calls.sleeper.awake();
        }
    }

    fn is_idle(&self) -> bool {
        let counts = [&self.batches, &self.jobs, &self.queries];
        counts.iter().all(|n| n.load(Ordering::Relaxed) == 0)
    }

    async fn sort(self: &Arc<Self>, call: Call, work: &mut Work) {
        match call {
            Call::Publish { asker, channel, request } => {
                self.queue_publication(&mut work.publishing, asker, channel, request);
            }
            Call::Mark { channel, request } => {
                self.queue_mark(&mut work.publishing, channel, &request);
            }
            Call::Member { channel, info, here, announce } => {
                self.queue_member(&mut work.presence, channel, &info, here, announce);
            }
            Call::Forget { channel, client, node } => {
                self.queue_forget(&mut work.presence, channel, client, node);
            }
            Call::Open { channel } => self.queue_open(&mut work.jobs, channel),
            Call::Read { channel, since } => self.queue_read(&mut work.jobs, channel, since),
            Call::Close { channel } => {
                self.figures.closes.add(1);
                self.spawn(self.backbone.unsubscribe(vec![channel]), |_, ()| {}).await;
            }
            Call::Roster { channel } => self.queue_roster(&mut work.jobs, channel),
            Call::Presence { .. }
            | Call::Stats { .. }
            | Call::History { .. }
            | Call::Clear { .. } => self.query(call),
        }
    }

    /// Begins a call now, so that it is in order with others, and ends it in a task.
    async fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        later: Later<T>,
        end: impl FnOnce(&Arc<Self>, T) + Send + 'static,
    ) {
        let bridge = Arc::clone(self);
        match begin(later).await {
            Ok(done) => end(&bridge, done),
            Err(later) => {
                tokio::spawn(async move {
                    end(&bridge, later.await);
                    bridge.bell.notify_one();
                });
            }
        }
    }

    /// Answers who asked.
    fn answer(&self, asker: Asker, channel: Arc<str>, answer: Answer) {
        match asker {
            Asker::Session { conn: ConnKey { generation: 0, .. }, .. } => {}
            Asker::Session { worker, conn, id } => {
                self.post.put(worker, Letter::Answer { conn, id, channel, answer });
            }
            Asker::Caller { ticket } => self.tickets.answer(ticket, Report::Home(answer)),
        }
    }

    fn mono_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// How long a stopping bridge goes on with what is left.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What waits to be done.
#[derive(Default)]
struct Work {
    publishing: Publishing,
    presence: Presence,
    jobs: Jobs,
}

impl Work {
    fn is_idle(&self) -> bool {
        self.publishing.is_empty() && self.presence.is_empty() && self.jobs.is_empty()
    }
}

/// Polls once. The adapter does things in the order in which they are first polled.
async fn begin<T>(mut later: Later<T>) -> Result<T, Later<T>> {
    let first = std::future::poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx))).await;
    match first {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => Err(later),
    }
}

/// Unix milliseconds.
pub fn unix_ms() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    unix.as_millis() as u64
}
