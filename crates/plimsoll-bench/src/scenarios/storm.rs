//! `bench storm`: everybody is dropped at once, and comes back.

use super::common::{Switch, duration, profile_name, range};
use super::connect::{crowd, let_in};
use super::{Bed, Common, Period, Watch, watch};
use crate::clock::now_us;
use crate::fleet::reconnect::Profile;
use crate::fleet::{Counters, Fleet, Load, Stream};
use crate::ledger::Judgement;
use crate::limits;
use crate::report::{Live, Step, Summary, quantile_ms};
use crate::server::{ROOM, ServerSetup};
use crate::topology::Topology;
use clap::Args;
use std::time::Duration;

/// Drop everybody at once: how long until they are back, how often they try, by the behaviour of
/// their library (--reconnect).
#[derive(Clone, Debug, Args)]
pub struct StormArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// Clients.
    #[arg(long, default_value_t = 5_000)]
    pub clients: u32,
    /// How often they are dropped.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// How long they have to come back.
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub patience: Duration,
    /// Clients in a channel; each client subscribes to one.
    #[arg(long, default_value_t = 50)]
    pub room_size: u32,
    /// What names of channels begin with.
    #[arg(long, default_value = ROOM)]
    pub prefix: String,
    /// Whether the server that is started gives way under load.
    #[arg(long, value_enum, default_value = "off", conflicts_with = "url")]
    pub line: Switch,
    /// With the line on: connects per second that the server lets in; 0: its own figure.
    #[arg(long, default_value_t = 0, conflicts_with = "url")]
    pub accepts_per_s: u32,
    /// Further clients that are not dropped, and talk meanwhile.
    #[arg(long, default_value_t = 0)]
    pub established: u32,
}

/// Before each round.
const CALM: Duration = Duration::from_secs(3);
/// Publications per second among those who stay.
const TALK_PER_S: f64 = 50.0;

/// The busiest second of a return.
#[derive(Debug, Default)]
struct Busiest {
    last: Option<(u64, u64)>,
    per_s: f64,
}

impl Busiest {
    /// Looks at tries so far; periods shorter than a tenth of a second tell nothing.
    fn look(&mut self, at_us: u64, attempts: u64) {
        let (then_us, then) = *self.last.get_or_insert((at_us, attempts));
        let span = at_us.saturating_sub(then_us);
        if span >= 100_000 {
            let per_s = attempts.saturating_sub(then) as f64 * 1e6 / span as f64;
            self.per_s = self.per_s.max(per_s);
            self.last = Some((at_us, attempts));
        }
    }
}

impl StormArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        range("--rounds", u64::from(self.rounds), 1, 100)?;
        range("--clients + --established", self.all(), 1, u64::from(limits::CLIENTS_MAX))?;
        if self.common.reconnect == Profile::Never {
            return Err("--reconnect never: nobody would come back".into());
        }
        let mut bed = Bed::prepare(&self.common, self.all() as u32, self.setup())?;
        let topology = crowd(&self.prefix, self.clients, self.room_size);
        let fleet = bed.fleet(&self.common, &topology, false)?;
        let stay = self.established(&bed)?;
        let length = Duration::from_secs(10) * self.rounds;
        let mut live = Live::new(self.common.json, self.common.quiet, length);
        let mut summary = Summary::of("storm");
        let mut watch = Watch::new(&bed, &fleet, &mut live);
        let load = Load { clients: self.clients, handshakes_max: 64, ..Load::default() };
        let_in(&mut watch, &load, &topology)?;
        for round in 1..=self.rounds {
            let calm = stay.as_ref().map(Fleet::counters);
            watch.until("calm", CALM, &mut |_| false);
            let before = stay.as_ref().map(Fleet::counters);
            let step = self.round(round, &fleet, &topology, &mut watch, &mut summary);
            let after = stay.as_ref().map(Fleet::counters);
            let is_over = step.is_none();
            let mut step = step.unwrap_or_default();
            if let (Some(calm), Some(before), Some(after)) = (calm, before, after) {
                waited(&mut step, &before.since(&calm), &after.since(&before), &mut summary);
            }
            summary.steps.push(step);
            if is_over {
                break;
            }
        }
        let library = profile_name(self.common.reconnect);
        summary.notes.push(format!("Clients came back like {library}."));
        let finished = fleet.finish();
        let stayed = stay.map(Fleet::finish);
        live.done();
        if finished.broken_threads + stayed.map_or(0, |s| s.broken_threads) > 0 {
            summary.finds(Judgement::Void, "the generator failed");
        }
        if self.line == Switch::Off {
            refusals(&mut summary, &finished.counters);
        }
        bed.look_after(&mut summary);
        Ok(summary)
    }

    fn all(&self) -> u64 {
        u64::from(self.clients) + u64::from(self.established)
    }

    fn setup(&self) -> ServerSetup {
        let on = self.line == Switch::On;
        let mut settings = vec![("overload.enabled".to_owned(), on.to_string())];
        if self.accepts_per_s > 0 {
            let pace = self.accepts_per_s.to_string();
            settings.push(("overload.accepts_per_second".to_owned(), pace));
        }
        ServerSetup { settings, ..ServerSetup::default() }
    }

    /// Clients that stay, in rooms of their own, and talk.
    fn established(&self, bed: &Bed) -> Result<Option<Fleet>, String> {
        if self.established == 0 {
            return Ok(None);
        }
        let topology = crowd(&format!("{}stay", self.prefix), self.established, self.room_size);
        let fleet = bed.fleet(&self.common, &topology, false)?;
        let stream = Stream {
            per_s: TALK_PER_S,
            bytes: 200..201,
            channels: topology.all_channels(),
            by: None,
        };
        let clients = self.established;
        let load = Load { clients, handshakes_max: 64, streams: vec![stream], ..Load::default() };
        fleet.apply(&load);
        let there = fleet.wait(Duration::from_secs(30), &mut |counters| {
            counters.subscribed >= u64::from(clients)
        });
        there.then_some(Some(fleet)).ok_or_else(|| "those who stay do not get in".into())
    }

    /// Drops everybody, and waits until they are back; none: they were not in time.
    fn round(
        &self,
        round: u32,
        fleet: &Fleet,
        topology: &Topology,
        watch: &mut Watch<'_>,
        summary: &mut Summary,
    ) -> Option<Step> {
        let clients = u64::from(self.clients);
        let subscriptions = watch::subscriptions(topology, self.clients);
        let mark = watch.mark();
        let mut busiest = Busiest::default();
        busiest.look(now_us(), mark.counters.attempts);
        fleet.drop_all();
        // Connected and subscribed are stale until each thread has dropped its clients: that
        // all are back counts from the returns.
        let returned = mark.counters.back_us.len() + clients;
        let back = watch.until("coming back", self.patience, &mut |counters| {
            busiest.look(counters.at_us, counters.attempts);
            counters.back_us.len() >= returned && counters.subscribed >= subscriptions
        });
        let period = watch.since(&mark);
        let mut step = told(round, clients, &period, busiest.per_s);
        if self.accepts_per_s > 0 {
            let ideal_s = clients as f64 / f64::from(self.accepts_per_s);
            let all_s = quantile_ms(&period.during.back_us, 1.0).map(|ms| ms / 1e3);
            step.add("back_ratio", "back / (N / rate)", all_s.map(|s| s / ideal_s));
        }
        if back {
            return Some(step);
        }
        let now = period.during.back_us.len();
        let patience = self.patience;
        let text =
            format!("round {round}: of {clients} clients {now} were back after {patience:?}");
        summary.finds(Judgement::Broken, text);
        summary.steps.push(step);
        None
    }
}

