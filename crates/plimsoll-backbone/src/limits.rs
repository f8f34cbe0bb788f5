//! Every bound of the way to the broker, each with its reason.

/// Bytes of an envelope. A client's message has 64 KiB; a body of the API up to 2 MiB is refused
/// where the broker takes less (NATS: 1 MiB).
pub const ENVELOPE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one field of an envelope beside the payload.
pub const FIELD_BYTES_MAX: usize = 8 * 1024;
/// Fields of one envelope. Known ones are eight.
pub const FIELDS_MAX: usize = 32;
/// Publications of one round trip.
pub const BATCH_MAX: usize = 256;
/// Calls of one link that wait for an answer; one more is `Busy`.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// Channels of one subscribe or unsubscribe command.
pub const SUBSCRIBE_BATCH_MAX: usize = 512;
/// From a call to its answer, in milliseconds: a publisher is told within a second.
pub const CALL_MS: u64 = 900;
/// From a subscribe to its confirmation, in milliseconds.
pub const SUBSCRIBE_MS: u64 = 3_000;
/// First pause before a link is made anew, in milliseconds; it doubles, with jitter.
pub const RECONNECT_MS_MIN: u64 = 50;
/// Longest pause, in milliseconds.
pub const RECONNECT_MS_MAX: u64 = 2_000;
/// From a connect to its end, TLS and greeting included, in milliseconds.
pub const CONNECT_MS: u64 = 3_000;
/// How long an idempotency key is remembered, in milliseconds.
pub const IDEMPOTENCY_MS: u64 = plimsoll_core::limits::IDEMPOTENCY_MS;
/// How long a channel without publications keeps its epoch, in milliseconds.
pub const EMPTY_STREAM_MS: u64 = plimsoll_core::limits::EMPTY_STREAM_MS;
