//! Subscribe replies, and whether they say the truth (C6).

use super::reader::Reader;
use super::report::Found;
use super::{Judge, NONE};
use crate::ledger::Rule;
use crate::ledger::events::{Place, What};
use crate::topology::{ChannelId, ClientId};

impl Judge<'_> {
    pub(super) fn subscribed(
        &mut self,
        reader: &mut Reader<'_>,
        at_us: u64,
        client: ClientId,
        what: What,
    ) {
        let What::Subscribed { channel, asked, position, recovered, was_recovering } = what else {
            return;
        };
        let index = reader.subscription(client, channel);
        self.end_of_span(reader, index);
        let found = |text: String| Found::new(text).by(client).on(channel);
        let asked = asked.map(|place| self.position(reader, channel, place));
        let told = position.map(|place| self.position(reader, channel, place));
        if let Some((stream, offset)) = told {
            self.streams.told(stream, at_us, offset);
        }
        match (asked, recovered) {
            (Some(_), true) => self.counts.recoveries += 1,
            (Some(_), false) => self.counts.failed_recoveries += 1,
            (None, true) => self
                .report
                .add(Rule::C6, at_us, || found("recovered: true, and nobody had asked".to_owned())),
            (None, false) => {}
        }
        if asked.is_some() && !was_recovering {
            self.report.add(Rule::C6, at_us, || {
                found("asked to recover, and was_recovering: false".to_owned())
            });
        }
        let Some((stream, told)) = told else {
            if self.ledger.channels.get(channel as usize).is_some_and(|c| c.history) {
                self.faults.add(|| {
                    let name = self.ledger.channels.get(channel as usize).map(|c| &*c.name);
                    format!("{} has history, and a reply has no position", name.unwrap_or_default())
                });
            }
            return reader.begin(index, at_us, (NONE, 0));
        };
        if let (Some((asked, offset)), Some(subscription)) = (asked, reader.list.get(index))
            && asked == subscription.stream
            && offset >= subscription.next
        {
            // The client's word against its own book.
            let next = subscription.next;
            self.faults.add(|| {
                format!("client {client} named offset {offset}, and had none from {next} on")
            });
        }
        match asked {
            Some(asked) if recovered => {
                self.recovered(reader, index, at_us, asked, (stream, told));
            }
            Some(asked) => {
                self.had_a_reason(reader, index, at_us, asked, (stream, told));
                reader.begin(index, at_us, (stream, told));
            }
            None => reader.begin(index, at_us, (stream, told)),
        }
    }

    /// `recovered: true`: it goes on from where the client was.
    fn recovered(
        &mut self,
        reader: &mut Reader<'_>,
        index: usize,
        at_us: u64,
        (asked_stream, asked): (u32, u64),
        (stream, told): (u32, u64),
    ) {
        let Some(s) = reader.list.get(index) else {
            return;
        };
        let (client, channel) = (s.client, s.channel);
        let connection = reader.connection(client);
        let Some(subscription) = reader.list.get_mut(index) else {
            return;
        };
        let found = |text: String| Found::new(text).by(client).on(channel).at(stream, asked);
        // An empty epoch means: whichever it is.
        let epoch = self.streams.epoch(asked_stream).to_owned();
        if asked_stream != stream && !epoch.is_empty() {
            self.report.add(Rule::C6, at_us, || {
                found(format!("recovered: true, and the epoch was {epoch} before"))
            });
        }
        if told < asked {
            self.report.add(Rule::C6, at_us, || {
                found(format!("recovered: true from {asked}, and the stream ends at {told}"))
            });
        }
        let same = subscription.stream == stream;
        let next = asked.saturating_add(1);
        if !same || next < subscription.first {
            subscription.first = next;
            subscription.from_us = at_us;
        }
        subscription.resume(connection, at_us);
        subscription.stream = stream;
        subscription.next = next;
        subscription.owed = told;
        subscription.after_recovery = true;
    }

    /// `recovered: false` is an excuse that has to be true as well, as far as that is known.
    fn had_a_reason(
        &mut self,
        reader: &Reader<'_>,
        index: usize,
        at_us: u64,
        (asked_stream, asked): (u32, u64),
        (stream, told): (u32, u64),
    ) {
        let Some(subscription) = reader.list.get(index) else {
            return;
        };
        if asked_stream != stream {
            return;
        }
        let (client, channel) = (subscription.client, subscription.channel);
        let found = |text: String| Found::new(text).by(client).on(channel);
        let Some(missed) = told.checked_sub(asked) else {
            return self.report.add(Rule::C6, at_us, || {
                let text = format!("the stream went back from {asked} to {told}");
                found(text).at(stream, asked)
            });
        };
        let run = &self.ledger.run;
        let (Some(size), Some(most)) = (run.history_size, run.recovery_max) else {
            return;
        };
        let away_us = at_us.saturating_sub(subscription.last_us);
        if run.history_ttl_ms.is_some_and(|ttl| away_us >= ttl.saturating_mul(1_000)) {
            return;
        }
        if missed <= size.min(most) {
            self.report.add(Rule::C6, at_us, || {
                let text = format!("recovered: false, and only {missed} after {asked} were missed");
                found(text).at(stream, asked.saturating_add(1))
            });
        }
    }

    fn position(
        &mut self,
        reader: &mut Reader<'_>,
        channel: ChannelId,
        place: Place,
    ) -> (u32, u64) {
        let stream = self.stream(reader, channel, place);
        (stream, self.dense(stream, place.offset))
    }

    fn stream(&mut self, reader: &mut Reader<'_>, channel: ChannelId, place: Place) -> u32 {
        let (streams, log) = (&mut self.streams, reader.log);
        let number = || streams.number(channel, log.name(place.epoch));
        *reader.streams.entry((channel, place.epoch)).or_insert_with(number)
    }
}
