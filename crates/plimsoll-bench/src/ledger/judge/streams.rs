//! Lives of channels with history.

use super::NONE;
use crate::topology::ChannelId;
use foldhash::{HashMap, HashMapExt};

/// One life of a channel's stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub channel: ChannelId,
    pub epoch: Box<str>,
    /// When a client was told of it first, and the offset that it was told.
    pub told_us: u64,
    pub told: u64,
    /// Its last offset at the end, when its history was read.
    pub top: Option<u64>,
    /// The last offset that everybody who is subscribed at the end has to have.
    pub due: u64,
    /// The same among probes.
    pub due_probe: u64,
}

/// All lives of all channels.
#[derive(Default)]
pub(super) struct Streams {
    pub list: Vec<Stream>,
    numbers: HashMap<(ChannelId, Box<str>), u32>,
}

impl Streams {
    /// The number of a stream, which is new or known.
    pub fn number(&mut self, channel: ChannelId, epoch: &str) -> u32 {
        let new = self.list.len() as u32;
        let number = *self.numbers.entry((channel, epoch.into())).or_insert(new);
        if number == new {
            self.list.push(Stream {
                channel,
                epoch: epoch.into(),
                told_us: u64::MAX,
                told: 0,
                top: None,
                due: 0,
                due_probe: 0,
            });
        }
        number
    }

    pub fn get(&self, number: u32) -> Option<&Stream> {
        self.list.get(number as usize)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        self.list.get_mut(number as usize)
    }

    pub fn epoch(&self, number: u32) -> &str {
        self.get(number).map_or("", |stream| &stream.epoch)
    }

    /// A client was told that the stream has come so far.
    pub fn told(&mut self, number: u32, at_us: u64, offset: u64) {
        if let Some(stream) = self.get_mut(number).filter(|stream| at_us < stream.told_us) {
            (stream.told_us, stream.told) = (at_us, offset);
        }
    }

    /// Of each channel the last life, and whether there was one before: the one that the server
    /// has at the end, or else the one that clients were told of last.
    pub fn current(&self) -> HashMap<ChannelId, (u32, bool)> {
        let mut current: HashMap<ChannelId, (u32, bool)> = HashMap::new();
        let rank = |number: u32| {
            let stream = self.get(number);
            stream.map(|s| (s.top.is_some(), if s.told_us == u64::MAX { 0 } else { s.told_us }))
        };
        // Epochs that clients named, and no server, are none.
        let is_real = |stream: &Stream| stream.top.is_some() || stream.told_us != u64::MAX;
        for (number, stream) in (0..).zip(&self.list).filter(|(_, stream)| is_real(stream)) {
            let entry = current.entry(stream.channel).or_insert((NONE, false));
            entry.1 = entry.0 != NONE;
            if entry.0 == NONE || rank(number) > rank(entry.0) {
                entry.0 = number;
            }
        }
        current
    }
}
