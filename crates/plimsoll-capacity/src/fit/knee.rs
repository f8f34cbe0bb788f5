//! The knee of a ramp: the largest load that kept every rule.

use crate::measured::{EndedBy, Step};

/// The rules that a step must keep. [`KneeRules::new`] gives the usual ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KneeRules {
    /// Bound of the 99th percentile of latency, milliseconds.
    pub slo_p99_ms: f64,
    /// Cores the server may use.
    pub cores: f64,
    /// Bytes of memory the server may use.
    pub memory_bytes: f64,
    /// Descriptors the server may open, one for each connection; infinite = no rule.
    pub descriptors: f64,
    /// Cores the generator may use; infinite = no rule.
    pub generator_cores: f64,
    /// Share of the offered load that must be reached.
    pub goodput_ratio_min: f64,
    /// Share of the server's cores that may be used.
    pub cpu_share_max: f64,
    /// Share of memory, and of descriptors, that may be used.
    pub memory_share_max: f64,
    /// How late the generator's 99th percentile may be, milliseconds: latency counts from the
    /// intended time, so that this much of it is the generator's.
    pub generator_late_ms_max: f64,
    /// Share of the generator's cores above which it is not known what it would have offered.
    pub generator_cpu_share_max: f64,
}

impl KneeRules {
    /// The usual rules for a server with these cores and bytes of memory. Descriptors and the
    /// generator's cores have no rule until they are set.
    pub fn new(slo_p99_ms: f64, cores: f64, memory_bytes: f64) -> Self {
        Self {
            slo_p99_ms,
            cores,
            memory_bytes,
            descriptors: f64::INFINITY,
            generator_cores: f64::INFINITY,
            goodput_ratio_min: 0.99,
            cpu_share_max: 0.8,
            memory_share_max: 0.8,
            generator_late_ms_max: slo_p99_ms / 5.0,
            generator_cpu_share_max: 0.9,
        }
    }
}

/// The knee of a ramp.
#[derive(Clone, Debug, PartialEq)]
pub struct Knee {
    /// The load: what was reached, and not more than was offered.
    pub load: f64,
    /// The rule that the next step broke.
    pub ended_by: EndedBy,
    /// The step it is, in the order the steps were given in.
    pub index: usize,
    /// Every rule that was broken in the ramp, with the load up to which it was kept (0 when the
    /// first step broke it).
    pub by_rule: Vec<(EndedBy, f64)>,
}

/// Steps that a bend of the latency curve needs to be seen.
const BEND_STEPS_MIN: usize = 5;
/// p99 beyond so many times the bound is one and the same: too late. Without a cap, the height of
/// the last point alone would decide where the curve seems to bend.
const BEND_CAP_SLO: f64 = 10.0;
/// A curve whose p99 stays under this share of the bound may bend as it likes: a server that
/// gathers more into each write at load has such a bend, and is not at its end.
const BEND_PART_OF_SLO: f64 = 0.5;
/// How far the curve must hang under its chord, both axes scaled to 0..1.
const BEND_DEPTH_MIN: f64 = 0.3;
/// Latency that grows over the whole step by less than this share of the bound is no queue that
/// grows, however sure the slope is.
const DRIFT_PART_OF_SLO: f64 = 0.1;

/// Whether a step breaks a rule.
type Broken = fn(&Step, &KneeRules) -> bool;

/// In this order a rule is named when one step breaks several: what the server used is certain;
/// when the generator was late, goodput and latency say nothing about the server.
const RULES: [(EndedBy, Broken); 6] = [
    (EndedBy::Cpu, cpu_broken),
    (EndedBy::Memory, memory_broken),
    (EndedBy::Generator, generator_broken),
    (EndedBy::Goodput, goodput_broken),
    (EndedBy::Latency, |s, r| s.p99_ms.is_nan() || s.p99_ms > r.slo_p99_ms),
    (EndedBy::Drift, drift_broken),
];

