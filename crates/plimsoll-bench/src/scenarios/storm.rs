//! `bench storm`: everybody is dropped at once, and comes back.

use super::common::{duration, profile_name, range};
use super::connect::{crowd, let_in};
use super::{Bed, Common, Period, Watch, watch};
use crate::clock::now_us;
use crate::fleet::reconnect::Profile;
use crate::fleet::{Counters, Load};
use crate::ledger::Judgement;
use crate::report::{Live, Step, Summary, quantile_ms};
use crate::server::{ROOM, ServerSetup};
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
}

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
        if self.common.reconnect == Profile::Never {
            return Err("--reconnect never: nobody would come back".into());
        }
        let mut bed = Bed::prepare(&self.common, self.clients, ServerSetup::default())?;
        let topology = crowd(&self.prefix, self.clients, self.room_size);
        let fleet = bed.fleet(&self.common, &topology, false)?;
        let length = Duration::from_secs(10) * self.rounds;
        let mut live = Live::new(self.common.json, self.common.quiet, length);
        let mut summary = Summary::of("storm");
        let mut watch = Watch::new(&bed, &fleet, &mut live);
        let load = Load { clients: self.clients, handshakes_max: 64, ..Load::default() };
        let_in(&mut watch, &load, &topology)?;
        let clients = u64::from(self.clients);
        let subscriptions = watch::subscriptions(&topology, self.clients);
        for round in 1..=self.rounds {
            watch.until("calm", Duration::from_secs(1), &mut |_| false);
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
            summary.steps.push(told(round, clients, &period, busiest.per_s));
            if !back {
                let now = period.during.back_us.len();
                let text = format!(
                    "round {round}: of {clients} clients {now} were back after {:?}",
                    self.patience
                );
                summary.finds(Judgement::Broken, text);
                break;
            }
        }
        let library = profile_name(self.common.reconnect);
        summary.notes.push(format!("Clients came back like {library}."));
        let finished = fleet.finish();
        live.done();
        if finished.broken_threads > 0 {
            summary.finds(Judgement::Void, "the generator failed");
        }
        refusals(&mut summary, &finished.counters);
        bed.look_after(&mut summary);
        Ok(summary)
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