/// What those who stayed noticed.
fn waited(step: &mut Step, calm: &Counters, storm: &Counters, summary: &mut Summary) {
    let p99 = [calm, storm].map(|c| quantile_ms(&c.latency_us, 0.99));
    step.add("stayed_calm_p99_ms", "who stayed: p99 before, ms", p99[0]);
    step.add("stayed_storm_p99_ms", "who stayed: p99 in the storm, ms", p99[1]);
    if storm.closes.values().sum::<u64>() > 0 {
        summary.finds(Judgement::Broken, "some of those who stayed were closed");
    }
}

/// Tries that fail belong to a storm; a reply with an error, or a subscription that is ended, does
/// not.
fn refusals(summary: &mut Summary, counters: &Counters) {
    let replies = Counters {
        errors: counters.errors.clone(),
        unsubscribes: counters.unsubscribes.clone(),
        ..Counters::default()
    };
    super::expect_quiet(summary, &replies);
}

fn told(round: u32, clients: u64, period: &Period, busiest_per_s: f64) -> Step {
    let during = &period.during;
    let mut step = Step::named(format!("round {round}"));
    step.count("back", "back", during.back_us.len());
    for (key, label, quantile) in [
        ("back_p50_ms", "50 % back after, ms", 0.5),
        ("back_p95_ms", "95 % back after, ms", 0.95),
        ("back_p99_ms", "99 % back after, ms", 0.99),
        ("back_all_ms", "100 % back after, ms", 1.0),
    ] {
        step.add(key, label, quantile_ms(&during.back_us, quantile));
    }
    let each = clients.max(1) as f64;
    step.add("attempts_per_client", "tries per client", during.attempts as f64 / each);
    step.add("attempts_per_s_max", "tries/s, most", busiest_per_s);
    let failed: u64 = during.failures.values().sum();
    step.count("failures", "tries that failed", failed);
    step.count("recovered", "subscriptions recovered", during.recoveries[0]);
    step.count("not_recovered", "not recovered", during.recoveries[1]);
    let server = period.server_cpu_us();
    step.add("server_us_per_return", "server CPU/return, µs", server.map(|us| us / each));
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second() {
        let mut busiest = Busiest::default();
        for (at_ms, attempts) in [(0, 0), (50, 500), (100, 600), (300, 700), (400, 900)] {
            busiest.look(at_ms * 1_000, attempts);
        }
        // 600 in the first tenth; what is seen after 50 ms tells nothing.
        assert_eq!(busiest.per_s, 6_000.0);
    }

    #[test]
    fn failed_tries_belong_to_a_storm() {
        let mut counters = Counters::default();
        counters.failures.insert("refused", 5);
        counters.closes.insert(1006, 5);
        let mut summary = Summary::of("storm");
        refusals(&mut summary, &counters);
        assert_eq!(summary.verdict, Judgement::Kept);
        counters.errors.insert(100, 1);
        refusals(&mut summary, &counters);
        assert_eq!(summary.verdict, Judgement::Broken);
    }
}
