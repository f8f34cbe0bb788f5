//! Offsets that leave out numbers, made dense: the rank among all that anybody saw.

use super::streams::Streams;
use crate::ledger::Ledger;
use crate::ledger::events::{Events, What};
use crate::topology::{ChannelId, ClientId};
use foldhash::{HashMap, HashMapExt};

/// Offsets of a stream are sorted again when so many were added.
const UNSORTED_MAX: usize = 1 << 16;

/// The known offsets of each stream, ascending.
pub(super) struct Ranks(Vec<Vec<u64>>);

impl Ranks {
    /// Collects what was received and what is stored.
    pub fn of(ledger: &Ledger, streams: &mut Streams) -> Self {
        let mut made = Self(Vec::new());
        for stored in &ledger.stored {
            let stream = streams.number(stored.channel, &stored.epoch);
            stored.publications.iter().for_each(|(offset, _)| made.add(stream, *offset));
        }
        for log in &ledger.logs {
            let mut on: HashMap<(ClientId, ChannelId), u32> = HashMap::new();
            for event in Events::of(log).flatten() {
                match event.what {
                    What::Subscribed { channel, position: Some(place), .. } => {
                        let stream = streams.number(channel, log.name(place.epoch));
                        on.insert((event.client, channel), stream);
                    }
                    What::Received { channel, offset, .. } => {
                        if let Some(stream) = on.get(&(event.client, channel)) {
                            made.add(*stream, offset);
                        }
                    }
                    _ => {}
                }
            }
        }
        for offsets in &mut made.0 {
            offsets.sort_unstable();
            offsets.dedup();
        }
        made
    }

    fn add(&mut self, stream: u32, offset: u64) {
        let at = stream as usize;
        if at >= self.0.len() {
            self.0.resize_with(at + 1, Vec::new);
        }
        let Some(offsets) = self.0.get_mut(at) else { return };
        if offsets.last() == Some(&offset) {
            return;
        }
        offsets.push(offset);
        // Each offset comes as often as there are subscribers: memory goes with offsets.
        if offsets.len() % UNSORTED_MAX == 0 {
            offsets.sort_unstable();
            offsets.dedup();
        }
    }

    /// How many known offsets are not above this one.
    pub fn rank(&self, stream: u32, offset: u64) -> u64 {
        let offsets = self.0.get(stream as usize).map(Vec::as_slice).unwrap_or_default();
        offsets.partition_point(|known| *known <= offset) as u64
    }
}
