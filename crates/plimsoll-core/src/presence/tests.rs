//! Rosters against a subscriber that knows only what it is told.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const GATES: [PresenceScope; 4] =
    [PresenceScope::Full, PresenceScope::Batched, PresenceScope::Counts, PresenceScope::Off];

fn info(n: u8, user: &str, look: u8) -> ClientInfo {
    let conn_info = (look > 0).then(|| Arc::from(look.to_string()));
    ClientInfo { user: user.into(), client: ClientId([n; 16]), conn_info, chan_info: None }
}

/// A roster, its subscriber, and the connections as they are.
struct World {
    roster: Roster,
    options: ChannelOptions,
    scope: PresenceScope,
    now_ms: u64,
    figures: Figures,
    live: BTreeMap<u8, ClientInfo>,
    /// What the subscriber has made of it.
    seen: BTreeMap<ClientId, ClientInfo>,
    /// The same of one that came later and asked then.
    late: Option<BTreeMap<ClientId, ClientInfo>>,
    /// It knows that it may be wrong.
    lost: bool,
    log: Vec<String>,
}

impl World {
    fn new(options: ChannelOptions) -> Self {
        Self {
            roster: Roster::new(7),
            options,
            scope: PresenceScope::Full,
            now_ms: 1_000,
            figures: Figures::default(),
            live: BTreeMap::new(),
            seen: BTreeMap::new(),
            late: None,
            lost: false,
            log: Vec::new(),
        }
    }

    fn run(&mut self, doing: impl FnOnce(&mut Roster, &mut Terms<'_>, &mut Vec<Told>)) {
        let scope = Scope { scope: self.scope, interval_ms: 2_000 };
        let (options, now_ms, figures) = (&self.options, self.now_ms, &mut self.figures);
        let mut terms = Terms { options, scope, now_ms, figures };
        let mut out = Vec::new();
        doing(&mut self.roster, &mut terms, &mut out);
        self.roster.on_time(&mut terms, &mut out);
        for told in out {
            self.hear(told);
        }
    }

    fn ask(&mut self) {
        self.late = Some(self.roster.show().map(|i| (i.client, i.clone())).collect());
    }

    fn hear(&mut self, told: Told) {
        if let Some(late) = &mut self.late {
            match &told {
                Told::Change(Change::Join(i)) => {
                    late.insert(i.client, ClientInfo::clone(i));
                }
                Told::Change(Change::Leave(i)) => {
                    late.remove(&i.client);
                }
                Told::Tally(tally) if tally.resync => self.ask(),
                Told::Tally(_) => {}
            }
        }
        match told {
            Told::Change(Change::Join(i)) => {
                self.log.push(format!("+{}", i.client.0[0]));
                let before = self.seen.insert(i.client, ClientInfo::clone(&i));
                assert!(before.is_none() || self.lost, "told twice: {:?}", self.log);
            }
            Told::Change(Change::Leave(i)) => {
                self.log.push(format!("-{}", i.client.0[0]));
                let before = self.seen.remove(&i.client);
                assert!(before.is_some() || self.lost, "never told: {:?}", self.log);
            }
            Told::Tally(tally) => {
                let what = if tally.resync { "resync" } else { "count" };
                self.log.push(format!("{what} {}/{}", tally.clients, tally.users));
                self.lost = !tally.resync;
                if tally.resync {
                    let entries = self.roster.show();
                    self.seen = entries.map(|i| (i.client, i.clone())).collect();
                }
            }
        }
    }

    fn enter(&mut self, n: u8, user: &str, look: u8) {
        if let std::collections::btree_map::Entry::Vacant(place) = self.live.entry(n) {
            let info = info(n, user, look);
            place.insert(info.clone());
            self.run(|r, terms, _| r.enter(info, true, terms));
        }
    }

    fn exit(&mut self, n: u8) {
        if self.live.remove(&n).is_some() {
            self.run(|r, terms, _| r.exit(ClientId([n; 16]), true, false, terms));
        }
    }

    /// As a worker that wakes when something is due.
    fn wait(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.roster.due_ms() <= end_ms {
            self.now_ms = self.now_ms.max(self.roster.due_ms());
            self.run(|_, _, _| {});
        }
        self.now_ms = end_ms;
    }

    fn gates(&mut self, scope: PresenceScope) {
        if scope != self.scope {
            self.scope = scope;
            self.roster.release(self.now_ms + 500);
        }
        // What is not told any more may be wrong.
        self.lost |= scope >= PresenceScope::Counts;
    }

    fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(" ")
    }
}

fn looks(infos: impl Iterator<Item = ClientInfo>) -> Vec<(Arc<str>, Option<Arc<str>>)> {
    let mut all: Vec<_> = infos.map(|i| (i.user, i.conn_info)).collect();
    all.sort();
    all
}

#[test]
fn by_itself_everything_is_told_at_once() {
    let mut w = World::new(ChannelOptions::default());
    w.enter(1, "a", 0);
    w.enter(2, "a", 0);
    w.exit(1);
    w.exit(2);
    assert_eq!(w.log(), "+1 +2 -1 -2");
    assert!(w.roster.is_empty() && !w.roster.owes());
    assert_eq!(w.figures, Figures { told: 4, ..Figures::default() });
}

