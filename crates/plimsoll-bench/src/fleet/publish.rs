//! What the fleet publishes, and subscriptions that are made anew.

use super::Stream;
use super::client::{Asked, Stage, Standing};
use super::counters::record;
use super::handle::Report;
use super::schedule::Arrivals;
use super::thread::Thread;
use super::timers::Due;
use crate::dialect::{CentrifugoJson, Dialect};
use crate::limits;
use crate::payload::{BYTES_MIN, Template};
use crate::topology::{ChannelId, ClientId};

/// A stream as one thread publishes it.
#[derive(Debug)]
pub(super) struct Running {
    pub stream: Stream,
    pub arrivals: Option<Arrivals>,
    template: Template,
    /// The channels it publishes into.
    channels: Vec<ChannelId>,
    /// The publisher's place, if it is always the same.
    by: Option<usize>,
}

impl Thread {
    /// Publishes by these streams from now on. Those that go on unchanged keep their times.
    pub fn apply_streams(&mut self, streams: &[Stream], at_us: u64) {
        let mut before: Vec<_> = self.streams.drain(..).collect();
        for stream in streams {
            let same = before.iter().position(|running| running.stream == *stream);
            let running = match same {
                Some(at) => before.swap_remove(at),
                None => self.running(stream, at_us),
            };
            self.streams.push(running);
        }
    }

    fn running(&mut self, stream: &Stream, at_us: u64) -> Running {
        let all = self.shared.config.topology.all_channels();
        let range = stream.channels.start..stream.channels.end.min(all.end);
        let (mut channels, mut per_s, mut by) = (Vec::new(), stream.per_s, None);
        match stream.by {
            Some(client) => {
                channels.extend(range);
                by = self.place_of(client);
                if by.is_none() {
                    per_s = 0.0;
                }
            }
            None => {
                let owner = |channel: ChannelId| self.shared.owner(channel);
                let with_members = range.clone().filter(|c| owner(*c).is_some()).count();
                channels.extend(range.filter(|c| owner(*c) == Some(self.number)));
                per_s *= channels.len() as f64 / with_members.max(1) as f64;
            }
        }
        if channels.is_empty() {
            per_s = 0.0;
        }
        // Many publishers know nothing of each other; a single one keeps its beat.
        let random = stream.by.is_none();
        Running {
            stream: stream.clone(),
            arrivals: Arrivals::new(per_s, random, at_us, &mut self.rng),
            template: Template::new(stream.bytes.end as usize, self.shared.config.seed),
            channels,
            by,
        }
    }

    /// The place of a client, if it is one of this thread.
    fn place_of(&self, client: ClientId) -> Option<usize> {
        let places = self.shared.places;
        let mine = client < places.clients() && places.thread_of(client) == self.number;
        mine.then(|| places.count_below(self.number, client))
    }

    /// Publishes what is due. What cannot be published, since no publisher is connected, counts
    /// as due all the same.
    pub fn publish_due(&mut self) {
        for at in 0..self.streams.len() {
            for _ in 0..limits::PER_TURN_MAX {
                let Some(running) = self.streams.get_mut(at) else { break };
                let due =
                    running.arrivals.as_mut().and_then(|a| a.take(self.now_us, &mut self.rng));
                let Some(due_us) = due else { break };
                self.counters.due += 1;
                record(&mut self.counters.late_us, self.now_us.saturating_sub(due_us));
                let Some((publisher, channel)) = self.choose(at) else { continue };
                let Some(running) = self.streams.get_mut(at) else { break };
                let bytes = running.stream.bytes.clone();
                let bytes = self.rng.u32(bytes.start..=bytes.end.max(bytes.start)) as usize;
                // Taken out while it is used: it is a part of the thread.
                let template = std::mem::take(&mut running.template);
                self.publish(publisher, channel, &template, bytes, due_us, None);
                if let Some(running) = self.streams.get_mut(at) {
                    running.template = template;
                }
            }
        }
    }

    /// Who publishes next, and where.
    fn choose(&mut self, stream: usize) -> Option<(usize, ChannelId)> {
        let running = self.streams.get(stream)?;
        let pick = self.rng.usize(..running.channels.len());
        let channel = *running.channels.get(pick)?;
        if let Some(at) = running.by {
            return self.clients.get(at).filter(|c| c.stage == Stage::Ready).map(|_| (at, channel));
        }
        let members = self.members.of(channel);
        let first = self.rng.usize(..members.len().max(1));
        let (before, after) = members.split_at_checked(first)?;
        let mut all = after.iter().chain(before).take(limits::TRIES_MAX);
        let at = all.find(|at| {
            self.clients.get(**at as usize).is_some_and(|client| client.stage == Stage::Ready)
        })?;
        Some((*at as usize, channel))
    }

