//! Ordinary clients that must not notice what happens to others.
//!
//! Fifty subscribers in five channels, and a publisher that never stops. Each publication is
//! numbered, dated and checked; none may be lost, doubled, changed or late, and nobody closed.

use crate::client::{Client, Event, PATIENCE};
use crate::wait::{self, Pace};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Subscribers.
pub const CANARIES: usize = 50;
const CHANNELS: usize = 5;
/// Between two publications; the channels take turns.
const EVERY: Duration = Duration::from_millis(10);
/// No delivery may take longer.
const LATE: Duration = Duration::from_secs(1);
/// Publications that each canary must have had, or nothing was shown.
const SEEN_MIN: u64 = 25;

/// The namespace the canaries live in; a test's configuration has to hold it.
pub const NAMESPACE: &str = "\n[[channel.namespaces]]\nname = \"canary\"\nhistory_size = 100\n\
    history_ttl = \"60s\"\nforce_recovery = true\nallow_subscribe_for_client = true\n\
    allow_subscribe_for_anonymous = true\nallow_publish_for_client = true\n\
    allow_publish_for_anonymous = true\n";

/// Running canaries.
pub struct Canaries {
    shared: Arc<Shared>,
    publisher: Option<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
}

/// What canaries saw.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Publications received by all canaries together.
    pub deliveries: u64,
    /// The longest way of a publication.
    pub slowest: Duration,
}

