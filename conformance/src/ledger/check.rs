//! The judge: pure, so that it can be judged itself.

use super::{Book, Entry, Ledger, Outcome, Position, PubId, Published, Stored, Via};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A rule of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the module's documentation names them")]
pub enum Rule {
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
}

/// A rule was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// Where, and how.
    pub text: String,
}

/// What the server was configured to keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Publications of a channel's history.
    pub history_size: u64,
    /// Publications of one recovery.
    pub recovery_max: u64,
}

/// The judgement.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What was broken.
    pub violations: Vec<Violation>,
    /// Publications received, live or recovered.
    pub deliveries: u64,
    /// Those that came in subscribe replies.
    pub recovered_deliveries: u64,
    /// Subscribes with a position that were answered by `recovered: true`.
    pub recoveries: u64,
    /// Those that were answered by `recovered: false`.
    pub failed_recoveries: u64,
    /// Connections ended by the client.
    pub cuts: u64,
    /// Connections ended otherwise.
    pub closes: u64,
    /// Subscriptions ended by the server because it could not keep its promise.
    pub told: u64,
    /// Publications by outcome: acknowledged, refused, unknown.
    pub outcomes: [u64; 3],
}

impl Verdict {
    /// Fails unless no rule was broken and enough happened for that to mean something.
    pub fn require(&self, name: &str, deliveries: u64, recoveries: u64) {
        let broken = self.violations.len();
        let first: Vec<String> =
            self.violations.iter().take(10).map(|v| format!("{:?}: {}", v.rule, v.text)).collect();
        assert_eq!(broken, 0, "{name}: {broken} violations, of them:\n{}", first.join("\n"));
        let [acknowledged, refused, unknown] = self.outcomes;
        let all = acknowledged + refused + unknown;
        assert!(
            self.deliveries >= deliveries && self.recoveries >= recoveries,
            "{name}: void: {} deliveries of {deliveries}, {} recoveries of {recoveries}",
            self.deliveries,
            self.recoveries
        );
        assert!(100 * acknowledged >= all, "{name}: void: {acknowledged} acks of {all}");
        println!(
            "{name}: kept, {} deliveries ({} recovered), {} recoveries, {} not recovered, \
             {} cuts, {} told, {acknowledged} acknowledged, {refused} refused, {unknown} unknown",
            self.deliveries,
            self.recovered_deliveries,
            self.recoveries,
            self.failed_recoveries,
            self.cuts,
            self.told
        );
    }
}

/// Judges all books by all rules.
pub fn check(ledger: &Ledger, limits: Limits) -> Verdict {
    let mut judge = Judge { limits, verdict: Verdict::default(), facts: HashMap::new() };
    let sent: HashMap<PubId, &Published> = ledger.published.iter().map(|p| (p.id, p)).collect();
    for p in &ledger.published {
        let index = match p.outcome {
            Outcome::Acknowledged => 0,
            Outcome::Refused(_) => 1,
            Outcome::Unknown => 2,
        };
        judge.verdict.outcomes[index] += 1;
    }
    for stored in &ledger.stored {
        judge.stored(stored, &sent);
    }
    for book in &ledger.books {
        let top = ledger.stored.iter().find(|s| s.channel == book.channel).map(|s| &s.top);
        judge.book(book, top, &sent);
    }
    judge.acks(ledger);
    judge.verdict
}

/// A channel, one of its epochs, and an offset in it.
type Place = (Arc<str>, Arc<str>, u64);

struct Judge {
    limits: Limits,
    verdict: Verdict,
    /// What is known to stand where (C3).
    facts: HashMap<Place, (PubId, u32)>,
}

/// Where a subscriber is while its book is read.
#[derive(Default)]
struct Reader {
    epoch: Option<Arc<str>>,
    next: u64,
    live: bool,
    just_recovered: bool,
    seen: HashSet<PubId>,
    last_of: HashMap<u32, u64>,
}

impl Judge {
    fn broken(&mut self, rule: Rule, text: String) {
        self.verdict.violations.push(Violation { rule, text });
    }

