//! A small good run, and what a change of it has to lead to.

use super::{Act, Books, Line, Place, stamp};
use plimsoll_bench::ledger::{
    Channel, Comparison, Judgement, Outcome, Rule, Run, Stored, Verdict, Via, judge,
};

pub const ROOM: u32 = 0;
pub const TYPING: u32 = 1;
pub const SHORT: u32 = 2;
/// The publisher; subscribers of the room and of typing; a subscriber of the short-lived channel.
pub const ANNA: u32 = 0;
pub const BEN: u32 = 1;
pub const CARLA: u32 = 2;
pub const DORA: u32 = 3;

pub fn place(epoch: &str, offset: u64) -> Option<Place> {
    Some((epoch.to_owned(), offset))
}

pub fn received(channel: u32, offset: u64, sequence: u32, via: Via) -> Act {
    Act::Received { channel, offset, stamp: Some(stamp(ANNA, sequence)), via }
}

pub fn subscribed(
    channel: u32,
    asked: Option<Place>,
    position: Option<Place>,
    recovered: bool,
) -> Act {
    Act::Subscribed { channel, asked, position, recovered }
}

/// Anna publishes, and it is acknowledged.
pub fn publish(books: &mut Books, channel: u32, sequence: u32) {
    books.then(ANNA, Act::Published(channel, stamp(ANNA, sequence)));
    books.then(ANNA, Act::Answered(sequence, Outcome::Acknowledged));
}

/// In the room five publications (one to four and thirteen), of which Carla recovers the third;
/// three of typing; a channel that loses its history after two, and is told; one publication is
/// refused, one has no answer. The thirteenth is a probe.
pub fn good() -> Books {
    let channel = |name: &str, history| Channel { name: name.into(), history };
    let mut books = Books {
        run: Run::new("good", 0, 0),
        channels: vec![
            channel("room:a", true),
            channel("typing:a", false),
            channel("short:a", true),
        ],
        lines: Vec::new(),
        stored: Vec::new(),
        comparisons: vec![Comparison { name: "published".into(), expected: 11, found: 11 }],
        threads: 2,
    };
    for client in [BEN, CARLA] {
        books.then(client, subscribed(ROOM, None, place("e", 0), false));
        books.then(client, subscribed(TYPING, None, None, false));
    }
    books.then(DORA, subscribed(SHORT, None, place("f", 0), false));
    for n in 1..=4 {
        publish(&mut books, ROOM, n);
        books.then(BEN, received(ROOM, n.into(), n, Via::Live));
        if n <= 2 {
            books.then(CARLA, received(ROOM, n.into(), n, Via::Live));
        }
        if n == 2 {
            books.then(CARLA, Act::Cut);
        }
        if n == 3 {
            books.then(CARLA, subscribed(ROOM, place("e", 2), place("e", 2), true));
            books.then(CARLA, received(ROOM, 3, 3, Via::Recovered));
            books.then(CARLA, subscribed(TYPING, None, None, false));
        }
    }
    books.then(CARLA, received(ROOM, 4, 4, Via::Live));
    for n in 5..=7 {
        publish(&mut books, TYPING, n);
        books.then(BEN, received(TYPING, 0, n, Via::Live));
        books.then(CARLA, received(TYPING, 0, n, Via::Live));
    }
    publish(&mut books, SHORT, 8);
    books.then(DORA, received(SHORT, 1, 8, Via::Live));
    publish(&mut books, SHORT, 9);
    books.then(DORA, Act::Closed(None));
    books.then(DORA, subscribed(SHORT, place("f", 1), place("g", 0), false));
    publish(&mut books, SHORT, 10);
    books.then(DORA, received(SHORT, 1, 10, Via::Live));
    books.then(ANNA, Act::Published(ROOM, stamp(ANNA, 11)));
    books.then(ANNA, Act::Answered(11, Outcome::Refused(103)));
    books.then(ANNA, Act::Published(TYPING, stamp(ANNA, 12)));
    publish(&mut books, ROOM, 13);
    books.then(BEN, received(ROOM, 5, 13, Via::Live));
    books.then(CARLA, received(ROOM, 5, 13, Via::Live));
    let sent = |n: u32| books.lines.iter().find(|l| l.act == Act::Published(ROOM, stamp(ANNA, n)));
    books.run.probes_from_us = sent(13).map(|line| line.at_us);
    books.run.heal_ms = 500;
    books.run.ended_us = books.lines.last().unwrap().at_us + 1_000_000;
    books.run.history_size = Some(10);
    books.run.recovery_max = Some(10);
    books.run.recoveries_planned = 1;
    let stored = |channel, epoch: &str, list: &[u32]| Stored {
        channel,
        epoch: epoch.into(),
        top: list.len() as u64,
        publications: (1..).zip(list).map(|(o, n)| (o, Some(stamp(ANNA, *n)))).collect(),
    };
    books.stored = vec![stored(ROOM, "e", &[1, 2, 3, 4, 13]), stored(SHORT, "g", &[10])];
    books
}

