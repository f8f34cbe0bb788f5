//! What a plan is made for: the workload, and (when nothing was measured) a server by its figures.
//!
//! The names are those of the flags of `plimsoll plan` (in kebab-case there) and of the keys of a
//! workload file (TOML, table `[workload]`), which `plimsoll bench run` reads as well.

use serde::{Deserialize, Serialize};

/// Whether `concurrent_users` is the peak or the mean of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsersAre {
    /// Connections at the day's peak. `peak_multiplier` multiplies what each user does, not how
    /// many there are.
    #[default]
    Peak,
    /// Connections on average; `peak_multiplier` multiplies users and so everything else.
    Mean,
}

/// How the sizes of rooms are spread around `avg_users_per_room`.
///
/// A message reaches those of its author's room, and large rooms have more authors: what counts is
/// the size that a random *member* sees, E\[n²\]/E\[n\], not the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomSizes {
    /// All rooms have the same size.
    #[default]
    Equal,
    /// Sizes fall exponentially: many small rooms, few large ones.
    Exponential,
    /// Sizes fall by a power law with this exponent (1.5 to 4): a few huge rooms.
    PowerLaw(f64),
}

/// What becomes of read receipts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipts {
    /// There are none.
    #[default]
    Off,
    /// Every reader's receipt goes to the whole room: quadratic in the size of a room.
    Broadcast,
    /// Every reader's receipt goes to the author only.
    Author,
    /// One watermark for each room and second goes to the room.
    Watermark,
}

/// A workload. Rates are those of an average minute; `peak_multiplier` makes the peak of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadProfile {
    /// Connections at one time; see `concurrent_users_are`.
    pub concurrent_users: u64,
    /// Rooms (channels) each user is subscribed to.
    pub avg_rooms_per_user: f64,
    /// Subscribers of an average room.
    pub avg_users_per_room: f64,
    /// Messages each user publishes, per minute.
    pub msgs_per_user_per_minute: f64,
    /// Bytes of a message's payload.
    pub avg_message_bytes: f64,
    /// Peak over average, 1 to 100; usual values are 2 to 5.
    #[serde(default = "two")]
    pub peak_multiplier: f64,
    /// Hours of a day at peak, 0 to 24.
    #[serde(default = "four")]
    pub daily_peak_duration_hours: f64,
    /// What `concurrent_users` means.
    #[serde(default)]
    pub concurrent_users_are: UsersAre,
    /// How room sizes are spread.
    #[serde(default)]
    pub room_sizes: RoomSizes,
    /// Typing events for each message, after the client's own throttling.
    #[serde(default)]
    pub typing_per_message: f64,
    /// Read receipts.
    #[serde(default)]
    pub receipts: Receipts,
    /// Whether joins and leaves are pushed to the members of a room.
    #[serde(default)]
    pub join_leave: bool,
    /// Mean length of a session in minutes; 0 = nobody comes or goes.
    #[serde(default)]
    pub session_minutes: f64,
    /// Seconds between two pings of the server; 0 = none.
    #[serde(default = "twenty_five")]
    pub ping_interval_seconds: f64,
    /// Messages to one client that are merged into one frame; 1 = none.
    #[serde(default = "one")]
    pub deliveries_per_frame: f64,
    /// Whether an author gets a copy of what it publishes. A server of the Centrifugo protocol
    /// sends one if the author is subscribed; many models of fan-out leave it out.
    #[serde(default)]
    pub author_sees_own: bool,
    /// Whether TLS is ended at the node (22 bytes for each record).
    #[serde(default)]
    pub tls: bool,
    /// Monthly active users for each concurrent one (mean of the month), for the cost of one.
    #[serde(default = "twenty")]
    pub monthly_users_per_concurrent: f64,
}

const fn one() -> f64 {
    1.0
}
const fn two() -> f64 {
    2.0
}
const fn four() -> f64 {
    4.0
}
const fn twenty() -> f64 {
    20.0
}
const fn twenty_five() -> f64 {
    25.0
}

impl Default for WorkloadProfile {
    /// The worked example: a million users, two rooms of fifty, a message of 200 bytes a minute.
    fn default() -> Self {
        Self {
            concurrent_users: 1_000_000,
            avg_rooms_per_user: 2.0,
            avg_users_per_room: 50.0,
            msgs_per_user_per_minute: 1.0,
            avg_message_bytes: 200.0,
            peak_multiplier: two(),
            daily_peak_duration_hours: four(),
            concurrent_users_are: UsersAre::Peak,
            room_sizes: RoomSizes::Equal,
            typing_per_message: 0.0,
            receipts: Receipts::Off,
            join_leave: false,
            session_minutes: 0.0,
            ping_interval_seconds: twenty_five(),
            deliveries_per_frame: one(),
            author_sees_own: false,
            tls: false,
            monthly_users_per_concurrent: twenty(),
        }
    }
}

