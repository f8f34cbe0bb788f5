//! What can be said when all logs have been read.

use super::reader::Standing;
use super::report::Found;
use super::{Judge, NONE, Outcome};
use crate::ledger::events::{Events, What};
use crate::ledger::{Rule, Stored};
use crate::limits::SEARCHES_MAX;
use crate::topology::{ChannelId, ClientId};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

impl Judge<'_> {
    /// The history of a channel: whole, and what was sent.
    pub(super) fn stored(&mut self, stored: &Stored) {
        let (channel, at_us) = (stored.channel, self.times.ended_us);
        let stream = self.streams.number(channel, &stored.epoch);
        let top = self.dense(stream, stored.top);
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.top = Some(top);
        }
        let mut before: Option<u64> = None;
        for &(offset, stamp) in &stored.publications {
            let offset = self.dense(stream, offset);
            let found = || Found::new("in the history".to_owned()).on(channel).at(stream, offset);
            if let Some(before) = before.filter(|before| before.checked_add(1) != Some(offset)) {
                self.report.add(Rule::C1, at_us, || Found {
                    text: format!("the history goes on after {before} with this"),
                    ..found()
                });
            }
            before = Some(offset);
            let seen = stamp.map(Into::into);
            let Some(number) = self.identify(channel, seen, at_us, &found) else {
                continue;
            };
            let Some(publication) = self.publications.get_mut(number) else {
                continue;
            };
            if publication.is_placed() {
                let other = publication.offset;
                self.counts.duplicates += 1;
                self.report.add(Rule::C2, at_us, || Found {
                    text: format!("the history has it at {other} as well"),
                    ..found().of(number)
                });
                continue;
            }
            (publication.stream, publication.offset) = (stream, offset);
        }
        if let Some(last) = before.filter(|last| *last != top) {
            self.report.add(Rule::C1, at_us, || {
                let text = format!("the stream ends at {top}, and its history at {last}");
                Found::new(text).on(channel).at(stream, top)
            });
        }
    }

    /// Everything that needs more than one log.
    pub(super) fn settle(&mut self) {
        let mut order: Vec<u32> = self.indices(|p| p.is_placed());
        order.sort_unstable_by_key(|index| {
            self.publications.get(*index).map(|p| (p.stream, p.offset, p.seen_us))
        });
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let stream = self.stream_of(*first);
            let end = rest.partition_point(|index| self.stream_of(*index) <= stream);
            let (one, others) = rest.split_at(end);
            self.stream_in_order(one);
            rest = others;
        }
        self.refused_and_seen();
        self.no_probe();
        let standing = std::mem::take(&mut self.standing);
        self.with_history(&standing);
        let oldest = self.without_history(&standing);
        drop(standing);
        self.acknowledged(&order, &oldest);
    }

    fn indices(&self, is: impl Fn(&super::Publication) -> bool) -> Vec<u32> {
        let all = (0..).zip(&self.publications.list);
        all.filter(|(_, p)| is(p)).map(|(index, _)| index).collect()
    }

    fn stream_of(&self, index: u32) -> u32 {
        self.publications.get(index).map_or(NONE, |p| p.stream)
    }

    /// C3 (one publication for an offset) and C7, and how far everybody has to have come.
    fn stream_in_order(&mut self, order: &[u32]) {
        let mut latest: HashMap<(ClientId, u32), u32> = HashMap::new();
        let (mut last, mut due, mut due_probe) = (0, 0, 0);
        for &index in order {
            let Some(&p) = self.publications.get(index) else {
                continue;
            };
            let at_us = if p.is_seen() { p.seen_us } else { self.times.ended_us };
            let found =
                |text: String| Found::new(text).on(p.channel).at(p.stream, p.offset).of(index);
            if p.offset == last {
                self.report.add(Rule::C3, at_us, || {
                    found("another publication stands there as well".to_owned()).by(p.seen_by)
                });
            }
            let is_alone = p.offset != last;
            last = p.offset;
            let before = latest.insert((p.publisher, p.connection), p.sequence);
            let before = before.filter(|_| is_alone);
            if let Some(before) = before.filter(|before| *before > p.sequence) {
                self.report.add(Rule::C7, at_us, || {
                    found(format!("it stands after {}#{before}", p.publisher))
                });
            }
            if self.times.is_past(p.under_way_us()) {
                due = p.offset;
                due_probe = if self.times.is_probe(&p) { p.offset } else { due_probe };
            }
        }
        let number = order.first().map_or(NONE, |index| self.stream_of(*index));
        let Some(stream) = self.streams.get_mut(number) else {
            return;
        };
        (stream.due, stream.due_probe) = (due, due_probe);
        let channel = stream.channel;
        if let Some(top) = stream.top.filter(|top| *top < last) {
            self.report.add(Rule::C5, self.times.ended_us, || {
                let text = format!("the stream ends at {top}, and this was delivered");
                Found::new(text).on(channel).at(number, last)
            });
        }
    }

    /// C4.
    fn refused_and_seen(&mut self) {
        for (index, p) in (0..).zip(&self.publications.list) {
            let Outcome::Refused(code) = p.outcome else {
                continue;
            };
            if p.is_seen() || p.is_placed() {
                let at_us = if p.is_seen() { p.seen_us } else { self.times.ended_us };
                self.report.add(Rule::C4, at_us.max(p.answered_us), || {
                    let text = format!("it was refused with {code}");
                    Found::new(text).on(p.channel).at(p.stream, p.offset).of(index)
                });
            }
        }
    }

    /// C10: there were to be probes, and none was taken.
    fn no_probe(&mut self) {
        let Some(from_us) = self.ledger.run.probes_from_us else {
            return;
        };
        let mut all = self.publications.list.iter();
        if !all.any(|p| self.times.is_probe(p) && p.is_acknowledged()) {
            self.report.add(Rule::C10, from_us, || {
                Found::new("nothing that was published from then on was acknowledged".to_owned())
            });
        }
    }

    /// C1 and C10 at the end: who is subscribed has everything that was long enough on its way.
    fn with_history(&mut self, standing: &[Standing]) {
        let current = self.streams.current();
        for s in standing.iter().filter(|s| s.stream != NONE) {
            let (now, _) = current.get(&s.channel).copied().unwrap_or((s.stream, false));
            let Some(stream) = self.streams.get(now) else {
                continue;
            };
            let (due, due_probe) = (stream.due, stream.due_probe);
            let is_other = now != s.stream;
            let next = if is_other { 1 } else { s.next };
            if due < next {
                continue;
            }
            self.counts.holes += 1;
            self.counts.lost += due - next + 1;
            let rule = if due_probe >= next { Rule::C10 } else { Rule::C1 };
            let epoch = self.streams.epoch(s.stream);
            self.report.add(rule, self.times.ended_us, || {
                let text = match is_other {
                    true => format!("subscribed until the end, and still in epoch {epoch}"),
                    false => format!("subscribed until the end, and nothing came from {next} on"),
                };
                Found::new(text).by(s.client).on(s.channel).at(now, next)
            });
        }
    }

    /// What did not come to those who were there, without history. Returns since when there was
    /// somebody who stayed until the end, by channel.
    fn without_history(&mut self, standing: &[Standing]) -> HashMap<ChannelId, u64> {
        let mut oldest: HashMap<ChannelId, u64> = HashMap::new();
        for s in standing {
            let from_us = oldest.entry(s.channel).or_insert(s.from_us);
            *from_us = s.from_us.min(*from_us);
        }
        let mut order = self.indices(|p| self.times.is_due(p) && oldest.contains_key(&p.channel));
        order.sort_unstable_by_key(|index| {
            self.publications.get(*index).map(|p| (p.channel, p.sent_us))
        });
        let channel_of = |index: &u32| self.publications.get(*index).map(|p| p.channel);
        let ranges: HashMap<ChannelId, &[u32]> = order
            .chunk_by(|a, b| channel_of(a) == channel_of(b))
            .filter_map(|list| Some((channel_of(list.first()?)?, list)))
            .collect();
        let mut searched: Vec<Standing> = Vec::new();
        for s in standing.iter().filter(|s| s.stream == NONE) {
            let all = ranges.get(&s.channel).copied().unwrap_or_default();
            let sent = |index: &u32| self.publications.get(*index).map_or(0, |p| p.sent_us);
            let from = |us: u64| all.len() - all.partition_point(|index| sent(index) <= us);
            let expected = from(s.from_us) as u64;
            let before_probes = self.times.probes_from_us.saturating_sub(1).max(s.from_us);
            let probes = from(before_probes) as u64;
            let missing = expected.saturating_sub(s.came);
            self.counts.lost_without_history += missing.saturating_sub(s.skipped);
            let is_exact = self.ledger.run.exact_without_history;
            let is_broken = probes > s.probes || (is_exact && missing > s.skipped);
            if is_broken && searched.len() < SEARCHES_MAX {
                searched.push(*s);
            } else if is_broken {
                let rule = if probes > s.probes { Rule::C10 } else { Rule::C1 };
                self.report.add(rule, self.times.ended_us, || {
                    let text = format!("subscribed until the end, and {missing} did not come");
                    Found::new(text).by(s.client).on(s.channel)
                });
            }
        }
        for s in searched {
            let all = ranges.get(&s.channel).copied().unwrap_or_default();
            self.search(&s, all);
        }
        oldest
    }

    /// Names the first publication that a subscription did not get, a probe rather than another.
    fn search(&mut self, s: &Standing, all: &[u32]) {
        let Some(log) = self.ledger.logs.get(s.log as usize) else {
            return;
        };
        let mut came: HashSet<u32> = HashSet::new();
        for event in Events::of(log).flatten().filter(|event| event.client == s.client) {
            if let What::Received { channel, publication: Some(seen), .. } = event.what
                && channel == s.channel
            {
                came.extend(self.publications.seen(seen));
            }
        }
        let missing = |index: &u32| {
            let sent_us = self.publications.get(*index).map_or(0, |p| p.sent_us);
            sent_us > s.from_us && !came.contains(index)
        };
        let is_probe = |i: &u32| self.publications.get(*i).is_some_and(|p| self.times.is_probe(p));
        let probe = all.iter().copied().find(|index| missing(index) && is_probe(index));
        let Some(first) = probe.or_else(|| all.iter().copied().find(missing)) else {
            return;
        };
        let rule = if probe.is_some() { Rule::C10 } else { Rule::C1 };
        self.report.add(rule, self.times.ended_us, || {
            let text = "subscribed until the end, and it did not come".to_owned();
            Found::new(text).by(s.client).on(s.channel).of(first)
        });
    }
}
