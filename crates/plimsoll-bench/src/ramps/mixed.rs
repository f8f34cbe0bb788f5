//! R6: everything at one time, and whether the cost model knew what it would cost.

use super::bench::{Bench, Fits};
use super::plan::RampId;
use super::stage::{Scene, Stage};
use super::window::{Asked, Latency, Unit};
use crate::fleet::{Load, Stream};
use crate::server::ROOM;
use crate::topology::{ChannelId, Topology};
use plimsoll_capacity::fit::Rates;
use plimsoll_capacity::measured::{Measured, Prediction, Resource, Step};

/// Clients, each in two rooms.
const CLIENTS: u32 = 4_000;
/// Sizes of rooms, repeated until everybody has a place: other ones than R4 had.
const SIZES: [u32; 6] = [5, 12, 30, 45, 120, 300];
/// Parts of the knees that the mix has: about half of a node in sum.
const DELIVERIES_PART: f64 = 0.4;
const CONNECTS_PART: f64 = 0.1;
/// Smallest and largest payload.
const BYTES: [u32; 2] = [100, 400];

/// Two layers of rooms; the second begins elsewhere, so that rooms share only some members.
fn topology() -> Topology {
    let mut members: Vec<Vec<ChannelId>> = vec![Vec::new(); CLIENTS as usize];
    let mut rooms: ChannelId = 0;
    for first in [0, CLIENTS / 3] {
        let mut at = 0;
        for size in SIZES.iter().cycle() {
            if at >= CLIENTS {
                break;
            }
            for client in at..(at + size).min(CLIENTS) {
                let client = (client + first) % CLIENTS;
                if let Some(of_client) = members.get_mut(client as usize) {
                    of_client.push(rooms);
                }
            }
            at += size;
            rooms += 1;
        }
    }
    let names = (0..rooms).map(|room| format!("{ROOM}mix{room}").into()).collect();
    Topology::new(names, members)
}

/// Fits the model, and compares.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let cost = bench.found.fit_cost(bench.rules.cores)?;
    let knee = |resource| bench.found.resources.get(&resource).map(|m: &Measured| m.knee);
    let deliveries = knee(Resource::DeliveriesPerS).ok_or("R4 found no knee of deliveries")?;
    let connects = knee(Resource::ConnectsPerS).ok_or("R2 found no knee of connects")?;
    knee(Resource::ReconnectsPerS).ok_or("R8 did not show what a connect and a close cost")?;
    let topology = topology();
    // Members of the room of an average publication: rooms are chosen alike.
    let fan_out = topology.subscriptions() as f64 / f64::from(topology.all_channels().end);
    let stream = Stream {
        per_s: DELIVERIES_PART * deliveries / fan_out,
        bytes: BYTES[0]..BYTES[1],
        channels: topology.all_channels(),
        by: None,
    };
    let load = Load {
        clients: CLIENTS,
        streams: vec![stream],
        cuts_per_s: CONNECTS_PART * connects,
        ..Load::default()
    };
    let mut stage = Stage::open(&bench.place, Scene::new(topology))?;
    if !stage.knows_usage() {
        return Err("the server's process is not known".into());
    }
    stage.gather()?;
    let asked = Asked {
        ramp: RampId::R6.name(),
        offered: DELIVERIES_PART * deliveries,
        unit: Unit::Deliveries,
        latency: Latency::Delivery,
    };
    let mut steps: Vec<Step> = Vec::new();
    for _ in 0..bench.plan.mixed_runs {
        if !steps.is_empty() && bench.is_late(bench.plan.step_s) {
            break;
        }
        let step = stage.measure(&bench.plan, asked, load.clone())?;
        steps.push(step.clone());
        bench.note(step, Fits::No);
    }
    let predict = |step: &Step| cost.predict(&Rates::from(step));
    bench.found.mixed = prediction(&steps, &predict);
    Ok(())
}

/// The sums of all steps.
fn prediction(steps: &[Step], predict: &dyn Fn(&Step) -> f64) -> Option<Prediction> {
    let count = steps.len() as f64;
    let predicted = steps.iter().map(predict).sum::<f64>() / count;
    let measured = steps.iter().map(|step| step.server_cpu_us_per_s).sum::<f64>() / count;
    (measured > 0.0).then(|| Prediction {
        predicted_us_per_s: predicted,
        measured_us_per_s: measured,
        error_ratio: predicted / measured - 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_two_rooms() {
        let made = topology();
        assert_eq!(made.clients(), CLIENTS);
        assert!((0..CLIENTS).all(|client| made.channels_of(client).len() == 2));
        assert!(made.all_channels().all(|room| (1..=300).contains(&made.size(room))));
    }

    #[test]
    fn errors_are_of_the_mean() {
        let step = |cpu| Step { server_cpu_us_per_s: cpu, ..Step::default() };
        let found = prediction(&[step(100.0), step(300.0)], &|_| 220.0).unwrap();
        assert_eq!((found.predicted_us_per_s, found.measured_us_per_s), (220.0, 200.0));
        assert!((found.error_ratio - 0.1).abs() < 1e-9);
        assert_eq!(prediction(&[], &|_| 1.0), None);
    }
}
