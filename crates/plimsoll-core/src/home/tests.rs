//! The home worker's channel state, driven by hand.

use super::*;
use crate::model::ClientInfo;
use crate::policy::ChannelPolicy;
use crate::presence::{Change, Told};
use plimsoll_overload::feature::Class;
use plimsoll_overload::gates::LEVELS;
use std::hash::BuildHasher;

fn home(size: usize) -> Home {
    let without_namespace = ChannelOptions {
        presence: true,
        history_size: size,
        history_ttl_ms: 10_000,
        history_meta_ttl_ms: 60_000,
        ..Default::default()
    };
    let rules = Channels::new(ChannelPolicy { without_namespace, ..Default::default() }).unwrap();
    Home::new(Arc::new(rules), 300, 42)
}

fn publish(h: &mut Home, channel: &Arc<str>, data: &str, now: u64) -> Option<StreamPosition> {
    let r = PublishRequest { data: data.into(), ..Default::default() };
    match h.handle(None, channel, Request::Publish(r), now).answer {
        Answer::Published(p) => p,
        other => panic!("{other:?}"),
    }
}

fn subscribe(h: &mut Home, worker: u16, channel: &Arc<str>, recover: Option<Since>) -> Subscribed {
    let r = SubscribeRequest { positioned: true, recover, ..Default::default() };
    match h.handle(Some(worker), channel, Request::Subscribe(r), 0).answer {
        Answer::Subscribed(s) => s,
        other => panic!("{other:?}"),
    }
}

fn member(n: u8, user: &str) -> ClientInfo {
    let client = ClientId([n; 16]);
    ClientInfo { user: user.into(), client, conn_info: None, chan_info: None }
}

/// What was told since the last call.
fn told(h: &mut Home) -> Vec<String> {
    let events = std::iter::from_fn(|| h.take_told());
    let text = |(_, event)| match event {
        Event::Presence(Told::Change(Change::Join(i))) => format!("join {}", i.client.0[0]),
        Event::Presence(Told::Change(Change::Leave(i))) => format!("leave {}", i.client.0[0]),
        Event::Presence(Told::Tally(t)) => {
            let resync = if t.resync { " resync" } else { "" };
            format!("{} of {}{resync}", t.clients, t.users)
        }
        Event::Publication(p) => p.data.to_string(),
        Event::Lost => "lost".into(),
    };
    events.map(text).collect()
}

#[test]
fn interest_follows_subscriptions() {
    let mut h = home(10);
    let c: Arc<str> = "a".into();
    subscribe(&mut h, 0, &c, None);
    subscribe(&mut h, 2, &c, None);
    subscribe(&mut h, 2, &c, None);
    assert_eq!(h.interested("a").as_slice(), [0, 2]);
    let gone = Request::Unsubscribe { member: None, announce: false };
    h.handle(Some(2), &c, gone.clone(), 0);
    assert_eq!(h.interested("a").as_slice(), [0, 2]);
    h.handle(Some(2), &c, gone.clone(), 0);
    h.handle(Some(0), &c, gone.clone(), 0);
    h.handle(Some(0), &c, gone, 0);
    assert!(h.interested("a").is_empty());
}

#[test]
fn join_and_leave_are_told_once() {
    let mut h = home(0);
    let c: Arc<str> = "a".into();
    let r = SubscribeRequest { member: Some(member(1, "u")), announce: true, ..Default::default() };
    h.handle(Some(0), &c, Request::Subscribe(r), 0);
    assert_eq!(told(&mut h), ["join 1"]);
    let gone = Request::Unsubscribe { member: Some(ClientId([1; 16])), announce: true };
    h.handle(Some(0), &c, gone.clone(), 0);
    assert_eq!(told(&mut h), ["leave 1"]);
    h.handle(Some(0), &c, gone, 0);
    assert!(told(&mut h).is_empty());
    assert!(h.is_empty(), "nothing is kept for a channel that nobody uses");
}

