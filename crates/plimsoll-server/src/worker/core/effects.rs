//! Doing what sessions want done, and ending connections.

use super::conn::{Conn, Stage};
use super::outbox::Outbox;
use super::{Core, Io};
use plimsoll_core::codes::{ClientError, Disconnect};
use plimsoll_core::home::Request;
use plimsoll_core::hub::{Encoding, Place};
use plimsoll_core::limits;
use plimsoll_core::model::StreamPosition;
use plimsoll_core::session::{Effect, Left, Push, ReplyBody, SubscribeResult};
use plimsoll_core::tier::Tier;
use plimsoll_overload::feature::Class;
use plimsoll_protocol::centrifugo;
use plimsoll_transport::ws;
use std::sync::Arc;

impl Core {
    pub(super) fn perform(&mut self, slot: u32, fx: &mut Vec<Effect>, io: &mut impl Io) {
        for effect in fx.drain(..) {
            // After a close only what gives something back is still done.
            let open = self.conns.get(slot).is_some_and(|c| c.is_open());
            if open || matches!(effect, Effect::Leave(_)) {
                self.perform_one(slot, effect, io);
            }
        }
    }

    fn perform_one(&mut self, slot: u32, effect: Effect, io: &mut impl Io) {
        match effect {
            Effect::Reply { id, body } => {
                self.count_recoveries(slot, &body);
                let write = |out: &mut Vec<u8>| centrifugo::write_reply(out, id, &body);
                match is_about_a_stream(&body) {
                    true => self.send_text(slot, write),
                    false => self.send_urgent(slot, write),
                }
                if matches!(body, ReplyBody::Connect(_)) {
                    self.end_handshake(slot);
                    self.release_held(slot);
                    self.greet(slot);
                }
            }
            Effect::Error { id, error } => {
                self.stats.error_replies.add(1);
                self.send_urgent(slot, |out| centrifugo::write_error(out, id, error));
            }
            Effect::Limited { id, limit } => {
                self.stats.of_limit(limit).add(1);
                let error = ClientError::TOO_MANY_REQUESTS;
                self.perform_one(slot, Effect::Error { id, error }, io);
            }
            Effect::LeftOut { id } => {
                self.stats.ephemeral_throttled.add(1);
                self.perform_one(slot, Effect::Reply { id, body: ReplyBody::Publish }, io);
            }
            Effect::Ask { id, channel, request } => {
                self.ask_in_turn(slot, id, channel, request, io);
            }
            Effect::Activate { channel, join_leave, position } => {
                self.activate(slot, &channel, join_leave, position);
            }
            Effect::Leave(left) => self.leave(left, io),
            Effect::FinishUnsubscribe { id, channel } => {
                self.with_session(slot, io, |s, _, fx| s.finish_unsubscribe(id, &channel, fx));
            }
            Effect::Push(push) => self.push(slot, &push),
            Effect::Ping => self.send_urgent(slot, |out| out.extend_from_slice(centrifugo::PING)),
            Effect::Enter { user } => self.enter(slot, &user, io),
            Effect::Tiered { tier, mistaken } => self.begin_tier(slot, tier, mistaken),
            Effect::Close(disconnect) => {
                let idle = disconnect.code == Disconnect::IDLE.code;
                self.stats.idle_closed.add(idle.into());
                self.close(slot, disconnect, io);
            }
        }
    }

    fn push(&mut self, slot: u32, push: &Push) {
        self.send_text(slot, |out| centrifugo::write_push(out, push));
        // The push has no room for what recovery found: it follows as if it were live.
        if let Push::Subscribe { channel, result } = push {
            self.count_recovery(slot, result);
            for publication in &result.publications {
                self.send_text(slot, |out| {
                    centrifugo::write_publication(out, channel, publication);
                });
            }
        }
    }

    fn count_recoveries(&mut self, slot: u32, body: &ReplyBody) {
        match body {
            ReplyBody::Subscribe(s) => self.count_recovery(slot, s),
            ReplyBody::Connect(c) => {
                c.subs.iter().for_each(|(_, s)| self.count_recovery(slot, s));
            }
            _ => {}
        }
    }

    fn count_recovery(&mut self, slot: u32, s: &SubscribeResult) {
        if !s.was_recovering {
            return;
        }
        let cell = if s.recovered { &self.stats.recovered } else { &self.stats.not_recovered };
        cell.add(1);
        // Nothing in the protocol says "I was here before". A client that did asks for what it
        // missed at once; one that lost its place in a channel may do so at any time.
        let now_ms = self.now.mono_ms;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let is_new = now_ms.saturating_sub(conn.opened_ms) <= limits::HANDSHAKE_MS;
        if let Some(open) = conn.open_mut().filter(|open| is_new && !open.returned) {
            open.returned = true;
            self.stats.reconnects.add(1);
        }
    }

