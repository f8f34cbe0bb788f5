//! `bench run`: a workload of people, and a ledger of what became of it.

mod books;
mod flags;

pub use books::{Books, Planned, judged};
pub use flags::RunFlags;

use super::common::Common;
use super::connect::let_in;
use super::{Bed, Watch, about, troubles};
use crate::clock::now_us;
use crate::fleet::{Finished, Fleet, Load, Settle, Stream};
use crate::ledger::Ledger;
use crate::limits;
use crate::report::{Live, Step, Summary, bottleneck, traffic};
use crate::server::{LIVE, ROOM, ServerSetup};
use crate::workload::rooms::{self, Scene};
use crate::workload::{Draft, Workload};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How clients and answers that are under way may end: centrifuge-js waits at most 20 s.
const SETTLE: Settle = Settle { answers: Duration::from_secs(30), heal: Duration::from_secs(10) };
/// Between the last publication of the run and the probes: what is sent later is a probe.
const REST: Duration = Duration::from_secs(1);

/// Of the planned recoveries so many have to succeed: some clients are cut while they are on their
/// way back, and are not back at the end.
const RECOVERIES_RATIO: f64 = 0.5;
/// Of the planned deliveries so many have to come: less is another run than was planned.
const DELIVERIES_RATIO: f64 = 0.5;

/// Put people on a server who talk, type, read, come and go, and judge what they saw.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Flags of all runs.
    #[command(flatten)]
    pub common: Common,
    /// Workload file (TOML, tables [workload] and [run]); flags win over it.
    #[arg(long)]
    pub workload: Option<PathBuf>,
    /// Flags of the workload.
    #[command(flatten)]
    pub flags: RunFlags,
    /// Write the books to this file; `bench verify` judges them again.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// Do not read the histories at the end.
    #[arg(long)]
    pub no_history: bool,
}

impl RunArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        let draft = match &self.workload {
            Some(path) => {
                let text = text_of(path)?;
                Draft::parse(&text).map_err(about(path.display()))?
            }
            None => Draft::default(),
        };
        let workload = self.flags.over(draft).check().map_err(|error| error.to_string())?;
        let scene = rooms::build(&workload, self.common.seed);
        check_size(&workload, &scene)?;
        if self.common.url.is_empty() {
            own_namespaces(&workload)?;
        }
        let setup = setup(&workload, &scene);
        let mut bed = Bed::prepare(&self.common, workload.clients, setup.clone())?;
        let live = Live::new(self.common.json, self.common.quiet, workload.duration);
        let topology = Arc::new(scene.topology.clone());
        let fleet = bed.fleet(&self.common, &topology, true)?;
        let mut run = Running { args: self, workload: &workload, scene: &scene, live };
        let (mut summary, ledger) = run.go(&bed, fleet, &setup)?;
        run.live.done();
        bed.look_after(&mut summary);
        if let Some(path) = &self.ledger {
            ledger.save(path).map_err(about(path.display()))?;
            summary.notes.push(format!("The books are in {}.", path.display()));
        }
        Ok(summary)
    }
}

struct Running<'a> {
    args: &'a RunArgs,
    workload: &'a Workload,
    scene: &'a Scene,
    live: Live,
}

