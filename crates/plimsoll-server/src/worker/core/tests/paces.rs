//! What waits for its turn on one worker, and how long what is queued has waited.

use super::*;

/// One worker; channel "a" is at home there or elsewhere, which the tests do not notice: mail is
/// delivered every turn.
struct Pier {
    world: World,
}

impl Pier {
    fn new() -> Self {
        Self { world: World::new(8, false) }
    }

    fn tell(&mut self, gates: Gates) {
        self.world.cores[0].shared.line.tell(Told { gates, ..Told::default() });
        self.turn(1);
    }

    fn turn(&mut self, ms: u64) {
        let w = &mut self.world;
        w.now += ms;
        let now = Now { mono_ms: w.now, unix_ms: w.now };
        for worker in 0..WORKERS {
            w.ios[worker].clock_us = w.now * 1_000;
            w.cores[worker].begin_turn(now, w.now * 1_000);
            w.cores[worker].on_deadlines(&mut w.ios[worker]);
        }
        for _ in 0..2 {
            for from in 0..WORKERS {
                for to in 0..WORKERS {
                    while let Some(letter) = w.ios[from].mail[to].pop_front() {
                        w.cores[to].on_letter(letter, &mut w.ios[to]);
                    }
                }
            }
        }
        for worker in 0..WORKERS {
            w.cores[worker].flush(&mut w.ios[worker]);
        }
    }

    /// A connected client of the first worker, whose socket takes so many bytes.
    fn come(&mut self, room: usize) -> u32 {
        let w = &mut self.world;
        let (slot, _) = w.cores[0].on_accept();
        w.ios[0].sockets.insert(slot, (Vec::new(), room));
        w.cores[0].on_bytes(slot, &mut HEAD.to_vec(), &mut w.ios[0]);
        w.bytes(0, slot, "{\"id\":1,\"connect\":{}}");
        self.turn(1);
        slot
    }

    fn say(&mut self, slot: u32, text: &str) {
        self.world.bytes(0, slot, text);
    }

    fn recover(&mut self, slot: u32, channel: &str) {
        let text =
            format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\",\"recover\":true}}}}");
        self.say(slot, &text);
    }

    fn heard(&self, slot: u32, word: &str) -> usize {
        let sent = self.world.ios[0].sockets.get(&slot);
        let text = String::from_utf8_lossy(sent.map_or(&[], |(bytes, _)| bytes)).into_owned();
        text.matches(word).count()
    }

    fn stats(&self) -> &WorkerStats {
        &self.world.cores[0].stats
    }
}

const PACED: fn() -> Gates = || Gates { recovery_paced: true, ..Gates::default() };

#[test]
fn recoveries_wait_in_order_and_go_on_by_themselves() {
    let mut pier = Pier::new();
    let slots: Vec<u32> = (0..200).map(|_| pier.come(usize::MAX)).collect();
    pier.tell(PACED());
    slots.iter().for_each(|s| pier.recover(*s, "a"));
    pier.turn(1);
    let answered =
        |p: &Pier| slots.iter().map(|s| p.heard(*s, "\"subscribe\":{")).collect::<Vec<_>>();
    let first: usize = answered(&pier).iter().sum();
    assert!((1..150).contains(&first), "{first} at once");
    assert_eq!(pier.stats().recoveries_waiting.get() as usize, 200 - first);
    // About a millisecond each, a quarter of the time: some hundred a second.
    let mut seen = first;
    for _ in 0..40 {
        pier.turn(50);
        let now = answered(&pier);
        let done: usize = now.iter().sum();
        assert!(done - seen < 60, "{done} after {seen}");
        let gap = now.windows(2).find(|w| w[0] < w[1]);
        assert_eq!(gap, None, "the order of arrival: {now:?}");
        seen = done;
    }
    assert_eq!((seen, pier.stats().recoveries_waiting.get()), (200, 0));
    assert_eq!(pier.stats().recoveries_deferred.get(), 0);
}

