//! The search for a knee: geometric steps up to the first bad one, bisection, repetition. Pure.

use plimsoll_capacity::fit;
use plimsoll_capacity::measured::{EndedBy, Measured};

/// Share of the knee that a node is loaded with.
pub const RATED_RATIO: f64 = 0.7;
/// Steps downwards when the first one is bad already; after that there is no knee.
const DESCENTS_MAX: u32 = 6;

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Climb {
    /// The first load.
    pub first: f64,
    /// The largest one.
    pub ceiling: f64,
    /// Each load is so many times the one before; above 1.
    pub growth: f64,
    /// Bisections.
    pub refinements: u32,
    /// Searches, the first one included.
    pub repetitions: u32,
}

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    climb: Climb,
    phase: Phase,
    samples: Vec<Bracket>,
    /// The step is made for the second time.
    again: bool,
    /// The best and the worst that were seen outside of finished searches.
    good: f64,
    bad: Option<(f64, EndedBy)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Up(f64),
    Down(f64, u32),
    Between { low: f64, high: (f64, EndedBy), left: u32 },
    Over,
}

/// A knee lies between these.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bracket {
    good: f64,
    bad: f64,
    ended_by: EndedBy,
}

impl Search {
    /// Nothing is known yet.
    pub fn new(climb: Climb) -> Self {
        let first = climb.first.min(climb.ceiling);
        let phase = Phase::Up(first);
        Self { climb, phase, samples: Vec::new(), again: false, good: 0.0, bad: None }
    }

    /// The load to try next; none when all is known.
    pub fn next(&self) -> Option<f64> {
        match self.phase {
            Phase::Up(load) | Phase::Down(load, _) => Some(load),
            Phase::Between { low, high: (high, _), .. } => Some((low * high).sqrt()),
            Phase::Over => None,
        }
    }

    /// How it went: the rule that was broken, or none.
    ///
    /// What the server used is certain. Any other bad step may be a disturbance of the machine,
    /// and is made once more: it counts if it is bad again.
    pub fn tell(&mut self, broken: Option<EndedBy>) {
        let Some(load) = self.next() else { return };
        let doubtful = broken.is_some_and(|why| !matches!(why, EndedBy::Cpu | EndedBy::Memory));
        self.again = doubtful && !self.again;
        if self.again {
            return;
        }
        match (self.phase, broken) {
            (Phase::Up(_), None) => {
                self.good = load;
                let more = (load * self.climb.growth).min(self.climb.ceiling);
                self.phase = if load < self.climb.ceiling { Phase::Up(more) } else { Phase::Over };
            }
            (Phase::Up(_), Some(why)) => {
                self.bad = Some((load, why));
                self.phase = if self.good > 0.0 {
                    self.between(self.good, (load, why))
                } else {
                    Phase::Down(load / self.climb.growth.powi(2), DESCENTS_MAX)
                };
            }
            (Phase::Down(..), None) => {
                self.good = load;
                let high = self.bad.unwrap_or((load * self.climb.growth, EndedBy::EndOfRamp));
                self.phase = self.between(load, high);
            }
            (Phase::Down(_, left), Some(why)) => {
                self.bad = Some((load, why));
                let less = load / self.climb.growth.powi(2);
                self.phase = if left > 1 { Phase::Down(less, left - 1) } else { Phase::Over };
            }
            (Phase::Between { low, left, .. }, Some(why)) => self.narrow(low, (load, why), left),
            (Phase::Between { high, left, .. }, None) => self.narrow(load, high, left),
            (Phase::Over, _) => {}
        }
    }

    fn between(&mut self, low: f64, high: (f64, EndedBy)) -> Phase {
        if self.climb.refinements > 0 {
            return Phase::Between { low, high, left: self.climb.refinements };
        }
        self.samples.push(Bracket { good: low, bad: high.0, ended_by: high.1 });
        Phase::Over
    }

    fn narrow(&mut self, low: f64, high: (f64, EndedBy), left: u32) {
        self.phase = Phase::Between { low, high, left: left.saturating_sub(1) };
        if left > 1 {
            return;
        }
        self.samples.push(Bracket { good: low, bad: high.0, ended_by: high.1 });
        self.phase = Phase::Over;
        if (self.samples.len() as u32) < self.climb.repetitions {
            // Again, from a bracket wide enough for another answer.
            let wider = self.climb.growth.sqrt();
            let high = (high.0 * wider, high.1);
            self.phase =
                Phase::Between { low: low / wider, high, left: self.climb.refinements + 1 };
        }
    }

