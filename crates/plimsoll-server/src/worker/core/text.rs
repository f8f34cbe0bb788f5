//! From bytes of a WebSocket to commands of a session.

use super::conn::Stage;
use super::door::Door;
use super::{Core, Io};
use plimsoll_core::codes::Disconnect;
use plimsoll_core::session::Phase;
use plimsoll_protocol::centrifugo;
use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::ws::{self, Event, Opcode};
use std::collections::VecDeque;
use std::ops::ControlFlow;

impl Core {
    /// Bytes were read.
    pub fn on_bytes(&mut self, slot: u32, bytes: &mut [u8], io: &mut impl Io) {
        match self.conns.get(slot).map(|c| &c.stage) {
            Some(Stage::Head(_)) => self.on_head_bytes(slot, bytes, io),
            Some(Stage::Open(_)) => self.on_frames(slot, bytes, io),
            // Whatever comes while closing is not read any more.
            Some(Stage::Closing { .. }) | None => {}
        }
    }

    pub(super) fn on_frames(&mut self, slot: u32, bytes: &mut [u8], io: &mut impl Io) {
        self.stats.bytes_in.add(bytes.len() as u64);
        let policy = &self.shared.policy.websocket;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let limits = ws::Limits {
            message_bytes_max: policy.message_size_limit_bytes,
            fragments_max: policy.fragments_max,
            compression: conn.compressed,
        };
        let Some(open) = conn.open_mut() else { return };
        let mut decoder = std::mem::take(&mut open.decoder);
        let mut inflater = self.inflater.take().unwrap_or_default();
        let result = decoder.decode(bytes, &limits, &mut inflater, &mut |event| {
            self.on_event(slot, event, io);
            match self.conns.get(slot).is_some_and(|c| c.is_open()) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        self.keep(inflater);
        if let Some(open) = self.conns.get_mut(slot).and_then(|c| c.open_mut()) {
            open.decoder = decoder;
        }
        if let Err(violation) = result {
            self.stats.bad_input.add(1);
            self.close(slot, Disconnect::websocket(violation.code, violation.reason), io);
        }
        self.rearm(slot);
    }

    /// A bomb's buffer is not kept.
    fn keep(&mut self, inflater: Inflater) {
        if inflater.held_bytes() <= 2 * self.shared.policy.websocket.message_size_limit_bytes {
            self.inflater = Some(inflater);
        }
    }

    fn on_event(&mut self, slot: u32, event: Event<'_>, io: &mut impl Io) {
        match event {
            Event::Text(message) => self.on_message(slot, message, io),
            Event::Binary(_) => self.bad_request(slot, io),
            Event::Ping(payload) => {
                let mut frame = Vec::with_capacity(payload.len() + 2);
                ws::append_frame(&mut frame, Opcode::Pong, payload);
                self.send_own(slot, &frame);
            }
            Event::Pong(_) => {}
            Event::Close { code, .. } => self.on_close_frame(slot, code, io),
        }
    }

    /// The peer closes: its code is echoed and the connection ends.
    fn on_close_frame(&mut self, slot: u32, code: Option<u16>, io: &mut impl Io) {
        let mut frame = Vec::new();
        match code {
            Some(code) => ws::append_close(&mut frame, code, ""),
            None => ws::append_frame(&mut frame, Opcode::Close, &[]),
        }
        self.end_session(slot, io);
        self.send_own(slot, &frame);
        self.stats.closed.add(1);
        self.start_closing(slot);
    }

    pub(super) fn bad_request(&mut self, slot: u32, io: &mut impl Io) {
        self.close(slot, Disconnect::BAD_REQUEST, io);
    }

    fn on_message(&mut self, slot: u32, message: &str, io: &mut impl Io) {
        let Some(open) = self.conns.get_mut(slot).and_then(|c| c.open_mut()) else { return };
        if open.deferred.is_some() {
            return self.defer(slot, message, io);
        }
        self.commands(slot, message, io);
    }

    /// Handles the commands of a message in order, as long as the session takes them.
    fn commands(&mut self, slot: u32, message: &str, io: &mut impl Io) {
        for line in centrifugo::lines(message) {
            let Ok(line) = line else { return self.bad_request(slot, io) };
            let Some(open) = self.conns.get(slot).and_then(|c| match &c.stage {
                Stage::Open(open) => Some(open),
                _ => None,
            }) else {
                return;
            };
            // This line and those after it: they are one slice of the message.
            let at = line.as_ptr() as usize - message.as_ptr() as usize;
            let rest = message.get(at..).unwrap_or_default();
            if open.session.must_wait() {
                return self.defer(slot, rest, io);
            }
            if open.session.phase() == Phase::New {
                match self.at_the_door(slot, rest, io) {
                    Door::Open => {}
                    Door::Wait => return self.defer(slot, rest, io),
                    Door::Closed => return self.refuse_connect(slot, rest, io),
                }
            }
            self.stats.messages_in.add(1);
            match centrifugo::decode(line) {
                Ok(command) => self.with_session(slot, io, |s, cx, fx| s.handle(command, cx, fx)),
                Err(_) => return self.bad_request(slot, io),
            }
            // Answers of channels that are at home here come at once: a frame full of commands
            // could gather without a bound.
            if self.wants_flush() {
                self.flush(io);
            }
        }
    }

    /// Keeps a message for later and reads no more until it has been handled. What is kept is
    /// bounded by one read and one partial message.
    fn defer(&mut self, slot: u32, message: &str, io: &mut impl Io) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let writable = conn.outbox.is_some();
        let paused = std::mem::replace(&mut conn.paused, true);
        if let Some(open) = conn.open_mut() {
            let deferred = open.deferred.get_or_insert_with(Box::default);
            deferred.push_back(message.to_owned());
        }
        if !paused {
            io.watch(slot, false, writable);
        }
    }

    /// The session may take commands again: those that waited come first.
    pub(super) fn resume(&mut self, slot: u32, io: &mut impl Io) {
        loop {
            let Some(conn) = self.conns.get_mut(slot) else { return };
            let Some(open) = conn.open_mut() else { return };
            if open.session.must_wait() {
                return;
            }
            let Some(mut deferred) = open.deferred.take() else { return };
            let Some(message) = deferred.pop_front() else {
                let writable = conn.outbox.is_some();
                conn.paused = false;
                return io.watch(slot, true, writable);
            };
            // While it is handled nothing is "deferred"; a new wait puts its rest in front.
            self.commands(slot, &message, io);
            let Some(open) = self.conns.get_mut(slot).and_then(|c| c.open_mut()) else { return };
            let mut rest: VecDeque<String> = open.deferred.take().map(|d| *d).unwrap_or_default();
            rest.append(&mut deferred);
            open.deferred = Some(Box::new(rest));
        }
    }
}
