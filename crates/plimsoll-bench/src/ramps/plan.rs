//! How long everything takes, and how finely it is looked at. Pure.

use super::climb::Climb;

/// The ramps, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RampId {
    /// Idle connections.
    R1,
    /// Connects per second.
    R2,
    /// Publications with a fan-out of one.
    R3,
    /// Fan-out.
    R4,
    /// Subscriptions and recoveries.
    R5,
    /// Everything at one time, to check the cost model.
    R6,
    /// Far beyond the knee.
    R7,
    /// Connections that come and go under load.
    R8,
}

impl RampId {
    /// All of them. R6 and R7 need what the others found, and R7 ends in disorder.
    pub const ALL: [Self; 8] =
        [Self::R1, Self::R2, Self::R3, Self::R4, Self::R5, Self::R8, Self::R6, Self::R7];

    /// Its name, as in `--only` and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::R3 => "R3",
            Self::R4 => "R4",
            Self::R5 => "R5",
            Self::R6 => "R6",
            Self::R7 => "R7",
            Self::R8 => "R8",
        }
    }

    /// What it is about, for people.
    pub fn subject(self) -> &'static str {
        match self {
            Self::R1 => "idle connections",
            Self::R2 => "connects",
            Self::R3 => "ingest",
            Self::R4 => "fan-out",
            Self::R5 => "subscriptions",
            Self::R6 => "mixed",
            Self::R7 => "overload",
            Self::R8 => "churn",
        }
    }

    /// The ramp of this name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|ramp| ramp.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("no such ramp: {name:?}; there are R1 to R8"))
    }
}

/// Durations and repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Whether it is the quick form.
    pub quick: bool,
    /// Seconds of a step. The first quarter is thrown away.
    pub step_s: f64,
    /// Parts of what is measured, for the slope of latency within a step.
    pub slices: usize,
    /// Each step of a climb is so many times the one before.
    pub growth: f64,
    /// Bisections between the last good and the first bad step.
    pub refinements: u32,
    /// How often the knee is searched, the first time included.
    pub repetitions: u32,
    /// Times the mixed ramp is measured.
    pub mixed_runs: u32,
    /// Seconds that connections stay idle for the price of one: the time between two pings.
    pub idle_s: f64,
}

/// Time between two pings of a server with its defaults, in seconds.
const PING_INTERVAL_S: f64 = 25.0;

impl Plan {
    /// The quick form (within 5 minutes), or the whole one (within 45).
    pub fn new(quick: bool) -> Self {
        if quick {
            Self {
                quick,
                step_s: 2.0,
                slices: 6,
                growth: 1.7,
                refinements: 2,
                repetitions: 3,
                mixed_runs: 3,
                idle_s: PING_INTERVAL_S,
            }
        } else {
            Self {
                quick,
                step_s: 10.0,
                slices: 10,
                growth: 1.5,
                refinements: 3,
                repetitions: 3,
                mixed_runs: 3,
                idle_s: 2.0 * PING_INTERVAL_S,
            }
        }
    }

    /// Seconds that a ramp may take. A ramp that is out of time ends with what it has.
    pub fn budget_s(&self, ramp: RampId) -> f64 {
        let quick = match ramp {
            RampId::R1 => 42.0,
            RampId::R2 => 38.0,
            RampId::R3 => 30.0,
            RampId::R4 => 74.0,
            RampId::R5 => 54.0,
            RampId::R6 => 10.0,
            RampId::R7 => 22.0,
            RampId::R8 => 26.0,
        };
        if self.quick { quick } else { 8.5 * quick }
    }

    /// Seconds that are thrown away at the beginning of a step.
    pub fn settle_s(&self) -> f64 {
        self.step_s / 4.0
    }

    /// Seconds of a step that are measured.
    pub fn window_s(&self) -> f64 {
        self.step_s - self.settle_s()
    }

    /// A climb from `first` up to `ceiling`.
    pub fn climb(&self, first: f64, ceiling: f64) -> Climb {
        Climb {
            first,
            ceiling,
            growth: self.growth,
            refinements: self.refinements,
            repetitions: self.repetitions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_keep_their_time() {
        for (quick, most_s) in [(true, 300.0), (false, 2_700.0)] {
            let plan = Plan::new(quick);
            let sum: f64 = RampId::ALL.iter().map(|ramp| plan.budget_s(*ramp)).sum();
            assert!(sum <= most_s, "{sum}");
            assert!((plan.settle_s() * 4.0 - plan.step_s).abs() < 1e-9);
        }
    }

    #[test]
    fn ramps_have_names() {
        for ramp in RampId::ALL {
            assert_eq!(RampId::parse(ramp.name()), Ok(ramp));
        }
        assert_eq!(RampId::parse("r4"), Ok(RampId::R4));
        assert!(RampId::parse("R9").is_err() && RampId::parse("").is_err());
    }
}
