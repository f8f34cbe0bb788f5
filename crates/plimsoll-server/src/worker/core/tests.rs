//! Whole workers without sockets, driven by a seed: clients come, publish, are cut and recover
//! while letters between workers and bytes to clients are held up at random. Whatever the order,
//! each subscriber sees each offset exactly once and in order.

use super::*;
use crate::worker::letter::{Letter, Report};
use plimsoll_core::link::Call;
use plimsoll_core::policy::{ChannelOptions, ChannelPolicy, ClientPolicy};
use plimsoll_core::token::{ConnectionClaims, SubscriptionClaims, TokenError};
use plimsoll_overload::gates::AdmissionFloor;
use plimsoll_transport::ws;
use std::collections::{HashMap, VecDeque};

mod cluster;
mod paces;
mod signals;
mod tiers;

struct NoTokens;
impl TokenVerifier for NoTokens {
    fn connection(&self, _: &str, _: u64) -> Result<ConnectionClaims, TokenError> {
        Err(TokenError::Invalid)
    }
    fn subscription(&self, _: &str, _: u64) -> Result<SubscriptionClaims, TokenError> {
        Err(TokenError::Invalid)
    }
}

/// Sockets and mail of one simulated worker.
struct FakeIo {
    rng: fastrand::Rng,
    /// Bytes that reached the client, and how many more its socket takes now.
    sockets: HashMap<u32, (Vec<u8>, usize)>,
    writable: Vec<u32>,
    mail: Vec<VecDeque<Letter>>,
    calls: Vec<Call>,
    closed: Vec<u32>,
    users: usize,
    population: isize,
    /// The clock for what things cost.
    clock_us: u64,
}

impl FakeIo {
    fn new(seed: u64, workers: usize) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            sockets: HashMap::new(),
            writable: Vec::new(),
            mail: (0..workers).map(|_| VecDeque::new()).collect(),
            calls: Vec::new(),
            closed: Vec::new(),
            users: 0,
            population: 0,
            clock_us: 0,
        }
    }
}

impl Io for FakeIo {
    fn call(&mut self, call: Call) {
        self.calls.push(call);
    }
    fn is_backbone_congested(&self) -> bool {
        false
    }
    fn send(&mut self, slot: u32, bytes: &[u8]) -> Sent {
        let Some((got, room)) = self.sockets.get_mut(&slot) else { return Sent::Gone };
        let n = bytes.len().min(*room);
        got.extend_from_slice(&bytes[..n]);
        *room -= n;
        if n == 0 { Sent::Full } else { Sent::Some(n) }
    }
    fn watch(&mut self, slot: u32, _readable: bool, writable: bool) {
        self.writable.retain(|s| *s != slot);
        if writable {
            self.writable.push(slot);
        }
    }
    fn shut(&mut self, _: u32) {}
    fn close(&mut self, slot: u32) {
        self.closed.push(slot);
        self.writable.retain(|s| *s != slot);
        self.sockets.remove(&slot);
    }
    fn hand_off(&mut self, slot: u32, _: Vec<u8>) {
        self.close(slot);
    }
    fn post(&mut self, to: u16, letter: Letter) {
        self.mail[usize::from(to)].push_back(letter);
    }
    fn is_congested(&self, _: u16) -> bool {
        false
    }
    fn report(&mut self, _: u64, _: Report) {}
    fn random(&mut self) -> u64 {
        self.rng.u64(..)
    }
    fn micros(&mut self) -> u64 {
        self.clock_us += self.rng.u64(..500);
        self.clock_us
    }
    fn admit(&mut self, _: usize) -> bool {
        self.population += 1;
        true
    }
    fn dismiss(&mut self) {
        self.population -= 1;
    }
    fn enter_user(&mut self, _: &Arc<str>, _: usize) -> bool {
        self.users += 1;
        true
    }
    fn leave_user(&mut self, _: &Arc<str>) {
        self.users -= 1;
    }
    fn problem(&mut self, _: u32, _: &'static str, _: u16) {}
}

const WORKERS: usize = 3;
const CHANNELS: [&str; 3] = ["a", "b", "c"];
const HEAD: &[u8] = b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// A client that always wants its channels back: one that it subscribes to, or all of them as
/// server-side subscriptions.
struct Client {
    channels: &'static [&'static str],
    server_side: bool,
    place: Option<(usize, u32)>,
    /// Last epoch and offset seen, by channel.
    seen: HashMap<String, (String, u64)>,
    subscribed: bool,
    read: usize,
    recovered: usize,
    /// Told that something was left out, and not yet asked for it.
    told: bool,
    tellings: usize,
}

