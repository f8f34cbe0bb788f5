//! `bench slow`: readers that never read among good ones in one busy room.

use super::common::{Switch, duration, range, rate};
use super::connect::let_in;
use super::history::token;
use super::line::Line;
use super::node::NodeWatch;
use super::{Bed, Common, Period, Watch};
use crate::fleet::{Load, Stream, Target};
use crate::ledger::Judgement;
use crate::limits;
use crate::report::{Live, Step, Summary, quantile_ms};
use crate::scrape::Metrics;
use crate::server::{ROOM, ServerSetup};
use crate::topology::Topology;
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Every other bad reader has a receive buffer of this size: it stalls at once, the others when
/// the kernel's buffers are full.
const SMALL_BUFFER_BYTES: usize = 2 * 1024;
/// Good readers are to have their p99 within this factor of what it is without the bad ones, …
const P99_RATIO_MAX: f64 = 1.5;
/// … or this: below, both are the machine's noise.
const P99_MS_ANYWAY: f64 = 20.0;
/// Memory at most, as a multiple of the formula.
const RSS_RATIO_MAX: f64 = 1.3;
/// How long a reader that takes nothing may stay: the server's stall limit, a look, and a bit.
const CUT_MAX: Duration = Duration::from_secs(15);

/// Put readers that never read among good ones: what these notice of it, what it costs.
#[derive(Clone, Debug, Args)]
pub struct SlowArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// Whether the server that is started gives way under load.
    #[arg(long, value_enum, default_value = "on")]
    pub line: Switch,
    /// Readers that read.
    #[arg(long, default_value_t = 500)]
    pub good: u32,
    /// Readers that do not.
    #[arg(long, default_value_t = 500)]
    pub bad: u32,
    /// Publications per second into the room.
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 4_000)]
    pub payload: u32,
    /// How long, without the bad readers and then with them.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub duration: Duration,
}

