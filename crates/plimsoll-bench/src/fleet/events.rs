//! What comes from the server.

use super::client::Stage;
use super::client::{Asked, Standing};
use super::connection::Ending;
use super::counters::{count, record};
use super::reconnect::{End, NO_CLOSE_FRAME};
use super::seen::Publication;
use super::thread::Thread;
use crate::dialect::{Answer, CentrifugoJson, Dialect, Event, Malformed, Subscription};
use crate::ledger::{Outcome, Position, Stamp, Subscribed, Via};
use crate::topology::ChannelId;
use crate::{limits, payload};
use plimsoll_transport::ws;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::ops::ControlFlow;

const LIMITS: ws::Limits = ws::Limits {
    message_bytes_max: limits::MESSAGE_BYTES_MAX,
    fragments_max: limits::FRAGMENTS_MAX,
    compression: false,
};

const MALFORMED: Ending = Ending::Failed("malformed", End::Closed(NO_CLOSE_FRAME));

/// Subscriptions ended by the server with this code or a higher one are made again (SDKs do so).
const RESUBSCRIBE_CODE: u32 = 2_500;

/// An error of the server's inside: of a publication it says that nobody knows what became of it.
const UNKNOWN_CODE: u32 = 100;

impl Thread {
    /// Something happened on a client's socket.
    pub fn on_socket(&mut self, at: usize, generation: u32, flags: EventFlags) {
        if !self.is_current(at, generation) {
            return;
        }
        if flags.contains(EventFlags::OUT) {
            match self.clients.get(at).map(|client| client.stage) {
                Some(Stage::Connecting) => self.on_opened(at),
                _ => self.on_writable(at),
            }
        }
        let readable = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(readable) {
            // Edge-triggered: of a socket that is closing, everything up to its end.
            let to_the_end = flags.intersects(readable - EventFlags::IN);
            while self.is_current(at, generation) && self.read(at, generation, to_the_end) {}
        }
    }

    fn is_current(&self, at: usize, generation: u32) -> bool {
        let client = self.clients.get(at);
        client.is_some_and(|c| c.generation == generation && c.socket.is_some())
    }

    /// Reads once; whether there may be more.
    fn read(&mut self, at: usize, generation: u32, to_the_end: bool) -> bool {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(at) else { return false };
        let Some(socket) = &client.socket else { return false };
        match recv(socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => self.on_end(at),
            Ok((_, len)) => {
                client.heard_ms = now_ms;
                self.counters.reads += 1;
                let mut buffer = std::mem::take(&mut self.buffer);
                self.on_bytes(at, generation, buffer.get_mut(..len).unwrap_or_default());
                self.buffer = buffer;
                return to_the_end || len == self.buffer.len();
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::INTR) => return true,
            Err(errno) => match client.stage {
                Stage::Connecting => {
                    let reason = super::socket::reason(errno);
                    self.over(at, Ending::Failed(reason, End::Refused));
                }
                _ => self.on_end(at),
            },
        }
        false
    }

    /// The connection ended; a close frame may have told why.
    fn on_end(&mut self, at: usize) {
        let extra = self.clients.get(at).and_then(|client| client.extra.as_ref());
        let code = extra.and_then(|extra| extra.closed).flatten();
        self.over(at, Ending::Server(code));
    }