    fn stored(&mut self, stored: &Stored, sent: &HashMap<PubId, &Published>) {
        let channel = &stored.channel;
        let mut last_of = HashMap::new();
        for (offset, id, body) in &stored.publications {
            let who = format!("history of {channel} at {offset}");
            let Some(id) = *id else {
                self.broken(Rule::C3, format!("{who}: the payload is corrupt"));
                continue;
            };
            self.agree(&who, channel, &stored.top.epoch, *offset, id, *body);
            self.was_sent(&who, channel, id, *body, sent);
            self.fifo(&who, id, &mut last_of);
        }
        let offsets: Vec<u64> = stored.publications.iter().map(|(o, _, _)| *o).collect();
        let rises = offsets.windows(2).all(|w| w[0] + 1 == w[1]);
        if !rises || offsets.last().is_some_and(|last| *last != stored.top.offset) {
            let top = stored.top.offset;
            self.broken(Rule::C1, format!("history of {channel} has holes, or no end at {top}"));
        }
    }

    fn book(&mut self, book: &Book, top: Option<&Position>, sent: &HashMap<PubId, &Published>) {
        let mut at = Reader::default();
        for entry in &book.entries {
            let who = format!("subscriber {} of {}", book.subscriber, book.channel);
            match entry {
                Entry::Subscribed { asked, position, recovered, was_recovering } => {
                    let told = (*recovered, *was_recovering);
                    self.subscribed(&who, &mut at, asked.as_ref(), position, told);
                }
                Entry::Received { offset, id, body, via } => {
                    self.verdict.deliveries += 1;
                    self.verdict.recovered_deliveries += u64::from(*via == Via::Recovered);
                    self.follows(&who, &mut at, *offset);
                    let Some(id) = *id else {
                        self.broken(Rule::C3, format!("{who}, {offset}: the payload is corrupt"));
                        continue;
                    };
                    if let Some(epoch) = at.epoch.clone() {
                        self.agree(&who, &book.channel, &epoch, *offset, id, *body);
                    }
                    self.was_sent(&who, &book.channel, id, *body, sent);
                    if !at.seen.insert(id) {
                        self.broken(Rule::C2, format!("{who}: {id:?} came twice"));
                    }
                    self.fifo(&who, id, &mut at.last_of);
                }
                Entry::Unsubscribed(code) => {
                    self.verdict.told += u64::from(*code >= 2500);
                    at.live = false;
                }
                Entry::Closed(_) => {
                    self.verdict.closes += 1;
                    at.live = false;
                }
                Entry::Cut => {
                    self.verdict.cuts += 1;
                    at.live = false;
                }
                Entry::Settled => self.settled(&who, &at, top),
            }
        }
    }

    fn subscribed(
        &mut self,
        who: &str,
        at: &mut Reader,
        asked: Option<&Position>,
        position: &Position,
        (recovered, was_recovering): (bool, bool),
    ) {
        at.live = true;
        if let Some(asked) = asked {
            if !was_recovering {
                self.broken(Rule::C6, format!("{who}: asked to recover, but was not told so"));
            }
            if recovered {
                self.verdict.recoveries += 1;
                if (&asked.epoch, asked.offset) != (&position.epoch, position.offset) {
                    let text = format!("{who}: recovered from {asked:?}, told {position:?}");
                    self.broken(Rule::C6, text);
                }
                at.just_recovered = true;
                at.epoch = Some(Arc::clone(&position.epoch));
                at.next = asked.offset + 1;
                return;
            }
            self.verdict.failed_recoveries += 1;
            self.had_a_reason(who, asked, position);
        } else if recovered {
            self.broken(Rule::C6, format!("{who}: recovered without having asked"));
        }
        at.just_recovered = false;
        at.epoch = Some(Arc::clone(&position.epoch));
        at.next = position.offset + 1;
        at.seen.clear();
        at.last_of.clear();
    }

    /// `recovered: false` is an excuse that has to be true as well.
    fn had_a_reason(&mut self, who: &str, asked: &Position, position: &Position) {
        if asked.epoch != position.epoch {
            return;
        }
        let Some(missed) = position.offset.checked_sub(asked.offset) else {
            let text = format!("{who}: the stream went back from {asked:?} to {position:?}");
            return self.broken(Rule::C6, text);
        };
        if missed <= self.limits.history_size.min(self.limits.recovery_max) {
            let text = format!("{who}: {missed} publications after {asked:?} were not recovered");
            self.broken(Rule::C6, text);
        }
    }

