//! What a workload asks for each second, and what that is on the wire.

use super::rooms::{Moments, moments};
use crate::profile::{Receipts, UsersAre, WorkloadProfile};
use serde::{Deserialize, Serialize};

/// Bytes around a payload: `{"push":{"channel":…,"pub":{"data":…,"offset":…}}}` with names of
/// usual length.
pub const ENVELOPE_BYTES: f64 = 90.0;
/// Bytes of the payload of a typing event, a join, a leave or a receipt.
pub const SMALL_PAYLOAD_BYTES: f64 = 40.0;
/// Bytes of a ping's payload, `{}`.
pub const PING_BYTES: f64 = 2.0;
/// Bytes of a TLS 1.3 record beside its content: header 5, content type 1, tag 16.
pub const TLS_RECORD_BYTES: f64 = 22.0;
/// Content of a TLS record at most.
const TLS_CONTENT_BYTES_MAX: f64 = 16_384.0;
/// Bytes of the IP (20) and TCP (32, with timestamps) headers of a segment.
pub const TCP_IP_BYTES: f64 = 52.0;
/// Content of a segment on Ethernet.
const SEGMENT_BYTES_MAX: f64 = 1_448.0;

/// One second of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Connections.
    pub connections: f64,
    /// Subscriptions of all of them.
    pub subscriptions: f64,
    /// Rooms.
    pub rooms: f64,
    /// New connections.
    pub connects_per_s: f64,
    /// Subscribes, each of them with a recovery at worst.
    pub subscribes_per_s: f64,
    /// Messages that come in.
    pub messages_in_per_s: f64,
    /// Typing events that come in.
    pub typing_in_per_s: f64,
    /// Receipts that come in: one from each reader of each message.
    pub receipts_in_per_s: f64,
    /// All that comes in to be published.
    pub ingest_per_s: f64,
    /// Deliveries of messages.
    pub message_deliveries_per_s: f64,
    /// Deliveries of typing events.
    pub typing_deliveries_per_s: f64,
    /// Deliveries of joins and leaves.
    pub join_leave_deliveries_per_s: f64,
    /// Deliveries of receipts.
    pub receipt_deliveries_per_s: f64,
    /// All deliveries.
    pub deliveries_per_s: f64,
    /// Socket writes: the deliveries, with messages merged into frames. Without pings.
    pub frames_per_s: f64,
    /// Pings that go out, and pongs that come in.
    pub pings_per_s: f64,
    /// Bytes handed to sockets: payload, envelope, WebSocket header, TLS if it ends at the node.
    pub socket_bytes_per_s: f64,
    /// The same with the headers of TCP and IP.
    pub wire_bytes_per_s: f64,
}

/// Bytes of one frame of messages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// Payloads.
    pub payload_bytes: f64,
    /// Envelopes of the protocol.
    pub envelope_bytes: f64,
    /// Header of the WebSocket frame.
    pub websocket_bytes: f64,
    /// TLS records.
    pub tls_bytes: f64,
    /// TCP and IP headers.
    pub tcp_ip_bytes: f64,
    /// All together.
    pub total_bytes: f64,
}

impl Wire {
    /// A frame that holds `count` messages of `payload` bytes each.
    pub fn of(payload: f64, envelope: f64, count: f64, tls: bool) -> Self {
        let content = (payload + envelope) * count;
        let websocket = match content {
            c if c < 126.0 => 2.0,
            c if c < 65_536.0 => 4.0,
            _ => 10.0,
        };
        let framed = content + websocket;
        let records = (framed / TLS_CONTENT_BYTES_MAX).ceil().max(1.0);
        let tls = if tls { records * TLS_RECORD_BYTES } else { 0.0 };
        let segments = ((framed + tls) / SEGMENT_BYTES_MAX).ceil().max(1.0);
        let tcp_ip = segments * TCP_IP_BYTES;
        Self {
            payload_bytes: payload * count,
            envelope_bytes: envelope * count,
            websocket_bytes: websocket,
            tls_bytes: tls,
            tcp_ip_bytes: tcp_ip,
            total_bytes: framed + tls + tcp_ip,
        }
    }

    /// Without TCP and IP.
    pub fn socket_bytes(&self) -> f64 {
        self.total_bytes - self.tcp_ip_bytes
    }
}

/// A frame of the workload's messages.
pub fn message_wire(workload: &WorkloadProfile) -> Wire {
    let batch = workload.deliveries_per_frame;
    Wire::of(workload.avg_message_bytes, ENVELOPE_BYTES, batch, workload.tls)
}

