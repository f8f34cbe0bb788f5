//! The home worker's channel state, driven by hand.

use super::*;
use crate::model::ClientInfo;
use crate::policy::ChannelPolicy;
use crate::presence::{Change, Told};

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
