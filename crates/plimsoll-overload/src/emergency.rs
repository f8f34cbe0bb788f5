//! What an emergency does, step by step, and takes back in the reverse order.
//!
//! The next step comes only while the score is still in Emergency two seconds later: each must
//! show its effect first. Between leaving and entering Emergency nothing moves. Nothing here
//! shortens a history, closes a connection because of the CPU, or restarts anything.

use crate::limits;
use crate::signals::{Pressures, Resource};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// No ephemeral messages, presence frozen, no previews.
    StopEphemeral,
    /// Accepts at the lowest pace, only those who come back.
    PaceAccepts,
    /// No compression, batches of 100 ms.
    RelieveCpu,
    /// Drop what can be made again: spare buffers of the workers. Not keys of publications nor
    /// histories: those are promises.
    DropCaches,
    /// Give back what reading and writing share, as contexts of compression. Quiet connections
    /// have no buffer of their own.
    ShrinkReadBuffers,
    /// Drop the biggest outbound queues; their owners recover.
    ShedQueues,
    /// Put every connection over its soft limit into catch-up.
    CatchUp,
    /// Close idle connections, the longest idle first, slowly.
    CloseIdle,
    /// Publication limits to a fifth.
    CutPublishing,
    /// Wake somebody.
    Page,
}

/// How many steps there are.
pub const STEPS_COUNT: usize = 10;

/// One row of the table of steps.
#[derive(Clone, Copy, Debug)]
pub struct StepRow {
    /// Which.
    pub step: Step,
    /// Its name in logs and in the admin status.
    pub name: &'static str,
    /// It is taken only while one of these is in Emergency itself.
    pub resources: &'static [Resource],
}

const fn row(step: Step, name: &'static str, resources: &'static [Resource]) -> StepRow {
    StepRow { step, name, resources }
}

use Resource::{Connections, Cpu, Descriptors, Lag, Memory, Outbound};

const MEMORY: &[Resource] = &[Memory, Outbound];

/// The steps in their order.
pub const STEPS: [StepRow; STEPS_COUNT] = [
    row(Step::StopEphemeral, "stop_ephemeral", crate::gates::WORK_RESOURCES),
    row(Step::PaceAccepts, "pace_accepts", crate::gates::ADMISSION_RESOURCES),
    row(Step::RelieveCpu, "relieve_cpu", &[Cpu, Lag]),
    row(Step::DropCaches, "drop_caches", &[Memory]),
    row(Step::ShrinkReadBuffers, "shrink_read_buffers", &[Memory]),
    row(Step::ShedQueues, "shed_queues", MEMORY),
    row(Step::CatchUp, "catch_up", MEMORY),
    row(Step::CloseIdle, "close_idle", &[Memory, Descriptors, Connections]),
    row(Step::CutPublishing, "cut_publishing", crate::gates::WORK_RESOURCES),
    row(Step::Page, "page", &Resource::ALL),
];

/// What to do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    taken: u16,
    /// Idle connections may be closed now, at the pace of [`IdlePace`].
    pub close_idle: bool,
    /// True once per emergency: wake somebody.
    pub page: bool,
}

impl Plan {
    /// With these steps in force, and nothing to do at once.
    pub fn with(steps: &[Step]) -> Self {
        let taken = steps.iter().fold(0, |all, step| all | 1 << *step as u16);
        Self { taken, close_idle: false, page: false }
    }

    /// Whether a step is in force.
    pub const fn takes(&self, step: Step) -> bool {
        self.taken & (1 << step as u16) != 0
    }

    /// The steps in force, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        STEPS.iter().map(|row| row.step).filter(|step| self.takes(*step))
    }
}

/// The planner.
#[derive(Clone, Debug)]
pub struct Emergency {
    enter: f64,
    exit: f64,
    plan: Plan,
    moved_ms: Option<u64>,
}

impl Emergency {
    /// With the thresholds of Emergency.
    pub const fn new(enter: f64, exit: f64) -> Self {
        let plan = Plan { taken: 0, close_idle: false, page: false };
        Self { enter, exit, plan, moved_ms: None }
    }

    /// Takes the smoothed pressures of a sample and says what to do.
    pub fn sample(&mut self, now_ms: u64, pressures: &Pressures) -> Plan {
        let score = pressures.highest(&Resource::ALL).map_or(0.0, |(_, p)| p);
        self.plan.page = false;
        let rested = self
            .moved_ms
            .is_none_or(|moved| now_ms.saturating_sub(moved) >= limits::EMERGENCY_STEP_MS);
        if score >= self.enter && rested {
            self.advance(now_ms, pressures);
        } else if score < self.exit && rested {
            self.retreat(now_ms);
        }
        let row = &STEPS[Step::CloseIdle as usize];
        self.plan.close_idle = self.plan.takes(row.step) && self.hot(row, pressures);
        self.plan
    }

    fn hot(&self, row: &StepRow, pressures: &Pressures) -> bool {
        pressures.highest(row.resources).is_some_and(|(_, p)| p >= self.enter)
    }

    fn advance(&mut self, now_ms: u64, pressures: &Pressures) {
        let next = STEPS.iter().find(|row| !self.plan.takes(row.step) && self.hot(row, pressures));
        if let Some(row) = next {
            self.plan.taken |= 1 << row.step as u16;
            self.plan.page = row.step == Step::Page;
            self.moved_ms = Some(now_ms);
        }
    }

