//! Bounds of this crate, each with its reason.

/// Subscriptions of one connection of our own server: the most its configuration allows.
pub const CHANNELS_PER_CLIENT_MAX: u32 = 65_535;
/// Bytes of the log of our own server that are read to tell why it failed.
pub const SERVER_LOG_BYTES_MAX: u64 = 1 << 20;
/// Clients of a run: what 16 processes carry at 20,000 descriptors each, with room.
pub const CLIENTS_MAX: u32 = 300_000;
/// Rooms of one client: more make no server slower that does not suffer at 256.
pub const ROOMS_PER_USER_MAX: u32 = 256;
/// Channels or subscriptions of a run: 4 bytes for each, and a log entry when it is subscribed.
pub const SUBSCRIPTIONS_MAX: u64 = 20_000_000;
/// Publications per second of a run, the peak included: beyond what a node of this design takes.
pub const RATE_PER_S_MAX: f64 = 5_000_000.0;
/// Connections cut per second, and subscriptions made anew: a machine has that many ports.
pub const CUTS_PER_S_MAX: f64 = 20_000.0;
/// Connects per second that can be asked for.
pub const CONNECTS_PER_S_MAX: f64 = 100_000.0;
/// Seconds of a run: a day.
pub const DURATION_S_MAX: f64 = 86_400.0;
/// Bytes of a payload: its stamp has to fit.
pub const PAYLOAD_BYTES_MIN: u32 = 64;
/// Bytes of a payload: servers take 64 KiB in one message, envelope included.
pub const PAYLOAD_BYTES_MAX: u32 = 60_000;
/// Bytes of a workload file: a page of text.
pub const WORKLOAD_BYTES_MAX: u64 = 1 << 20;

/// Nodes of a cluster under load: more find no room on the machine of a generator.
pub const NODES_MAX: usize = 64;
/// Publications in one call of an adapter: what the server gathers at most.
pub const BATCH_MAX: usize = 256;
/// Tries to find a free port among 10,000.
pub const PORT_TRIES_MAX: usize = 64;
/// Connections through one proxy: each has two threads.
pub const PROXY_CONNECTIONS_MAX: usize = 2_048;
/// Bytes that a proxy holds of one direction of a connection.
pub const PROXY_BUFFER_BYTES: usize = 16 << 10;

// --- The fleet -------------------------------------------------------------------------------

/// Threads of a fleet in one process: more than this finds no cores.
pub const FLEET_THREADS_MAX: usize = 256;
/// Processes of a fleet: each takes at least some of a core.
pub const FLEET_PROCESSES_MAX: usize = 64;
/// Reasons of failures that processes tell each other of; there are some twenty.
pub const REASONS_MAX: usize = 64;
/// Longest time a histogram tells apart, in microseconds: one hour. A run does not wait longer.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Significant digits of a histogram: 0.1 %, far finer than what a machine repeats.
pub const LATENCY_DIGITS: u8 = 3;
/// Orders to a thread of the fleet that it has not read yet; one more waits.
pub const FLEET_ORDERS_MAX: usize = 64;
/// How long a reading of the counters waits for the threads, in milliseconds. A thread that does
/// not answer in time is told of with its last figures.
pub const REPORT_MS_MAX: u64 = 200;
/// Time between two looks at the counters while something is waited for, in milliseconds.
pub const LOOK_MS: u64 = 20;

// --- The ledger ------------------------------------------------------------------------------

