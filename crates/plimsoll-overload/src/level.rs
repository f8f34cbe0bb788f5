//! From a score to a level, slowly enough not to flap and fast enough not to sink.
//!
//! Up: two samples in a row (one if it is urgent), to the lower of the two. Down: one step at a
//! time, after the score has stayed below the exit threshold for the dwell of the level. The quiet
//! times of all levels run together, so the way from Emergency to Normal is one dwell and three
//! steps, not the sum of four dwells (docs/adr/0011-load-line.md).

use crate::limits;
use crate::spread;

/// How deep the node lies in the water.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Everything is on.
    #[default]
    Normal,
    /// The nice things come less often.
    Warning,
    /// Only the core; history is rationed.
    Degraded,
    /// Load is shed; new clients wait.
    Critical,
    /// The process is protected.
    Emergency,
}

impl Level {
    /// All of them, from calm to storm.
    pub const ALL: [Self; 5] =
        [Self::Normal, Self::Warning, Self::Degraded, Self::Critical, Self::Emergency];

    /// 0–4.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in metrics, in the API and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
            Self::Emergency => "emergency",
        }
    }

    /// The level of a number or a name.
    pub fn parse(text: &str) -> Option<Self> {
        let is = |l: &&Self| {
            l.name().eq_ignore_ascii_case(text) || text.parse::<u8>().is_ok_and(|n| n == l.number())
        };
        Self::ALL.iter().find(is).copied()
    }

    fn below(self) -> Self {
        Self::ALL[(self as usize).saturating_sub(1)]
    }
}

/// When levels change. Index 0 belongs to Warning, 3 to Emergency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Scores from which a level is entered.
    pub enter: [f64; 4],
    /// Scores below which it may be left.
    pub exit: [f64; 4],
    /// How long the score must have stayed below `exit`, in milliseconds.
    pub dwell_ms: [u64; 4],
    /// Shortest time between two changes downwards, in milliseconds.
    pub step_ms: u64,
    /// Each node stretches its times by a factor in `1 ± jitter`, so that a fleet does not come
    /// back in step.
    pub jitter: f64,
    /// How long a level is held, in milliseconds, because the work it sheds would bring it back.
    pub hold_ms: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            enter: [0.70, 0.85, 0.95, 1.00],
            exit: [0.62, 0.77, 0.87, 0.93],
            dwell_ms: [10_000, 15_000, 18_000, 20_000],
            step_ms: 6_000,
            jitter: 0.2,
            hold_ms: 300_000,
        }
    }
}

/// Smallest distance between entering and leaving a level that keeps a score that varies by ± 0.02
/// from changing it.
pub const GAP_MIN: f64 = 0.05;

/// Longest way down from Emergency, in milliseconds. With what the averages add it stays within
/// the promised 60 s.
pub const DESCENT_MS_MAX: u64 = 50_000;

impl Thresholds {
    /// The time from quiet to Normal, in milliseconds, for a node with the longest jitter.
    pub fn descent_ms(&self, from: Level) -> u64 {
        let depth = from as usize;
        // Level by level from above: left after its dwell, or a step after the one above it.
        let left =
            self.dwell_ms[..depth].iter().rev().fold(None, |above: Option<u64>, dwell_ms| {
                let after_step = above.map_or(0, |ms| ms.saturating_add(self.step_ms));
                Some(after_step.max(*dwell_ms))
            });
        (left.unwrap_or(0) as f64 * (1.0 + self.jitter)) as u64
    }

    /// The first reason why these thresholds would not work.
    pub fn wrong(&self) -> Option<String> {
        let rising = |values: &[f64; 4]| values.windows(2).all(|w| w[0] < w[1]);
        let finite = self.enter.iter().chain(&self.exit).all(|t| t.is_finite() && *t > 0.0);
        let highest = self.enter[3];
        if !finite || !rising(&self.enter) || !rising(&self.exit) {
            return Some("thresholds must be above 0 and rise from level to level".to_owned());
        }
        if highest > limits::PRESSURE_MAX {
            return Some(format!("enter {highest} can never be reached"));
        }
        // A little slack: 0.85 - 0.80 is 0.04999….
        if self.enter.iter().zip(&self.exit).any(|(up, down)| up - down < GAP_MIN - 1e-9) {
            return Some(format!("exit must lie at least {GAP_MIN} below enter"));
        }
        if !(0.0..=0.5).contains(&self.jitter) {
            return Some("jitter must be 0 to 0.5".to_owned());
        }
        let descent_ms = self.descent_ms(Level::Emergency);
        (descent_ms > DESCENT_MS_MAX).then(|| {
            format!(
                "Emergency to Normal takes {descent_ms} ms, at most {DESCENT_MS_MAX} is allowed"
            )
        })
    }
}

