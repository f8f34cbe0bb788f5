//! Between sessions and the homes of channels, here or on another worker.

use super::super::letter::Letter;
use super::recovery::recovers;
use super::{Core, Io};
use plimsoll_core::codes::ClientError;
use plimsoll_core::home::{Answer, Event, PublishRequest, Request};
use plimsoll_core::hub::ChannelKey;
use plimsoll_core::link::{Asker, Link};
use plimsoll_core::model::{ConnKey, Publication, home_of};
use plimsoll_core::quota::{self, Limit, Payer};
use plimsoll_core::session::Left;
use plimsoll_protocol::centrifugo;
use plimsoll_transport::ws::{self, Opcode};
use std::sync::Arc;

impl Core {
    /// A letter arrived.
    pub fn on_letter(&mut self, letter: Letter, io: &mut impl Io) {
        match letter {
            Letter::Ask { from, conn, id, channel, request, received_us } => {
                let asker = Asker::Session { worker: from, conn, id };
                let (answer, event) = self.at_home(asker, &channel, request, io);
                // The answer goes before the event: a new subscriber must be in place first.
                if let Some(answer) = answer.filter(|_| conn.generation != 0) {
                    let channel = Arc::clone(&channel);
                    io.post(from, Letter::Answer { conn, id, channel, answer });
                }
                self.distribute(&channel, event, received_us, io);
            }
            Letter::Answer { conn, id, channel, answer } => {
                self.on_answer(conn, id, &channel, answer, io);
            }
            Letter::Event { channel, event, received_us } => {
                self.deliver(&channel, &event, received_us, io);
            }
            Letter::News { .. } | Letter::Gap(_) | Letter::NodeGone(_) => {
                self.on_backbone(letter, io);
            }
            Letter::Control { ticket, order } => self.on_order(ticket, order, io),
        }
    }

    /// Asks a channel's home on behalf of a session.
    pub(super) fn ask(
        &mut self,
        slot: u32,
        id: u32,
        channel: Arc<str>,
        request: Request,
        io: &mut impl Io,
    ) {
        let Some(conn) = self.conns.get(slot).map(|c| c.key(slot)) else { return };
        let home = home_of(&channel, self.shared.workers) as u16;
        let (from, received_us) = (self.id, self.received_us);
        if home != self.id {
            let letter = Letter::Ask { from, conn, id, channel, request, received_us };
            return io.post(home, letter);
        }
        let asker = Asker::Session { worker: from, conn, id };
        let (answer, event) = self.at_home(asker, &channel, request, io);
        if let Some(answer) = answer {
            self.on_answer(conn, id, &channel, answer, io);
        }
        self.distribute(&channel, event, received_us, io);
    }

    /// Tells a channel's home something that needs no answer.
    pub(super) fn tell_home(&mut self, channel: Arc<str>, request: Request, io: &mut impl Io) {
        let home = home_of(&channel, self.shared.workers) as u16;
        let conn = ConnKey { slot: 0, generation: 0 };
        let (from, received_us) = (self.id, self.received_us);
        if home == self.id {
            let asker = Asker::Session { worker: from, conn, id: 0 };
            let (_, event) = self.at_home(asker, &channel, request, io);
            return self.distribute(&channel, event, received_us, io);
        }
        io.post(home, Letter::Ask { from, conn, id: 0, channel, request, received_us });
    }

    /// Does something to a channel that is at home here. Without an answer it comes later.
    pub(super) fn at_home(
        &mut self,
        asker: Asker,
        channel: &Arc<str>,
        request: Request,
        io: &mut impl Io,
    ) -> (Option<Answer>, Option<Event>) {
        if let Request::Publish(publication) = &request
            && !self.may_publish(channel, publication, io)
        {
            return (Some(Answer::Error(ClientError::TOO_MANY_REQUESTS)), None);
        }
        let began_us = recovers(&request).then(|| io.micros());
        let now_ms = self.now.mono_ms;
        let outcome = match &mut self.link {
            None => Some(self.home.handle(asker.worker(), channel, request, now_ms)),
            Some(link) => link.handle(&mut self.home, asker, channel, request, now_ms),
        };
        if let Some(began_us) = began_us {
            self.recoveries.pace.home_took(io.micros().saturating_sub(began_us));
        }
        let Some(outcome) = outcome else { return (None, None) };
        if let Some(Event::Publication(publication)) = &outcome.event {
            self.count_publication(publication.data.len());
        }
        (Some(outcome.answer), outcome.event)
    }

    pub(super) fn count_publication(&self, bytes: usize) {
        self.stats.publications.add(1);
        self.stats.publication_bytes.add(bytes as u64);
    }

    /// Refused before it is appended: nothing that was acknowledged is ever dropped.
    fn may_publish(&mut self, channel: &str, p: &PublishRequest, io: &mut impl Io) -> bool {
        let here = self.link.is_none();
        let congested = match here {
            true => self.home.interested(channel).iter().any(|w| io.is_congested(*w)),
            false => io.is_backbone_congested(),
        };
        if congested {
            self.stats.congested.add(1);
            return false;
        }
        if !self.line_is_off && !self.throttle.take(self.received_us) {
            self.stats.publications_refused.add(1);
            return false;
        }
        if let Some(payer) = &p.payer
            && let Err(limit) = self.pay_deliveries(channel, payer)
        {
            self.stats.of_limit(limit).add(1);
            return false;
        }
        true
    }

    /// Here the real cost is known: how many subscribers the channel has on this node.
    fn pay_deliveries(&self, channel: &str, payer: &Payer) -> Result<(), Limit> {
        let subscribers = self.home.subscriber_count(channel).min(u32::MAX as usize) as u32;
        let (quotas, share) = (&self.shared.policy.quotas, quota::share(&self.gates));
        payer.deliver(subscribers, quotas, share, self.now.mono_ms)
    }