#[test]
fn stats_count_distinct_users() {
    let mut h = home(0);
    let c: Arc<str> = "a".into();
    for (n, user) in [(1, "x"), (2, "x"), (3, "y")] {
        let member = Some(member(n, user));
        let r = SubscribeRequest { member, ..Default::default() };
        h.handle(Some(0), &c, Request::Subscribe(r), 0);
    }
    let answer = h.handle(None, &c, Request::PresenceStats, 0).answer;
    assert!(matches!(answer, Answer::Stats { clients: 3, users: 2 }), "{answer:?}");
}

#[test]
fn idempotency_key_publishes_once_for_five_minutes() {
    let mut h = home(10);
    let c: Arc<str> = "a".into();
    let request = |key: &str| {
        let idempotency_key = Some(key.into());
        Request::Publish(PublishRequest { data: "1".into(), idempotency_key, ..Default::default() })
    };
    assert!(h.handle(None, &c, request("k"), 0).event.is_some());
    assert!(h.handle(None, &c, request("k"), 299_000).event.is_none());
    assert!(h.handle(None, &c, request("other"), 299_000).event.is_some());
    h.sweep(300_000);
    assert!(h.handle(None, &c, request("k"), 300_000).event.is_some());
}

#[test]
fn old_versions_are_suppressed() {
    let mut h = home(10);
    let c: Arc<str> = "a".into();
    let mut published = |version: u64, epoch: &str| {
        let version = Some((version, epoch.into()));
        let r = PublishRequest { data: "1".into(), version, ..Default::default() };
        h.handle(None, &c, Request::Publish(r), 0).event.is_some()
    };
    assert!(published(2, "e"));
    assert!(!published(2, "e"));
    assert!(!published(1, "e"));
    assert!(published(3, "e"));
    assert!(published(1, "f"), "another epoch begins anew");
}

#[test]
fn channels_are_forgotten_with_their_last_trace() {
    let mut h = home(10);
    let c: Arc<str> = "a".into();
    let epoch = publish(&mut h, &c, "1", 0).unwrap().epoch;
    h.sweep(11_000);
    assert_eq!(publish(&mut h, &c, "2", 12_000).unwrap(), StreamPosition { epoch, offset: 2 });
    h.sweep(23_000);
    h.sweep(71_000);
    assert_eq!(h.len(), 1, "epoch and offset are kept for the meta time to live");
    h.sweep(73_000);
    assert!(h.is_empty());
    assert_ne!(publish(&mut h, &c, "3", 74_000).unwrap().epoch, epoch);
}

#[test]
fn a_used_stream_is_never_forgotten() {
    let mut h = home(10);
    let c: Arc<str> = "a".into();
    let epoch = subscribe(&mut h, 0, &c, None).position.unwrap().epoch;
    h.sweep(1_000_000);
    assert_eq!(publish(&mut h, &c, "1", 1_000_001).unwrap(), StreamPosition { epoch, offset: 1 });
}

#[test]
fn unrecoverable_is_refused_when_asked_for() {
    let mut h = home(2);
    let c: Arc<str> = "a".into();
    for n in 0..5 {
        publish(&mut h, &c, "1", n);
    }
    let r = SubscribeRequest {
        positioned: true,
        must_recover: true,
        recover: Some(Since { offset: 1, epoch: "".into() }),
        ..Default::default()
    };
    let answer = h.handle(Some(0), &c, Request::Subscribe(r), 5).answer;
    assert!(matches!(answer, Answer::Error(e) if e.code == 112));
    assert!(h.interested("a").is_empty(), "a refused subscription leaves no interest");
}

fn kept(h: &Home, channel: &str) -> usize {
    let stream = h.channels.get(channel).and_then(|c| c.stream.as_ref());
    stream.map_or(0, |s| s.recover(&Since { offset: 0, epoch: "".into() }, 300).publications.len())
}

#[test]
fn publications_are_swept_whatever_was_planned_before() {
    let mut h = home(10);
    let c: Arc<str> = "a".into();
    // A positioned subscription plans a look at an empty stream, far away.
    subscribe(&mut h, 0, &c, None);
    publish(&mut h, &c, "1", 1_000);
    h.handle(Some(0), &c, Request::Unsubscribe { member: None, announce: false }, 2_000);
    assert_eq!(kept(&h, "a"), 1);
    h.sweep(61_000);
    assert_eq!(kept(&h, "a"), 0, "nobody asked for it again, and it is gone");
}

