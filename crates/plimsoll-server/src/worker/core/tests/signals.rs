//! Rosters and read marks over several workers: members come, go and read while the load changes
//! and letters are held up. In the end each has the roster of the home and the highest marks.

use super::*;
use plimsoll_core::home::{Answer, Request};
use plimsoll_core::policy::Namespace;
use plimsoll_overload::feature::Feature;
use plimsoll_overload::gates::{LEVELS, LevelRow};
use std::collections::BTreeMap;

/// A token is the id of its user.
struct Names;
impl TokenVerifier for Names {
    fn connection(&self, token: &str, _: u64) -> Result<ConnectionClaims, TokenError> {
        Ok(ConnectionClaims { user: token.into(), ..Default::default() })
    }
    fn subscription(&self, _: &str, _: u64) -> Result<SubscriptionClaims, TokenError> {
        Err(TokenError::Invalid)
    }
}

/// The id of the subscribe of each channel; the one of its presence is ten above.
const ROOMS: [(&str, u64); 3] = [("away:x", 2), ("gather:x", 3), ("crowd:x", 4)];
const READ: &str = "read:x";
const READ_ID: u64 = 5;

/// A client that believes what it is told.
#[derive(Default)]
struct Member {
    place: Option<(usize, u32)>,
    read: usize,
    rosters: BTreeMap<String, BTreeMap<String, String>>,
    marks: BTreeMap<String, u64>,
    /// Rooms whose roster is to be asked for.
    ask: Vec<u64>,
    /// Read marks sent and not answered.
    sent: HashMap<u64, u64>,
    acked: u64,
    tried: u64,
    resyncs: usize,
    /// The server has ended the connection: it comes back.
    ended: bool,
    /// Told that read marks were left out.
    behind: usize,
}

impl Member {
    fn hear(&mut self, message: &serde_json::Value) {
        let id = message["id"].as_u64().unwrap_or(0);
        if let Some(offset) = self.sent.remove(&id) {
            let gone = message["error"]["code"] == 503;
            assert!(gone || message["publish"].is_object(), "{message}");
            self.acked = self.acked.max(if gone { 0 } else { offset });
        }
        if let Some((name, room)) = ROOMS.iter().find(|(_, n)| n + 10 == id) {
            if message["error"]["code"] == 503 {
                // Temporary: it is tried again.
                return self.ask.push(*room);
            }
            let all = message["presence"]["presence"].as_object().expect("presence");
            let entry = |(id, info): (&String, &serde_json::Value)| {
                (id.clone(), info["user"].as_str().unwrap().to_owned())
            };
            self.rosters.insert((*name).into(), all.iter().map(entry).collect());
        }
        if ROOMS.iter().any(|(_, n)| *n == id) {
            assert!(message["subscribe"].is_object(), "{message}");
            self.ask.push(id);
        }
        for publication in message["subscribe"]["publications"].as_array().into_iter().flatten() {
            self.merge(&publication["data"]);
        }
        let push = &message["push"];
        if push["unsubscribe"].is_object() {
            assert_eq!(
                (&push["channel"], &push["unsubscribe"]["code"]),
                (&READ.into(), &2500.into())
            );
            self.ask.push(READ_ID);
            self.behind += 1;
        }
        let room = push["channel"].as_str().unwrap_or_default();
        for (what, comes) in [("join", true), ("leave", false)] {
            let info = &push[what]["info"];
            if info.is_object() {
                let roster = self.rosters.entry(room.into()).or_default();
                let client = info["client"].as_str().unwrap().to_owned();
                match comes {
                    true => drop(roster.insert(client, info["user"].as_str().unwrap().into())),
                    false => drop(roster.remove(&client)),
                }
            }
        }
        let note = &push["message"]["data"]["plimsoll"];
        if note["resync"] == true {
            let room = ROOMS.iter().find(|(name, _)| note["channel"] == *name).expect("a room");
            self.ask.push(room.1);
            self.resyncs += 1;
        }
        if push["pub"].is_object() {
            assert_eq!(room, READ);
            self.merge(&push["pub"]["data"]);
        }
    }

    fn merge(&mut self, data: &serde_json::Value) {
        for (user, offset) in data["receipts"].as_object().expect("few readers") {
            let mark = self.marks.entry(user.clone()).or_default();
            *mark = (*mark).max(offset.as_u64().unwrap());
        }
    }
}