#[test]
fn what_else_a_connection_asks_for_does_not_wait() {
    let mut pier = Pier::new();
    let slots: Vec<u32> = (0..150).map(|_| pier.come(usize::MAX)).collect();
    pier.tell(PACED());
    slots.iter().for_each(|s| pier.recover(*s, "a"));
    let last = slots[149];
    pier.say(last, "{\"id\":3,\"publish\":{\"channel\":\"b\",\"data\":{}}}");
    pier.say(last, "{\"id\":4,\"subscribe\":{\"channel\":\"b\"}}");
    // It changes its mind: the answer comes all the same, in its order.
    pier.say(last, "{\"id\":5,\"unsubscribe\":{\"channel\":\"a\"}}");
    pier.turn(1);
    assert_eq!((pier.heard(last, "\"publish\":"), pier.heard(last, "\"id\":4")), (1, 1));
    assert_eq!(pier.heard(last, "\"id\":2"), 0, "its turn has not come");
    // Who goes while waiting leaves nothing behind.
    let gone = slots[140];
    pier.world.cores[0].on_hangup(gone, false, &mut pier.world.ios[0]);
    (0..40).for_each(|_| pier.turn(50));
    assert_eq!(pier.heard(last, "\"unsubscribe\":"), 1);
    let w = &mut pier.world;
    slots.iter().for_each(|s| w.cores[0].on_hangup(*s, false, &mut w.ios[0]));
    (0..5).for_each(|_| pier.turn(1));
    let interest: usize = pier.world.cores.iter().map(|c| c.home.subscribed().count()).sum();
    assert_eq!((interest, pier.stats().handshakes.get()), (0, 0));
}

#[test]
fn who_would_wait_longer_than_clients_do_is_told_to_ask_again() {
    let mut pier = Pier::new();
    let slots: Vec<u32> = (0..100).map(|_| pier.come(usize::MAX)).collect();
    pier.tell(PACED());
    // A recovery that costs 100 ms: two and a half a second.
    (0..200).for_each(|_| pier.world.cores[0].recoveries.pace.home_took(100_000));
    pier.turn(10_000);
    slots.iter().for_each(|s| pier.recover(*s, "a"));
    let mut waited_ms = 0;
    while pier.stats().recoveries_waiting.get() > 0 && waited_ms < 10_000 {
        pier.turn(50);
        waited_ms += 50;
    }
    assert!((4_000..5_000).contains(&waited_ms), "{waited_ms} ms");
    let all = |word| slots.iter().map(|s| pier.heard(*s, word)).sum::<usize>();
    let (answered, later) = (all("\"subscribe\":{"), all("\"code\":111"));
    assert_eq!(answered + later, 100, "everybody was answered");
    assert!(answered >= 5 && later > 50, "{answered} answered, {later} told to ask again");
    assert_eq!(all("\"temporary\":true"), later);
    assert_eq!(pier.stats().recoveries_deferred.get() as usize, later);
    // Nobody is told for ever: the next one gets it.
    pier.turn(5_000);
    pier.recover(slots[99], "a");
    pier.turn(1);
    assert_eq!(pier.heard(slots[99], "\"subscribe\":{"), 1);
}

#[test]
fn who_has_gone_keeps_no_place_in_the_queue() {
    let mut pier = Pier::new();
    let first = pier.come(usize::MAX);
    pier.tell(PACED());
    (0..200).for_each(|_| pier.world.cores[0].recoveries.pace.home_took(100_000));
    pier.recover(first, "a");
    for _ in 0..=limits::RECOVERIES_WAITING_MAX / 100 {
        let slot = pier.come(usize::MAX);
        for n in 0..100 {
            let command =
                format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"x{n}\",\"recover\":true}}}}");
            pier.say(slot, &command);
        }
        pier.world.cores[0].on_hangup(slot, false, &mut pier.world.ios[0]);
    }
    pier.turn(limits::RECOVERIES_LOOK_MS);
    let late = pier.come(usize::MAX);
    pier.recover(late, "a");
    pier.turn(1);
    assert_eq!(pier.heard(late, "\"code\":111"), 0, "those before it are gone");
}

#[test]
fn what_waited_goes_on_at_once_when_the_load_is_gone() {
    let mut pier = Pier::new();
    let slots: Vec<u32> = (0..400).map(|_| pier.come(usize::MAX)).collect();
    pier.tell(PACED());
    (0..200).for_each(|_| pier.world.cores[0].recoveries.pace.home_took(100_000));
    slots.iter().for_each(|s| pier.recover(*s, "a"));
    pier.turn(1);
    assert!(pier.stats().recoveries_waiting.get() > 390);
    pier.tell(Gates::default());
    (0..20).for_each(|_| pier.turn(1));
    assert_eq!(pier.stats().recoveries_waiting.get(), 0, "nothing is paced any more");
}