/// What the machine looks at in one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The score.
    pub score: f64,
    /// What the score would be without what is being shed; at least `score`.
    pub demand: f64,
    /// One sample is enough to rise.
    pub urgent: bool,
}

/// The level machine.
#[derive(Clone, Debug)]
pub struct Machine {
    thresholds: Thresholds,
    /// Per level, this node's factor on its times.
    stretch: [f64; 4],
    level: Level,
    /// The level the last sample asked for, if it was above `level`.
    asked: Option<Level>,
    /// Per level, since when the score has been below its exit threshold.
    quiet_since_ms: [Option<u64>; 4],
    /// Since when the level could have been left if the demand had allowed it.
    held_since_ms: Option<u64>,
    changed_ms: Option<u64>,
    sampled_ms: u64,
}

impl Machine {
    /// At Normal. The seed (one per node) decides the jitter.
    pub fn new(thresholds: Thresholds, seed: u64) -> Self {
        let stretch = [1, 2, 3, 4].map(|level: u64| {
            spread::around_one(spread::mix(seed ^ level.rotate_left(32)), thresholds.jitter)
        });
        Self {
            thresholds,
            stretch,
            level: Level::Normal,
            asked: None,
            quiet_since_ms: [None; 4],
            held_since_ms: None,
            changed_ms: None,
            sampled_ms: 0,
        }
    }

    /// The level now.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Takes one sample and gives the level.
    pub fn sample(&mut self, now_ms: u64, reading: Reading) -> Level {
        let now_ms = now_ms.max(self.sampled_ms);
        if now_ms - self.sampled_ms > limits::SAMPLE_GAP_MS_MAX {
            self.quiet_since_ms = [None; 4];
            self.asked = None;
        }
        self.sampled_ms = now_ms;
        for (since, exit) in self.quiet_since_ms.iter_mut().zip(self.thresholds.exit) {
            // What is not a number is not quiet.
            *since = if reading.score < exit { since.or(Some(now_ms)) } else { None };
        }
        let wanted = self.wanted(reading.score);
        if wanted > self.level {
            self.rise(now_ms, wanted, reading.urgent);
        } else {
            self.asked = None;
            self.fall(now_ms, reading.demand);
        }
        self.level
    }

    fn wanted(&self, score: f64) -> Level {
        let passed = self.thresholds.enter.iter().filter(|t| score >= **t).count();
        Level::ALL[passed]
    }

    fn rise(&mut self, now_ms: u64, wanted: Level, urgent: bool) {
        let to = if urgent { Some(wanted) } else { self.asked.map(|before| before.min(wanted)) };
        match to {
            Some(to) => {
                self.change(now_ms, to);
                self.asked = (wanted > to).then_some(wanted);
            }
            None => self.asked = Some(wanted),
        }
    }

    fn fall(&mut self, now_ms: u64, demand: f64) {
        let Some(at) = (self.level as usize).checked_sub(1) else { return };
        if !self.rested(now_ms, at) {
            self.held_since_ms = None;
            return;
        }
        // Leaving now would bring back what is shed now, and with it the level. That is no reason
        // to stay for ever: the shed work may be cheaper than it looks.
        let held_since_ms = *self.held_since_ms.get_or_insert(now_ms);
        let returns = demand >= self.thresholds.exit[at];
        if !returns || now_ms - held_since_ms >= self.thresholds.hold_ms {
            self.change(now_ms, self.level.below());
        }
    }

    fn rested(&self, now_ms: u64, at: usize) -> bool {
        let stretched = |ms: u64| (ms as f64 * self.stretch[at]) as u64;
        let dwell_ms = stretched(self.thresholds.dwell_ms[at]);
        let step_ms = stretched(self.thresholds.step_ms);
        self.quiet_since_ms[at].is_some_and(|since| now_ms - since >= dwell_ms)
            && self.changed_ms.is_none_or(|changed| now_ms - changed >= step_ms)
    }

    fn change(&mut self, now_ms: u64, to: Level) {
        self.level = to;
        self.changed_ms = Some(now_ms);
        self.held_since_ms = None;
    }
}

#[cfg(test)]
mod tests;
