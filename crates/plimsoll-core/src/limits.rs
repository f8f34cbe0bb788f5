//! Every bound of the server, each with its reason.
//!
//! A queue, map, parser or retry that has no entry here has no bound, which is a fault. What an
//! operator may change is a configuration key whose default stands here; the rest is fixed.

// --- HTTP request heads on the public port -------------------------------------------------

/// Bytes of one request head. Browsers send 0.5–2 KiB, cookies may take it to 6 KiB.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header lines of one request.
pub const HEAD_COUNT_MAX: usize = 64;
/// From accept to a complete request head, and to a complete `connect`, in milliseconds.
pub const HANDSHAKE_MS: u64 = 10_000;
/// How long a connect may wait at the door of a busy node, in milliseconds: less than the five
/// seconds after which clients of the protocol give up.
pub const PARKED_CONNECT_MS: u64 = 4_000;
/// Connects waiting at the door of one worker; each costs a socket and the text that came.
pub const PARKED_CONNECTS_MAX: usize = 4_096;
/// How long clients of the protocol wait for the answer to a command, in milliseconds.
pub const COMMAND_MS: u64 = 5_000;
/// How long a recovery may wait for its turn, in milliseconds: a little less than that.
pub const RECOVERY_WAIT_MS: u64 = 4_500;
/// Recoveries of one worker that wait for their turn; one more is told to ask again.
pub const RECOVERIES_WAITING_MAX: usize = 4_096;
/// Between two looks for recoveries in a full queue whose clients have gone, in milliseconds.
pub const RECOVERIES_LOOK_MS: u64 = 10;
/// Waiting recoveries that are served in one turn when nothing is paced any more.
pub const RECOVERIES_PER_TURN: usize = 32;
/// Body of an HTTP API request, in bytes. A batch of 1,000 publications of 2 KB fits.
pub const API_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Commands in one API batch, and channels in one broadcast.
pub const API_BATCH_MAX: usize = 1_000;
/// API requests being answered at one time; one more is answered 503.
pub const API_IN_FLIGHT_MAX: usize = 1_024;
/// Sockets on their way from the workers to the control runtime; one more is closed.
pub const HANDOFF_QUEUE_MAX: usize = 256;
/// Connections held by the control runtime (API, demo page, admin); one more is closed.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Connections of the admin listener; one more is closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

// --- WebSocket ------------------------------------------------------------------------------

/// Bytes of one message (and so of one frame) from a client. Centrifugo's default.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Frames that make up one message. Tiny fragments cost far more than their bytes.
pub const FRAGMENTS_MAX: usize = 1_024;
/// The shared read buffer of a worker, in bytes; one read never takes more.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a close reason: a control frame carries 125, two of them are the code.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

// --- Commands -------------------------------------------------------------------------------

/// Commands in one WebSocket message. SDKs send `connect` and all subscribes in one frame.
pub const COMMANDS_PER_MESSAGE_MAX: usize = 1_024;
/// Nesting of a JSON payload. Deeper values break naive recursive parsers of subscribers.
pub const JSON_DEPTH_MAX: usize = 64;
/// Bytes of a token. 4 KiB holds an RS512 signature and a hundred channels.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a user id, from a token or the API.
pub const USER_ID_BYTES_MAX: usize = 255;
/// Bytes of connection or channel info in presence, join, leave and publications.
pub const INFO_BYTES_MAX: usize = 4 * 1024;
/// Server-side subscriptions from one token or one connect request.
pub const SERVER_SUBS_MAX: usize = 128;
/// Requests of one connection waiting for a channel's home worker; reading stops above it.
pub const REQUESTS_IN_FLIGHT_MAX: u16 = 256;
/// Errors of one connection (permission, rate) at once before it is disconnected.
pub const ERRORS_AT_ONCE_MAX: u32 = 1_000;
/// Errors of one connection per second that are forgiven.
pub const ERRORS_PER_SECOND: u32 = 1;

// --- Channels -------------------------------------------------------------------------------