    fn retreat(&mut self, now_ms: u64) {
        if let Some(last) = self.plan.taken.checked_ilog2() {
            self.plan.taken &= !(1 << last);
            self.moved_ms = Some(now_ms);
        }
    }
}

/// How many idle connections may be closed because of the load: a hundredth per second, and one at
/// once. Each worker has its own, for its own connections: together they close no more than that
/// of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdlePace {
    /// Closes that are allowed, in parts.
    allowed: f64,
    asked_ms: Option<u64>,
}

impl IdlePace {
    /// Of `wanted` idle ones among `connections`, so many may be closed now: the longest idle, by
    /// a code that does not make them come back at once.
    pub fn take(&mut self, now_ms: u64, connections: usize, wanted: usize) -> usize {
        let per_s = connections as f64 * limits::IDLE_CLOSES_RATIO_PER_S;
        let gained = match self.asked_ms.replace(now_ms) {
            Some(last) => per_s * now_ms.saturating_sub(last) as f64 / 1_000.0,
            None => 1.0,
        };
        // What was not used in a pause is not made up for, but for a part of one.
        self.allowed = (self.allowed + gained).min(per_s + 1.0);
        let taken = (self.allowed as usize).min(wanted);
        self.allowed -= taken as f64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds `all` for 40 s: the steps in force at the end, and the connections closed of so many.
    fn held(all: &[(Resource, f64)], connections: usize) -> (Emergency, Vec<Step>, usize) {
        let mut pressures = Pressures::default();
        all.iter().for_each(|(r, p)| pressures.set(*r, Some(*p)));
        let mut emergency = Emergency::new(1.0, 0.93);
        let (mut steps, mut closed, mut pages) = (Vec::new(), 0, 0);
        let mut pace = IdlePace::default();
        for now_ms in (0..40_000).step_by(250) {
            let plan = emergency.sample(now_ms, &pressures);
            steps = plan.steps().collect();
            closed += if plan.close_idle { pace.take(now_ms, connections, 500) } else { 0 };
            pages += u32::from(plan.page);
        }
        assert_eq!(pages, u32::from(steps.contains(&Step::Page)), "one page per emergency");
        (emergency, steps, closed)
    }

    fn check(all: &[(Resource, f64)], expect: &[Step]) {
        assert_eq!(held(all, 1_000).1, expect, "{all:?}");
    }

    #[test]
    fn only_what_helps_the_hot_resource() {
        use Step::*;
        check(&[(Cpu, 0.99)], &[]);
        check(&[(Cpu, 1.1)], &[StopEphemeral, PaceAccepts, RelieveCpu, CutPublishing, Page]);
        check(&[(Connections, 1.0)], &[PaceAccepts, CloseIdle, Page]);
        check(&[(Resource::Backbone, 0.94)], &[]);
        let memory = [
            StopEphemeral,
            PaceAccepts,
            DropCaches,
            ShrinkReadBuffers,
            ShedQueues,
            CatchUp,
            CloseIdle,
            CutPublishing,
            Page,
        ];
        check(&[(Memory, 1.0), (Cpu, 0.5)], &memory);
    }

    #[test]
    fn closes_at_most_a_hundredth_per_second() {
        let (_, _, closed) = held(&[(Memory, 1.0)], 10_000);
        // It is the seventh step: 12 s of the 40 have passed.
        assert!((2_600..=2_800).contains(&closed), "{closed}");
        assert_eq!(held(&[(Cpu, 1.4), (Lag, 1.4)], 10_000).2, 0, "never because of the CPU");
        let (_, _, few) = held(&[(Memory, 1.0)], 10);
        assert_eq!(few, 3, "one at once, and 28 s of 0.1 per second");
        let mut pace = IdlePace::default();
        assert_eq!((pace.take(0, 0, 0), pace.take(0, 0, 9)), (0, 1), "nobody was closed before");
        assert_eq!(pace.take(60_000, 500, 9), 6, "a pause is not made up for");
        assert_eq!(
            (pace.take(60_250, 500, 9), pace.take(60_100, 500, 9)),
            (1, 0),
            "time goes back"
        );
    }

    #[test]
    fn steps_are_taken_back_one_by_one_from_the_last() {
        let (mut emergency, steps, _) = held(&[(Memory, 1.0)], 100);
        let mut calm = Pressures::default();
        calm.set(Memory, Some(0.95));
        let plan = emergency.sample(60_000, &calm);
        assert_eq!(plan.steps().count(), steps.len(), "between the thresholds nothing moves");
        assert!(!plan.close_idle, "but nobody is closed any more");
        calm.set(Memory, Some(0.5));
        for taken_back in 1..=steps.len() {
            let now_ms = 60_000 + taken_back as u64 * limits::EMERGENCY_STEP_MS;
            let left: Vec<_> = emergency.sample(now_ms, &calm).steps().collect();
            assert_eq!(left, steps[..steps.len() - taken_back]);
        }
    }

    #[test]
    fn the_table_is_in_the_order_of_its_enum() {
        assert!(STEPS.iter().enumerate().all(|(at, row)| row.step as usize == at));
        let close = &STEPS[Step::CloseIdle as usize];
        assert!(!close.resources.iter().any(|r| matches!(r, Cpu | Lag)));
    }
}