struct Shared {
    start: Instant,
    quit: AtomicBool,
    published: Vec<AtomicU64>,
    seen: Vec<AtomicU64>,
    slowest_us: AtomicU64,
    /// The longest that a thread of this process was held up: not the server's doing.
    held_up_us: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

impl Shared {
    fn complain(&self, text: String) {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Canaries {
    /// Connects all and starts publishing. `token` is for servers that ask for one.
    pub fn start(address: SocketAddr, token: Option<&str>) -> Self {
        let numbers = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let shared = Arc::new(Shared {
            start: Instant::now(),
            quit: AtomicBool::new(false),
            published: numbers(CHANNELS),
            seen: numbers(CANARIES),
            slowest_us: AtomicU64::new(0),
            held_up_us: AtomicU64::new(0),
            complaints: Mutex::new(Vec::new()),
        });
        let params = token.map_or_else(|| json!({}), |t| json!({ "token": t }));
        let connect = || Client::connect(address, &params).unwrap_or_else(|e| panic!("{e}"));
        let subscribers = (0..CANARIES).map(|index| {
            let mut client = connect();
            client.subscribe(&channel(index));
            let shared = Arc::clone(&shared);
            thread::spawn(move || listen(index, client, &shared))
        });
        let subscribers = subscribers.collect();
        let (client, shared_too) = (connect(), Arc::clone(&shared));
        let publisher = Some(thread::spawn(move || publish(client, &shared_too)));
        Self { shared, publisher, subscribers }
    }

    /// Lets the publisher go on until enough was seen, stops it, and judges.
    pub fn finish(mut self) -> Report {
        let shared = Arc::clone(&self.shared);
        let seen_by_all = |wanted: &dyn Fn(usize) -> u64| {
            (0..CANARIES).all(|i| shared.seen[i].load(Ordering::Acquire) >= wanted(i))
        };
        // What was published before now does not count: canaries must also live on.
        let before: Vec<u64> = numbers_of(&shared.seen);
        let enough = wait::until(PATIENCE, || seen_by_all(&|i| before[i] + SEEN_MIN));
        shared.quit.store(true, Ordering::Release);
        if let Some(publisher) = self.publisher.take() {
            publisher.join().expect("the canaries' publisher did not panic");
        }
        let total: Vec<u64> = numbers_of(&shared.published);
        let all = wait::until(PATIENCE, || seen_by_all(&|i| total[i % CHANNELS]));
        for subscriber in self.subscribers.drain(..) {
            subscriber.join().expect("a canary did not panic");
        }
        let complaints = shared.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(complaints.is_empty(), "canaries: {} faults: {complaints:#?}", complaints.len());
        assert!(enough, "void: a canary saw fewer than {SEEN_MIN} publications at the end");
        assert!(all, "canaries lost the last publications: {total:?} {:?}", shared.seen);
        let slowest = Duration::from_micros(shared.slowest_us.load(Ordering::Acquire));
        let held_up = Duration::from_micros(shared.held_up_us.load(Ordering::Acquire));
        assert!(
            slowest <= LATE + held_up,
            "a canary waited {slowest:?} (this process itself was held up by {held_up:?})"
        );
        Report { deliveries: numbers_of(&shared.seen).iter().sum(), slowest }
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
    }
}

fn numbers_of(counters: &[AtomicU64]) -> Vec<u64> {
    counters.iter().map(|c| c.load(Ordering::Acquire)).collect()
}

fn channel(index: usize) -> String {
    format!("canary:{}", index % CHANNELS)
}

fn publish(mut client: Client, shared: &Shared) {
    let mut pace = Pace::new(EVERY);
    let mut turn = 0;
    while !shared.quit.load(Ordering::Acquire) {
        let due = shared.micros();
        pace.turn();
        // A sleep of at most EVERY that took longer shows what the machine does to us.
        let overslept =
            (shared.micros() - due).saturating_sub(u64::try_from(EVERY.as_micros()).unwrap_or(0));
        shared.held_up_us.fetch_max(overslept, Ordering::AcqRel);
        let number = shared.published[turn % CHANNELS].load(Ordering::Acquire) + 1;
        let data = json!({ "n": number, "at": shared.micros(), "check": check(number) });
        let asked = Instant::now();
        let reply = client.call("publish", &json!({ "channel": channel(turn), "data": data }));
        match reply {
            Ok(reply) if reply.get("publish").is_some() => {
                shared.published[turn % CHANNELS].store(number, Ordering::Release);
            }
            other => {
                let waited = asked.elapsed();
                return shared.complain(format!("publisher: {other:?} after {waited:?}"));
            }
        }
        turn += 1;
    }
}

fn listen(index: usize, mut client: Client, shared: &Shared) {
    let mut seen = 0;
    loop {
        let total = shared.published[index % CHANNELS].load(Ordering::Acquire);
        if shared.quit.load(Ordering::Acquire) && seen >= total {
            return;
        }
        let line = match client.next_line(Duration::from_millis(200)) {
            Event::Line(line) => line,
            Event::Closed(code) => {
                return shared.complain(format!("canary {index} was closed with {code:?}"));
            }
            Event::Silence if shared.quit.load(Ordering::Acquire) => return,
            Event::Silence => continue,
        };
        if let Err(fault) = judge(&line, seen + 1, shared) {
            return shared.complain(format!("canary {index}: {fault}: {line}"));
        }
        seen += 1;
        shared.seen[index].store(seen, Ordering::Release);
    }
}

fn judge(line: &str, expected: u64, shared: &Shared) -> Result<(), String> {
    let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let field = |path: &str| value.pointer(path).and_then(Value::as_u64);
    let number = field("/push/pub/data/n").ok_or("not a publication")?;
    let offset = field("/push/pub/offset").ok_or("no offset")?;
    if number != expected || offset != expected {
        return Err(format!("number {number}, offset {offset}, expected {expected}"));
    }
    if field("/push/pub/data/check") != Some(check(number)) {
        return Err("changed on its way".to_owned());
    }
    let sent = field("/push/pub/data/at").ok_or("no date")?;
    shared.slowest_us.fetch_max(shared.micros().saturating_sub(sent), Ordering::AcqRel);
    Ok(())
}

fn check(number: u64) -> u64 {
    number.wrapping_mul(2_654_435_761) % 1_000_003
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared {
            start: Instant::now(),
            quit: AtomicBool::new(false),
            published: Vec::new(),
            seen: Vec::new(),
            slowest_us: AtomicU64::new(0),
            held_up_us: AtomicU64::new(0),
            complaints: Mutex::new(Vec::new()),
        }
    }

    #[test]
    fn a_canary_notices_what_is_wrong() {
        let line = |n: u64, offset: u64, check: u64| {
            let publication = json!({ "data": { "n": n, "at": 0, "check": check },
                "offset": offset });
            json!({ "push": { "channel": "canary:0", "pub": publication } }).to_string()
        };
        let s = shared();
        assert_eq!(judge(&line(7, 7, check(7)), 7, &s), Ok(()));
        assert!(judge(&line(8, 8, check(8)), 7, &s).is_err());
        assert!(judge(&line(7, 8, check(7)), 7, &s).is_err());
        assert!(judge(&line(7, 7, check(7) + 1), 7, &s).is_err());
        assert!(judge("{\"push\":{\"unsubscribe\":{\"code\":2500}}}", 7, &s).is_err());
    }
}
