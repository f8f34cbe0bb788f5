//! Tiers in a whole worker.

use super::*;
use plimsoll_core::quota::{Limit, Quota, Rate};
use plimsoll_core::tier::{Tier, TierClaim};
use plimsoll_overload::actions::Compression;
use plimsoll_overload::feature::{Class, Feature};
use plimsoll_overload::level::Level;

/// A token is the name of a tier, or any other text; the user's id is the token too.
struct ByName;

impl TokenVerifier for ByName {
    fn connection(&self, token: &str, _: u64) -> Result<ConnectionClaims, TokenError> {
        let (user, tier) = (token.into(), self.unverified_tier(token));
        let tenant = if token.starts_with("shop") { "shop".into() } else { Box::default() };
        Ok(ConnectionClaims { user, tier, tenant, ..ConnectionClaims::default() })
    }
    fn unverified_tier(&self, token: &str) -> TierClaim {
        Tier::parse(token).map_or(TierClaim::Absent, TierClaim::Known)
    }
    fn subscription(&self, _: &str, _: u64) -> Result<SubscriptionClaims, TokenError> {
        Err(TokenError::Invalid)
    }
}

/// The first of the workers, with tiers.
struct One(World);

impl One {
    fn new(change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = World::policy(false);
        policy.tiers.enabled = true;
        // Nobody here answers pings.
        policy.tiers.options.iter_mut().for_each(|t| t.ping_interval_ms = 0);
        change(&mut policy);
        Self(World::with(7, policy, Box::new(ByName)))
    }

    fn tell(&self, told: Told) {
        self.0.cores[0].shared.line.tell(told);
    }

    fn turn(&mut self, ms: u64) {
        let w = &mut self.0;
        w.now += ms;
        let now = Now { mono_ms: w.now, unix_ms: w.now };
        w.cores.iter_mut().for_each(|core| core.begin_turn(now, w.now * 1_000));
        w.cores[0].on_deadlines(&mut w.ios[0]);
        w.cores[0].flush(&mut w.ios[0]);
        for to in 1..WORKERS {
            while let Some(letter) = w.ios[0].mail[to].pop_front() {
                w.cores[to].on_letter(letter, &mut w.ios[to]);
            }
            while let Some(letter) = w.ios[to].mail[0].pop_front() {
                w.cores[0].on_letter(letter, &mut w.ios[0]);
            }
        }
        w.cores[0].flush(&mut w.ios[0]);
    }

    fn come(&mut self, token: &str) -> u32 {
        self.come_with(token, HEAD.to_vec())
    }

    fn come_with(&mut self, token: &str, mut head: Vec<u8>) -> u32 {
        let w = &mut self.0;
        let (slot, _) = w.cores[0].on_accept();
        w.ios[0].sockets.insert(slot, (Vec::new(), usize::MAX));
        w.cores[0].on_bytes(slot, &mut head, &mut w.ios[0]);
        w.bytes(0, slot, &format!("{{\"id\":1,\"connect\":{{\"token\":\"{token}\"}}}}"));
        slot
    }

    fn say(&mut self, slot: u32, text: &str) {
        self.0.bytes(0, slot, text);
    }

    /// Everything sent so far.
    fn heard(&self, slot: u32) -> String {
        let sent = self.0.ios[0].sockets.get(&slot).map(|(bytes, _)| bytes.as_slice());
        String::from_utf8_lossy(sent.unwrap_or_default()).into_owned()
    }

    fn stats(&self) -> &WorkerStats {
        &self.0.cores[0].stats
    }
}

/// Counts the tokens that were looked into for a place at the door.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl TokenVerifier for Counting {
    fn connection(&self, token: &str, unix_ms: u64) -> Result<ConnectionClaims, TokenError> {
        ByName.connection(token, unix_ms)
    }
    fn unverified_tier(&self, token: &str) -> TierClaim {
        self.0.fetch_add(1, Ordering::Relaxed);
        ByName.unverified_tier(token)
    }
    fn subscription(&self, _: &str, _: u64) -> Result<SubscriptionClaims, TokenError> {
        Err(TokenError::Invalid)
    }
}

#[test]
fn a_door_that_opens_to_no_tier_reads_no_token() {
    for (admission, read) in [
        (AdmissionFloor::ResumesAndTop, 1),
        (AdmissionFloor::ResumesOnly, 0),
        (AdmissionFloor::Closed, 0),
    ] {
        let mut policy = World::policy(false);
        policy.tiers.enabled = true;
        let counting = Counting::default();
        let mut one = One(World::with(7, policy, Box::new(counting.clone())));
        one.tell(Told { gates: Gates { admission, ..Gates::default() }, ..Told::default() });
        one.turn(1);
        one.come("enterprise");
        assert_eq!(counting.0.load(Ordering::Relaxed), read, "{admission:?}");
    }
}

