//! Random runs of a server without faults are kept; with one event changed they are not, unless
//! the change is one that a server without faults could have made as well.

mod ledger_support;

use ledger_support::world::{self, Plan, is_member};
use ledger_support::{Act, Books, Line};
use plimsoll_bench::ledger::{Judgement, Outcome, Rule, judge};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;

fn plan() -> impl Strategy<Value = Plan> {
    let sizes = (2..9u32, 1..4u32, 0..3u32, 1..4u32, 40..500u32);
    (any::<u64>(), sizes, any::<bool>(), any::<bool>()).prop_map(
        |(seed, (clients, with_history, without_history, threads, steps), probes, settled)| Plan {
            seed,
            clients,
            with_history,
            without_history,
            threads,
            steps,
            probes,
            settled,
        },
    )
}

/// A run that proves something: seeds with few steps may have none that does.
fn kept(plan: Plan) -> Option<Books> {
    let books = world::run(plan);
    let verdict = judge(&books.ledger());
    assert!(verdict.violations.is_empty(), "{plan:?}\n{verdict}");
    (verdict.verdict == Judgement::Kept).then_some(books)
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Drop,
    Double,
    Swap,
    Bytes,
    Corrupt,
    Invent,
    Offset,
    Elsewhere,
    SayRecovered,
    SayNotRecovered,
    Refuse,
    NeverSent,
    HistoryHole,
    HistoryBytes,
}

const CHANGES: [Change; 14] = [
    Change::Drop,
    Change::Double,
    Change::Swap,
    Change::Bytes,
    Change::Corrupt,
    Change::Invent,
    Change::Offset,
    Change::Elsewhere,
    Change::SayRecovered,
    Change::SayNotRecovered,
    Change::Refuse,
    Change::NeverSent,
    Change::HistoryHole,
    Change::HistoryBytes,
];

/// What a change has to be noticed as; nothing: it could have happened.
type Expected = Option<Vec<Rule>>;

/// One of those that are found, if there are any.
fn one(found: Vec<usize>, pick: &Index) -> Option<usize> {
    (!found.is_empty()).then(|| found[pick.index(found.len())])
}

/// The place of a line of a kind.
fn line(books: &Books, pick: &Index, is: impl Fn(&Act) -> bool) -> Option<usize> {
    let lines = books.lines.iter().enumerate();
    one(lines.filter(|(_, l)| is(&l.act)).map(|(at, _)| at).collect(), pick)
}

/// Makes a change if there is a place for it, and says what it has to be noticed as.
fn change(books: &mut Books, change: Change, pick: &Index) -> Option<Expected> {
    match change {
        Change::SayRecovered | Change::SayNotRecovered => {
            let now = matches!(change, Change::SayNotRecovered);
            let is = |act: &Act| match act {
                Act::Subscribed { asked, recovered, .. } => asked.is_some() && *recovered == now,
                _ => false,
            };
            let at = line(books, pick, is)?;
            let Act::Subscribed { recovered, .. } = &mut books.lines[at].act else { return None };
            *recovered = !now;
            Some(Some(vec![Rule::C6]))
        }
        Change::Refuse | Change::NeverSent => deny(books, change, pick),
        Change::HistoryHole | Change::HistoryBytes => {
            let histories = books.stored.iter().enumerate();
            let long = histories.filter(|(_, s)| s.publications.len() > 1).map(|(n, _)| n);
            let at = one(long.collect(), pick)?;
            let list = &mut books.stored[at].publications;
            let at = 1 + pick.index(list.len() - 1);
            if matches!(change, Change::HistoryHole) {
                list.remove(at);
                return Some(Some(vec![Rule::C1]));
            }
            list[at].1.as_mut()?.crc ^= 1;
            Some(Some(vec![Rule::C3]))
        }
        _ => change_delivery(books, change, pick),
    }
}

