//! The life of a connection: made, upgraded, greeted, ended, and made again.

use super::client::{Asked, Client, Extra, Stage, Standing, Subscription, Wait};
use super::counters::{count, record};
use super::reconnect::{End, NO_CLOSE_FRAME, Profile};
use super::thread::{Phase, Request, Thread};
use super::timers::Due;
use super::{Target, socket};
use crate::dialect::{CentrifugoJson, Dialect};
use crate::ledger::{Outcome, Position};
use crate::limits;
use jsonwebtoken::{EncodingKey, Header};
use plimsoll_transport::handshake::accept_for;
use plimsoll_transport::ws::{Opcode, append_close, encode_client};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::collections::VecDeque;

/// The close code of a client that goes.
const GOING: u16 = 1000;
/// Stands for the start of a connection that is not due yet.
const NOT_BEGUN: u64 = 0;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The server ended it, or it broke.
    Server(Option<u16>),
    /// It did not come to be, or had to be given up, for this reason.
    Failed(&'static str, End),
    /// The client cut it, or left.
    Cut,
}

impl Request {
    pub fn new(targets: &[Target], rng: &mut fastrand::Rng) -> Self {
        // 16 random bytes in base 64, digit by digit: the 22nd carries two bits only.
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut digit = |step: usize| {
            let at = rng.usize(..DIGITS.len() / step) * step;
            char::from(DIGITS.get(at).copied().unwrap_or(b'A'))
        };
        let key: String = (0..21).map(|_| digit(1)).collect();
        let key = format!("{key}{}==", digit(16));
        let text = |target: &Target| {
            format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
                target.path, target.host
            )
        };
        let bytes = targets.iter().map(|target| text(target).into_bytes()).collect();
        Self { bytes, accept: accept_for(key.as_bytes()) }
    }
}

impl Thread {
    /// Starts a client's first connection, unless it has one.
    pub fn begin(&mut self, at: usize, intended_us: u64) {
        let Some(client) = self.clients.get_mut(at).filter(|c| c.stage == Stage::Out) else {
            return;
        };
        client.returning = false;
        client.since_us = intended_us;
        client.attempt = 0;
        self.connect(at);
    }

    /// The time to come back has come.
    pub fn come_back(&mut self, at: usize, due_us: u64) {
        self.waiting -= 1;
        if let Some(client) = self.clients.get_mut(at) {
            if client.since_us == NOT_BEGUN {
                client.since_us = due_us;
            }
            self.connect(at);
        }
    }

    fn connect(&mut self, at: usize) {
        self.counters.attempts += 1;
        let config = &self.shared.config;
        let source = match config.sources {
            0 | 1 => 0,
            sources => 1 + (self.client_id(at) % u32::from(sources)) as u8,
        };
        let target = match config.targets.len() {
            0 | 1 => 0,
            many => self.rng.usize(..many),
        };
        let opened = match config.targets.get(target) {
            Some(target) => socket::open(target.address, source),
            None => Err("no target"),
        };
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(at) else { return };
        client.generation = client.generation.wrapping_add(1);
        client.stage = Stage::Connecting;
        client.target = target as u16;
        client.deadline_ms = now_ms + limits::UPGRADE_MS;
        self.under_way += 1;
        let failed = match opened {
            Err(reason) => Some(reason),
            Ok(socket) => {
                let data = (u64::from(client.generation) << 32) | at as u64;
                use epoll::EventFlags as F;
                let flags = F::IN | F::OUT | F::RDHUP | F::ET;
                let data = epoll::EventData::new_u64(data);
                let added = epoll::add(&self.epoll, &socket, data, flags);
                client.socket = Some(socket);
                added.err().map(|_| "no memory left")
            }
        };
        if let Some(reason) = failed {
            self.over(at, Ending::Failed(reason, End::Refused));
        }
    }

    /// The connection is made, or not: ask for the upgrade.
    pub fn on_opened(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(socket) = &client.socket else { return };
        if let Err(reason) = socket::opened(socket) {
            return self.over(at, Ending::Failed(reason, End::Refused));
        }
        client.stage = Stage::Upgrading;
        let request = self.request.bytes.get(usize::from(client.target));
        let request = request.map(Vec::as_slice).unwrap_or_default();
        // An empty socket takes so little at once, or the connection is dead.
        if send(socket, request, SendFlags::NOSIGNAL) != Ok(request.len()) {
            self.over(at, Ending::Failed("connection reset", End::Refused));
        }
    }