/// Bytes of a log's records for one thread; then it says that it is full, and the run is void.
/// At 20 bytes a delivery that is 26 million of them.
pub const LOG_BYTES_MAX: usize = 1 << 30;
/// Bytes of one piece of a log, which is also what a file's reader takes at one time.
pub const LOG_CHUNK_BYTES: usize = 256 << 10;
/// Bytes of the longest record: a few numbers of ten bytes at most.
pub const LOG_RECORD_BYTES_MAX: usize = 96;
/// Channels whose last publication a log remembers, so that its next copy takes few bytes.
pub const LOG_SLOTS: usize = 1 << 14;
/// Names (epochs, channels of strays) in one log: a server that invents more fills it.
pub const LOG_NAMES_MAX: usize = 1 << 18;
/// Bytes of a name; longer ones are cut. Channel names have 255 at most.
pub const LOG_NAME_BYTES_MAX: usize = 1 << 10;
/// Bytes of a server's metrics: ours take 10 KiB.
pub const METRICS_BYTES_MAX: u64 = 4 << 20;
/// Samples of a server's metrics: ours are some hundred.
pub const METRICS_SAMPLES_MAX: usize = 20_000;
/// Logs in a stored ledger: one for each thread of each process.
pub const LEDGER_LOGS_MAX: usize = 4_096;
/// Bytes of a stored ledger that are read: sixteen full logs.
pub const LEDGER_BYTES_MAX: u64 = 8 << 30;
/// Violations that a verdict describes; the others are only counted.
pub const VIOLATIONS_MAX: usize = 21;
/// Subscriptions without history whose missing publications are looked for by name.
pub const SEARCHES_MAX: usize = 64;
/// Worker threads of a server of our own, as its configuration has it.
pub const WORKERS_MAX: usize = 256;
/// Milliseconds over which clients come back evenly: a day.
pub const PACED_MS_MAX: u32 = 86_400_000;
/// Deliveries per second that can be asked for: 100 nodes of today.
pub const DELIVERIES_PER_S_MAX: f64 = 1e9;
/// Events that one look at the sockets brings: a fan-out to a large room in one go.
pub const FLEET_EVENTS_MAX: usize = 1_024;
/// Sockets that are read between two looks at the clock for what is due.
pub const FLEET_READS_PER_LOOK: usize = 64;
/// The read buffer of a thread, in bytes; one read never takes more.
pub const FLEET_READ_BYTES: usize = 256 * 1024;
/// Bytes of one message from a server: a long recovery in one reply.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Frames that make up one message from a server.
pub const FRAGMENTS_MAX: usize = 1_024;
/// Bytes of the response to an upgrade.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes that a client holds back for a server that does not read; more ends the connection.
pub const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Commands of one client without an answer; what is due above it is not sent.
pub const WAITS_MAX: usize = 65_536;
/// Bytes of a message of several commands, below the usual limit of servers (64 KiB).
pub const COMMANDS_BYTES_MAX: usize = 32 * 1024;
/// Commands in one message; our own server takes 1,024.
pub const COMMANDS_MAX: usize = 512;
/// Things of one kind that a thread does in one turn, so that it reads in between.
pub const PER_TURN_MAX: usize = 256;
/// Handshakes under way at one time, if nothing is said.
pub const HANDSHAKES: u32 = 256;
/// Time for a connection to be made and upgraded, in milliseconds: as browsers, about.
pub const UPGRADE_MS: u32 = 20_000;
/// Time for the server to answer a close frame, in milliseconds.
pub const CLOSE_MS: u32 = 2_000;
/// Time between two looks for connections that take too long, in milliseconds.
pub const SWEEP_MS: u32 = 250;
/// Later than this after its time, a server's ping is missed, in milliseconds: as centrifuge-js.
pub const PING_DELAY_MS: u32 = 10_000;
/// Names of epochs that a thread remembers; positions of further ones are not.
pub const EPOCHS_MAX: usize = 1 << 20;
/// Tries to find a random client or channel that can do what is due.
pub const TRIES_MAX: usize = 16;
/// Publications of one message that are remembered, to know the message again.
pub const SEEN_MAX: usize = 256;
/// Subscriptions that are named when a last publication did not reach them.
pub const EXAMPLES_MAX: usize = 20;
/// Publications of one page of a history: what servers give by default.
pub const HISTORY_PAGE: u32 = 300;
/// Pages of one history: 100,000 publications, the most that a server keeps.
pub const HISTORY_PAGES_MAX: u32 = 334;
/// Publications of all histories: 40 bytes each.
pub const HISTORY_PUBLICATIONS_MAX: usize = 20_000_000;
/// Bytes of a page: [`HISTORY_PAGE`] publications of [`PAYLOAD_BYTES_MAX`].
pub const HISTORY_MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Bytes of the answer to an upgrade: ours takes 130.
pub const ANSWER_HEAD_BYTES_MAX: usize = 16 << 10;

/// Readers of `bench slow` that never read: each has a descriptor and a buffer here.
pub const BAD_READERS_MAX: u64 = 5_000;
/// Bytes that our own server queues for one client at most (`client.queue_max_size`).
pub const SERVER_QUEUE_BYTES: u64 = 1 << 20;
