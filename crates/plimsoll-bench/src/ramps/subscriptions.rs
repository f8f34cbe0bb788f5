//! R5: subscriptions per connection: their memory, how fast they are made, how fast recovered.

use super::bench::{Bench, Fits};
use super::plan::RampId;
use super::stage::{Scene, Stage, sleep_s};
use super::window::{Asked, Latency, Unit};
use crate::fleet::{Load, Stream};
use crate::server::ROOM;
use crate::topology::{ChannelId, Topology};
use plimsoll_capacity::fit;
use plimsoll_capacity::measured::{Resource, Step};
use std::time::Instant;

/// Clients, in groups that share all their rooms.
const CLIENTS: u32 = 500;
/// Clients of a group, and so of a room.
const GROUP: u32 = 50;
/// Rooms of each client, for the slope of memory.
const ROOMS_OF_CLIENT: [u32; 3] = [1, 30, 100];
/// Rooms of each client, where subscriptions are made and recovered: so many that of those made
/// anew at one time hardly one is chosen again.
const ROOMS_IN_MOTION: u32 = 100;
/// Seconds before memory is read.
const REST_S: f64 = 1.0;
/// The first loads, and no node of this design does more.
const FIRST_PER_S: f64 = 2_000.0;
const CEILING_PER_S: f64 = 2e6;
/// Deliveries per second beside it, whose latency is judged, in one room.
const PROBES_PER_S: f64 = 20.0;

fn topology(rooms_of_client: u32) -> Topology {
    let rooms = CLIENTS / GROUP * rooms_of_client;
    let names = (0..rooms).map(|room| format!("{ROOM}sub{room}").into()).collect();
    let of = |client: u32| -> Vec<ChannelId> {
        let first = client / GROUP * rooms_of_client;
        (first..first + rooms_of_client).collect()
    };
    Topology::new(names, (0..CLIENTS).map(of))
}

/// Memory, subscribes, recoveries.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    memory(bench)?;
    let mut stage = Stage::open(&bench.place, Scene::new(topology(ROOMS_IN_MOTION)))?;
    stage.gather()?;
    let climb = bench.plan.climb(FIRST_PER_S, CEILING_PER_S);
    let asked = Asked {
        ramp: RampId::R5.name(),
        offered: 0.0,
        unit: Unit::Subscribes,
        latency: Latency::Delivery,
    };
    // Subscribes have half of the time.
    let end = bench.end;
    bench.end = Instant::now() + end.saturating_duration_since(Instant::now()) / 2;
    // The cost model has no term for subscribes without recovery.
    let subscribes = bench.climb(climb, Fits::No, &mut |plan, offered| {
        let load = Load { resubscribes_per_s: offered, ..beside() };
        let step = stage.measure(plan, Asked { offered, ..asked }, load)?;
        Ok(Step { ramp: "R5-subscribe".into(), ..step })
    })?;
    bench.found.resource(Resource::SubscribesPerS, subscribes, RampId::R5);
    bench.end = end;
    stage.gather()?;
    let recoveries = bench.climb(climb, Fits::Yes, &mut |plan, offered| {
        let cuts_per_s = offered / f64::from(ROOMS_IN_MOTION);
        let load = Load { cuts_per_s, ..beside() };
        let asked = Asked { offered, unit: Unit::Recoveries, ..asked };
        let step = stage.measure(plan, asked, load)?;
        Ok(Step { ramp: "R5-recover".into(), ..step })
    })?;
    bench.found.resource(Resource::RecoveriesPerS, recoveries, RampId::R5);
    Ok(())
}

/// All are there, and something is published.
fn beside() -> Load {
    let stream =
        Stream { per_s: PROBES_PER_S, bytes: 200..200, channels: 0..ROOMS_IN_MOTION, by: None };
    Load { clients: CLIENTS, streams: vec![stream], ..Load::default() }
}

fn memory(bench: &mut Bench) -> Result<(), String> {
    if !super::run::is_own(&bench.place) {
        bench.found.missing("memory per subscription", "needs a server of our own for each step");
        return Ok(());
    }
    let (mut subscriptions, mut bytes) = (Vec::new(), Vec::new());
    for rooms_of_client in ROOMS_OF_CLIENT {
        // A new server each: what memory one gives back is another question.
        let mut stage = Stage::open(&bench.place, Scene::new(topology(rooms_of_client)))?;
        stage.gather()?;
        sleep_s(REST_S);
        let usage = stage.usage().ok_or("the server's process is gone")?;
        subscriptions.push(f64::from(CLIENTS * rooms_of_client));
        bytes.push(usage.rss_bytes as f64);
    }
    bench.found.memory_subscription =
        fit::line(&subscriptions, &bytes).map(|line| line.slope.max(0.0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_share_their_rooms() {
        let made = topology(ROOMS_IN_MOTION);
        assert_eq!(made.clients(), CLIENTS);
        assert_eq!(made.subscriptions(), 50_000);
        assert!(made.all_channels().all(|channel| made.size(channel) == GROUP));
        assert_eq!(made.channels_of(0), made.channels_of(GROUP - 1));
        assert_ne!(made.channels_of(0), made.channels_of(GROUP));
    }
}
