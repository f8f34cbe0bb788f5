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
    /// Deliveries to one client that are merged into one frame; 1 = none.
    #[serde(default = "one")]
    pub deliveries_per_frame: f64,
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
            tls: false,
            monthly_users_per_concurrent: twenty(),
        }
    }
}

/// A server by its figures, for planning without a measured `capacity.json`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerCapacity {
    /// Connections.
    pub max_connections: f64,
    /// Publications accepted per second.
    pub max_msgs_per_second_in: f64,
    /// Deliveries per second.
    pub max_msgs_per_second_out: f64,
    /// Megabits per second to clients.
    pub max_bandwidth_mbps: f64,
    /// Price of one node, US dollars per hour.
    pub cost_per_hour: f64,
}

impl Default for ServerCapacity {
    /// The worked example's server.
    fn default() -> Self {
        Self {
            max_connections: 100_000.0,
            max_msgs_per_second_in: 10_000.0,
            max_msgs_per_second_out: 50_000.0,
            max_bandwidth_mbps: 1_000.0,
            cost_per_hour: 0.5,
        }
    }
}