#[test]
fn the_top_tier_goes_before_the_rest() {
    let mut one = One::new(|_| {});
    // Ten a second for this worker, one of them for the rest.
    let admission = AdmissionFloor::ResumesFirst;
    let gates = Gates { accepts_per_s: 30.0, admission, ..Gates::default() };
    one.tell(Told { gates, ..Told::default() });
    one.turn(1);
    let names = ["free", "someone", "enterprise", "pro"];
    let all: Vec<(u32, &str)> =
        (0..48).map(|i| names[i % 4]).map(|name| (one.come(name), name)).collect();
    let let_in = |one: &One, name: &str| {
        let of = all.iter().filter(|(_, n)| *n == name);
        of.filter(|(slot, _)| one.heard(*slot).contains("\"connect\":{")).count()
    };
    let mut turns = 0;
    while let_in(&one, "enterprise") < 12 && turns < 60 {
        one.turn(50);
        turns += 1;
    }
    assert_eq!(let_in(&one, "enterprise"), 12, "all of the top tier within four seconds");
    let rest = ["free", "someone", "pro"].map(|name| let_in(&one, name));
    assert!(rest.iter().sum::<usize>() < 9, "of 36 others: {rest:?}");
    assert_eq!(one.stats().tier_enterprise.get(), 12);
}

