//! What may be done now: the one place that decides.
//!
//! Per feature the stricter of two: the table of the level, and the dials of the hot resource. A
//! level that stems only from connections, descriptors or handshakes switches no feature off;
//! one that stems only from the backbone turns no connection away.

use crate::actions::{self, Action, Compression, PresenceScope, ShedQueues, Strengths};
use crate::emergency::{Plan, Step};
use crate::feature::{Class, Feature, FeatureState};
use crate::level::Level;
use crate::limits;
use crate::signals::Resource;

/// Typing notices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypingGate {
    /// Shortest time between two of one user in one channel, in milliseconds.
    pub interval_ms: u32,
    /// Channels with more members get none.
    pub members_max: u32,
}

/// Read marks. Later ones do less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiptsGate {
    /// Stored, and pushed at most once per `interval_ms`.
    Pushed {
        /// Milliseconds between two pushes of a channel.
        interval_ms: u32,
    },
    /// Stored, not pushed.
    Stored,
    /// Merged in memory, stored when there is time.
    Merged,
    /// Refused with a temporary error.
    Refused,
}

/// Who may connect. Later ones let fewer in; nobody is ever kept out for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdmissionFloor {
    /// Everybody, in the order of arrival, at the rated pace.
    All,
    /// Everybody, paced, those who come back first.
    ResumesFirst,
    /// Those who come back and the top tiers; others wait, and come at the minimum pace if those
    /// leave as much.
    ResumesAndTop,
    /// Those who come back, within the budget; others at the minimum pace, or are refused.
    ResumesOnly,
    /// Those who come back and nobody else: an operator said so.
    Closed,
}

impl AdmissionFloor {
    /// Its name in documentation and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::ResumesFirst => "resumes_first",
            Self::ResumesAndTop => "resumes_and_top",
            Self::ResumesOnly => "resumes_only",
            Self::Closed => "closed",
        }
    }
}

/// What one level does to each feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelRow {
    /// Which level.
    pub level: Level,
    /// The publication limits may be turned down to this share, not lower.
    pub publish_floor: f32,
    /// Recoveries are paced. They are never off.
    pub recovery_paced: bool,
    /// Rows of a history page; 0 = temporary error.
    pub history_rows: u32,
    /// Shortest time between two pages of a connection, in milliseconds.
    pub history_interval_ms: u32,
    /// Typing; `None` = off.
    pub typing: Option<TypingGate>,
    /// Presence scope.
    pub presence: PresenceScope,
    /// Time between two presence pushes of a channel, in milliseconds.
    pub presence_interval_ms: u32,
    /// Read marks.
    pub receipts: ReceiptsGate,
    /// Link previews and integrations.
    pub previews: bool,
    /// API calls that serve no conversation.
    pub apis: bool,
    /// Who may connect.
    pub admission: AdmissionFloor,
    /// Narrowest batching window, in milliseconds.
    pub batching_floor_ms: u32,
}

/// The table of levels, in the order of [`Level`].
pub const LEVELS: [LevelRow; 5] = [
    LevelRow {
        level: Level::Normal,
        publish_floor: 1.0,
        recovery_paced: false,
        history_rows: limits::HISTORY_ROWS_MAX,
        history_interval_ms: 0,
        typing: Some(TypingGate { interval_ms: 3_000, members_max: 500 }),
        presence: PresenceScope::Full,
        presence_interval_ms: 250,
        receipts: ReceiptsGate::Pushed { interval_ms: 1_000 },
        previews: true,
        apis: true,
        admission: AdmissionFloor::All,
        batching_floor_ms: 0,
    },
    LevelRow {
        level: Level::Warning,
        publish_floor: 1.0,
        recovery_paced: false,
        history_rows: 100,
        history_interval_ms: 0,
        typing: Some(TypingGate { interval_ms: 6_000, members_max: 200 }),
        presence: PresenceScope::Batched,
        presence_interval_ms: 2_000,
        receipts: ReceiptsGate::Pushed { interval_ms: 5_000 },
        previews: false,
        apis: true,
        admission: AdmissionFloor::All,
        batching_floor_ms: 10,
    },
    LevelRow {
        level: Level::Degraded,
        publish_floor: 0.5,
        recovery_paced: false,
        history_rows: 50,
        history_interval_ms: 5_000,
        typing: None,
        presence: PresenceScope::Counts,
        presence_interval_ms: 10_000,
        receipts: ReceiptsGate::Stored,
        previews: false,
        apis: false,
        admission: AdmissionFloor::ResumesFirst,
        batching_floor_ms: 25,
    },
    LevelRow {
        level: Level::Critical,
        publish_floor: 0.5,
        recovery_paced: true,
        history_rows: 0,
        history_interval_ms: 5_000,
        typing: None,
        presence: PresenceScope::Off,
        presence_interval_ms: 10_000,
        receipts: ReceiptsGate::Merged,
        previews: false,
        apis: false,
        admission: AdmissionFloor::ResumesAndTop,
        batching_floor_ms: 50,
    },
    LevelRow {
        level: Level::Emergency,
        publish_floor: 0.2,
        recovery_paced: true,
        history_rows: 0,
        history_interval_ms: 5_000,
        typing: None,
        presence: PresenceScope::Off,
        presence_interval_ms: 10_000,
        receipts: ReceiptsGate::Refused,
        previews: false,
        apis: false,
        admission: AdmissionFloor::ResumesOnly,
        batching_floor_ms: 100,
    },
];

