//! A subscriber that is cut, comes back and recovers, and its book.

use super::{Book, Entry, Position, Via, crc32, read_payload};
use crate::client::{Client, Event, PATIENCE};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// After the end is known, so long may the last publications take.
const SETTLE: Duration = Duration::from_secs(15);
/// How often somebody who hears nothing looks whether the end is known.
const LOOK: Duration = Duration::from_millis(250);

/// What is to happen to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// End the connection by RST.
    Reset = 1,
    /// End the connection by FIN.
    Close = 2,
    /// Unsubscribe and subscribe again on the same connection.
    Churn = 3,
}

/// How a subscriber is steered.
#[derive(Default)]
pub(super) struct Control {
    order: AtomicU8,
    /// Is there a subscription to be ended?
    pub live: AtomicBool,
    /// The connection, so that waiting for it can be ended.
    socket: Mutex<Option<TcpStream>>,
    /// Publications had so far.
    pub received: AtomicU64,
    /// The last offset to come; 0 = not known yet.
    pub goal: AtomicU64,
}

impl Control {
    /// Gives an order to a live subscriber; false if it has one already or is not live.
    pub(super) fn give(&self, order: Order) -> bool {
        if !self.live.load(Ordering::Acquire) {
            return false;
        }
        let free = Ordering::AcqRel;
        if self.order.compare_exchange(0, order as u8, free, Ordering::Acquire).is_err() {
            return false;
        }
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Order::Reset | Order::Close, Some(socket)) = (order, socket.as_ref()) {
            // Wakes the reader; nothing goes over the wire by this.
            let _ = socket.shutdown(Shutdown::Read);
        }
        true
    }

    fn taken(&self) -> Option<Order> {
        match self.order.load(Ordering::Acquire) {
            1 => Some(Order::Reset),
            2 => Some(Order::Close),
            3 => Some(Order::Churn),
            _ => None,
        }
    }

    fn hold(&self, socket: Option<TcpStream>) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

pub(super) struct Job {
    pub address: SocketAddr,
    pub number: u32,
    pub channel: Arc<str>,
    pub control: Arc<Control>,
    /// The longest time to stay away after a cut.
    pub away_max: Duration,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: u32,
    error: Option<Box<RawValue>>,
    push: Option<Push>,
    subscribe: Option<Subscribe>,
    unsubscribe: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Push {
    #[serde(default)]
    channel: String,
    #[serde(rename = "pub")]
    publication: Option<Publication>,
    unsubscribe: Option<Unsubscribe>,
}

#[derive(Deserialize)]
struct Unsubscribe {
    code: u64,
}

#[derive(Deserialize)]
struct Publication {
    data: Box<RawValue>,
    #[serde(default)]
    offset: u64,
}

#[derive(Deserialize)]
struct Subscribe {
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    recovered: bool,
    #[serde(default)]
    was_recovering: bool,
    #[serde(default)]
    publications: Vec<Publication>,
}

struct Subscriber<'a> {
    job: &'a Job,
    entries: Vec<Entry>,
    position: Option<Position>,
    settle_by: Option<Instant>,
}

/// Stays subscribed, through everything, until the goal is reached.
pub(super) fn listen(job: &Job) -> Result<Book, String> {
    let mut me = Subscriber { job, entries: Vec::new(), position: None, settle_by: None };
    let who = |e: String| format!("subscriber {} of {}: {e}", job.number, job.channel);
    loop {
        let client = Client::connect(job.address, &json!({})).map_err(who)?;
        let done = me.stay(client).map_err(who)?;
        job.control.live.store(false, Ordering::Release);
        job.control.hold(None);
        job.control.order.store(0, Ordering::Release);
        if done || me.is_done() {
            break;
        }
        let most = u64::try_from(job.away_max.as_millis()).unwrap_or(0);
        thread::sleep(Duration::from_millis(fastrand::u64(0..=most)));
    }
    me.entries.push(Entry::Settled);
    Ok(Book { subscriber: job.number, channel: Arc::clone(&job.channel), entries: me.entries })
}

