//! What a thread has seen before, so that it need not look at it again: names of channels and
//! epochs, and the message that the client before got.

use crate::ledger::Stamp;
use crate::limits;
use crate::topology::{ChannelId, Topology};
use std::collections::HashMap;
use std::sync::Arc;

/// A publication whose payload is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    pub channel: ChannelId,
    pub offset: u64,
    pub stamp: Stamp,
}

/// See the module.
#[derive(Debug)]
pub struct Seen {
    topology: Arc<Topology>,
    channels: HashMap<Box<str>, ChannelId>,
    last: ChannelId,
    epochs: Vec<Box<str>>,
    epoch_numbers: HashMap<Box<str>, u32>,
    text: String,
    publications: Vec<Publication>,
}

impl Seen {
    pub fn new(topology: &Arc<Topology>) -> Self {
        let names = topology.all_channels().map(|channel| (topology.name(channel).into(), channel));
        Self {
            topology: Arc::clone(topology),
            channels: names.collect(),
            last: 0,
            epochs: Vec::new(),
            epoch_numbers: HashMap::new(),
            text: String::new(),
            publications: Vec::new(),
        }
    }

    /// The channel of a name.
    pub fn channel(&mut self, name: &str) -> Option<ChannelId> {
        if self.topology.name(self.last) != name {
            self.last = *self.channels.get(name)?;
        }
        Some(self.last)
    }

    /// A number, from 1, for the name of an epoch; 0 for what is too much.
    pub fn epoch_number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.epoch_numbers.get(name) {
            return *number;
        }
        if self.epochs.len() >= limits::EPOCHS_MAX {
            return 0;
        }
        self.epochs.push(name.into());
        let number = self.epochs.len() as u32;
        self.epoch_numbers.insert(name.into(), number);
        number
    }

    /// The name of an epoch's number.
    pub fn epoch(&self, number: u32) -> Option<&str> {
        let at = (number as usize).checked_sub(1)?;
        self.epochs.get(at).map(|name| &**name)
    }

    /// A publication of the message that was remembered last, if `text` is the same.
    ///
    /// In a fan-out many clients get the very same bytes: they are parsed and checked once.
    pub fn publications(&self, text: &str) -> Option<&[Publication]> {
        (self.text == text && !text.is_empty()).then_some(&self.publications)
    }

    /// Remembers a message of nothing but these publications.
    pub fn remember(&mut self, text: &str, publications: &[Publication]) {
        self.text.clear();
        if !publications.is_empty() && publications.len() <= limits::SEEN_MAX {
            self.text.push_str(text);
            self.publications.clear();
            self.publications.extend_from_slice(publications);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_numbers() {
        let mut seen = Seen::new(&Arc::new(Topology::rooms("r", 3, 1)));
        assert_eq!(
            [seen.channel("r2"), seen.channel("r0"), seen.channel("x")],
            [Some(2), Some(0), None]
        );
        let (a, b) = (seen.epoch_number("a"), seen.epoch_number("b"));
        assert_eq!((a, b, seen.epoch_number("a")), (1, 2, 1));
        assert_eq!((seen.epoch(0), seen.epoch(2), seen.epoch(3)), (None, Some("b"), None));
    }

    #[test]
    fn only_the_same_message_is_known_again() {
        let mut seen = Seen::new(&Arc::new(Topology::rooms("r", 1, 1)));
        assert_eq!(seen.publications(""), None);
        let stamp = Stamp { publisher: 1, sequence: 2, due_us: 3, crc: 4 };
        let all = [Publication { channel: 0, offset: 9, stamp }];
        seen.remember("abc", &all);
        assert_eq!(seen.publications("abc"), Some(&all[..]));
        assert_eq!(seen.publications("abd"), None);
        seen.remember("abd", &[]);
        assert_eq!((seen.publications("abc"), seen.publications("abd")), (None, None));
    }
}