    /// The knee by what is known so far; none when no load was good.
    ///
    /// Its interval is Student's over the searches, but never narrower than what the searches
    /// left open between a good and a bad load.
    pub fn measured(&self, ramp: &str) -> Option<Measured> {
        let made = |knee: f64, low: f64, high: f64, ended_by: EndedBy| Measured {
            knee,
            rated: RATED_RATIO * knee,
            low,
            high,
            ended_by,
            ramp: ramp.to_owned(),
        };
        if let Some(last) = self.samples.last() {
            let knees: Vec<f64> = self.samples.iter().map(|sample| sample.good).collect();
            let knee = knees.iter().sum::<f64>() / knees.len() as f64;
            let (low, high) = fit::interval(&knees).unwrap_or((knee, knee));
            let low = knees.iter().copied().fold(low.max(0.0), f64::min);
            let high = self.samples.iter().map(|sample| sample.bad).fold(high, f64::max);
            return Some(made(knee, low, high, last.ended_by));
        }
        if self.good <= 0.0 {
            return None;
        }
        // Out of time, or at the ceiling.
        Some(match (self.phase, self.bad) {
            (Phase::Between { low, high, .. }, _) => made(low, low, high.0, high.1),
            (_, Some((bad, why))) => made(self.good, self.good, bad, why),
            _ => made(self.good, self.good, self.good, EndedBy::EndOfRamp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIMB: Climb =
        Climb { first: 1_000.0, ceiling: 1e6, growth: 1.6, refinements: 4, repetitions: 2 };

    /// A server that keeps its rules up to `knee`. Returns the finding and the steps it took.
    fn search(climb: Climb, knee: f64, why: EndedBy) -> (Option<Measured>, usize) {
        let mut search = Search::new(climb);
        let mut steps = 0;
        while let Some(load) = search.next() {
            steps += 1;
            assert!(steps < 200);
            search.tell((load > knee).then_some(why));
        }
        (search.measured("R4"), steps)
    }

    #[test]
    fn a_knee_is_found() {
        let (found, steps) = search(CLIMB, 50_000.0, EndedBy::Cpu);
        let found = found.unwrap();
        assert!((found.knee / 50_000.0 - 1.0).abs() < 0.04, "{found:?}");
        assert!(found.low <= found.knee && found.knee <= 50_000.0 && found.high >= 50_000.0);
        assert_eq!(found.rated, 0.7 * found.knee);
        assert_eq!((found.ended_by, found.ramp.as_str()), (EndedBy::Cpu, "R4"));
        assert!(steps < 25, "{steps}");
    }

    #[test]
    fn a_ramp_that_only_rises_says_so() {
        let (found, _) = search(CLIMB, 1e9, EndedBy::Cpu);
        let found = found.unwrap();
        assert_eq!((found.knee, found.ended_by), (1e6, EndedBy::EndOfRamp));
    }

    #[test]
    fn a_first_step_that_is_too_large_goes_down() {
        let (found, _) = search(CLIMB, 300.0, EndedBy::Latency);
        let found = found.unwrap();
        assert!(found.knee <= 300.0 && found.knee > 200.0, "{found:?}");
        assert_eq!(found.ended_by, EndedBy::Latency);
    }

    #[test]
    fn one_bad_step_is_a_disturbance() {
        let mut search = Search::new(CLIMB);
        search.tell(Some(EndedBy::Latency));
        assert_eq!(search.next(), Some(1_000.0), "once more");
        search.tell(None);
        assert_eq!(search.next(), Some(1_600.0));
        search.tell(Some(EndedBy::Cpu));
        assert!(search.next() < Some(1_600.0), "what the server used is certain");
    }

    #[test]
    fn nothing_good_is_no_knee() {
        let (found, steps) = search(CLIMB, 0.0, EndedBy::Latency);
        assert_eq!(found, None);
        assert_eq!(steps, 2 * (1 + DESCENTS_MAX as usize), "each twice");
    }

    #[test]
    fn out_of_time_it_tells_what_it_has() {
        let mut search = Search::new(CLIMB);
        assert_eq!(search.measured("R4"), None);
        search.tell(None);
        let first = search.measured("R4").unwrap();
        assert_eq!((first.knee, first.ended_by), (1_000.0, EndedBy::EndOfRamp));
        search.tell(Some(EndedBy::Drift));
        search.tell(Some(EndedBy::Drift));
        let second = search.measured("R4").unwrap();
        assert_eq!((second.knee, second.high), (1_000.0, 1_600.0));
        assert_eq!(second.ended_by, EndedBy::Drift);
    }

    #[test]
    fn repetitions_that_differ_widen_the_interval() {
        let mut search = Search::new(CLIMB);
        let mut knee = 50_000.0;
        while let Some(load) = search.next() {
            if !search.samples.is_empty() {
                knee = 44_000.0;
            }
            search.tell((load > knee).then_some(EndedBy::Cpu));
        }
        let found = search.measured("R4").unwrap();
        assert!(found.low < 44_000.0 && found.high > 50_000.0, "{found:?}");
        assert!(found.knee > 40_000.0 && found.knee < 50_000.0, "{found:?}");
    }

    proptest! {
        #[test]
        fn the_true_knee_lies_in_the_interval(
            knee in 50.0..2e6f64, growth in 1.2..3.0f64, refinements in 0..6u32,
            repetitions in 1..4u32,
        ) {
            let climb = Climb { growth, refinements, repetitions, ..CLIMB };
            let (found, _) = search(climb, knee, EndedBy::Cpu);
            if let Some(found) = found {
                prop_assert!(found.low <= found.knee && found.knee <= found.high);
                prop_assert!(found.knee <= knee * (1.0 + 1e-9));
                if found.ended_by != EndedBy::EndOfRamp {
                    prop_assert!(found.high >= knee * (1.0 - 1e-9), "{found:?}");
                }
            }
        }
    }
}
