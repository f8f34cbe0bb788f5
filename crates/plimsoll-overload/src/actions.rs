//! Dials, not switches: each action grows with the pressure of its own resources.
//!
//! The strength of an action is `clamp((p - start) / (full - start), 0, 1)`, where p is the highest
//! pressure among its resources. A full table of connections widens no batching window, and a hot
//! CPU closes nobody's connection.

use crate::limits;
use crate::signals::{Pressures, Resource};

/// What can be turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Collect frames longer before a write.
    WidenBatching,
    /// Typing, joins and leaves less often, then not at all.
    LimitEphemeral,
    /// Presence to fewer people, then as a number, then not at all.
    PresenceScope,
    /// New frames go uncompressed.
    CompressionOff,
    /// New frames are compressed.
    CompressionOn,
    /// Idle connections are closed earlier.
    IdleTimeout,
    /// Shorter history pages.
    HistoryPage,
    /// Fewer new connections per second.
    AcceptPacing,
    /// The largest outbound queues are dropped and their owners told to recover.
    ShedQueues,
    /// Lower limit of publications per connection.
    PublishRate,
}

/// How many actions there are.
pub const ACTIONS_COUNT: usize = 10;

/// One row of the table of actions.
#[derive(Clone, Copy, Debug)]
pub struct ActionRow {
    /// Which.
    pub action: Action,
    /// Its name in metrics and in the admin API.
    pub name: &'static str,
    /// The resources it relieves; no other drives it.
    pub resources: &'static [Resource],
    /// Pressure at which it begins.
    pub start: f64,
    /// Pressure at which it is at its full strength.
    pub full: f64,
    /// What it does at strength s.
    pub meaning: &'static str,
}

use Resource::{Backbone, Connections, Cpu, Descriptors, Egress, Lag, Memory, Outbound};

const fn row(
    action: Action,
    name: &'static str,
    resources: &'static [Resource],
    (start, full): (f64, f64),
    meaning: &'static str,
) -> ActionRow {
    ActionRow { action, name, resources, start, full, meaning }
}

const FLOW: &[Resource] = &[Cpu, Lag, Egress, Outbound, Backbone];

/// Every action, in the order of [`Action`].
pub const ACTIONS: [ActionRow; ACTIONS_COUNT] = [
    row(
        Action::WidenBatching,
        "widen_batching",
        &[Cpu, Lag],
        (0.60, 0.95),
        "writes wait s × 100 ms for more frames, never longer than the tier allows",
    ),
    row(
        Action::LimitEphemeral,
        "limit_ephemeral",
        FLOW,
        (0.70, 0.90),
        "intervals × (1 + 9 s); off at s = 1",
    ),
    row(
        Action::PresenceScope,
        "presence_scope",
        FLOW,
        (0.75, 0.95),
        "full, batched from s > 0, counts from s = 0.5, off at s = 1",
    ),
    row(
        Action::CompressionOff,
        "compression_off",
        &[Cpu],
        (0.80, 0.90),
        "new frames uncompressed from s = 0.5 until s = 0",
    ),
    row(
        Action::CompressionOn,
        "compression_on",
        &[Egress],
        (0.75, 0.90),
        "new frames compressed from s = 0.5 until s = 0; s fades from CPU 0.60 to 0.75",
    ),
    row(
        Action::IdleTimeout,
        "idle_timeout",
        &[Memory, Descriptors, Connections],
        (0.85, 0.95),
        "idle timeout = shortest + (longest - shortest) × (1 - s)",
    ),
    row(
        Action::HistoryPage,
        "history_page",
        &[Memory, Backbone, Cpu],
        (0.80, 0.95),
        "pages of 300 × (1 - s) rows; none at s = 1; recovery is not touched",
    ),
    row(
        Action::AcceptPacing,
        "accept_pacing",
        &[Cpu, Lag, Memory, Connections],
        (0.80, 1.00),
        "accepts per second R × (R_min / R)^s; R_min is above zero",
    ),
    row(
        Action::ShedQueues,
        "shed_queues",
        &[Memory, Outbound],
        (0.85, 0.95),
        "s × 50 queues per worker and pass, biggest first, in steps from 256 KiB to 32 KiB",
    ),
    row(
        Action::PublishRate,
        "publish_rate",
        &[Cpu, Backbone],
        (0.90, 1.00),
        "publication limits × (1 - 0.9 s), and never under the floor of the level",
    ),
];

