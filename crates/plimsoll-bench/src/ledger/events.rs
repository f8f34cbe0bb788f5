//! Reads a log. Bytes from a file are not trusted: whatever they are, this ends with `Damaged`.

use super::recorder::{
    self, ACKNOWLEDGED, BROKE, CLOSED, CORRUPT, CUT, Context, HAS_ASKED, HAS_POSITION, PUBLISHED,
    RECEIVED, RECOVERED, REFUSED, SAME_CHANNEL, SAME_PUBLICATION, SAME_TIME, SAYS_RECOVERED,
    SAYS_RECOVERING, STRAY, SUBSCRIBED, UNANSWERED, UNSUBSCRIBED,
};
use super::varint::{take, take_difference, take_u32, take_word};
use super::{Log, Outcome, Stamp, Via};
use crate::topology::{ChannelId, ClientId};

/// Something that happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub at_us: u64,
    pub client: ClientId,
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Published {
        channel: ChannelId,
        stamp: Stamp,
    },
    Answered {
        sequence: u32,
        outcome: Outcome,
    },
    Subscribed {
        channel: ChannelId,
        asked: Option<Place>,
        position: Option<Place>,
        recovered: bool,
        was_recovering: bool,
    },
    Received {
        channel: ChannelId,
        offset: u64,
        /// `None`: corrupt.
        publication: Option<Seen>,
        via: Via,
    },
    Stray {
        /// Number of a name.
        channel: u32,
    },
    Unsubscribed {
        channel: ChannelId,
        code: u32,
    },
    Closed {
        code: Option<u16>,
    },
    Cut,
}

/// A position; its epoch is the number of a name of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub epoch: u32,
    pub offset: u64,
}

/// What a received publication says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub publisher: ClientId,
    pub sequence: u32,
    pub crc: u32,
}

impl From<Stamp> for Seen {
    fn from(Stamp { publisher, sequence, crc, .. }: Stamp) -> Self {
        Self { publisher, sequence, crc }
    }
}

/// The bytes are no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// The events of a log, in the order in which they were recorded.
pub(super) struct Events<'a> {
    rest: &'a [u8],
    chunks: std::slice::Iter<'a, Vec<u8>>,
    names: u32,
    context: Context,
    damaged: bool,
}

impl<'a> Events<'a> {
    pub fn of(log: &'a Log) -> Self {
        let chunks = log.chunks.iter();
        let names = log.names.len() as u32;
        Self { rest: &[], chunks, names, context: Context::default(), damaged: false }
    }

