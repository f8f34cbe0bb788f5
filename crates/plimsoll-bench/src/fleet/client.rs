//! What is known of one client.

use crate::topology::ChannelId;
use plimsoll_transport::ws::ClientDecoder;
use rustix::fd::OwnedFd;
use std::collections::VecDeque;

/// A client: small, since there are very many, and most are idle.
#[derive(Debug, Default)]
pub struct Client {
    pub socket: Option<OwnedFd>,
    /// Counts connections and ends, so that what belongs to an earlier one is known by it.
    pub generation: u32,
    pub stage: Stage,
    /// It was connected before: what it does now is to come back.
    pub returning: bool,
    /// Whether pings are answered.
    pub pong: bool,
    pub decoder: ClientDecoder,
    /// Only while something is under way.
    pub extra: Option<Box<Extra>>,
    /// Intended start of the connection, or when the last one ended; microseconds of the clock.
    pub since_us: u64,
    /// When the present stage has taken too long; milliseconds of the thread's time.
    pub deadline_ms: u32,
    /// When something came last; milliseconds of the thread's time.
    pub heard_ms: u32,
    /// Seconds between two pings; 0: none are sent.
    pub ping_s: u16,
    /// Which of the targets this connection goes to.
    pub target: u16,
    /// Tries since the last successful connect.
    pub attempt: u16,
    /// Subscribes of the connection's start that are not answered.
    pub joining: u32,
    /// Number of the last command.
    pub last_id: u32,
    /// Number of the last publication.
    pub sequence: u32,
    /// Its subscriptions begin here; they stand in the order of the topology.
    pub first_subscription: u32,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not wanted yet or any more, or it has given up.
    #[default]
    Out,
    /// It comes back at a time that is fixed.
    Waiting,
    /// It leaves: its close frame is sent.
    Closing,
    /// The connection is being made.
    Connecting,
    /// The upgrade is asked for.
    Upgrading,
    /// The connect command is sent.
    Greeting,
    /// Connected; subscribes are out.
    Joining,
    /// Connected and subscribed.
    Ready,
}

impl Stage {
    /// The connect reply was a success.
    pub fn is_connected(self) -> bool {
        self >= Self::Joining
    }

    /// A connection is being made.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Connecting | Self::Upgrading | Self::Greeting | Self::Joining)
    }
}

/// What a client has under way.
#[derive(Debug, Default)]
pub struct Extra {
    /// Bytes that the socket did not take.
    pub unsent: VecDeque<u8>,
    /// The response to the upgrade, so far.
    pub head: Vec<u8>,
    /// Commands without an answer, oldest first.
    pub waits: VecDeque<Wait>,
    /// The server's close frame.
    pub closed: Option<Option<u16>>,
}

impl Extra {
    pub fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.head.is_empty() && self.waits.is_empty()
    }
}

/// A command without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub id: u32,
    pub what: Asked,
}

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Publish {
        sequence: u32,
        due_us: u64,
        /// The channel that it tries out at the end of a run.
        probe: Option<ChannelId>,
    },
    /// By the place among the client's subscriptions.
    Subscribe(u32),
    Unsubscribe(u32),
}

/// A subscription and its position.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subscription {
    /// Of the last publication; only with an epoch.
    pub offset: u64,
    /// Number of the epoch's name; 0: no position is known.
    pub epoch: u32,
    pub standing: Standing,
    /// Its subscribe names the position.
    pub recovering: bool,
}

/// How a subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Off,
    /// The subscribe is sent.
    Asked,
    On,
    /// The unsubscribe is sent.
    Leaving,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of::<Client>() <= 96, "{}", size_of::<Client>());
        assert!(size_of::<Subscription>() <= 16);
    }
}
