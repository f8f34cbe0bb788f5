//! A connection's state: small while it is idle.

use super::outbox::Outbox;
use plimsoll_core::limits;
use plimsoll_core::model::ConnKey;
use plimsoll_core::policy::Policy;
use plimsoll_core::session::{Phase, Session};
use plimsoll_core::tier::Tier;
use plimsoll_transport::ws::Decoder;
use std::collections::VecDeque;

/// One socket of a worker.
pub(super) struct Conn {
    pub generation: u32,
    /// First and last entry in [`Own`]; `NO_ENTRY` = none.
    pub own: (u32, u32),
    pub stage: Stage,
    pub outbox: Option<Box<Outbox>>,
    pub compressed: bool,
    /// What is sent to it may be compressed: agreed on, and its tier has it.
    pub deflates: bool,
    /// Messages are waiting because the session must wait: nothing more is read.
    pub paused: bool,
    /// Too much is queued: it is closed at the end of the turn, and nothing more is sent, since
    /// something was left out already.
    pub doomed: bool,
    /// It counts among the handshakes under way.
    pub arriving: bool,
    /// It need not wait at the door any more.
    pub let_in: bool,
    /// The user was counted by the registry and the index.
    pub entered: bool,
    /// Its tier as it is counted; `None` before it is known, and while tiers are off.
    pub tier: Option<Tier>,
    pub opened_ms: u64,
}

pub(super) enum Stage {
    /// The request head is not complete.
    Head(Box<HeadState>),
    /// A WebSocket.
    Open(Box<Open>),
    /// All is said; waiting for the peer to close, until then.
    Closing { until_ms: u64, shut: bool },
}

pub(super) struct HeadState {
    pub bytes: Vec<u8>,
    pub until_ms: u64,
}

pub(super) struct Open {
    pub session: Session,
    pub decoder: Decoder,
    /// Boxed: nearly always absent, and then it costs 8 bytes instead of 32.
    #[allow(clippy::box_collection)]
    pub deferred: Option<Box<VecDeque<String>>>,
    /// Publications of server-side subscriptions that must wait for the connect reply: clients
    /// throw away pushes of channels that they have not been told of.
    #[allow(clippy::box_collection)]
    pub held: Option<Box<Vec<u8>>>,
    /// Counted as one that came back. Here, where it does not make the allocation larger.
    pub returned: bool,
}

pub(super) const NO_ENTRY: u32 = u32::MAX;

impl Conn {
    pub fn new(generation: u32, now_ms: u64, head_timeout_ms: u64) -> Self {
        let until_ms = now_ms.saturating_add(head_timeout_ms);
        Self {
            generation,
            own: (NO_ENTRY, NO_ENTRY),
            stage: Stage::Head(Box::new(HeadState { bytes: Vec::new(), until_ms })),
            outbox: None,
            compressed: false,
            deflates: false,
            paused: false,
            doomed: false,
            arriving: true,
            let_in: false,
            entered: false,
            tier: None,
            opened_ms: now_ms,
        }
    }

    pub fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            Stage::Open(open) => Some(&mut open.session),
            _ => None,
        }
    }

    pub fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.stage {
            Stage::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Authenticated, but the connect has not been answered.
    pub fn is_connecting(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.session.phase() == Phase::Connecting)
    }

    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    pub fn key(&self, slot: u32) -> ConnKey {
        ConnKey { slot, generation: self.generation }
    }

    /// When something of this connection is due.
    pub fn deadline_ms(&self, policy: &Policy) -> u64 {
        let write_timeout_ms = policy.websocket.write_timeout_ms;
        let write_by_ms = |o: &Outbox| {
            let whole = o.oldest_ms().map_or(u64::MAX, |at| at + limits::QUEUE_AGE_MS_MAX);
            o.stalled_since_ms.saturating_add(write_timeout_ms).min(whole)
        };
        let stage = match &self.stage {
            Stage::Head(head) => head.until_ms,
            Stage::Open(open) => open.session.deadline_ms(policy),
            Stage::Closing { until_ms, .. } => *until_ms,
        };
        match &self.outbox {
            Some(o) => stage.min(write_by_ms(o)),
            None => stage,
        }
    }
}

/// Frames for single connections, gathered over a turn in one arena.
#[derive(Default)]
pub(super) struct Own {
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
    /// Connections with entries.
    pub slots: Vec<u32>,
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub start: usize,
    pub end: usize,
    pub next: u32,
    /// May overtake the frames of channels.
    pub urgent: bool,
}
