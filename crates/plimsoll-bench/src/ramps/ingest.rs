//! R3: publications that each reach one subscriber.

use super::bench::{Bench, Fits};
use super::plan::RampId;
use super::stage::{Scene, Stage};
use super::window::{Asked, Latency, Unit};
use crate::fleet::{Load, Stream};
use crate::server::ROOM;
use crate::topology::Topology;
use plimsoll_capacity::measured::Resource;

/// Rooms, each with one client that publishes into it and gets what it published.
const ROOMS: u32 = 1_000;
/// Bytes of a payload.
const BYTES: u32 = 200;
/// The first load.
const FIRST_PER_S: f64 = 4_000.0;
/// No node of this design takes more.
const CEILING_PER_S: f64 = 2e6;

/// Publications per second until a rule is broken.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let topology = Topology::rooms(&format!("{ROOM}in"), ROOMS, 1);
    let channels = topology.all_channels();
    let mut stage = Stage::open(&bench.place, Scene::new(topology))?;
    stage.gather()?;
    let climb = bench.plan.climb(FIRST_PER_S, CEILING_PER_S);
    let knee = bench.climb(climb, Fits::Yes, &mut |plan, per_s| {
        let asked = Asked {
            ramp: RampId::R3.name(),
            offered: per_s,
            unit: Unit::Publishes,
            latency: Latency::Ack,
        };
        let stream = Stream { per_s, bytes: BYTES..BYTES, channels: channels.clone(), by: None };
        let load = Load { clients: ROOMS, streams: vec![stream], ..Load::default() };
        stage.measure(plan, asked, load)
    })?;
    bench.found.resource(Resource::PublishesPerS, knee, RampId::R3);
    Ok(())
}