/// The levels a set of gates is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of all resources; what people see.
    pub overall: Level,
    /// Of the resources that messages use: all but connections, descriptors and handshakes.
    pub work: Level,
    /// Of the resources that connects use: all but the backbone.
    pub admission: Level,
}

impl Levels {
    /// The same level for everything, as when it is pinned.
    pub const fn all(level: Level) -> Self {
        Self { overall: level, work: level, admission: level }
    }
}

/// The resources behind [`Levels::work`].
pub const WORK_RESOURCES: &[Resource] = &[
    Resource::Cpu,
    Resource::Lag,
    Resource::Memory,
    Resource::Outbound,
    Resource::Egress,
    Resource::Backbone,
];

/// The resources behind [`Levels::admission`].
pub const ADMISSION_RESOURCES: &[Resource] = &[
    Resource::Cpu,
    Resource::Lag,
    Resource::Memory,
    Resource::Outbound,
    Resource::Descriptors,
    Resource::Accept,
    Resource::Egress,
    Resource::Connections,
];

/// What a set of gates is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inputs {
    /// The levels.
    pub levels: Levels,
    /// The dials.
    pub strengths: Strengths,
    /// What compression does, from [`actions::CompressionSwitch`].
    pub compression: Compression,
    /// Rated accepts per second.
    pub accepts_per_s: f64,
    /// Accepts per second below which it never goes; above 0.
    pub accepts_per_s_min: f64,
    /// False: an operator lets nobody new in. Those who come back still may.
    pub accept_new_connections: bool,
    /// The emergency steps in force.
    pub plan: Plan,
    /// Many come back at once: history is as one level higher.
    pub storm: bool,
}

/// Everything a worker needs to know about the load. Plain fields, published in one swap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gates {
    /// The level people see.
    pub level: Level,
    /// The level of the work, which decides what clients are told.
    pub work_level: Level,
    /// Factor on the publication limits of durable messages, 0.2–1.
    pub publish_factor: f32,
    /// Recoveries after a reconnect are paced; they are never refused.
    pub recovery_paced: bool,
    /// Rows of a history page; 0 = temporary error.
    pub history_rows: u32,
    /// Shortest time between two history pages of a connection, in milliseconds.
    pub history_interval_ms: u32,
    /// Typing; `None` = off.
    pub typing: Option<TypingGate>,
    /// Factor on the intervals of other ephemeral messages; `None` = off.
    pub ephemeral_factor: Option<f32>,
    /// Presence scope.
    pub presence: PresenceScope,
    /// Time between two presence pushes, and of other state by key, in milliseconds.
    pub presence_interval_ms: u32,
    /// Read marks.
    pub receipts: ReceiptsGate,
    /// Link previews and integrations.
    pub previews: bool,
    /// API calls that serve no conversation.
    pub apis: bool,
    /// Who may connect.
    pub admission: AdmissionFloor,
    /// Accepts per second; above 0.
    pub accepts_per_s: f64,
    /// Below that it never goes, and so many of those without a share come in.
    pub accepts_per_s_min: f64,
    /// Strength of the shrinking of idle timeouts; see [`Gates::idle_timeout_ms`].
    pub idle_strength: f64,
    /// Compression of new frames.
    pub compression: Compression,
    /// How long writes wait for more frames, in milliseconds; a tier's own window is the cap.
    pub batching_window_ms: u32,
    /// Outbound queues to drop; `None` = none.
    pub shed_queues: Option<ShedQueues>,
    /// Every connection over the soft limit of its queue falls behind, and recovers.
    pub catch_up: bool,
    /// Spare buffers are given back.
    pub drop_caches: bool,
    /// What reading and writing share is given back.
    pub shrink_read_buffers: bool,
}