/// Where the CPU begins to and has fully spoken against switching compression on.
const COMPRESSION_CPU: (f64, f64) = (0.60, 0.75);

impl Action {
    /// All of them, in order.
    pub const ALL: [Self; ACTIONS_COUNT] = [
        Self::WidenBatching,
        Self::LimitEphemeral,
        Self::PresenceScope,
        Self::CompressionOff,
        Self::CompressionOn,
        Self::IdleTimeout,
        Self::HistoryPage,
        Self::AcceptPacing,
        Self::ShedQueues,
        Self::PublishRate,
    ];

    /// Its row in the table.
    pub const fn row(self) -> &'static ActionRow {
        &ACTIONS[self as usize]
    }

    /// Its name in metrics and in the admin API.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The action of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == text)
    }

    /// Its strength under these pressures, 0–1.
    pub fn strength(self, pressures: &Pressures) -> f64 {
        let row = self.row();
        let Some((_, pressure)) = pressures.highest(row.resources) else { return 0.0 };
        let strength = ramp(pressure, row.start, row.full);
        match self {
            // Compression buys bytes with CPU: only where the CPU is known to have them.
            Self::CompressionOn => {
                let cpu = pressures.get(Cpu).unwrap_or(f64::INFINITY);
                strength * (1.0 - ramp(cpu, COMPRESSION_CPU.0, COMPRESSION_CPU.1))
            }
            _ => strength,
        }
    }
}

fn ramp(value: f64, start: f64, full: f64) -> f64 {
    ((value - start) / (full - start)).clamp(0.0, 1.0)
}

/// The strength of every action, and what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Strengths([f64; ACTIONS_COUNT]);

impl Strengths {
    /// All strengths under these pressures.
    pub fn of(pressures: &Pressures) -> Self {
        Self(Action::ALL.map(|action| action.strength(pressures)))
    }

    /// The strength of one action, 0–1.
    pub const fn get(&self, action: Action) -> f64 {
        self.0[action as usize]
    }

    /// Sets one, as an override does. Cut to 0–1; what is not a number is 0.
    pub fn set(&mut self, action: Action, strength: f64) {
        self.0[action as usize] = if strength.is_nan() { 0.0 } else { strength.clamp(0.0, 1.0) };
    }

    /// Every action with its strength, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Action, f64)> + '_ {
        Action::ALL.into_iter().map(|a| (a, self.get(a)))
    }

    /// How long writes wait for more frames, in milliseconds.
    pub fn batching_window_ms(&self) -> u32 {
        portion(limits::BATCHING_WINDOW_MS_MAX, self.get(Action::WidenBatching))
    }

    /// Factor on the intervals of ephemeral messages, 1–10; `None` = off.
    pub fn ephemeral_factor(&self) -> Option<f32> {
        let strength = self.get(Action::LimitEphemeral);
        (strength < 1.0).then_some((1.0 + 9.0 * strength) as f32)
    }

    /// To whom presence is sent.
    pub fn presence_scope(&self) -> PresenceScope {
        match self.get(Action::PresenceScope) {
            s if s >= 1.0 => PresenceScope::Off,
            s if s >= 0.5 => PresenceScope::Counts,
            s if s > 0.0 => PresenceScope::Batched,
            _ => PresenceScope::Full,
        }
    }

    /// Rows of a history page; 0 = try later.
    pub fn history_rows(&self) -> u32 {
        portion(limits::HISTORY_ROWS_MAX, 1.0 - self.get(Action::HistoryPage))
    }

    /// Accepts per second, from `rated` down to `floor`, by equal factors: what is too much may be
    /// a hundredth of what the node is rated for, and a straight line would come there only at its
    /// very end.
    pub fn accepts_per_s(&self, rated: f64, floor: f64) -> f64 {
        let floor = floor.min(rated);
        (rated * (floor / rated).powf(self.get(Action::AcceptPacing))).max(floor)
    }

    /// Factor on the limits of publications, 0.1–1.
    pub fn publish_factor(&self) -> f32 {
        (1.0 - 0.9 * self.get(Action::PublishRate)) as f32
    }

    /// Which outbound queues to drop; `None` = none.
    pub fn shed_queues(&self) -> Option<ShedQueues> {
        let strength = self.get(Action::ShedQueues);
        (strength > 0.0).then(|| ShedQueues {
            queues_per_pass: portion(limits::SHED_QUEUES_PER_PASS_MAX, strength).max(1),
            bytes_min: limits::SHED_QUEUE_BYTES >> (strength * 4.0).ceil() as u32,
        })
    }
}

