//! One life of a subscription link: orders out, confirmations and deliveries in.

use super::keys::Kind;
use super::net::Stream;
use super::node::Node;
use super::registry::Order;
use super::script;
use super::wire::{self, Scan};
use crate::contract::{Delivery, Event, Scope, Stamp};
use crate::limits;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server closed it, or the network broke.
    Lost,
    /// The server closed it while we were behind.
    Slow,
    /// Nothing came for two probe intervals.
    Silent,
    /// It said something that we do not understand.
    Confused,
    /// We want a new one.
    Kicked,
    /// The node is not in use any more.
    Ended,
}

/// A subscribe or unsubscribe command that waits for its confirmations.
struct Waiting {
    orders: Vec<Order>,
    next: usize,
}

/// What is known of a link while it is there.
pub(super) struct Session<'a> {
    node: &'a Arc<Node>,
    waiting: VecDeque<Waiting>,
    out: BytesMut,
    events: Vec<Event>,
    /// Orders of the restoring that are not confirmed.
    restoring: usize,
    /// A gap is reported when everything is restored.
    owes_gap: bool,
    /// Bytes of a message that is left out.
    skip: usize,
}

impl<'a> Session<'a> {
    /// `owed`: how many orders restore something; `owes_gap`: a gap is reported after them.
    pub(super) fn new(node: &'a Arc<Node>, owed: usize, owes_gap: bool) -> Self {
        Self {
            node,
            waiting: VecDeque::new(),
            out: BytesMut::new(),
            events: Vec::new(),
            restoring: owed,
            owes_gap,
            skip: 0,
        }
    }

    /// Serves the link until it ends.
    pub(super) async fn serve(&mut self, stream: Box<dyn Stream>, mut buffer: BytesMut) -> End {
        let (mut read, mut write) = tokio::io::split(stream);
        let interval = Duration::from_millis(self.node.shared.setup.probe_interval_ms.max(10));
        let (mut heard, mut probed) = (Instant::now(), Instant::now());
        let mut behind = false;
        loop {
            if let Err(end) = self.take(&mut buffer) {
                return end;
            }
            self.feed();
            if self.node.orders.overflowed() {
                return End::Kicked;
            }
            buffer.reserve(limits::REDIS_READ_BYTES);
            let has_output = !self.out.is_empty();
            tokio::select! {
                got = read.read_buf(&mut buffer) => match got {
                    Ok(n) if n > 0 => {
                        heard = Instant::now();
                        behind = n >= limits::REDIS_READ_BYTES / 2;
                    }
                    _ if behind => return End::Slow,
                    _ => return End::Lost,
                },
                wrote = write.write_buf(&mut self.out), if has_output => {
                    if !matches!(wrote, Ok(n) if n > 0) {
                        return End::Lost;
                    }
                }
                () = self.node.orders.wake.notified() => {}
                () = self.node.kick.notified() => return End::Kicked,
                () = self.node.wait_ended() => return End::Ended,
                () = tokio::time::sleep(interval / 4) => {
                    let silent = heard.elapsed();
                    if silent >= interval * 2 {
                        return End::Silent;
                    }
                    if silent >= interval && probed.elapsed() >= interval {
                        probed = Instant::now();
                        self.break_silence();
                    }
                }
            }
        }
    }

    /// Sends a probe by the command link: only that shows that deliveries come. Without a command
    /// link, at least the server can say that it is there.
    fn break_silence(&mut self) {
        if self.node.commands().is_ok() {
            let node = Arc::clone(self.node);
            tokio::spawn(async move { node.probe().await });
        } else {
            let mut ping = Vec::new();
            wire::command(&mut ping, [&b"PING"[..]]);
            self.out.extend_from_slice(&ping);
        }
    }

    /// Writes commands for orders, a few at a time.
    fn feed(&mut self) {
        let (shared, sharded) = (&self.node.shared, self.node.shared.sharded);
        while self.waiting.len() < limits::REDIS_SUBSCRIBES_IN_FLIGHT {
            let orders = self.node.orders.next(sharded);
            let Some(first) = orders.first() else { break };
            let verb: &[u8] = match (sharded, first.subscribe) {
                (false, true) => b"SUBSCRIBE",
                (false, false) => b"UNSUBSCRIBE",
                (true, true) => b"SSUBSCRIBE",
                (true, false) => b"SUNSUBSCRIBE",
            };
            let names: Vec<_> =
                orders.iter().map(|o| shared.keys.name(o.partition, o.kind, &o.name)).collect();
            let mut out = Vec::new();
            wire::command(&mut out, [verb].into_iter().chain(names.iter().map(|n| &n[..])));
            self.out.extend_from_slice(&out);
            self.waiting.push_back(Waiting { orders, next: 0 });
        }
        let probed = self.node.probe_ready.load(Relaxed);
        if self.restoring == 0 && probed && !self.node.is_subscribed() {
            self.node.up.send_replace(true);
        }
        // Whoever hears of a gap reads at once: the other link should be there.
        if self.owes_gap && self.restoring == 0 && self.node.commands().is_ok() {
            self.owes_gap = false;
            self.node.figures.gaps.fetch_add(1, Relaxed);
            self.node.shared.emit(Event::Gap(Scope::All));
        }
    }