    fn follows(&mut self, who: &str, at: &mut Reader, offset: u64) {
        if !at.live {
            self.broken(Rule::C2, format!("{who}: {offset} came outside of a subscription"));
        } else if offset < at.next {
            self.broken(Rule::C2, format!("{who}: {offset} came, {} was next", at.next));
        } else if offset > at.next {
            let rule = if at.just_recovered { Rule::C6 } else { Rule::C1 };
            self.broken(rule, format!("{who}: {offset} came, {} was next", at.next));
        }
        at.just_recovered = false;
        at.next = at.next.max(offset + 1);
    }

    fn settled(&mut self, who: &str, at: &Reader, top: Option<&Position>) {
        let Some(top) = top else {
            return self.broken(Rule::C1, format!("{who}: the server has no such stream"));
        };
        if !at.live || at.epoch.as_ref() != Some(&top.epoch) || at.next != top.offset + 1 {
            let (epoch, next, live) = (&at.epoch, at.next, at.live);
            let text = format!("{who}: ended before {next} of {epoch:?} (live: {live}), {top:?}");
            self.broken(Rule::C1, text);
        }
    }

    fn agree(
        &mut self,
        who: &str,
        channel: &Arc<str>,
        epoch: &Arc<str>,
        offset: u64,
        id: PubId,
        body: u32,
    ) {
        let place = (Arc::clone(channel), Arc::clone(epoch), offset);
        let fact = *self.facts.entry(place).or_insert((id, body));
        if fact != (id, body) {
            self.broken(Rule::C3, format!("{who}, {offset}: {id:?}, but {:?} elsewhere", fact.0));
        }
    }

    fn was_sent(
        &mut self,
        who: &str,
        channel: &str,
        id: PubId,
        body: u32,
        sent: &HashMap<PubId, &Published>,
    ) {
        match sent.get(&id) {
            Some(p) if *p.channel != *channel => {
                self.broken(Rule::C4, format!("{who}: {id:?} was sent to {}", p.channel));
            }
            Some(p) if matches!(p.outcome, Outcome::Refused(_)) => {
                self.broken(Rule::C4, format!("{who}: {id:?} was refused: {:?}", p.outcome));
            }
            Some(p) if p.body != body => {
                self.broken(Rule::C3, format!("{who}: {id:?} has other bytes than were sent"));
            }
            Some(_) => {}
            None => self.broken(Rule::C4, format!("{who}: {id:?} was never sent")),
        }
    }

    fn fifo(&mut self, who: &str, id: PubId, last_of: &mut HashMap<u32, u64>) {
        let last = last_of.insert(id.publisher, id.sequence);
        if let Some(last) = last.filter(|last| *last >= id.sequence) {
            self.broken(Rule::C7, format!("{who}: {id:?} came after its sequence {last}"));
        }
    }

    /// C5. What history no longer holds must have been seen by somebody; offsets that nobody saw
    /// are the only room for acknowledged publications of which nothing is known.
    fn acks(&mut self, ledger: &Ledger) {
        for stored in &ledger.stored {
            let known: HashSet<PubId> = (1..=stored.top.offset)
                .filter_map(|offset| {
                    let place =
                        (Arc::clone(&stored.channel), Arc::clone(&stored.top.epoch), offset);
                    self.facts.get(&place).map(|(id, _)| *id)
                })
                .collect();
            let room = stored.top.offset - u64::try_from(known.len()).unwrap_or(0);
            let here = |p: &&Published| p.channel == stored.channel;
            let acknowledged =
                ledger.published.iter().filter(here).filter(|p| p.outcome == Outcome::Acknowledged);
            let missing: Vec<PubId> =
                acknowledged.map(|p| p.id).filter(|id| !known.contains(id)).collect();
            if u64::try_from(missing.len()).unwrap_or(u64::MAX) > room {
                let (channel, first) = (&stored.channel, missing.first());
                let text = format!(
                    "{channel}: {} acknowledged publications are nowhere, as {first:?}",
                    missing.len()
                );
                self.broken(Rule::C5, text);
            }
        }
        let places: HashSet<&Arc<str>> = ledger.stored.iter().map(|s| &s.channel).collect();
        let lost = ledger
            .published
            .iter()
            .find(|p| p.outcome == Outcome::Acknowledged && !places.contains(&p.channel));
        if let Some(p) = lost {
            self.broken(Rule::C5, format!("{}: {:?} was acknowledged, no stream", p.channel, p.id));
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