    /// The upgrade succeeded: connect, and subscribe to everything.
    pub fn greet(&mut self, at: usize) {
        let now_ms = self.now_ms();
        let patience_ms = self.shared.config.reconnect.patience_ms();
        let token = self.token(at);
        self.message.clear();
        CentrifugoJson.connect(&mut self.message, 1, token.as_deref());
        let id = self.client_id(at);
        let channels = self.shared.config.topology.channels_of(id).len() as u32;
        let Some(client) = self.clients.get_mut(at) else { return };
        client.stage = Stage::Greeting;
        client.deadline_ms = now_ms + patience_ms;
        client.last_id = 1 + channels;
        client.joining = channels;
        self.frame.clear();
        for place in 0..channels {
            self.append_subscribe(at, place, 2 + place);
            if place as usize % limits::COMMANDS_MAX == limits::COMMANDS_MAX - 1
                || self.message.len() > limits::COMMANDS_BYTES_MAX
            {
                self.wrap_message();
            }
        }
        self.wrap_message();
        self.send_frames(at);
    }

    /// A token for `u<number>`; none without a secret.
    fn token(&self, at: usize) -> Option<String> {
        let secret = self.shared.config.token_secret.as_deref()?;
        let key = EncodingKey::from_secret(secret.as_bytes());
        let claims = serde_json::json!({ "sub": format!("u{}", self.client_id(at)) });
        // Were it not to be had, the server would refuse the client, which is counted.
        jsonwebtoken::encode(&Header::default(), &claims, &key).ok()
    }

    /// Appends a subscribe to the message, from the known position if it is to recover.
    pub fn append_subscribe(&mut self, at: usize, place: u32, id: u32) {
        let recover = self.shared.config.recover;
        let Some(subscription) = self.subscription(at, place) else { return };
        subscription.standing = Standing::Asked;
        subscription.recovering = recover && subscription.epoch > 0;
        let Subscription { recovering, offset, epoch, .. } = *subscription;
        let from = match recovering {
            true => self.seen.epoch(epoch).map(|epoch| Position { epoch, offset }),
            false => None,
        };
        let Some(channel) = self.channel(at, place) else { return };
        let name = self.shared.config.topology.name(channel);
        CentrifugoJson.subscribe(&mut self.message, id, name, from);
    }

    /// Puts a frame around the message.
    pub fn wrap_message(&mut self) {
        if !self.message.is_empty() {
            let mask = self.rng.u32(..).to_be_bytes();
            encode_client(&mut self.frame, Opcode::Text, mask, &self.message);
            self.message.clear();
        }
    }

    /// Sends the message as one frame.
    pub fn send_message(&mut self, at: usize) {
        self.frame.clear();
        self.wrap_message();
        self.send_frames(at);
    }

    /// Sends what stands in `frame`, or keeps what the socket does not take.
    pub fn send_frames(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(socket) = &client.socket else { return };
        let held = client.extra.as_ref().is_some_and(|extra| !extra.unsent.is_empty());
        let sent = match held {
            true => Ok(0),
            false => send(socket, &self.frame, SendFlags::NOSIGNAL),
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // Reading tells how it ended: a close frame may wait there.
            Err(_) => return,
        };
        let rest = self.frame.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
        let unsent = &mut client.extra.get_or_insert_default().unsent;
        unsent.extend(rest);
        if unsent.len() > limits::UNSENT_BYTES_MAX {
            self.over(at, Ending::Failed("the server does not read", End::NoAnswer));
        }
    }

    /// The socket takes bytes again.
    pub fn on_writable(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let (Some(socket), Some(extra)) = (&client.socket, client.extra.as_deref_mut()) else {
            return;
        };
        while !extra.unsent.is_empty() {
            let (first, _) = extra.unsent.as_slices();
            match send(socket, first, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(extra.unsent.drain(..sent)),
                // Full, or broken, which reading tells.
                Err(_) => return,
            }
        }
        extra.unsent = VecDeque::new();
        self.tidy(at);
    }

