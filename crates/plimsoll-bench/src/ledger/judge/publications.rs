//! Everything that was published, and what is known of it.

use super::report::Faults;
use super::{NONE, Outcome};
use crate::ledger::Ledger;
use crate::ledger::events::{Event, Events, Seen, What};
use crate::topology::{ChannelId, ClientId};
use foldhash::{HashMap, HashMapExt};

/// A publication. An index [`NONE`] says that there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publication {
    pub publisher: ClientId,
    pub sequence: u32,
    pub channel: ChannelId,
    pub crc: u32,
    /// How-many-eth connection of its publisher.
    pub connection: u32,
    /// The one before it of the same publisher, connection and channel.
    pub previous: u32,
    pub sent_us: u64,
    pub outcome: Outcome,
    pub answered_us: u64,
    /// Where it stands, if that is known.
    pub stream: u32,
    pub offset: u64,
    /// Who received it first, and when.
    pub seen_by: ClientId,
    pub seen_us: u64,
    /// Somebody who had to get it, without history, got a later one instead.
    pub skipped: bool,
}

impl Publication {
    pub fn is_acknowledged(&self) -> bool {
        self.outcome == Outcome::Acknowledged
    }

    pub fn is_seen(&self) -> bool {
        self.seen_us != u64::MAX
    }

    pub fn is_placed(&self) -> bool {
        self.stream != NONE
    }

    /// From when on it was on its way to everybody; `u64::MAX`: that is not known.
    pub fn under_way_us(&self) -> u64 {
        match self.outcome {
            // It stands somewhere, so that the server took it, though its publisher was not told.
            Outcome::Unknown if self.is_placed() => self.sent_us,
            _ => self.had_us(),
        }
    }

    /// From when on it is certain that the server had it; `u64::MAX`: it is not.
    pub fn had_us(&self) -> u64 {
        if self.is_acknowledged() { self.answered_us.min(self.seen_us) } else { self.seen_us }
    }
}

/// All publications, by publisher and sequence.
pub(super) struct Publications {
    pub list: Vec<Publication>,
    /// Of each publisher: its first and one past its last in the list.
    of: HashMap<ClientId, (u32, u32)>,
    /// What was found last: copies of a publication come together.
    last: u32,
}

impl Publications {
    /// Reads them from the logs; what contradicts itself goes to `faults`.
    pub fn of(ledger: &Ledger, faults: &mut Faults) -> Self {
        let mut list = Vec::with_capacity(count(ledger));
        let mut homes: HashMap<ClientId, usize> = HashMap::new();
        for (number, log) in ledger.logs.iter().enumerate() {
            if log.is_full() {
                faults.add(|| format!("log {number} was full before the run was over"));
            }
            let mut connections: HashMap<ClientId, u32> = HashMap::new();
            for event in Events::of(log) {
                let Ok(event) = event else {
                    faults.add(|| format!("log {number} is damaged"));
                    break;
                };
                let client = event.client;
                match event.what {
                    What::Closed { .. } | What::Cut => {
                        *connections.entry(client).or_default() += 1;
                    }
                    What::Subscribed { .. } | What::Published { .. }
                        if *homes.entry(client).or_insert(number) != number =>
                    {
                        faults.add(|| format!("client {client} stands in two logs"));
                    }
                    _ => {}
                }
                if let What::Published { channel, stamp } = event.what {
                    if ledger.channels.get(channel as usize).is_none() {
                        faults.add(|| format!("the run has no channel {channel}"));
                    }
                    list.push(Publication {
                        publisher: client,
                        sequence: stamp.sequence,
                        channel,
                        crc: stamp.crc,
                        connection: connections.get(&client).copied().unwrap_or_default(),
                        previous: NONE,
                        sent_us: event.at_us,
                        outcome: Outcome::Unknown,
                        answered_us: 0,
                        stream: NONE,
                        offset: 0,
                        seen_by: NONE,
                        seen_us: u64::MAX,
                        skipped: false,
                    });
                }
            }
        }
        let mut made = Self { list, of: HashMap::new(), last: 0 };
        made.index(faults);
        made.answers(ledger, faults);
        made
    }

    fn index(&mut self, faults: &mut Faults) {
        if u32::try_from(self.list.len()).is_err() {
            faults.add(|| "more publications than can be judged".to_owned());
            self.list.clear();
        }
        self.list.sort_unstable_by_key(|p| (p.publisher, p.sequence));
        for (a, b) in self.list.iter().zip(self.list.iter().skip(1)) {
            if (a.publisher, a.sequence) == (b.publisher, b.sequence) {
                faults.add(|| format!("two publications are {}#{}", a.publisher, a.sequence));
            }
        }
        let mut latest: HashMap<ChannelId, u32> = HashMap::new();
        let mut publisher = NONE;
        for index in 0..self.list.len() as u32 {
            let Some(&now) = self.get(index) else { break };
            if now.publisher != publisher || index == 0 {
                publisher = now.publisher;
                latest.clear();
                self.of.insert(publisher, (index, index));
            }
            if let Some(range) = self.of.get_mut(&publisher) {
                range.1 = index + 1;
            }
            let before = latest.insert(now.channel, index);
            let same =
                before.filter(|b| self.get(*b).is_some_and(|b| b.connection == now.connection));
            if let (Some(before), Some(now)) = (same, self.list.get_mut(index as usize)) {
                now.previous = before;
            }
        }
    }

    fn answers(&mut self, ledger: &Ledger, faults: &mut Faults) {
        for log in &ledger.logs {
            for event in Events::of(log).flatten() {
                let What::Answered { sequence, outcome } = event.what else {
                    continue;
                };
                let found = self.find(event.client, sequence);
                let publication = found.and_then(|index| self.list.get_mut(index as usize));
                let Some(publication) = publication else {
                    let name = format!("{}#{sequence}", event.client);
                    faults.add(|| format!("{name} was answered and never sent"));
                    continue;
                };
                publication.outcome = outcome;
                publication.answered_us = event.at_us;
            }
        }
    }

    pub fn get(&self, index: u32) -> Option<&Publication> {
        self.list.get(index as usize)
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut Publication> {
        self.list.get_mut(index as usize)
    }

    /// What was received, by its name.
    pub fn seen(&mut self, seen: Seen) -> Option<u32> {
        self.find(seen.publisher, seen.sequence)
    }

    fn find(&mut self, publisher: ClientId, sequence: u32) -> Option<u32> {
        let named = |p: &Publication| (p.publisher, p.sequence) == (publisher, sequence);
        if self.get(self.last).is_some_and(named) {
            return Some(self.last);
        }
        let (start, end) = *self.of.get(&publisher)?;
        let of_publisher = self.list.get(start as usize..end as usize)?;
        // Sequences mostly have no gaps.
        let guess = sequence.checked_sub(of_publisher.first()?.sequence)?;
        let at = match of_publisher.get(guess as usize).is_some_and(named) {
            true => guess as usize,
            false => of_publisher.binary_search_by_key(&sequence, |p| p.sequence).ok()?,
        };
        self.last = start + at as u32;
        Some(self.last)
    }
}

/// Counted first, so that the list takes no more memory than it needs.
fn count(ledger: &Ledger) -> usize {
    let published = |e: &Event| matches!(e.what, What::Published { .. });
    ledger.logs.iter().map(|log| Events::of(log).flatten().filter(published).count()).sum()
}