impl Running<'_> {
    fn go(
        &mut self,
        bed: &Bed,
        fleet: Fleet,
        setup: &ServerSetup,
    ) -> Result<(Summary, Ledger), String> {
        let mut books = Books::open(bed, &self.scene.topology, self.scene.rooms.clone());
        let mut cuts = 0;
        let mut summary = Summary::of("run");
        summary.notes.push(self.describe());
        let started_us = now_us();
        let mut watch = Watch::new(bed, &fleet, &mut self.live);
        let [calm, peak] = self.workload.phases();
        let quiet = Load { clients: calm.0, handshakes_max: 64, ..Load::default() };
        let_in(&mut watch, &quiet, &self.scene.topology)?;
        let third = self.workload.duration / 3;
        let parts = match calm == peak {
            true => vec![("steady", calm, self.workload.duration)],
            false => vec![("before", calm, third), ("peak", peak, third), ("after", calm, third)],
        };
        for (name, phase, length) in parts {
            fleet.apply(&load_of(self.workload, self.scene, phase));
            let period = watch.hold(name, length);
            let mut step = Step::named(name);
            traffic(&mut step, &period.during, period.seconds, period.used);
            step.count("cuts", "cuts", period.during.cuts);
            step.count("recovered", "subscriptions recovered", period.during.recoveries[0]);
            step.count("not_recovered", "not recovered", period.during.recoveries[1]);
            summary.notes.extend(bottleneck(&step, None));
            summary.steps.push(step);
            cuts += period.during.cuts;
        }
        fleet.apply(&Load { clients: calm.0, handshakes_max: 64, ..Load::default() });
        watch.hold("settling", REST);
        books.probes_from_us = Some(now_us());
        books.planned = self.planned(cuts);
        self.live.note("settling: what is under way arrives, a last publication reaches everyone");
        let finished: Finished = fleet.finish_within(SETTLE);
        if let Some(troubles) = troubles(&finished.counters) {
            summary.notes.push(format!("Not all went well: {troubles}."));
        }
        self.live.note("reading histories and judging");
        books.settled(bed, &finished, !self.args.no_history);
        let name = format!("{} clients, {:?}", self.workload.clients, self.workload.duration);
        let ledger = books.close(&name, started_us, finished, setup, &mut summary);
        Ok((summary, ledger))
    }

    fn planned(&self, cuts: u64) -> Planned {
        let [(_, calm), (_, peak)] = self.workload.phases();
        let mean = (2.0 * calm + peak) / 3.0;
        let seconds = self.workload.duration.as_secs_f64();
        let deliveries = self.scene.deliveries_per_s * mean * seconds * DELIVERIES_RATIO;
        // A cut client asks to recover each of its rooms; one that leaves does not.
        let rooms = self.scene.rooms.len() as u32;
        let in_rooms: u64 = (0..rooms).map(|r| u64::from(self.scene.topology.size(r))).sum();
        let each = in_rooms as f64 / f64::from(self.workload.clients);
        let cuts = cuts as f64 * (1.0 - self.workload.leaves_ratio);
        let recoveries = (cuts * each * RECOVERIES_RATIO) as u64;
        Planned { deliveries: deliveries as u64, recoveries }
    }

    fn describe(&self) -> String {
        let topology = &self.scene.topology;
        let [_, peak] = self.workload.phases();
        format!(
            "{} clients in {} rooms (largest {}), {} subscriptions; {:.0} deliveries per second, \
             {:.0} at the peak.",
            self.workload.clients,
            self.scene.rooms.len(),
            topology.size(0),
            topology.subscriptions(),
            self.scene.deliveries_per_s * self.workload.phases()[0].1,
            self.scene.deliveries_per_s * peak.1,
        )
    }
}

/// What is to be done in a phase: so many clients, and everything that many times as often.
fn load_of(workload: &Workload, scene: &Scene, (clients, factor): (u32, f64)) -> Load {
    let streams = scene.streams.iter().cloned();
    Load {
        clients,
        connects_per_s: 0.0,
        handshakes_max: 64,
        streams: streams.map(|s| Stream { per_s: s.per_s * factor, ..s }).collect(),
        cuts_per_s: workload.cuts_per_s * factor,
        leaves_ratio: workload.leaves_ratio,
        resubscribes_per_s: workload.resubscribes_per_s * factor,
    }
}

fn check_size(workload: &Workload, scene: &Scene) -> Result<(), String> {
    let subscriptions = scene.topology.subscriptions() as u64;
    if subscriptions > limits::SUBSCRIPTIONS_MAX {
        let most = limits::SUBSCRIPTIONS_MAX;
        return Err(format!("{subscriptions} subscriptions are more than {most}"));
    }
    let [_, peak] = workload.phases();
    let published: f64 = scene.streams.iter().map(|stream| stream.per_s * peak.1).sum();
    for (what, value, most) in [
        ("publications", published, limits::RATE_PER_S_MAX),
        ("deliveries", scene.deliveries_per_s * peak.1, limits::DELIVERIES_PER_S_MAX),
    ] {
        if value > most {
            return Err(format!("{value:.0} {what} per second at the peak are more than {most}"));
        }
    }
    Ok(())
}

fn own_namespaces(workload: &Workload) -> Result<(), String> {
    let [room, live] = [ROOM, LIVE].map(|name| name.trim_end_matches(':'));
    if (workload.rooms_namespace.as_str(), workload.signals_namespace.as_str()) == (room, live) {
        return Ok(());
    }
    Err(format!(
        "run.rooms_namespace, run.signals_namespace: the server that is started has {room} and \
         {live}; others need --url"
    ))
}