struct World {
    rng: fastrand::Rng,
    cores: Vec<Core>,
    ios: Vec<FakeIo>,
    clients: Vec<Client>,
    published: HashMap<&'static str, u64>,
    now: u64,
}

impl World {
    fn new(seed: u64, tight: bool) -> Self {
        Self::with(seed, Self::policy(tight), Box::new(NoTokens))
    }

    fn policy(tight: bool) -> Policy {
        let without_namespace = ChannelOptions {
            history_size: 10_000,
            history_ttl_ms: 1_000_000,
            force_recovery: true,
            presence: true,
            join_leave: true,
            ..ChannelOptions::default()
        };
        // No pings: nobody here would answer them.
        let client = ClientPolicy {
            insecure: true,
            message_rate_limit: 0,
            ping_interval_ms: 0,
            // Tight: nearly every blocked client falls behind.
            queue_max_size_bytes: if tight { 1_500 } else { limits::QUEUE_BYTES_MAX },
            ..Default::default()
        };
        let channel = ChannelPolicy { without_namespace, ..ChannelPolicy::default() };
        let mut policy = Policy { client, channel, ..Policy::default() };
        policy.websocket.write_timeout_ms = u64::MAX / 2;
        policy
    }

    fn with(seed: u64, policy: Policy, tokens: Box<dyn TokenVerifier + Send + Sync>) -> Self {
        let quotas = policy.quotas;
        let shared = Arc::new(Shared {
            channels: Arc::new(Channels::new(policy.channel.clone()).unwrap()),
            policy,
            tokens,
            accounts: Accounts::new(quotas),
            workers: WORKERS,
            line: LoadLine::default(),
            cluster: None,
        });
        let core = |id: usize| {
            let (stats, now) = (Arc::default(), Now::default());
            let mut core = Core::new(id as u16, Arc::clone(&shared), stats, now, seed);
            // Half of the worlds know only hot channels, written one by one or two by two.
            if seed % 4 > 1 {
                (core.hot.subscribers, core.hot.slice) = (1, 1 + seed as usize % 2);
            }
            core
        };
        Self {
            rng: fastrand::Rng::with_seed(seed),
            cores: (0..WORKERS).map(core).collect(),
            ios: (0..WORKERS).map(|w| FakeIo::new(seed ^ w as u64, WORKERS)).collect(),
            clients: Vec::new(),
            published: HashMap::new(),
            now: 0,
        }
    }

    fn bytes(&mut self, worker: usize, slot: u32, text: &str) {
        let mut frame = Vec::new();
        ws::encode_client(&mut frame, ws::Opcode::Text, [1, 2, 3, 4], text.as_bytes());
        // In two pieces, wherever they are cut.
        let cut = self.rng.usize(..=frame.len());
        let (a, b) = frame.split_at_mut(cut);
        self.cores[worker].on_bytes(slot, a, &mut self.ios[worker]);
        self.cores[worker].on_bytes(slot, b, &mut self.ios[worker]);
    }

