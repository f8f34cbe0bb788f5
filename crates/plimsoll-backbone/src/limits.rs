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

// --- Redis ----------------------------------------------------------------------------------

/// Publications of one call of a script, which stops Redis for about 7 µs for each.
pub const REDIS_SCRIPT_MAX: usize = 32;
/// Bytes of one element on the subscription link; more is left out unread.
pub const REDIS_BULK_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 64;
/// Bytes of one line of the protocol: a number, a status or an error.
pub const REDIS_LINE_BYTES_MAX: usize = 4_096;
/// Elements of one array on the subscription link; the greeting has seven.
pub const REDIS_ELEMENTS_MAX: usize = 1_024;
/// Bytes of one read of the subscription link.
pub const REDIS_READ_BYTES: usize = 256 * 1_024;
/// Subscribe commands that wait for their confirmation: 4,096 confirmations are some 400 KiB, far
/// below what Redis lets wait in a subscriber's output buffer (8 MiB).
pub const REDIS_SUBSCRIBES_IN_FLIGHT: usize = 8;
/// Channels that wait to be subscribed or unsubscribed on one link. Above it a subscription is
/// refused, and a link that is too slow for so many unsubscriptions is made anew.
pub const REDIS_SUBSCRIBE_QUEUE_MAX: usize = 1_000_000;
/// Partitions: more than there are slots would share them.
pub const REDIS_PARTITIONS_MAX: usize = 4_096;
/// Bytes of a user id in a presence entry: its length has four hexadecimal digits.
pub const REDIS_USER_BYTES_MAX: usize = 65_535;
/// Channels of one call of a presence script.
pub const REDIS_PRESENCE_MAX: usize = 256;
/// Calls of `probe` that wait.
pub const REDIS_PROBES_MAX: usize = 1_024;
/// Between two looks at a Redis Cluster in which nothing seems wrong, in milliseconds.
pub const REDIS_CLUSTER_LOOK_MS: u64 = 30_000;
/// Nodes of a Redis Cluster, replicas included: its own advice is 1,000.
pub const REDIS_CLUSTER_NODES_MAX: usize = 2_000;

// --- memory ---------------------------------------------------------------------------------

/// Events that wait for a stalled node of the memory broker: more is a gap.
pub const MEMORY_STALLED_MAX: usize = 100_000;
/// Channels of the memory broker.
pub const MEMORY_CHANNELS_MAX: usize = 1_000_000;
/// Idempotency keys of one channel of the memory broker.
pub const MEMORY_KEYS_MAX: usize = 100_000;
/// Between two looks for channels of the memory broker that nobody uses, in milliseconds.
pub const MEMORY_SWEEP_MS: u64 = 60_000;
/// Bytes of one part of an answer about who is present, where nodes are asked.
pub const PRESENCE_PART_BYTES: usize = 256 * 1024;
/// Streams of JetStream that one cluster makes: one for each way of keeping histories.
pub const STREAMS_MAX: usize = 16;
/// Between two looks whether a stream is still the one it was, in milliseconds.
pub const STREAM_LOOK_MS: u64 = 500;
/// Attempts to read a history that changes under the reader.
pub const READ_ATTEMPTS: usize = 4;
/// Messages of one subscription that wait to be read; beyond it the client library drops, and we
/// report a gap.
pub const SUBSCRIPTION_MESSAGES_MAX: usize = 4_096;
/// How long a new stream may take until it takes publications, in milliseconds: servers of a
/// cluster have to choose a leader.
pub const STREAM_READY_MS: u64 = 5_000;
/// How long servers of one cluster are given to tell each other of a subscription, in milliseconds.
pub const INTEREST_MS: u64 = 100;