/// The load at peak, or in the other hours.
pub fn load(workload: &WorkloadProfile, peak: bool) -> Load {
    let times = if peak { workload.peak_multiplier } else { 1.0 };
    let users_times = match workload.concurrent_users_are {
        UsersAre::Peak => 1.0,
        UsersAre::Mean => times,
    };
    let sizes = moments(workload);
    let everyone = workload.concurrent_users as f64;
    let users = everyone * users_times;
    // What each does is multiplied once: by more users, or by busier ones.
    let rate = |per_user: f64| everyone * per_user * times;
    let messages = rate(workload.msgs_per_user_per_minute / 60.0);
    let connects = match workload.session_minutes {
        0.0 => 0.0,
        minutes => rate(1.0 / (minutes * 60.0)),
    };
    let own = if workload.author_sees_own { 1.0 } else { 0.0 };
    let typing = messages * workload.typing_per_message;
    let subscriptions = users * workload.avg_rooms_per_user;
    let chat = messages * (sizes.others + own);
    let typing_out = typing * (sizes.others + own);
    let joins = if workload.join_leave {
        2.0 * connects * workload.avg_rooms_per_user * sizes.others
    } else {
        0.0
    };
    let (receipts_in, receipts) = receipts(workload, messages, subscriptions, &sizes);
    let frames = chat / workload.deliveries_per_frame;
    let small = typing_out + joins + receipts;
    let pings = match workload.ping_interval_seconds {
        0.0 => 0.0,
        seconds => users / seconds,
    };
    let message = message_wire(workload);
    let event = Wire::of(SMALL_PAYLOAD_BYTES, ENVELOPE_BYTES, 1.0, workload.tls);
    let ping = Wire::of(PING_BYTES, 0.0, 1.0, workload.tls);
    let bytes =
        |of: fn(&Wire) -> f64| frames * of(&message) + small * of(&event) + pings * of(&ping);
    Load {
        connections: users,
        subscriptions,
        rooms: subscriptions / workload.avg_users_per_room,
        connects_per_s: connects,
        subscribes_per_s: connects * workload.avg_rooms_per_user,
        messages_in_per_s: messages,
        typing_in_per_s: typing,
        receipts_in_per_s: receipts_in,
        ingest_per_s: messages + typing + receipts_in,
        message_deliveries_per_s: chat,
        typing_deliveries_per_s: typing_out,
        join_leave_deliveries_per_s: joins,
        receipt_deliveries_per_s: receipts,
        deliveries_per_s: chat + small,
        frames_per_s: frames + small,
        pings_per_s: pings,
        socket_bytes_per_s: bytes(Wire::socket_bytes),
        wire_bytes_per_s: bytes(|wire| wire.total_bytes),
    }
}

/// Receipts that come in, and their deliveries, per second.
fn receipts(
    workload: &WorkloadProfile,
    messages: f64,
    subscriptions: f64,
    sizes: &Moments,
) -> (f64, f64) {
    // Every other member of the room reads the message and says so.
    let read = messages * sizes.others;
    let broadcast = messages * sizes.others_squared;
    match workload.receipts {
        Receipts::Off => (0.0, 0.0),
        Receipts::Broadcast => (read, broadcast),
        Receipts::Author => (read, read),
        // At most one per room and second to each member: that is one for each subscription.
        Receipts::Watermark => (read, subscriptions.min(broadcast)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example with a peak of one.
    fn example() -> WorkloadProfile {
        WorkloadProfile { peak_multiplier: 1.0, ..WorkloadProfile::default() }
    }

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} is not {expected}");
    }

    #[test]
    fn features_cost_more_than_messages() {
        let all = WorkloadProfile {
            typing_per_message: 1.0,
            receipts: Receipts::Broadcast,
            join_leave: true,
            session_minutes: 30.0,
            ..example()
        };
        let found = load(&all, true);
        near(found.messages_in_per_s, 16_666.667);
        near(found.message_deliveries_per_s, 816_666.667);
        near(found.typing_deliveries_per_s, 816_666.667);
        near(found.join_leave_deliveries_per_s, 108_888.9);
        near(found.receipt_deliveries_per_s, 40_016_666.67);
        near(found.pings_per_s, 40_000.0);
        near(found.rooms, 40_000.0);
        near(found.subscriptions, 2_000_000.0);
        let receipts = |receipts| {
            load(&WorkloadProfile { receipts, ..all.clone() }, true).receipt_deliveries_per_s
        };
        near(receipts(Receipts::Author), 816_666.667);
        near(receipts(Receipts::Watermark), 2_000_000.0);
        assert_eq!(receipts(Receipts::Off), 0.0);
    }

    #[test]
    fn the_peak_multiplies_once() {
        let two = WorkloadProfile { session_minutes: 30.0, ..WorkloadProfile::default() };
        let (peak, off) = (load(&two, true), load(&two, false));
        near(peak.frames_per_s, 2.0 * off.frames_per_s);
        near(peak.connects_per_s, 2.0 * off.connects_per_s);
        assert_eq!(peak.connections, off.connections);
        let mean = WorkloadProfile { concurrent_users_are: UsersAre::Mean, ..two };
        near(load(&mean, true).connections, 2_000_000.0);
        near(load(&mean, true).frames_per_s, peak.frames_per_s);
        assert_eq!(load(&mean, false), off);
    }

    #[test]
    fn bytes_have_their_headers() {
        let check = |payload, count, tls, total| {
            assert_eq!(Wire::of(payload, ENVELOPE_BYTES, count, tls).total_bytes, total);
        };
        check(200.0, 1.0, false, 200.0 + 90.0 + 4.0 + 52.0);
        check(200.0, 1.0, true, 200.0 + 90.0 + 4.0 + 22.0 + 52.0);
        check(10.0, 1.0, false, 10.0 + 90.0 + 2.0 + 52.0);
        check(200.0, 10.0, false, 2_900.0 + 4.0 + 3.0 * 52.0);
        check(70_000.0, 1.0, true, 70_090.0 + 10.0 + 5.0 * 22.0 + 49.0 * 52.0);
        near(load(&example(), true).wire_bytes_per_s, 816_666.667 * 346.0 + 40_000.0 * 56.0);
    }

    #[test]
    fn merging_makes_fewer_frames_not_fewer_deliveries() {
        let merged = load(&WorkloadProfile { deliveries_per_frame: 5.0, ..example() }, true);
        let alone = load(&example(), true);
        near(merged.frames_per_s * 5.0, alone.frames_per_s);
        assert_eq!(merged.deliveries_per_s, alone.deliveries_per_s);
        assert!(merged.wire_bytes_per_s < alone.wire_bytes_per_s);
        let own = load(&WorkloadProfile { author_sees_own: true, ..example() }, true);
        near(own.message_deliveries_per_s, 833_333.33);
    }
}