    fn connect(&mut self, index: usize) {
        let worker = self.rng.usize(..WORKERS);
        let (slot, _) = self.cores[worker].on_accept();
        let room = if self.rng.bool() { usize::MAX } else { self.rng.usize(..400) };
        self.ios[worker].sockets.insert(slot, (Vec::new(), room));
        let mut head = HEAD.to_vec();
        self.cores[worker].on_bytes(slot, &mut head, &mut self.ios[worker]);
        let c = &mut self.clients[index];
        (c.place, c.subscribed, c.read) = (Some((worker, slot)), false, 0);
        c.told = false;
        let c = &*c;
        let wanted = |channel: &str| match c.seen.get(channel) {
            None => String::new(),
            Some((epoch, offset)) => {
                format!("\"recover\":true,\"epoch\":\"{epoch}\",\"offset\":{offset}")
            }
        };
        let text = if c.server_side {
            let subs: Vec<_> =
                c.channels.iter().map(|ch| format!("\"{ch}\":{{{}}}", wanted(ch))).collect();
            format!("{{\"id\":1,\"connect\":{{\"subs\":{{{}}}}}}}", subs.join(","))
        } else {
            let channel = c.channels[0];
            let position = wanted(channel);
            let comma = if position.is_empty() { "" } else { "," };
            format!(
                "{{\"id\":1,\"connect\":{{}}}}\n\
                 {{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"{comma}{position}}}}}"
            )
        };
        self.bytes(worker, slot, &text);
    }

    fn cut(&mut self, index: usize) {
        self.read(index);
        self.cut_now(index);
    }

    /// Asks for what was left out, as clients do when they are told.
    fn ask_again(&mut self, index: usize) {
        let c = &self.clients[index];
        let (true, Some((worker, slot))) = (c.told, c.place) else { return };
        let channel = c.channels[0];
        let (epoch, offset) = &c.seen[channel];
        let text = format!(
            "{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"recover\":true,\
             \"epoch\":\"{epoch}\",\"offset\":{offset}}}}}"
        );
        self.clients[index].told = false;
        self.bytes(worker, slot, &text);
    }

    fn cut_now(&mut self, index: usize) {
        if let Some((worker, slot)) = self.clients[index].place.take() {
            self.cores[worker].on_hangup(slot, false, &mut self.ios[worker]);
        }
    }

    fn publish(&mut self, index: usize) {
        let channels = self.clients[index].channels;
        let channel = channels[self.rng.usize(..channels.len())];
        let Some((worker, slot)) = self.clients[index].place else { return };
        *self.published.entry(channel).or_default() += 1;
        let text = format!("{{\"id\":9,\"publish\":{{\"channel\":\"{channel}\",\"data\":{{}}}}}}");
        self.bytes(worker, slot, &text);
    }

    /// One letter, or a few, of one pair of workers.
    fn mail(&mut self) {
        let (from, to) = (self.rng.usize(..WORKERS), self.rng.usize(..WORKERS));
        for _ in 0..self.rng.usize(1..4) {
            let Some(letter) = self.ios[from].mail[to].pop_front() else { return };
            self.cores[to].on_letter(letter, &mut self.ios[to]);
        }
    }

    fn turn(&mut self) {
        let worker = self.rng.usize(..WORKERS);
        self.now += 1;
        if self.rng.u8(..50) == 0 {
            let batching_window_ms = self.rng.u32(..3) * 10;
            let recovery_paced = self.rng.bool();
            let gates = Gates { batching_window_ms, recovery_paced, ..Gates::default() };
            let line = &self.cores[worker].shared.line;
            line.tell(Told { gates, ..Told::default() });
        }
        let now = Now { mono_ms: self.now, unix_ms: self.now };
        self.ios[worker].clock_us = self.now * 1_000;
        self.cores[worker].begin_turn(now, self.now * 1_000);
        self.cores[worker].on_deadlines(&mut self.ios[worker]);
        self.cores[worker].flush(&mut self.ios[worker]);
    }

    fn drain(&mut self, all: bool) {
        let worker = self.rng.usize(..WORKERS);
        for slot in self.ios[worker].writable.clone() {
            let more = if all { usize::MAX / 2 } else { self.rng.usize(1..500) };
            if let Some((_, room)) = self.ios[worker].sockets.get_mut(&slot) {
                *room = room.saturating_add(more);
            }
            self.cores[worker].on_writable(slot, &mut self.ios[worker]);
        }
    }

    /// What has reached a client: checks that offsets follow one another.
    fn read(&mut self, index: usize) {
        let c = &mut self.clients[index];
        let Some((worker, slot)) = c.place else { return };
        let Some((bytes, _)) = self.ios[worker].sockets.get(&slot) else { return };
        if c.read == 0 {
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
            let Some(end) = end else { return };
            c.read = end + 4;
        }
        while let Some(len) = bytes.get(c.read..).and_then(ws::frame_len) {
            let Some(frame) = bytes.get(c.read..c.read + len) else { return };
            if frame[0] == 0x88 {
                // Server-side subscriptions are told by a close (3010), and so is who lets replies
                // pile up (3008).
                let code = u16::from_be_bytes([frame[2], frame[3]]);
                assert!(c.server_side && code == 3010 || code == 3008, "closed: {frame:?}");
                c.tellings += 1;
                return self.cut_now(index);
            }
            assert_eq!(frame[0], 0x81, "not a text: {frame:?}");
            let header = if frame[1] == 126 { 4 } else { 2 };
            c.on_message(&serde_json::from_slice(&frame[header..]).unwrap());
            c.read += len;
        }
    }

    /// Until nothing is under way; `back`: whoever was closed comes back.
    fn settle(&mut self, back: bool) {
        for _ in 0..2_000 {
            self.mail();
            self.turn();
            self.drain(true);
            if self.ios.iter().all(|io| io.mail.iter().all(VecDeque::is_empty)) {
                (0..20).for_each(|_| self.turn());
            }
            for index in 0..self.clients.len() {
                self.read(index);
                self.ask_again(index);
                if back && self.clients[index].place.is_none() {
                    self.connect(index);
                }
            }
        }
    }
}

