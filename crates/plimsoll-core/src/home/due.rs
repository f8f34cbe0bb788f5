//! The moments at which the home has something to tell by itself.

use super::{Channel, Event, Figures, Home};
use crate::limits;
use crate::map;
use crate::presence::Roster;
use plimsoll_overload::gates::Gates;
use std::cmp::Reverse;
use std::sync::Arc;

impl Home {
    /// What the load allows from now on. What was kept back under the gates before is told channel
    /// by channel, at a pace, since each telling may make all its subscribers ask.
    pub fn obey(&mut self, gates: &Gates, now_ms: u64) {
        let before = std::mem::replace(&mut self.gates, *gates);
        if before.presence == gates.presence && before.receipts == gates.receipts {
            return;
        }
        let mut told = 0;
        let none = map::with_seed(self.seed ^ 4);
        for (name, ()) in std::mem::replace(&mut self.held, none) {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            let at_ms = now_ms + told * 1_000 / limits::RELEASED_PER_SECOND;
            told += channel.interest.iter().map(|n| u64::from(*n)).sum::<u64>();
            if let Some(roster) = &mut channel.roster {
                roster.release(at_ms);
            }
            if let Some(marks) = &mut channel.marks {
                marks.plan(at_ms);
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
            self.push_marks(&name, now_ms);
            self.plan_due(&name);
            self.settle(&name, now_ms);
        }
    }

    /// The next thing to tell beside the events of requests, in order.
    pub fn take_told(&mut self) -> Option<(Arc<str>, Event)> {
        self.told.pop_front()
    }

    /// What happened since the last call.
    pub fn take_figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }

    /// Sees to it that the channel is looked at in time, by one more entry in the heap when the
    /// moment is earlier than the one planned.
    pub(super) fn plan_due(&mut self, name: &Arc<str>) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let next_ms = channel.next_ms();
        if next_ms < channel.due_ms {
            channel.due_ms = next_ms;
            self.dues.push(Reverse((next_ms, Arc::clone(name))));
        }
    }
}

impl Channel {
    /// When there is something to tell.
    fn next_ms(&self) -> u64 {
        let roster = self.roster.as_ref().map_or(u64::MAX, |r| r.due_ms());
        self.marks.as_ref().map_or(roster, |m| m.push_ms().min(roster))
    }
}
