//! R7: far more than the knee, and back.

use super::bench::{Bench, Fits};
use super::fanout::{self, Shape};
use super::plan::RampId;
use super::stage::{Stage, sleep_s};
use super::window::{self, Asked, Latency, Reading, Unit};
use plimsoll_capacity::measured::{Overload, Resource};
use std::time::{Duration, Instant};

/// Multiples of the knee.
const FACTORS: [f64; 4] = [1.2, 2.0, 5.0, 10.0];
/// Part of the knee that is carried afterwards.
const AFTER: f64 = 0.5;
/// Bytes of a payload.
const BYTES: u32 = 200;
/// Seconds between two looks whether all is well again.
const LOOK_S: f64 = 0.1;
/// Looks in a row that have to be good.
const GOOD_LOOKS: usize = 2;
/// A node that takes longer is not well again by itself.
const RECOVERY_S_MAX: f64 = 60.0;

/// Each factor on its own, with a pause in which the recovery is timed.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let knee = bench.found.resources.get(&Resource::DeliveriesPerS).map(|found| found.knee);
    let knee = knee.ok_or("R4 found no knee of deliveries")?;
    let mut stage = fanout::open(&bench.place)?;
    for factor in FACTORS {
        if bench.is_late(bench.plan.step_s) {
            bench.found.missing(format!("{factor} times the knee"), "R7 was out of time");
            continue;
        }
        let asked = Asked {
            ramp: RampId::R7.name(),
            offered: factor * knee,
            unit: Unit::Deliveries,
            latency: Latency::Delivery,
        };
        let load = fanout::load(Shape::Small, BYTES, factor * knee);
        let mut step = stage.measure(&bench.plan, asked, load)?;
        step.reached = step.deliveries_per_s;
        let goodput_ratio = step.deliveries_per_s / knee;
        bench.note(step, Fits::No);
        let patience = bench.end.saturating_duration_since(Instant::now());
        let recovery_s = recover(&mut stage, bench, knee, patience)?;
        bench.found.overload.push(Overload { factor, goodput_ratio, recovery_s });
    }
    Ok(())
}

/// Seconds until half of the knee is carried as it should be; none if that takes too long.
fn recover(
    stage: &mut Stage,
    bench: &Bench,
    knee: f64,
    patience: Duration,
) -> Result<Option<f64>, String> {
    let begin = Instant::now();
    let end = begin + patience.min(Duration::from_secs_f64(RECOVERY_S_MAX));
    stage.apply(fanout::load(Shape::Small, BYTES, AFTER * knee));
    let mut before = stage.read();
    let mut well_since = None;
    let mut good = 0;
    while Instant::now() < end {
        let looked = begin.elapsed().as_secs_f64();
        sleep_s(LOOK_S);
        let after = stage.read();
        if is_well(&before, &after, bench.rules.slo_p99_ms) {
            good += 1;
            let since = *well_since.get_or_insert(looked);
            if good >= GOOD_LOOKS {
                return Ok(Some(since));
            }
        } else {
            (well_since, good) = (None, 0);
        }
        before = after;
    }
    Ok(None)
}

/// Whether everything between two looks was delivered in time, and everybody is there.
fn is_well(before: &Reading, after: &Reading, slo_p99_ms: f64) -> bool {
    let asked = Asked {
        ramp: RampId::R7.name(),
        offered: 1.0,
        unit: Unit::Deliveries,
        latency: Latency::Delivery,
    };
    let step = window::step(asked, &[before.clone(), after.clone()]);
    step.is_some_and(|step| {
        step.deliveries_per_s > 0.0 && step.reached >= 0.99 && step.p99_ms <= slo_p99_ms
    })
}