    /// Takes all whole frames of the buffer.
    fn take(&mut self, buffer: &mut BytesMut) -> Result<(), End> {
        let mut frames = Vec::new();
        let mut end = 0;
        let mut result = Ok(());
        loop {
            let skipped = self.skip.min(buffer.len());
            if skipped > 0 && frames.is_empty() {
                self.skip -= skipped;
                buffer.advance(skipped);
            }
            match wire::scan(buffer.get(end..).unwrap_or_default()) {
                Scan::Frame(frame) => {
                    let start = end;
                    end += frame.len;
                    frames.push((start, frame));
                }
                Scan::More => break,
                Scan::Broken => {
                    result = Err(End::Confused);
                    break;
                }
                // First what stands before it, then the rest without it.
                Scan::Skip(bytes, channel) if frames.is_empty() => {
                    let name = buffer.get(channel).unwrap_or_default();
                    self.garbage(name, "too long");
                    self.skip = bytes;
                }
                Scan::Skip(..) => break,
            }
        }
        let more = !frames.is_empty();
        let block = buffer.split_to(end).freeze();
        for (start, frame) in frames {
            let part = |n| {
                let Range { start: from, end: to } = frame.part(n);
                block.slice(start + from..start + to)
            };
            if let Err(end) = self.frame(frame.kind, &part) {
                result = Err(end);
                break;
            }
        }
        if !self.events.is_empty() {
            self.node.shared.setup.sink.take(&mut self.events);
            self.events.clear();
        }
        result?;
        if more { self.take(buffer) } else { Ok(()) }
    }

    fn frame(&mut self, kind: u8, part: &dyn Fn(usize) -> Bytes) -> Result<(), End> {
        match kind {
            b'>' => match &part(0)[..] {
                b"message" | b"smessage" => {
                    self.message(&part(1), part(2));
                    Ok(())
                }
                b"subscribe" | b"ssubscribe" => self.confirmed(true, &part(1)),
                b"unsubscribe" | b"sunsubscribe" => self.confirmed(false, &part(1)),
                _ => Ok(()),
            },
            b'-' => self.refused(&part(0)),
            _ => Ok(()),
        }
    }

    fn garbage(&mut self, channel: &[u8], why: &'static str) {
        let shared = &self.node.shared;
        let channel = match shared.keys.read(channel) {
            Some((Kind::Channel, name)) => {
                shared.registry.find(shared.keys.partition(name), name, &self.node.orders)
            }
            _ => None,
        };
        self.events.push(Event::Garbage { channel, why });
    }

    fn message(&mut self, channel: &[u8], payload: Bytes) {
        let shared = &self.node.shared;
        match shared.keys.read(channel) {
            Some((Kind::Channel, name)) => {
                let partition = shared.keys.partition(name);
                // Else it was unsubscribed from a moment ago.
                let found = shared.registry.find(partition, name, &self.node.orders);
                let Some(channel) = found else { return };
                self.node.figures.deliveries.fetch_add(1, Relaxed);
                self.events.push(match delivery(channel.clone(), &payload) {
                    Some(delivery) => Event::Delivery(delivery),
                    None => {
                        Event::Garbage { channel: Some(channel), why: "no stamp of a publication" }
                    }
                });
            }
            Some((Kind::Node, _)) => self.events.push(Event::Told(payload)),
            Some((Kind::Probe, _)) => self.node.probed(&payload),
            _ => self.garbage(channel, "not one of our channels"),
        }
    }