/// The knee of one ramp: the lowest of the loads up to which each rule was kept. None when the
/// smallest step broke one already (or there is no step).
///
/// A rule ends at the first step that breaks it if the next larger step breaks it too, or there is
/// none: one bad step between good ones is a disturbance of the machine.
pub fn knee(steps: &[Step], rules: &KneeRules) -> Option<Knee> {
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by(|a, b| steps[*a].offered.total_cmp(&steps[*b].offered));
    let sorted: Vec<&Step> = order.iter().map(|at| &steps[*at]).collect();
    let ends = RULES.iter().map(|(why, broken)| {
        let is_broken: Vec<bool> = sorted.iter().map(|step| broken(step, rules)).collect();
        (*why, first_confirmed(&is_broken))
    });
    let bend = bend(&sorted, rules).map(|at| at + 1);
    let mut ends: Vec<(EndedBy, usize)> =
        ends.chain([(EndedBy::Bend, bend)]).filter_map(|(why, end)| Some((why, end?))).collect();
    let load = |end: usize| {
        end.checked_sub(1).and_then(|at| sorted.get(at)).map_or(0.0, |s| s.reached.min(s.offered))
    };
    let by_rule = ends.iter().map(|(why, end)| (*why, load(*end))).collect();
    ends.push((EndedBy::EndOfRamp, sorted.len()));
    // The first of equals: the order of the rules.
    let (ended_by, end) = ends.into_iter().min_by_key(|(_, end)| *end)?;
    // A disturbed step in front of the end is not a load that kept all rules.
    let good = |at: &usize| !RULES.iter().any(|(_, broken)| broken(sorted[*at], rules));
    let at = (0..end).rev().find(good)?;
    Some(Knee { load: load(at + 1), ended_by, index: order[at], by_rule })
}

/// The first broken step that the next confirms.
fn first_confirmed(is_broken: &[bool]) -> Option<usize> {
    let confirmed = |at: &usize| is_broken[*at] && is_broken.get(at + 1).copied().unwrap_or(true);
    (0..is_broken.len()).find(confirmed)
}

/// A server that is ready and has to wait is as busy as one that runs: where something else takes
/// a part of its cores, that part is not there to be used.
fn cpu_broken(step: &Step, rules: &KneeRules) -> bool {
    let busy = step.server_cpu_us_per_s + step.waited_us_per_s;
    busy > rules.cpu_share_max * rules.cores * 1e6 || step.throttled_us_per_s > 0.0
}

fn memory_broken(step: &Step, rules: &KneeRules) -> bool {
    step.server_rss_bytes > rules.memory_share_max * rules.memory_bytes
        || step.connections > rules.memory_share_max * rules.descriptors
}

fn generator_broken(step: &Step, rules: &KneeRules) -> bool {
    let cpu_max = rules.generator_cpu_share_max * rules.generator_cores * 1e6;
    step.generator_late_p99_ms > rules.generator_late_ms_max
        || step.generator_cpu_us_per_s > cpu_max
}

fn goodput_broken(step: &Step, rules: &KneeRules) -> bool {
    step.reached.is_nan() || step.reached < step.offered * rules.goodput_ratio_min
}

fn drift_broken(step: &Step, rules: &KneeRules) -> bool {
    let [slope, half] = step.drift_ms_per_s;
    slope > half && slope * step.seconds > DRIFT_PART_OF_SLO * rules.slo_p99_ms
}

