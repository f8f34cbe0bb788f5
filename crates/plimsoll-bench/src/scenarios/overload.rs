//! `bench overload`: offer far more than a node carries, and see what it still does, what it says,
//! and how long it takes to be well again.

mod canary;

use super::common::{Switch, duration, range, rate};
use super::connect::let_in;
use super::node::{NodeWatch, Seen};
use super::{Bed, Common, Period, Watch};
use crate::clock::now_us;
use crate::fleet::{Finished, Load, Settle, Stream};
use crate::ledger::{Channel, Judgement, Ledger, Run};
use crate::limits;
use crate::report::{Live, Step, Summary, quantile_ms};
use crate::scenarios::run::judged;
use crate::server::{ROOM, ServerSetup};
use crate::topology::Topology;
use canary::Canary;
use clap::Args;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A rate is carried when this share of it is acknowledged and delivered, …
const CARRIED_RATIO: f64 = 0.97;
/// … and 99 of 100 deliveries come within this time.
const CARRIED_P99_MS: f64 = 500.0;
/// The search for the knee: the first rate in deliveries per second, its growth, …
const FIRST_RATE: f64 = 50_000.0;
const GROWTH: f64 = 1.4;
/// … and how long each is held.
const SEARCH_STEP: Duration = Duration::from_secs(3);
const SEARCH_STEPS_MAX: u32 = 32;
/// Publications per second and room before and after.
const CALM: f64 = 0.25;
const WARM_UP: Duration = Duration::from_secs(3);
/// A node that takes longer is not well again by itself.
const BACK_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether all is well.
const LOOK: Duration = Duration::from_millis(1_000);
/// Answers and deliveries that are under way may take so long at the end.
const SETTLE: Settle = Settle { answers: Duration::from_secs(30), heal: Duration::from_secs(10) };
/// Goodput at least, as a part of the knee.
const GOODPUT_MIN: f64 = 0.9;
/// Replies of the canary, 99 of 100, at most.
const REPLY_P99_MS_MAX: f64 = 1_000.0;

/// Offer multiples of what a node carries: what it still delivers, how it answers, what it tells.
#[derive(Clone, Debug, Args)]
pub struct OverloadArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// Whether the server that is started gives way under load.
    #[arg(long, value_enum, default_value = "on")]
    pub line: Switch,
    /// Rooms with history.
    #[arg(long, default_value_t = 4)]
    pub rooms: u32,
    /// Subscribers of each room.
    #[arg(long, default_value_t = 500)]
    pub subscribers: u32,
    /// Clients that publish. With few of them many publications share a read, and their answers a
    /// write, as those of a backend do; with as many as there are clients, each is on its own.
    #[arg(long, default_value_t = 20)]
    pub publishers: u32,
    /// What is carried, in deliveries per second; 0: it is looked for.
    #[arg(long, default_value_t = 0.0)]
    pub knee: f64,
    /// Multiples of it.
    #[arg(long, value_delimiter = ',', default_value = "1.2,2,5,10")]
    pub factors: Vec<f64>,
    /// How long each multiple is offered.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub duration: Duration,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    pub payload: u32,
    /// Memory the server may take, in MiB.
    #[arg(long, default_value_t = 1_024)]
    pub memory_mib: u32,
}

/// What one multiple came to.
struct Tried {
    factor: f64,
    period: Period,
    /// Replies of the canary in the period.
    canary: canary::Heard,
    node: Seen,
    /// Until everything was well again; none: it was not in time.
    back: Option<Duration>,
}

