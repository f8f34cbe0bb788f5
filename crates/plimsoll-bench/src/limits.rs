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

// --- The fleet -------------------------------------------------------------------------------

/// Threads of a fleet in one process: more than this finds no cores.
pub const FLEET_THREADS_MAX: usize = 256;
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
pub const LOG_BYTES_MAX: usize = 512 << 20;
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