impl Client {
    fn on_message(&mut self, message: &serde_json::Value) {
        if message["id"] == 1 && self.server_side {
            let subs = message["connect"]["subs"].as_object().expect("all channels");
            assert_eq!(subs.len(), self.channels.len(), "{message}");
            for (channel, result) in subs {
                self.on_subscribed(channel, result);
            }
        }
        if message["error"]["code"] == 111 {
            // Its turn did not come in time: it asks again.
            self.told = true;
            return;
        }
        if message["id"] == 2 {
            assert!(message["subscribe"].is_object(), "{message}");
            self.on_subscribed(self.channels[0], &message["subscribe"]);
        }
        let push = &message["push"];
        if push["unsubscribe"].is_object() {
            assert_eq!(push["unsubscribe"]["code"], 2500, "{message}");
            (self.subscribed, self.told) = (false, true);
            self.tellings += 1;
        }
        if push["pub"].is_object() {
            assert!(self.subscribed, "a publication before the reply");
            self.on_publication(push["channel"].as_str().unwrap(), &push["pub"]);
        }
    }

    fn on_subscribed(&mut self, channel: &str, result: &serde_json::Value) {
        self.subscribed = true;
        let offset = result["offset"].as_u64().unwrap_or(0);
        let epoch = result["epoch"].as_str().unwrap_or_default().to_owned();
        let before = self.seen.insert(channel.to_owned(), (epoch, offset));
        if result["was_recovering"] == true {
            assert_eq!(result["recovered"], true, "history is long enough: {result}");
            assert_eq!(Some(offset), before.map(|(_, o)| o), "the requested offset");
            self.recovered += 1;
        }
        for p in result["publications"].as_array().into_iter().flatten() {
            self.on_publication(channel, p);
        }
    }

    fn on_publication(&mut self, channel: &str, p: &serde_json::Value) {
        let offset = p["offset"].as_u64().unwrap();
        let (_, last) = self.seen.get_mut(channel).expect("subscribed");
        assert_eq!(offset, *last + 1, "neither a hole nor a double");
        *last = offset;
    }

    fn offset(&self, channel: &str) -> Option<u64> {
        self.seen.get(channel).map(|(_, offset)| *offset)
    }
}

fn run(seed: u64, tight: bool) -> [usize; 3] {
    let mut w = World::new(seed, tight);
    for i in 0..9 {
        let server_side = i % 3 == 2;
        let at = i % CHANNELS.len();
        w.clients.push(Client {
            channels: if server_side { &CHANNELS } else { &CHANNELS[at..=at] },
            server_side,
            place: None,
            seen: HashMap::new(),
            subscribed: false,
            read: 0,
            recovered: 0,
            told: false,
            tellings: 0,
        });
        w.connect(i);
    }
    for _ in 0..600 {
        let index = w.rng.usize(..w.clients.len());
        match w.rng.u8(..20) {
            0 => w.cut(index),
            1..=2 if w.clients[index].place.is_none() => w.connect(index),
            3..=6 => w.publish(index),
            7..=11 => w.mail(),
            12..=14 => w.turn(),
            15..=16 => w.drain(false),
            _ => {
                w.read(index);
                w.ask_again(index);
            }
        }
    }
    w.settle(true);
    for c in &w.clients {
        assert!(c.subscribed, "seed {seed}");
        for channel in c.channels {
            let published = w.published.get(channel).copied().unwrap_or(0);
            assert!(c.offset(channel) <= Some(published), "seed {seed}: invented");
            let top = w.clients.iter().filter_map(|o| o.offset(channel)).max();
            assert_eq!(c.offset(channel), top, "seed {seed}: all stand at the top of {channel}");
        }
    }
    (0..w.clients.len()).for_each(|i| w.cut(i));
    w.settle(false);
    for (core, io) in w.cores.iter().zip(&w.ios) {
        assert!(core.is_idle() && io.population == 0, "seed {seed}");
        assert_eq!(core.hub.subscription_count(), 0, "seed {seed}");
        assert_eq!(core.home.subscribed().count(), 0, "seed {seed}: interest is given back");
    }
    let seen: u64 = w.clients.iter().flat_map(|c| c.seen.values()).map(|(_, offset)| offset).sum();
    let recovered: usize = w.clients.iter().map(|c| c.recovered).sum();
    let told = w.clients.iter().map(|c| c.tellings).sum();
    assert!(w.cores.iter().all(|c| c.meter.bytes() == 0), "seed {seed}: queues give all back");
    let sum = |cell: fn(&WorkerStats) -> u64| w.cores.iter().map(|c| cell(&c.stats)).sum::<u64>();
    let (returned, recoveries) = (sum(|s| s.reconnects.get()), sum(|s| s.recovered.get()));
    assert!(recovered as u64 <= recoveries, "seed {seed}: {recovered} of {recoveries}");
    assert!(returned <= recoveries && (returned > 0) == (recoveries > 0), "seed {seed}");
    [seen as usize, recovered, told]
}

