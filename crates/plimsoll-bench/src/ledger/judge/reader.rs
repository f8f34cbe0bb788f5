//! The state of the subscriptions of a log while it is read.

use super::NONE;
use crate::ledger::{Log, Rule};
use crate::topology::{ChannelId, ClientId};
use foldhash::{HashMap, HashMapExt};

/// A subscription that stood at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub log: u32,
    pub client: ClientId,
    pub channel: ChannelId,
    /// [`NONE`]: without history.
    pub stream: u32,
    /// The offset that had to come next.
    pub next: u64,
    /// Since when.
    pub from_us: u64,
    /// Without history: what came of what had to come, and of the probes among it.
    pub came: u64,
    pub probes: u64,
    /// Of what did not come, what was noticed already.
    pub skipped: u64,
}

/// A client's subscription to a channel.
pub(super) struct Subscription {
    pub client: ClientId,
    pub channel: ChannelId,
    /// On this one of the client's connections.
    pub connection: u32,
    pub live: bool,
    pub stream: u32,
    pub from_us: u64,
    pub last_us: u64,
    /// The first offset of the continuous span, and the one that comes next.
    pub first: u64,
    pub next: u64,
    /// A recovery promised that the reply reaches to here.
    pub owed: u64,
    pub after_recovery: bool,
    pub hole: Option<Hole>,
    pub came: u64,
    pub probes: u64,
    pub skipped: u64,
}

/// Offsets that were left out. They may still come, in the wrong order.
#[derive(Clone, Copy)]
pub(super) struct Hole {
    pub from: u64,
    pub to: u64,
    /// How many of them are missing still.
    pub missing: u64,
    pub at_us: u64,
    pub rule: Rule,
}

/// A log while it is read.
pub(super) struct Reader<'a> {
    pub number: u32,
    pub log: &'a Log,
    /// Connections that clients have had.
    connections: HashMap<ClientId, u32>,
    numbers: HashMap<(ClientId, ChannelId), u32>,
    pub list: Vec<Subscription>,
    /// Without history: the last publication of a publisher's connection that a subscription got.
    pub latest: HashMap<(u32, ClientId, u32), u32>,
    /// Streams by channel and number of the epoch's name.
    pub streams: HashMap<(ChannelId, u32), u32>,
}

impl<'a> Reader<'a> {
    pub fn of(number: u32, log: &'a Log) -> Self {
        Self {
            number,
            log,
            connections: HashMap::new(),
            numbers: HashMap::new(),
            list: Vec::new(),
            latest: HashMap::new(),
            streams: HashMap::new(),
        }
    }

    pub fn subscription(&mut self, client: ClientId, channel: ChannelId) -> usize {
        let new = self.list.len() as u32;
        let number = *self.numbers.entry((client, channel)).or_insert(new);
        if number == new {
            self.list.push(Subscription {
                client,
                channel,
                connection: 0,
                live: false,
                stream: NONE,
                from_us: 0,
                last_us: 0,
                first: 0,
                next: 0,
                owed: 0,
                after_recovery: false,
                hole: None,
                came: 0,
                probes: 0,
                skipped: 0,
            });
        }
        number as usize
    }

    pub fn get_mut(&mut self, client: ClientId, channel: ChannelId) -> Option<&mut Subscription> {
        let number = *self.numbers.get(&(client, channel))?;
        self.list.get_mut(number as usize)
    }

    pub fn is_live(&self, s: &Subscription) -> bool {
        s.live && s.connection == self.connection(s.client)
    }

    /// How-many-eth connection of a client it is.
    pub fn connection(&self, client: ClientId) -> u32 {
        self.connections.get(&client).copied().unwrap_or_default()
    }

    /// A connection ended, and all its subscriptions with it.
    pub fn disconnected(&mut self, client: ClientId) {
        *self.connections.entry(client).or_default() += 1;
    }

    /// The number of a subscription that stands.
    pub fn standing(&self, client: ClientId, channel: ChannelId) -> Option<usize> {
        let number = *self.numbers.get(&(client, channel))? as usize;
        self.list.get(number).filter(|s| self.is_live(s)).map(|_| number)
    }

    /// A span begins after an offset.
    pub fn begin(&mut self, index: usize, at_us: u64, (stream, offset): (u32, u64)) {
        let Some(client) = self.list.get(index).map(|s| s.client) else {
            return;
        };
        let connection = self.connection(client);
        let Some(subscription) = self.list.get_mut(index) else {
            return;
        };
        subscription.resume(connection, at_us);
        subscription.stream = stream;
        subscription.from_us = at_us;
        subscription.next = offset.saturating_add(1);
        subscription.first = subscription.next;
        (subscription.came, subscription.probes) = (0, 0);
    }
}

impl Subscription {
    pub fn resume(&mut self, connection: u32, at_us: u64) {
        self.connection = connection;
        self.live = true;
        self.last_us = at_us;
        self.owed = 0;
        self.after_recovery = false;
        self.skipped = 0;
    }

    /// An offset that had been left out came after all.
    pub fn fill(&mut self, offset: u64) -> Option<()> {
        let hole = self.hole.as_mut().filter(|hole| (hole.from..=hole.to).contains(&offset))?;
        hole.missing -= 1;
        hole.from += u64::from(hole.from == offset);
        if hole.missing == 0 {
            self.hole = None;
        }
        Some(())
    }
}
