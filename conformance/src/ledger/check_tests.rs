//! For each rule, books that break it and nothing else.

use super::*;

const LIMITS: Limits = Limits { history_size: 10, recovery_max: 10 };

fn id(sequence: u64) -> PubId {
    PubId { publisher: 1, sequence }
}

fn position(offset: u64) -> Position {
    Position { epoch: "e".into(), offset }
}

fn published(sequence: u64) -> Published {
    let body = u32::try_from(sequence).unwrap();
    Published { channel: "c".into(), id: id(sequence), body, outcome: Outcome::Acknowledged }
}

/// Offset and sequence are the same number in good books.
fn received(offset: u64, via: Via) -> Entry {
    let body = u32::try_from(offset).unwrap();
    Entry::Received { offset, id: Some(id(offset)), body, via }
}

fn subscribed() -> Entry {
    let position = position(0);
    Entry::Subscribed { asked: None, position, recovered: false, was_recovering: false }
}

fn resubscribed(from: u64, told: u64, recovered: bool) -> Entry {
    let (asked, position) = (Some(position(from)), position(told));
    Entry::Subscribed { asked, position, recovered, was_recovering: true }
}

fn book(subscriber: u32, entries: Vec<Entry>) -> Book {
    Book { subscriber, channel: "c".into(), entries }
}

/// Four publications; one subscriber saw all, another was cut after the second and recovered.
fn good() -> Ledger {
    let stored = |n: u64| (n, Some(id(n)), u32::try_from(n).unwrap());
    Ledger {
        published: (1..=4).map(published).collect(),
        books: vec![
            book(
                0,
                vec![
                    subscribed(),
                    received(1, Via::Live),
                    received(2, Via::Live),
                    received(3, Via::Live),
                    received(4, Via::Live),
                    Entry::Settled,
                ],
            ),
            book(
                1,
                vec![
                    subscribed(),
                    received(1, Via::Live),
                    received(2, Via::Live),
                    Entry::Cut,
                    resubscribed(2, 2, true),
                    received(3, Via::Recovered),
                    received(4, Via::Live),
                    Entry::Settled,
                ],
            ),
        ],
        stored: vec![Stored {
            channel: "c".into(),
            top: position(4),
            publications: (1..=4).map(stored).collect(),
        }],
    }
}

/// Changes the good books and expects exactly the broken rules.
fn expect(rules: &[Rule], change: impl FnOnce(&mut Ledger)) {
    let mut ledger = good();
    change(&mut ledger);
    let verdict = check(&ledger, LIMITS);
    let mut found: Vec<Rule> = verdict.violations.iter().map(|v| v.rule).collect();
    found.dedup();
    assert_eq!(found, rules, "{:#?}", verdict.violations);
}

#[test]
fn good_books_are_kept() {
    expect(&[], |_| {});
    let verdict = check(&good(), LIMITS);
    assert_eq!((verdict.deliveries, verdict.recovered_deliveries), (8, 1));
    assert_eq!((verdict.recoveries, verdict.cuts, verdict.outcomes), (1, 1, [4, 0, 0]));
    verdict.require("good", 8, 1);
}

#[test]
fn void_books_are_not_kept() {
    let verdict = check(&good(), LIMITS);
    assert!(std::panic::catch_unwind(|| verdict.require("few deliveries", 9, 1)).is_err());
    assert!(std::panic::catch_unwind(|| verdict.require("few recoveries", 8, 2)).is_err());
    let mut ledger = good();
    ledger.published.iter_mut().for_each(|p| p.outcome = Outcome::Unknown);
    let verdict = check(&ledger, LIMITS);
    assert!(std::panic::catch_unwind(|| verdict.require("no acks", 8, 1)).is_err());
}

#[test]
fn c1_a_publication_is_left_out() {
    expect(&[Rule::C1], |l| drop(l.books[0].entries.remove(2)));
}

#[test]
fn c1_the_last_publication_never_comes() {
    expect(&[Rule::C1], |l| drop(l.books[0].entries.remove(4)));
}

#[test]
fn c1_a_hole_in_history() {
    expect(&[Rule::C1], |l| {
        l.stored[0].publications.remove(1);
    });
}

#[test]
fn c1_a_client_is_left_without_a_subscription() {
    expect(&[Rule::C1], |l| l.books[0].entries.insert(5, Entry::Unsubscribed(2500)));
}

#[test]
fn c2_a_publication_comes_twice() {
    expect(&[Rule::C2, Rule::C7], |l| l.books[0].entries.insert(2, received(1, Via::Live)));
}