#[test]
fn who_is_back_in_time_has_not_left() {
    let mut w =
        World::new(ChannelOptions { presence_leave_debounce_ms: 10_000, ..Default::default() });
    w.enter(1, "a", 0);
    w.enter(2, "a", 0);
    w.exit(1);
    w.wait(9_000);
    assert_eq!((w.roster.clients(), w.roster.users()), (2, 1), "it is still present");
    // A new connection of the same user moves in.
    w.enter(3, "a", 0);
    w.wait(30_000);
    assert_eq!(w.log(), "+1 +2");
    // The old connection is back itself: the one that lives in its entry gets one of its own.
    w.enter(1, "a", 0);
    assert_eq!(w.log(), "+3");
    w.exit(3);
    w.wait(9_999);
    assert_eq!(w.log(), "");
    w.wait(1);
    assert_eq!(w.log(), "-3");
    // Who looks different, or is somebody else, does not move in.
    w.exit(2);
    w.enter(4, "a", 1);
    w.enter(5, "b", 0);
    assert_eq!(w.log(), "+4 +5");
    w.wait(10_000);
    assert_eq!(w.log(), "-2");
    // Nobody without an id can be told from others without one.
    w.enter(6, "", 0);
    w.exit(6);
    w.enter(7, "", 0);
    assert_eq!(w.log(), "+6 +7");
    w.enter(6, "", 0);
    w.wait(60_000);
    assert_eq!(w.log(), "", "the same connection is the same");
    assert_eq!(w.figures.debounced, 6);
}

#[test]
fn what_undoes_itself_is_not_told() {
    let mut w = World::new(ChannelOptions { presence_coalesce_ms: 250, ..Default::default() });
    w.enter(1, "a", 0);
    w.enter(2, "b", 0);
    w.exit(2);
    w.enter(3, "c", 0);
    assert_eq!(w.log(), "");
    w.wait(250);
    assert_eq!(w.log(), "+1 +3");
    w.exit(1);
    w.enter(1, "a", 0);
    w.wait(250);
    assert_eq!(w.log(), "");
    w.exit(1);
    w.enter(1, "a", 5);
    w.wait(250);
    assert_eq!(w.log(), "-1 +1", "it looks different now");
    assert_eq!(w.figures.coalesced, 4);
    // Who has asked meanwhile knows of it, and must hear how it ends.
    w.enter(4, "d", 0);
    w.ask();
    w.exit(4);
    w.wait(250);
    assert_eq!(w.log(), "+4 -4");
}

#[test]
fn counts_say_how_many_and_then_that_something_is_missing() {
    let mut w = World::new(ChannelOptions::default());
    w.enter(1, "a", 0);
    w.gates(PresenceScope::Counts);
    w.enter(2, "a", 0);
    w.wait(1_999);
    w.enter(3, "b", 0);
    w.wait(1);
    assert_eq!(w.log(), "+1 count 3/2");
    w.wait(60_000);
    assert_eq!(w.log(), "", "nothing has changed");
    w.gates(PresenceScope::Off);
    w.exit(1);
    w.wait(60_000);
    assert_eq!(w.log(), "");
    w.gates(PresenceScope::Batched);
    w.wait(60_000);
    assert_eq!(w.log(), "resync 2/2", "once");
    w.enter(4, "c", 0);
    w.wait(2_000);
    assert_eq!(w.log(), "+4");
    assert_eq!(w.figures.suppressed, 3);
}

#[test]
fn a_crowd_is_counted_until_it_is_well_below() {
    let mut w = World::new(ChannelOptions { presence_roster_max: 4, ..Default::default() });
    (1..=6).for_each(|n| w.enter(n, "u", 0));
    w.lost = true;
    assert_eq!(w.log(), "+1 +2 +3 +4");
    w.wait(2_000);
    assert_eq!(w.log(), "count 6/1");
    (1..=2).for_each(|n| w.exit(n));
    w.wait(2_000);
    assert_eq!(w.log(), "count 4/1", "not yet");
    w.exit(3);
    w.wait(20_000);
    assert_eq!(w.log(), "-3 resync 3/1");
    w.enter(1, "u", 0);
    assert_eq!(w.log(), "+1");
}

#[test]
fn a_crowd_of_members_that_nobody_is_told_of_ends_as_well() {
    let mut w = World::new(ChannelOptions { presence_roster_max: 4, ..Default::default() });
    let silent = |w: &mut World, comes: bool| {
        for n in 11..=16 {
            w.run(|r, terms, _| match comes {
                true => r.enter(info(n, "s", 0), false, terms),
                false => r.exit(ClientId([n; 16]), false, false, terms),
            });
        }
    };
    w.enter(1, "u", 0);
    silent(&mut w, true);
    assert_eq!(w.log(), "+1", "nobody has to hear of them");
    w.lost = true;
    w.enter(2, "u", 0);
    w.wait(2_000);
    assert_eq!(w.log(), "count 8/2");
    silent(&mut w, false);
    w.wait(60_000);
    assert_eq!(w.log(), "resync 3/2", "as soon as it is well below");
    silent(&mut w, true);
    w.wait(60_000);
    assert_eq!(w.log(), "");
}

