//! Who may connect now: connects beyond the node's pace wait at the door, those who come back
//! first, and whoever waited too long is told to try again before anything was promised.

use super::conn::Conn;
use super::{Core, Io};
use plimsoll_core::codes::ClientError;
use plimsoll_core::command::Body;
use plimsoll_core::limits;
use plimsoll_core::model::ConnKey;
use plimsoll_overload::admission::{AdmissionClass, Offer};
use plimsoll_overload::gates::AdmissionFloor;
use plimsoll_protocol::centrifugo;

/// What becomes of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Wait,
    Closed,
}

impl Core {
    /// Asks for a connection that has not connected yet; `message` is all that came with its
    /// connect: clients ask for their channels, and what they missed of them, in the same frame.
    pub(super) fn at_the_door(&mut self, slot: u32, message: &str, io: &mut impl Io) -> Door {
        let now_ms = self.now.mono_ms;
        let Some(conn) = self.conns.get(slot) else { return Door::Closed };
        if conn.let_in {
            return Door::Open;
        }
        let key = conn.key(slot);
        let class = self.class_of(message);
        self.stats.connects.add(1);
        self.stats.connects_back.add(u64::from(class == AdmissionClass::Resume));
        if self.line_is_off {
            return Door::Open;
        }
        match self.door.offer(now_ms, id_of(key), class, limits::PARKED_CONNECT_MS) {
            Offer::Admit => {
                if let Some(conn) = self.conns.get_mut(slot) {
                    conn.let_in = true;
                }
                Door::Open
            }
            Offer::Park { ticket, instead_of, .. } => {
                self.tickets.insert(slot, (key.generation, ticket));
                self.stats.parked.set(self.door.parked() as u64);
                if let Some(other) = instead_of {
                    self.turn_away(other, io);
                }
                Door::Wait
            }
            Offer::Refuse => Door::Closed,
        }
    }

    /// Lets in whom the pace allows, and refuses those who waited too long.
    pub(super) fn open_the_door(&mut self, io: &mut impl Io) {
        if self.door.parked() == 0 {
            return;
        }
        let polled = self.door.poll(self.now.mono_ms);
        for id in polled.admitted {
            let Some(slot) = self.parked_slot(id) else { continue };
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.let_in = true;
            }
            self.resume(slot, io);
            self.rearm(slot);
        }
        for id in polled.expired {
            self.turn_away(id, io);
        }
        self.stats.parked.set(self.door.parked() as u64);
    }

    /// Somebody who waited has gone.
    pub(super) fn leave_the_door(&mut self, slot: u32) {
        if let Some((_, ticket)) = self.tickets.remove(&slot) {
            self.door.withdraw(ticket);
        }
    }

    /// It is connected, or will never be.
    pub(super) fn end_handshake(&mut self, slot: u32) {
        if self.conns.get_mut(slot).is_some_and(|c| std::mem::take(&mut c.arriving)) {
            self.stats.handshakes.sub(1);
        }
    }

    /// The tier is that of the very token by which the connect is judged once it is let in: a
    /// forged one gains a place in the queue for a connect that then fails.
    fn class_of(&self, message: &str) -> AdmissionClass {
        let class = class_of(message);
        let tiers = &self.shared.policy.tiers;
        // While only those who come back are let in, the tier changes nothing: no parse.
        let closed = self.gates.admission >= AdmissionFloor::ResumesOnly;
        if class != AdmissionClass::Rest || !tiers.has_top() || closed {
            return class;
        }
        let line = centrifugo::lines(message).next().and_then(Result::ok).unwrap_or_default();
        match centrifugo::decode(line).map(|command| command.body) {
            Ok(Body::Connect(c)) if c.token.is_empty() => AdmissionClass::Anonymous,
            Ok(Body::Connect(c)) => {
                tiers.admission_of(self.shared.tokens.unverified_tier(&c.token))
            }
            _ => class,
        }
    }

    fn parked_slot(&mut self, id: u64) -> Option<u32> {
        let (slot, generation) = (id as u32, (id >> 32) as u32);
        let (known, _) = self.tickets.get(&slot)?;
        if *known != generation {
            return None;
        }
        self.tickets.remove(&slot);
        self.conns.get(slot).filter(|c| c.generation == generation && c.is_open()).map(|_| slot)
    }

    fn turn_away(&mut self, id: u64, io: &mut impl Io) {
        let Some(slot) = self.parked_slot(id) else { return };
        let open = self.conns.get_mut(slot).and_then(Conn::open_mut);
        let first = open.and_then(|o| o.deferred.as_mut()?.pop_front()).unwrap_or_default();
        self.refuse_connect(slot, &first, io);
    }

    /// Answers the connect at the start of `message` by a temporary error: clients try again with
    /// a growing pause, since nothing was answered by a success before.
    pub(super) fn refuse_connect(&mut self, slot: u32, message: &str, io: &mut impl Io) {
        let line = centrifugo::lines(message).next().and_then(Result::ok).unwrap_or_default();
        let id = match centrifugo::decode(line) {
            Ok(command) if matches!(command.body, Body::Connect(_)) => command.id,
            _ => return self.bad_request(slot, io),
        };
        self.stats.connects_refused.add(1);
        self.with_session(slot, io, |s, cx, fx| s.turn_away(id, ClientError::FEATURE_OFF, cx, fx));
        if let Some(open) = self.conns.get_mut(slot).and_then(Conn::open_mut) {
            // What came with the connect is not for anybody now.
            open.deferred = None;
        }
    }
}

fn id_of(key: ConnKey) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.slot)
}

/// Read from the text: looking for two words costs less than a second parse, and who lies gains
/// a place in a queue.
fn class_of(message: &str) -> AdmissionClass {
    if message.contains("\"recover\":true") {
        AdmissionClass::Resume
    } else if message.contains("\"token\":\"") {
        AdmissionClass::Rest
    } else {
        AdmissionClass::Anonymous
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_who_is_at_the_door() {
        for (message, class) in [
            (r#"{"id":1,"connect":{}}"#, AdmissionClass::Anonymous),
            (r#"{"id":1,"connect":{"token":"x"}}"#, AdmissionClass::Rest),
            (
                "{\"id\":1,\"connect\":{\"token\":\"x\"}}\n\
                 {\"id\":2,\"subscribe\":{\"channel\":\"a\",\"recover\":true}}",
                AdmissionClass::Resume,
            ),
        ] {
            assert_eq!(class_of(message), class, "{message}");
        }
    }
}