/// Bytes of a channel name (default of `channel.max_length`; also the highest value allowed).
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;
/// Subscriptions of one connection (default of `client.channel_limit`).
pub const CHANNELS_PER_CLIENT_MAX: usize = 128;
/// Namespaces in the configuration.
pub const NAMESPACES_MAX: usize = 1_000;
/// Publications a client or the API gets in one history reply (default).
pub const HISTORY_PAGE_MAX: usize = 300;
/// Publications returned by one recovery (default).
pub const RECOVERY_PAGE_MAX: usize = 300;
/// Bytes of payloads in one recovery; more is answered as not recovered. As much as a connection's
/// queue, so that a client is not cut for what it asked for.
pub const RECOVERY_BYTES_MAX: usize = QUEUE_BYTES_MAX;
/// Publications kept in one channel, whatever the configuration says.
pub const HISTORY_SIZE_MAX: usize = 100_000;
/// Channels with state on one home worker (subscribers, presence or history).
pub const CHANNELS_PER_WORKER_MAX: usize = 2_000_000;
/// Default of `history_meta_ttl` (720 h): how long a channel keeps its epoch, in milliseconds.
pub const HISTORY_META_TTL_MS: u64 = 720 * 3_600 * 1_000;
/// How long a stream without any publication is kept after its last use, in milliseconds: names
/// that are only asked about must not fill the map.
pub const EMPTY_STREAM_MS: u64 = 600_000;
/// Entries in one presence reply; above it the reply is error 106 and stats remain.
pub const PRESENCE_ENTRIES_MAX: usize = 20_000;
/// Joins and leaves of a channel that wait to be told; above it only their number is.
pub const PRESENCE_CHANGES_MAX: usize = 512;
/// Entries of a channel whose connection is away and may be back; above it a leave is told at
/// once. As many as one presence reply holds.
pub const PRESENCE_AWAY_MAX: usize = PRESENCE_ENTRIES_MAX;
/// Entries of one user that a new connection may move into, looked at one by one.
pub const PRESENCE_AWAY_TRIED_MAX: usize = 16;
/// Between two tellings of the mere number of members of a channel at least, in milliseconds.
pub const PRESENCE_COUNTS_MS: u64 = 2_000;
/// Between two calls to all subscribers of a channel to ask who is there, in milliseconds.
pub const PRESENCE_RESYNC_MS: u64 = 10_000;
/// Users with a read mark in one channel; one more is error 106.
pub const READERS_PER_CHANNEL_MAX: usize = 10_000;
/// Read marks of all channels of one home worker; one more is error 106.
pub const READ_MARKS_MAX: usize = 1_000_000;
/// Readers of a channel whose marks are told by user; above it only how many have read how far.
pub const READERS_NAMED_MAX: usize = 20;
/// Offsets told then, the highest first.
pub const READ_STEPS_MAX: usize = 10;
/// Highest offset of a read mark: what a number of JavaScript holds exactly.
pub const READ_OFFSET_MAX: u64 = (1 << 53) - 1;
/// Default of `receipts_ttl` (7 days): how long a read mark is kept, in milliseconds.
pub const READ_MARK_TTL_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// Between two looks for expired read marks of a channel, in milliseconds.
pub const READ_MARKS_LOOK_MS: u64 = 60_000;
/// Users of a channel whose typing is remembered for an interval; others wait.
pub const TYPISTS_MAX: usize = 512;
/// Members of a channel up to which its subscribers are called to ask who is there: what they get
/// is the square of it. Above it they are told numbers until it is smaller.
pub const PRESENCE_RESYNC_MEMBERS_MAX: usize = 500;
/// Subscribers of one home worker that are told per second what was kept back under load, when the
/// load is gone: many of them ask something then.
pub const RELEASED_PER_SECOND: u64 = 5_000;
/// Channels with something to tell that are looked at in one turn; the others follow.
pub const DUE_CHANNELS_PER_TURN: usize = 256;
/// Channels listed by one API `channels` call.
pub const CHANNELS_LISTED_MAX: usize = 100_000;

// --- The backbone ---------------------------------------------------------------------------

/// Subscribers of one channel that wait until the node has opened it; one more is error 111.
pub const OPENING_SUBSCRIBES_MAX: usize = 65_536;
/// Deliveries of one channel that wait while something before them is read; beyond it the channel
/// is read again.
pub const EARLY_ARRIVALS_MAX: usize = 1_024;
/// Between two attempts to read what is missing in a channel, in milliseconds.
pub const STALE_RETRY_MS: u64 = 1_000;