/// A server by its figures, for planning without a measured `capacity.json`. What is not given is
/// not planned for, and the plan says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerCapacity {
    /// Connections.
    pub max_connections: Option<f64>,
    /// Publications accepted per second.
    pub max_msgs_per_second_in: Option<f64>,
    /// Deliveries (socket writes) per second.
    pub max_msgs_per_second_out: Option<f64>,
    /// Megabits per second to clients, with everything down to the IP header.
    pub max_bandwidth_mbps: Option<f64>,
    /// New connections per second, each connected and subscribed.
    pub max_connects_per_second: Option<f64>,
    /// Price of one node per hour, in the currency of the prices.
    pub cost_per_hour: Option<f64>,
}

impl ServerCapacity {
    /// The worked example's server.
    pub const fn example() -> Self {
        Self {
            max_connections: Some(100_000.0),
            max_msgs_per_second_in: Some(10_000.0),
            max_msgs_per_second_out: Some(50_000.0),
            max_bandwidth_mbps: Some(1_000.0),
            max_connects_per_second: None,
            cost_per_hour: Some(0.5),
        }
    }

    /// Whether it says what a node carries in any respect (a price alone does not).
    pub fn says_anything(&self) -> bool {
        Self { cost_per_hour: None, ..*self } != Self::default()
    }

    /// Whether every figure is in range; all that are not.
    pub fn check(&self) -> Result<(), InputErrors> {
        let mut found = InputErrors::default();
        let mut limit = |field, value: Option<f64>| {
            if let Some(value) = value {
                found.within(field, value, CAPACITY_MIN, CAPACITY_MAX);
            }
        };
        limit("max_connections", self.max_connections);
        limit("max_msgs_per_second_in", self.max_msgs_per_second_in);
        limit("max_msgs_per_second_out", self.max_msgs_per_second_out);
        limit("max_bandwidth_mbps", self.max_bandwidth_mbps);
        limit("max_connects_per_second", self.max_connects_per_second);
        if let Some(cost) = self.cost_per_hour {
            found.within("cost_per_hour", cost, 0.0, PRICE_MAX);
        }
        found.none()
    }
}

/// Most users of a plan: more than there are people.
pub const USERS_MAX: u64 = 10_000_000_000;
/// Least of a node's capacity, so that nothing is divided by nearly nothing.
const CAPACITY_MIN: f64 = 1e-3;
/// Most of a node's capacity: no machine of this century, and no overflow.
const CAPACITY_MAX: f64 = 1e12;
/// Most that anything may cost per hour or gigabyte: a mistyped price is found.
pub(crate) const PRICE_MAX: f64 = 1e6;
/// Most rooms of a user.
const ROOMS_MAX: f64 = 100_000.0;
/// Most messages of a user and minute: a thousand a second.
const MESSAGES_MAX: f64 = 60_000.0;
/// Largest payload: what a server would ever take in one message.
const MESSAGE_BYTES_MAX: f64 = 16_777_216.0;
/// Minutes of a year.
const SESSION_MINUTES_MAX: f64 = 525_600.0;
/// Seconds of a day.
const PING_SECONDS_MAX: f64 = 86_400.0;

impl WorkloadProfile {
    /// Whether every value is in range; all that are not.
    pub fn check(&self) -> Result<(), InputErrors> {
        let mut found = InputErrors::default();
        let users = self.concurrent_users as f64;
        if !(1..=USERS_MAX).contains(&self.concurrent_users) {
            let allowed = format!("a whole number from 1 to {USERS_MAX}");
            found.add("concurrent_users", self.concurrent_users.to_string(), allowed);
        }
        found.within("avg_rooms_per_user", self.avg_rooms_per_user, 1e-3, ROOMS_MAX);
        found.within("avg_users_per_room", self.avg_users_per_room, 1.0, USERS_MAX as f64);
        // A room needs its members, and their rooms must make at least one.
        let largest = users * self.avg_rooms_per_user.min(1.0);
        if largest >= 1.0 && self.avg_users_per_room > largest {
            let allowed = format!("at most {largest}, the users that can be in one room");
            found.add("avg_users_per_room", self.avg_users_per_room.to_string(), allowed);
        }
        found.within("msgs_per_user_per_minute", self.msgs_per_user_per_minute, 0.0, MESSAGES_MAX);
        found.within("avg_message_bytes", self.avg_message_bytes, 0.0, MESSAGE_BYTES_MAX);
        found.within("peak_multiplier", self.peak_multiplier, 1.0, 100.0);
        found.within("daily_peak_duration_hours", self.daily_peak_duration_hours, 0.0, 24.0);
        if let RoomSizes::PowerLaw(exponent) = self.room_sizes {
            found.within("room_sizes.power_law", exponent, 1.5, 4.0);
        }
        found.within("typing_per_message", self.typing_per_message, 0.0, 1_000.0);
        // Shorter sessions than this are not sessions but a storm; 0 says that there are none.
        if self.session_minutes != 0.0 {
            found.within("session_minutes", self.session_minutes, 0.01, SESSION_MINUTES_MAX);
        }
        if self.ping_interval_seconds != 0.0 {
            found.within(
                "ping_interval_seconds",
                self.ping_interval_seconds,
                1.0,
                PING_SECONDS_MAX,
            );
        }
        found.within("deliveries_per_frame", self.deliveries_per_frame, 1.0, 1_000.0);
        let monthly = self.monthly_users_per_concurrent;
        found.within("monthly_users_per_concurrent", monthly, 1.0, 10_000.0);
        found.none()
    }
}

