//! R1: connections that do nothing but answer pings.

use super::bench::{Bench, Fits};
use super::plan::RampId;
use super::stage::{Scene, Stage, sleep_s};
use super::window::{Asked, Latency, Unit};
use crate::server::{self, ROOM, Usage};
use crate::topology::Topology;
use plimsoll_capacity::fit;
use plimsoll_capacity::measured::{EndedBy, Measured, Resource};

/// Subscribers of a room: each client is in one.
const ROOM_SIZE: u32 = 50;
/// Descriptors that are not connections: in the server listeners, epolls and files; in the
/// generator the same and whatever it was started with.
const OTHER_DESCRIPTORS: f64 = 300.0;
/// Connections of one process: a port for each, of the usual 28,000 for one source address, and
/// more than any rule here allows.
const CONNECTIONS_MAX: f64 = 250_000.0;
/// A generous guess of what a connection takes, process and kernel, both ends: only to stop in
/// time where memory is short.
const CONNECTION_BYTES_GUESS: f64 = 24_000.0;
/// Parts of the most that are measured on the way up.
const PARTS: [f64; 4] = [0.125, 0.25, 0.5, 1.0];
/// Seconds for buffers of the connects to go and clocks to settle, before memory is read.
const REST_S: f64 = 1.5;

/// How many connections to go to, and what it is that ends there.
fn most(bench: &Bench) -> (u32, EndedBy) {
    let share = bench.rules.memory_share_max;
    let by_rule = share * bench.rules.descriptors;
    let by_memory = share * bench.rules.memory_bytes / CONNECTION_BYTES_GUESS;
    // The generator's descriptors: the same limit, without the rule's reserve.
    let by_generator = (server::descriptor_limit() as f64 - OTHER_DESCRIPTORS).max(0.0);
    let rule = by_rule.min(by_memory);
    let other = by_generator.min(CONNECTIONS_MAX);
    let ended_by = if rule <= other { EndedBy::Memory } else { EndedBy::Generator };
    (rule.min(other) as u32, ended_by)
}

/// Raises connections to the most there can be; memory by the slope, CPU at the most.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let (most, ended_by) = most(bench);
    let rooms = most / ROOM_SIZE;
    let most = rooms * ROOM_SIZE;
    let mut stage = Stage::open(
        &bench.place,
        Scene::new(Topology::rooms(&format!("{ROOM}idle"), rooms, ROOM_SIZE)),
    )?;
    sleep_s(REST_S);
    let mut points: Vec<(f64, Usage)> =
        stage.usage().map(|usage| (0.0, usage)).into_iter().collect();
    let base = points.first().map(|(_, usage)| usage.rss_bytes as f64);
    let mut reached = 0;
    for part in PARTS {
        let clients = (part * f64::from(most)) as u32;
        let last = clients == most;
        let seconds = if last { bench.plan.idle_s } else { bench.plan.step_s / 4.0 };
        if bench.is_late(seconds) {
            let why = "R1 was out of time before its largest step";
            bench.found.missing("more idle connections", why);
            break;
        }
        stage.gather_some(clients)?;
        sleep_s(REST_S);
        let asked = Asked {
            ramp: RampId::R1.name(),
            offered: f64::from(clients),
            unit: Unit::Connections,
            latency: Latency::Connect,
        };
        let mut step = stage.watch(asked, seconds, 1)?;
        // Nobody connects in the step: there is no latency to judge.
        (step.p50_ms, step.p99_ms) = (0.0, 0.0);
        points.extend(stage.usage().map(|usage| (f64::from(clients), usage)));
        // Only a whole time between two pings shows what pings cost.
        let fits = if last { Fits::Yes } else { Fits::No };
        let broken = bench.note(step, fits);
        if broken.is_some_and(|why| why != EndedBy::Memory) {
            break;
        }
        reached = clients;
    }
    memory(bench, base, &points);
    let knee = f64::from(reached);
    let measured = (reached > 0).then(|| Measured {
        knee,
        rated: super::climb::RATED_RATIO * knee,
        low: knee,
        high: knee,
        ended_by: if reached == most { ended_by } else { EndedBy::EndOfRamp },
        ramp: RampId::R1.name().into(),
    });
    bench.found.resource(Resource::Connections, measured, RampId::R1);
    Ok(())
}

/// Slopes over connections. On loopback both ends of a connection are in this kernel.
fn memory(bench: &mut Bench, base: Option<f64>, points: &[(f64, Usage)]) {
    let Some(base) = base else {
        bench.found.missing("memory per connection", "the server's process is not known");
        return;
    };
    let connections: Vec<f64> = points.iter().map(|(connections, _)| *connections).collect();
    let slope = |figure: &dyn Fn(&Usage) -> u64| {
        let values: Vec<f64> = points.iter().map(|(_, usage)| figure(usage) as f64).collect();
        fit::line(&connections, &values).map(|line| line.slope.max(0.0))
    };
    bench.found.memory_base_and_connection = slope(&|usage| usage.rss_bytes).map(|s| (base, s));
    bench.found.kernel_connection = slope(&|usage| usage.kernel_bytes()).map(|slope| slope / 2.0);
}
