//! From an accepted socket to a WebSocket, or to the HTTP server.

use super::conn::{Conn, Open, Stage};
use super::{Core, Io};
use plimsoll_core::limits;
use plimsoll_core::model::ClientId;
use plimsoll_core::session::Session;
use plimsoll_protocol::centrifugo::{JSON_SUBPROTOCOL, PROTOBUF_SUBPROTOCOL};
use plimsoll_transport::handshake::{self, Request, Upgrade};
use plimsoll_transport::head::{Head, HeadLimits, HeadParse, Refusal, parse_head};
use plimsoll_transport::ws::Decoder;

/// Where clients of the Centrifugo protocol connect.
const WEBSOCKET_PATH: &str = "/connection/websocket";

const HEAD_LIMITS: HeadLimits =
    HeadLimits { bytes_max: limits::HEAD_BYTES_MAX, count_max: limits::HEAD_COUNT_MAX };

const FORBIDDEN: Refusal = Refusal { status: 403, reason: "Forbidden" };
const UNAVAILABLE: Refusal = Refusal { status: 503, reason: "Service Unavailable" };
const NOT_IMPLEMENTED: Refusal = Refusal { status: 501, reason: "Not Implemented" };

enum Next {
    Wait,
    HandOff,
    Refuse(Refusal),
    Upgrade { upgrade: Upgrade, json: bool, head_len: usize },
}

impl Core {
    /// A socket was accepted; the returned slot is its name from now on.
    pub fn on_accept(&mut self) -> (u32, u32) {
        self.stats.accepted.add(1);
        self.stats.handshakes.add(1);
        self.next_generation = self.next_generation.wrapping_add(1);
        let timeout = self.shared.policy.client.stale_close_delay_ms.min(limits::HANDSHAKE_MS);
        let conn = Conn::new(self.next_generation, self.now.mono_ms, timeout);
        let slot = self.conns.insert(conn);
        self.special.set(slot, false);
        self.rearm(slot);
        (slot, self.next_generation)
    }

    /// Bytes of a connection whose request head is not complete.
    pub(super) fn on_head_bytes(&mut self, slot: u32, bytes: &mut [u8], io: &mut impl Io) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let Stage::Head(state) = &mut conn.stage else { return };
        if state.bytes.is_empty() {
            // Nearly always the head comes whole: it is read where it lies.
            let next = self.judge(bytes, io);
            return self.go_on(slot, next, bytes, io);
        }
        let mut held = std::mem::take(&mut state.bytes);
        held.extend_from_slice(bytes);
        let next = self.judge(&held, io);
        self.go_on(slot, next, &mut held, io);
    }

    fn judge(&self, bytes: &[u8], io: &mut impl Io) -> Next {
        match parse_head(bytes, &HEAD_LIMITS) {
            HeadParse::Incomplete => Next::Wait,
            HeadParse::Bad(refusal) => Next::Refuse(refusal),
            HeadParse::Complete { head, len } => self.judge_head(&head, len, io),
        }
    }

    fn judge_head(&self, head: &Head<'_>, head_len: usize, io: &mut impl Io) -> Next {
        let upgrade = match handshake::classify(head) {
            Request::Plain => return Next::HandOff,
            Request::Refuse(refusal) => return Next::Refuse(refusal),
            Request::Upgrade(upgrade) => upgrade,
        };
        if head.path() != WEBSOCKET_PATH {
            return Next::HandOff;
        }
        let client = &self.shared.policy.client;
        if !handshake::origin_allowed(head.header("origin"), &client.allowed_origins) {
            return Next::Refuse(FORBIDDEN);
        }
        let query = head.query().unwrap_or_default();
        let asks = |pair: &str| query.split('&').any(|p| p == pair);
        let protobuf = handshake::subprotocols(head).any(|p| p == PROTOBUF_SUBPROTOCOL);
        if protobuf || asks("format=protobuf") || asks("cf_protocol=protobuf") {
            return Next::Refuse(NOT_IMPLEMENTED);
        }
        if self.stopping || !io.admit(client.connection_limit) {
            return Next::Refuse(UNAVAILABLE);
        }
        let json = handshake::subprotocols(head).any(|p| p == JSON_SUBPROTOCOL);
        Next::Upgrade { upgrade, json, head_len }
    }

    fn go_on(&mut self, slot: u32, next: Next, bytes: &mut [u8], io: &mut impl Io) {
        match next {
            Next::Wait => {
                let Some(conn) = self.conns.get_mut(slot) else { return };
                if let Stage::Head(state) = &mut conn.stage {
                    state.bytes = bytes.to_vec();
                }
            }
            Next::HandOff => {
                self.wheel.set(slot, u64::MAX);
                self.end_handshake(slot);
                self.conns.remove(slot);
                io.hand_off(slot, bytes.to_vec());
            }
            Next::Refuse(refusal) => self.refuse(slot, &refusal, io),
            Next::Upgrade { upgrade, json, head_len } => {
                self.upgrade(slot, &upgrade, json, io);
                if let Some(rest) = bytes.get_mut(head_len..)
                    && !rest.is_empty()
                {
                    self.on_frames(slot, rest, io);
                }
            }
        }
    }

    fn refuse(&mut self, slot: u32, refusal: &Refusal, io: &mut impl Io) {
        self.stats.rejected.add(1);
        io.problem(slot, refusal.reason, refusal.status);
        let mut response = std::mem::take(&mut self.scratch);
        response.clear();
        refusal.write_to(&mut response);
        self.send_own(slot, &response);
        self.scratch = response;
        self.start_closing(slot);
    }

    fn upgrade(&mut self, slot: u32, upgrade: &Upgrade, json: bool, io: &mut impl Io) {
        let mut id = [0u8; 16];
        id[..8].copy_from_slice(&io.random().to_le_bytes());
        id[8..].copy_from_slice(&io.random().to_le_bytes());
        let client = ClientId::from_random(id);
        let policy = &self.shared.policy;
        let session = Session::new(client, &self.nobody, policy, self.now);
        let compressed = policy.websocket.compression && upgrade.deflate.is_some();
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.compressed = compressed;
        conn.deflates = compressed;
        conn.opened_ms = self.now.mono_ms;
        let decoder = Decoder::default();
        let open = Open { session, decoder, deferred: None, held: None, returned: false };
        conn.stage = Stage::Open(Box::new(open));
        self.stats.established.add(1);
        self.stats.active.add(1);
        let mut response = std::mem::take(&mut self.scratch);
        response.clear();
        let subprotocol = json.then_some(JSON_SUBPROTOCOL);
        upgrade.write_response(subprotocol, compressed, &mut response);
        self.send_own(slot, &response);
        self.scratch = response;
        self.rearm(slot);
    }
}