fn crowd(w: &mut World, ids: std::ops::Range<usize>, comes: bool) {
    for n in ids {
        let mut client = [1; 16];
        client[..8].copy_from_slice(&n.to_be_bytes());
        let info = ClientInfo { client: ClientId(client), ..info(0, "u", 0) };
        w.run(|r, terms, _| match comes {
            true => r.enter(info, true, terms),
            false => r.exit(info.client, true, false, terms),
        });
    }
}

#[test]
fn a_flood_becomes_a_number_and_calls_for_nobody_before_it_is_over() {
    let mut w = World::new(ChannelOptions { presence_coalesce_ms: 100, ..Default::default() });
    w.lost = true;
    crowd(&mut w, 0..300, true);
    w.wait(100);
    w.log();
    let most = limits::PRESENCE_CHANGES_MAX;
    w.ask();
    crowd(&mut w, 0..300, false);
    crowd(&mut w, 300..600, true);
    w.wait(100);
    assert_eq!(w.log(), "count 300/1");
    w.wait(limits::PRESENCE_RESYNC_MS - 1);
    assert_eq!(w.log(), "");
    w.wait(1);
    assert_eq!(w.log(), "resync 300/1");
    assert_eq!(w.figures.suppressed, 600);
    assert!(600 > most, "more than one interval holds");
}

#[test]
fn a_roster_that_is_lost_and_too_long_to_ask_for_is_a_number_until_it_is_short() {
    let mut w = World::new(ChannelOptions::default());
    w.lost = true;
    let most = limits::PRESENCE_RESYNC_MEMBERS_MAX;
    crowd(&mut w, 0..most + 10, true);
    assert_eq!(w.log().split(' ').count(), most + 10, "by itself each is told");
    w.gates(PresenceScope::Counts);
    crowd(&mut w, 0..1, false);
    w.gates(PresenceScope::Full);
    w.wait(60_000);
    assert_eq!(w.log(), format!("count {}/1", most + 9));
    crowd(&mut w, 1..9, false);
    w.wait(60_000);
    assert_eq!(w.log(), format!("count {}/1", most + 1));
    crowd(&mut w, 9..10, false);
    w.wait(60_000);
    assert_eq!(w.log(), format!("-0 resync {most}/1"));
    crowd(&mut w, 0..1, true);
    assert_eq!(w.log(), "+0");
}

proptest! {
    /// Whatever comes and goes, and whatever the load: when it is quiet, and the gates are open,
    /// the subscriber has the roster, and the roster has those who are there.
    #[test]
    fn a_subscriber_ends_with_the_true_roster(
        debounce_ms in prop_oneof![Just(0u64), Just(3_000)],
        coalesce_ms in prop_oneof![Just(0u64), Just(400)],
        roster_max in prop_oneof![Just(0usize), Just(5)],
        steps in prop::collection::vec((0u8..14, 0u8..10, 0u64..3_000), 1..120),
    ) {
        let mut w = World::new(ChannelOptions {
            presence_leave_debounce_ms: debounce_ms,
            presence_coalesce_ms: coalesce_ms,
            presence_roster_max: roster_max,
            ..Default::default()
        });
        // With a bound the subscriber cannot know when the crowd begins.
        w.lost = roster_max > 0;
        for (what, n, ms) in steps {
            let user = ["", "a", "b", "c"][usize::from(n % 4)];
            match what {
                0..=4 => w.enter(n, user, n / 8),
                5..=8 => w.exit(n),
                9..=10 => w.wait(ms),
                11..=12 => w.ask(),
                _ => w.gates(GATES[usize::from(n % 4)]),
            }
            let entries: BTreeMap<_, _> = w.roster.entries().map(|i| (i.client, ())).collect();
            prop_assert_eq!(entries.len(), w.roster.clients(), "every entry has its own id");
            let mut users: Vec<_> = w.roster.entries().map(|i| Arc::clone(&i.user)).collect();
            users.sort();
            users.dedup();
            prop_assert_eq!(users.len(), w.roster.users());
            w.lost |= roster_max > 0;
        }
        w.gates(PresenceScope::Full);
        w.wait(60_000);
        let crowded = roster_max > 0 && w.roster.crowded;
        let there = looks(w.live.values().cloned());
        prop_assert_eq!(looks(w.roster.entries().cloned()), there.clone());
        prop_assert!(w.roster.away.as_ref().is_none_or(|a| a.gone.is_empty()));
        prop_assert!(crowded || !w.roster.owes());
        if !crowded {
            let entries: BTreeMap<_, _> =
                w.roster.entries().map(|i| (i.client, i.clone())).collect();
            prop_assert_eq!(&w.seen, &entries);
            prop_assert!(w.late.is_none() || w.late.as_ref() == Some(&entries));
        }
        for n in 0..10 {
            w.exit(n);
        }
        w.wait(60_000);
        prop_assert!(w.roster.is_empty() && w.roster.users() == 0 && w.seen.is_empty());
    }
}