    fn publish(
        &mut self,
        at: usize,
        channel: ChannelId,
        template: &Template,
        bytes: usize,
        due_us: u64,
        probe: Option<ChannelId>,
    ) {
        let publisher = self.client_id(at);
        let Some(client) = self.clients.get_mut(at) else { return };
        let waits = client.extra.as_ref().map_or(0, |extra| extra.waits.len());
        if waits >= limits::WAITS_MAX {
            return;
        }
        client.sequence = client.sequence.wrapping_add(1);
        let sequence = client.sequence;
        let mut data = Vec::with_capacity(bytes);
        let stamp = template.write(&mut data, (publisher, sequence, due_us), bytes);
        let id = self.wait_for(at, Asked::Publish { sequence, due_us, probe });
        self.counters.published += 1;
        self.counters.deliveries_due += self.shared.live(channel);
        if probe.is_some() {
            self.shared.name_probe(channel, publisher, sequence);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.published(self.now_us, channel, stamp);
        }
        self.message.clear();
        let name = self.shared.config.topology.name(channel);
        CentrifugoJson.publish(&mut self.message, id, name, &data);
        self.send_message(at);
    }

    /// Ends a random subscription of a client; its answer makes it anew.
    pub fn resubscribe(&mut self, at: usize) {
        let id = self.client_id(at);
        let count = self.shared.config.topology.channels_of(id).len() as u32;
        if count == 0 {
            return;
        }
        let place = self.rng.u32(..count);
        if !self.stands(at, place) {
            return;
        }
        if let Some(subscription) = self.subscription(at, place) {
            subscription.standing = Standing::Leaving;
        }
        let (id, channel) = (self.wait_for(at, Asked::Unsubscribe(place)), self.channel(at, place));
        let name = channel.map_or("", |channel| self.shared.config.topology.name(channel));
        self.message.clear();
        CentrifugoJson.unsubscribe(&mut self.message, id, name);
        self.send_message(at);
    }

    /// Asks for a subscription on a living connection.
    pub fn subscribe(&mut self, at: usize, place: u32) {
        let id = self.wait_for(at, Asked::Subscribe(place));
        self.message.clear();
        self.append_subscribe(at, place, id);
        self.send_message(at);
    }

    /// Asks for it after a while.
    pub fn subscribe_later(&mut self, at: usize, place: u32, delay_ms: u32) {
        let Some(client) = self.clients.get(at) else { return };
        let due_us = self.now_us + u64::from(delay_ms) * 1_000;
        self.timers.add(due_us, at, client.generation, Due::Subscribe(place));
    }

    /// The time has come to ask again.
    pub fn subscribe_again(&mut self, at: usize, place: u32) {
        let connected = self.clients.get(at).is_some_and(|client| client.stage.is_connected());
        let off = self.subscription(at, place).is_some_and(|s| s.standing == Standing::Off);
        if connected && off {
            self.subscribe(at, place);
        }
    }

    /// Publishes once into every channel with history that nobody else has taken, and tells which
    /// subscriptions that has not reached.
    pub fn probe(&mut self, report: &mut Report) {
        let template = Template::new(BYTES_MIN, 0);
        for at in 0..self.clients.len() {
            if self.clients.get(at).is_none_or(|client| client.stage != Stage::Ready) {
                continue;
            }
            let id = self.client_id(at);
            for place in 0..self.shared.config.topology.channels_of(id).len() as u32 {
                let Some(channel) = self.channel(at, place) else { continue };
                let Some(subscription) = self.subscription(at, place).copied() else { continue };
                if subscription.standing != Standing::On || subscription.epoch == 0 {
                    continue;
                }
                if self.shared.claim_probe(channel) {
                    let now_us = self.now_us;
                    self.publish(at, channel, &template, BYTES_MIN, now_us, Some(channel));
                }
                let Some(reached) = self.shared.probe_reached(channel, subscription.offset) else {
                    continue;
                };
                report.probed += 1;
                if !reached {
                    report.unreached += 1;
                    if report.examples.len() < limits::EXAMPLES_MAX {
                        report.examples.push((id, channel));
                    }
                }
            }
        }
    }
}