impl Default for Gates {
    /// Everything open.
    fn default() -> Self {
        Self::new(&Inputs {
            levels: Levels::default(),
            strengths: Strengths::default(),
            compression: Compression::default(),
            accepts_per_s: f64::MAX,
            accepts_per_s_min: 1.0,
            accept_new_connections: true,
            plan: Plan::default(),
            storm: false,
        })
    }
}

impl Gates {
    /// The gates for these levels, dials and emergency steps.
    pub fn new(inputs: &Inputs) -> Self {
        let (levels, dials, plan) = (inputs.levels, &inputs.strengths, &inputs.plan);
        let row = &LEVELS[levels.work as usize];
        let history = &LEVELS[(levels.work as usize + usize::from(inputs.storm)).min(4)];
        let stopped = plan.takes(Step::StopEphemeral);
        let row_typing = row.typing.filter(|_| !stopped);
        let ephemeral_factor = row_typing.and(dials.ephemeral_factor());
        let presence = if stopped { PresenceScope::Off } else { row.presence };
        Self {
            level: levels.overall,
            work_level: levels.work,
            publish_factor: publish_factor(inputs, row),
            recovery_paced: row.recovery_paced,
            history_rows: history.history_rows.min(dials.history_rows()),
            history_interval_ms: history.history_interval_ms,
            typing: row_typing.and_then(|t| slowed(t, ephemeral_factor?)),
            ephemeral_factor,
            presence: presence.max(dials.presence_scope()),
            presence_interval_ms: presence_interval_ms(row, dials.presence_scope()),
            receipts: row.receipts,
            previews: row.previews && !stopped,
            apis: row.apis,
            admission: admission(inputs),
            accepts_per_s: accepts_per_s(inputs),
            accepts_per_s_min: accepts_per_s_min(inputs),
            idle_strength: dials.get(Action::IdleTimeout),
            compression: compression(inputs),
            batching_window_ms: batching_window_ms(inputs, row),
            shed_queues: shed_queues(inputs),
            catch_up: plan.takes(Step::CatchUp),
            drop_caches: plan.takes(Step::DropCaches),
            shrink_read_buffers: plan.takes(Step::ShrinkReadBuffers),
        }
    }

    /// How a feature is.
    pub fn state(&self, feature: Feature) -> FeatureState {
        let normal = &LEVELS[0];
        match feature {
            Feature::Typing => reduced(self.typing.is_none(), self.typing != normal.typing),
            Feature::Presence => {
                let slower = self.presence_interval_ms > normal.presence_interval_ms;
                reduced(
                    self.presence == PresenceScope::Off,
                    self.presence > normal.presence || slower,
                )
            }
            Feature::Receipts => {
                reduced(self.receipts == ReceiptsGate::Refused, self.receipts > normal.receipts)
            }
            Feature::Previews => reduced(!self.previews, false),
            Feature::History => {
                let fewer = self.history_rows < normal.history_rows || self.history_interval_ms > 0;
                reduced(self.history_rows == 0, fewer)
            }
            Feature::Connections => reduced(
                self.admission >= AdmissionFloor::ResumesOnly,
                self.admission != AdmissionFloor::All,
            ),
            Feature::Apis => reduced(!self.apis, false),
            Feature::Recovery => reduced(false, self.recovery_paced),
        }
    }

    /// Whether something of this feature may be done. What belongs to no feature is the core, and
    /// always may.
    pub fn allows(&self, feature: Option<Feature>) -> bool {
        feature.is_none_or(|f| self.state(f) != FeatureState::Off)
    }

