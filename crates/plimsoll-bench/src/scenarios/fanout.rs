//! `bench fanout`: what a delivery costs, and how many there can be.

use super::common::{duration, range};
use super::connect::let_in;
use super::{Bed, Common, Period, Watch, expect_quiet, troubles};
use crate::fleet::{Fleet, Load, Stream};
use crate::ledger::Judgement;
use crate::limits;
use crate::report::{Live, Step, Summary, bottleneck, traffic};
use crate::server::{LIVE, ServerSetup};
use crate::topology::Topology;
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// A rate grows by this much until the server no longer keeps up.
const GROWTH: f64 = 1.4;
/// Where the search begins when no rate is given before it: deliveries per second.
const FIRST_RATE: f64 = 20_000.0;
/// How long each rate of the search is held.
const SEARCH_STEP: Duration = Duration::from_secs(3);
/// Rates of a search: from 20,000 they reach 10^9.
const SEARCH_STEPS_MAX: u32 = 32;
/// A server keeps up when this share of what is due arrives within the step, …
const KEEPS_UP_RATIO: f64 = 0.97;
/// … and 99 of 100 deliveries within this time.
const KEEPS_UP_P99_MS: f64 = 250.0;
/// The generator may use this share of the server's CPU.
const GENERATOR_SHARE_MAX: f64 = 1.0 / 3.0;
/// Before a rate is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// For everything that is under way to arrive.
const DRAIN: Duration = Duration::from_secs(10);

/// Publish into rooms at given rates: CPU and latency of a delivery, deliveries per second.
#[derive(Clone, Debug, Args)]
pub struct FanoutArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// Rooms.
    #[arg(long, default_value_t = 100)]
    pub rooms: u32,
    /// Subscribers of each room.
    #[arg(long, default_value_t = 50)]
    pub subscribers: u32,
    /// Deliveries per second, one after the other; `saturated` raises the rate until the server
    /// no longer keeps up.
    #[arg(long, value_delimiter = ',', value_parser = Rate::read)]
    #[arg(default_value = "20000,saturated")]
    pub rates: Vec<Rate>,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    pub payload: u32,
    /// How long each rate is measured.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// What names of channels begin with. On our own server `room:` has history, `live:` has not.
    #[arg(long, default_value = LIVE)]
    pub prefix: String,
}

/// A rate of deliveries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many per second.
    PerS(f64),
    /// As many as the server keeps up with.
    Saturated,
}

impl Rate {
    fn read(text: &str) -> Result<Self, String> {
        if text == "saturated" {
            return Ok(Self::Saturated);
        }
        let read = text.parse().ok().filter(|n| (1.0..=limits::DELIVERIES_PER_S_MAX).contains(n));
        let most = limits::DELIVERIES_PER_S_MAX;
        Ok(Self::PerS(read.ok_or(format!("must be `saturated`, or 1 to {most}"))?))
    }
}

/// A rate that was tried.
struct Tried {
    period: Period,
    kept_up: bool,
    /// Deliveries that were due, and those that came, with what was under way at the end.
    due: u64,
    came: u64,
    troubles: Option<String>,
}

struct Bench<'a> {
    args: &'a FanoutArgs,
    fleet: &'a Fleet,
    clients: u32,
}

impl FanoutArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        let clients = u64::from(self.rooms) * u64::from(self.subscribers);
        range("--rooms × --subscribers", clients, 1, u64::from(limits::CLIENTS_MAX))?;
        let bytes = [limits::PAYLOAD_BYTES_MIN, limits::PAYLOAD_BYTES_MAX].map(u64::from);
        range("--payload", u64::from(self.payload), bytes[0], bytes[1])?;
        range("--rates: how many", self.rates.len() as u64, 1, 64)?;
        let clients = clients as u32;
        let mut bed = Bed::prepare(&self.common, clients, ServerSetup::default())?;
        let topology = Arc::new(Topology::rooms(&self.prefix, self.rooms, self.subscribers));
        let fleet = bed.fleet(&self.common, &topology, false)?;
        let length = (self.duration + WARM_UP) * self.rates.len() as u32;
        let mut live = Live::new(self.common.json, self.common.quiet, length);
        let mut watch = Watch::new(&bed, &fleet, &mut live);
        let mut summary = Summary::of("fanout");
        let bench = Bench { args: self, fleet: &fleet, clients };
        let_in(&mut watch, &bench.load(0.0), &topology)?;
        let mut last = FIRST_RATE;
        for rate in &self.rates {
            match rate {
                Rate::PerS(rate) => {
                    last = *rate;
                    let tried = bench.at(&mut watch, *rate, WARM_UP, self.duration);
                    judge(&mut summary, format!("{rate}/s"), &tried);
                }
                Rate::Saturated => bench.saturate(&mut watch, &mut summary, last),
            }
        }
        let finished = fleet.finish();
        live.done();
        if finished.counters.deliveries == 0 {
            summary.finds(Judgement::Void, "nothing was delivered");
        }
        if finished.broken_threads > 0 {
            summary.finds(Judgement::Void, "the generator failed");
        }
        bed.look_after(&mut summary);
        Ok(summary)
    }
}

