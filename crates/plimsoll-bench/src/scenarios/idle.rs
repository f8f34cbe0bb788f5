//! `bench idle`: what a connection costs that does nothing.

use super::common::{duration, range};
use super::connect::{crowd, let_in, tokens};
use super::{Bed, Common, Watch, expect_equal, expect_quiet};
use crate::fleet::Load;
use crate::ledger::Judgement;
use crate::limits;
use crate::report::{Live, Step, Summary};
use crate::server::{LIVE, ServerSetup, Usage};
use clap::Args;
use std::time::Duration;

/// Hold connections that do nothing: memory of server and kernel for each, CPU of the pings.
#[derive(Clone, Debug, Args)]
pub struct IdleArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// Numbers of clients, rising; memory for each is the slope between the last two.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    pub steps: Vec<u32>,
    /// How long each number is held.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub hold: Duration,
    /// Clients in a channel; each client subscribes to one.
    #[arg(long, default_value_t = 50)]
    pub room_size: u32,
    /// What names of channels begin with.
    #[arg(long, default_value = LIVE)]
    pub prefix: String,
}

impl IdleArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        range("--steps: how many", self.steps.len() as u64, 1, 32)?;
        if !self.steps.is_sorted_by(|a, b| a < b) {
            return Err("--steps: must rise, as 1000,5000".into());
        }
        let most = self.steps.last().copied().unwrap_or_default();
        range("--steps", u64::from(most), 1, u64::from(limits::CLIENTS_MAX))?;
        let mut bed = Bed::prepare(&self.common, most, ServerSetup::default())?;
        let topology = crowd(&self.prefix, most, self.room_size);
        let fleet = bed.fleet(&self.common, &topology, false)?;
        let length = self.hold * self.steps.len() as u32;
        let mut live = Live::new(self.common.json, self.common.quiet, length);
        let mut summary = Summary::of("idle");
        let mut watch = Watch::new(&bed, &fleet, &mut live);
        let mut before: Option<(u32, Usage)> = None;
        for clients in &self.steps {
            let load = Load { clients: *clients, handshakes_max: 64, ..Load::default() };
            let_in(&mut watch, &load, &topology)?;
            let period = watch.hold("idle", self.hold);
            let mut step = Step::named(format!("{clients} clients"));
            step.count("connected", "connected", period.during.connected);
            if let Some((from, to)) = period.used {
                resting(&mut step, *clients, (from, to));
                slope(&mut step, before.map(|(n, usage)| (clients - n, usage)), to);
                before = Some((*clients, to));
            }
            summary.steps.push(step);
        }
        summary.notes.push(tokens(&bed));
        if bed.is_own() {
            summary.notes.push(
                "Kernel memory is that of the whole machine: it holds both ends of each \
                 connection when the clients are here as well."
                    .into(),
            );
        }
        let connected = fleet.counters().connected;
        expect_equal(&mut summary, "connected at the end", u64::from(most), connected);
        let finished = fleet.finish();
        live.done();
        expect_quiet(&mut summary, &finished.counters);
        if finished.broken_threads > 0 {
            summary.finds(Judgement::Void, "the generator failed");
        }
        bed.look_after(&mut summary);
        Ok(summary)
    }
}

/// What a crowd at rest takes.
fn resting(step: &mut Step, clients: u32, (from, to): (Usage, Usage)) {
    step.add("server_rss_mb", "server memory, MB", to.rss_bytes as f64 / 1e6);
    step.count("server_descriptors", "server descriptors", to.descriptors);
    let per_client = to.cpu_us_per_s(&from) / f64::from(clients);
    step.add("server_us_per_client_s", "server CPU/client and s, µs", per_client);
}

/// Memory for each connection more.
fn slope(step: &mut Step, before: Option<(u32, Usage)>, now: Usage) {
    let Some((more, before)) = before.filter(|(more, _)| *more > 0) else { return };
    let each = |before: u64, now: u64| (now as f64 - before as f64) / f64::from(more);
    step.add(
        "rss_bytes_per_connection",
        "server memory/connection, bytes",
        each(before.rss_bytes, now.rss_bytes),
    );
    if now.kernel_bytes() > 0 {
        step.add(
            "kernel_bytes_per_connection",
            "kernel memory/connection, bytes",
            each(before.kernel_bytes(), now.kernel_bytes()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_slope() {
        let usage = |rss_bytes, slab_bytes| Usage { rss_bytes, slab_bytes, ..Usage::default() };
        let mut step = Step::default();
        slope(&mut step, Some((1_000, usage(5_000_000, 100))), usage(6_500_000, 2_000_100));
        assert_eq!(step.get("rss_bytes_per_connection"), Some(1_500.0));
        assert_eq!(step.get("kernel_bytes_per_connection"), Some(2_000.0));
        for before in [None, Some((0, usage(1, 1)))] {
            let mut step = Step::default();
            slope(&mut step, before, usage(2, 2));
            assert_eq!(step, Step::default());
        }
    }
}
