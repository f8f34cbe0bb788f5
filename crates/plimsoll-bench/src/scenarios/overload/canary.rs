//! One client among the others that publishes at a steady pace, whether it is answered or not, and
//! looks how long the answers take.

use super::super::history::token;
use super::super::line::{Line, Sender};
use crate::clock::now_us;
use crate::fleet::Target;
use crate::limits;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two of its publications.
const PACE_US: u64 = 50_000;
/// Its own room: nobody else is in it.
const ROOM: &str = "room:canary";
/// The first of its publications; smaller ids are those of its beginning.
const FIRST_ID: u64 = 10;

/// What it heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Intended time of a publication to its reply, be it a refusal, in microseconds.
    pub reply_us: Histogram<u64>,
    /// Notices of the load.
    pub notices: u64,
    /// Why it heard no more.
    pub broke: Option<String>,
}

impl Heard {
    pub(super) fn new(reply_us: Histogram<u64>) -> Self {
        Self { reply_us, notices: 0, broke: None }
    }
}

/// The client, with a thread that publishes and one that listens.
pub struct Canary {
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Canary {
    /// Connects and begins.
    pub fn start(target: &Target, secret: Option<&str>) -> Result<Self, String> {
        let mut line = Line::open(target)?;
        let connect = match secret {
            Some(secret) => json!({ "token": token(secret)? }),
            None => json!({}),
        };
        line.send(&json!({ "id": 1, "connect": connect }).to_string())?;
        while id_of(&line.next()?) != Some(1) {}
        let histogram = Histogram::new(limits::LATENCY_DIGITS).map_err(|e| e.to_string())?;
        let heard = Arc::new(Mutex::new(Heard::new(histogram)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut sender = line.sender()?;
        let begin_us = now_us();
        let over = Arc::clone(&stop);
        let publishes = thread::spawn(move || publish(&mut sender, begin_us, &over));
        let (theirs, over) = (Arc::clone(&heard), Arc::clone(&stop));
        let listens = thread::spawn(move || {
            if let Err(why) = listen(&mut line, begin_us, &theirs, &over) {
                lock(&theirs).broke = Some(why);
            }
        });
        Ok(Self { heard, stop, threads: vec![publishes, listens] })
    }

    /// Nothing was heard yet.
    pub fn forget(&self) {
        let mut heard = lock(&self.heard);
        let mut empty = Heard::new(heard.reply_us.clone());
        empty.reply_us.reset();
        *heard = empty;
    }

    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        lock(&self.heard).clone()
    }

    /// Ends it.
    pub fn stop(&mut self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.heard()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn due_us(begin_us: u64, id: u64) -> u64 {
    begin_us + (id - FIRST_ID) * PACE_US
}

fn publish(sender: &mut Sender, begin_us: u64, stop: &AtomicBool) {
    for id in FIRST_ID.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let wait_us = due_us(begin_us, id).saturating_sub(now_us());
        thread::sleep(Duration::from_micros(wait_us));
        let publish = json!({ "id": id, "publish": { "channel": ROOM, "data": { "n": id } } });
        // Why the connection broke, the listener says.
        if sender.send(&publish.to_string()).is_err() {
            return;
        }
    }
}

/// Reads until it is to stop: replies come all the time, so that it does not wait long.
fn listen(
    line: &mut Line,
    begin_us: u64,
    heard: &Mutex<Heard>,
    stop: &AtomicBool,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let text = line.next()?;
        if text == "{}" {
            line.send("{}")?;
            continue;
        }
        let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let mut heard = lock(heard);
        if value["push"]["message"]["data"]["plimsoll"]["type"] == "load" {
            heard.notices += 1;
        }
        if let Some(id) = value["id"].as_u64().filter(|id| *id >= FIRST_ID) {
            let took_us = now_us().saturating_sub(due_us(begin_us, id));
            // It grows by itself: nothing is too long for it.
            let _ = heard.reply_us.record(took_us.max(1));
        }
    }
    Ok(())
}

fn id_of(text: &str) -> Option<u64> {
    serde_json::from_str::<Value>(text).ok()?.get("id")?.as_u64()
}