    fn event(&mut self) -> Option<Event> {
        let (&tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        if tag & SAME_TIME == 0 {
            self.context.at_us = take_difference(&mut self.rest, self.context.at_us)?;
        }
        let client = take_difference(&mut self.rest, u64::from(self.context.client))?;
        let client = u32::try_from(client).ok()?;
        self.context.client = client;
        let what = self.what(tag & 0x0f, tag)?;
        Some(Event { at_us: self.context.at_us, client, what })
    }

    fn what(&mut self, kind: u8, flags: u8) -> Option<What> {
        let rest = &mut self.rest;
        Some(match kind {
            PUBLISHED => {
                let (channel, sequence) = (take_u32(rest)?, take_u32(rest)?);
                let due_us = take_difference(rest, self.context.at_us)?;
                let (publisher, crc) = (self.context.client, take_word(rest)?);
                What::Published { channel, stamp: Stamp { publisher, sequence, due_us, crc } }
            }
            ACKNOWLEDGED => {
                What::Answered { sequence: take_u32(rest)?, outcome: Outcome::Acknowledged }
            }
            REFUSED => {
                let (sequence, code) = (take_u32(rest)?, take_u32(rest)?);
                What::Answered { sequence, outcome: Outcome::Refused(code) }
            }
            UNANSWERED => What::Answered { sequence: take_u32(rest)?, outcome: Outcome::Unknown },
            SUBSCRIBED => self.subscribed()?,
            RECEIVED | CORRUPT => self.received(kind, flags)?,
            STRAY => What::Stray { channel: self.name()? },
            UNSUBSCRIBED => What::Unsubscribed { channel: take_u32(rest)?, code: take_u32(rest)? },
            CLOSED => What::Closed { code: Some(u16::try_from(take(rest)?).ok()?) },
            BROKE => What::Closed { code: None },
            CUT => What::Cut,
            _ => return None,
        })
    }

    fn subscribed(&mut self) -> Option<What> {
        let channel = take_u32(&mut self.rest)?;
        let (&says, rest) = self.rest.split_first()?;
        self.rest = rest;
        let asked = if says & HAS_ASKED != 0 { Some(self.place()?) } else { None };
        let position = if says & HAS_POSITION != 0 { Some(self.place()?) } else { None };
        let recovered = says & SAYS_RECOVERED != 0;
        let was_recovering = says & SAYS_RECOVERING != 0;
        Some(What::Subscribed { channel, asked, position, recovered, was_recovering })
    }

    fn received(&mut self, kind: u8, flags: u8) -> Option<What> {
        if flags & SAME_CHANNEL == 0 {
            self.context.channel = take_u32(&mut self.rest)?;
        }
        let channel = self.context.channel;
        let slot = self.context.slot(channel);
        let via = if flags & RECOVERED != 0 { Via::Recovered } else { Via::Live };
        if kind == RECEIVED && flags & SAME_PUBLICATION != 0 {
            let recorder::Slot { offset, publisher, sequence, crc, .. } = slot?;
            let publication = Some(Seen { publisher, sequence, crc });
            return Some(What::Received { channel, offset, publication, via });
        }
        let offset = take_difference(&mut self.rest, slot.map_or(0, |slot| slot.offset))?;
        if kind == CORRUPT {
            return Some(What::Received { channel, offset, publication: None, via });
        }
        let (publisher, sequence) = (take_u32(&mut self.rest)?, take_u32(&mut self.rest)?);
        let crc = take_word(&mut self.rest)?;
        self.context.remember(recorder::Slot { channel, offset, publisher, sequence, crc });
        let publication = Some(Seen { publisher, sequence, crc });
        Some(What::Received { channel, offset, publication, via })
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place { epoch: self.name()?, offset: take(&mut self.rest)? })
    }