/// Changes one delivery.
fn change_delivery(books: &mut Books, change: Change, pick: &Index) -> Option<Expected> {
    let with_offset = matches!(change, Change::Offset);
    let at = line(
        books,
        pick,
        |act| matches!(act, Act::Received { offset, .. } if *offset > 0 || !with_offset),
    )?;
    match change {
        Change::Drop => {
            let expected = drops(books, at);
            books.lines.remove(at);
            return Some(expected);
        }
        Change::Swap => return swap(books, at),
        Change::Double => {
            books.lines.insert(at, books.lines[at].clone());
            return Some(Some(vec![Rule::C2]));
        }
        _ => {}
    }
    let client = books.lines[at].client;
    let Act::Received { channel, offset, stamp, .. } = &mut books.lines[at].act else {
        return None;
    };
    let rules = match change {
        Change::Bytes => {
            stamp.as_mut()?.crc ^= 1;
            vec![Rule::C3]
        }
        Change::Invent => {
            stamp.as_mut()?.sequence += 1_000_000;
            vec![Rule::C4]
        }
        Change::Corrupt => {
            *stamp = None;
            vec![Rule::C3]
        }
        Change::Offset => {
            *offset += 1;
            vec![Rule::C1, Rule::C6]
        }
        _ => {
            let others = (0..books.channels.len() as u32).filter(|c| !is_member(client, *c));
            *channel = one(others.map(|c| c as usize).collect(), pick)? as u32;
            vec![Rule::C8]
        }
    };
    Some(Some(rules))
}

/// Something that is known was refused, or never sent.
fn deny(books: &mut Books, change: Change, pick: &Index) -> Option<Expected> {
    let at = line(books, pick, |act| matches!(act, Act::Published(..)))?;
    let Line { at_us, client, act: Act::Published(_, sent) } = books.lines[at] else {
        return None;
    };
    let is_seen = |l: &Line| matches!(l.act, Act::Received { stamp: Some(s), .. } if s == sent);
    let mut stored = books.stored.iter().flat_map(|s| &s.publications);
    let is_stored = stored.any(|(_, stamp)| *stamp == Some(sent));
    if !is_stored && !books.lines.iter().any(is_seen) {
        return None;
    }
    if matches!(change, Change::NeverSent) {
        books.lines.remove(at);
    }
    books.lines.retain(|l| {
        l.client != client || !matches!(l.act, Act::Answered(n, _) if n == sent.sequence)
    });
    if matches!(change, Change::Refuse) {
        let act = Act::Answered(sent.sequence, Outcome::Refused(103));
        books.lines.insert(at + 1, Line { at_us, client, act });
    }
    Some(Some(vec![Rule::C4]))
}

/// Leaving out a delivery could have happened if the connection or the subscription ended next,
/// and the client did not claim afterwards to have had it.
fn drops(books: &Books, at: usize) -> Expected {
    let Line { client, act: Act::Received { channel, offset, stamp: Some(left_out), .. }, .. } =
        books.lines[at]
    else {
        return None;
    };
    let connection = connections(books, left_out.publisher, left_out.sequence);
    let (mut ended, mut later) = (false, false);
    let is_in_time = |line: &&Line| line.client == client && line.at_us <= books.run.ended_us;
    for line in books.lines[at + 1..].iter().filter(is_in_time) {
        match &line.act {
            Act::Cut | Act::Closed(_) => ended = true,
            Act::Unsubscribed(of, _) if *of == channel => ended = true,
            Act::Subscribed { channel: of, asked, .. } if *of == channel => {
                // Books that contradict themselves are void.
                later |= asked.as_ref().is_some_and(|(_, had)| *had >= offset && offset > 0);
                ended = true;
                break;
            }
            Act::Received { channel: of, stamp: Some(s), .. } if *of == channel && !ended => {
                later |= offset > 0
                    || (s.publisher == left_out.publisher
                        && connections(books, s.publisher, s.sequence) == connection);
            }
            _ => {}
        }
    }
    if offset > 0 {
        return (later || !ended).then(Vec::new);
    }
    // Without history: it had to come only if it was acknowledged, and sent to somebody there.
    let since = books.lines[..at].iter().rev().find(|line| {
        line.client == client
            && matches!(line.act, Act::Subscribed { channel: of, .. } if of == channel)
    });
    let sent = books.lines.iter().find(|l| l.act == Act::Published(channel, left_out));
    let in_time = sent.zip(since).is_some_and(|(sent, since)| sent.at_us > since.at_us);
    let acknowledged = books.lines.iter().any(|l| {
        l.client == left_out.publisher
            && l.act == Act::Answered(left_out.sequence, Outcome::Acknowledged)
    });
    (in_time && acknowledged && (later || !ended)).then(Vec::new)
}

