//! Runs publishers and subscribers against a server, and collects the books.

use super::subscriber::{Control, Order};
use super::{
    Book, Ledger, Position, Published, Stored, crc32, publisher, read_payload, subscriber,
};
use crate::server::Server;
use crate::wait::Pace;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Publications asked for at once when history is read.
const PAGE: usize = 100;
/// Between two rounds of cuts.
const ROUND: Duration = Duration::from_millis(100);
/// A slow machine may take this many times as long.
const PATIENCE: u32 = 4;

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Channels, all published to by all publishers.
    pub channels: u32,
    /// Subscribers, each of one channel.
    pub subscribers: u32,
    /// Publishers.
    pub publishers: u32,
    /// Publications of each publisher per second.
    pub per_second: u64,
    /// How long, at least.
    pub time: Duration,
    /// It goes on until there were so many deliveries.
    pub deliveries: u64,
    /// Per cent of the subscribers cut each second.
    pub cut: u32,
    /// Per cent of the subscribers that unsubscribe and subscribe each second.
    pub churn: u32,
    /// The longest time to stay away after a cut.
    pub away_max: Duration,
}

/// Runs a plan and returns the books. What is wrong with a client itself fails the test.
pub fn run(server: &Server, plan: &Plan) -> Ledger {
    let names: Vec<Arc<str>> = (0..plan.channels).map(|n| format!("ledger:{n}").into()).collect();
    let subscribers = subscribers(server, plan, &names);
    let everybody = || subscribers.iter().all(|(c, _)| c.live.load(Ordering::Acquire));
    assert!(crate::wait::until(Duration::from_secs(20), everybody), "not all could subscribe");
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<JoinHandle<Result<Vec<Published>, String>>> = (0..plan.publishers)
        .map(|number| {
            let (channels, stop) = (names.clone(), Arc::clone(&stop));
            let (address, per_second) = (server.clients(), plan.per_second);
            let job = publisher::Job { address, number, channels, per_second, stop };
            thread::spawn(move || publisher::publish(&job))
        })
        .collect();
    disturb(plan, &subscribers);
    stop.store(true, Ordering::Release);
    let mut ledger = Ledger::default();
    for publisher in publishers {
        let book = publisher.join().expect("a publisher did not panic");
        ledger.published.extend(book.unwrap_or_else(|e| panic!("a publisher: {e}")));
    }
    ledger.stored = names.iter().map(|name| stored(server, name)).collect();
    for (control, _) in &subscribers {
        let stored = ledger.stored.iter().find(|s| s.channel == control.channel);
        let goal = stored.map_or(0, |s| s.top.offset);
        assert!(goal > 0, "void: nothing was published to {}", control.channel);
        control.goal.store(goal, Ordering::Release);
    }
    for (_, subscriber) in subscribers {
        let book = subscriber.join().expect("a subscriber did not panic");
        ledger.books.push(book.unwrap_or_else(|e| panic!("{e}")));
    }
    ledger
}

struct Steered {
    channel: Arc<str>,
    control: Arc<Control>,
}

impl std::ops::Deref for Steered {
    type Target = Control;
    fn deref(&self) -> &Control {
        &self.control
    }
}

type Subscriber = (Steered, JoinHandle<Result<Book, String>>);

fn subscribers(server: &Server, plan: &Plan, names: &[Arc<str>]) -> Vec<Subscriber> {
    let start = |number: u32| {
        let control = Arc::new(Control::default());
        let channel = Arc::clone(&names[number as usize % names.len()]);
        let job = subscriber::Job {
            address: server.clients(),
            number,
            channel: Arc::clone(&channel),
            control: Arc::clone(&control),
            away_max: plan.away_max,
        };
        let thread = thread::Builder::new().stack_size(256 * 1024);
        let handle = thread.spawn(move || subscriber::listen(&job)).expect("a thread starts");
        (Steered { channel, control }, handle)
    };
    (0..plan.subscribers).map(start).collect()
}

/// Cuts and churns until the time is over and enough has been delivered.
fn disturb(plan: &Plan, subscribers: &[Subscriber]) {
    let start = Instant::now();
    let mut pace = Pace::new(ROUND);
    let (mut cuts, mut churns, mut given) = (0.0, 0.0, 0u64);
    let share =
        |per_cent: u32| f64::from(per_cent * plan.subscribers) / 100.0 * ROUND.as_secs_f64();
    loop {
        pace.turn();
        let received = |(c, _): &Subscriber| c.received.load(Ordering::Acquire);
        let enough = subscribers.iter().map(received).sum::<u64>() >= plan.deliveries;
        let late = start.elapsed() >= plan.time * PATIENCE;
        let dead = subscribers.iter().any(|(_, handle)| handle.is_finished());
        if dead || late || (enough && start.elapsed() >= plan.time) {
            return;
        }
        cuts += share(plan.cut);
        churns += share(plan.churn);
        while cuts >= 1.0 {
            cuts -= 1.0;
            given += 1;
            let order = if given % 2 == 0 { Order::Reset } else { Order::Close };
            give(subscribers, order);
        }
        while churns >= 1.0 {
            churns -= 1.0;
            give(subscribers, Order::Churn);
        }
    }
}

/// Gives an order to one of those who can take it, at random.
fn give(subscribers: &[Subscriber], order: Order) {
    for _ in 0..subscribers.len() {
        let (control, _) = &subscribers[fastrand::usize(..subscribers.len())];
        if control.give(order) {
            return;
        }
    }
}

/// Reads a stream through the HTTP API, page by page.
fn stored(server: &Server, channel: &Arc<str>) -> Stored {
    let call = |params: &Value| server.api("history", params);
    let position = call(&json!({ "channel": &**channel, "limit": 0 }));
    let epoch: Arc<str> = position["epoch"].as_str().expect("a stream has an epoch").into();
    let top = Position { epoch, offset: position["offset"].as_u64().unwrap_or(0) };
    let mut publications: Vec<(u64, _, u32)> = Vec::new();
    // The first page says where the history begins, the others follow it.
    let mut params = json!({ "channel": &**channel, "limit": PAGE });
    loop {
        let page = call(&params);
        let list = page["publications"].as_array().cloned().unwrap_or_default();
        for publication in &list {
            let text = publication["data"].to_string();
            let offset = publication["offset"].as_u64().unwrap_or(0);
            publications.push((offset, read_payload(&text), crc32(text.as_bytes())));
        }
        if list.len() < PAGE {
            return Stored { channel: Arc::clone(channel), top, publications };
        }
        let last = publications.last().map_or(0, |(offset, _, _)| *offset);
        let since = json!({ "offset": last, "epoch": &*top.epoch });
        params = json!({ "channel": &**channel, "limit": PAGE, "since": since });
    }
}