/// The others only read: what they miss they are told to ask for, not closed.
fn is_member(index: usize) -> bool {
    index % 4 != 3
}

struct Rooms {
    w: World,
    members: Vec<Member>,
    next_id: u64,
}

impl Rooms {
    fn new(seed: u64) -> Self {
        let room = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            ..ChannelOptions::default()
        };
        let namespaces = [
            ("away", ChannelOptions { presence_leave_debounce_ms: 3_000, ..room.clone() }),
            ("gather", ChannelOptions { presence_coalesce_ms: 250, ..room.clone() }),
            ("crowd", ChannelOptions { presence_roster_max: 5, ..room.clone() }),
            ("read", ChannelOptions { feature: Some(Feature::Receipts), ..Default::default() }),
        ];
        let namespaces = namespaces
            .map(|(name, options)| Namespace { name: name.into(), options })
            .into_iter()
            .collect();
        let client = ClientPolicy {
            insecure: true,
            message_rate_limit: 0,
            ping_interval_ms: 0,
            // Tight: whoever is blocked misses something soon.
            queue_max_size_bytes: if seed % 2 == 1 { 100 } else { limits::QUEUE_BYTES_MAX },
            ..Default::default()
        };
        let channel = ChannelPolicy { namespaces, ..ChannelPolicy::default() };
        let members = (0..12).map(|_| Member::default()).collect();
        let mut policy = Policy { client, channel, ..Policy::default() };
        policy.websocket.write_timeout_ms = u64::MAX / 2;
        Self { w: World::with(seed, policy, Box::new(Names)), members, next_id: 100 }
    }

    fn user(index: usize) -> String {
        format!("u{}", index % 5)
    }

    /// Notices whose connection the server has ended, before its slot is used again.
    fn reap(&mut self) {
        for worker in 0..WORKERS {
            for slot in std::mem::take(&mut self.w.ios[worker].closed) {
                for member in &mut self.members {
                    if member.place == Some((worker, slot)) {
                        (member.place, member.ended) = (None, true);
                    }
                }
            }
        }
    }

    fn connect(&mut self, index: usize) {
        self.reap();
        let worker = self.w.rng.usize(..WORKERS);
        let (slot, _) = self.w.cores[worker].on_accept();
        let room = if is_member(index) && self.w.rng.u8(..4) > 0 {
            usize::MAX
        } else {
            self.w.rng.usize(..2_000)
        };
        self.w.ios[worker].sockets.insert(slot, (Vec::new(), room));
        let mut head = HEAD.to_vec();
        self.w.cores[worker].on_bytes(slot, &mut head, &mut self.w.ios[worker]);
        let old = std::mem::take(&mut self.members[index]);
        let Member { acked, tried, resyncs, behind, .. } = old;
        let place = Some((worker, slot));
        self.members[index] = Member { place, acked, tried, resyncs, behind, ..Member::default() };
        let mut text = format!("{{\"id\":1,\"connect\":{{\"token\":\"{}\"}}}}", Self::user(index));
        let rooms = if is_member(index) { &ROOMS[..] } else { &[] };
        for (name, id) in rooms.iter().copied().chain([(READ, READ_ID)]) {
            text += &format!("\n{{\"id\":{id},\"subscribe\":{{\"channel\":\"{name}\"}}}}");
        }
        self.w.bytes(worker, slot, &text);
    }

    fn cut(&mut self, index: usize) {
        if let Some((worker, slot)) = self.members[index].place.take() {
            self.reap();
            self.w.cores[worker].on_hangup(slot, false, &mut self.w.ios[worker]);
            self.w.ios[worker].closed.clear();
        }
    }

    fn mark(&mut self, index: usize) {
        let Some((worker, slot)) = self.members[index].place else { return };
        self.next_id += 1;
        let (id, offset) = (self.next_id, self.w.rng.u64(1..1_000));
        let member = &mut self.members[index];
        member.sent.insert(id, offset);
        member.tried = member.tried.max(offset);
        let publish = format!("{{\"channel\":\"{READ}\",\"data\":{{\"read\":{offset}}}}}");
        self.w.bytes(worker, slot, &format!("{{\"id\":{id},\"publish\":{publish}}}"));
    }

    fn load(&mut self, row: &LevelRow) {
        let gates = Gates {
            presence: row.presence,
            presence_interval_ms: row.presence_interval_ms,
            receipts: row.receipts,
            ..Gates::default()
        };
        self.w.cores[0].shared.line.tell(Told { gates, ..Told::default() });
    }

    fn turn(&mut self, worker: usize, ms: u64) {
        self.w.now += ms;
        let now = Now { mono_ms: self.w.now, unix_ms: self.w.now };
        self.w.cores[worker].begin_turn(now, 0);
        self.w.cores[worker].on_deadlines(&mut self.w.ios[worker]);
        self.w.cores[worker].flush(&mut self.w.ios[worker]);
    }

    fn read(&mut self, index: usize) {
        self.reap();
        if self.members[index].ended {
            return self.connect(index);
        }
        let member = &mut self.members[index];
        let Some((worker, slot)) = member.place else { return };
        let Some((bytes, _)) = self.w.ios[worker].sockets.get(&slot) else { return };
        if member.read == 0 {
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
            let Some(end) = end else { return };
            member.read = end + 4;
        }
        while let Some(len) = bytes.get(member.read..).and_then(ws::frame_len) {
            let Some(frame) = bytes.get(member.read..member.read + len) else { break };
            if frame[0] == 0x88 {
                // Joins and leaves cannot be recovered: who misses some has to come back.
                let code = u16::from_be_bytes([frame[2], frame[3]]);
                assert_eq!(code, 3008, "closed: {frame:?}");
                self.cut(index);
                return self.connect(index);
            }
            let header = if frame[1] == 126 { 4 } else { 2 };
            member.hear(&serde_json::from_slice(&frame[header..]).unwrap());
            member.read += len;
        }
        for room in std::mem::take(&mut member.ask) {
            if room == READ_ID {
                let ask = format!("{{\"id\":{room},\"subscribe\":{{\"channel\":\"{READ}\"}}}}");
                self.w.bytes(worker, slot, &ask);
                continue;
            }
            let (name, id) = ROOMS.iter().find(|(_, n)| *n == room).expect("a room");
            let ask = format!("{{\"id\":{},\"presence\":{{\"channel\":\"{name}\"}}}}", id + 10);
            self.w.bytes(worker, slot, &ask);
        }
    }

    fn settle(&mut self) {
        self.load(&LEVELS[0]);
        for round in 0..1_500 {
            for _ in 0..4 {
                self.w.mail();
            }
            self.w.drain(true);
            self.turn(round % WORKERS, 20);
            (0..self.members.len()).for_each(|index| self.read(index));
        }
    }
}

