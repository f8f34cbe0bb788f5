//! What the node says of itself meanwhile: level and memory, four times a second.

use crate::scrape::Endpoint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PACE: Duration = Duration::from_millis(250);

/// What was seen since the last [`NodeWatch::forget`].
#[derive(Clone, Debug)]
pub struct Seen {
    since: Instant,
    /// The level at the last look; none: no look yet, or no answer.
    pub level: Option<u32>,
    /// The highest level.
    pub level_max: u32,
    /// From the start until it first was above 0.
    pub until_level: Option<Duration>,
    /// Most bytes in memory.
    pub rss_bytes_max: u64,
    /// Looks that were not answered.
    pub unanswered: u64,
}

impl Seen {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            level: None,
            level_max: 0,
            until_level: None,
            rss_bytes_max: 0,
            unanswered: 0,
        }
    }
}

/// Looks on a thread of its own, until it is dropped.
pub struct NodeWatch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NodeWatch {
    /// Begins to look.
    pub fn start(metrics: Endpoint) -> Self {
        let seen = Arc::new(Mutex::new(Seen::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, over) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                look(&metrics, &theirs);
                thread::sleep(PACE);
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Nothing was seen yet.
    pub fn forget(&self) {
        *lock(&self.seen) = Seen::new();
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// The level at the last look.
    pub fn level_now(&self) -> Option<u32> {
        lock(&self.seen).level
    }
}

impl Drop for NodeWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look(endpoint: &Endpoint, seen: &Mutex<Seen>) {
    let answer = endpoint.read();
    let mut seen = lock(seen);
    let Ok(metrics) = answer else {
        seen.unanswered += 1;
        seen.level = None;
        return;
    };
    let level = metrics.get("plimsoll_load_level").map(|level| level as u32);
    seen.level = level;
    seen.level_max = seen.level_max.max(level.unwrap_or_default());
    if level > Some(0) && seen.until_level.is_none() {
        seen.until_level = Some(seen.since.elapsed());
    }
    let rss = metrics.count("process_resident_memory_bytes").unwrap_or_default();
    seen.rss_bytes_max = seen.rss_bytes_max.max(rss);
}