#[test]
fn a_connect_that_brings_its_channels_is_not_kept_twice() {
    let mut pier = Pier::new();
    pier.tell(PACED());
    (0..200).for_each(|_| pier.world.cores[0].recoveries.pace.home_took(100_000));
    let waiting: Vec<u32> = (0..20).map(|_| pier.come(usize::MAX)).collect();
    waiting.iter().for_each(|s| pier.recover(*s, "a"));
    pier.turn(1);
    assert!(pier.stats().recoveries_waiting.get() > 0);
    let w = &mut pier.world;
    let (slot, _) = w.cores[0].on_accept();
    w.ios[0].sockets.insert(slot, (Vec::new(), usize::MAX));
    w.cores[0].on_bytes(slot, &mut HEAD.to_vec(), &mut w.ios[0]);
    pier.say(slot, "{\"id\":1,\"connect\":{\"subs\":{\"a\":{\"recover\":true}}}}");
    (0..2).for_each(|_| pier.turn(1));
    assert_eq!(pier.heard(slot, "\"connect\":{"), 1);
}

#[test]
fn the_age_of_what_is_queued_is_seen_but_for_the_worst_hundredth() {
    let mut pier = Pier::new();
    let mut slots: Vec<u32> = (0..297).map(|_| pier.come(usize::MAX)).collect();
    slots.extend((0..3).map(|_| pier.come(600)));
    for slot in &slots {
        pier.say(*slot, "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}");
    }
    (0..3).for_each(|_| pier.turn(1));
    let publish = "{\"id\":9,\"publish\":{\"channel\":\"a\",\"data\":{}}}";
    for _ in 0..20 {
        pier.say(slots[0], publish);
        pier.turn(1);
    }
    assert!(pier.stats().queued_chunks.get() > 0);
    (0..8).for_each(|_| pier.turn(100));
    assert_eq!(pier.stats().oldest_frame_age_ms.get(), 0, "three of 300 stand still");
    let fourth = slots[1];
    pier.world.ios[0].sockets.get_mut(&fourth).unwrap().1 = 10;
    pier.say(slots[0], publish);
    (0..3).for_each(|_| pier.turn(1));
    (0..4).for_each(|_| pier.turn(250));
    let age_ms = pier.stats().oldest_frame_age_ms.get();
    assert!((700..=1_100).contains(&age_ms), "the fourth has waited for a second: {age_ms}");
    for slot in slots.split_off(297).into_iter().chain([fourth]) {
        pier.world.cores[0].on_hangup(slot, false, &mut pier.world.ios[0]);
    }
    pier.turn(250);
    assert_eq!(pier.stats().oldest_frame_age_ms.get(), 0);
}

#[test]
fn in_an_emergency_those_over_the_soft_limit_catch_up_and_spare_memory_goes_back() {
    let mut pier = Pier::new();
    let slots: Vec<u32> = (0..60).map(|_| pier.come(900)).collect();
    for slot in &slots {
        let since = "\"recoverable\":true";
        pier.say(*slot, &format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"a\",{since}}}}}"));
    }
    (0..3).for_each(|_| pier.turn(1));
    let data = "x".repeat(2_000);
    for _ in 0..10 {
        pier.say(
            slots[0],
            &format!("{{\"id\":9,\"publish\":{{\"channel\":\"a\",\"data\":\"{data}\"}}}}"),
        );
        pier.turn(1);
    }
    pier.turn(1_500);
    assert_eq!(pier.stats().fell_behind.get(), 0, "20 KB each, and a second old: nothing is done");
    pier.tell(Gates { catch_up: true, drop_caches: true, ..Gates::default() });
    (0..3).for_each(|_| pier.turn(100));
    assert_eq!(pier.stats().fell_behind.get(), 60, "each is told of one channel");
    for slot in &slots {
        pier.world.ios[0].sockets.get_mut(slot).unwrap().1 = usize::MAX;
        pier.world.cores[0].on_writable(*slot, &mut pier.world.ios[0]);
    }
    pier.turn(1);
    let told = slots.iter().filter(|s| pier.heard(**s, "\"code\":2500") == 1).count();
    assert_eq!(told, 60);
    let w = &mut pier.world;
    (0..30).for_each(|n| {
        w.now += 100;
        w.cores[0].begin_turn(Now { mono_ms: w.now, unix_ms: n }, w.now * 1_000);
        w.cores[0].end_turn(&mut w.ios[0]);
    });
    let times = pier.stats().memory_given_back.get();
    assert!((3..=4).contains(&times), "once a second: {times}");
}
