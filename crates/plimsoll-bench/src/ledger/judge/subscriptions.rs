//! What each subscription was given, event by event.

use super::reader::{Hole, Reader, Standing, Subscription};
use super::report::Found;
use super::{Judge, NONE};
use crate::ledger::events::{Event, Events, Seen, What};
use crate::ledger::{Log, Rule, Via};
use crate::topology::ChannelId;

impl Judge<'_> {
    /// Reads one log.
    pub(super) fn read(&mut self, number: u32, log: &Log) {
        let mut reader = Reader::of(number, log);
        for event in Events::of(log).flatten() {
            self.event(&mut reader, event);
        }
        for index in 0..reader.list.len() {
            self.end_of_log(&mut reader, index);
        }
    }

    fn event(&mut self, reader: &mut Reader<'_>, event: Event) {
        let Event { at_us, client, what } = event;
        let is_end = matches!(what, What::Unsubscribed { .. } | What::Closed { .. } | What::Cut);
        if is_end && at_us > self.times.ended_us {
            return;
        }
        match what {
            What::Published { .. } | What::Answered { .. } => {}
            What::Subscribed { channel, .. } => {
                if self.ledger.channels.get(channel as usize).is_none() {
                    self.faults.add(|| format!("the run has no channel {channel}"));
                }
                self.subscribed(reader, at_us, client, what);
            }
            What::Received { channel, offset, publication, via } => {
                self.counts.deliveries += 1;
                self.counts.recovered_deliveries += u64::from(via == Via::Recovered);
                match reader.standing(client, channel) {
                    Some(index) => self.received(reader, index, at_us, offset, publication, via),
                    None => {
                        self.counts.strays += 1;
                        self.report.add(Rule::C8, at_us, || {
                            let text = "it came outside of a subscription".to_owned();
                            Found::new(text).by(client).on(channel)
                        });
                    }
                }
            }
            What::Stray { channel } => {
                self.counts.strays += 1;
                let name = reader.log.name(channel);
                self.report.add(Rule::C8, at_us, || {
                    let known = self.ledger.channels.iter().position(|c| *c.name == *name);
                    let text = format!("a publication of {name} came, which was not subscribed");
                    Found::new(text).by(client).on(known.map_or(NONE, |n| n as u32))
                });
            }
            What::Unsubscribed { channel, code } => {
                *self.counts.unsubscribes.entry(code).or_default() += 1;
                if let Some(subscription) = reader.get_mut(client, channel) {
                    subscription.live = false;
                }
            }
            What::Closed { code } => {
                *self.counts.closes.entry(code.unwrap_or(1006)).or_default() += 1;
                reader.disconnected(client);
            }
            What::Cut => {
                self.counts.cuts += 1;
                reader.disconnected(client);
            }
        }
    }

    fn received(
        &mut self,
        reader: &mut Reader<'_>,
        index: usize,
        at_us: u64,
        offset: u64,
        publication: Option<Seen>,
        via: Via,
    ) {
        let Some(subscription) = reader.list.get_mut(index) else {
            return;
        };
        let (client, channel, stream) =
            (subscription.client, subscription.channel, subscription.stream);
        let offset = self.dense(stream, offset);
        subscription.last_us = at_us;
        let had = (subscription.first, subscription.next);
        if stream != NONE {
            self.follows(subscription, at_us, offset);
        }
        let found = || Found::new(String::new()).by(client).on(channel).at(stream, offset);
        let Some(number) = self.identify(channel, publication, at_us, &found) else {
            return;
        };
        let times = self.times;
        let Some(publication) = self.publications.get_mut(number) else {
            return;
        };
        if at_us < publication.seen_us {
            (publication.seen_us, publication.seen_by) = (at_us, client);
        }
        let took_us = at_us.saturating_sub(publication.sent_us);
        let is_late = times.is_probe(publication) && took_us > times.heal_us;
        if is_late && via == Via::Live {
            self.report.add(Rule::C10, at_us, || {
                let text = format!("a probe came after {} ms", took_us / 1_000);
                Found { text, ..found() }.of(number)
            });
        }
        if stream == NONE {
            self.in_order(reader, index, at_us, number);
        } else {
            self.place(number, (stream, offset), at_us, had, &found);
        }
    }

    /// Which publication it is (C3, C4).
    pub(super) fn identify(
        &mut self,
        channel: ChannelId,
        seen: Option<Seen>,
        at_us: u64,
        found: &impl Fn() -> Found,
    ) -> Option<u32> {
        let Some(seen) = seen else {
            self.counts.corrupted += 1;
            let text = "the payload is corrupt".to_owned();
            self.report.add(Rule::C3, at_us, || Found { text, ..found() });
            return None;
        };
        let Seen { publisher, sequence, crc } = seen;
        let number = self.publications.seen(seen);
        let publication = number.and_then(|number| self.publications.get(number));
        let (Some(number), Some(publication)) = (number, publication) else {
            self.counts.invented += 1;
            self.report.add(Rule::C4, at_us, || Found {
                text: format!("{publisher}#{sequence} was never sent"),
                ..found()
            });
            return None;
        };
        if publication.channel != channel {
            self.counts.invented += 1;
            let sent = self.ledger.channels.get(publication.channel as usize);
            self.report.add(Rule::C4, at_us, || {
                let sent = sent.map_or("", |sent| &sent.name);
                Found { text: format!("it was sent to {sent}"), ..found() }.of(number)
            });
            return None;
        }
        if publication.crc != crc {
            self.counts.corrupted += 1;
            self.report.add(Rule::C3, at_us, || {
                let text = "its bytes are not those that were sent".to_owned();
                Found { text, ..found() }.of(number)
            });
        }
        Some(number)
    }

    /// C2 and C1 in a stream: the next offset, or a hole.
    fn follows(&mut self, subscription: &mut Subscription, at_us: u64, offset: u64) {
        let next = subscription.next;
        let (client, channel, stream) =
            (subscription.client, subscription.channel, subscription.stream);
        let found = |text: String| Found::new(text).by(client).on(channel).at(stream, offset);
        if offset < next {
            let text = match subscription.fill(offset) {
                Some(_) => format!("it came after {}", next - 1),
                None if offset >= subscription.first => "it came again".to_owned(),
                None => format!("it came, and the subscription began at {}", subscription.first),
            };
            let again = text == "it came again";
            self.counts.duplicates += u64::from(again);
            self.counts.reorders += u64::from(!again);
            return self.report.add(Rule::C2, at_us, || found(text));
        }
        if offset > next {
            self.tell_hole(subscription);
            let rule = if subscription.after_recovery { Rule::C6 } else { Rule::C1 };
            subscription.hole = Some({
                let missing = offset - next;
                Hole { from: next, to: offset - 1, missing, at_us, rule }
            });
        }
        subscription.after_recovery = false;
        subscription.next = offset.saturating_add(1);
    }

    fn tell_hole(&mut self, subscription: &mut Subscription) {
        let Some(Hole { from, to, missing, at_us, rule }) = subscription.hole.take() else {
            return;
        };
        let (client, channel, stream) =
            (subscription.client, subscription.channel, subscription.stream);
        self.counts.holes += 1;
        self.counts.lost += missing;
        self.report.add(rule, at_us, || {
            let came = to.saturating_add(1);
            let text = match rule {
                Rule::C6 => format!("recovered: true, and {came} came when {from} was next"),
                _ => format!("{came} came when {from} was next"),
            };
            Found::new(text).by(client).on(channel).at(stream, from)
        });
    }

    /// C3: a publication stands at one offset, and nobody gets it at another.
    fn place(
        &mut self,
        number: u32,
        (stream, offset): (u32, u64),
        at_us: u64,
        (first, next): (u64, u64),
        found: &impl Fn() -> Found,
    ) {
        let Some(publication) = self.publications.get_mut(number) else {
            return;
        };
        if !publication.is_placed() {
            (publication.stream, publication.offset) = (stream, offset);
            return;
        }
        let (other, elsewhere) = (publication.stream, publication.offset);
        if (other, elsewhere) == (stream, offset) {
            return;
        }
        let again = other == stream && (first..next).contains(&elsewhere);
        let rule = if again { Rule::C2 } else { Rule::C3 };
        self.counts.duplicates += u64::from(again);
        let epoch = self.streams.epoch(other);
        self.report.add(rule, at_us, || {
            let text = format!("it stands at {elsewhere} of epoch {epoch} as well");
            Found { text, ..found() }.of(number)
        });
    }

    /// C2 without history: the order of each publisher's connection, and nothing twice.
    fn in_order(&mut self, reader: &mut Reader<'_>, index: usize, at_us: u64, number: u32) {
        let Some(publication) = self.publications.get(number) else {
            return;
        };
        let Some(subscription) = reader.list.get_mut(index) else {
            return;
        };
        let (client, channel) = (subscription.client, subscription.channel);
        let key = (index as u32, publication.publisher, publication.connection);
        let expected = self.times.is_due(publication) && publication.sent_us > subscription.from_us;
        let latest = reader.latest.get(&key).copied();
        let found = |text: &str| Found::new(text.to_owned()).by(client).on(channel).of(number);
        if latest == Some(number) {
            self.counts.duplicates += 1;
            return self.report.add(Rule::C2, at_us, || found("it came again"));
        }
        let is_probe = self.times.is_probe(publication);
        subscription.came += u64::from(expected);
        subscription.probes += u64::from(expected && is_probe);
        if latest.is_some_and(|latest| latest > number) {
            self.counts.reorders += 1;
            subscription.skipped = subscription.skipped.saturating_sub(1);
            let text = "it came after a later one of its publisher";
            return self.report.add(Rule::C2, at_us, || found(text));
        }
        let mut before = publication.previous;
        reader.latest.insert(key, number);
        while latest.is_none_or(|latest| before > latest) {
            let Some(skipped) = self.publications.get_mut(before) else {
                break;
            };
            if skipped.sent_us <= subscription.from_us {
                break;
            }
            if skipped.is_acknowledged() {
                skipped.skipped = true;
                subscription.skipped += 1;
                if self.ledger.run.exact_without_history {
                    self.report.add(Rule::C1, at_us, || {
                        found("a later one of its publisher came instead").of(before)
                    });
                }
            }
            before = skipped.previous;
        }
    }

    /// Nothing more can come of what was promised to a span.
    pub(super) fn end_of_span(&mut self, reader: &mut Reader<'_>, index: usize) {
        let Some(subscription) = reader.list.get_mut(index) else {
            return;
        };
        self.tell_hole(subscription);
        if subscription.stream == NONE {
            self.counts.lost_without_history += std::mem::take(&mut subscription.skipped);
            return;
        }
        let (owed, next) = (std::mem::take(&mut subscription.owed), subscription.next);
        if owed >= next {
            let (client, channel, stream) =
                (subscription.client, subscription.channel, subscription.stream);
            subscription.next = owed.saturating_add(1);
            self.counts.holes += 1;
            self.counts.lost += owed - next + 1;
            self.report.add(Rule::C6, subscription.last_us, || {
                let text = format!("recovered: true up to {owed}, and {next} never came");
                Found::new(text).by(client).on(channel).at(stream, next)
            });
        }
    }

    fn end_of_log(&mut self, reader: &mut Reader<'_>, index: usize) {
        let Some(subscription) = reader.list.get(index) else { return };
        let (stands, skipped) = (reader.is_live(subscription), subscription.skipped);
        self.end_of_span(reader, index);
        if let Some(s) = reader.list.get(index).filter(|_| stands) {
            self.standing.push(Standing {
                log: reader.number,
                client: s.client,
                channel: s.channel,
                stream: s.stream,
                next: s.next,
                from_us: s.from_us,
                came: s.came,
                probes: s.probes,
                skipped,
            });
        }
    }
}
