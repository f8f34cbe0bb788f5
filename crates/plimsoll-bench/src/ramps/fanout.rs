//! R4: deliveries, by rate, payload and shape of rooms.

use super::bench::{Bench, Fits};
use super::plan::{Plan, RampId};
use super::stage::{Place, Scene, Stage};
use super::window::{Asked, Latency, Unit};
use crate::fleet::{Load, Stream};
use crate::server::ROOM;
use crate::topology::{ChannelId, Topology};
use plimsoll_capacity::measured::{Measured, Resource, Step};
use std::ops::Range;

/// Small rooms, and the clients in each: the size that plans usually have.
const SMALL_ROOMS: u32 = 100;
/// Clients of a small room.
const SMALL_SIZE: u32 = 50;
/// Large rooms. Every client is in one as well, so that both shapes keep all sockets in use: one
/// room alone would have its thousand sockets in the cache all the time, and look cheap.
const LARGE_ROOMS: u32 = 5;
/// Clients.
const CLIENTS: u32 = SMALL_ROOMS * SMALL_SIZE;
/// Bytes of the payload by which deliveries are counted.
const BYTES: u32 = 200;
/// Bytes of the payload by which egress is measured.
const LARGE_BYTES: u32 = 4_096;
/// Other payloads, at these parts of the knee.
const OTHER_BYTES: [u32; 2] = [64, 1_024];
/// Parts of the knee.
const PARTS: [f64; 2] = [0.25, 0.7];
/// The first load, deliveries per second.
const FIRST_PER_S: f64 = 10_000.0;
/// No node of this design delivers more.
const CEILING_PER_S: f64 = 2e7;

/// Which rooms are published into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Many small ones.
    Small,
    /// A few large ones.
    Large,
}

impl Shape {
    fn channels(self) -> Range<ChannelId> {
        match self {
            Self::Small => 0..SMALL_ROOMS,
            Self::Large => SMALL_ROOMS..SMALL_ROOMS + LARGE_ROOMS,
        }
    }

    fn size(self) -> u32 {
        match self {
            Self::Small => SMALL_SIZE,
            Self::Large => CLIENTS / LARGE_ROOMS,
        }
    }
}

/// A stage with rooms of both shapes, everybody there.
pub fn open(place: &Place) -> Result<Stage, String> {
    let rooms = (0..SMALL_ROOMS + LARGE_ROOMS).map(|room| format!("{ROOM}out{room}").into());
    let of = |client| vec![client / SMALL_SIZE, SMALL_ROOMS + client % LARGE_ROOMS];
    let topology = Topology::new(rooms.collect(), (0..CLIENTS).map(of));
    let mut stage = Stage::open(place, Scene::new(topology))?;
    stage.gather()?;
    Ok(stage)
}

/// So many deliveries per second of payloads of `bytes`.
pub fn load(shape: Shape, bytes: u32, deliveries_per_s: f64) -> Load {
    let per_s = deliveries_per_s / f64::from(shape.size());
    let stream = Stream { per_s, bytes: bytes..bytes, channels: shape.channels(), by: None };
    Load { clients: CLIENTS, streams: vec![stream], ..Load::default() }
}

fn step(
    stage: &mut Stage,
    plan: &Plan,
    shape: Shape,
    bytes: u32,
    offered: f64,
) -> Result<Step, String> {
    let asked = Asked {
        ramp: RampId::R4.name(),
        offered,
        unit: Unit::Deliveries,
        latency: Latency::Delivery,
    };
    stage.measure(plan, asked, load(shape, bytes, offered))
}

/// The knee in small rooms, then other payloads and shapes below it, then egress.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let mut stage = open(&bench.place)?;
    let knee = deliveries(bench, &mut stage)?;
    let load = knee.as_ref().map(|knee| knee.knee);
    bench.found.resource(Resource::DeliveriesPerS, knee, RampId::R4);
    let Some(load) = load else { return Ok(()) };
    for part in PARTS {
        for bytes in OTHER_BYTES {
            let step = step(&mut stage, &bench.plan, Shape::Small, bytes, part * load)?;
            bench.note(step, Fits::Yes);
        }
        let step = step(&mut stage, &bench.plan, Shape::Large, BYTES, part * load)?;
        bench.note(step, Fits::Yes);
    }
    let egress = egress(bench, &mut stage, load)?;
    bench.found.resource(Resource::EgressBytesPerS, egress, RampId::R4);
    Ok(())
}

/// The knee of deliveries.
pub fn deliveries(bench: &mut Bench, stage: &mut Stage) -> Result<Option<Measured>, String> {
    let climb = bench.plan.climb(FIRST_PER_S, CEILING_PER_S);
    bench.climb(climb, Fits::Yes, &mut |plan, load| step(stage, plan, Shape::Small, BYTES, load))
}

/// The knee of bytes, with large payloads. Offered and reached are bytes of payloads with their
/// envelopes: what the deliveries of a first step had.
fn egress(
    bench: &mut Bench,
    stage: &mut Stage,
    deliveries: f64,
) -> Result<Option<Measured>, String> {
    let first = step(stage, &bench.plan, Shape::Small, LARGE_BYTES, PARTS[0] * deliveries)?;
    let each = first.bytes_per_s / first.deliveries_per_s.max(1.0);
    bench.note(first, Fits::Yes);
    if each <= 0.0 {
        return Ok(None);
    }
    let climb = bench.plan.climb(0.3 * deliveries * each, deliveries * each);
    bench.climb(climb, Fits::Yes, &mut |plan, bytes_per_s| {
        let mut step = step(stage, plan, Shape::Small, LARGE_BYTES, bytes_per_s / each)?;
        step.ramp = "R4-egress".into();
        step.offered *= each;
        step.reached *= each;
        Ok(step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_of_deliveries() {
        let of = |shape| load(shape, 200, 50_000.0).streams.remove(0);
        let (small, large) = (of(Shape::Small), of(Shape::Large));
        assert_eq!((small.per_s, small.channels), (1_000.0, 0..100));
        assert_eq!((large.per_s, large.channels), (50.0, 100..105));
    }
}