/// Channels of one worker of which deliveries were dropped, by name; beyond it all are read again.
pub const MISSED_CHANNELS_MAX: usize = 4_096;
/// Calls of one worker to the backbone that the bridge has not taken.
pub const BACKBONE_CALLS_MAX: usize = 65_536;
/// Publications that wait for the backbone; one more is refused.
pub const BACKBONE_QUEUE_MAX: usize = 65_536;
/// How long a publication waits to be sent, in milliseconds; then it is refused.
pub const BACKBONE_QUEUE_MS: u64 = 500;
/// From a call to the backbone to its answer, in milliseconds: a publisher knows within a second.
pub const BACKBONE_CALL_MS: u64 = 1_000;
/// Publications of one call.
pub const BACKBONE_BATCH_MAX: usize = 256;
/// Calls with publications on their way at one time. More gain nothing: the next batch is larger.
pub const BACKBONE_BATCHES_MAX: usize = 8;
/// Channels opened, or read again, by one call.
pub const BACKBONE_OPENS_MAX: usize = 256;
/// Channels read by one call, so that its answer comes in time.
pub const BACKBONE_READS_PER_CALL: usize = 32;
/// Such calls on their way at one time: a node that comes back must not drown the backbone.
pub const BACKBONE_READS_MAX: usize = 4;
/// Channels that wait to be opened or read; one more is refused.
pub const BACKBONE_OPENS_WAITING_MAX: usize = 1_000_000;
/// Questions of clients (history, presence) to the backbone at one time; one more is error 111.
pub const BACKBONE_QUERIES_MAX: usize = 1_024;
/// Publications read at once to fill a hole; the rest follows.
pub const BACKBONE_PAGE_MAX: usize = 256;
/// Joins and leaves that wait to be noted; beyond it the oldest are left to the next comparison.
pub const PRESENCE_WAITING_MAX: usize = 65_536;
/// How long a member's entry outlives its node, in milliseconds.
pub const PRESENCE_LEASE_MS: u64 = 60_000;
/// Default of `backbone.linger`: how long a channel without subscribers stays subscribed.
pub const BACKBONE_LINGER_MS: u64 = 5_000;
/// Between two signs of life of a node, in milliseconds.
pub const HEARTBEAT_MS: u64 = 2_000;
/// Default of `backbone.node_lease`: silence after which a node is taken for gone, in milliseconds.
pub const NODE_LEASE_MS: u64 = 30_000;
/// Nodes of a cluster.
pub const NODES_MAX: usize = 1_000;
/// Messages of nodes that wait to be read; one more is dropped, and counted.
pub const CONTROL_WAITING_MAX: usize = 4_096;
/// Bytes of a message between nodes.
pub const CONTROL_BYTES_MAX: usize = 512 * 1024;
/// How long the API waits for all nodes, in milliseconds.
pub const SURVEY_MS: u64 = 1_500;

// --- Idempotency ----------------------------------------------------------------------------

/// How long an idempotency key is remembered, in milliseconds (Centrifugo's 5 minutes).
pub const IDEMPOTENCY_MS: u64 = 300_000;
/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// Keys remembered on one home worker; the oldest go first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;

// --- Quotas ---------------------------------------------------------------------------------

/// Parts of the accounts of users, and of those of tenants, each behind a lock of its own.
pub const ACCOUNT_SHARDS: usize = 64;
/// Accounts of one part: a million of each kind. Beyond it newcomers share one.
pub const ACCOUNTS_PER_SHARD_MAX: usize = 16_384;

// --- Outgoing -------------------------------------------------------------------------------

/// Bytes queued for one connection (default of `client.queue_max_size`): above it 3008. What is
/// queued first for a socket that was not full may be longer: one turn's replies.
pub const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes queued for one connection above which what is ephemeral is dropped and states are
/// conflated.
pub const QUEUE_SOFT_BYTES: usize = 64 * 1024;
/// Age of the oldest queued frame with the same effect, in milliseconds.
pub const QUEUE_SOFT_AGE_MS: u64 = 1_000;
/// Age of the oldest queued frame at which a connection has fallen behind: what channels have for
/// it is dropped, and it is told to recover.
pub const QUEUE_HARD_AGE_MS: u64 = 5_000;
/// Age of the oldest queued frame at which the connection is closed (3008), in milliseconds: a
/// client that takes a byte now and then is not alive.
pub const QUEUE_AGE_MS_MAX: u64 = 60_000;
/// Bytes queued for all connections of a node when nothing says how much memory there is.
pub const OUTBOUND_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Between two passes over the longest queues of a worker, in milliseconds.
pub const RELIEF_INTERVAL_MS: u64 = 100;
/// Queues over their soft limit that one pass gives up when all are to: each costs the client a
/// recovery.
pub const CATCH_UP_PER_PASS_MAX: usize = 500;
/// Between two times that a worker gives spare memory back in an emergency, in milliseconds.
pub const GIVE_BACK_INTERVAL_MS: u64 = 1_000;
/// Subscribers of a channel on one worker that make it hot: all hot channels together get at most
/// half of a worker's time, and gather meanwhile.
pub const HOT_SUBSCRIBERS: usize = 2_000;
/// Sockets of a hot channel that are written before others have their turn.
pub const HOT_SLICE: usize = 512;
/// Time after which a slice ends all the same, in microseconds.
pub const HOT_SLICE_US: u64 = 2_000;
/// Sockets between two looks at the clock in a slice.
pub const HOT_STEP: usize = 64;
/// Without any byte taken by a blocked socket for so long, in milliseconds: 3009.
pub const WRITE_STALL_MS: u64 = 5_000;
/// `TCP_NOTSENT_LOWAT`: unsent bytes the kernel takes for one socket before it is "full".
pub const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;
/// How long a closing connection may take to read its close frame, in milliseconds.
pub const CLOSE_LINGER_MS: u64 = 1_000;
/// A connect that was answered by an error is closed after so long, in milliseconds.
pub const FAILED_CONNECT_LINGER_MS: u64 = 5_000;

