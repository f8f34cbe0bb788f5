//! Recoveries have a pace while the node is in trouble. Who finds none waits in order, as if the
//! channel's home were slow: nothing else of the connection changes. It is never refused for good:
//! whoever would wait longer than clients do is told to ask again.

use super::{Core, Io};
use plimsoll_core::codes::ClientError;
use plimsoll_core::home::{Answer, Request};
use plimsoll_core::limits;
use plimsoll_core::model::ConnKey;
use plimsoll_overload::recovery::RecoveryPace;
use std::collections::VecDeque;
use std::sync::Arc;

/// A subscribe that waits for its turn.
struct Waiting {
    conn: ConnKey,
    id: u32,
    channel: Arc<str>,
    request: Request,
    /// Then it has waited too long.
    until_ms: u64,
}

/// The pace of a worker, and those who wait for it.
#[derive(Default)]
pub(super) struct Recoveries {
    pub pace: RecoveryPace,
    waiting: VecDeque<Waiting>,
    /// Not after the first `until_ms` of those waiting.
    first_until_ms: u64,
    /// When the next may begin.
    next_ms: u64,
    /// When a full queue is looked through again.
    next_look_ms: u64,
}

impl Recoveries {
    /// When somebody's turn comes, or patience ends.
    pub fn due_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then(|| self.next_ms.min(self.first_until_ms))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The load is gone: nobody has to wait for the pace any more.
    pub fn hurry(&mut self, now_ms: u64) {
        self.next_ms = self.next_ms.min(now_ms);
    }

    /// Takes those who waited too long.
    fn take_late(&mut self, now_ms: u64) -> Vec<Waiting> {
        if now_ms < self.first_until_ms {
            return Vec::new();
        }
        let (late, rest) = self.waiting.drain(..).partition(|w| w.until_ms <= now_ms);
        self.waiting = rest;
        self.first_until_ms = self.waiting.iter().map(|w| w.until_ms).min().unwrap_or(u64::MAX);
        Vec::from(late)
    }
}

/// Does it look for what a client missed?
pub(super) fn recovers(request: &Request) -> bool {
    matches!(request, Request::Subscribe(subscribe) if subscribe.recover.is_some())
}

impl Core {
    /// Asks a channel's home on behalf of a session, when it is its turn.
    pub(super) fn ask_in_turn(
        &mut self,
        slot: u32,
        id: u32,
        channel: Arc<str>,
        request: Request,
        io: &mut impl Io,
    ) {
        if !recovers(&request) {
            return self.ask(slot, id, channel, request, io);
        }
        let now_us = self.now.mono_ms * 1_000;
        let Some(conn) = self.conns.get(slot) else { return };
        // A connect waited at the door, and its client counts from there.
        let free = conn.is_connecting() || self.stopping || !self.gates.recovery_paced;
        if free && (self.recoveries.waiting.is_empty() || conn.is_connecting()) {
            self.recoveries.pace.begin_unpaced(now_us);
            return self.ask(slot, id, channel, request, io);
        }
        if self.recoveries.waiting.is_empty() && self.recoveries.pace.begin(now_us) {
            return self.ask(slot, id, channel, request, io);
        }
        let (key, now_ms, opened_ms) = (conn.key(slot), self.now.mono_ms, conn.opened_ms);
        if self.recoveries.waiting.len() >= limits::RECOVERIES_WAITING_MAX {
            self.forget_gone();
        }
        if self.recoveries.waiting.len() >= limits::RECOVERIES_WAITING_MAX {
            return self.ask_again_later(key, id, &channel, io);
        }
        // What a client sends with its connect may have waited at the door already.
        let since_ms = Some(opened_ms).filter(|at| now_ms - at < limits::COMMAND_MS);
        let until_ms = since_ms.unwrap_or(now_ms) + limits::RECOVERY_WAIT_MS;
        let waiting = Waiting { conn: key, id, channel, request, until_ms };
        let all = &mut self.recoveries;
        if all.waiting.is_empty() {
            (all.first_until_ms, all.next_ms) = (until_ms, now_ms + all.pace.wait_ms());
        }
        all.first_until_ms = all.first_until_ms.min(until_ms);
        all.waiting.push_back(waiting);
        self.stats.recoveries_waiting.set(self.recoveries.waiting() as u64);
    }

    /// Lets those go on whose turn has come, in the order in which they came.
    pub(super) fn serve_recoveries(&mut self, io: &mut impl Io) {
        let now_ms = self.now.mono_ms;
        if self.recoveries.due_ms().is_none_or(|at| at > now_ms) {
            return;
        }
        for late in self.recoveries.take_late(now_ms) {
            self.ask_again_later(late.conn, late.id, &late.channel, io);
        }
        let paced = self.gates.recovery_paced && !self.stopping;
        let mut served = 0;
        while let Some(next) = self.recoveries.waiting.front() {
            let here = self.is_here(next.conn);
            if here && !self.may_begin(paced, served) {
                break;
            }
            let Some(next) = self.recoveries.waiting.pop_front() else { break };
            if here {
                served += 1;
                self.ask(next.conn.slot, next.id, next.channel, next.request, io);
            }
        }
        let wait_ms = if paced { self.recoveries.pace.wait_ms() } else { 0 };
        self.recoveries.next_ms = now_ms + wait_ms;
        self.stats.recoveries_waiting.set(self.recoveries.waiting() as u64);
    }

    /// May one more begin in this turn, after so many?
    fn may_begin(&mut self, paced: bool, served: usize) -> bool {
        let now_us = self.now.mono_ms * 1_000;
        if paced {
            return self.recoveries.pace.begin(now_us);
        }
        let may = self.stopping || served < limits::RECOVERIES_PER_TURN;
        if may {
            self.recoveries.pace.begin_unpaced(now_us);
        }
        may
    }

    /// Whose clients have gone make room in a full queue.
    fn forget_gone(&mut self) {
        let now_ms = self.now.mono_ms;
        if now_ms < self.recoveries.next_look_ms {
            return;
        }
        self.recoveries.next_look_ms = now_ms + limits::RECOVERIES_LOOK_MS;
        let mut waiting = std::mem::take(&mut self.recoveries.waiting);
        waiting.retain(|w| self.is_here(w.conn));
        self.recoveries.waiting = waiting;
    }

    fn is_here(&self, key: ConnKey) -> bool {
        let conn = self.conns.get(key.slot);
        conn.is_some_and(|c| c.generation == key.generation && c.is_open())
    }

    /// A temporary error: client libraries ask again by themselves, later each time, and lose
    /// nothing, since the position is theirs.
    fn ask_again_later(&mut self, conn: ConnKey, id: u32, channel: &Arc<str>, io: &mut impl Io) {
        self.stats.recoveries_deferred.add(1);
        let answer = Answer::Error(ClientError::TOO_MANY_REQUESTS);
        self.on_answer(conn, id, channel, answer, io);
    }
}