#[test]
fn a_channel_waits_no_longer_than_its_most_impatient_subscriber_was_promised() {
    let mut one = One::new(|p| p.tiers.options[1].batch_window_ms = 20);
    let gates = Gates { batching_window_ms: 100, ..Gates::default() };
    one.tell(Told { gates, ..Told::default() });
    one.turn(1);
    let publisher = one.come("publisher");
    let subscribers = [("free", "f", 100), ("pro", "p", 20), ("enterprise", "e", 0)];
    for (token, channel, window_ms) in subscribers {
        let slot = one.come(token);
        one.say(slot, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
        one.turn(200);
        let publish = |one: &mut One, data: &str| {
            let data = format!("{{\"channel\":\"{channel}\",\"data\":\"{data}\"}}");
            one.say(publisher, &format!("{{\"id\":3,\"publish\":{data}}}"));
            one.turn(0);
            one.turn(0);
        };
        publish(&mut one, "first");
        assert!(one.heard(slot).contains("first"), "{token}: nothing was written before");
        publish(&mut one, "second");
        let begin_ms = one.0.now;
        while !one.heard(slot).contains("second") && one.0.now < begin_ms + 1_000 {
            one.turn(1);
        }
        let waited_ms = one.0.now - begin_ms;
        assert!((window_ms..window_ms + 5).contains(&waited_ms), "{token}: {waited_ms} ms");
    }
}

#[test]
fn too_many_publications_of_one_connection_are_refused_and_counted() {
    let mut one = One::new(|p| {
        (p.tiers.options[0].publish_rate_limit, p.tiers.options[0].publish_rate_burst) = (1, 3);
    });
    one.turn(1);
    let slot = one.come("free");
    for id in 2..12 {
        one.say(slot, &format!("{{\"id\":{id},\"publish\":{{\"channel\":\"a\",\"data\":1}}}}"));
    }
    one.turn(1);
    let heard = one.heard(slot);
    assert_eq!(heard.matches("\"publish\":{}").count(), 3, "{heard}");
    assert_eq!(heard.matches("\"code\":111").count(), 7, "{heard}");
    assert_eq!(one.stats().of_limit(Limit::PublishRate).get(), 7);
    assert_eq!(
        one.stats().publications.get()
            + one.0.cores[1].stats.publications.get()
            + one.0.cores[2].stats.publications.get(),
        3,
        "what was refused is not appended"
    );
}

#[test]
fn typing_that_is_left_out_is_acknowledged_and_counted() {
    let mut one = One::new(|p| {
        let options = &mut p.channel.without_namespace;
        (options.class, options.feature) = (Class::Ephemeral, Some(Feature::Typing));
    });
    one.turn(1);
    let slot = one.come("free");
    one.say(slot, "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}");
    one.turn(1);
    one.turn(1);
    for id in 3..9 {
        one.say(slot, &format!("{{\"id\":{id},\"publish\":{{\"channel\":\"a\",\"data\":1}}}}"));
    }
    one.turn(1);
    one.turn(1);
    let heard = one.heard(slot);
    assert_eq!(heard.matches("\"publish\":{}").count(), 6, "{heard}");
    assert_eq!(one.stats().ephemeral_throttled.get(), 5);
}

#[test]
fn who_does_nothing_is_closed_and_counted_out() {
    let mut one = One::new(|p| p.tiers.options[0].idle_timeout_ms = 2_000);
    one.turn(100);
    let (idle, active) = (one.come("free"), one.come("free"));
    assert_eq!(one.stats().tier_free.get(), 2);
    one.turn(1_500);
    one.say(active, r#"{"send":{"data":{"plimsoll":{"type":"active"}}}}"#);
    one.turn(600);
    let close = ws_close(4501, "idle");
    assert!(one.heard(idle).ends_with(&close), "{:?}", one.heard(idle));
    assert!(!one.heard(active).contains(&close));
    assert_eq!((one.stats().tier_free.get(), one.stats().idle_closed.get()), (1, 1));
}

fn ws_close(code: u16, reason: &str) -> String {
    let mut frame = Vec::new();
    ws::append_close(&mut frame, code, reason);
    String::from_utf8_lossy(&frame).into_owned()
}

/// Connections that were ended, all by this close as far as it can still be seen.
fn ended(one: &One, slots: &[u32], close: &str) -> Vec<u32> {
    let gone = |slot: &u32| one.0.ios[0].closed.contains(slot);
    let closing = |slot: &u32| !gone(slot) && !one.0.cores[0].conns.get(*slot).unwrap().is_open();
    for slot in slots.iter().filter(|s| closing(s)) {
        assert!(one.heard(*slot).ends_with(close), "{:?}", one.heard(*slot));
    }
    slots.iter().copied().filter(|s| gone(s) || closing(s)).collect()
}

#[test]
fn an_emergency_closes_the_longest_idle_a_hundredth_a_second() {
    let mut one = One::new(|p| p.tiers.enabled = false);
    one.turn(1);
    // The first came long before the last.
    let slots: Vec<u32> = (0..300).map(|_| (one.turn(100), one.come("someone")).1).collect();
    one.tell(Told { close_idle: true, ..Told::default() });
    let close = ws_close(4001, "idle, node is overloaded");
    for second in 1..=10 {
        (0..10).for_each(|_| one.turn(100));
        let closed = ended(&one, &slots, &close);
        assert!(closed.len() <= 3 * second + 3, "{} after {second} s", closed.len());
        assert_eq!(closed, slots[..closed.len()], "the longest idle first");
    }
    let closed = ended(&one, &slots, &close).len();
    assert!(closed >= 25, "{closed}");
    assert_eq!(one.stats().idle_shed.get(), closed as u64);
    // Who did something half a minute ago or later stays, however long it takes.
    let next = slots[closed];
    one.say(next, r#"{"send":{"data":{"plimsoll":{"type":"active"}}}}"#);
    (0..20).for_each(|_| one.turn(1_000));
    assert!(!ended(&one, &[next], &close).contains(&next));
    assert!(ended(&one, &slots, &close).len() > closed + 40, "the others go on");
    one.tell(Told::default());
    one.turn(1);
    let closed = ended(&one, &slots, &close).len();
    (0..20).for_each(|_| one.turn(1_000));
    assert_eq!(ended(&one, &slots, &close).len(), closed, "it is over");
    assert_eq!(one.0.cores[0].idle_wait_ms(), u64::MAX);
}

#[test]
fn shrinking_timeouts_close_slowly_and_only_where_there_are_tiers() {
    let run = |enabled: bool, strength: f64| {
        let mut one = One::new(|p| p.tiers.enabled = enabled);
        one.turn(1);
        let slots: Vec<u32> = (0..200).map(|_| one.come("free")).collect();
        one.turn(60_000);
        one.say(slots[0], r#"{"send":{"data":{"plimsoll":{"type":"active"}}}}"#);
        let gates = Gates { idle_strength: strength, ..Gates::default() };
        one.tell(Told { gates, ..Told::default() });
        (0..10).for_each(|_| one.turn(1_000));
        let closed = ended(&one, &slots, &ws_close(4501, "idle"));
        (closed.len(), closed.contains(&slots[0]))
    };
    let (closed, _) = run(true, 1.0);
    assert!((18..=20).contains(&closed), "{closed} of 200 in 10 s");
    // Of five minutes so much is left that a minute is short, or just too long.
    assert_eq!(run(true, 0.7), (0, false));
    assert!(run(true, 0.82).0 > 0);
    assert!(!run(true, 0.82).1, "it did something");
    assert_eq!(run(false, 1.0), (0, false), "no timeout, nothing to shrink");
}

#[test]
fn a_tenant_pays_for_deliveries_wherever_its_channels_are_at_home() {
    let mut one = One::new(|p| {
        p.tiers.enabled = false;
        p.quotas.tenant =
            Quota { deliveries: Rate { per_second: 10, burst: 20 }, ..Quota::default() };
    });
    one.turn(1);
    let shops = [one.come("shop-1"), one.come("shop-2")];
    let other = one.come("other");
    // Channels at home on each of the workers, with five subscribers each.
    for n in 0..5 {
        let slot = one.come(&format!("reader-{n}"));
        for (id, channel) in (2..).zip(CHANNELS) {
            one.say(slot, &format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"{channel}\"}}}}"));
        }
    }
    (0..3).for_each(|_| one.turn(0));
    let publish = |one: &mut One, slot: u32, count: usize| {
        let before = one.heard(slot);
        for n in 0..count {
            let data = format!("{{\"channel\":\"{}\",\"data\":1}}", CHANNELS[n % 3]);
            one.say(slot, &format!("{{\"id\":{},\"publish\":{data}}}", n + 10));
            (0..2).for_each(|_| one.turn(0));
        }
        let after = one.heard(slot).split_off(before.len());
        let (taken, refused) = ("\"publish\":{}", "\"code\":111");
        let (taken, refused) = (after.matches(taken).count(), after.matches(refused).count());
        assert_eq!(taken + refused, count, "{after}");
        taken
    };
    // Twenty deliveries are four publications to five, for both connections together.
    assert_eq!((publish(&mut one, shops[0], 3), publish(&mut one, shops[1], 3)), (3, 1));
    assert_eq!(publish(&mut one, other, 20), 20, "nobody's customer");
    one.turn(1_000);
    assert_eq!(publish(&mut one, shops[0], 6), 2, "ten a second are two publications");
    let refused = |c: &Core| c.stats.of_limit(Limit::TenantDeliveries).get();
    assert_eq!(one.0.cores.iter().map(refused).sum::<u64>(), 6);
    // At half of the gate it is half, from Degraded on.
    one.turn(60_000);
    let (work_level, publish_factor) = (Level::Degraded, 0.5);
    one.tell(Told {
        gates: Gates { work_level, publish_factor, ..Gates::default() },
        ..Told::default()
    });
    one.turn(1);
    assert_eq!(publish(&mut one, shops[0], 6), 2);
}

#[test]
fn the_load_and_the_tier_decide_whether_a_message_is_compressed() {
    let mut one = One::new(|p| {
        p.websocket.compression = true;
        p.websocket.compression_min_size_bytes = 300;
        p.tiers.options[1].compression = false;
    });
    one.turn(1);
    let extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let offer = [&HEAD[..HEAD.len() - 2], extension].concat();
    let readers = ["free", "pro"].map(|tier| one.come_with(tier, offer.clone()));
    let plain = one.come("enterprise");
    let everybody = [readers[0], readers[1], plain];
    for slot in everybody {
        one.say(slot, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    }
    (0..3).for_each(|_| one.turn(1));
    // Who of the two gets a publication with about so many bytes as a compressed frame.
    let mut compressed = |compression: Compression, bytes: usize| {
        one.tell(Told { gates: Gates { compression, ..Gates::default() }, ..Told::default() });
        one.turn(1);
        let sent = |one: &One, slot: u32| one.0.ios[0].sockets[&slot].0.len();
        let before = everybody.map(|slot| sent(&one, slot));
        let data = format!("{{\"channel\":\"a\",\"data\":\"{}\"}}", "x".repeat(bytes));
        one.say(plain, &format!("{{\"id\":3,\"publish\":{data}}}"));
        // Three are many here: what is written in slices may take a few turns.
        (0..20).for_each(|_| one.turn(1));
        let first = |at: usize| one.0.ios[0].sockets[&everybody[at]].0[before[at]];
        assert_eq!(first(2) & 0x40, 0, "never without an agreement");
        [first(0), first(1)].map(|byte| byte & 0x40 != 0)
    };
    assert_eq!(compressed(Compression::Configured, 400), [true, false], "the tier has none");
    assert_eq!(compressed(Compression::Configured, 100), [false, false], "too short");
    assert_eq!(compressed(Compression::Off, 400), [false, false]);
    assert_eq!(compressed(Compression::On, 100), [true, false]);
    assert_eq!(compressed(Compression::Configured, 400), [true, false], "as before");
}

#[test]
fn a_connection_at_rest_stays_small() {
    // Every byte here is paid by each of a hundred thousand idle connections.
    assert!(size_of::<Session>() <= 160, "{}", size_of::<Session>());
    assert!(size_of::<Conn>() <= 56, "{}", size_of::<Conn>());
    assert!(size_of::<conn::Open>() <= 192, "{}", size_of::<conn::Open>());
}