/// One value that is out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} is not allowed; give {allowed}")]
pub struct InputError {
    /// Name of the value, as in the file; the flag is the same in kebab-case.
    pub field: String,
    /// What was given.
    pub value: String,
    /// What may be given.
    pub allowed: String,
}

/// Everything that is wrong with an input, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct InputErrors(pub Vec<InputError>);

fn lines(errors: &[InputError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl InputErrors {
    /// Takes `value` for `field` as wrong.
    pub fn add(&mut self, field: &str, value: String, allowed: String) {
        self.0.push(InputError { field: field.to_owned(), value, allowed });
    }

    /// Takes `value` as wrong unless it is a number from `least` to `most`.
    pub fn within(&mut self, field: &str, value: f64, least: f64, most: f64) {
        // NaN is in no range.
        if !(least..=most).contains(&value) {
            self.add(field, value.to_string(), format!("a number from {least} to {most}"));
        }
    }

    /// The errors, if there are any.
    pub fn none(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut WorkloadProfile), field: &str) {
        let mut workload = WorkloadProfile::default();
        change(&mut workload);
        let errors = workload.check().unwrap_err();
        assert!(errors.0.iter().any(|e| e.field == field), "{field}: {errors}");
    }

    #[test]
    fn nonsense_is_told_by_its_name() {
        WorkloadProfile::default().check().unwrap();
        wrong(|w| w.concurrent_users = 0, "concurrent_users");
        wrong(|w| w.concurrent_users = 1_000_000_000_000_000_000, "concurrent_users");
        wrong(|w| w.avg_users_per_room = 0.0, "avg_users_per_room");
        wrong(|w| w.avg_users_per_room = 2e6, "avg_users_per_room");
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e18] {
            wrong(|w| w.avg_rooms_per_user = bad, "avg_rooms_per_user");
            wrong(|w| w.avg_users_per_room = bad, "avg_users_per_room");
            wrong(|w| w.msgs_per_user_per_minute = bad, "msgs_per_user_per_minute");
            wrong(|w| w.avg_message_bytes = bad, "avg_message_bytes");
            wrong(|w| w.peak_multiplier = bad, "peak_multiplier");
            wrong(|w| w.daily_peak_duration_hours = bad, "daily_peak_duration_hours");
            wrong(|w| w.typing_per_message = bad, "typing_per_message");
            wrong(|w| w.session_minutes = bad, "session_minutes");
            wrong(|w| w.ping_interval_seconds = bad, "ping_interval_seconds");
            wrong(|w| w.deliveries_per_frame = bad, "deliveries_per_frame");
            wrong(|w| w.monthly_users_per_concurrent = bad, "monthly_users_per_concurrent");
            wrong(|w| w.room_sizes = RoomSizes::PowerLaw(bad), "room_sizes.power_law");
        }
    }

    #[test]
    fn an_error_says_what_is_allowed() {
        let workload = WorkloadProfile { peak_multiplier: 0.5, ..WorkloadProfile::default() };
        assert_eq!(
            workload.check().unwrap_err().to_string(),
            "peak_multiplier: 0.5 is not allowed; give a number from 1 to 100"
        );
    }

    #[test]
    fn a_server_of_nothing_is_refused() {
        let with = |out| ServerCapacity {
            max_msgs_per_second_out: Some(out),
            ..ServerCapacity::example()
        };
        with(1.0).check().unwrap();
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e18] {
            assert!(with(bad).check().is_err(), "{bad}");
        }
        assert!(!ServerCapacity { cost_per_hour: Some(1.0), ..Default::default() }.says_anything());
        assert!(ServerCapacity::example().says_anything());
    }
}
