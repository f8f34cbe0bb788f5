//! Who is there.

use super::{Answer, Event, Home};
use crate::codes::ClientError;
use crate::limits;
use crate::model::{ClientId, ClientInfo};
use crate::policy::ChannelOptions;
use crate::presence::{Roster, Scope, Terms, Told};
use std::sync::Arc;

impl Home {
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
    pub(super) fn on_roster(
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
        let figures = &mut self.figures.presence;
        let mut terms = Terms { options, scope, now_ms, figures };
        let mut out = Vec::new();
        doing(roster, &mut terms, &mut out);
        if roster.is_kept_back(&terms) && !std::mem::replace(&mut roster.held, true) {
            self.held.insert(Arc::clone(name), ());
        }
        let events = out.into_iter().map(|told| (Arc::clone(name), Event::Presence(told)));
        self.told.extend(events);
        self.plan_due(name);
    }

    pub(super) fn presence(&mut self, name: &str) -> Answer {
        let roster = self.channels.get_mut(name).and_then(|c| c.roster.as_deref_mut());
        let Some(roster) = roster else { return Answer::Presence(Vec::new()) };
        if roster.clients() > limits::PRESENCE_ENTRIES_MAX {
            return Answer::Error(ClientError::LIMIT_EXCEEDED);
        }
        Answer::Presence(roster.show().cloned().collect())
    }

    pub(super) fn stats(&self, name: &str) -> Answer {
        let roster = self.channels.get(name).and_then(|c| c.roster.as_deref());
        let (clients, users) = roster.map_or((0, 0), |r| (r.clients(), r.users()));
        Answer::Stats { clients, users }
    }
}