#[test]
fn names_that_are_only_asked_about_are_forgotten() {
    let mut h = home(10);
    for n in 0..100 {
        let r = SubscribeRequest {
            positioned: true,
            must_recover: true,
            recover: Some(Since { offset: 5, epoch: "x".into() }),
            ..Default::default()
        };
        let c: Arc<str> = format!("free:{n}").replace(':', "-").into();
        let answer = h.handle(Some(0), &c, Request::Subscribe(r), 0).answer;
        assert!(matches!(answer, Answer::Error(e) if e.code == 112));
    }
    assert_eq!(h.len(), 100);
    for minute in 1..=20 {
        h.sweep(minute * 60_000);
    }
    assert!(h.is_empty());
}

#[test]
fn versions_are_remembered_for_a_while_only() {
    let mut h = home(0);
    let c: Arc<str> = "a".into();
    let version = Some((1, "e".into()));
    let r = PublishRequest { data: "1".into(), version, ..Default::default() };
    h.handle(None, &c, Request::Publish(r), 0);
    h.sweep(59_000);
    assert_eq!(h.len(), 1);
    h.sweep(61_000);
    assert!(h.is_empty());
}

fn home_with(options: ChannelOptions) -> Home {
    let policy = ChannelPolicy { without_namespace: options, ..Default::default() };
    Home::new(Arc::new(Channels::new(policy).unwrap()), 300, 42)
}

fn at(level: usize) -> Gates {
    let row = &LEVELS[level];
    Gates {
        presence: row.presence,
        presence_interval_ms: row.presence_interval_ms,
        receipts: row.receipts,
        typing: row.typing,
        ..Gates::default()
    }
}

/// Lets time pass as a worker does, and gives what was told with when.
fn wait(h: &mut Home, from_ms: u64, to_ms: u64) -> Vec<String> {
    let mut all = Vec::new();
    let mut now_ms = from_ms;
    while let Some(at_ms) = h.due_ms().filter(|at| *at <= to_ms) {
        now_ms = now_ms.max(at_ms);
        h.on_time(now_ms);
        all.extend(told(h).into_iter().map(|what| format!("{now_ms}: {what}")));
    }
    all
}

/// Publishes as a client (`Ok`) or as a back end, and gives the code of the error, 0 = none.
fn send(h: &mut Home, c: &Arc<str>, user: Option<&str>, data: &str, now_ms: u64) -> u32 {
    let info = user.map(|user| member(9, user));
    let r = PublishRequest { data: data.into(), info, ..Default::default() };
    match h.handle(Some(0), c, Request::Publish(r), now_ms) {
        Outcome { answer: Answer::Published(_), event } => match event {
            Some(Event::Publication(_)) => 200,
            _ => 0,
        },
        Outcome { answer: Answer::Error(e), .. } => e.code,
        other => panic!("{:?}", other.answer),
    }
}

