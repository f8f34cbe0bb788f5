//! Every bound and every constant of judgement of this crate, each with its reason.

/// How often the caller is expected to sample, in milliseconds. At 10,000 connects/s this is 2,500
/// connections between two looks; five seconds would be 50,000.
pub const SAMPLE_INTERVAL_MS: u64 = 250;

/// A pressure is cut here before it is smoothed: everything has reached its full strength at 1.0,
/// and what lies above only makes the tail after the load longer.
pub const PRESSURE_MAX: f64 = 1.5;

/// A resource whose signal is missing keeps its last pressure for so long, then it is unknown. A
/// file that could not be read once is no reason to give way.
pub const MISSING_HELD_MS: u64 = 5_000;

/// A gap between two samples longer than this proves nothing about the time in between: the quiet
/// time of the level machine starts anew.
pub const SAMPLE_GAP_MS_MAX: u64 = 2_000;

/// Pressure of the descriptors above which one sample is enough to rise.
pub const DESCRIPTORS_URGENT: f64 = 0.98;

/// Descriptors kept back for the admin listener, the backbone and files: 1 %, at least this many,
/// and never more than a quarter (a limit of 256 must still let clients in).
pub const DESCRIPTORS_RESERVED_MIN: f64 = 512.0;

/// Pressure of a `memory.events` `high`: over the enter threshold of Degraded by so much that the
/// slow fall of memory pressure keeps it there for two samples.
pub const MEMORY_HIGH_PRESSURE: f64 = 0.90;

/// Pressure of a `memory.events` `max` or `oom`: Emergency.
pub const MEMORY_MAX_PRESSURE: f64 = 1.05;

/// Memory stall in percent that counts as 0.85, the enter threshold of Degraded.
pub const MEMORY_STALL_DEGRADED_PERCENT: f64 = 10.0;

/// Share of throttled periods that counts as 0.70, the enter threshold of Warning.
pub const THROTTLED_WARNING_RATIO: f64 = 0.01;

/// Share of throttled periods that counts as much as throttling ever does: every fifth ended early.
pub const THROTTLED_FULL_RATIO: f64 = 0.20;

/// Highest pressure of throttling, a Warning: bursts hit a quota while much of it is left over. A
/// node that has none left is seen by its use.
pub const THROTTLED_PRESSURE_MAX: f64 = 0.84;

/// CPU stall in percent that counts as much as stall ever does.
pub const CPU_STALL_FULL_PERCENT: f64 = 50.0;

/// Stall of the CPU only corroborates: it may widen batching, never change the level by itself.
pub const CPU_STALL_PRESSURE_MAX: f64 = 0.69;

/// The age of queued frames counts at most as Warning. A reader that does not read is old for a
/// reason of its own and is cut by its own limits; the bytes it holds are what the node feels.
pub const OUTBOUND_AGE_PRESSURE_MAX: f64 = 0.84;

/// Handshakes count at most as Degraded, where those who come back go first. Closing the door for
/// their sake would keep those waiting who wait, and clients that only hold sockets must not be
/// able to do that.
pub const ACCEPT_PRESSURE_MAX: f64 = 0.94;

/// A backbone that is slow or gone makes the node Degraded and no more: sockets must not be turned
/// away for it.
pub const BACKBONE_PRESSURE_MAX: f64 = 0.94;

/// Pressure of a backbone whose breaker is open: at least Degraded.
pub const BACKBONE_OPEN_PRESSURE: f64 = 0.90;

/// Pressure of a backbone that is being probed.
pub const BACKBONE_PROBING_PRESSURE: f64 = 0.75;

/// Largest share of shed work that is believed; above, demand would be divided by nearly nothing.
pub const SHED_RATIO_MAX: f64 = 0.9;

/// Time constant of the shed ratio, in seconds.
pub const SHED_SMOOTHING_S: f64 = 2.0;

/// Rows of a history page when nothing is wrong.
pub const HISTORY_ROWS_MAX: u32 = 300;

/// Widest batching window an action asks for, in milliseconds (a tier's own cap still holds).
pub const BATCHING_WINDOW_MS_MAX: u32 = 100;

/// Outbound queues one worker sheds in one pass: each costs the client a recovery.
pub const SHED_QUEUES_PER_PASS_MAX: u32 = 50;

/// Outbound queues are shed from half of this size downwards, in powers of two. It is the hard
/// limit of one connection's queue.
pub const SHED_QUEUE_BYTES: u32 = 512 * 1024;

/// Shortest time after which an idle connection may be closed, whatever a tier says.
pub const IDLE_TIMEOUT_MS_MIN: u64 = 2_000;

