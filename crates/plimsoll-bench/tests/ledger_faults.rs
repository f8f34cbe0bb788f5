//! One fault at a time in the books of a good run: each is found by the rule that is meant, with
//! its channel and offset.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ledger_support;

use ledger_support::good::*;
use ledger_support::{Act, Books, Line, stamp};
use plimsoll_bench::ledger::{Outcome, Rule, Via};

#[test]
fn c1_lost() {
    use Rule::{C1, C10};
    let verdict = broken(&[C1], "room:a", 2, |b| drop(leave_out(b, (BEN, ROOM, 2, 2))));
    let first = verdict.first().unwrap();
    assert_eq!((first.client, first.epoch.as_deref()), (Some(BEN), Some("e")));
    assert_eq!(first.publication.as_deref(), Some("0#2"));
    assert_eq!(first.received_by, Some(CARLA));
    let books = good();
    let sent = at(&books, ANNA, |act| *act == Act::Published(ROOM, stamp(ANNA, 2)));
    assert_eq!(first.published_us, Some(books.lines[sent].at_us));
    assert_eq!(first.answered_us, Some(books.lines[sent + 1].at_us));
    assert!(first.text.contains("3 came when 2 was next; 0#2 was published at 0.0"), "{first:?}");
    assert_eq!((verdict.counts.lost, verdict.counts.holes), (1, 1));

    broken(&[C1], "room:a", 1, |b| drop(leave_out(b, (BEN, ROOM, 1, 1))));
    // At the end: nothing comes any more, and nobody is told.
    broken(&[C1], "room:a", 4, |b| {
        b.run.probes_from_us = None;
        leave_out(b, (BEN, ROOM, 4, 4));
        leave_out(b, (BEN, ROOM, 5, 13));
    });
    // Whether or not the history was read.
    broken(&[C1], "room:a", 5, |b| {
        b.run.probes_from_us = None;
        b.stored.clear();
        leave_out(b, (BEN, ROOM, 5, 13));
    });
    broken(&[C1], "room:a", 3, |b| {
        b.stored[0].publications.remove(1);
    });
    broken(&[C1], "room:a", 5, |b| {
        b.stored[0].publications.pop();
    });
    // Subscribed to a life of the stream that is over, and never told.
    broken(&[C1], "short:a", 1, |b| {
        b.run.probes_from_us = None;
        b.lines.retain(|line| line.client != DORA || line.act != Act::Closed(None));
        let again = at(b, DORA, |act| matches!(act, Act::Subscribed { asked: Some(_), .. }));
        b.lines.remove(again);
        leave_out(b, (DORA, SHORT, 1, 10));
    });
    broken(&[C10], "room:a", 4, |b| {
        leave_out(b, (BEN, ROOM, 4, 4));
        leave_out(b, (BEN, ROOM, 5, 13));
    });
}

#[test]
fn c2_doubled_and_reordered() {
    use Rule::{C1, C2};
    let double = |b: &mut Books, of: Delivery| {
        let at = got(b, of.0, of.1, of.2, of.3);
        let line = b.lines[at].clone();
        b.lines.insert(at, line);
    };
    let verdict = broken(&[C2], "room:a", 2, |b| double(b, (BEN, ROOM, 2, 2)));
    assert_eq!((verdict.counts.duplicates, verdict.counts.reorders), (1, 0));
    broken(&[C2], "typing:a", 0, |b| double(b, (BEN, TYPING, 0, 6)));
    // Recovered, and live as well.
    broken(&[C2], "room:a", 3, |b| {
        let at = got(b, CARLA, ROOM, 4, 4);
        let at_us = b.lines[at].at_us;
        let act = received(ROOM, 3, 3, Via::Live);
        b.lines.insert(at, Line { at_us, client: CARLA, act });
    });
    let swap = |b: &mut Books, one: Delivery, other: Delivery| {
        let (one, other) =
            (got(b, one.0, one.1, one.2, one.3), got(b, other.0, other.1, other.2, other.3));
        let act = b.lines[one].act.clone();
        b.lines[one].act = std::mem::replace(&mut b.lines[other].act, act);
    };
    let verdict = broken(&[C2], "room:a", 2, |b| swap(b, (BEN, ROOM, 2, 2), (BEN, ROOM, 3, 3)));
    assert_eq!((verdict.counts.duplicates, verdict.counts.reorders), (0, 1));
    assert_eq!(verdict.counts.lost, 0);
    broken(&[C2], "typing:a", 0, |b| swap(b, (BEN, TYPING, 0, 5), (BEN, TYPING, 0, 6)));
    // Of two that were left out only one comes after all.
    broken(&[C1, C2], "room:a", 3, |b| {
        swap(b, (BEN, ROOM, 2, 2), (BEN, ROOM, 4, 4));
        leave_out(b, (BEN, ROOM, 3, 3));
    });
    // The server has put one publication into the stream twice, and another nowhere.
    broken(&[C2], "room:a", 3, |b| {
        restamp(b, (BEN, ROOM, 3, 3), Some((ANNA, 2)));
        restamp(b, (CARLA, ROOM, 3, 3), Some((ANNA, 2)));
        b.stored[0].publications[2].1 = Some(stamp(ANNA, 2));
    });
    broken(&[C2], "room:a", 0, |b| {
        let act = received(ROOM, 0, 4, Via::Live);
        let at_us = b.lines.last().unwrap().at_us;
        b.lines.push(Line { at_us, client: BEN, act });
    });
}