impl SlowArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        if !self.common.url.is_empty() {
            return Err("bench slow starts its own server: --url is not for it".into());
        }
        range("--good", u64::from(self.good), 1, u64::from(limits::CLIENTS_MAX))?;
        range("--bad", u64::from(self.bad), 1, limits::BAD_READERS_MAX)?;
        rate("--rate", self.rate, limits::RATE_PER_S_MAX)?;
        let bytes = [limits::PAYLOAD_BYTES_MIN, limits::PAYLOAD_BYTES_MAX].map(u64::from);
        range("--payload", u64::from(self.payload), bytes[0], bytes[1])?;
        let on = (self.line == Switch::On).to_string();
        let settings = vec![("overload.enabled".to_owned(), on)];
        let setup = ServerSetup { settings, ..ServerSetup::default() };
        let mut bed = Bed::prepare(&self.common, self.good + self.bad, setup)?;
        let topology = Arc::new(Topology::rooms(ROOM, 1, self.good));
        let fleet = bed.fleet(&self.common, &topology, false)?;
        let mut live = Live::new(self.common.json, self.common.quiet, self.duration * 2);
        let mut watch = Watch::new(&bed, &fleet, &mut live);
        let load = Load { clients: self.good, handshakes_max: 64, ..Load::default() };
        let_in(&mut watch, &load, &topology)?;
        let node = NodeWatch::start(bed.endpoint().cloned().ok_or("no metrics")?);
        let stream = Stream {
            per_s: self.rate,
            bytes: self.payload..self.payload + 1,
            channels: 0..1,
            by: Some(0),
        };
        fleet.apply(&Load { streams: vec![stream], ..load.clone() });
        watch.hold("warming up", Duration::from_secs(2));
        node.forget();
        let without = watch.hold("without", self.duration);
        let rss_before = node.seen().rss_bytes_max;
        node.forget();
        let cut_before = cut(&read(&bed)?);
        let bad = self.deaf(&bed)?;
        let with = watch.hold("with", self.duration);
        let rss = node.seen().rss_bytes_max;
        fleet.apply(&load);
        let mut summary = Summary::of("slow");
        let came = bad.len() as u64;
        let cut = self.wait_for_cuts(&bed, &mut watch, came, cut_before)?;
        fleet.finish();
        live.done();
        self.told(&mut summary, [&without, &with], [rss_before, rss], [came, cut]);
        bed.look_after(&mut summary);
        Ok(summary)
    }

    /// Lets the bad readers come.
    fn deaf(&self, bed: &Bed) -> Result<Vec<Line>, String> {
        let secret = bed.token_secret.as_deref();
        (0..self.bad).map(|index| deaf(bed.target(), secret, index % 2 == 1)).collect()
    }

    /// Who stalled last has to be cut as the others were.
    fn wait_for_cuts(
        &self,
        bed: &Bed,
        watch: &mut Watch<'_>,
        came: u64,
        before: u64,
    ) -> Result<u64, String> {
        let begin = Instant::now();
        loop {
            let now = cut(&read(bed)?).saturating_sub(before);
            if now >= came || begin.elapsed() > CUT_MAX {
                return Ok(now);
            }
            watch.hold("cutting", Duration::from_millis(500));
        }
    }

    fn told(
        &self,
        summary: &mut Summary,
        periods: [&Period; 2],
        rss: [u64; 2],
        [came, cut]: [u64; 2],
    ) {
        let p99 = periods.map(|p| quantile_ms(&p.during.latency_us, 0.99).unwrap_or(f64::NAN));
        for (name, period) in ["without", "with"].into_iter().zip(periods) {
            let mut step = Step::named(name);
            crate::report::traffic(&mut step, &period.during, period.seconds, period.used);
            summary.steps.push(step);
        }
        // What a queue may hold at most, and a third for the allocator.
        let formula = rss[0] + u64::from(self.bad) * limits::SERVER_QUEUE_BYTES;
        if let Some(step) = summary.steps.last_mut() {
            step.add("p99_ratio", "p99 with / without", p99[1] / p99[0]);
            step.count("bad_came", "bad readers that came", came);
            step.count("bad_cut", "bad readers cut", cut);
            step.add("rss_mb_max", "memory, most, MB", rss[1] as f64 / 1e6);
            step.add("rss_formula_mb", "memory by the formula, MB", formula as f64 / 1e6);
        }
        summary.notes.push(format!(
            "Memory by the formula: {:.1} MB before + {} bad readers × {} KiB of queue each.",
            rss[0] as f64 / 1e6,
            self.bad,
            limits::SERVER_QUEUE_BYTES >> 10
        ));
        if !(p99[1] <= P99_RATIO_MAX * p99[0] || p99[1] <= P99_MS_ANYWAY) {
            let text = format!("good readers waited {:.1} ms (p99), {:.1} before", p99[1], p99[0]);
            summary.finds(Judgement::Broken, text);
        }
        if cut < came {
            summary.finds(Judgement::Broken, format!("of {came} bad readers {cut} were cut"));
        }
        if rss[1] as f64 > RSS_RATIO_MAX * formula as f64 {
            summary.finds(Judgement::Broken, "the server took more memory than the formula says");
        }
        let [_, with] = periods;
        if with.during.deliveries < with.during.deliveries_due * 99 / 100 {
            summary.finds(Judgement::Broken, "good readers did not get everything");
        }
        super::expect_quiet(summary, &with.during);
    }
}

fn read(bed: &Bed) -> Result<Metrics, String> {
    bed.metrics().ok_or("no metrics")?
}

/// Connections that were cut since they took nothing.
fn cut(metrics: &Metrics) -> u64 {
    let of = |reason: &str| {
        let name = format!("realtime_delivery_errors_total{{error_type=\"{reason}\"}}");
        metrics.count(&name).unwrap_or_default()
    };
    of("slow") + of("write_error")
}

/// Connects, subscribes, and will never read.
fn deaf(target: &Target, secret: Option<&str>, small: bool) -> Result<Line, String> {
    let mut line = Line::open(target)?;
    let connect = match secret {
        Some(secret) => json!({ "token": token(secret)? }),
        None => json!({}),
    };
    line.send(&json!({ "id": 1, "connect": connect }).to_string())?;
    line.next()?;
    if small {
        line.shrink(SMALL_BUFFER_BYTES)?;
    }
    let channel = format!("{ROOM}0");
    line.send(&json!({ "id": 2, "subscribe": { "channel": channel } }).to_string())?;
    Ok(line)
}