    /// Sends an event to every worker with subscribers, this one included, and after it what the
    /// home has to tell beside it.
    pub(super) fn distribute(
        &mut self,
        channel: &Arc<str>,
        event: Option<Event>,
        received_us: u64,
        io: &mut impl Io,
    ) {
        if let Some(event) = event {
            self.spread(channel, &event, received_us, io);
        }
        self.spread_told(received_us, io);
    }

    /// Sends what the home has to tell by itself, and does what its link wants done.
    pub(super) fn spread_told(&mut self, received_us: u64, io: &mut impl Io) {
        // What is told can lead to more: that is told after it, not in the midst of it.
        if std::mem::replace(&mut self.spreading, true) {
            return;
        }
        loop {
            if let Some(out) = self.link.as_mut().and_then(Link::take_out) {
                self.put_out(out, received_us, io);
            } else if let Some((channel, event)) = self.home.take_told() {
                self.spread(&channel, &event, received_us, io);
            } else {
                break;
            }
        }
        self.spreading = false;
    }

    pub(super) fn spread(
        &mut self,
        channel: &Arc<str>,
        event: &Event,
        received_us: u64,
        io: &mut impl Io,
    ) {
        for worker in self.home.interested(channel) {
            if worker == self.id {
                self.deliver(channel, event, received_us, io);
            } else {
                let (channel, event) = (Arc::clone(channel), event.clone());
                io.post(worker, Letter::Event { channel, event, received_us });
            }
        }
    }

    pub(super) fn on_answer(
        &mut self,
        conn: ConnKey,
        id: u32,
        channel: &Arc<str>,
        answer: Answer,
        io: &mut impl Io,
    ) {
        let present = self.conns.get(conn.slot);
        if !present.is_some_and(|c| c.generation == conn.generation && c.is_open()) {
            // Too late: the home must not go on counting a subscription that nobody has.
            if let Answer::Subscribed(granted) = &answer {
                let Left { channel, member, announce, .. } = Left::unwanted(channel, granted);
                self.tell_home(channel, Request::Unsubscribe { member, announce }, io);
            }
            return;
        }
        let recovered = matches!(&answer, Answer::Subscribed(s) if s.recovery.is_some());
        let began_us = recovered.then(|| io.micros());
        self.with_session(conn.slot, io, |s, cx, fx| s.on_answer(id, channel, answer, cx, fx));
        if let Some(began_us) = began_us {
            self.recoveries.pace.answer_took(io.micros().saturating_sub(began_us));
        }
        if self.conns.get(conn.slot).is_some_and(|c| c.paused) {
            self.resume(conn.slot, io);
        }
    }

    /// Appends an event to the channel's buffers of this turn.
    fn deliver(&mut self, channel: &str, event: &Event, received_us: u64, io: &mut impl Io) {
        let Some(key) = self.hub.find(channel) else { return };
        if matches!(event, Event::Lost) {
            // What comes next may be of another life of the stream, with lower offsets.
            if let Some(local) = self.hub.get_mut(key) {
                local.last_offset = None;
            }
            return self.tell_lost(channel, key, io);
        }
        if let Event::Publication(p) = event
            && !self.in_sequence(channel, p, io)
        {
            return;
        }
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        let (published, to_all) = match event {
            Event::Publication(p) => {
                centrifugo::write_publication(&mut payload, channel, p);
                (Some(received_us), true)
            }
            Event::Presence(told) => {
                centrifugo::write_presence(&mut payload, channel, told);
                (None, false)
            }
            Event::Lost => (None, false),
        };
        let compress = payload.len() >= self.compressed_from();
        let deflater = &mut self.deflater;
        let room = self.hub.append(
            key,
            published,
            |e| to_all || e.join_leave,
            |e, out| match e.compressed && compress {
                true => deflater.append_frame(out, Opcode::Text, &payload),
                false => ws::append_frame(out, Opcode::Text, &payload),
            },
        );
        self.scratch = payload;
        if published.is_some() {
            let local = self.hub.subscriber_count(key);
            self.stats.recipients.observe(local as f64, 1);
        }
        if !room {
            self.flush_if_dirty(key, io);
        }
    }

    /// Follows the offsets of a channel. A publication seen already is dropped; a hole (which the
    /// mailboxes never make by themselves) is told to all who follow positions.
    fn in_sequence(&mut self, channel: &str, p: &Publication, io: &mut impl Io) -> bool {
        if p.offset == 0 {
            return true;
        }
        let Some(key) = self.hub.find(channel) else { return false };
        let Some(local) = self.hub.get_mut(key) else { return false };
        let last = local.last_offset.replace(p.offset);
        let Some(last) = last else { return true };
        let new_epoch = p.epoch.is_some() && last > 0;
        if p.offset <= last && !new_epoch {
            local.last_offset = Some(last);
            return false;
        }
        if p.previous <= last && !new_epoch {
            return true;
        }
        self.tell_lost(channel, key, io);
        true
    }

    /// Tells all who follow positions that publications are missing.
    fn tell_lost(&mut self, channel: &str, key: ChannelKey, io: &mut impl Io) {
        let Some(local) = self.hub.get_mut(key) else { return };
        let slots: Vec<u32> =
            local.groups.iter().flat_map(|g| g.subscribers.iter().copied()).collect();
        self.stats.gaps.add(1);
        for slot in slots {
            self.with_session(slot, io, |s, _, fx| s.lost_publications(channel, fx));
        }
    }
}