/// `whole × strength`, rounded down.
fn portion(whole: u32, strength: f64) -> u32 {
    // A little more, so that 0.3 of 10 is 3 and not 2.
    (f64::from(whole) * strength + 1e-9) as u32
}

/// To whom presence is sent. Later ones are narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PresenceScope {
    /// Each join and leave to everybody in the channel.
    Full,
    /// Several joins and leaves together.
    Batched,
    /// Only how many there are.
    Counts,
    /// Nothing is pushed; a query gets the last known answer, marked as stale.
    Off,
}

impl PresenceScope {
    /// Its name in documentation and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Batched => "batched",
            Self::Counts => "counts",
            Self::Off => "off",
        }
    }
}

/// Which outbound queues one pass of one worker drops: the biggest first, at most
/// `queues_per_pass`, none smaller than `bytes_min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedQueues {
    /// At most so many.
    pub queues_per_pass: u32,
    /// Only queues of at least so many bytes.
    pub bytes_min: u32,
}

/// What compression does for new frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As configured.
    #[default]
    Configured,
    /// None.
    Off,
    /// Always, where the client can.
    On,
}

/// Keeps compression from switching to and fro: on from strength 0.5, back at 0.
#[derive(Clone, Debug, Default)]
pub struct CompressionSwitch {
    state: Compression,
}

impl CompressionSwitch {
    /// Takes the strengths of a sample. A hot CPU wins over full lines.
    pub fn sample(&mut self, strengths: &Strengths) -> Compression {
        let off = strengths.get(Action::CompressionOff);
        let on = strengths.get(Action::CompressionOn);
        self.state = match self.state {
            _ if off >= 0.5 => Compression::Off,
            Compression::Off if off > 0.0 => Compression::Off,
            _ if on >= 0.5 => Compression::On,
            Compression::On if on > 0.0 => Compression::On,
            _ => Compression::Configured,
        };
        self.state
    }
}