#[test]
fn every_seed_keeps_order_and_loses_nothing() {
    // `PLIMSOLL_SEEDS=from..to` repeats or widens it.
    let seeds = std::env::var("PLIMSOLL_SEEDS").unwrap_or_else(|_| "0..80".into());
    let (from, to) = seeds.split_once("..").expect("PLIMSOLL_SEEDS is from..to");
    let mut sums = [0; 3];
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        let figures = run(seed, seed % 2 == 1);
        (0..3).for_each(|i| sums[i] += figures[i]);
    }
    let [seen, recovered, told] = sums;
    let enough = seen > 1_000 && recovered > 100 && told > 50;
    assert!(enough, "void: {seen} seen, {recovered} recoveries, {told} told of a gap");
}

#[test]
fn connects_beyond_the_pace_wait_and_those_who_come_back_go_first() {
    let mut w = World::new(7, false);
    let pace = |w: &World, per_s: f64, admission| {
        let gates = Gates { accepts_per_s: per_s, admission, ..Gates::default() };
        w.cores[0].shared.line.tell(Told { gates, ..Told::default() });
    };
    // One a second for each of the three workers.
    pace(&w, 3.0, AdmissionFloor::ResumesFirst);
    let turn = |w: &mut World, ms: u64| {
        w.now += ms;
        let now = Now { mono_ms: w.now, unix_ms: w.now };
        w.cores[0].begin_turn(now, w.now * 1_000);
        w.cores[0].on_deadlines(&mut w.ios[0]);
        w.cores[0].flush(&mut w.ios[0]);
    };
    turn(&mut w, 1);
    let come = |w: &mut World, extra: &str| -> u32 {
        let (slot, _) = w.cores[0].on_accept();
        w.ios[0].sockets.insert(slot, (Vec::new(), usize::MAX));
        w.cores[0].on_bytes(slot, &mut HEAD.to_vec(), &mut w.ios[0]);
        w.bytes(0, slot, &format!("{{\"id\":1,\"connect\":{{}}}}{extra}"));
        slot
    };
    let recover = "\n{\"id\":2,\"subscribe\":{\"channel\":\"a\",\"recover\":true}}";
    let new: Vec<u32> = (0..6).map(|_| come(&mut w, "")).collect();
    let back: Vec<u32> = (0..3).map(|_| come(&mut w, recover)).collect();
    let answered = |w: &World, slot: u32, word: &str| {
        let sent = w.ios[0].sockets.get(&slot).map(|(bytes, _)| bytes.clone()).unwrap_or_default();
        String::from_utf8_lossy(&sent).contains(word)
    };
    let let_in = |w: &World, slots: &[u32]| {
        slots.iter().filter(|s| answered(w, **s, "\"connect\":{")).count()
    };
    turn(&mut w, 1);
    let waiting = w.cores[0].door.parked();
    assert!(waiting >= 6, "{waiting} wait");
    for _ in 0..40 {
        turn(&mut w, 50);
    }
    let (news, backs) = (let_in(&w, &new), let_in(&w, &back));
    assert!(backs > 0 && backs + news < 9, "{backs} came back, {news} are new");
    for _ in 0..60 {
        turn(&mut w, 50);
    }
    assert_eq!(w.cores[0].door.parked(), 0, "nobody waits longer than four seconds");
    let refused = |s: &&u32| answered(&w, **s, "\"code\":503");
    let all =
        new.iter().chain(&back).filter(refused).count() + let_in(&w, &new) + let_in(&w, &back);
    assert_eq!(all, 9, "everybody was answered");
    assert!(let_in(&w, &back) >= 2, "those who come back go first");
    // Without a pace everybody comes in at once.
    pace(&w, f64::MAX, AdmissionFloor::All);
    turn(&mut w, 1);
    let free: Vec<u32> = (0..20).map(|_| come(&mut w, "")).collect();
    turn(&mut w, 1);
    assert_eq!(let_in(&w, &free), 20);
}
