//! Who is in which channel: plain arrays, shared by all threads.

use std::ops::Range;

/// Number of a client of the fleet, from 0.
pub type ClientId = u32;
/// Number of a channel of the run, from 0.
pub type ChannelId = u32;

/// Channels and their subscribers.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    names: Vec<Box<str>>,
    /// `channels[starts[c]..starts[c + 1]]` are the channels of client `c`.
    starts: Vec<u32>,
    channels: Vec<ChannelId>,
    /// Subscribers of each channel.
    sizes: Vec<u32>,
}

impl Topology {
    /// A topology from the channels' names and, for each client, its channels.
    pub fn new(names: Vec<Box<str>>, members: impl IntoIterator<Item = Vec<ChannelId>>) -> Self {
        let mut made = Self { sizes: vec![0; names.len()], names, ..Self::default() };
        made.starts.push(0);
        for of_client in members {
            for channel in of_client {
                if let Some(size) = made.sizes.get_mut(channel as usize) {
                    *size += 1;
                    made.channels.push(channel);
                }
            }
            made.starts.push(made.channels.len() as u32);
        }
        made
    }

    /// Clients `0..rooms × subscribers`, in rooms `prefix0`, `prefix1`, … of `subscribers` each.
    pub fn rooms(prefix: &str, rooms: u32, subscribers: u32) -> Self {
        let names = (0..rooms).map(|r| format!("{prefix}{r}").into()).collect();
        Self::new(names, (0..rooms * subscribers).map(|c| vec![c / subscribers.max(1)]))
    }

    /// How many clients there are.
    pub fn clients(&self) -> u32 {
        self.starts.len().saturating_sub(1) as u32
    }

    /// The channels of a client; none for an unknown one.
    pub fn channels_of(&self, client: ClientId) -> &[ChannelId] {
        let at = client as usize;
        let range = self.starts.get(at).zip(self.starts.get(at + 1));
        range.and_then(|(a, b)| self.channels.get(*a as usize..*b as usize)).unwrap_or_default()
    }

    /// A channel's name.
    pub fn name(&self, channel: ChannelId) -> &str {
        self.names.get(channel as usize).map_or("", |name| name)
    }

    /// Subscribers of a channel.
    pub fn size(&self, channel: ChannelId) -> u32 {
        self.sizes.get(channel as usize).copied().unwrap_or_default()
    }

    /// All channels.
    pub fn all_channels(&self) -> Range<ChannelId> {
        0..self.names.len() as u32
    }

    /// All subscriptions.
    pub fn subscriptions(&self) -> usize {
        self.channels.len()
    }
}