/// A server that keeps what is said in the largest room during the run, so that the books can be
/// compared with it.
fn setup(workload: &Workload, scene: &Scene) -> ServerSetup {
    let [_, (_, factor)] = workload.phases();
    let seconds = workload.duration.as_secs_f64();
    let said = scene.streams.first().map_or(0.0, |stream| {
        stream.per_s * factor * seconds / f64::from(stream.channels.len().max(1) as u32)
    });
    // Twice what is expected, since it is random; the server takes at most 100,000.
    let history_size = (said * 2.0 + 300.0).min(100_000.0) as u32;
    ServerSetup {
        history_size,
        history_ttl_s: (seconds + 600.0) as u32,
        join_leave: workload.profile.join_leave,
        settings: pings(workload.profile.ping_interval_seconds),
        ..ServerSetup::default()
    }
}

/// The server's pings, and an answer within a third of their interval.
fn pings(interval_s: f64) -> Vec<(String, String)> {
    let ms = (interval_s.clamp(0.0, 86_400.0) * 1_000.0) as u64;
    let setting = |name: &str, ms: u64| (format!("client.{name}"), format!("\"{ms}ms\""));
    vec![setting("ping_interval", ms), setting("pong_timeout", ms / 3)]
}

fn text_of(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(about(path.display()))?;
    let mut file = file.take(limits::WORKLOAD_BYTES_MAX + 1);
    file.read_to_string(&mut text).map_err(about(path.display()))?;
    if text.len() as u64 > limits::WORKLOAD_BYTES_MAX {
        return Err(format!("{}: is too large for a workload", path.display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(change: impl FnOnce(&mut Draft)) -> Workload {
        let mut draft = Draft::default();
        change(&mut draft);
        draft.check().unwrap()
    }

    #[test]
    fn the_peak_is_more_of_everything() {
        let workload = workload(|draft| draft.profile.peak_multiplier = 3.0);
        let scene = rooms::build(&workload, 1);
        let [calm, peak] = workload.phases().map(|phase| load_of(&workload, &scene, phase));
        let sent = |load: &Load| load.streams.iter().map(|stream| stream.per_s).sum::<f64>();
        assert!((sent(&peak) / sent(&calm) - 3.0).abs() < 1e-9);
        assert!((peak.cuts_per_s / calm.cuts_per_s - 3.0).abs() < 1e-9);
        assert_eq!((calm.clients, peak.clients), (1_000, 1_000));
    }

    #[test]
    fn the_history_holds_the_run() {
        let workload = workload(|draft| {
            draft.profile.msgs_per_user_per_minute = 6.0;
            draft.profile.peak_multiplier = 2.0;
        });
        let scene = rooms::build(&workload, 1);
        let setup = setup(&workload, &scene);
        // The largest room hears its members, six times a minute in one of their two rooms.
        let expected = scene.topology.size(0) as f64 * 3.0 * 2.0;
        assert!(f64::from(setup.history_size) > expected, "{} {expected}", setup.history_size);
        assert!(setup.history_size < 100_000 && setup.history_ttl_s >= 660);
    }

    #[test]
    fn namespaces_of_our_own_server() {
        assert_eq!(own_namespaces(&workload(|_| {})), Ok(()));
        let other = workload(|draft| draft.run.rooms_namespace = Some("chat".into()));
        assert!(own_namespaces(&other).unwrap_err().contains("--url"));
    }

    #[test]
    fn pings_are_answered_in_time() {
        let expect = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let made = pings(25.0);
        assert_eq!(made[0], expect("client.ping_interval", "\"25000ms\""));
        assert_eq!(made[1], expect("client.pong_timeout", "\"8333ms\""));
        assert_eq!(pings(0.0)[1].1, "\"0ms\"");
    }

    #[test]
    fn too_much_is_refused() {
        let huge = workload(|draft| {
            draft.run.clients = Some(300_000);
            draft.profile.avg_rooms_per_user = 200.0;
        });
        let scene = Scene {
            topology: crate::topology::Topology::default(),
            rooms: 0..1,
            streams: Vec::new(),
            deliveries_per_s: 1e12,
        };
        assert!(check_size(&huge, &scene).unwrap_err().contains("deliveries per second"));
    }
}