    fn on_bytes(&mut self, at: usize, generation: u32, mut bytes: &mut [u8]) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if client.stage == Stage::Upgrading {
            let head = &mut client.extra.get_or_insert_default().head;
            let before = head.len();
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                if head.len() > limits::HEAD_BYTES_MAX {
                    self.over(at, Ending::Failed("malformed", End::Refused));
                }
                return;
            };
            let head = std::mem::take(head);
            if let Err(reason) = upgraded(&head, &self.request.accept) {
                return self.over(at, Ending::Failed(reason, End::Refused));
            }
            self.tidy(at);
            self.greet(at);
            bytes = bytes.get_mut((end + 4).saturating_sub(before)..).unwrap_or_default();
        }
        if bytes.is_empty() || !self.is_current(at, generation) {
            return;
        }
        let Some(client) = self.clients.get_mut(at) else { return };
        let mut decoder = std::mem::take(&mut client.decoder);
        let mut inflater = std::mem::take(&mut self.inflater);
        let decoded = decoder.decode(bytes, &LIMITS, &mut inflater, &mut |event| {
            self.on_event(at, event);
            match self.is_current(at, generation) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        self.inflater = inflater;
        if !self.is_current(at, generation) {
            return;
        }
        match (decoded, self.clients.get_mut(at)) {
            (Ok(()), Some(client)) => client.decoder = decoder,
            _ => self.over(at, MALFORMED),
        }
    }

    fn on_event(&mut self, at: usize, event: ws::Event<'_>) {
        let Some(client) = self.clients.get_mut(at) else { return };
        match event {
            ws::Event::Text(text) if client.stage != Stage::Closing => {
                let before = self.counters.deliveries;
                self.on_text(at, text);
                if self.counters.deliveries > before {
                    let (_, header) = ws::frame_header(ws::Opcode::Text, text.len(), false);
                    self.counters.delivery_bytes += (header + text.len()) as u64;
                }
            }
            ws::Event::Binary(_) if client.stage != Stage::Closing => self.over(at, MALFORMED),
            ws::Event::Ping(payload) => {
                self.frame.clear();
                let mask = self.rng.u32(..).to_be_bytes();
                ws::encode_client(&mut self.frame, ws::Opcode::Pong, mask, payload);
                self.send_frames(at);
            }
            ws::Event::Close { code, .. } => {
                if client.stage == Stage::Closing {
                    return self.over(at, Ending::Server(code));
                }
                self.send_close(at);
                self.over(at, Ending::Server(code));
            }
            _ => {}
        }
    }

    fn on_text(&mut self, at: usize, text: &str) {
        if let Some(publications) = self.seen.publications(text) {
            let mut rest = publications.len();
            while let Some(place) = rest.checked_sub(1) {
                let known = self.seen.publications(text).and_then(|all| all.get(all.len() - rest));
                let Some(Publication { channel, offset, stamp }) = known.copied() else { break };
                self.on_publication(at, channel, offset, Some(stamp), Via::Live);
                rest = place;
            }
            return;
        }
        let Some(generation) = self.clients.get(at).map(|client| client.generation) else { return };
        let mut publications = Vec::new();
        let mut others = false;
        let read = CentrifugoJson.read(text, &mut |event| {
            match self.on_said(at, event) {
                Ok(Some(publication)) => publications.push(publication),
                Ok(None) => others = true,
                Err(Malformed) => self.over(at, MALFORMED),
            }
            self.is_current(at, generation)
        });
        if read.is_err() && self.is_current(at, generation) {
            return self.over(at, MALFORMED);
        }
        if !others {
            self.seen.remember(text, &publications);
        }
    }

    /// One thing that the server says; a publication is returned if it is whole.
    fn on_said(&mut self, at: usize, event: Event<'_>) -> Result<Option<Publication>, Malformed> {
        match event {
            Event::Publication { channel: name, offset, data } => {
                let stamp = payload::read(data);
                let Some(channel) = self.seen.channel(name) else {
                    let (now_us, id) = (self.now_us, self.client_id(at));
                    if let Some(recorder) = &mut self.recorder {
                        recorder.stray(now_us, id, name);
                    }
                    return Ok(None);
                };
                if stamp.is_none() {
                    // Either it is corrupt, or not even JSON.
                    serde_json::from_slice::<serde::de::IgnoredAny>(data).map_err(|_| Malformed)?;
                }
                self.on_publication(at, channel, offset, stamp, Via::Live);
                return Ok(stamp.map(|stamp| Publication { channel, offset, stamp }));
            }
            Event::Ping => {
                if self.clients.get(at).is_some_and(|client| client.pong) {
                    self.message.clear();
                    CentrifugoJson.pong(&mut self.message);
                    self.send_message(at);
                }
            }
            Event::Reply { id, answer } => return self.on_reply(at, id, answer).map(|()| None),
            Event::Unsubscribed { channel, code } => self.on_unsubscribed(at, channel, code),
            Event::Other => {}
        }
        Ok(None)
    }

    /// The place of a channel among a client's subscriptions.
    fn place(&self, at: usize, channel: ChannelId) -> Option<u32> {
        let channels = self.shared.config.topology.channels_of(self.client_id(at));
        channels.iter().position(|other| *other == channel).map(|place| place as u32)
    }

    fn on_publication(
        &mut self,
        at: usize,
        channel: ChannelId,
        offset: u64,
        stamp: Option<Stamp>,
        via: Via,
    ) {
        let (now_us, id) = (self.now_us, self.client_id(at));
        let place = self.place(at, channel);
        let subscription = place.and_then(|place| self.subscription(at, place));
        let known = subscription.is_some_and(|subscription| {
            if offset > 0 && subscription.epoch > 0 {
                subscription.offset = offset;
            }
            matches!(subscription.standing, Standing::On | Standing::Leaving)
        });
        if !known {
            if let Some(recorder) = &mut self.recorder {
                recorder.stray(now_us, id, self.shared.config.topology.name(channel));
            }
            return;
        }
        self.counters.deliveries += 1;
        if let (Some(stamp), Via::Live) = (stamp, via) {
            record(&mut self.counters.latency_us, now_us.saturating_sub(stamp.due_us));
        }
        self.shared.see_probe(channel, offset, stamp);
        if let Some(recorder) = &mut self.recorder {
            recorder.received(now_us, id, channel, offset, stamp, via);
        }
    }

    fn on_reply(&mut self, at: usize, id: u32, answer: Answer<'_>) -> Result<(), Malformed> {
        let Some(client) = self.clients.get_mut(at) else { return Ok(()) };
        if client.stage == Stage::Greeting {
            return self.on_greeting(at, id, answer);
        }
        let client_id = self.shared.places.client(self.number, at);
        let joining = self.shared.config.topology.channels_of(client_id).len() as u32;
        let asked = match id.checked_sub(2).filter(|place| *place < joining) {
            Some(place) if client.joining > 0 => {
                client.joining -= 1;
                Some(Asked::Subscribe(place))
            }
            _ => {
                let asked = client.extra.as_mut().and_then(|extra| extra.take_wait(id));
                self.waits -= u64::from(asked.is_some());
                asked
            }
        };
        match (asked, answer) {
            (Some(Asked::Publish { sequence, due_us, probe }), answer) => {
                self.on_published(at, sequence, due_us, probe, &answer);
            }
            (Some(Asked::Subscribe(place)), Answer::Subscribed(reply)) => {
                self.on_subscribed(at, place, &reply);
            }
            (Some(Asked::Subscribe(place)), Answer::Error { code, temporary }) => {
                self.on_not_subscribed(at, place, code, temporary);
            }
            (Some(Asked::Unsubscribe(place)), Answer::Unsubscribed) => {
                self.on_left(at, place);
            }
            // An answer to nothing, or to something else.
            _ => return Err(Malformed),
        }
        let done =
            self.clients.get(at).is_some_and(|c| c.stage == Stage::Joining && c.joining == 0);
        if done {
            self.become_ready(at);
        }
        self.tidy(at);
        Ok(())
    }

    fn on_greeting(&mut self, at: usize, id: u32, answer: Answer<'_>) -> Result<(), Malformed> {
        let now_ms = self.now_ms();
        let patience_ms = self.shared.config.reconnect.patience_ms();
        let Some(client) = self.clients.get_mut(at) else { return Ok(()) };
        match answer {
            Answer::Connected { ping_s, pong } if id == 1 => {
                client.attempt = 0;
                client.ping_s = u16::try_from(ping_s).unwrap_or(u16::MAX);
                client.pong = pong;
                client.stage = Stage::Joining;
                client.deadline_ms = now_ms + patience_ms;
                let none = client.joining == 0;
                self.counters.connects += 1;
                self.counters.connected += 1;
                if none {
                    self.become_ready(at);
                }
                Ok(())
            }
            Answer::Error { code, temporary } if id == 1 => {
                count(&mut self.counters.errors, code);
                let end = End::Error { code, temporary };
                self.over(at, Ending::Failed("connect refused", end));
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    fn on_subscribed(&mut self, at: usize, place: u32, reply: &Subscription<'_>) {
        let (now_us, id) = (self.now_us, self.client_id(at));
        let Some(channel) = self.channel(at, place) else { return };
        let position = reply.position.as_ref().map(|(epoch, offset)| (&**epoch, *offset));
        let number = position.map_or(0, |(epoch, _)| self.seen.epoch_number(epoch));
        let Some(subscription) = self.subscription(at, place) else { return };
        let before = std::mem::replace(
            subscription,
            super::client::Subscription {
                offset: position.map_or(0, |(_, offset)| offset),
                epoch: number,
                standing: Standing::On,
                recovering: false,
            },
        );
        self.counters.subscribes += 1;
        if !matches!(before.standing, Standing::On | Standing::Leaving) {
            self.counters.subscribed += 1;
            self.shared.live_more(channel);
        }
        if before.recovering {
            let [recovered, lost] = &mut self.counters.recoveries;
            *if reply.recovered { recovered } else { lost } += 1;
        }
        if let Some(recorder) = &mut self.recorder {
            let asked = self.seen.epoch(before.epoch).filter(|_| before.recovering);
            let place = |(epoch, offset)| Position { epoch, offset };
            recorder.subscribed(
                now_us,
                id,
                channel,
                Subscribed {
                    asked: asked.map(|epoch| place((epoch, before.offset))),
                    position: position.map(place),
                    recovered: reply.recovered,
                    was_recovering: reply.was_recovering,
                },
            );
        }
        for (offset, data) in &reply.publications {
            self.on_publication(at, channel, *offset, payload::read(data), Via::Recovered);
        }
    }

    fn on_not_subscribed(&mut self, at: usize, place: u32, code: u32, temporary: bool) {
        count(&mut self.counters.errors, code);
        self.stand_down(at, place);
        let profile = self.shared.config.reconnect;
        let delay_ms = profile.delay(End::Error { code, temporary }, 0, self.rng.f64());
        if temporary && let Some(delay_ms) = delay_ms {
            self.subscribe_later(at, place, delay_ms);
        }
    }

    fn on_unsubscribed(&mut self, at: usize, name: &str, code: u32) {
        count(&mut self.counters.unsubscribes, code);
        let (now_us, id) = (self.now_us, self.client_id(at));
        let Some(channel) = self.seen.channel(name) else { return };
        let Some(place) = self.place(at, channel) else { return };
        self.stand_down(at, place);
        if let Some(recorder) = &mut self.recorder {
            recorder.unsubscribed(now_us, id, channel, code);
        }
        if code >= RESUBSCRIBE_CODE {
            self.subscribe(at, place);
        }
    }

    /// The answer to an unsubscribe: the subscription is over, and made anew.
    fn on_left(&mut self, at: usize, place: u32) {
        let (now_us, id) = (self.now_us, self.client_id(at));
        self.stand_down(at, place);
        if let Some(subscription) = self.subscription(at, place) {
            *subscription = super::client::Subscription::default();
        }
        if let (Some(channel), Some(recorder)) = (self.channel(at, place), &mut self.recorder) {
            recorder.unsubscribed(now_us, id, channel, 0);
        }
        self.subscribe(at, place);
    }

    fn on_published(
        &mut self,
        at: usize,
        sequence: u32,
        due_us: u64,
        probe: Option<ChannelId>,
        answer: &Answer<'_>,
    ) {
        let (now_us, id) = (self.now_us, self.client_id(at));
        let outcome = match answer {
            // The server does not know: it may have been appended.
            Answer::Error { code: UNKNOWN_CODE, .. } => {
                count(&mut self.counters.errors, UNKNOWN_CODE);
                self.counters.unknown += 1;
                self.shared.release_probe(probe);
                Outcome::Unknown
            }
            Answer::Error { code, temporary } => {
                count(&mut self.counters.errors, *code);
                match temporary {
                    true => self.shared.release_probe(probe),
                    false => self.shared.waive_probe(probe),
                }
                Outcome::Refused(*code)
            }
            _ => {
                self.counters.acknowledged += 1;
                record(&mut self.counters.ack_us, now_us.saturating_sub(due_us));
                Outcome::Acknowledged
            }
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.answered(now_us, id, sequence, outcome);
        }
    }
}

/// Whether the response agrees to the upgrade.
///
/// # Errors
///
/// Why not, in a few fixed words.
fn upgraded(head: &[u8], accept: &[u8; 28]) -> Result<(), &'static str> {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let status = lines.next().unwrap_or_default().strip_prefix(b"HTTP/1.1 ");
    match status.ok_or("malformed")? {
        [b'1', b'0', b'1', b' ', ..] | b"101" => {}
        [b'4', ..] => return Err("upgrade refused (4xx)"),
        [b'5', ..] => return Err("upgrade refused (5xx)"),
        _ => return Err("upgrade refused"),
    }
    let proof = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
        let value = value.get(1..)?.trim_ascii();
        name.eq_ignore_ascii_case(b"sec-websocket-accept").then_some(value)
    });
    if proof == Some(accept) { Ok(()) } else { Err("malformed") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_transport::handshake::accept_for;

    #[test]
    fn only_the_right_proof_is_an_upgrade() {
        let accept = accept_for(b"dGhlIHNhbXBsZSBub25jZQ==");
        let check = |head: &str, expect| {
            assert_eq!(upgraded(head.as_bytes(), &accept), expect, "{head}");
        };
        let proof = "sec-websocket-ACCEPT:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        check(&format!("HTTP/1.1 101 Switching\r\nA: b\r\n{proof}"), Ok(()));
        check(&format!("HTTP/1.1 101\r\n{proof}"), Ok(()));
        check("HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n\r\n", Err("malformed"));
        check("HTTP/1.1 101 Switching\r\n\r\n", Err("malformed"));
        check("HTTP/1.1 503 Busy\r\n\r\n", Err("upgrade refused (5xx)"));
        check("HTTP/1.1 403 No\r\n\r\n", Err("upgrade refused (4xx)"));
        check("HTTP/1.1 200 OK\r\n\r\n", Err("upgrade refused"));
        check("\r\n\r\n", Err("malformed"));
    }
}
