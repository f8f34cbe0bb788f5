//! From readings of fleet and server to a step. Pure.

use crate::fleet::Counters;
use crate::server::Usage;
use hdrhistogram::Histogram;
use plimsoll_capacity::fit;
use plimsoll_capacity::measured::Step;

/// A look at the fleet and at the server.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The fleet's counters.
    pub counters: Counters,
    /// What the server used; none when it is not known which process it is.
    pub usage: Option<Usage>,
}

/// The thing that a ramp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Connections that are open.
    Connections,
    /// Connects per second.
    Connects,
    /// Publications acknowledged per second.
    Publishes,
    /// Deliveries per second.
    Deliveries,
    /// Subscribes per second.
    Subscribes,
    /// Subscribes with recovery per second.
    Recoveries,
}

/// The latency that a ramp is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Of deliveries.
    Delivery,
    /// Of acknowledgements.
    Ack,
    /// Of connects, until subscribed.
    Connect,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Name of the ramp.
    pub ramp: &'static str,
    /// How much.
    pub offered: f64,
    /// Of what.
    pub unit: Unit,
    /// Judged by this.
    pub latency: Latency,
}

/// The step that these readings show: from the first to the last, with the ones between for the
/// slope of latency. None with fewer than two.
pub fn step(asked: Asked, readings: &[Reading]) -> Option<Step> {
    let (first, last) = (readings.first()?, readings.last()?);
    let seconds = last.counters.at_us.saturating_sub(first.counters.at_us) as f64 / 1e6;
    if readings.len() < 2 || seconds <= 0.0 {
        return None;
    }
    let all = last.counters.since(&first.counters);
    let per_s = |count: u64| count as f64 / seconds;
    let latency = histogram(&all, asked.latency);
    let recoveries = all.recoveries[0] + all.recoveries[1];
    Some(Step {
        ramp: asked.ramp.into(),
        offered: asked.offered,
        reached: reached(asked, &last.counters, &all, seconds),
        seconds,
        connections: last.counters.connected as f64,
        subscriptions: last.counters.subscribed as f64,
        connects_per_s: per_s(all.connects),
        publishes_per_s: per_s(all.published),
        deliveries_per_s: per_s(all.deliveries),
        bytes_per_s: per_s(all.delivery_bytes),
        recoveries_per_s: per_s(recoveries),
        server_cpu_us_per_s: between(readings, |before, after| after.cpu_us_per_s(before)),
        throttled_us_per_s: between(readings, |before, after| {
            let stopped = |usage: &Usage| usage.throttled_us.unwrap_or_default();
            stopped(after).saturating_sub(stopped(before)) as f64 / seconds
        }),
        waited_us_per_s: between(readings, |before, after| {
            after.waited_us.saturating_sub(before.waited_us) as f64 / seconds
        }),
        generator_cpu_us_per_s: per_s(all.cpu_us),
        server_rss_bytes: last.usage.map_or(0.0, |usage| usage.rss_bytes as f64),
        p50_ms: quantile_ms(latency, 0.5),
        p99_ms: quantile_ms(latency, 0.99),
        drift_ms_per_s: drift(asked.latency, readings),
        generator_late_p99_ms: quantile_ms(&all.late_us, 0.99),
    })
}

/// What was reached of what was offered. Only what a server left undone is missing: not what chance
/// did not ask for, nor what was on its way when the window began or ended.
fn reached(asked: Asked, last: &Counters, all: &Counters, seconds: f64) -> f64 {
    let share = match asked.unit {
        Unit::Connections => return last.connected as f64,
        // Who was cut has to come back, and who tried has to get through.
        Unit::Connects if all.cuts > 0 => random(all.connects as f64, all.cuts as f64),
        Unit::Connects => {
            done(all.connects as f64, all.attempts as f64, HANDSHAKES_ON_THE_WAY)
                * random(all.attempts as f64, asked.offered * seconds)
        }
        Unit::Subscribes => random(all.subscribes as f64, asked.offered * seconds),
        Unit::Recoveries => {
            let each = last.subscribed as f64 / (last.connected as f64).max(1.0);
            let recoveries = (all.recoveries[0] + all.recoveries[1]) as f64;
            // They come in heaps of one client's.
            random(recoveries / each.max(1.0), all.cuts as f64)
        }
        Unit::Publishes => done(all.acknowledged as f64, all.due as f64, 2.0),
        Unit::Deliveries => {
            let fan_out = all.deliveries_due as f64 / (all.published as f64).max(1.0);
            done(all.deliveries as f64, all.deliveries_due as f64, 2.0 * fan_out)
                * done(all.published as f64, all.due as f64, 2.0)
        }
    };
    asked.offered * share
}

/// Handshakes that may be under way at either end of a window: a hundredth of a second's worth of
/// the fastest server.
const HANDSHAKES_ON_THE_WAY: f64 = 100.0;

/// `count / due`, where a difference of up to `on_the_way` is none.
fn done(count: f64, due: f64, on_the_way: f64) -> f64 {
    if due - count <= on_the_way { 1.0 } else { count / due }
}

/// The same for things at random times: of `due` on average, three standard deviations less (of a
/// Poisson process, √due each) are still due to chance.
fn random(count: f64, due: f64) -> f64 {
    done(count, due, 3.0 * due.sqrt())
}

fn histogram(counters: &Counters, latency: Latency) -> &Histogram<u64> {
    match latency {
        Latency::Delivery => &counters.latency_us,
        Latency::Ack => &counters.ack_us,
        Latency::Connect => &counters.connect_us,
    }
}

fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if histogram.is_empty() { 0.0 } else { histogram.value_at_quantile(quantile) as f64 / 1e3 }
}

/// Slope of the mean latency over the slices, and half of its confidence interval.
fn drift(latency: Latency, readings: &[Reading]) -> [f64; 2] {
    let (mut times, mut means) = (Vec::new(), Vec::new());
    for pair in readings.windows(2) {
        let [before, after] = pair else { continue };
        let slice = after.counters.since(&before.counters);
        let histogram = histogram(&slice, latency);
        if !histogram.is_empty() {
            times.push((before.counters.at_us + after.counters.at_us) as f64 / 2e6);
            means.push(histogram.mean() / 1e3);
        }
    }
    // Two points have a slope and no doubt to judge it by.
    match fit::line(&times, &means) {
        Some(line) if line.slope_ci95.is_finite() => [line.slope, line.slope_ci95],
        _ => [0.0, 0.0],
    }
}

fn between(readings: &[Reading], figure: impl Fn(&Usage, &Usage) -> f64) -> f64 {
    let ends = readings.first().zip(readings.last());
    let usages = ends.and_then(|(first, last)| first.usage.zip(last.usage));
    usages.map_or(0.0, |(before, after)| figure(&before, &after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked =
        Asked { ramp: "R4", offered: 1_000.0, unit: Unit::Deliveries, latency: Latency::Delivery };

    /// Readings of a server that delivers `share` of 1,000 deliveries per second in rooms of ten,
    /// each slice of a second slower by `slower_us` than the one before.
    fn readings(seconds: u64, share: f64, slower_us: u64) -> Vec<Reading> {
        let mut made = vec![Reading { usage: Some(Usage::default()), ..Reading::default() }];
        for second in 1..=seconds {
            let mut next = made.last().cloned().unwrap();
            let count = (1_000.0 * share) as u64;
            next.counters.at_us += 1_000_000;
            next.counters.due += 100;
            next.counters.published += 100;
            next.counters.acknowledged += 100;
            next.counters.deliveries_due += 1_000;
            next.counters.deliveries += count;
            next.counters.delivery_bytes += 300 * count;
            next.counters.cpu_us += 2_000;
            next.counters.latency_us.record_n(1_000 + second * slower_us, count).unwrap();
            let usage = next.usage.as_mut().unwrap();
            usage.at_us += 1_000_000;
            usage.cpu_us += 5_000;
            usage.rss_bytes = 1 << 20;
            made.push(next);
        }
        made
    }

    #[test]
    fn rates_are_per_second() {
        let step = step(ASKED, &readings(4, 1.0, 0)).unwrap();
        assert_eq!((step.seconds, step.reached), (4.0, 1_000.0));
        assert_eq!((step.publishes_per_s, step.deliveries_per_s), (100.0, 1_000.0));
        assert_eq!((step.bytes_per_s, step.server_cpu_us_per_s), (300_000.0, 5_000.0));
        assert_eq!((step.generator_cpu_us_per_s, step.server_rss_bytes), (2_000.0, 1_048_576.0));
        assert!((step.p99_ms - 1.0).abs() < 0.01 && step.drift_ms_per_s[0].abs() < 1e-9);
    }

    #[test]
    fn what_is_missing_is_seen_and_what_is_on_its_way_is_not() {
        let reached = |share| step(ASKED, &readings(4, share, 0)).unwrap().reached;
        assert_eq!(reached(0.996), 1_000.0);
        assert!((reached(0.9) - 900.0).abs() < 1e-6);
    }

    #[test]
    fn chance_is_not_missing() {
        assert_eq!(random(9_710.0, 10_000.0), 1.0);
        assert_eq!(random(9_600.0, 10_000.0), 0.96);
        assert_eq!(random(0.0, 0.0), 1.0);
        assert_eq!(done(98.0, 100.0, 1.0), 0.98);
    }

    #[test]
    fn who_was_cut_has_to_come_back() {
        let mut readings = readings(4, 1.0, 0);
        let asked = Asked { offered: 500.0, unit: Unit::Connects, ..ASKED };
        readings[4].counters.cuts = 2_000;
        readings[4].counters.connects = 1_900;
        assert_eq!(step(asked, &readings).unwrap().reached, 500.0);
        readings[4].counters.connects = 1_500;
        assert_eq!(step(asked, &readings).unwrap().reached, 375.0);
        let asked = Asked { unit: Unit::Recoveries, ..asked };
        (readings[4].counters.connected, readings[4].counters.subscribed) = (100, 2_000);
        readings[4].counters.recoveries = [20_000, 10_000];
        assert_eq!(step(asked, &readings).unwrap().reached, 375.0);
    }

    #[test]
    fn latency_that_grows_is_a_drift() {
        let step = step(ASKED, &readings(6, 1.0, 10_000)).unwrap();
        let [slope, doubt] = step.drift_ms_per_s;
        assert!((slope - 10.0).abs() < 0.1 && doubt < 0.1, "{slope} {doubt}");
    }

    #[test]
    fn too_few_readings_are_no_step() {
        assert!(step(ASKED, &[]).is_none());
        assert!(step(ASKED, &readings(0, 1.0, 0)).is_none());
        let same = [Reading::default(), Reading::default()];
        assert!(step(ASKED, &same).is_none());
    }
}