#[test]
fn c3_different_for_two() {
    use Rule::{C2, C3, C5};
    broken(&[C3], "room:a", 2, |b| restamp(b, (BEN, ROOM, 2, 2), None));
    broken(&[C3], "typing:a", 0, |b| {
        // Nobody else is told of it: the bytes alone are wrong.
        let at = got(b, BEN, TYPING, 0, 6);
        if let Act::Received { stamp: Some(stamp), .. } = &mut b.lines[at].act {
            stamp.crc ^= 1;
        }
    });
    let verdict = broken(&[C3], "room:a", 2, |b| {
        let at = got(b, CARLA, ROOM, 2, 2);
        if let Act::Received { stamp: Some(stamp), .. } = &mut b.lines[at].act {
            stamp.crc ^= 1;
        }
    });
    assert_eq!(verdict.counts.corrupted, 1);
    broken(&[C3], "room:a", 2, |b| b.stored[0].publications[1].1.as_mut().unwrap().crc ^= 1);
    broken(&[C3], "room:a", 2, |b| b.stored[0].publications[1].1 = None);
    // Two have two publications at one offset, and the history is of no help.
    broken(&[C3], "room:a", 5, |b| {
        b.stored.clear();
        b.run.probes_from_us = None;
        let at = at(b, ANNA, |act| *act == Act::Published(ROOM, stamp(ANNA, 13)));
        let at_us = b.lines[at].at_us;
        let act = Act::Published(ROOM, stamp(ANNA, 14));
        b.lines.insert(at, Line { at_us, client: ANNA, act });
        restamp(b, (BEN, ROOM, 5, 13), Some((ANNA, 14)));
    });
    // What the history has there is another one.
    broken(&[C3, C2], "room:a", 3, |b| {
        restamp(b, (BEN, ROOM, 3, 3), Some((ANNA, 4)));
        restamp(b, (BEN, ROOM, 4, 4), Some((ANNA, 3)));
    });
    broken(&[C5], "room:a", 5, |b| {
        // The store came back shorter, in the same epoch.
        b.stored[0].top = 4;
        b.stored[0].publications.pop();
    });
}

#[test]
fn c4_invented_and_refused() {
    use Rule::{C2, C4, C7};
    let verdict = broken(&[C4], "room:a", 2, |b| restamp(b, (BEN, ROOM, 2, 2), Some((ANNA, 99))));
    assert_eq!(verdict.counts.invented, 1);
    broken(&[C4], "room:a", 2, |b| restamp(b, (BEN, ROOM, 2, 2), Some((77, 2))));
    broken(&[C4], "typing:a", 0, |b| {
        let line = b.lines[got(b, BEN, TYPING, 0, 7)].clone();
        let act = received(TYPING, 0, 4, Via::Live);
        b.lines.push(Line { act, ..line });
    });
    let refuse = |b: &mut Books, n: u32| {
        let at = at(b, ANNA, |act| *act == Act::Answered(n, Outcome::Acknowledged));
        b.lines[at].act = Act::Answered(n, Outcome::Refused(111));
    };
    let verdict = broken(&[C4], "room:a", 3, |b| refuse(b, 3));
    assert!(verdict.first().unwrap().text.contains("refused (111)"), "{verdict}");
    broken(&[C4], "typing:a", 0, |b| refuse(b, 6));
    // It is in the history, though nobody got it: it counts as well.
    broken(&[C4, C7], "room:a", 6, |b| {
        b.run.heal_ms = 100_000;
        b.stored[0].top = 6;
        b.stored[0].publications.push((6, Some(stamp(ANNA, 11))));
    });
    broken(&[C2], "room:a", 6, |b| {
        b.run.heal_ms = 100_000;
        b.stored[0].top = 6;
        b.stored[0].publications.push((6, Some(stamp(ANNA, 4))));
    });
}