/// What the home knows of a room.
fn entries(w: &mut World, name: &str) -> BTreeMap<String, String> {
    let home = plimsoll_core::model::home_of(name, WORKERS);
    let now = w.now;
    let outcome = w.cores[home].home.handle(None, &name.into(), Request::Presence, now);
    let Answer::Presence(members) = outcome.answer else { panic!("{:?}", outcome.answer) };
    members.iter().map(|m| (m.client.to_string(), m.user.to_string())).collect()
}

/// When nothing is under way and the gates are open.
fn judge(r: &mut Rooms, seed: u64) {
    let there: Vec<usize> =
        (0..r.members.len()).filter(|index| r.members[*index].place.is_some()).collect();
    let members: Vec<usize> = there.iter().copied().filter(|index| is_member(*index)).collect();
    let mut users: Vec<String> = members.iter().map(|index| Rooms::user(*index)).collect();
    users.sort();
    for (name, _) in ROOMS {
        let home = entries(&mut r.w, name);
        let mut present: Vec<String> = home.values().cloned().collect();
        present.sort();
        assert_eq!(present, users, "seed {seed}: those who are there are in {name}");
        for index in &members {
            let roster = r.members[*index].rosters.get(name);
            let crowded = name == "crowd:x" && members.len() > 3;
            assert!(
                crowded || roster == Some(&home),
                "seed {seed}: {index} in {name}: {roster:?} {home:?}"
            );
        }
    }
    let marks = |index: &usize| r.members[*index].marks.clone();
    let all = there.first().map(marks).unwrap_or_default();
    assert!(there.iter().all(|index| marks(index) == all), "seed {seed}: the same marks");
    for (index, member) in r.members.iter().enumerate() {
        let mine = all.get(&Rooms::user(index)).copied().unwrap_or(0);
        assert!(there.is_empty() || mine >= member.acked, "seed {seed}: an acknowledged mark");
    }
    for (user, mark) in &all {
        let own = r.members.iter().enumerate().filter(|(index, _)| Rooms::user(*index) == *user);
        let tried = own.map(|(_, m)| m.tried).max();
        assert!(Some(*mark) <= tried, "seed {seed}: invented");
    }
}