#[test]
fn members_are_told_in_time_and_by_one_entry_each() {
    let options = ChannelOptions {
        presence: true,
        presence_leave_debounce_ms: 10_000,
        ..ChannelOptions::default()
    };
    let mut h = home_with(options);
    let c: Arc<str> = "a".into();
    let join = |n: u8, user: &str| {
        let member = Some(member(n, user));
        Request::Subscribe(SubscribeRequest { member, announce: true, ..Default::default() })
    };
    let leave = |n: u8| {
        let member = Some(ClientId([n; 16]));
        Request::Unsubscribe { member, announce: true }
    };
    h.handle(Some(0), &c, join(1, "u"), 0);
    h.handle(Some(0), &c, join(2, "v"), 0);
    assert_eq!(told(&mut h), ["join 1", "join 2"]);
    h.handle(Some(0), &c, leave(2), 1_000);
    h.handle(Some(0), &c, leave(1), 2_000);
    assert_eq!(h.due_ms(), Some(11_000));
    h.handle(Some(1), &c, join(3, "v"), 3_000);
    let answer = h.handle(None, &c, Request::PresenceStats, 3_000).answer;
    assert!(matches!(answer, Answer::Stats { clients: 2, users: 2 }), "{answer:?}");
    assert_eq!(wait(&mut h, 3_000, 60_000), ["12000: leave 1"]);
    let Answer::Presence(members) = h.handle(None, &c, Request::Presence, 0).answer else {
        panic!("no members")
    };
    assert_eq!(members[0].client, ClientId([2; 16]), "the entry that was told");
    h.handle(Some(1), &c, leave(3), 60_000);
    assert_eq!(wait(&mut h, 60_000, 90_000), ["70000: leave 2"]);
    assert!(h.is_empty() && h.due_ms().is_none(), "nothing is left of it");
    let figures = h.take_figures().presence;
    assert_eq!((figures.told, figures.debounced), (4, 2));
    assert_eq!(h.take_figures(), Figures::default(), "each is counted once");
}