#[test]
fn c2_a_recovered_publication_comes_live_too() {
    expect(&[Rule::C2, Rule::C7], |l| l.books[1].entries.insert(6, received(3, Via::Live)));
}

#[test]
fn c2_one_publication_at_two_offsets() {
    expect(&[Rule::C3, Rule::C2, Rule::C7], |l| {
        if let Entry::Received { id: named, body, .. } = &mut l.books[0].entries[3] {
            (*named, *body) = (Some(id(2)), 2);
        }
    });
}

#[test]
fn c2_a_publication_after_unsubscribing() {
    expect(&[Rule::C2], |l| {
        l.books[0].entries[5] = Entry::Unsubscribed(0);
        l.books[0].entries.push(received(5, Via::Live));
        l.published.push(published(5));
        l.stored[0].publications.push((5, Some(id(5)), 5));
        l.stored[0].top.offset = 5;
        l.books[1].entries.insert(7, received(5, Via::Live));
    });
}

#[test]
fn c3_two_subscribers_see_different_publications() {
    expect(&[Rule::C3], |l| {
        l.published.push(published(7));
        l.published[4].outcome = Outcome::Unknown;
        if let Entry::Received { id: named, body, .. } = &mut l.books[0].entries[4] {
            (*named, *body) = (Some(id(7)), 7);
        }
    });
}

#[test]
fn c3_bytes_are_changed() {
    expect(&[Rule::C3], |l| {
        if let Entry::Received { body, .. } = &mut l.books[0].entries[1] {
            *body = 99;
        }
    });
    expect(&[Rule::C3], |l| {
        if let Entry::Received { id, .. } = &mut l.books[0].entries[1] {
            *id = None;
        }
    });
}

#[test]
fn c4_something_is_invented() {
    expect(&[Rule::C4], |l| drop(l.published.remove(2)));
}

#[test]
fn c4_something_refused_is_seen() {
    expect(&[Rule::C4], |l| l.published[2].outcome = Outcome::Refused(103));
}

#[test]
fn c4_something_comes_from_another_channel() {
    expect(&[Rule::C4, Rule::C5], |l| l.published[2].channel = "d".into());
}

#[test]
fn c5_something_acknowledged_is_nowhere() {
    expect(&[Rule::C5], |l| l.published.push(published(5)));
}

#[test]
fn c5_trimmed_history_is_no_excuse_for_more_than_was_trimmed() {
    let trimmed = |l: &mut Ledger| {
        l.stored[0].publications.clear();
        l.books.clear();
    };
    expect(&[], trimmed);
    expect(&[Rule::C5], |l| {
        trimmed(l);
        l.published.push(published(5));
    });
}

#[test]
fn c6_recovery_leaves_a_gap() {
    expect(&[Rule::C6], |l| drop(l.books[1].entries.remove(5)));
}

#[test]
fn c6_recovered_from_another_place_than_asked() {
    expect(&[Rule::C6], |l| l.books[1].entries[4] = resubscribed(2, 3, true));
}

#[test]
fn c6_recovered_into_another_epoch() {
    expect(&[Rule::C6, Rule::C1], |l| {
        if let Entry::Subscribed { position, .. } = &mut l.books[1].entries[4] {
            position.epoch = "f".into();
        }
    });
}

#[test]
fn c6_not_recovered_without_need() {
    let entries = |told| vec![resubscribed(2, told, false), Entry::Settled];
    expect(&[Rule::C6], |l| drop(l.books[1].entries.splice(4.., entries(4))));
    // The same is the truth when history holds less than was missed.
    let mut ledger = good();
    ledger.books[1].entries.splice(4.., entries(4));
    let limits = Limits { history_size: 1, recovery_max: 10 };
    let verdict = check(&ledger, limits);
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    assert_eq!((verdict.recoveries, verdict.failed_recoveries), (0, 1));
}

#[test]
fn c6_the_stream_goes_back() {
    expect(&[Rule::C6, Rule::C1], |l| {
        l.books[1].entries.splice(4.., [resubscribed(2, 1, false), Entry::Settled]);
    });
}

#[test]
fn c7_a_publisher_is_overtaken_by_itself() {
    expect(&[Rule::C7], |l| {
        // Everybody agrees on the wrong order.
        l.stored[0].publications[1] = (2, Some(id(3)), 3);
        l.stored[0].publications[2] = (3, Some(id(2)), 2);
        for book in &mut l.books {
            for entry in &mut book.entries {
                if let Entry::Received { offset: offset @ (2 | 3), id: named, body, .. } = entry {
                    let other = 5 - *offset;
                    (*named, *body) = (Some(id(other)), u32::try_from(other).unwrap());
                }
            }
        }
    });
}
