//! The copy of a channel that lives on a backbone: what the link puts into it.

use super::{Home, retention};
use crate::channel::Channels;
use crate::history::Stream;
use crate::link::Replica;
use crate::model::{ClientId, ClientInfo, Epoch, Publication, StreamPosition};
use crate::presence::Roster;
use std::sync::Arc;

/// What a publication of the backbone is for the copy.
#[derive(Clone, Debug, PartialEq)]
pub enum Extended {
    /// The next one.
    Next(Arc<Publication>),
    /// It is there already.
    Old,
    /// Something before it is missing, or its stream is another one.
    Hole(Publication),
}

impl Home {
    /// The rules of channels.
    pub fn rules(&self) -> Arc<Channels> {
        Arc::clone(&self.rules)
    }

    /// Where a channel's stream stands; `None` = it has none.
    pub fn position(&self, name: &str) -> Option<StreamPosition> {
        self.channels.get(name)?.stream.as_ref().map(Stream::position)
    }

    /// Replaces a channel's stream.
    pub(crate) fn install(&mut self, name: &Arc<str>, replica: Replica, now_ms: u64) {
        let rules = self.rules();
        let Ok(resolved) = rules.resolve(name) else { return };
        if !resolved.options.has_history() {
            return;
        }
        let keep = retention(resolved.options);
        let (top, floor) = (replica.position, replica.floor);
        let stream = Stream::copy(top, floor, replica.publications, now_ms, keep);
        let channel = self.channels.entry(Arc::clone(name)).or_default();
        channel.stream = Some(stream);
        self.plan_sweep(name, resolved.options, now_ms);
    }

    /// Adds what was published to a channel's stream, if it is the next one.
    pub(crate) fn extend(
        &mut self,
        name: &Arc<str>,
        publication: Publication,
        epoch: Epoch,
        now_ms: u64,
    ) -> Extended {
        let rules = self.rules();
        let Ok(resolved) = rules.resolve(name) else { return Extended::Old };
        let keep = retention(resolved.options);
        let Some(stream) = self.channels.get_mut(name).and_then(|c| c.stream.as_mut()) else {
            if resolved.options.has_history() {
                return Extended::Hole(publication);
            }
            // Another node has history for this namespace, this one does not.
            return Extended::Next(Arc::new(Publication { offset: 0, ..publication }));
        };
        let at = stream.position();
        if epoch != at.epoch {
            return Extended::Hole(publication);
        }
        if publication.offset <= at.offset {
            return Extended::Old;
        }
        if publication.previous > at.offset {
            return Extended::Hole(publication);
        }
        let publication = stream.extend(publication, now_ms, keep);
        self.plan_sweep(name, resolved.options, now_ms);
        Extended::Next(publication)
    }

    /// The stream stands there, without a publication in between.
    pub(crate) fn rise(&mut self, name: &str, to: StreamPosition) {
        if let Some(stream) = self.channels.get_mut(name).and_then(|c| c.stream.as_mut()) {
            stream.rise(to);
        }
    }

    /// The channel has no copy any more.
    pub(crate) fn drop_copy(&mut self, name: &Arc<str>) {
        let Some(channel) = self.channels.remove(name) else { return };
        self.marks -= channel.marks.as_ref().map_or(0, |m| m.len());
        self.held.remove(name);
    }

    /// A member of this channel.
    pub(crate) fn member(&self, name: &str, client: ClientId) -> Option<ClientInfo> {
        self.channels.get(name)?.roster.as_ref()?.member(client)
    }

    /// All members of a channel whose connections are there, with their own ids.
    pub(crate) fn members(&self, name: &str) -> Vec<ClientInfo> {
        let roster = self.channels.get(name).and_then(|c| c.roster.as_deref());
        roster.map_or_else(Vec::new, Roster::connected)
    }

    /// A member came, on another node.
    pub(crate) fn remote_join(
        &mut self,
        name: &Arc<str>,
        info: ClientInfo,
        announce: bool,
        now_ms: u64,
    ) {
        let rules = self.rules();
        let Ok(resolved) = rules.resolve(name) else { return };
        self.enter(name, resolved.options, info, announce, now_ms);
    }

    /// A member went, on another node.
    pub(crate) fn remote_leave(
        &mut self,
        name: &Arc<str>,
        client: ClientId,
        announce: bool,
        now_ms: u64,
    ) {
        let rules = self.rules();
        let Ok(resolved) = rules.resolve(name) else { return };
        self.exit(name, resolved.options, client, announce, now_ms);
    }
}
