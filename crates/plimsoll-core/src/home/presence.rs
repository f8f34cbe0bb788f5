//! Who is there, and the moments at which something of it is told.

use super::{Answer, Channel, Event, Home, mix};
use crate::codes::ClientError;
use crate::limits;
use crate::model::{ClientId, ClientInfo};
use crate::policy::ChannelOptions;
use crate::presence::{Figures, Roster, Scope, Terms, Told};
use plimsoll_overload::gates::Gates;
use std::cmp::Reverse;
use std::sync::Arc;

impl Home {
    /// What the load allows from now on. What was kept back under the gates before is told over
    /// the next seconds, since each telling may make many clients ask.
    pub fn obey(&mut self, gates: &Gates, now_ms: u64) {
        let same = self.gates.presence == gates.presence;
        self.gates = *gates;
        if same {
            return;
        }
        let held = std::mem::take(&mut self.held);
        for (n, (name, ())) in (1u64..).zip(held) {
            let at_ms = now_ms + mix(self.seed, n) % limits::RELEASE_SPREAD_MS;
            if let Some(roster) = self.channels.get_mut(&name).and_then(|c| c.roster.as_mut()) {
                roster.release(at_ms);
            }
            self.plan_due(&name);
        }
    }

    /// When [`Home::on_time`] has something to do; `None` = never.
    pub fn due_ms(&self) -> Option<u64> {
        self.dues.peek().map(|Reverse((at, _))| *at)
    }

    /// Tells what is due, by [`Home::take_told`]. What is too much for one call stays due.
    pub fn on_time(&mut self, now_ms: u64) {
        for _ in 0..limits::DUE_CHANNELS_PER_TURN {
            if self.due_ms().is_none_or(|at| at > now_ms) {
                return;
            }
            let Some(Reverse((at, name))) = self.dues.pop() else { return };
            // Others were planned for an earlier moment meanwhile.
            let Some(channel) = self.channels.get_mut(&name).filter(|c| c.due_ms == at) else {
                continue;
            };
            channel.due_ms = u64::MAX;
            let rules = Arc::clone(&self.rules);
            let Ok(resolved) = rules.resolve(&name) else { continue };
            self.on_roster(&name, resolved.options, now_ms, Roster::on_time);
            self.settle(&name, now_ms);
        }
    }

    /// The next thing to tell beside the events of requests, in order.
    pub fn take_told(&mut self) -> Option<(Arc<str>, Event)> {
        self.told.pop_front()
    }

    /// Joins and leaves so far.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    pub(super) fn enter(
        &mut self,
        name: &Arc<str>,
        options: &ChannelOptions,
        info: ClientInfo,
        announce: bool,
        now_ms: u64,
    ) {
        let seed = self.seed;
        let channel = self.channels.entry(Arc::clone(name)).or_default();
        channel.roster.get_or_insert_with(|| Box::new(Roster::new(seed ^ 2)));
        self.on_roster(name, options, now_ms, |roster, terms, out| {
            roster.enter(info, announce, terms);
            roster.on_time(terms, out);
        });
    }

    pub(super) fn exit(
        &mut self,
        name: &Arc<str>,
        options: &ChannelOptions,
        client: ClientId,
        announce: bool,
        now_ms: u64,
    ) {
        self.on_roster(name, options, now_ms, |roster, terms, out| {
            roster.exit(client, announce, false, terms);
            roster.on_time(terms, out);
        });
    }

    /// Does something to a channel's roster, keeps what is to be told, and plans the next look.
    fn on_roster(
        &mut self,
        name: &Arc<str>,
        options: &ChannelOptions,
        now_ms: u64,
        doing: impl FnOnce(&mut Roster, &mut Terms<'_>, &mut Vec<Told>),
    ) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let Some(roster) = channel.roster.as_mut() else { return };
        let scope = Scope {
            scope: self.gates.presence,
            interval_ms: self.gates.presence_interval_ms.into(),
        };
        let figures = &mut self.figures;
        let mut terms = Terms { options, scope, now_ms, figures };
        let mut out = Vec::new();
        doing(roster, &mut terms, &mut out);
        if roster.is_kept_back(&terms) && !roster.held {
            roster.held = true;
            self.held.insert(Arc::clone(name), ());
        }
        let events = out.into_iter().map(|told| (Arc::clone(name), Event::Presence(told)));
        self.told.extend(events);
        self.plan_due(name);
    }

    /// Sees to it that the channel is looked at in time, by one more entry in the heap when the
    /// moment is earlier than the one planned.
    fn plan_due(&mut self, name: &Arc<str>) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let next_ms = channel.next_ms();
        if next_ms < channel.due_ms {
            channel.due_ms = next_ms;
            self.dues.push(Reverse((next_ms, Arc::clone(name))));
        }
    }

    pub(super) fn presence(&self, name: &str) -> Answer {
        let Some(roster) = self.roster(name) else { return Answer::Presence(Vec::new()) };
        if roster.clients() > limits::PRESENCE_ENTRIES_MAX {
            return Answer::Error(ClientError::LIMIT_EXCEEDED);
        }
        Answer::Presence(roster.entries().cloned().collect())
    }

    pub(super) fn stats(&self, name: &str) -> Answer {
        let (clients, users) = self.roster(name).map_or((0, 0), |r| (r.clients(), r.users()));
        Answer::Stats { clients, users }
    }

    fn roster(&self, name: &str) -> Option<&Roster> {
        self.channels.get(name).and_then(|c| c.roster.as_deref())
    }
}

impl Channel {
    /// When there is something to tell.
    fn next_ms(&self) -> u64 {
        self.roster.as_ref().map_or(u64::MAX, |r| r.due_ms())
    }
}