/// Where a client's line with this act is.
pub fn at(books: &Books, client: u32, is: impl Fn(&Act) -> bool) -> usize {
    books.lines.iter().position(|line| line.client == client && is(&line.act)).unwrap()
}

pub fn got(books: &Books, client: u32, of: u32, offset: u64, sequence: u32) -> usize {
    at(books, client, |act| {
        let name = Some(stamp(ANNA, sequence));
        matches!(act, Act::Received { channel, offset: o, stamp, .. }
            if *channel == of && *o == offset && *stamp == name)
    })
}

/// Client, channel, offset and sequence of a delivery.
pub type Delivery = (u32, u32, u64, u32);

pub fn leave_out(books: &mut Books, (client, channel, offset, sequence): Delivery) -> Line {
    let at = got(books, client, channel, offset, sequence);
    books.lines.remove(at)
}

/// Changes the stamp of a delivery, or takes it away.
pub fn restamp(books: &mut Books, of: Delivery, new: Option<(u32, u32)>) {
    let at = got(books, of.0, of.1, of.2, of.3);
    if let Act::Received { stamp: old, .. } = &mut books.lines[at].act {
        *old = new.map(|(publisher, sequence)| stamp(publisher, sequence));
    }
}

pub fn verdict(change: impl FnOnce(&mut Books)) -> Verdict {
    let mut books = good();
    change(&mut books);
    judge(&books.ledger())
}

/// A change that breaks exactly these rules; the first violation by time is of the first one, and
/// names a channel and (unless 0) an offset.
#[track_caller]
pub fn broken(
    rules: &[Rule],
    channel: &str,
    offset: u64,
    change: impl FnOnce(&mut Books),
) -> Verdict {
    let verdict = verdict(change);
    assert_eq!((verdict.verdict, verdict.exit_code()), (Judgement::Broken, 1), "{verdict}");
    let mut sorted = rules.to_vec();
    sorted.sort();
    assert_eq!(verdict.broken.keys().copied().collect::<Vec<_>>(), sorted, "{verdict}");
    let first = verdict.first().unwrap();
    assert_eq!(first.rule, rules[0], "{verdict}");
    assert_eq!(first.channel.as_deref().unwrap_or_default(), channel, "{verdict}");
    assert_eq!(first.offset.unwrap_or_default(), offset, "{verdict}");
    assert!(verdict.violations.is_sorted_by_key(|v| v.at_us), "{verdict}");
    verdict
}

#[track_caller]
pub fn kept(change: impl FnOnce(&mut Books)) -> Verdict {
    let verdict = verdict(change);
    assert_eq!((verdict.verdict, verdict.exit_code()), (Judgement::Kept, 0), "{verdict}");
    verdict
}

#[track_caller]
pub fn void(reason: &str, change: impl FnOnce(&mut Books)) {
    let verdict = verdict(change);
    assert_eq!((verdict.verdict, verdict.exit_code()), (Judgement::Void, 2), "{verdict}");
    assert!(verdict.void.iter().any(|why| why.contains(reason)), "{:?}", verdict.void);
}