#[test]
fn c5_acknowledged_and_nowhere() {
    use Rule::C5;
    let before_the_probe = |b: &mut Books, channel: u32| {
        let at = at(b, ANNA, |act| *act == Act::Published(ROOM, stamp(ANNA, 13)));
        let at_us = b.lines[at].at_us - 100;
        let act = Act::Published(channel, stamp(ANNA, 20));
        b.lines.insert(at, Line { at_us, client: ANNA, act });
        let act = Act::Answered(20, Outcome::Acknowledged);
        b.lines.insert(at + 1, Line { at_us: at_us + 50, client: ANNA, act });
    };
    let verdict = broken(&[C5], "room:a", 0, |b| before_the_probe(b, ROOM));
    assert_eq!(verdict.first().unwrap().publication.as_deref(), Some("0#20"));
    // There was room before, and not where it could stand.
    broken(&[C5], "room:a", 0, |b| {
        before_the_probe(b, ROOM);
        b.stored[0].publications.drain(..3);
        b.lines.retain(|line| !matches!(line.act, Act::Received { channel: ROOM, offset: 2, .. }));
        b.lines.retain(|line| {
            line.client != CARLA
                || !matches!(line.act, Act::Subscribed { channel: ROOM, asked: None, .. })
        });
        b.lines.retain(|line| {
            line.client != BEN
                || !matches!(line.act, Act::Received { channel: ROOM, offset: 1..=2, .. })
        });
        for line in &mut b.lines {
            if let Act::Subscribed { channel: ROOM, position, .. } = &mut line.act {
                position.as_mut().unwrap().1 = 2;
            }
        }
        b.lines.retain(|line| {
            line.client != CARLA
                || !matches!(line.act, Act::Received { channel: ROOM, offset: 1, .. })
        });
    });
    broken(&[C5], "typing:a", 0, |b| before_the_probe(b, TYPING));
    broken(&[C5], "short:a", 0, |b| before_the_probe(b, SHORT));
    broken(&[C5], "room:a", 0, |b| {
        before_the_probe(b, ROOM);
        b.stored.clear();
    });
}

#[test]
fn c6_recovered_is_a_promise() {
    use Rule::{C6, C10};
    broken(&[C6], "room:a", 3, |b| drop(leave_out(b, (CARLA, ROOM, 3, 3))));
    let reply = |b: &mut Books, new: Act| {
        let at = at(b, CARLA, |a| matches!(a, Act::Subscribed { asked: Some(_), .. }));
        b.lines[at].act = new;
    };
    // It goes on elsewhere.
    broken(&[C6], "room:a", 2, |b| {
        reply(b, subscribed(ROOM, place("e", 2), place("x", 2), true));
        b.stored.clear();
        b.run.probes_from_us = None;
        b.lines.retain(|l| {
            l.client != CARLA || !matches!(l.act, Act::Received { channel: ROOM, offset: 3.., .. })
        });
    });
    broken(&[C6], "room:a", 0, |b| reply(b, subscribed(ROOM, None, place("e", 2), true)));
    // So far, it says, and does not come so far.
    broken(&[C6, C10], "room:a", 4, |b| {
        reply(b, subscribed(ROOM, place("e", 2), place("e", 4), true));
        let at = got(b, CARLA, ROOM, 3, 3);
        let at_us = b.lines[at].at_us;
        b.lines.retain(|l| l.client != CARLA || l.at_us <= at_us);
    });
    // Everything was there, and it said no.
    broken(&[C6], "room:a", 3, |b| reply(b, subscribed(ROOM, place("e", 2), place("e", 2), false)));
    broken(&[C6], "room:a", 2, |b| {
        reply(b, subscribed(ROOM, place("e", 2), place("e", 1), false));
        let at = at(b, CARLA, |a| matches!(a, Act::Subscribed { asked: Some(_), .. }));
        let again = Line { act: received(ROOM, 2, 2, Via::Live), ..b.lines[at].clone() };
        b.lines.insert(at + 1, again);
    });
}