/// The step at which p99 bends upwards, by Kneedle (Satopää and others, 2011) for a curve that
/// rises ever more steeply: with both axes scaled to 0..1, where it hangs lowest under its chord.
fn bend(sorted: &[&Step], rules: &KneeRules) -> Option<usize> {
    let loads: Vec<f64> = sorted.iter().map(|step| step.offered).collect();
    let cap = BEND_CAP_SLO * rules.slo_p99_ms;
    let capped: Vec<f64> = sorted.iter().map(|step| step.p99_ms.min(cap)).collect();
    let (first, last) = (*loads.first()?, *loads.last()?);
    let low = capped.iter().copied().fold(f64::INFINITY, f64::min);
    let high = capped.iter().copied().fold(0.0, f64::max);
    // A curve that is highest in its middle does not bend upwards.
    let ends_high = capped.last().is_some_and(|p99| *p99 >= 0.9 * high);
    let tells = sorted.len() >= BEND_STEPS_MIN
        && last > first
        && high >= BEND_PART_OF_SLO * rules.slo_p99_ms
        && ends_high;
    if !tells {
        return None;
    }
    let depth =
        |at: usize| (loads[at] - first) / (last - first) - (capped[at] - low) / (high - low);
    let deepest = (0..loads.len()).max_by(|a, b| depth(*a).total_cmp(&depth(*b)))?;
    (depth(deepest) >= BEND_DEPTH_MIN).then_some(deepest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPACITY: f64 = 50_000.0;
    const SLO_MS: f64 = 0.75;

    /// A queue with one server that carries 50,000/s, offered `load` for a minute. Beyond its
    /// capacity a part is not done and the wait grows.
    fn queue(load: f64) -> Step {
        let full = load >= CAPACITY;
        Step {
            ramp: "R4".into(),
            offered: load,
            reached: if full { 0.985 * CAPACITY } else { load },
            seconds: 60.0,
            p99_ms: if full { 60_000.0 } else { 100f64.ln() * 1e3 / (CAPACITY - load) },
            drift_ms_per_s: if full { [500.0, 20.0] } else { [0.0, 0.01] },
            server_cpu_us_per_s: 1e6 * (load / CAPACITY).min(1.0),
            server_rss_bytes: 1e8,
            connections: 1_000.0,
            ..Step::default()
        }
    }

    fn ramp() -> Vec<Step> {
        (1..=21u32).map(|i| queue(2_500.0 * f64::from(i))).collect()
    }

    fn rules() -> KneeRules {
        KneeRules::new(SLO_MS, 4.0, 8e9)
    }

    #[test]
    fn a_queue_of_known_capacity() {
        let found = knee(&ramp(), &rules()).unwrap();
        assert_eq!((found.load, found.ended_by, found.index), (42_500.0, EndedBy::Latency, 16));
        let of = |why| found.by_rule.iter().find(|(w, _)| *w == why).map(|(_, load)| *load);
        assert_eq!(of(EndedBy::Goodput), Some(47_500.0));
        assert_eq!(of(EndedBy::Drift), Some(47_500.0));
        assert_eq!(of(EndedBy::Bend), Some(45_000.0));
        assert_eq!(of(EndedBy::Cpu), None);
        assert_eq!(of(EndedBy::Generator), None);
    }

    #[test]
    fn each_rule_ends_a_ramp() {
        let check = |change: fn(&mut Step), rules: KneeRules, expect: (f64, EndedBy)| {
            let mut steps = ramp();
            steps.iter_mut().for_each(change);
            let found = knee(&steps, &rules).unwrap();
            assert_eq!((found.load, found.ended_by), expect);
        };
        let lax = KneeRules { slo_p99_ms: 1e6, ..rules() };
        check(|_| (), lax, (47_500.0, EndedBy::Goodput));
        check(|s| s.reached = s.offered, lax, (52_500.0, EndedBy::EndOfRamp));
        // Not late by the bound, and done in the end, but the wait grows by half a minute.
        let drift = KneeRules { slo_p99_ms: 65_000.0, ..rules() };
        check(|s| s.reached = s.offered, drift, (47_500.0, EndedBy::Drift));
        check(|_| (), KneeRules { cores: 1.0, ..rules() }, (40_000.0, EndedBy::Cpu));
        let throttled = |s: &mut Step| {
            s.throttled_us_per_s = if s.offered > 20_000.0 { 1.0 } else { 0.0 };
        };
        check(throttled, rules(), (20_000.0, EndedBy::Cpu));
        let memory = |s: &mut Step| s.server_rss_bytes = s.offered * 1e5;
        check(memory, KneeRules { memory_bytes: 2e9, ..rules() }, (15_000.0, EndedBy::Memory));
        let sockets = |s: &mut Step| s.connections = s.offered;
        check(sockets, KneeRules { descriptors: 5e4, ..rules() }, (40_000.0, EndedBy::Memory));
        let late = |s: &mut Step| {
            s.generator_late_p99_ms = if s.offered > 30_000.0 { SLO_MS } else { 0.0 };
        };
        check(late, rules(), (30_000.0, EndedBy::Generator));
        let busy = |s: &mut Step| s.generator_cpu_us_per_s = s.offered * 1e6 / 25_000.0;
        check(busy, KneeRules { generator_cores: 1.0, ..rules() }, (22_500.0, EndedBy::Generator));
        // Late in the very step that was too slow: nobody knows whose fault it was.
        let both = |s: &mut Step| {
            s.generator_late_p99_ms = if s.offered > 42_500.0 { SLO_MS } else { 0.0 };
        };
        check(both, rules(), (42_500.0, EndedBy::Generator));
    }

    #[test]
    fn no_knee() {
        assert_eq!(knee(&[], &rules()), None);
        assert_eq!(knee(&ramp()[17..], &rules()), None);
        assert_eq!(knee(&[Step { p99_ms: f64::NAN, ..queue(2_500.0) }], &rules()), None);
    }

    #[test]
    fn one_disturbed_step_is_no_knee() {
        let mut steps = ramp();
        steps[5].p99_ms = 3.0;
        assert_eq!(knee(&steps, &rules()).unwrap().load, 42_500.0);
        steps[16].p99_ms = 3.0;
        let found = knee(&steps, &rules()).unwrap();
        assert_eq!((found.load, found.ended_by), (40_000.0, EndedBy::Latency));
    }

    #[test]
    fn steps_in_any_order() {
        let mut steps = ramp();
        steps.reverse();
        let found = knee(&steps, &rules()).unwrap();
        assert_eq!((found.load, found.index), (42_500.0, 4));
    }

    #[test]
    fn a_bend_far_below_the_bound_is_none() {
        let steps: Vec<Step> = ramp().into_iter().filter(|s| s.offered < CAPACITY).collect();
        let lax = KneeRules { slo_p99_ms: 100.0, ..rules() };
        let found = knee(&steps, &lax).unwrap();
        assert_eq!((found.load, found.ended_by), (47_500.0, EndedBy::EndOfRamp));
        // Flat, and a straight line.
        for p99 in [|_: f64| 0.7, |load: f64| load / 75_000.0] {
            let mut steps = steps.clone();
            steps.iter_mut().for_each(|s| s.p99_ms = p99(s.offered));
            assert_eq!(knee(&steps, &rules()).unwrap().ended_by, EndedBy::EndOfRamp);
        }
    }

    proptest! {
        #[test]
        fn never_above_the_largest_good_step(
            steps in prop::collection::vec(
                (1.0..1e5f64, 0.9..1.1f64, 0.0..2.0f64, 0.0..5e6f64, -1.0..1.0f64), 0..12),
        ) {
            let steps: Vec<Step> = steps
                .into_iter()
                .map(|(offered, share, p99_ms, cpu, drift)| Step {
                    offered,
                    reached: offered * share,
                    seconds: 10.0,
                    p99_ms,
                    server_cpu_us_per_s: cpu,
                    drift_ms_per_s: [drift, 0.5],
                    ..Step::default()
                })
                .collect();
            let rules = rules();
            let good = |s: &&Step| !RULES.iter().any(|(_, broken)| broken(s, &rules));
            let best = steps.iter().filter(good).map(|s| s.offered).fold(0.0, f64::max);
            if let Some(found) = knee(&steps, &rules) {
                prop_assert!(found.load <= best, "{} > {best}", found.load);
                prop_assert!(good(&&steps[found.index]));
            }
        }
    }
}