/// An override without an expiry would be forgotten: half an hour unless said otherwise.
pub const OVERRIDE_TTL_MS_DEFAULT: u64 = 30 * 60 * 1_000;

/// Longest life of an override.
pub const OVERRIDE_TTL_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Bytes of an override's reason: it goes into a log line.
pub const REASON_BYTES_MAX: usize = 200;

/// Bytes of an override's author.
pub const AUTHOR_BYTES_MAX: usize = 100;

/// Most parked handshakes a queue may be made for, whatever the configuration says.
pub const PARKED_MAX: usize = 65_536;

/// Longest time a handshake may be parked: clients of the Pusher protocol wait 15 s.
pub const PARKED_MS_MAX: u64 = 14_000;

/// Most handshakes one poll lets in. The caller polls again at once if there were so many.
pub const ADMITTED_PER_POLL_MAX: usize = 1_024;

/// While somebody is parked, tokens are looked for at least this often, in milliseconds.
pub const PARKED_POLL_MS: u64 = 50;

/// Size of each admission bucket in seconds of its rate: what may come in at once after a pause.
pub const ADMISSION_BURST_S: f64 = 0.5;

/// Share of its connections a node may close per second for being idle.
pub const IDLE_CLOSES_RATIO_PER_S: f64 = 0.01;

/// Time between two emergency steps, in milliseconds: one must show its effect before the next.
pub const EMERGENCY_STEP_MS: u64 = 2_000;

/// A level must differ from what clients were told for so long before they are told.
pub const NOTICE_DEBOUNCE_MS: u64 = 5_000;

/// Shortest and longest time over which a notice is spread.
pub const NOTICE_SPREAD_MS_MIN: u64 = 5_000;
/// See [`NOTICE_SPREAD_MS_MIN`].
pub const NOTICE_SPREAD_MS_MAX: u64 = 10_000;

/// Connections for which the spread of a notice is at its longest.
pub const NOTICE_SPREAD_CONNECTIONS: f64 = 100_000.0;

/// Time between two alert events, except for a level higher than those told.
pub const ALERT_INTERVAL_MS: u64 = 60_000;

/// Attempts of one call, the first included. Retry at one layer only.
pub const ATTEMPTS_MAX: u32 = 3;

/// Slots of a breaker's window: old calls leave it in tenths.
pub const BREAKER_SLOTS: usize = 10;

/// Share of a worker's time that paced recoveries may take.
pub const RECOVERY_TIME_RATIO: f64 = 0.25;

/// Time of recoveries that may be spent at once after a pause, in microseconds.
pub const RECOVERY_BURST_US: f64 = 20_000.0;

/// What a recovery is taken to cost before one was measured, in microseconds.
pub const RECOVERY_COST_US: f64 = 200.0;

/// What one is taken to cost at most, in microseconds.
pub const RECOVERY_COST_US_MAX: f64 = 100_000.0;

/// Weight of the last one in the average of their cost.
pub const RECOVERY_COST_WEIGHT: f64 = 1.0 / 16.0;

/// Longest time that is paid for later, in microseconds.
pub const RECOVERY_DEBT_US_MAX: f64 = 250_000.0;

/// Interval in which the storm detector counts connects, in milliseconds.
pub const STORM_INTERVAL_MS: u64 = 2_000;

/// Intervals whose median is the usual: ten minutes.
pub const STORM_INTERVALS_MAX: usize = 300;

/// Intervals before which nothing is usual: after a start everybody is new here.
pub const STORM_INTERVALS_MIN: usize = 60;

/// Intervals that are held against the usual.
pub const STORM_INTERVALS_RECENT: usize = 2;

/// A storm has so many times the usual connects.
pub const STORM_FACTOR: f64 = 3.0;

/// Intervals of the minute before, and how many times more than in it there must be: a storm is
/// sudden.
pub const STORM_INTERVALS_MINUTE: usize = 30;
/// See [`STORM_INTERVALS_MINUTE`].
pub const STORM_JUMP: f64 = 1.5;

/// And more than this share of them come back.
pub const STORM_BACK_RATIO: f64 = 0.5;

/// Fewer connects per second are no storm, however quiet it was.
pub const STORM_CONNECTS_PER_S_MIN: f64 = 20.0;

/// It is over when it has been calm for so long, in milliseconds.
pub const STORM_CALM_MS: u64 = 10_000;

/// What lasts longer is how it is now, in milliseconds.
pub const STORM_MS_MAX: u64 = 600_000;