#[test]
fn c7_overtaken_by_itself() {
    // Everybody agrees on the wrong order.
    let verdict = broken(&[Rule::C7], "room:a", 3, |b| {
        for client in [BEN, CARLA] {
            let (two, three) = (got(b, client, ROOM, 2, 2), got(b, client, ROOM, 3, 3));
            for (at, n) in [(two, 3), (three, 2)] {
                if let Act::Received { stamp: old, .. } = &mut b.lines[at].act {
                    *old = Some(stamp(ANNA, n));
                }
            }
        }
        // Both were sent before the first of them came.
        let sent = at(b, ANNA, |act| *act == Act::Published(ROOM, stamp(ANNA, 3)));
        let lines: Vec<Line> = b.lines.drain(sent..sent + 2).collect();
        let at = at(b, ANNA, |act| *act == Act::Published(ROOM, stamp(ANNA, 2)));
        let at_us = b.lines[at].at_us;
        b.lines.splice(at + 1..at + 1, lines.into_iter().map(|l| Line { at_us, ..l }));
        b.stored[0].publications[1].1 = Some(stamp(ANNA, 3));
        b.stored[0].publications[2].1 = Some(stamp(ANNA, 2));
    });
    assert!(verdict.first().unwrap().text.contains("it stands after 0#3"), "{verdict}");
}

#[test]
fn c8_not_subscribed() {
    use Rule::C8;
    let verdict = broken(&[C8], "room:a", 0, |b| b.then(DORA, Act::Stray("room:a".into())));
    assert_eq!(verdict.counts.strays, 1);
    broken(&[C8], "", 0, |b| b.then(DORA, Act::Stray("what:else".into())));
    broken(&[C8], "typing:a", 0, |b| b.then(DORA, received(TYPING, 0, 7, Via::Live)));
    // After leaving, and after the connection.
    broken(&[C8], "typing:a", 0, |b| {
        b.then(BEN, Act::Unsubscribed(TYPING, 0));
        b.then(BEN, received(TYPING, 0, 7, Via::Live));
    });
    broken(&[C8], "room:a", 0, |b| {
        b.then(BEN, Act::Cut);
        b.then(BEN, received(ROOM, 5, 13, Via::Live));
    });
}

#[test]
fn c9_counters() {
    let verdict = broken(&[Rule::C9], "", 0, |b| b.comparisons[0].found += 1);
    let text = &verdict.first().unwrap().text;
    assert!(text.contains("published is 12 at the server and 11 by the ledger"), "{text}");
}

#[test]
fn c10_dead_with_a_green_light() {
    use Rule::C10;
    let verdict = broken(&[C10], "room:a", 5, |b| drop(leave_out(b, (BEN, ROOM, 5, 13))));
    assert_eq!(verdict.first().unwrap().client, Some(BEN));
    // Too late.
    broken(&[C10], "room:a", 5, |b| {
        let line = leave_out(b, (BEN, ROOM, 5, 13));
        b.lines.push(Line { at_us: line.at_us + 600_000, ..line });
    });
    let no_answer = |b: &mut Books| {
        let at = at(b, ANNA, |act| *act == Act::Answered(13, Outcome::Acknowledged));
        b.lines.remove(at);
    };
    broken(&[C10], "", 0, no_answer);
    // Without history too, and it is named.
    let probe = |b: &mut Books| {
        publish(b, TYPING, 14);
        b.then(BEN, received(TYPING, 0, 14, Via::Live));
    };
    let verdict = broken(&[C10], "typing:a", 0, probe);
    let first = verdict.first().unwrap();
    assert_eq!((first.client, first.publication.as_deref()), (Some(CARLA), Some("0#14")));
    kept(|b| {
        probe(b);
        b.then(CARLA, received(TYPING, 0, 14, Via::Live));
    });
}