    /// Gives back what is not needed while nothing is under way.
    pub fn tidy(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at)
            && client.extra.as_ref().is_some_and(|extra| extra.is_empty())
        {
            client.extra = None;
        }
    }

    /// Remembers a command.
    pub fn wait_for(&mut self, at: usize, what: Asked) -> u32 {
        let Some(client) = self.clients.get_mut(at) else { return 0 };
        client.last_id = client.last_id.wrapping_add(1).max(1);
        let id = client.last_id;
        client.extra.get_or_insert_default().waits.push_back(Wait { id, what });
        self.waits += 1;
        id
    }

    /// Nothing came when it had to.
    pub fn take_too_long(&mut self, at: usize) {
        let Some(client) = self.clients.get(at) else { return };
        let ending = match client.stage {
            Stage::Connecting => Ending::Failed("connection timed out", End::Refused),
            Stage::Upgrading => Ending::Failed("no answer to the upgrade", End::Refused),
            Stage::Greeting => Ending::Failed("no answer to the connect", End::NoAnswer),
            Stage::Joining => Ending::Failed("no answer to a subscribe", End::NoAnswer),
            _ => Ending::Cut,
        };
        self.over(at, ending);
    }

    /// No ping came in time: the client takes the connection for dead.
    pub fn fall_silent(&mut self, at: usize) {
        self.over(at, Ending::Failed("no ping", End::Closed(NO_CLOSE_FRAME)));
    }

    /// Cuts a connection, without a word.
    pub fn cut(&mut self, at: usize) {
        if self.clients.get(at).is_some_and(|client| client.socket.is_some()) {
            self.counters.cuts += 1;
            self.over(at, Ending::Cut);
        }
    }

    /// Leaves with a close frame; it comes back as if it were new.
    pub fn leave(&mut self, at: usize) {
        self.counters.cuts += 1;
        self.detach(at, Ending::Cut);
        let now_ms = self.now_ms();
        let client_id = self.client_id(at);
        for place in 0..self.shared.config.topology.channels_of(client_id).len() as u32 {
            if let Some(subscription) = self.subscription(at, place) {
                *subscription = Subscription::default();
            }
        }
        let Some(client) = self.clients.get_mut(at) else { return };
        client.returning = false;
        client.since_us = NOT_BEGUN;
        client.stage = Stage::Closing;
        client.deadline_ms = now_ms + limits::CLOSE_MS;
        self.send_close(at);
    }

    /// Sends a close frame.
    pub fn send_close(&mut self, at: usize) {
        let mut payload = Vec::new();
        append_close(&mut payload, GOING, "");
        self.frame.clear();
        let mask = self.rng.u32(..).to_be_bytes();
        // Without the two bytes of its header it is the payload of ours.
        let payload = payload.get(2..).unwrap_or_default();
        encode_client(&mut self.frame, Opcode::Close, mask, payload);
        self.send_frames(at);
    }

    /// A client that is not wanted goes, whatever it does.
    pub fn dismiss(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        match client.stage {
            Stage::Out | Stage::Closing => {}
            Stage::Waiting => {
                self.waiting -= 1;
                client.stage = Stage::Out;
                client.generation = client.generation.wrapping_add(1);
            }
            stage if stage.is_connected() => self.leave(at),
            _ => self.over(at, Ending::Cut),
        }
    }

    /// Cuts everything, at the end.
    pub fn abandon(&mut self) {
        self.phase = Phase::Finishing;
        for at in 0..self.clients.len() {
            if self.clients.get(at).is_some_and(|client| client.socket.is_some()) {
                self.over(at, Ending::Cut);
            }
        }
    }

    /// The connection is over: what was out is unknown, and the client comes back by its profile.
    pub fn over(&mut self, at: usize, ending: Ending) {
        self.detach(at, ending);
        let now_us = self.now_us;
        let Some(client) = self.clients.get_mut(at) else { return };
        let stage = client.stage;
        if let (Some(socket), true) = (client.socket.take(), !matches!(ending, Ending::Server(_))) {
            socket::reset(socket);
        }
        let old = std::mem::take(client);
        *client = Client {
            generation: old.generation.wrapping_add(1),
            since_us: if stage.is_connected() { now_us } else { old.since_us },
            returning: old.returning || stage.is_connected(),
            attempt: old.attempt,
            sequence: old.sequence,
            first_subscription: old.first_subscription,
            ..Client::default()
        };
        let end = match ending {
            Ending::Failed(_, end) => end,
            Ending::Server(Some(code)) => End::Closed(code),
            Ending::Cut if stage == Stage::Closing => End::Closed(GOING),
            Ending::Server(None) if stage == Stage::Upgrading => End::Refused,
            Ending::Server(None) | Ending::Cut => End::Closed(NO_CLOSE_FRAME),
        };
        self.come_back_later(at, end);
    }

    /// By the profile, if it is still wanted.
    fn come_back_later(&mut self, at: usize, end: End) {
        let id = self.client_id(at);
        if self.phase == Phase::Finishing || !self.is_wanted(id) {
            return;
        }
        let profile = self.shared.config.reconnect;
        let random = match profile {
            Profile::Paced(_) => f64::from(id) / f64::from(self.shared.places.clients().max(1)),
            _ => self.rng.f64(),
        };
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(delay_ms) = profile.delay(end, u32::from(client.attempt), random) else { return };
        client.attempt = client.attempt.saturating_add(1);
        client.stage = Stage::Waiting;
        let due_us = self.now_us + u64::from(delay_ms) * 1_000;
        self.timers.add(due_us, at, client.generation, Due::Connect);
        self.waiting += 1;
    }

    /// Takes a connection out of all books; once.
    fn detach(&mut self, at: usize, ending: Ending) {
        let (now_us, id) = (self.now_us, self.client_id(at));
        let Some(client) = self.clients.get_mut(at) else { return };
        let (stage, extra) = (client.stage, client.extra.take());
        if stage == Stage::Closing {
            return;
        }
        self.under_way -= u32::from(stage.is_under_way());
        match ending {
            Ending::Server(code) => {
                count(&mut self.counters.closes, code.unwrap_or(NO_CLOSE_FRAME));
                if !stage.is_connected() {
                    count(&mut self.counters.failures, "closed by the server");
                }
            }
            Ending::Failed(reason, _) => count(&mut self.counters.failures, reason),
            Ending::Cut => {}
        }
        for wait in extra.map(|extra| extra.waits).unwrap_or_default() {
            self.waits -= 1;
            if let Asked::Publish { sequence, probe, .. } = wait.what {
                self.counters.unknown += 1;
                self.shared.release_probe(probe);
                if let Some(recorder) = &mut self.recorder {
                    recorder.answered(now_us, id, sequence, Outcome::Unknown);
                }
            }
        }
        if stage.is_connected() {
            self.counters.connected -= 1;
            for place in 0..self.shared.config.topology.channels_of(id).len() as u32 {
                self.stand_down(at, place);
            }
        }
        if let Some(recorder) = self.recorder.as_mut().filter(|_| stage.is_connected()) {
            match ending {
                Ending::Server(code) => recorder.closed(now_us, id, code),
                Ending::Failed(..) | Ending::Cut => recorder.cut(now_us, id),
            }
        }
    }

    /// A subscription does not stand any more.
    pub fn stand_down(&mut self, at: usize, place: u32) {
        let Some(subscription) = self.subscription(at, place) else { return };
        let standing = std::mem::take(&mut subscription.standing);
        if matches!(standing, Standing::On | Standing::Leaving)
            && let Some(channel) = self.channel(at, place)
        {
            self.counters.subscribed -= 1;
            self.shared.live_less(channel);
        }
    }

    /// All subscribes of the connection's start are answered.
    pub fn become_ready(&mut self, at: usize) {
        let now_us = self.now_us;
        let Some(client) = self.clients.get_mut(at) else { return };
        client.stage = Stage::Ready;
        self.under_way -= 1;
        let took_us = now_us.saturating_sub(client.since_us);
        match client.returning {
            true => record(&mut self.counters.back_us, took_us),
            false => record(&mut self.counters.connect_us, took_us),
        }
        client.returning = true;
    }
}

impl Extra {
    /// The command with this number, which is nearly always the oldest.
    pub fn take_wait(&mut self, id: u32) -> Option<Asked> {
        let at = self.waits.iter().position(|wait| wait.id == id)?;
        self.waits.remove(at).map(|wait| wait.what)
    }
}