impl Subscriber<'_> {
    /// The goal is known, and reached or given up.
    fn is_done(&mut self) -> bool {
        let goal = self.job.control.goal.load(Ordering::Acquire);
        if goal == 0 {
            return false;
        }
        let settle_by = *self.settle_by.get_or_insert_with(|| Instant::now() + SETTLE);
        let live = self.job.control.live.load(Ordering::Acquire);
        let there = self.position.as_ref().is_some_and(|p| p.offset >= goal);
        (live && there) || Instant::now() >= settle_by
    }

    /// One connection's life. True: the goal is reached, or it took too long.
    fn stay(&mut self, mut client: Client) -> Result<bool, String> {
        let control = &self.job.control;
        control.hold(client.stream().try_clone().ok());
        self.subscribe(&mut client)?;
        loop {
            match control.taken() {
                Some(Order::Reset) => {
                    self.entries.push(Entry::Cut);
                    client.reset();
                    return Ok(false);
                }
                Some(Order::Close) => {
                    self.entries.push(Entry::Cut);
                    return Ok(false);
                }
                Some(Order::Churn) => {
                    control.order.store(0, Ordering::Release);
                    self.churn(&mut client)?;
                }
                None if self.is_done() => return Ok(true),
                None => {}
            }
            match client.next_line(LOOK) {
                Event::Line(line) => {
                    if self.read(&line)? == Some(End::Unsubscribed) {
                        self.subscribe(&mut client)?;
                    }
                }
                Event::Silence => {}
                Event::Closed(_) if control.taken().is_some() => {}
                Event::Closed(code) => {
                    self.entries.push(Entry::Closed(code));
                    return Ok(false);
                }
            }
        }
    }

    fn churn(&mut self, client: &mut Client) -> Result<(), String> {
        self.job.control.live.store(false, Ordering::Release);
        let id = client.next_id();
        let channel = &self.job.channel;
        client.send(&json!({ "id": id, "unsubscribe": { "channel": channel } }).to_string())?;
        self.until_reply(client, id)?;
        self.entries.push(Entry::Unsubscribed(0));
        self.subscribe(client)
    }

    /// Subscribes, with the position if there is one.
    fn subscribe(&mut self, client: &mut Client) -> Result<(), String> {
        let id = client.next_id();
        let asked = self.position.clone();
        let channel = &self.job.channel;
        let params = match &asked {
            Some(p) => json!({ "channel": channel, "recover": true, "epoch": &*p.epoch,
                "offset": p.offset }),
            None => json!({ "channel": channel }),
        };
        client.send(&json!({ "id": id, "subscribe": params }).to_string())?;
        let Some(reply) = self.until_reply(client, id)? else { return Ok(()) };
        if let Some(error) = reply.error {
            return Err(format!("subscribe {params} was answered by error {error}"));
        }
        let Some(s) = reply.subscribe else {
            return Err(format!("subscribe {params} was answered by something else"));
        };
        let position = Position { epoch: s.epoch.into(), offset: s.offset };
        self.position = Some(position.clone());
        let (recovered, was_recovering) = (s.recovered, s.was_recovering);
        self.entries.push(Entry::Subscribed { asked, position, recovered, was_recovering });
        for publication in &s.publications {
            self.received(publication, Via::Recovered);
        }
        self.job.control.live.store(true, Ordering::Release);
        Ok(())
    }

    /// Reads until the reply with this id; `None` when the connection ends before it.
    fn until_reply(&mut self, client: &mut Client, id: u32) -> Result<Option<Line>, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match client.next_line(deadline.saturating_duration_since(Instant::now())) {
                Event::Line(text) => {
                    let line = parse(&text)?;
                    if line.id == id {
                        return Ok(Some(line));
                    }
                    self.take(line)?;
                }
                Event::Silence => return Err(format!("no reply within {PATIENCE:?}")),
                // The reader of the connection meets its end again, and writes it down.
                Event::Closed(_) => return Ok(None),
            }
        }
    }

    fn read(&mut self, text: &str) -> Result<Option<End>, String> {
        self.take(parse(text)?).map_err(|e| format!("{e}: {text}"))
    }

    fn take(&mut self, line: Line) -> Result<Option<End>, String> {
        let Some(push) = line.push else {
            let _ = line.unsubscribe;
            return Err("neither a push nor a reply that was asked for".to_owned());
        };
        if *push.channel != *self.job.channel {
            return Err(format!("a push of {}", push.channel));
        }
        if let Some(publication) = &push.publication {
            self.received(publication, Via::Live);
        }
        let Some(end) = push.unsubscribe else { return Ok(None) };
        self.entries.push(Entry::Unsubscribed(end.code));
        Ok(Some(End::Unsubscribed))
    }

    fn received(&mut self, publication: &Publication, via: Via) {
        let text = publication.data.get();
        let (id, body) = (read_payload(text), crc32(text.as_bytes()));
        let offset = publication.offset;
        self.entries.push(Entry::Received { offset, id, body, via });
        if let Some(position) = &mut self.position {
            position.offset = offset;
        }
        self.job.control.received.fetch_add(1, Ordering::AcqRel);
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Unsubscribed,
}

fn parse(text: &str) -> Result<Line, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))
}