/// Payloads of so many bytes are compressed when the load asks for it, even where the configuration
/// says longer ones only. Shorter ones do not become smaller.
pub const COMPRESSED_BYTES_MIN: usize = 64;

// --- Worker turns and mailboxes -------------------------------------------------------------

/// Workers of one node.
pub const WORKERS_MAX: usize = 256;
/// Connections of one worker: slab ids are `u32`, descriptors end long before.
pub const CONNECTIONS_PER_WORKER_MAX: usize = 1_000_000;
/// Socket events taken per turn.
pub const EVENTS_PER_TURN: usize = 1_024;
/// Connections accepted per turn and worker; the others wait in the backlog.
pub const ACCEPTS_PER_TURN: usize = 256;
/// Publications handled per turn before the turn's writes; never a few (they gather).
pub const PUBLICATIONS_PER_TURN: usize = 1_024;
/// Bytes gathered for one channel before its buffer is written within a turn.
pub const CHANNEL_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Bytes gathered over all channels and replies before the turn is cut.
pub const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Letters between two workers, or from control to a worker, not yet taken.
pub const MAILBOX_LETTERS_MAX: usize = 65_536;
/// Letters waiting at the sender for a full mailbox; above it publications are refused (111).
pub const MAIL_BACKLOG_MAX: usize = 65_536;
/// Buffers kept for reuse by a worker, so that a burst's memory is given back.
pub const SPARE_BUFFERS_MAX: usize = 64;
/// A spare buffer that grew above this is given back.
pub const SPARE_BUFFER_BYTES_MAX: usize = 256 * 1024;

// --- The load line ------------------------------------------------------------------------------

/// Bytes read of one file of the kernel; the rest is left out, to a whole line. The longest one
/// that is kept (`/proc/net/netstat`) has 6 KB.
pub const KERNEL_FILE_BYTES_MAX: usize = 64 * 1024;
/// Control groups looked at from our own upwards. Kubernetes without a namespace nests five.
pub const CGROUP_LEVELS_MAX: usize = 16;
/// Lines taken of the lists of control groups and of their mounts. Version 1 has about fifteen.
pub const CGROUP_HIERARCHIES_MAX: usize = 64;
/// Alerts that wait for their webhook. There are five a minute at most.
pub const ALERTS_WAITING_MAX: usize = 16;
/// From the look-up of a webhook's name to the head of its answer, in milliseconds.
pub const WEBHOOK_MS: u64 = 5_000;
/// Attempts to hand a notice to a worker whose mailbox is full; after that it is too old.
pub const NOTICE_HAND_OVERS_MAX: usize = 20;
/// Clients told of the load in one step: a notice must not be a load of its own.
pub const NOTICE_STEP_MAX: usize = 256;
/// Between two looks for the longest idle connections of a worker while the load closes some, in
/// milliseconds. Each looks at all of them.
pub const IDLE_SWEEP_MS: u64 = 1_000;
/// Nobody is closed in an emergency who did something within so long, in milliseconds.
pub const EMERGENCY_IDLE_MS: u64 = 30_000;
/// Bytes of an order of the load line; the longest sensible one has 500.
pub const OVERLOAD_BODY_BYTES_MAX: usize = 4 * 1024;
/// Between two ephemeral publications of a client in a channel whose feature has no interval of
/// its own, before the load stretches it, in milliseconds.
pub const EPHEMERAL_INTERVAL_MS: f32 = 250.0;

// --- Logs and metrics -----------------------------------------------------------------------

/// Log lines about connection problems per second and worker; the others are counted.
pub const PROBLEM_LINES_PER_SECOND: u32 = 10;

const _: () = assert!(HEAD_BYTES_MAX <= READ_BUFFER_BYTES);
const _: () = assert!(TOKEN_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(RECOVERY_PAGE_MAX <= HISTORY_SIZE_MAX);
const _: () = assert!(CHANNEL_BUFFER_BYTES_MAX <= TURN_BYTES_MAX);
const _: () = assert!(PUBLICATIONS_PER_TURN <= MAILBOX_LETTERS_MAX);
const _: () = assert!(PARKED_CONNECT_MS < RECOVERY_WAIT_MS && RECOVERY_WAIT_MS < COMMAND_MS);
const _: () = assert!(CLOSE_LINGER_MS < FAILED_CONNECT_LINGER_MS);