/// Two deliveries of one client and channel change places.
fn swap(books: &mut Books, at: usize) -> Option<Expected> {
    let client = books.lines[at].client;
    let Act::Received { channel, offset, stamp: Some(a), .. } = books.lines[at].act else {
        return None;
    };
    let next = (at + 1..books.lines.len()).find(|n| books.lines[*n].client == client)?;
    let Act::Received { channel: of, stamp: Some(b), .. } = books.lines[next].act else {
        return None;
    };
    if of != channel {
        return None;
    }
    let (first, second) = (books.lines[at].act.clone(), books.lines[next].act.clone());
    (books.lines[at].act, books.lines[next].act) = (second, first);
    let of_one = a.publisher == b.publisher
        && connections(books, a.publisher, a.sequence)
            == connections(books, b.publisher, b.sequence);
    Some((offset > 0 || of_one).then(|| vec![Rule::C2]))
}

/// On which of its connections a publisher sent something.
fn connections(books: &Books, publisher: u32, sequence: u32) -> usize {
    let of_publisher = books.lines.iter().filter(|line| line.client == publisher);
    let before = of_publisher.take_while(
        |line| !matches!(line.act, Act::Published(_, stamp) if stamp.sequence == sequence),
    );
    before.filter(|line| matches!(line.act, Act::Cut | Act::Closed(_))).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn runs_without_faults_are_kept(plan in plan()) {
        let Some(books) = kept(plan) else { return Ok(()) };
        let received = |l: &&Line| matches!(l.act, Act::Received { .. });
        let verdict = judge(&books.ledger());
        let deliveries = books.lines.iter().filter(received).count() as u64;
        prop_assert_eq!(verdict.counts.deliveries, deliveries);
        prop_assert_eq!(verdict.counts.recoveries, books.run.recoveries_planned);
        prop_assert_eq!(verdict.counts.lost + verdict.counts.strays, 0);
    }

    #[test]
    fn threads_do_not_matter(plan in plan()) {
        let Some(mut books) = kept(plan) else { return Ok(()) };
        let mut one = judge(&books.ledger());
        books.threads = 7;
        let mut other = judge(&books.ledger());
        (one.counts.log_bytes, other.counts.log_bytes) = (0, 0);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn one_change_is_noticed(
        plan in plan(),
        which in prop::sample::select(&CHANGES[..]),
        pick in any::<Index>(),
    ) {
        let Some(mut books) = kept(plan) else { return Ok(()) };
        let Some(expected) = change(&mut books, which, &pick) else { return Ok(()) };
        let verdict = judge(&books.ledger());
        let Some(expected) = expected else {
            prop_assert!(verdict.violations.is_empty(), "{which:?} could have been:\n{verdict}");
            return Ok(());
        };
        prop_assert!(verdict.verdict != Judgement::Kept, "{which:?} was not noticed:\n{verdict}");
        let is_expected = |rule: &Rule| expected.contains(rule);
        let named = expected.is_empty() || verdict.broken.keys().any(is_expected);
        prop_assert!(named, "{which:?} has to be one of {expected:?}:\n{verdict}");
    }
}

/// The random runs have what they are for.
#[test]
fn random_runs_are_not_dull() {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..40 {
        let plan = Plan {
            seed,
            clients: 6,
            with_history: 2,
            without_history: 1,
            threads: 2,
            steps: 400,
            probes: true,
            settled: false,
        };
        let counts = judge(&world::run(plan).ledger()).counts;
        let figures = [
            ("recoveries", counts.recoveries),
            ("recovered deliveries", counts.recovered_deliveries),
            ("failed recoveries", counts.failed_recoveries),
            ("refused", counts.refused),
            ("unknown", counts.unknown),
            ("unseen", counts.acks_unseen),
            ("gone", counts.acks_lost_with_epoch),
            ("ends by the server", counts.unsubscribes.get(&2500).copied().unwrap_or_default()),
            ("closes", counts.closes.get(&3008).copied().unwrap_or_default()),
        ];
        for (name, count) in figures {
            *sums.entry(name).or_default() += count;
        }
    }
    assert!(sums.values().all(|sum| *sum >= 20), "{sums:?}");
}