    /// What happens to a message of this class.
    pub fn class(&self, class: Class) -> ClassGate {
        match class {
            Class::Control | Class::Durable => ClassGate::Pass,
            Class::State if self.presence == PresenceScope::Off => ClassGate::Drop,
            Class::State => ClassGate::Conflate { interval_ms: self.presence_interval_ms },
            Class::Ephemeral => match self.ephemeral_factor {
                Some(factor) if factor > 1.0 => ClassGate::Slow { factor },
                Some(_) => ClassGate::Pass,
                None => ClassGate::Drop,
            },
        }
    }

    /// The idle timeout in milliseconds, for a tier whose own is `longest_ms`.
    pub fn idle_timeout_ms(&self, longest_ms: u64) -> u64 {
        actions::idle_timeout_ms(longest_ms, self.idle_strength)
    }
}

/// What happens to a message of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClassGate {
    /// It goes through.
    Pass,
    /// Its intervals are stretched.
    Slow {
        /// 1–10.
        factor: f32,
    },
    /// Only the latest per key, at this pace.
    Conflate {
        /// Milliseconds between two.
        interval_ms: u32,
    },
    /// It is dropped at its source.
    Drop,
}

fn reduced(off: bool, less: bool) -> FeatureState {
    match (off, less) {
        (true, _) => FeatureState::Off,
        (false, true) => FeatureState::Reduced,
        (false, false) => FeatureState::On,
    }
}

fn slowed(typing: TypingGate, factor: f32) -> Option<TypingGate> {
    let interval_ms = (typing.interval_ms as f32 * factor) as u32;
    Some(TypingGate { interval_ms, ..typing })
}

/// The interval of the level, or of the level at which this scope is the usual one.
fn presence_interval_ms(row: &LevelRow, scope: PresenceScope) -> u32 {
    let usual = LEVELS.iter().find(|l| l.presence == scope).unwrap_or(row);
    row.presence_interval_ms.max(usual.presence_interval_ms)
}

fn publish_factor(inputs: &Inputs, row: &LevelRow) -> f32 {
    let cut = inputs.plan.takes(Step::CutPublishing);
    let most = if cut { LEVELS[4].publish_floor } else { 1.0 };
    inputs.strengths.publish_factor().max(row.publish_floor).min(most)
}

fn batching_window_ms(inputs: &Inputs, row: &LevelRow) -> u32 {
    let least_ms = match inputs.plan.takes(Step::RelieveCpu) {
        true => limits::BATCHING_WINDOW_MS_MAX,
        false => row.batching_floor_ms,
    };
    least_ms.max(inputs.strengths.batching_window_ms())
}

fn shed_queues(inputs: &Inputs) -> Option<ShedQueues> {
    let mut dials = inputs.strengths;
    if inputs.plan.takes(Step::ShedQueues) {
        dials.set(Action::ShedQueues, 1.0);
    }
    dials.shed_queues()
}

fn admission(inputs: &Inputs) -> AdmissionFloor {
    let by_level = LEVELS[inputs.levels.admission as usize].admission;
    match (inputs.accept_new_connections, inputs.plan.takes(Step::PaceAccepts)) {
        (false, _) => AdmissionFloor::Closed,
        (true, true) => by_level.max(AdmissionFloor::ResumesOnly),
        (true, false) => by_level,
    }
}

/// Zero would be for ever: nobody could come back after the load.
fn accepts_per_s_min(inputs: &Inputs) -> f64 {
    if inputs.accepts_per_s_min > 0.0 { inputs.accepts_per_s_min } else { 1.0 }
}

fn accepts_per_s(inputs: &Inputs) -> f64 {
    let floor = accepts_per_s_min(inputs);
    if inputs.levels.admission == Level::Emergency || inputs.plan.takes(Step::PaceAccepts) {
        return floor;
    }
    inputs.strengths.accepts_per_s(inputs.accepts_per_s, floor)
}

fn compression(inputs: &Inputs) -> Compression {
    match inputs.compression {
        Compression::On => Compression::On,
        _ if inputs.levels.work == Level::Emergency => Compression::Off,
        _ if inputs.plan.takes(Step::RelieveCpu) => Compression::Off,
        other => other,
    }
}

#[cfg(test)]
mod tests;