impl OverloadArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        self.check()?;
        let seconds = (self.duration + BACK_MAX / 2) * self.factors.len() as u32;
        let mut live = Live::new(self.common.json, self.common.quiet, seconds);
        let mut summary = Summary::of("overload");
        let knee = match self.knee > 0.0 {
            true => self.knee,
            false => self.find_knee(&mut live)?,
        };
        let line = if self.line == Switch::On { "on" } else { "off" };
        summary.notes.push(format!(
            "Multiples of {knee:.0} deliveries per second, in {} rooms of {} by {} publishers. The \
             load line is {line}.",
            self.rooms, self.subscribers, self.publishers,
        ));
        for factor in &self.factors {
            self.offer(*factor, knee, &mut live, &mut summary)?;
        }
        live.done();
        Ok(summary)
    }

    fn check(&self) -> Result<(), String> {
        if !self.common.url.is_empty() {
            return Err("bench overload starts its own server: --url is not for it".into());
        }
        let clients = u64::from(self.rooms) * u64::from(self.subscribers);
        range("--rooms × --subscribers", clients, 1, u64::from(limits::CLIENTS_MAX))?;
        let bytes = [limits::PAYLOAD_BYTES_MIN, limits::PAYLOAD_BYTES_MAX].map(u64::from);
        range("--payload", u64::from(self.payload), bytes[0], bytes[1])?;
        range("--publishers", u64::from(self.publishers), 1, clients.min(1_000))?;
        range("--factors: how many", self.factors.len() as u64, 1, 16)?;
        rate("--knee", self.knee, limits::DELIVERIES_PER_S_MAX)?;
        self.factors.iter().try_for_each(|factor| rate("--factors", *factor, 100.0))
    }

    fn clients(&self) -> u32 {
        self.rooms * self.subscribers
    }

    fn setup(&self) -> ServerSetup {
        let on = self.line == Switch::On;
        let settings = vec![
            ("overload.enabled".to_owned(), on.to_string()),
            ("overload.memory_limit".to_owned(), format!("\"{}MiB\"", self.memory_mib)),
        ];
        // Long enough for whoever was cut off to catch up.
        ServerSetup { settings, history_size: 20_000, ..ServerSetup::default() }
    }

    fn topology(&self) -> Arc<Topology> {
        Arc::new(Topology::rooms(ROOM, self.rooms, self.subscribers))
    }

    fn load(&self, deliveries_per_s: f64) -> Load {
        let per_s = deliveries_per_s / f64::from(self.subscribers.max(1));
        // Spread over the rooms, each into its own.
        let (publishers, clients) = (self.publishers, self.clients());
        let stream = |n: u32| {
            let client = n * (clients / publishers);
            let room = client / self.subscribers.max(1);
            Stream {
                per_s: per_s / f64::from(publishers),
                bytes: self.payload..self.payload + 1,
                channels: room..room + 1,
                by: Some(client),
            }
        };
        let streams = if per_s > 0.0 { (0..publishers).map(stream).collect() } else { Vec::new() };
        Load { clients: self.clients(), handshakes_max: 64, streams, ..Load::default() }
    }

    fn calm(&self) -> Load {
        self.load(CALM * f64::from(self.clients()))
    }

    /// The highest rate that is carried, on a server that gives nothing up.
    fn find_knee(&self, live: &mut Live) -> Result<f64, String> {
        let setup = ServerSetup { settings: Vec::new(), ..self.setup() };
        let bed = Bed::prepare(&self.common, self.clients(), setup)?;
        let topology = self.topology();
        let fleet = bed.fleet(&self.common, &topology, true)?;
        let mut watch = Watch::new(&bed, &fleet, live);
        let_in(&mut watch, &self.load(0.0), &topology)?;
        let (mut rate, mut knee, mut failed) = (FIRST_RATE, None, 0);
        for _ in 0..SEARCH_STEPS_MAX {
            fleet.apply(&self.load(rate));
            watch.hold("looking for the knee", SEARCH_STEP / 3);
            let period = watch.hold("looking for the knee", SEARCH_STEP);
            // One bad step may be the machine's.
            match is_carried(&period) {
                true => (knee, failed) = (Some(rate), 0),
                false => failed += 1,
            }
            if failed == 2 {
                break;
            }
            rate = (rate * GROWTH).min(limits::DELIVERIES_PER_S_MAX);
        }
        fleet.finish();
        knee.ok_or_else(|| format!("not even {FIRST_RATE} deliveries per second are carried"))
    }

    /// Offers a multiple to a fresh server, then half of what it carries.
    fn offer(
        &self,
        factor: f64,
        knee: f64,
        live: &mut Live,
        summary: &mut Summary,
    ) -> Result<(), String> {
        let mut bed = Bed::prepare(&self.common, self.clients(), self.setup())?;
        let topology = self.topology();
        let fleet = bed.fleet(&self.common, &topology, true)?;
        let started_us = now_us();
        let mut watch = Watch::new(&bed, &fleet, live);
        let node = NodeWatch::start(bed.endpoint().cloned().ok_or("no metrics")?);
        let_in(&mut watch, &self.load(0.0), &topology)?;
        let mut canary = Canary::start(bed.target(), bed.token_secret.as_deref())?;
        fleet.apply(&self.calm());
        watch.hold("before", WARM_UP);
        canary.forget();
        let level = node.level_now().unwrap_or_default();
        node.forget();
        fleet.apply(&self.load(factor * knee));
        let period = watch.hold("overloaded", self.duration);
        let seen = node.seen();
        let during = canary.heard();
        fleet.apply(&self.calm());
        let back = self.well_again(&mut watch, &node, level);
        let heard = canary.stop();
        fleet.apply(&self.load(0.0));
        watch.hold("settling", Duration::from_secs(1));
        let probes_from_us = now_us();
        let finished = fleet.finish_within(SETTLE);
        let tried = Tried {
            factor,
            period,
            canary: canary::Heard { notices: heard.notices, ..during },
            node: seen,
            back,
        };
        self.judge(&tried, knee, summary);
        self.books(&tried, &topology, started_us, probes_from_us, finished, summary);
        bed.look_after(summary);
        Ok(())
    }

    /// Waits until a part of the knee is carried as it should be, and the node says that all is
    /// as it was before.
    fn well_again(&self, watch: &mut Watch<'_>, node: &NodeWatch, level: u32) -> Option<Duration> {
        let begin = Instant::now();
        let mut good = 0;
        while begin.elapsed() < BACK_MAX {
            let period = watch.hold("coming back", LOOK);
            let is_well = is_carried(&period) && node.level_now().is_some_and(|now| now <= level);
            good = if is_well { good + 1 } else { 0 };
            if good == 2 {
                return Some(begin.elapsed().saturating_sub(2 * LOOK));
            }
        }
        None
    }

    fn judge(&self, tried: &Tried, knee: f64, summary: &mut Summary) {
        let step = told(tried, knee);
        let name = step.name.clone();
        let get = |key: &str| step.get(key);
        let mut found = Vec::new();
        if self.line == Switch::On {
            let goodput = get("goodput_ratio").unwrap_or_default();
            if goodput < GOODPUT_MIN {
                found.push(format!("goodput is {goodput:.2} of the knee, not {GOODPUT_MIN}"));
            }
            if get("reply_p99_ms").is_none_or(|p99| p99 > REPLY_P99_MS_MAX) {
                let p99 = get("reply_p99_ms").unwrap_or(f64::NAN);
                found.push(format!("replies took {p99:.0} ms (p99)"));
            }
            if let Some(why) = &tried.canary.broke {
                found.push(format!("the bystander heard no more: {why}"));
            }
            if tried.back.is_none() {
                found.push(format!("it was not well again within {BACK_MAX:?}"));
            }
            if tried.node.rss_bytes_max > u64::from(self.memory_mib) << 20 {
                found.push("it took more memory than its limit".into());
            }
        }
        for what in found {
            summary.finds(Judgement::Broken, format!("{name}: {what}"));
        }
        summary.steps.push(step);
    }

    fn books(
        &self,
        tried: &Tried,
        topology: &Topology,
        started_us: u64,
        probes_from_us: u64,
        mut finished: Finished,
        summary: &mut Summary,
    ) {
        let mut run = Run::new(&format!("{} × the knee", tried.factor), started_us, now_us());
        run.ended_us = finished.settled_us;
        run.settled = true;
        run.probes_from_us = Some(probes_from_us);
        run.deliveries_planned = 1;
        let channels = topology.all_channels();
        let channels = channels.map(|c| Channel { name: topology.name(c).into(), history: true });
        let ledger = Ledger {
            run,
            channels: channels.collect(),
            logs: std::mem::take(&mut finished.logs),
            stored: Vec::new(),
            comparisons: Vec::new(),
        };
        if finished.broken_threads > 0 {
            summary.finds(Judgement::Void, "the generator failed: its books are not whole");
        }
        let verdict = judged(summary, &ledger);
        summary
            .notes
            .push(format!("{} × the knee: the ledger is {}.", tried.factor, verdict.verdict));
    }
}