    fn name(&mut self) -> Option<u32> {
        take_u32(&mut self.rest).filter(|name| *name < self.names)
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rest.is_empty() {
            self.rest = self.chunks.next()?;
        }
        if self.damaged {
            return None;
        }
        let event = self.event();
        self.damaged = event.is_none();
        Some(event.ok_or(Damaged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Position, Recorder, Subscribed};
    use proptest::prelude::*;

    const EPOCHS: [&str; 3] = ["a", "", "żółw"];

    fn record(recorder: &mut Recorder, event: &Event) {
        let Event { at_us, client, what } = *event;
        let position = |place: Option<Place>| {
            place.map(|p| Position { epoch: EPOCHS[p.epoch as usize], offset: p.offset })
        };
        match what {
            What::Published { channel, stamp } => recorder.published(at_us, channel, stamp),
            What::Answered { sequence, outcome } => {
                recorder.answered(at_us, client, sequence, outcome);
            }
            What::Subscribed { channel, asked, position: at, recovered, was_recovering } => {
                let (asked, position) = (position(asked), position(at));
                let reply = Subscribed { asked, position, recovered, was_recovering };
                recorder.subscribed(at_us, client, channel, reply);
            }
            What::Received { channel, offset, publication, via } => {
                let stamp = publication.map(|Seen { publisher, sequence, crc }| Stamp {
                    publisher,
                    sequence,
                    due_us: 0,
                    crc,
                });
                recorder.received(at_us, client, channel, offset, stamp, via);
            }
            What::Stray { channel } => recorder.stray(at_us, client, EPOCHS[channel as usize]),
            What::Unsubscribed { channel, code } => {
                recorder.unsubscribed(at_us, client, channel, code);
            }
            What::Closed { code } => recorder.closed(at_us, client, code),
            What::Cut => recorder.cut(at_us, client),
        }
    }

    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![0..4u32, any::<u32>(), Just(u32::MAX)]
    }

    fn place() -> impl Strategy<Value = Option<Place>> {
        let some = (0..3u32, any::<u64>()).prop_map(|(epoch, offset)| Place { epoch, offset });
        proptest::option::of(some)
    }

    fn what() -> impl Strategy<Value = What> {
        let outcome = prop_oneof![
            Just(Outcome::Acknowledged),
            number().prop_map(Outcome::Refused),
            Just(Outcome::Unknown)
        ];
        let seen = (number(), number(), number()).prop_map(|(publisher, sequence, crc)| Seen {
            publisher,
            sequence,
            crc,
        });
        let via = prop_oneof![Just(Via::Live), Just(Via::Recovered)];
        let offset = prop_oneof![0..9u64, any::<u64>()];
        prop_oneof![
            (number(), number(), any::<u64>(), number()).prop_map(
                |(channel, sequence, due_us, crc)| {
                    let stamp = Stamp { publisher: 0, sequence, due_us, crc };
                    What::Published { channel, stamp }
                }
            ),
            (number(), outcome)
                .prop_map(|(sequence, outcome)| What::Answered { sequence, outcome }),
            (number(), place(), place(), any::<bool>(), any::<bool>()).prop_map(
                |(channel, asked, position, recovered, was_recovering)| What::Subscribed {
                    channel,
                    asked,
                    position,
                    recovered,
                    was_recovering
                }
            ),
            (0..3u32, offset, proptest::option::of(seen), via).prop_map(
                |(channel, offset, publication, via)| What::Received {
                    channel,
                    offset,
                    publication,
                    via
                }
            ),
            (0..3u32).prop_map(|channel| What::Stray { channel }),
            (number(), number()).prop_map(|(channel, code)| What::Unsubscribed { channel, code }),
            proptest::option::of(any::<u16>()).prop_map(|code| What::Closed { code }),
            Just(What::Cut),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        let at_us = prop_oneof![0..9u64, any::<u64>()];
        (at_us, number(), what()).prop_map(|(at_us, client, mut what)| {
            if let What::Published { stamp, .. } = &mut what {
                stamp.publisher = client;
            }
            Event { at_us, client, what }
        })
    }

    /// The epochs in the order of their numbers, so that numbers are the same when read.
    fn recorder(bytes_max: usize) -> Recorder {
        let mut recorder = Recorder::bounded(bytes_max);
        EPOCHS.iter().for_each(|name| recorder.stray(0, 0, name));
        recorder
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_read(events in proptest::collection::vec(event(), 0..200)) {
            let mut recorder = recorder(usize::MAX);
            events.iter().for_each(|event| record(&mut recorder, event));
            let log = recorder.finish();
            let read: Vec<Event> = Events::of(&log).skip(3).map(|e| e.unwrap()).collect();
            prop_assert_eq!(read, events);
        }

        #[test]
        fn noise_is_no_log(bytes: Vec<u8>) {
            let names = vec!["a".into()];
            let log = Log { chunks: vec![bytes.clone(), bytes], names, full: false };
            let mut events = Events::of(&log);
            let damaged = events.by_ref().any(|e| e.is_err());
            prop_assert!(events.next().is_none() || !damaged);
        }
    }

    #[test]
    fn records_stand_in_one_piece_and_a_full_log_says_so() {
        let chunks = 3;
        let mut recorder = recorder(chunks * crate::limits::LOG_CHUNK_BYTES);
        let stamp = |sequence| Stamp { publisher: u32::MAX, sequence, due_us: 0, crc: sequence };
        let mut written = 0;
        while !recorder.is_full() {
            recorder.received(
                written,
                7,
                u32::MAX,
                written,
                Some(stamp(written as u32)),
                Via::Live,
            );
            written += 1;
        }
        let log = recorder.finish();
        assert!(log.is_full());
        assert_eq!(log.chunks.len(), chunks);
        assert_eq!(Events::of(&log).filter(|e| e.is_ok()).count() as u64, 3 + written - 1);
        assert!(log.bytes() > chunks * (crate::limits::LOG_CHUNK_BYTES - 100));
    }
}
