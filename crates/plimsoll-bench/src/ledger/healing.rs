//! How long after a fault publications came again.

use super::Ledger;
use super::events::{Events, What};
use crate::topology::{ChannelId, ClientId};
use std::collections::{HashMap, HashSet};

/// From a time on, for publications that were sent after it. Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Healing {
    /// Until the first of them was received by anybody.
    pub first_ms: Option<f64>,
    /// Until one was received in each channel into which one was sent and received.
    pub channels_ms: Option<f64>,
    /// Until one was received by each subscription that received any.
    pub subscriptions_ms: Option<f64>,
    /// Channels into which one was sent with an acknowledgement, and nothing was received.
    pub channels_dead: u64,
}

/// See [`Healing`].
pub fn healing(ledger: &Ledger, healed_us: u64) -> Healing {
    let mut sent: HashMap<(ClientId, u32), ChannelId> = HashMap::new();
    let mut acknowledged: HashSet<ChannelId> = HashSet::new();
    for event in ledger.logs.iter().flat_map(|log| Events::of(log).flatten()) {
        match event.what {
            What::Published { channel, stamp } if event.at_us >= healed_us => {
                sent.insert((stamp.publisher, stamp.sequence), channel);
            }
            What::Answered { sequence, outcome: super::Outcome::Acknowledged } => {
                acknowledged.extend(sent.get(&(event.client, sequence)));
            }
            _ => {}
        }
    }
    let mut channels: HashMap<ChannelId, u64> = HashMap::new();
    let mut subscriptions: HashMap<(ClientId, ChannelId), u64> = HashMap::new();
    for event in ledger.logs.iter().flat_map(|log| Events::of(log).flatten()) {
        let What::Received { channel, publication: Some(seen), .. } = event.what else { continue };
        if event.at_us < healed_us || !sent.contains_key(&(seen.publisher, seen.sequence)) {
            continue;
        }
        let first = channels.entry(channel).or_insert(event.at_us);
        *first = event.at_us.min(*first);
        subscriptions.entry((event.client, channel)).or_insert(event.at_us);
    }
    let after = |us: u64| us.saturating_sub(healed_us) as f64 / 1_000.0;
    Healing {
        first_ms: channels.values().min().map(|us| after(*us)),
        channels_ms: channels.values().max().map(|us| after(*us)),
        subscriptions_ms: subscriptions.values().max().map(|us| after(*us)),
        channels_dead: acknowledged.iter().filter(|c| !channels.contains_key(*c)).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Channel, Outcome, Recorder, Run, Stamp, Via};

    #[test]
    fn it_counts_from_the_healing_and_only_what_was_sent_then() {
        let mut recorder = Recorder::default();
        let stamp = |sequence| Stamp { publisher: 1, sequence, due_us: 0, crc: 0 };
        recorder.published(900_000, 0, stamp(1));
        recorder.published(1_100_000, 0, stamp(2));
        recorder.published(1_200_000, 1, stamp(3));
        recorder.published(1_300_000, 2, stamp(4));
        for (client, channel, sequence, at_us) in
            [(2, 0, 1, 1_050_000), (2, 0, 2, 1_150_000), (3, 0, 2, 1_700_000), (2, 1, 3, 1_400_000)]
        {
            recorder.received(at_us, client, channel, 1, Some(stamp(sequence)), Via::Live);
        }
        recorder.answered(1_800_000, 1, 4, Outcome::Acknowledged);
        let name = |n: u32| Channel { name: format!("{n}").into(), history: true };
        let ledger = Ledger {
            run: Run::new("", 0, 2_000_000),
            channels: (0..3).map(name).collect(),
            logs: vec![recorder.finish()],
            stored: Vec::new(),
            comparisons: Vec::new(),
        };
        let expect = Healing {
            first_ms: Some(150.0),
            channels_ms: Some(400.0),
            subscriptions_ms: Some(700.0),
            channels_dead: 1,
        };
        assert_eq!(healing(&ledger, 1_000_000), expect);
        assert_eq!(healing(&ledger, 3_000_000), Healing::default());
    }
}
