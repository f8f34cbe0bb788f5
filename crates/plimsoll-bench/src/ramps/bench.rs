//! What all ramps share: the plan, the place, the rules, and what was found so far.

use super::climb::{Climb, Search};
use super::found::Found;
use super::plan::{Plan, RampId};
use super::progress::Progress;
use super::stage::Place;
use plimsoll_capacity::fit::{self, KneeRules};
use plimsoll_capacity::measured::{EndedBy, Measured, Step};
use std::time::{Duration, Instant};

/// A server that waits for more than this share of its cores shares them with something else: what
/// things cost then is not what they cost. Below it the kernel's own work on those cores is seen
/// as well: 10 to 15 % where many connections come and go.
const DISTURBED_SHARE: f64 = 0.2;

/// A run of ramps.
#[derive(Debug)]
pub struct Bench {
    /// How long and how often.
    pub plan: Plan,
    /// Where.
    pub place: Place,
    /// What a step must keep.
    pub rules: KneeRules,
    /// What was found.
    pub found: Found,
    /// What is shown meanwhile.
    pub progress: Progress,
    /// When the ramp that runs is out of time.
    pub end: Instant,
}

/// Whether a step shows what things cost: then the cost model is fitted to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// If it keeps all rules: beyond the knee many frames share a write, and cost less each.
    Yes,
    /// It has something in it that the model has no term for.
    No,
}

impl Bench {
    /// A ramp begins.
    pub fn begin(&mut self, ramp: RampId, overall_end: Instant) {
        let own = Instant::now() + Duration::from_secs_f64(self.plan.budget_s(ramp));
        self.end = own.min(overall_end);
        self.progress.ramp(ramp);
    }

    /// Whether a further step of this many seconds is too much.
    pub fn is_late(&self, seconds: f64) -> bool {
        Instant::now() + Duration::from_secs_f64(seconds) > self.end
    }

    /// Writes a step down, and says which rule it broke.
    pub fn note(&mut self, step: Step, fits: Fits) -> Option<EndedBy> {
        let broken = broken(&step, &self.rules);
        self.progress.step(&step, broken);
        let disturbed = step.waited_us_per_s > DISTURBED_SHARE * self.rules.cores * 1e6;
        let good = broken.is_none() && !disturbed && step.server_cpu_us_per_s > 0.0;
        if fits == Fits::Yes && good {
            self.found.fitting.push(self.found.steps.len());
        }
        self.found.steps.push(step);
        broken
    }

    /// Says so if something else had a part of the server's cores.
    pub fn tell_of_disturbances(&mut self) {
        let most = DISTURBED_SHARE * self.rules.cores * 1e6;
        let all = self.found.steps.len();
        let disturbed = self.found.steps.iter().filter(|step| step.waited_us_per_s > most).count();
        if disturbed > 0 {
            let why = format!(
                "in {disturbed} of {all} steps the server was ready and something else had its \
                 cores for more than {:.0} % of the time: knees are low, and these steps say \
                 nothing of costs",
                100.0 * DISTURBED_SHARE
            );
            self.found.missing("a quiet machine", why);
        }
    }

    /// Looks for a knee. A step may come back with another load than was asked for, and none
    /// when it cannot be made. None when not even the smallest load keeps the rules.
    pub fn climb(
        &mut self,
        climb: Climb,
        fits: Fits,
        measure: &mut dyn FnMut(&Plan, f64) -> Result<Step, String>,
    ) -> Result<Option<Measured>, String> {
        let mut search = Search::new(climb);
        let from = self.found.steps.len();
        let mut ramp = String::new();
        while let Some(load) = search.next() {
            if self.is_late(self.plan.step_s) {
                break;
            }
            let step = measure(&self.plan, load)?;
            ramp.clone_from(&step.ramp);
            let broken = self.note(step, fits);
            search.tell(broken);
        }
        let steps = self.found.steps.get(from..).unwrap_or_default();
        Ok(search.measured(&ramp).map(|knee| bent(knee, steps, &self.rules)))
    }
}

