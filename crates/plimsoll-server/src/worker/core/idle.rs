//! Idle connections that are closed because of the load. Those whose own timeout has passed are
//! closed by their deadline.

use super::conn::{Conn, Stage};
use super::{Core, Io};
use plimsoll_core::codes::Disconnect;
use plimsoll_core::limits;
use plimsoll_core::session::{Phase, Session};
use plimsoll_overload::emergency::IdlePace;

/// How far it is with that.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Whoever is idle may be closed, whatever was agreed.
    pub emergency: bool,
    pace: IdlePace,
    next_ms: u64,
}

impl Core {
    /// Milliseconds until idle connections are looked for.
    pub(super) fn idle_wait_ms(&self) -> u64 {
        match self.closes_idle() {
            true => self.idle.next_ms.saturating_sub(self.now.mono_ms),
            false => u64::MAX,
        }
    }

    fn closes_idle(&self) -> bool {
        let shrunk = self.gates.idle_strength > 0.0 && self.shared.policy.tiers.enabled;
        (self.idle.emergency || shrunk) && !self.conns.is_empty()
    }

    /// Closes some of those who are idle for longer than the load allows, the longest idle first:
    /// a timeout that shrinks must not close half of the clients at once.
    pub(super) fn close_idle(&mut self, io: &mut impl Io) {
        let now_ms = self.now.mono_ms;
        if !self.closes_idle() || now_ms < self.idle.next_ms {
            return;
        }
        self.idle.next_ms = now_ms.saturating_add(limits::IDLE_SWEEP_MS);
        let idle = self.conns.iter().filter_map(|(slot, conn)| {
            let active_ms = session(conn).filter(|s| self.is_too_idle(s))?.active_ms();
            Some((active_ms, slot))
        });
        let mut idle: Vec<(u64, u32)> = idle.collect();
        let allowed = self.idle.pace.take(now_ms, self.conns.len(), idle.len());
        if idle.len() > allowed {
            idle.select_nth_unstable(allowed);
            idle.truncate(allowed);
        }
        for (_, slot) in idle {
            // Who knows nothing of tiers knows no close for being idle: it comes back, by the door.
            let tiered = self.conns.get(slot).is_some_and(|c| c.tier.is_some());
            let code = if tiered { Disconnect::IDLE } else { Disconnect::IDLE_SHED };
            self.stats.idle_shed.add(1);
            self.close(slot, code, io);
        }
    }

    fn is_too_idle(&self, session: &Session) -> bool {
        let idle_ms = self.now.mono_ms.saturating_sub(session.active_ms());
        let shrunk = match self.shared.policy.idle_timeout_ms(session.tier()) {
            0 => false,
            longest_ms => idle_ms >= self.gates.idle_timeout_ms(longest_ms),
        };
        shrunk || (self.idle.emergency && idle_ms >= limits::EMERGENCY_IDLE_MS)
    }
}

fn session(conn: &Conn) -> Option<&Session> {
    match &conn.stage {
        Stage::Open(open) if open.session.phase() == Phase::Open => Some(&open.session),
        _ => None,
    }
}
