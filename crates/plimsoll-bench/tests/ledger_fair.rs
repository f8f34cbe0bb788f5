//! What is no fault is not taken for one, and what proves nothing is void.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ledger_support;

use ledger_support::good::*;
use ledger_support::{Act, Books, Line, stamp};
use plimsoll_bench::ledger::{
    Judgement, Ledger, Log, Outcome, Recorder, Rule, Run, Verdict, Via, judge,
};

#[test]
fn the_good_run_is_kept() {
    let verdict = kept(|_| {});
    let c = &verdict.counts;
    assert_eq!((c.published, c.acknowledged, c.refused, c.unknown), (13, 11, 1, 1));
    assert_eq!((c.deliveries, c.recovered_deliveries), (18, 1));
    assert_eq!((c.recoveries, c.failed_recoveries, c.cuts), (1, 1, 1));
    assert_eq!(c.closes.get(&1006), Some(&1));
    assert_eq!((c.acks_lost_with_epoch, c.acks_unseen, c.lost), (1, 0, 0));
    assert!(verdict.to_string().ends_with("verdict: kept"), "{verdict}");
    assert_eq!(serde_json::to_value(&verdict).unwrap()["verdict"], "kept");
}

#[test]
fn losses_without_history_are_counted() {
    use Rule::C1;
    let count = |books: Verdict| books.counts.lost_without_history;
    // Something later came instead; nothing came to the end; a subscription that ended.
    let middle = |b: &mut Books| drop(leave_out(b, (BEN, TYPING, 0, 6)));
    let last = |b: &mut Books| drop(leave_out(b, (BEN, TYPING, 0, 7)));
    assert_eq!(count(kept(middle)), 1);
    assert_eq!(count(kept(last)), 1);
    let ended = |b: &mut Books| {
        middle(b);
        b.then(BEN, Act::Closed(Some(3008)));
    };
    assert_eq!(count(kept(ended)), 1);
    let unknown = |b: &mut Books| {
        last(b);
        b.then(BEN, Act::Closed(Some(3008)));
    };
    assert_eq!(count(kept(unknown)), 0);
    type Change<'a> = &'a dyn Fn(&mut Books);
    for (change, name) in [(&middle as Change<'_>, "0#6"), (&last, "0#7"), (&ended, "0#6")] {
        let verdict = broken(&[C1], "typing:a", 0, |b| {
            b.run.exact_without_history = true;
            change(b);
        });
        assert_eq!(verdict.broken[&C1], 1, "{verdict}");
        let first = verdict.first().unwrap();
        assert_eq!((first.client, first.publication.as_deref()), (Some(BEN), Some(name)));
    }
}

#[test]
fn what_proves_nothing_is_void() {
    let empty = Ledger {
        run: Run::new("empty", 0, 1),
        channels: Vec::new(),
        logs: vec![Log::default()],
        stored: Vec::new(),
        comparisons: Vec::new(),
    };
    let verdict = judge(&empty);
    assert_eq!(verdict.exit_code(), 2);
    assert_eq!(verdict.void, ["nothing was published", "nothing was delivered"]);

    void("nothing was published", |b| {
        b.lines.clear();
        b.stored.clear();
        b.run.probes_from_us = None;
    });
    let refused = |b: &mut Books| {
        b.stored.clear();
        b.run.probes_from_us = None;
        b.lines.retain(|l| {
            let claims = matches!(l.act, Act::Subscribed { asked: Some(_), .. });
            !claims && !matches!(l.act, Act::Received { .. } | Act::Answered(..))
        });
        b.run.recoveries_planned = 0;
        for n in 1..=13 {
            b.then(ANNA, Act::Answered(n, Outcome::Refused(103)));
        }
    };
    void("0 of 13 publications were acknowledged", refused);
    void("nothing was delivered", refused);
    void("1 recoveries of 2", |b| b.run.recoveries_planned = 2);
    void("18 deliveries of 19", |b| b.run.deliveries_planned = 19);
    // One in a hundred is enough, less is not.
    let unanswered = |b: &mut Books, n: u32| {
        let sent = (100..100 + n).map(|s| Act::Published(TYPING, stamp(ANNA, s)));
        sent.for_each(|act| b.then(ANNA, act));
    };
    kept(|b| unanswered(b, 1_100 - 13));
    void("11 of 1101 publications were acknowledged", |b| unanswered(b, 1_101 - 13));
}

#[test]
fn books_that_contradict_themselves_are_void() {
    void("two publications are 0#4", |b| b.then(ANNA, Act::Published(ROOM, stamp(ANNA, 4))));
    void("0#99 was answered and never sent", |b| {
        b.then(ANNA, Act::Answered(99, Outcome::Unknown));
    });
    void("no channel 7", |b| b.then(ANNA, Act::Published(7, stamp(ANNA, 99))));
    void("no channel 7", |b| b.then(ANNA, subscribed(7, None, None, false)));
    void("room:a has history", |b| b.then(BEN, subscribed(ROOM, None, None, false)));
    // The client says that it had what it did not write down: that would hide a loss.
    void("client 2 named offset 2", |b| drop(leave_out(b, (CARLA, ROOM, 2, 2))));

    let mut ledger = good().ledger();
    ledger.logs.push(ledger.logs[0].clone());
    assert_eq!(judge(&ledger).exit_code(), 2);
    let mut ledger = good().ledger();
    let mut full = Recorder::bounded(0);
    full.cut(1, 1);
    ledger.logs.push(full.finish());
    let verdict = judge(&ledger);
    assert_eq!(verdict.void, ["log 2 was full before the run was over"]);
}

#[test]
fn a_trimmed_history_is_no_fault() {
    // A history that was trimmed, all of it or a part.
    kept(|b| drop(b.stored[0].publications.drain(..3)));
    kept(|b| b.stored[0].publications.clear());
    // Nobody saw it, and it was trimmed: there is room for it.
    let verdict = kept(|b| {
        b.stored[0].publications.drain(..3);
        b.lines.retain(|l| !matches!(l.act, Act::Subscribed { channel: ROOM, asked: None, .. }));
        b.lines.retain(|l| !matches!(l.act, Act::Received { channel: ROOM, offset: 1..=3, .. }));
        b.lines
            .retain(|l| l.client != BEN || !matches!(l.act, Act::Received { channel: ROOM, .. }));
        if let Act::Subscribed { position, asked, recovered, .. } = {
            let at = at(b, CARLA, |a| matches!(a, Act::Subscribed { channel: ROOM, .. }));
            &mut b.lines[at].act
        } {
            (*asked, *position, *recovered) = (None, place("e", 3), false);
        }
        b.run.recoveries_planned = 0;
    });
    assert_eq!(verdict.counts.acks_unseen, 3);
}

#[test]
fn a_reason_not_to_recover() {
    // More was missed than can be recovered; how much can be is not known; it has expired.
    let not_recovered = |b: &mut Books| {
        let at = at(b, CARLA, |a| matches!(a, Act::Subscribed { asked: Some(_), .. }));
        b.lines[at].act = subscribed(ROOM, place("e", 2), place("e", 3), false);
        leave_out(b, (CARLA, ROOM, 3, 3));
        b.run.recoveries_planned = 0;
    };
    assert_eq!(verdict_of(not_recovered), Judgement::Broken);
    kept(|b| (not_recovered(b), b.run.recovery_max = Some(0)).0);
    kept(|b| (not_recovered(b), b.run.history_size = None).0);
    kept(|b| (not_recovered(b), b.run.history_ttl_ms = Some(1)).0);
}

#[test]
fn ends_and_recoveries_are_no_faults() {
    // The server ends a subscription, and it is recovered.
    kept(|b| {
        let at = got(b, BEN, ROOM, 2, 2);
        let at_us = b.lines[at].at_us;
        let line = |act| Line { at_us, client: BEN, act };
        b.lines.insert(at + 1, line(Act::Unsubscribed(ROOM, 2500)));
        b.lines.insert(at + 2, line(subscribed(ROOM, place("e", 2), place("e", 2), true)));
    });
    // A server whose replies name the end of the recovery.
    kept(|b| {
        let at = at(b, CARLA, |a| matches!(a, Act::Subscribed { asked: Some(_), .. }));
        b.lines[at].act = subscribed(ROOM, place("e", 2), place("e", 3), true);
    });
    // A publication without an answer comes once, or not at all.
    kept(|b| {
        b.then(BEN, received(TYPING, 0, 12, Via::Live));
    });
    // What a client did not read before it was cut comes later, or is told to be gone.
    kept(|b| {
        b.run.history_size = Some(1);
        leave_out(b, (CARLA, ROOM, 2, 2));
        let at = at(b, CARLA, |a| matches!(a, Act::Subscribed { asked: Some(_), .. }));
        b.lines[at].act = subscribed(ROOM, place("e", 1), place("e", 1), true);
        let line = b.lines[at].clone();
        let act = received(ROOM, 2, 2, Via::Recovered);
        b.lines.insert(at + 1, Line { act, ..line });
    });
}

#[test]
fn not_everything_has_to_have_come_at_the_end() {
    // Who is away at the end need not have the end.
    kept(|b| {
        leave_out(b, (BEN, ROOM, 5, 13));
        let at = b.lines.len() - 1;
        let at_us = b.lines[at].at_us;
        b.lines.insert(at, Line { at_us, client: BEN, act: Act::Closed(Some(3000)) });
    });
    // Unless the run ended before, and it was the run that ended the connection.
    let at_the_end = |b: &mut Books| {
        leave_out(b, (BEN, ROOM, 5, 13));
        b.run.ended_us = b.lines.last().unwrap().at_us;
        b.run.settled = true;
        b.then(BEN, Act::Cut);
        b.then(CARLA, Act::Closed(Some(3000)));
    };
    let verdict = verdict(at_the_end);
    assert_eq!(verdict.broken.get(&Rule::C10), Some(&1), "{verdict}");
    kept(|b| {
        at_the_end(b);
        b.run.settled = false;
    });
    // The end came before it could have.
    kept(|b| {
        leave_out(b, (BEN, ROOM, 5, 13));
        b.run.heal_ms = 100_000;
    });
}

fn verdict_of(change: impl FnOnce(&mut Books)) -> Judgement {
    verdict(change).verdict
}

#[test]
fn a_stored_run_is_judged_the_same() {
    for change in [|_: &mut Books| {}, |b: &mut Books| drop(leave_out(b, (BEN, ROOM, 2, 2)))] {
        let mut books = good();
        change(&mut books);
        let ledger = books.ledger();
        let file = tempfile::NamedTempFile::new().unwrap();
        ledger.save(file.path()).unwrap();
        assert_eq!(judge(&Ledger::load(file.path()).unwrap()), judge(&ledger));
    }
}