/// The rule that a step breaks. Which one comes first when there are several: [`fit::knee`].
pub fn broken(step: &Step, rules: &KneeRules) -> Option<EndedBy> {
    // As a ramp from nothing, which keeps every rule, to this step.
    let ramp = [Step::default(), step.clone()];
    let knee = fit::knee(&ramp, rules)?;
    (knee.ended_by != EndedBy::EndOfRamp).then_some(knee.ended_by)
}

/// Lowers a knee to where the curve of p99 bends, if that comes first.
fn bent(found: Measured, steps: &[Step], rules: &KneeRules) -> Measured {
    let by_rule = fit::knee(steps, rules).map(|knee| knee.by_rule).unwrap_or_default();
    let bend = by_rule.into_iter().find(|(why, _)| *why == EndedBy::Bend);
    match bend {
        Some((why, load)) if load > 0.0 && load < found.low => Measured {
            knee: load,
            rated: super::climb::RATED_RATIO * load,
            low: load,
            high: found.knee,
            ended_by: why,
            ramp: found.ramp,
        },
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(offered: f64) -> Step {
        Step { offered, reached: offered, p99_ms: 3.0, server_cpu_us_per_s: 1e5, ..Step::default() }
    }

    #[test]
    fn one_step_is_judged() {
        let rules = KneeRules::new(100.0, 1.0, 1e9);
        let check = |change: &dyn Fn(&mut Step), expect| {
            let mut step = good(1_000.0);
            change(&mut step);
            assert_eq!(broken(&step, &rules), expect, "{step:?}");
        };
        check(&|_| (), None);
        check(&|step| step.reached = 980.0, Some(EndedBy::Goodput));
        check(&|step| step.p99_ms = 101.0, Some(EndedBy::Latency));
        check(&|step| step.server_cpu_us_per_s = 8.1e5, Some(EndedBy::Cpu));
        // It ran for a tenth, and was ready for three quarters.
        check(&|step| step.waited_us_per_s = 7.5e5, Some(EndedBy::Cpu));
        check(&|step| step.server_rss_bytes = 9e8, Some(EndedBy::Memory));
        check(&|step| step.generator_late_p99_ms = 50.0, Some(EndedBy::Generator));
    }

    #[test]
    fn a_bend_lowers_the_knee() {
        let rules = KneeRules::new(100.0, 1.0, 1e9);
        let found = Measured {
            knee: 900.0,
            rated: 630.0,
            low: 900.0,
            high: 1_000.0,
            ended_by: EndedBy::Cpu,
            ramp: "R4".into(),
        };
        let flat: Vec<Step> = (1..=9).map(|n| good(100.0 * f64::from(n))).collect();
        assert_eq!(bent(found.clone(), &flat, &rules), found);
        let mut steep = flat;
        for (step, p99_ms) in steep.iter_mut().skip(6).zip([30.0, 60.0, 95.0]) {
            step.p99_ms = p99_ms;
        }
        let lower = bent(found.clone(), &steep, &rules);
        assert_eq!(lower.ended_by, EndedBy::Bend);
        assert!(lower.knee < 900.0 && lower.knee >= 500.0, "{lower:?}");
        assert!((lower.rated - 0.7 * lower.knee).abs() < 1e-9);
    }

    /// A server that does 50,000 per second at most, with a queue that is that of M/M/1.
    fn simulated(offered: f64, noise: f64) -> Step {
        const CAPACITY: f64 = 50_000.0;
        let busy = (offered / CAPACITY).min(0.999) * noise;
        let over = (offered / CAPACITY - 1.0).max(0.0);
        Step {
            ramp: "R3".into(),
            offered,
            reached: offered.min(CAPACITY),
            publishes_per_s: offered.min(CAPACITY),
            seconds: 2.0,
            server_cpu_us_per_s: (1e6 * busy).min(1e6),
            p50_ms: 0.7 / (1.0 - busy.min(0.999)),
            p99_ms: 4.6 / (1.0 - busy.min(0.999)) + 1_000.0 * over,
            drift_ms_per_s: [500.0 * over, 1.0],
            ..Step::default()
        }
    }

    fn bench(rules: KneeRules) -> Bench {
        let plan = Plan::new(true);
        Bench {
            plan,
            place: Place {
                given: None,
                workers: 1,
                server_cores: vec![0],
                threads: 1,
                awake: false,
            },
            rules,
            found: Found::default(),
            progress: Progress::new(&plan, &RampId::ALL, false),
            end: Instant::now() + Duration::from_secs(3_600),
        }
    }

    #[test]
    fn the_knee_of_a_simulated_server_is_found() {
        let check = |rules: KneeRules, expect: f64, ended_by: EndedBy| {
            let mut bench = bench(rules);
            let climb = bench.plan.climb(1_000.0, 1e7);
            let found = bench
                .climb(climb, Fits::Yes, &mut |_, load| Ok(simulated(load, 1.0)))
                .unwrap()
                .unwrap();
            assert_eq!(found.ended_by, ended_by, "{found:?}");
            assert!(found.low <= expect * 1.001 && expect <= found.high * 1.001, "{found:?}");
            assert!(found.knee <= expect * 1.001 && found.knee > 0.8 * expect, "{found:?}");
            let fitted = bench.found.fitting.iter().map(|at| bench.found.steps[*at].offered);
            assert!(fitted.fold(0.0, f64::max) <= expect * 1.001, "beyond the knee");
            assert!(bench.found.fitting.len() > 4);
        };
        // 80 % of one core is 40,000.
        let rules = KneeRules::new(500.0, 1.0, 1e9);
        check(rules, 40_000.0, EndedBy::Cpu);
        // p99 = 4.6 / (1 − load / capacity) reaches 10 ms at 27,000.
        check(KneeRules::new(10.0, 1.0, 1e9), 27_000.0, EndedBy::Latency);
        // Of 50,505 the 50,000 that it does are 99 %.
        check(KneeRules::new(1e9, 4.0, 1e9), 50_000.0 / 0.99, EndedBy::Goodput);
    }

    #[test]
    fn a_ramp_without_time_makes_no_step() {
        let mut bench = bench(KneeRules::new(100.0, 1.0, 1e9));
        bench.end = Instant::now();
        let climb = bench.plan.climb(1_000.0, 1e7);
        let found = bench.climb(climb, Fits::Yes, &mut |_, load| Ok(simulated(load, 1.0)));
        assert_eq!(found, Ok(None));
        assert!(bench.found.steps.is_empty());
    }

    #[test]
    fn what_others_disturb_is_told_and_not_fitted() {
        let mut bench = bench(KneeRules::new(100.0, 1.0, 1e9));
        bench.note(good(1.0), Fits::Yes);
        bench.tell_of_disturbances();
        assert!(bench.found.not_measured.is_empty());
        let disturbed = Step { waited_us_per_s: 2.5e5, ..good(2.0) };
        assert_eq!(bench.note(disturbed, Fits::Yes), None);
        bench.note(good(3.0), Fits::No);
        bench.tell_of_disturbances();
        assert_eq!(bench.found.fitting, [0]);
        assert!(bench.found.not_measured[0].why.contains("1 of 3 steps"));
    }

    #[test]
    fn a_step_that_fails_ends_the_ramp() {
        let mut bench = bench(KneeRules::new(100.0, 1.0, 1e9));
        let climb = bench.plan.climb(1_000.0, 1e7);
        let found = bench.climb(climb, Fits::Yes, &mut |_, _| Err("the server ended".into()));
        assert_eq!(found, Err("the server ended".into()));
    }
}