/// The idle timeout at strength `s` of [`Action::IdleTimeout`]:
/// `shortest + (longest - shortest) × (1 - s)`, in milliseconds.
pub fn idle_timeout_ms(longest_ms: u64, strength: f64) -> u64 {
    let shortest_ms = limits::IDLE_TIMEOUT_MS_MIN.min(longest_ms);
    let room = (longest_ms - shortest_ms) as f64;
    shortest_ms + (room * (1.0 - strength.clamp(0.0, 1.0))).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(all: &[(Resource, f64)]) -> Strengths {
        let mut pressures = Pressures::default();
        for (resource, pressure) in all {
            pressures.set(*resource, Some(*pressure));
        }
        Strengths::of(&pressures)
    }

    fn check(action: Action, all: &[(Resource, f64)], expect: f64) {
        let found = under(all).get(action);
        assert!((found - expect).abs() < 1e-9, "{action:?} at {all:?}: {found}, not {expect}");
    }

    #[test]
    fn strength_grows_with_its_own_resources_only() {
        for row in ACTIONS {
            for resource in Resource::ALL {
                let cpu = (Cpu, 0.0);
                let full = under(&[cpu, (resource, 1.5)]).get(row.action);
                let expect = if row.resources.contains(&resource) { 1.0 } else { 0.0 };
                assert_eq!(full, expect, "{} by {}", row.name, resource.name());
                let start = under(&[cpu, (resource, row.start)]).get(row.action);
                assert_eq!(start, 0.0, "{} by {}", row.name, resource.name());
            }
        }
        check(Action::WidenBatching, &[(Lag, 0.775)], 0.5);
        check(Action::IdleTimeout, &[(Memory, 0.9), (Descriptors, 0.86)], 0.5);
        check(Action::CompressionOn, &[(Egress, 1.0)], 0.0);
        check(Action::CompressionOn, &[(Egress, 1.0), (Cpu, 0.675)], 0.5);
        check(Action::CompressionOn, &[(Egress, 1.0), (Cpu, 0.75)], 0.0);
    }

    #[test]
    fn no_connection_is_closed_because_of_the_cpu() {
        for action in [Action::IdleTimeout, Action::ShedQueues] {
            let row = action.row();
            assert!(!row.resources.iter().any(|r| matches!(r, Cpu | Lag)), "{}", row.name);
        }
    }

    #[test]
    fn what_strengths_mean() {
        let mut s = Strengths::default();
        assert_eq!(s.batching_window_ms(), 0);
        assert_eq!(s.ephemeral_factor(), Some(1.0));
        assert_eq!(s.presence_scope(), PresenceScope::Full);
        assert_eq!(s.history_rows(), 300);
        assert_eq!(s.shed_queues(), None);
        assert_eq!(s.publish_factor(), 1.0);
        assert_eq!(s.accepts_per_s(1_000.0, 20.0), 1_000.0);
        Action::ALL.iter().for_each(|a| s.set(*a, 0.5));
        assert_eq!(s.batching_window_ms(), 50);
        assert_eq!(s.ephemeral_factor(), Some(5.5));
        assert_eq!(s.presence_scope(), PresenceScope::Counts);
        assert_eq!(s.history_rows(), 150);
        let some = ShedQueues { queues_per_pass: 25, bytes_min: 128 * 1024 };
        assert_eq!(s.shed_queues(), Some(some));
        assert!((s.accepts_per_s(1_000.0, 20.0) - 141.4).abs() < 0.1);
        Action::ALL.iter().for_each(|a| s.set(*a, 7.0));
        assert_eq!(s.batching_window_ms(), 100);
        assert_eq!(s.ephemeral_factor(), None);
        assert_eq!(s.presence_scope(), PresenceScope::Off);
        assert_eq!(s.history_rows(), 0);
        let most = ShedQueues { queues_per_pass: 50, bytes_min: 32 * 1024 };
        assert_eq!(s.shed_queues(), Some(most));
        assert!((s.publish_factor() - 0.1).abs() < 1e-6);
        assert_eq!(s.accepts_per_s(1_000.0, 20.0), 20.0);
        s.set(Action::WidenBatching, f64::NAN);
        assert_eq!(s.batching_window_ms(), 0);
    }

    #[test]
    fn idle_timeouts_shrink_to_a_floor() {
        // 600 s with a floor of 2 s at 92 %: the worked example of the formula's source.
        let strength = under(&[(Memory, 0.92)]).get(Action::IdleTimeout);
        assert_eq!(idle_timeout_ms(600_000, strength), 181_400);
        assert_eq!(idle_timeout_ms(600_000, 0.0), 600_000);
        assert_eq!(idle_timeout_ms(600_000, 1.0), 2_000);
        assert_eq!(idle_timeout_ms(1_000, 1.0), 1_000);
    }

    #[test]
    fn compression_switches_with_a_gap() {
        let mut switch = CompressionSwitch::default();
        let mut check = |cpu: f64, egress: f64, expect: Compression| {
            let found = switch.sample(&under(&[(Cpu, cpu), (Egress, egress)]));
            assert_eq!(found, expect, "cpu {cpu}, egress {egress}");
        };
        check(0.84, 0.0, Compression::Configured);
        check(0.86, 0.0, Compression::Off);
        check(0.81, 0.0, Compression::Off);
        check(0.79, 0.0, Compression::Configured);
        check(0.30, 0.85, Compression::On);
        check(0.70, 0.85, Compression::On);
        check(0.76, 0.85, Compression::Configured);
        check(0.95, 1.00, Compression::Off);
    }

    #[test]
    fn tables_are_in_the_order_of_their_enum() {
        for (at, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!((action as usize, action.row().action), (at, action));
            assert_eq!(Action::parse(action.name()), Some(action));
            assert!(action.row().start < action.row().full);
        }
    }
}
