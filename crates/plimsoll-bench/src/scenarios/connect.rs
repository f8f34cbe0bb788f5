//! `bench connect`: what it costs to let clients in, and how long they wait.

use super::common::{range, rate};
use super::{Bed, Common, Watch, about, expect_equal, expect_quiet, troubles};
use crate::fleet::Load;
use crate::ledger::Judgement;
use crate::limits;
use crate::report::{Live, Step, Summary, quantile_ms};
use crate::server::{LIVE, ServerSetup};
use crate::topology::Topology;
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Let clients in: connections per second, CPU for each, and how long they wait.
#[derive(Clone, Debug, Args)]
pub struct ConnectArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// Clients.
    #[arg(long, default_value_t = 5_000)]
    pub clients: u32,
    /// New connections per second, whether the server keeps up or not; 0 = as fast as it goes
    /// with --in-flight.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// Connections that are being opened at one time.
    #[arg(long, default_value_t = 64)]
    pub in_flight: u32,
    /// Clients in a channel; each client subscribes to one.
    #[arg(long, default_value_t = 50)]
    pub room_size: u32,
    /// What names of channels begin with.
    #[arg(long, default_value = LIVE)]
    pub prefix: String,
}

impl ConnectArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        rate("--rate", self.rate, limits::CONNECTS_PER_S_MAX)?;
        range("--in-flight", u64::from(self.in_flight), 1, u64::from(limits::CLIENTS_MAX))?;
        let mut bed = Bed::prepare(&self.common, self.clients, ServerSetup::default())?;
        let topology = crowd(&self.prefix, self.clients, self.room_size);
        let fleet = bed.fleet(&self.common, &topology, false)?;
        let expected = if self.rate > 0.0 { f64::from(self.clients) / self.rate } else { 10.0 };
        let length = Duration::from_secs_f64(expected);
        let mut live = Live::new(self.common.json, self.common.quiet, length);
        let mut summary = Summary::of("connect");
        let mut step = Step::named(format!("{} clients", self.clients));
        let load = Load {
            clients: self.clients,
            connects_per_s: self.rate,
            handshakes_max: self.in_flight,
            ..Load::default()
        };
        let period = Watch::new(&bed, &fleet, &mut live).connect(&load, &topology)?;
        let during = &period.during;
        step.count("connects", "connects", during.connects);
        step.add("seconds", "seconds", period.seconds);
        step.add("connects_per_s", "connects/s", during.connects as f64 / period.seconds);
        for (key, label, quantile) in [
            ("connect_p50_ms", "until subscribed p50, ms", 0.5),
            ("connect_p99_ms", "until subscribed p99, ms", 0.99),
            ("connect_max_ms", "until subscribed max, ms", 1.0),
        ] {
            step.add(key, label, quantile_ms(&during.connect_us, quantile));
        }
        let each = during.connects.max(1) as f64;
        let server = period.server_cpu_us();
        step.add("server_us_per_connect", "server CPU/connect, µs", server.map(|us| us / each));
        step.add(
            "generator_us_per_connect",
            "generator CPU/connect, µs",
            during.cpu_us as f64 / each,
        );
        summary.steps.push(step);
        summary.notes.push(tokens(&bed));
        let finished = fleet.finish();
        live.done();
        expect_equal(&mut summary, "connects", u64::from(self.clients), finished.counters.connects);
        let tries = finished.counters.attempts;
        expect_equal(&mut summary, "tries", u64::from(self.clients), tries);
        expect_quiet(&mut summary, &finished.counters);
        if finished.broken_threads > 0 {
            summary.finds(Judgement::Void, "the generator failed");
        }
        bed.look_after(&mut summary);
        Ok(summary)
    }
}

/// Clients in channels of so many, one each.
pub(super) fn crowd(prefix: &str, clients: u32, room_size: u32) -> Arc<Topology> {
    let size = room_size.max(1);
    let names = (0..clients.div_ceil(size)).map(|n| format!("{prefix}{n}").into()).collect();
    Arc::new(Topology::new(names, (0..clients).map(|client| vec![client / size])))
}

/// A note on whether the server checked tokens.
pub(super) fn tokens(bed: &Bed) -> String {
    match bed.token_secret {
        Some(_) => "Each client brought a signed token (HS256), and subscribed to a channel.",
        None => "Clients brought no tokens; each subscribed to a channel.",
    }
    .into()
}

/// Lets all clients in before what is measured begins.
pub(super) fn let_in(
    watch: &mut Watch<'_>,
    load: &Load,
    topology: &Topology,
) -> Result<(), String> {
    let period = watch.connect(load, topology).map_err(about("the clients do not get in"))?;
    match troubles(&period.during) {
        None => Ok(()),
        Some(troubles) => Err(format!("the clients got in with failures: {troubles}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_rooms_for_all() {
        let topology = crowd("live:", 101, 50);
        assert_eq!(topology.clients(), 101);
        assert_eq!(topology.all_channels(), 0..3);
        assert_eq!((topology.size(0), topology.size(2)), (50, 1));
        assert_eq!(topology.channels_of(100), [2]);
        assert_eq!(crowd("live:", 2, 0).size(0), 1);
    }
}
