//! R8: connections that are lost and come back, while others are served.

use super::bench::{Bench, Fits};
use super::plan::RampId;
use super::stage::{Scene, Stage};
use super::window::{Asked, Latency, Unit};
use crate::fleet::{Load, Stream};
use crate::server::ROOM;
use crate::topology::Topology;
use plimsoll_capacity::measured::Resource;

/// Rooms.
const ROOMS: u32 = 100;
/// Clients of a room.
const ROOM_SIZE: u32 = 50;
/// Part of the knee of deliveries that goes on meanwhile.
const DELIVERIES_PART: f64 = 0.3;
/// Deliveries per second when there is no such knee.
const DELIVERIES_PER_S: f64 = 5_000.0;
/// The first load, and no node of this design does more.
const FIRST_PER_S: f64 = 200.0;
const CEILING_PER_S: f64 = 200_000.0;

/// Cuts per second, each of a client that comes back and recovers, until deliveries to the others
/// are late or the lost ones do not come back.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let topology = Topology::rooms(&format!("{ROOM}churn"), ROOMS, ROOM_SIZE);
    let channels = topology.all_channels();
    let mut stage = Stage::open(&bench.place, Scene::new(topology))?;
    stage.gather()?;
    let knee = bench.found.resources.get(&Resource::DeliveriesPerS).map(|found| found.knee);
    let deliveries = knee.map_or(DELIVERIES_PER_S, |knee| DELIVERIES_PART * knee);
    let per_s = deliveries / f64::from(ROOM_SIZE);
    let climb = bench.plan.climb(FIRST_PER_S, CEILING_PER_S);
    let found = bench.climb(climb, Fits::Yes, &mut |plan, offered| {
        let asked = Asked {
            ramp: RampId::R8.name(),
            offered,
            unit: Unit::Connects,
            latency: Latency::Delivery,
        };
        let stream = Stream { per_s, bytes: 200..200, channels: channels.clone(), by: None };
        let load = Load {
            clients: ROOMS * ROOM_SIZE,
            streams: vec![stream],
            cuts_per_s: offered,
            ..Load::default()
        };
        stage.measure(plan, asked, load)
    })?;
    bench.found.resource(Resource::ReconnectsPerS, found, RampId::R8);
    Ok(())
}
