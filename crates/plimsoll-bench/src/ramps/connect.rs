//! R2: connects per second, each with its upgrade, its token and its first subscribe.

use super::bench::{Bench, Fits};
use super::plan::{Plan, RampId};
use super::stage::{Scene, Stage, sleep_s};
use super::window::{Asked, Latency, Unit};
use crate::fleet::Load;
use crate::fleet::reconnect::Profile;
use crate::server::{self, ROOM};
use crate::topology::Topology;
use plimsoll_capacity::measured::{Resource, Step};

/// Subscribers of a room: each client is in one.
const ROOM_SIZE: u32 = 50;
/// Clients that can be made to connect in one step; a step ends sooner than it should when they
/// are all there.
const CLIENTS_MAX: u64 = 15_000;
/// The first load.
const FIRST_PER_S: f64 = 800.0;
/// No node of this design connects more.
const CEILING_PER_S: f64 = 200_000.0;

/// With tokens, which is what a node does, and some steps without.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let clients = (server::descriptor_limit() * 7 / 10).min(CLIENTS_MAX) as u32;
    let rooms = clients / ROOM_SIZE;
    let mut stage = open(bench, rooms, true)?;
    let climb = bench.plan.climb(FIRST_PER_S, CEILING_PER_S);
    // In the long run a close belongs to each connect: the cost model learns both from R8.
    let knee = bench.climb(climb, Fits::No, &mut |plan, load| {
        step(&mut stage, plan, RampId::R2.name(), load, rooms * ROOM_SIZE)
    })?;
    drop(stage);
    let load = knee.as_ref().map(|knee| knee.knee);
    bench.found.resource(Resource::ConnectsPerS, knee, RampId::R2);
    match load {
        Some(load) => without_tokens(bench, rooms, 0.5 * load),
        None => Ok(()),
    }
}

fn open(bench: &Bench, rooms: u32, tokens: bool) -> Result<Stage, String> {
    let topology = Topology::rooms(&format!("{ROOM}connect"), rooms, ROOM_SIZE);
    let scene = Scene { topology, reconnect: Profile::Never, tokens };
    Stage::open(&bench.place, scene)
}

/// One step for comparison: it stands in the file, and the cost model does not know it.
fn without_tokens(bench: &mut Bench, rooms: u32, load: f64) -> Result<(), String> {
    if bench.is_late(bench.plan.step_s) || !super::run::is_own(&bench.place) {
        return Ok(());
    }
    let mut stage = open(bench, rooms, false)?;
    let step = step(&mut stage, &bench.plan, "R2-without-token", load, rooms * ROOM_SIZE)?;
    bench.note(step, Fits::No);
    Ok(())
}

/// Everybody who is there goes; then clients come at this rate.
fn step(
    stage: &mut Stage,
    plan: &Plan,
    ramp: &'static str,
    per_s: f64,
    clients: u32,
) -> Result<Step, String> {
    stage.gather_some(0)?;
    stage.wait_for_closes();
    let asked = Asked { ramp, offered: per_s, unit: Unit::Connects, latency: Latency::Connect };
    // One part in ten is kept back: all are there only after the window has ended.
    let seconds = plan.step_s.min(0.9 * f64::from(clients) / per_s);
    stage.apply(Load { clients, connects_per_s: per_s, ..Load::default() });
    sleep_s(0.25 * seconds);
    stage.watch(asked, 0.75 * seconds, plan.slices)
}