#[test]
fn marks_are_told_once_an_interval_and_kept_back_under_load() {
    let receipts = ChannelOptions {
        feature: Some(Feature::Receipts),
        receipts_ttl_ms: 3_600_000,
        ..ChannelOptions::default()
    };
    let mut h = home_with(receipts);
    let c: Arc<str> = "a".into();
    for (user, data, want) in [
        (Some("u"), r#"{"read":5}"#, 0),
        (Some("u"), r#"{"read":3}"#, 0),
        (None, r#"{"user":"v","read":2}"#, 0),
        (Some(""), r#"{"read":5}"#, 103),
        (Some("u"), r#"{"user":"v","read":9}"#, 107),
        (Some("u"), r#"{"read":-1}"#, 107),
        (Some("u"), r#""hello""#, 107),
        (None, r#"{"read":5}"#, 107),
    ] {
        assert_eq!(send(&mut h, &c, user, data, 0), want, "{user:?} {data}");
    }
    let figures = h.take_figures();
    assert_eq!((figures.marks_risen, figures.marks_old, figures.marks_refused), (2, 1, 5));
    assert_eq!(wait(&mut h, 0, 5_000), [""; 0], "nobody is there to be told");
    let r = SubscribeRequest { reader: Some("w".into()), ..Default::default() };
    let Answer::Subscribed(s) = h.handle(Some(0), &c, Request::Subscribe(r), 5_000).answer else {
        panic!("not subscribed")
    };
    let marks = s.marks.unwrap().data.to_string();
    assert!(marks.contains("\"u\":5") && marks.contains("\"v\":2"), "{marks}");

    for ms in 0..10 {
        send(&mut h, &c, Some("u"), &format!("{{\"read\":{}}}", 10 + ms), 10_000 + ms);
    }
    assert_eq!(wait(&mut h, 10_010, 20_000), [r#"11000: {"receipts":{"u":19}}"#]);
    h.obey(&at(1), 20_000);
    send(&mut h, &c, Some("u"), r#"{"read":20}"#, 20_000);
    assert_eq!(wait(&mut h, 20_000, 30_000), [r#"25000: {"receipts":{"u":20}}"#]);
    // Degraded and Critical: kept, told when the gates open.
    send(&mut h, &c, Some("u"), r#"{"read":21}"#, 30_000);
    h.obey(&at(2), 30_001);
    send(&mut h, &c, Some("v"), r#"{"read":22}"#, 30_002);
    h.obey(&at(3), 40_000);
    assert_eq!(send(&mut h, &c, Some("v"), r#"{"read":23}"#, 40_000), 0);
    assert_eq!(wait(&mut h, 40_000, 60_000), [""; 0]);
    h.obey(&at(4), 60_000);
    assert_eq!(send(&mut h, &c, Some("v"), r#"{"read":99}"#, 60_000), 503);
    h.obey(&at(0), 70_000);
    let late = wait(&mut h, 70_000, 70_000);
    assert_eq!(late.len(), 1, "{late:?}");
    assert!(late[0].contains("\"u\":21") && late[0].contains("\"v\":23"), "{late:?}");
    assert_eq!(h.take_figures().mark_pushes, 3);

    let gone = Request::Unsubscribe { member: None, announce: false };
    h.handle(Some(0), &c, gone, 80_000);
    h.sweep(3_500_000);
    assert_eq!(h.len(), 1, "marks outlive their readers");
    for minute in 60..64 {
        h.sweep(minute * 60_000);
    }
    assert!(h.is_empty() && h.marks == 0, "but not for ever");
}

#[test]
fn typing_is_told_once_for_each_user_and_not_in_crowds() {
    let options = ChannelOptions {
        feature: Some(Feature::Typing),
        class: Class::Ephemeral,
        ..ChannelOptions::default()
    };
    let mut h = home_with(options);
    let c: Arc<str> = "a".into();
    subscribe(&mut h, 0, &c, None);
    let typing = r#"{"typing":true,"ttl_ms":6000}"#;
    // From whatever connection it comes.
    for (user, now_ms, want) in [
        (Some("u"), 0, 200),
        (Some("u"), 2_999, 0),
        (Some("v"), 2_999, 200),
        (Some("u"), 3_000, 200),
        (None, 3_001, 200),
        (Some(""), 3_001, 200),
        (Some(""), 3_001, 200),
    ] {
        assert_eq!(send(&mut h, &c, user, typing, now_ms), want, "{user:?} at {now_ms}");
    }
    h.obey(&at(1), 10_000);
    assert_eq!(send(&mut h, &c, Some("u"), typing, 10_000), 200);
    assert_eq!(send(&mut h, &c, Some("u"), typing, 15_999), 0);
    for worker in 0..200 {
        subscribe(&mut h, worker % 2, &c, None);
    }
    assert_eq!(send(&mut h, &c, Some("u"), typing, 20_000), 0, "200 are too many now");
    h.obey(&at(0), 20_000);
    assert_eq!(send(&mut h, &c, Some("u"), typing, 20_000), 200);
    h.obey(&at(2), 30_000);
    assert_eq!(send(&mut h, &c, Some("v"), typing, 30_000), 0, "off");
    let figures = h.take_figures();
    assert_eq!((figures.typing_throttled, figures.typing_dropped), (2, 2));
}

#[test]
fn what_was_kept_back_is_told_at_a_pace() {
    let mut h = home_with(ChannelOptions { presence: true, ..ChannelOptions::default() });
    let join = |n: u32| {
        let mut client = [0; 16];
        client[..4].copy_from_slice(&n.to_be_bytes());
        let member = Some(ClientInfo { client: ClientId(client), ..member(0, "u") });
        Request::Subscribe(SubscribeRequest { member, announce: true, ..Default::default() })
    };
    h.obey(&at(3), 0);
    let rooms: Vec<Arc<str>> = (0..100).map(|n| format!("room{n}").into()).collect();
    for n in 0..10_000 {
        h.handle(Some(0), &rooms[n % 100], join(n as u32), 1_000);
    }
    assert_eq!(wait(&mut h, 1_000, 60_000), [""; 0]);
    h.obey(&at(0), 60_000);
    let first = wait(&mut h, 60_000, 61_000);
    let rest = wait(&mut h, 61_000, 62_000);
    // 100 subscribers each, 5,000 in a second.
    assert_eq!((first.len(), rest.len()), (51, 49));
    assert!(first.iter().chain(&rest).all(|what| what.contains("100 of 1 resync")), "{first:?}");
    assert!(h.held.is_empty() && h.due_ms().is_none());
    // The names are chosen by peers: this map is seeded like the others, before and after.
    let hash = |map: &Map<Arc<str>, ()>| map.hasher().hash_one("room");
    assert_eq!(hash(&h.held), hash(&map::with_seed(h.seed ^ 4)));
    // Nothing changed since: nothing is told when the load comes and goes.
    h.obey(&at(3), 70_000);
    h.obey(&at(0), 80_000);
    assert_eq!(wait(&mut h, 80_000, 99_000), [""; 0]);
}
