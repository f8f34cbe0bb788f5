//! C5: what was acknowledged is somewhere.

use super::report::Found;
use super::{Judge, NONE, Publication};
use crate::ledger::Rule;
use crate::topology::ChannelId;
use foldhash::HashMap;

/// What is known of a stream, by offset.
struct Known {
    number: u32,
    /// The stream's end.
    top: u64,
    offsets: Vec<u64>,
    /// The latest sending up to each of them.
    sent_us: Vec<u64>,
    /// The earliest time at which the server certainly had one of them or a later one.
    had_us: Vec<u64>,
}

impl Judge<'_> {
    /// Acknowledged, and neither seen nor in a history: is there an excuse?
    ///
    /// `order` has everything with a place, by stream and offset; `oldest` since when somebody
    /// was subscribed to a channel until the end.
    pub(super) fn acknowledged(&mut self, order: &[u32], oldest: &HashMap<ChannelId, u64>) {
        let lost = |p: &Publication| p.is_acknowledged() && !p.is_seen() && !p.is_placed();
        let mut missing: Vec<u32> = (0..)
            .zip(&self.publications.list)
            .filter(|(_, p)| lost(p))
            .map(|(index, _)| index)
            .collect();
        missing.sort_unstable_by_key(|index| self.of(*index).map(|p| (p.channel, p.sent_us)));
        let current = self.streams.current();
        let channel_of = |index: u32| self.publications.get(index).map_or(NONE, |p| p.channel);
        let groups: Vec<(ChannelId, Vec<u32>)> = missing
            .chunk_by(|a, b| channel_of(*a) == channel_of(*b))
            .filter_map(|group| Some((channel_of(*group.first()?), group.to_vec())))
            .collect();
        drop(missing);
        for (channel, mut group) in groups {
            let (number, is_later) = current.get(&channel).copied().unwrap_or((NONE, false));
            if is_later {
                self.gone_with_epoch(number, &mut group);
            }
            let top = self.streams.get(number).and_then(|stream| stream.top);
            match top {
                Some(top) => {
                    let known = self.known(order, number, top);
                    self.has_room(channel, &known, &group);
                }
                None => self.was_somebody_there(channel, &group, oldest.get(&channel).copied()),
            }
        }
    }

    fn of(&self, index: u32) -> Option<&Publication> {
        self.publications.get(index)
    }

    /// What was sent before anybody knew the last epoch may have gone with an earlier one.
    fn gone_with_epoch(&mut self, number: u32, group: &mut Vec<u32>) {
        let told_us = self.streams.get(number).map_or(u64::MAX, |stream| stream.told_us);
        let all = group.len();
        let started_us = self.ledger.run.started_us;
        let (publications, lost_us) = (&self.publications, &mut self.counts.acks_lost_us);
        group.retain(|index| {
            let Some(p) = publications.get(*index) else { return false };
            if p.sent_us <= told_us {
                let at_us = p.answered_us.saturating_sub(started_us);
                let (first, last) = lost_us.unwrap_or((at_us, at_us));
                *lost_us = Some((first.min(at_us), last.max(at_us)));
            }
            p.sent_us > told_us
        });
        self.counts.acks_lost_with_epoch += (all - group.len()) as u64;
    }

    fn known(&self, order: &[u32], number: u32, top: u64) -> Known {
        let stream_of = |index: &u32| self.of(*index).map_or(NONE, |p| p.stream);
        let start = order.partition_point(|index| stream_of(index) < number);
        let end = order.partition_point(|index| stream_of(index) <= number);
        let list = order.get(start..end).unwrap_or_default();
        let mut all: Vec<&Publication> = list.iter().filter_map(|index| self.of(*index)).collect();
        all.dedup_by_key(|p| p.offset);
        let rising = |latest: &mut u64, p: &&Publication| {
            *latest = p.sent_us.max(*latest);
            Some(*latest)
        };
        let mut had_us: Vec<u64> = all
            .iter()
            .rev()
            .scan(u64::MAX, |earliest, p| {
                *earliest = p.had_us().min(*earliest);
                Some(*earliest)
            })
            .collect();
        had_us.reverse();
        Known {
            number,
            top,
            offsets: all.iter().map(|p| p.offset).collect(),
            sent_us: all.iter().scan(0, rising).collect(),
            had_us,
        }
    }

    /// Offsets that nobody saw are the only room. A publication stands after what the server had
    /// when it was sent, and before what was sent when it had been acknowledged.
    fn has_room(&mut self, channel: ChannelId, known: &Known, group: &[u32]) {
        let number = known.number;
        let told = self.streams.get(number).map_or((u64::MAX, 0), |s| (s.told_us, s.told));
        let mut homeless = 0;
        for &index in group {
            let Some(p) = self.publications.get(index) else {
                continue;
            };
            if known.room(p, told) > 0 {
                continue;
            }
            homeless += 1;
            self.report.add(Rule::C5, p.answered_us, || {
                let text = "acknowledged, and every offset where it could stand is another's";
                Found::new(text.to_owned()).on(channel).at(number, 0).of(index)
            });
        }
        let first = group.iter().find_map(|index| self.of(*index)).copied();
        let began = first.is_some_and(|p| told.0 < p.sent_us);
        let floor = if began { told.1 } else { 0 };
        let known_above = known.offsets.iter().filter(|offset| **offset > floor).count() as u64;
        let room = known.top.saturating_sub(floor).saturating_sub(known_above);
        let missing = group.len() as u64;
        self.counts.acks_unseen += missing - homeless;
        if missing - homeless > room {
            let at_us = first.map_or(0, |p| p.answered_us);
            let first = group.first().copied().unwrap_or(NONE);
            self.report.add(Rule::C5, at_us, || {
                let text =
                    format!("{missing} acknowledged ones are nowhere, and {room} offsets free");
                Found::new(text).on(channel).at(number, 0).of(first)
            });
        }
    }

    /// Without a history to look into, somebody who was there must have seen it.
    fn was_somebody_there(&mut self, channel: ChannelId, group: &[u32], oldest: Option<u64>) {
        for &index in group {
            let Some(p) = self.publications.get(index) else {
                continue;
            };
            let stayed = oldest.is_some_and(|from_us| from_us < p.sent_us);
            if p.skipped || (stayed && self.times.is_due(p)) {
                self.report.add(Rule::C5, p.answered_us, || {
                    let text = "acknowledged, and nobody has seen it who was there".to_owned();
                    Found::new(text).on(channel).of(index)
                });
            } else {
                self.counts.acks_unseen += 1;
            }
        }
    }
}

impl Known {
    /// How many free offsets there are where a publication could stand.
    fn room(&self, p: &Publication, (told_us, told): (u64, u64)) -> u64 {
        // Known offsets that were certainly taken before it was sent, and certainly after its ack.
        let before = self.had_us.partition_point(|had_us| *had_us < p.sent_us);
        let after = self.sent_us.partition_point(|sent_us| *sent_us <= p.answered_us);
        let floor = if told_us < p.sent_us { told } else { 0 };
        let low = before.checked_sub(1).and_then(|last| self.offsets.get(last)).copied();
        let low = low.unwrap_or(0).max(floor);
        let high = self.offsets.get(after).copied().unwrap_or(self.top.saturating_add(1));
        let from = self.offsets.partition_point(|offset| *offset <= low);
        let to = self.offsets.partition_point(|offset| *offset < high);
        let between = high.saturating_sub(low).saturating_sub(1);
        between.saturating_sub(to.saturating_sub(from) as u64)
    }
}