fn run(seed: u64) -> [u64; 6] {
    let mut r = Rooms::new(seed);
    (0..r.members.len()).for_each(|index| r.connect(index));
    for _ in 0..800 {
        let index = r.w.rng.usize(..r.members.len());
        match r.w.rng.u8(..24) {
            0..=1 => {
                r.read(index);
                r.cut(index);
            }
            2..=5 if r.members[index].place.is_none() => r.connect(index),
            6..=9 => r.mark(index),
            10..=14 => r.w.mail(),
            15..=19 => {
                let (worker, ms) = (r.w.rng.usize(..WORKERS), r.w.rng.u64(..300));
                r.turn(worker, ms);
            }
            20 => {
                r.w.drain(false);
                let level = r.w.rng.usize(..LEVELS.len());
                r.load(&LEVELS[level]);
            }
            _ => r.read(index),
        }
    }
    r.settle();
    judge(&mut r, seed);
    (0..r.members.len()).for_each(|index| r.cut(index));
    r.settle();
    assert!(r.w.cores.iter().all(|c| c.home.subscribed().count() == 0), "seed {seed}");
    for (name, _) in ROOMS {
        assert!(entries(&mut r.w, name).is_empty(), "seed {seed}: nobody is left in {name}");
    }
    let sum = |cell: fn(&WorkerStats) -> u64| r.w.cores.iter().map(|c| cell(&c.stats)).sum::<u64>();
    let resyncs = r.members.iter().map(|m| m.resyncs as u64).sum();
    let pushes = sum(|s| s.marks.pushes.get());
    assert!(pushes <= sum(|s| s.marks.risen.get()), "seed {seed}");
    let saved = [
        sum(|s| s.presence_debounced.get()),
        sum(|s| s.presence_coalesced.get()),
        sum(|s| s.presence_suppressed.get()),
    ];
    let behind = r.members.iter().map(|m| m.behind as u64).sum();
    [saved[0], saved[1], saved[2], resyncs, pushes, behind]
}

#[test]
fn rosters_and_marks_end_as_they_are() {
    let seeds = std::env::var("PLIMSOLL_SEEDS").unwrap_or_else(|_| "0..30".into());
    let (from, to) = seeds.split_once("..").expect("PLIMSOLL_SEEDS is from..to");
    let mut sums = [0; 6];
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        let figures = run(seed);
        (0..6).for_each(|i| sums[i] += figures[i]);
    }
    println!("debounced, coalesced, suppressed, resyncs, pushes, behind: {sums:?}");
    assert!(sums[..5].iter().all(|n| *n > 20), "void: {sums:?}");
}

#[test]
fn a_reader_that_was_too_slow_has_all_marks_again() {
    let mut r = Rooms::new(1);
    let (author, reader) = (0, 3);
    for index in [author, reader] {
        r.connect(index);
        let (worker, slot) = r.members[index].place.expect("connected");
        r.w.ios[worker].sockets.get_mut(&slot).expect("a socket").1 = usize::MAX;
    }
    r.settle();
    let (worker, slot) = r.members[reader].place.expect("connected");
    r.w.ios[worker].sockets.get_mut(&slot).expect("a socket").1 = 0;
    for round in 0..400 {
        if round % 40 == 0 {
            r.mark(author);
        }
        r.w.mail();
        r.turn(round % WORKERS, 50);
    }
    assert_eq!(r.members[reader].behind, 0, "it reads nothing");
    r.settle();
    assert_eq!(r.members[reader].behind, 1);
    let (marks, tried) = (&r.members[reader].marks, r.members[author].tried);
    assert_eq!(marks.get("u0"), Some(&tried), "{marks:?}");
    judge(&mut r, 1);
}