    fn enter(&mut self, slot: u32, user: &Arc<str>, io: &mut impl Io) {
        if !io.enter_user(user, self.shared.policy.client.user_connection_limit) {
            return self.close(slot, Disconnect::CONNECTION_LIMIT, io);
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.entered = true;
        }
        self.users.entry(Arc::clone(user)).or_default().push(slot);
    }

    fn begin_tier(&mut self, slot: u32, tier: Tier, mistaken: bool) {
        self.stats.tiers_unknown.add(mistaken.into());
        let compression = self.shared.policy.tiers.of(Some(tier)).is_none_or(|t| t.compression);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.tier = Some(tier);
            conn.deflates &= compression;
            self.stats.of_tier(tier).add(1);
        }
    }

    fn activate(
        &mut self,
        slot: u32,
        channel: &Arc<str>,
        join_leave: bool,
        position: Option<StreamPosition>,
    ) {
        let Some((compressed, tier)) = self.conns.get(slot).map(|c| (c.deflates, c.tier)) else {
            return;
        };
        let channels = &self.shared.channels;
        let place = self.hub.subscribe(channel, slot, Encoding { compressed, join_leave }, || {
            channels.resolve(channel).map_or(Class::Durable, |r| r.options.class)
        });
        if let Some(local) = self.hub.get_mut(place.channel) {
            if let Some(position) = position {
                local.last_offset = local.last_offset.max(Some(position.offset));
            }
            if let Some(tier) = self.shared.policy.tiers.of(tier) {
                let window_ms = u32::try_from(tier.batch_window_ms).unwrap_or(u32::MAX);
                local.window_ms_max = local.window_ms_max.min(window_ms);
            }
        }
        if self.conns.get(slot).is_some_and(|c| c.is_connecting()) {
            self.special.set(slot, true);
        }
        let session = self.conns.get_mut(slot).and_then(|c| c.session_mut());
        if !session.is_some_and(|s| s.set_place(channel, place)) {
            self.hub.unsubscribe(place);
        }
    }

    fn leave(&mut self, left: Left, io: &mut impl Io) {
        if let Some(place) = left.place {
            self.give_gathered(place, io);
            if let Some(moved) = self.hub.unsubscribe(place)
                && let Some(session) = self.conns.get_mut(moved).and_then(|c| c.session_mut())
            {
                session.moved(place.channel, place.group, place.index);
            }
        }
        let request = Request::Unsubscribe { member: left.member, announce: left.announce };
        self.tell_home(left.channel, request, io);
    }

    /// What was gathered before this moment is for the leaving one too.
    fn give_gathered(&mut self, place: Place, io: &mut impl Io) {
        let Some(slot) = self.hub.subscriber_at(place) else { return };
        // Nobody is there to read it, or it is to be left out.
        let misses = |o: &Outbox| o.misses(place.channel);
        let reads = |c: &Conn| !c.doomed && !c.outbox.as_deref().is_some_and(misses);
        let unread = !self.conns.get(slot).is_some_and(reads);
        if !self.hot.is_idle()
            && let Some(frames) = self.hot.forget(place.channel, slot)
            && !unread
        {
            let frames = frames.to_vec();
            self.send_own(slot, &frames);
        }
        match self.hub.gathered_for(place) {
            Some(frames) if unread || frames.is_empty() => {}
            Some(frames) => {
                let frames = frames.to_vec();
                self.send_own(slot, &frames);
            }
            None => self.flush_if_dirty(place.channel, io),
        }
    }

    /// Ends a connection with a reason, which the client gets as a close frame.
    pub(super) fn close(&mut self, slot: u32, disconnect: Disconnect, io: &mut impl Io) {
        if !self.conns.get(slot).is_some_and(|c| c.is_open()) {
            return;
        }
        self.end_session(slot, io);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.doomed = false;
        }
        self.count_close(&disconnect);
        if is_problem(disconnect.code) {
            io.problem(slot, "closed", disconnect.code);
        }
        if disconnect.code == Disconnect::SLOW.code {
            self.cut_queue(slot);
        }
        let mut frame = Vec::new();
        ws::append_close(&mut frame, disconnect.code, &disconnect.reason);
        self.send_own(slot, &frame);
        self.start_closing(slot);
    }

    fn count_close(&self, disconnect: &Disconnect) {
        let code = disconnect.code;
        if code == Disconnect::SLOW.code {
            self.stats.slow.add(1);
        }
        if code == Disconnect::BAD_REQUEST.code {
            self.stats.bad_input.add(1);
        }
        let violation = code < 3000 || code == Disconnect::BAD_REQUEST.code;
        let cell = if violation { &self.stats.errors } else { &self.stats.closed };
        cell.add(1);
    }

    /// The session gives everything back; the socket lives on for the goodbye.
    pub(super) fn end_session(&mut self, slot: u32, io: &mut impl Io) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let entered = std::mem::take(&mut conn.entered);
        if let Some(tier) = conn.tier.take() {
            self.stats.of_tier(tier).sub(1);
        }
        let opened_ms = conn.opened_ms;
        let Some(session) = conn.session_mut() else { return };
        let user = Arc::clone(session.user());
        self.with_session(slot, io, |s, _, fx| s.close(fx));
        if entered {
            io.leave_user(&user);
            if let Some(slots) = self.users.get_mut(&user) {
                slots.retain(|s| *s != slot);
                if slots.is_empty() {
                    self.users.remove(&user);
                }
            }
        }
        io.dismiss();
        self.stats.active.sub(1);
        let seconds = self.now.mono_ms.saturating_sub(opened_ms) as f64 / 1_000.0;
        self.stats.duration_s.observe(seconds, 1);
    }

    /// From now on nothing is read; the socket closes when the peer does, or after a moment.
    pub(super) fn start_closing(&mut self, slot: u32) {
        self.end_handshake(slot);
        let until_ms = self.now.mono_ms.saturating_add(limits::CLOSE_LINGER_MS);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.stage = Stage::Closing { until_ms, shut: false };
        }
        self.special.set(slot, true);
        self.rearm(slot);
    }

    /// The peer is gone: end of stream, or an error of the socket.
    pub fn on_hangup(&mut self, slot: u32, error: bool, io: &mut impl Io) {
        if let Some(conn) = self.conns.get_mut(slot).filter(|c| c.is_open()) {
            conn.doomed = true;
            self.end_session(slot, io);
            let cell = if error { &self.stats.errors } else { &self.stats.closed };
            cell.add(1);
        }
        self.remove(slot, io);
    }

    /// Forgets a connection and closes its socket.
    pub(super) fn remove(&mut self, slot: u32, io: &mut impl Io) {
        self.wheel.set(slot, u64::MAX);
        self.leave_the_door(slot);
        self.end_handshake(slot);
        self.special.set(slot, false);
        if let Some(conn) = self.conns.remove(slot) {
            if let Some(outbox) = conn.outbox {
                self.stats.queued_bytes.sub(outbox.len() as u64);
                self.stats.queued_chunks.sub(outbox.chunks() as u64);
            }
            io.close(slot);
        }
    }

    pub(super) fn on_deadline(&mut self, slot: u32, io: &mut impl Io) {
        let timeout = self.shared.policy.websocket.write_timeout_ms;
        let now = self.now.mono_ms;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let stalled =
            conn.outbox.as_ref().is_some_and(|o| o.stalled_since_ms.saturating_add(timeout) <= now);
        let oldest_ms = conn.outbox.as_ref().and_then(|o| o.oldest_ms());
        let too_old = oldest_ms.is_some_and(|at| at + limits::QUEUE_AGE_MS_MAX <= now);
        match conn.stage {
            Stage::Head(_) => {
                self.stats.rejected.add(1);
                io.problem(slot, "no complete request in time", 408);
                self.remove(slot, io);
            }
            Stage::Closing { .. } => self.remove(slot, io),
            Stage::Open(_) if too_old => self.close(slot, Disconnect::SLOW, io),
            Stage::Open(_) if stalled => {
                self.stats.write_errors.add(1);
                io.problem(slot, "socket takes nothing", Disconnect::WRITE_ERROR.code);
                self.on_hangup(slot, true, io);
            }
            Stage::Open(_) => self.with_session(slot, io, |s, cx, fx| s.on_deadline(cx, fx)),
        }
    }
}

/// Must a reply keep its place among the frames of channels?
fn is_about_a_stream(body: &ReplyBody) -> bool {
    !matches!(
        body,
        ReplyBody::Publish
            | ReplyBody::Presence(_)
            | ReplyBody::PresenceStats { .. }
            | ReplyBody::History(_)
            | ReplyBody::Refresh { .. }
    )
}

/// Worth a line in the log: not what was ordered (by the API, or by a stop) nor what is usual
/// (a token ran out).
fn is_problem(code: u16) -> bool {
    let ordered = [Disconnect::SHUTDOWN, Disconnect::FORCE_DISCONNECT];
    let usual = [Disconnect::EXPIRED, Disconnect::SUBSCRIPTION_EXPIRED];
    code < 4_000 && !ordered.iter().chain(&usual).any(|d| d.code == code)
}