impl Bench<'_> {
    fn load(&self, deliveries_per_s: f64) -> Load {
        let per_s = deliveries_per_s / f64::from(self.args.subscribers.max(1));
        let stream = Stream {
            per_s,
            bytes: self.args.payload..self.args.payload + 1,
            channels: 0..self.args.rooms,
            by: None,
        };
        let streams = if per_s > 0.0 { vec![stream] } else { Vec::new() };
        Load { clients: self.clients, handshakes_max: 64, streams, ..Load::default() }
    }

    /// Holds a rate, measures, and waits for what is under way.
    fn at(&self, watch: &mut Watch<'_>, rate: f64, warm_up: Duration, length: Duration) -> Tried {
        let start = watch.mark();
        self.fleet.apply(&self.load(rate));
        watch.hold("warming up", warm_up);
        let period = watch.hold("measuring", length);
        self.fleet.apply(&self.load(0.0));
        watch.until("draining", DRAIN, &mut |now| {
            let since = now.since(&start.counters);
            since.deliveries >= since.deliveries_due && since.acknowledged >= since.published
        });
        let whole = watch.since(&start).during;
        let p99 = crate::report::quantile_ms(&period.during.latency_us, 0.99);
        let wanted = rate * period.seconds;
        let kept_up = period.during.deliveries as f64 >= wanted * KEEPS_UP_RATIO
            && p99.is_some_and(|p99| p99 <= KEEPS_UP_P99_MS);
        Tried {
            kept_up,
            due: whole.deliveries_due,
            came: whole.deliveries,
            troubles: troubles(&whole),
            period,
        }
    }

    /// Raises the rate until the server no longer keeps up; the figures are those of the last rate
    /// with which it did.
    fn saturate(&self, watch: &mut Watch<'_>, summary: &mut Summary, first: f64) {
        let mut best: Option<(f64, Tried)> = None;
        let mut rate = first;
        for _ in 0..SEARCH_STEPS_MAX {
            let tried = self.at(watch, rate, SEARCH_STEP / 3, SEARCH_STEP);
            if !tried.kept_up {
                summary.notes.push(beyond(rate, &tried));
                break;
            }
            best = Some((rate, tried));
            rate = (rate * GROWTH).min(limits::DELIVERIES_PER_S_MAX);
        }
        match best {
            Some((rate, tried)) => judge(summary, format!("saturated: {rate:.0}/s"), &tried),
            None => summary.finds(
                Judgement::Void,
                format!(
                    "saturated: the server does not keep up with {first} deliveries per second"
                ),
            ),
        }
    }
}

/// A note on the first rate that was too much: what is lost there is no breach of a promise.
fn beyond(rate: f64, tried: &Tried) -> String {
    let seconds = tried.period.seconds;
    let troubles = tried.troubles.as_deref().map(|t| format!(" ({t})")).unwrap_or_default();
    format!(
        "At {rate:.0} deliveries per second it no longer kept up: {:.0} per second came{troubles}.",
        tried.period.during.deliveries as f64 / seconds
    )
}

fn judge(summary: &mut Summary, name: String, tried: &Tried) {
    let mut step = Step::named(name);
    let period = &tried.period;
    traffic(&mut step, &period.during, period.seconds, period.used);
    summary.notes.extend(bottleneck(&step, Some(GENERATOR_SHARE_MAX)));
    let (due, came) = (tried.due, tried.came);
    step.count("deliveries_due", "deliveries due", due);
    step.count("deliveries", "deliveries", came);
    if came != due {
        let what = if came < due { "lost" } else { "delivered more than once" };
        let text = format!("{}: of {due} deliveries {} were {what}", step.name, came.abs_diff(due));
        summary.finds(Judgement::Broken, text);
    }
    expect_quiet(summary, &period.during);
    summary.steps.push(step);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Counters;

    #[test]
    fn rates() {
        assert_eq!(Rate::read("saturated"), Ok(Rate::Saturated));
        assert_eq!(Rate::read("2e4"), Ok(Rate::PerS(20_000.0)));
        for bad in ["", "0", "-5", "nan", "inf", "1e18", "max"] {
            assert!(Rate::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_that_do_not_close() {
        let check = |due, came, expect: Option<&str>| {
            let during = Counters { deliveries: came, ..Counters::default() };
            let period = Period { during, seconds: 1.0, used: None };
            let tried = Tried { period, kept_up: true, due, came, troubles: None };
            let mut summary = Summary::of("fanout");
            judge(&mut summary, "1/s".into(), &tried);
            assert_eq!(summary.because.first().map(String::as_str), expect);
            assert_eq!(summary.verdict == Judgement::Kept, expect.is_none());
        };
        check(5, 5, None);
        check(5, 3, Some("1/s: of 5 deliveries 2 were lost"));
        check(5, 6, Some("1/s: of 5 deliveries 1 were delivered more than once"));
    }
}
