//! The keys of `[capacity]` and `[overload]`: a part of the table.

use super::Config;
use super::key::{Key, Kind, Number};
use super::table::{CONNECTIONS_TOP, SECOND, key};
use super::units::DECIMAL_ONE;
use plimsoll_overload::score::Score;

/// Memory no machine has; only keeps out nonsense.
const MEMORY_TOP: u64 = 1 << 50;
/// Connects no node takes; only keeps out nonsense.
const CONNECTS_TOP: u64 = 1_000_000;
/// A price no node has; only keeps out nonsense.
const COST_PER_HOUR_TOP: u64 = 1_000_000 * DECIMAL_ONE;
/// Users that no service has for each that is there at one time.
const USERS_PER_CONCURRENT_TOP: u64 = 100_000 * DECIMAL_ONE;
/// The largest score a level may begin at; pressures are cut above it.
const SCORE_TOP: u64 = 3 * DECIMAL_ONE / 2;
/// Megabits per second that no network card has; only keeps out nonsense.
const MBIT_TOP: u64 = 10_000_000;
/// Messages per second that no node has; only keeps out nonsense.
const PER_SECOND_TOP: u64 = 1_000_000_000;

/// After the other keys with one place.
#[rustfmt::skip]
pub(super) static LOAD_KEYS: &[Key<Config>] = &[
    key("capacity.file", Kind::Text(|c| &mut c.capacity.file),
        "The `capacity.json` that `plimsoll bench capacity` wrote for this machine, from the \
         directory the server starts in; empty = none, and only the machine's limits are known."),
    key("capacity.allow_mismatch", Kind::Bool(|c| &mut c.capacity.allow_mismatch),
        "Start with a file of another version, processor, number of cores or workers, or size of \
         memory. Its figures may then be wrong."),
    key("capacity.connections",
        Kind::Count(0, CONNECTIONS_TOP, Number::U64(|c| &mut c.capacity.connections)),
        "Connections this node is rated for, where no `capacity.file` says it; 0 = not known. For \
         the load line and for headroom, as the next three."),
    key("capacity.publishes_per_second",
        Kind::Count(0, PER_SECOND_TOP, Number::U64(|c| &mut c.capacity.publishes_per_second)),
        "Publications accepted per second, likewise. For headroom alone."),
    key("capacity.deliveries_per_second",
        Kind::Count(0, PER_SECOND_TOP, Number::U64(|c| &mut c.capacity.deliveries_per_second)),
        "Deliveries per second, likewise. For headroom alone."),
    key("capacity.egress_mbit_per_second",
        Kind::Count(0, MBIT_TOP, Number::U64(|c| &mut c.capacity.egress_mbit_per_second)),
        "Megabits per second written to clients, likewise."),
    key("capacity.cost_per_hour",
        Kind::Decimal(0, COST_PER_HOUR_TOP, |c| &mut c.capacity.cost_per_hour_millionths),
        "What this node costs in an hour, in your currency, with its share of broker, balancer \
         and traffic. For the live costs; 0 = not known."),
    key("capacity.monthly_users_per_concurrent",
        Kind::Decimal(0, USERS_PER_CONCURRENT_TOP,
            |c| &mut c.capacity.monthly_users_per_concurrent_millionths),
        "Monthly active users for each connection (mean of the month). For the live cost of one; \
         0 = not known."),
    key("overload.enabled", Kind::Bool(|c| &mut c.overload.enabled),
        "Give way under load. Off = the load is measured and reported, and nothing is given up."),
    key("overload.score", Kind::Choice {
            names: &["max", "weighted"],
            set: |c, at| c.overload.score = match at {
                1 => Score::Weighted,
                _ => Score::Max,
            },
            get: |c| c.overload.score as usize,
        },
        "`max` = the scarcest resource decides. `weighted` = a mean of processor, memory, \
         connections and queues, for comparison: it does not see a single exhausted resource."),
    key("overload.memory_limit",
        Kind::Size(0, MEMORY_TOP, |c| &mut c.overload.memory_limit_bytes),
        "Memory this node may take; 0 = the limit of its control group, else the machine's memory. \
         The smallest of them counts."),
    key("overload.outbound_budget",
        Kind::Size(0, MEMORY_TOP, |c| &mut c.overload.outbound_budget_bytes),
        "Bytes that the queues to all clients may hold together; 0 = a fifth of the memory limit."),
    key("overload.accepts_per_second",
        Kind::Count(0, CONNECTS_TOP, Number::U64(|c| &mut c.overload.accepts_per_second)),
        "Connects let in per second while nothing is short; 0 = the rated ones of `capacity.file`, \
         else 20000 for each worker."),
    key("overload.accepts_per_second_min",
        Kind::Count(1, CONNECTS_TOP, Number::U64(|c| &mut c.overload.accepts_per_second_min)),
        "Connects let in per second however short things are."),
    key("overload.alert_webhook", Kind::Text(|c| &mut c.overload.alert_webhook),
        "URL (`http://`) that gets a POST of JSON when the level changes, at most five a minute; \
         empty = none."),
    key("overload.warning.enter",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[0].enter_millionths),
        "Score from which Warning is entered (1 = rated load). Above that of the level before."),
    key("overload.warning.leave",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[0].leave_millionths),
        "Score below which Warning may be left, at least 0.05 below `enter`."),
    key("overload.warning.dwell",
        Kind::Duration(0, 50 * SECOND, |c| &mut c.overload.levels[0].dwell_ms),
        "How long the score must have stayed below `leave`."),
    key("overload.degraded.enter",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[1].enter_millionths),
        "Score from which Degraded is entered (1 = rated load). Above that of the level before."),
    key("overload.degraded.leave",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[1].leave_millionths),
        "Score below which Degraded may be left, at least 0.05 below `enter`."),
    key("overload.degraded.dwell",
        Kind::Duration(0, 50 * SECOND, |c| &mut c.overload.levels[1].dwell_ms),
        "How long the score must have stayed below `leave`."),
    key("overload.critical.enter",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[2].enter_millionths),
        "Score from which Critical is entered (1 = rated load). Above that of the level before."),
    key("overload.critical.leave",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[2].leave_millionths),
        "Score below which Critical may be left, at least 0.05 below `enter`."),
    key("overload.critical.dwell",
        Kind::Duration(0, 50 * SECOND, |c| &mut c.overload.levels[2].dwell_ms),
        "How long the score must have stayed below `leave`."),
    key("overload.emergency.enter",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[3].enter_millionths),
        "Score from which Emergency is entered (1 = rated load). Above that of the level before."),
    key("overload.emergency.leave",
        Kind::Decimal(1, SCORE_TOP, |c| &mut c.overload.levels[3].leave_millionths),
        "Score below which Emergency may be left, at least 0.05 below `enter`."),
    key("overload.emergency.dwell",
        Kind::Duration(0, 50 * SECOND, |c| &mut c.overload.levels[3].dwell_ms),
        "How long the score must have stayed below `leave`."),
];