    /// The server has carried out an order: the next one of the first command that waits.
    fn confirmed(&mut self, subscribed: bool, channel: &[u8]) -> Result<(), End> {
        let shared = &self.node.shared;
        let order = self.waiting.front().and_then(|w| w.orders.get(w.next)).filter(|order| {
            order.subscribe == subscribed
                && shared.keys.name(order.partition, order.kind, &order.name) == channel
        });
        let Some(order) = order.cloned() else {
            // A slot has moved: a Cluster unsubscribes by itself.
            if !subscribed && shared.sharded {
                self.moved_away(channel);
                return Ok(());
            }
            return Err(End::Confused);
        };
        if subscribed {
            if order.kind == Kind::Channel {
                shared.registry.confirmed(&order);
            }
            if order.kind == Kind::Probe
                && order.partition == self.node.probe_partition.load(Relaxed)
            {
                self.node.probe_ready.store(true, Relaxed);
            }
            if order.restores {
                self.restoring = self.restoring.saturating_sub(1);
            }
            if order.restores && order.kind == Kind::Channel {
                self.node.figures.resubscribes.fetch_add(1, Relaxed);
                if shared.sharded {
                    self.gap(order.name);
                }
            }
        }
        if let Some(first) = self.waiting.front_mut() {
            first.next += 1;
            if first.next >= first.orders.len() {
                self.waiting.pop_front();
            }
        }
        Ok(())
    }

    /// A channel is there again; neighbours share an event.
    fn gap(&mut self, channel: Arc<str>) {
        if let Some(Event::Gap(Scope::Channels(channels))) = self.events.last_mut() {
            return channels.push(channel);
        }
        self.node.figures.gaps.fetch_add(1, Relaxed);
        self.events.push(Event::Gap(Scope::Channels(vec![channel])));
    }

    /// The server has unsubscribed us by itself.
    fn moved_away(&mut self, channel: &[u8]) {
        let keys = &self.node.shared.keys;
        let partition = match keys.read(channel) {
            Some((Kind::Channel | Kind::Node, name)) => keys.partition(name),
            Some((Kind::Probe, _)) => self.node.probe_partition.load(Relaxed),
            _ => return,
        };
        self.node.misplaced(partition);
    }

    /// The server has refused the first command that waits.
    fn refused(&mut self, error: &[u8]) -> Result<(), End> {
        let Some(waiting) = self.waiting.pop_front() else { return Err(End::Confused) };
        let error = String::from_utf8_lossy(error);
        let code = error.split(' ').next().unwrap_or_default();
        tracing::warn!(broker = %self.node.broker, %error, "Redis refused a subscription");
        let shared = &self.node.shared;
        let mut lost = false;
        for order in waiting.orders.iter().skip(waiting.next).filter(|o| o.subscribe) {
            if order.kind == Kind::Channel {
                shared.registry.refused(order, super::commands::failure(code));
            }
            if order.restores {
                self.restoring = self.restoring.saturating_sub(1);
            }
            lost |= order.restores;
        }
        if shared.sharded {
            if let Some(order) = waiting.orders.first() {
                self.node.misplaced(order.partition);
            }
            return Ok(());
        }
        // What was there before must come back: with a new link, after a pause.
        if lost { Err(End::Confused) } else { Ok(()) }
    }
}

/// Reads what `publish.lua` publishes: `h`, epoch, offset, `:`, body; or `n`, body.
fn delivery(channel: Arc<str>, payload: &Bytes) -> Option<Delivery> {
    match payload.first()? {
        b'n' => Some(Delivery { channel, body: payload.slice(1..), stamp: None }),
        b'h' => {
            let colon =
                9 + payload.get(9..30.min(payload.len()))?.iter().position(|b| *b == b':')?;
            let position = script::position(payload.get(1..colon)?)?;
            let previous = position.offset.checked_sub(1)?;
            let stamp = Some(Stamp { position, previous });
            Some(Delivery { channel, body: payload.slice(colon + 1..), stamp })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stamps_are_read() {
        let read = |bytes: &'static [u8]| delivery("c".into(), &Bytes::from_static(bytes));
        let d = read(b"habcdefgh12:body:x").unwrap();
        let stamp = d.stamp.unwrap();
        assert_eq!((stamp.position.offset, stamp.previous), (12, 11));
        assert_eq!(stamp.position.epoch.as_str(), "abcdefgh");
        assert_eq!(&d.body[..], b"body:x");
        assert_eq!(read(b"n").unwrap().body.len(), 0);
        for bad in [
            &b""[..],
            b"x",
            b"h",
            b"habcdefgh:x",
            b"habcdefgh0:x",
            b"habcdefgh+1:x",
            b"habcdefgh99999999999999999999999:x",
            b"habc\xff\xffgh1:x",
            b"habcdefgh1",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_ends_it(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = delivery("c".into(), &Bytes::from(bytes));
        }
    }
}