/// Whether what was offered was carried: what is late by less than the bound is on its way.
fn is_carried(period: &Period) -> bool {
    let during = &period.during;
    let on_the_way = CARRIED_P99_MS / 1e3 / period.seconds;
    let enough = |came: u64, due: u64| came as f64 >= due as f64 * (CARRIED_RATIO - on_the_way);
    let p99 = quantile_ms(&during.latency_us, 0.99);
    enough(during.acknowledged, during.due)
        && enough(during.deliveries, during.deliveries_due)
        && p99.is_some_and(|p99| p99 <= CARRIED_P99_MS)
}

fn told(tried: &Tried, knee: f64) -> Step {
    let (during, seconds) = (&tried.period.during, tried.period.seconds);
    let per_s = |n: u64| n as f64 / seconds;
    let mut step = Step::named(format!("{} ×", tried.factor));
    step.add("offered_per_s", "publications offered/s", per_s(during.due));
    step.add("published_per_s", "published/s", per_s(during.published));
    step.add("acknowledged_per_s", "acknowledged/s", per_s(during.acknowledged));
    let refused: u64 = during.errors.values().sum();
    step.add("refused_per_s", "refused/s", per_s(refused));
    step.add("deliveries_per_s", "deliveries/s", per_s(during.deliveries));
    step.add("goodput_ratio", "goodput / knee", per_s(during.deliveries) / knee);
    step.add("latency_p50_ms", "latency p50, ms", quantile_ms(&during.latency_us, 0.5));
    step.add("latency_p99_ms", "latency p99, ms", quantile_ms(&during.latency_us, 0.99));
    step.add("ack_p99_ms", "ack p99, ms", quantile_ms(&during.ack_us, 0.99));
    step.add("reply_p99_ms", "canary's reply p99, ms", quantile_ms(&tried.canary.reply_us, 0.99));
    step.count("closes", "connections closed by the server", during.closes.values().sum());
    step.count("unsubscribes", "told to recover", during.unsubscribes.values().sum());
    step.add("level_max", "highest level", f64::from(tried.node.level_max));
    step.add("until_level_s", "until a level, s", tried.node.until_level.map(|d| d.as_secs_f64()));
    step.count("notices", "notices heard by the canary", tried.canary.notices);
    step.count("unanswered", "looks at the metrics without an answer", tried.node.unanswered);
    step.add("rss_mb_max", "memory, most, MB", tried.node.rss_bytes_max as f64 / 1e6);
    step.add("back_s", "all well again after, s", tried.back.map(|d| d.as_secs_f64()));
    step.add("late_p99_ms", "generator late p99, ms", quantile_ms(&during.late_us, 0.99));
    step.add("generator_cores", "generator CPU, cores", during.cpu_us as f64 / seconds / 1e6);
    if let Some((before, after)) = tried.period.used {
        step.add("server_cores", "server CPU, cores", after.cpu_us_per_s(&before) / 1e6);
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Counters;

    fn period(due: u64, came: u64, p99_ms: u64) -> Period {
        let mut during = Counters { due, acknowledged: came, ..Counters::default() };
        during.deliveries_due = 10 * due;
        during.deliveries = 10 * came;
        during.latency_us.record_n(p99_ms * 1_000, 100).unwrap();
        Period { during, seconds: 3.0, used: None }
    }

    #[test]
    fn what_is_carried() {
        for (due, came, p99_ms, expect) in [
            (1_000, 1_000, 10, true),
            // Half a second's worth may be on its way at the end of three.
            (1_000, 810, 400, true),
            (1_000, 790, 400, false),
            (1_000, 1_000, 600, false),
        ] {
            assert_eq!(is_carried(&period(due, came, p99_ms)), expect, "{came} {p99_ms}");
        }
        assert!(!is_carried(&Period { during: Counters::default(), seconds: 1.0, used: None }));
    }

    #[test]
    fn goodput_is_a_part_of_the_knee() {
        let tried = Tried {
            factor: 2.0,
            period: period(6_000, 3_000, 300),
            canary: canary::Heard::new(period(1, 1, 7).during.latency_us),
            node: Seen::new(),
            back: Some(Duration::from_secs(40)),
        };
        let step = told(&tried, 10_000.0);
        assert_eq!((step.name.as_str(), step.get("goodput_ratio")), ("2 ×", Some(1.0)));
        assert_eq!((step.get("offered_per_s"), step.get("back_s")), (Some(2_000.0), Some(40.0)));
        assert!(step.get("reply_p99_ms").is_some_and(|ms| (ms - 7.0).abs() < 0.1));
        assert_eq!(step.get("until_level_s"), None, "it never had one");
    }
}
