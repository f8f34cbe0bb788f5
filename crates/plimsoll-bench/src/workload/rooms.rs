//! Rooms, their members, and what is said in them. Pure but for the random numbers it is given.

use super::Workload;
use crate::fleet::Stream;
use crate::topology::{ChannelId, Topology};
use fastrand::Rng;
use plimsoll_capacity::profile::{Receipts, RoomSizes};
use std::ops::Range;

/// Bytes of typing events and receipts: little more than the stamp.
const SIGNAL_BYTES: Range<u32> = 64..97;

/// A workload that is ready to run.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Who is in which channel.
    pub topology: Topology,
    /// The rooms, largest first. They have history.
    pub rooms: Range<ChannelId>,
    /// What is published outside the peak, at a factor of 1.
    pub streams: Vec<Stream>,
    /// Deliveries per second that makes.
    pub deliveries_per_s: f64,
}

/// Builds the rooms of `workload`; the same for the same `seed`.
pub fn build(workload: &Workload, seed: u64) -> Scene {
    let mut random = Rng::with_seed(seed);
    let profile = &workload.profile;
    let clients = workload.clients;
    let sizes = room_sizes(workload);
    let mut members = assign(&sizes, clients, &mut random);
    let rooms = sizes.len() as u32;
    let name = |space: &str, n: u32| format!("{space}:{n}").into_boxed_str();
    let mut names: Vec<Box<str>> = (0..rooms).map(|n| name(&workload.rooms_namespace, n)).collect();
    let whole_room = matches!(profile.receipts, Receipts::Broadcast | Receipts::Watermark);
    let signals = profile.typing_per_message > 0.0 || whole_room;
    if signals {
        names.extend((0..rooms).map(|n| name(&workload.signals_namespace, n)));
        for of_client in &mut members {
            let second: Vec<u32> = of_client.iter().map(|room| room + rooms).collect();
            of_client.extend(second);
        }
    }
    // A receipt for the author goes to a channel that only its author is in.
    let inbox = names.len() as u32;
    if profile.receipts == Receipts::Author {
        names.extend((0..clients).map(|n| name(&workload.signals_namespace, inbox + n)));
        for (client, of_client) in members.iter_mut().enumerate() {
            of_client.push(inbox + client as u32);
        }
    }
    let topology = Topology::new(names, members);
    let streams = streams(workload, &sizes, inbox);
    let deliveries_per_s = streams.iter().map(|stream| expected(stream, &topology)).sum();
    Scene { topology, rooms: 0..rooms, streams, deliveries_per_s }
}

/// Deliveries per second of a stream, when all are subscribed.
fn expected(stream: &Stream, topology: &Topology) -> f64 {
    let channels = stream.channels.clone();
    let sizes: u64 = channels.clone().map(|c| u64::from(topology.size(c))).sum();
    stream.per_s * sizes as f64 / channels.len().max(1) as f64
}

/// Sizes of the rooms, largest first: their sum is what all clients' rooms add up to, each is at
/// least 1 and at most `clients`.
pub fn room_sizes(workload: &Workload) -> Vec<u32> {
    let profile = &workload.profile;
    let clients = workload.clients;
    let total = (f64::from(clients) * profile.avg_rooms_per_user).round().max(1.0) as u64;
    let each = total.div_ceil(u64::from(clients));
    let count = (total as f64 / profile.avg_users_per_room).round().max(1.0) as u64;
    let count = count.clamp(each, total);
    let shape: Vec<f64> = (0..count)
        .map(|n| {
            // The value that a share `above` of all rooms exceeds.
            let above = (n as f64 + 0.5) / count as f64;
            match profile.room_sizes {
                RoomSizes::Equal => 1.0,
                RoomSizes::Exponential => -above.ln(),
                RoomSizes::PowerLaw(exponent) => above.powf(-1.0 / (exponent - 1.0)),
            }
        })
        .collect();
    scaled(&shape, total, clients)
}

/// `shape` times the factor that makes the sum `total`, each from 1 to `most`.
fn scaled(shape: &[f64], total: u64, most: u32) -> Vec<u32> {
    let by = |factor: f64| -> Vec<u32> {
        shape.iter().map(|x| (x * factor).round().clamp(1.0, f64::from(most)) as u32).collect()
    };
    let sum = |sizes: &[u32]| sizes.iter().map(|n| u64::from(*n)).sum::<u64>();
    let (mut low, mut high) = (0.0, total as f64 * 1e6);
    // Halving 200 times leaves nothing of any interval of floating-point numbers this size.
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if sum(&by(middle)) <= total {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut sizes = by(low);
    let mut missing = total.saturating_sub(sum(&sizes));
    while missing > 0 {
        let before = missing;
        for size in sizes.iter_mut().filter(|size| **size < most) {
            if missing == 0 {
                break;
            }
            *size += 1;
            missing -= 1;
        }
        if before == missing {
            break;
        }
    }
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

/// The rooms of each client: sizes exactly as given, each client's rooms distinct, and all clients
/// in equally many (to one).
///
/// Each room takes those who miss the most rooms, at random among equals. Since the numbers of
/// rooms are as even as they can be, this never runs out of people (Gale and Ryser).
pub fn assign(sizes: &[u32], clients: u32, random: &mut Rng) -> Vec<Vec<ChannelId>> {
    let total: u64 = sizes.iter().map(|n| u64::from(*n)).sum();
    let each = total / u64::from(clients.max(1));
    let one_more = total % u64::from(clients.max(1));
    let mut order: Vec<u32> = (0..clients).collect();
    random.shuffle(&mut order);
    // `missing[n]`: clients that miss `n` rooms.
    let mut missing: Vec<Vec<u32>> = vec![Vec::new(); each as usize + 2];
    for (at, client) in order.into_iter().enumerate() {
        let rooms = each + u64::from((at as u64) < one_more);
        if let Some(bucket) = missing.get_mut(rooms as usize) {
            bucket.push(client);
        }
    }
    let mut rooms_of = vec![Vec::with_capacity(each as usize + 1); clients as usize];
    for (room, size) in sizes.iter().enumerate() {
        let mut taken: Vec<(usize, u32)> = Vec::with_capacity(*size as usize);
        for level in (1..missing.len()).rev() {
            let Some(bucket) = missing.get_mut(level) else { continue };
            while taken.len() < *size as usize && !bucket.is_empty() {
                let at = random.usize(..bucket.len());
                taken.push((level, bucket.swap_remove(at)));
            }
        }
        for (level, client) in taken {
            if let Some(bucket) = missing.get_mut(level - 1) {
                bucket.push(client);
            }
            if let Some(rooms) = rooms_of.get_mut(client as usize) {
                rooms.push(room as ChannelId);
            }
        }
    }
    rooms_of
}

/// What is published. A stream takes its channels evenly, people talk in proportion to the size of
/// their room: so there is one stream for all rooms of about the same size.
fn streams(workload: &Workload, sizes: &[u32], inbox: ChannelId) -> Vec<Stream> {
    let profile = &workload.profile;
    let rooms = sizes.len() as u32;
    let members: f64 = sizes.iter().map(|n| f64::from(*n)).sum();
    let messages_per_s = f64::from(workload.clients) * profile.msgs_per_user_per_minute / 60.0;
    let [least, most] = workload.payload_bytes;
    let mut made = Vec::new();
    let mut add = |per_s: f64, bytes: Range<u32>, channels: Range<ChannelId>| {
        if per_s > 0.0 {
            made.push(Stream { per_s, bytes, channels, by: None });
        }
    };
    for range in classes(sizes) {
        let slice = sizes.get(range.start as usize..range.end as usize).unwrap_or_default();
        let here: f64 = slice.iter().map(|n| f64::from(*n)).sum();
        let messages = messages_per_s * here / members;
        add(messages, least..most + 1, range.clone());
        let signal = range.start + rooms..range.end + rooms;
        add(messages * profile.typing_per_message, SIGNAL_BYTES, signal.clone());
        let readers = here / slice.len().max(1) as f64 - 1.0;
        match profile.receipts {
            Receipts::Off => {}
            Receipts::Broadcast => add(messages * readers, SIGNAL_BYTES, signal),
            Receipts::Author => {}
            // Once a second for each room in which something is said.
            Receipts::Watermark => add(messages.min(slice.len() as f64), SIGNAL_BYTES, signal),
        }
        if profile.receipts == Receipts::Author {
            add(messages * readers, SIGNAL_BYTES, inbox..inbox + workload.clients);
        }
    }
    made
}

/// Ranges of rooms of about the same size: the largest is less than 1.5 times the smallest.
fn classes(sizes: &[u32]) -> Vec<Range<ChannelId>> {
    let mut ranges: Vec<Range<ChannelId>> = Vec::new();
    let mut largest = 0;
    for (room, size) in sizes.iter().enumerate() {
        match ranges.last_mut() {
            Some(last) if size * 3 > largest * 2 => last.end = room as u32 + 1,
            _ => {
                largest = *size;
                ranges.push(room as u32..room as u32 + 1);
            }
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::super::Draft;
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::*;

    fn workload(clients: u32, rooms: f64, users: f64, sizes: RoomSizes) -> Workload {
        let mut draft = Draft::default();
        draft.profile.avg_rooms_per_user = rooms;
        draft.profile.avg_users_per_room = users;
        draft.profile.room_sizes = sizes;
        draft.run.clients = Some(clients);
        draft.check().unwrap()
    }

    proptest! {
        #[test]
        fn sizes_are_as_asked_and_rooms_distinct(
            clients in 1_u32..400,
            rooms in 0.5_f64..6.0,
            share in 0.0_f64..1.0,
            kind in 0_u8..3,
            exponent in 1.5_f64..4.0,
            seed: u64,
        ) {
            let kind = match kind {
                0 => RoomSizes::Equal,
                1 => RoomSizes::Exponential,
                _ => RoomSizes::PowerLaw(exponent),
            };
            let users = 1.0 + share * f64::from(clients - 1);
            let rooms = rooms.max(1.0 / f64::from(clients));
            let workload = workload(clients, rooms, users, kind);
            let sizes = room_sizes(&workload);
            let total: u64 = sizes.iter().map(|n| u64::from(*n)).sum();
            let wanted = (f64::from(clients) * rooms).round().max(1.0) as u64;
            prop_assert_eq!(total, wanted);
            prop_assert!(sizes.iter().all(|n| (1..=clients).contains(n)));
            prop_assert!(sizes.is_sorted_by(|a, b| a >= b));
            let members = assign(&sizes, clients, &mut Rng::with_seed(seed));
            let mut found = vec![0; sizes.len()];
            for of_client in &members {
                let mut distinct = of_client.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), of_client.len());
                of_client.iter().for_each(|room| found[*room as usize] += 1);
            }
            prop_assert_eq!(&found, &sizes);
            let most = members.iter().map(Vec::len).max();
            let least = members.iter().map(Vec::len).min();
            prop_assert!(most.unwrap() - least.unwrap() <= 1);
            let ranges = classes(&sizes);
            prop_assert_eq!(ranges.first().map(|r| r.start), Some(0));
            prop_assert_eq!(ranges.last().map(|r| r.end as usize), Some(sizes.len()));
            prop_assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
        }
    }

    #[test]
    fn the_shape_is_that_of_the_distribution() {
        let sizes = |kind| room_sizes(&workload(10_000, 2.0, 50.0, kind));
        assert!(sizes(RoomSizes::Equal).iter().all(|n| *n == 50));
        let spread = sizes(RoomSizes::Exponential);
        assert_eq!(spread.len(), 400);
        // Of an exponential distribution with mean 50: median 34.7, and 13.5 % are above 100.
        assert!((33..=37).contains(&spread[200]), "{}", spread[200]);
        let large = spread.iter().filter(|n| **n > 100).count();
        assert!((50..=58).contains(&large), "{large}");
        let heavy = sizes(RoomSizes::PowerLaw(2.0));
        assert!(heavy[0] > 10 * spread[0] / 2, "{} {}", heavy[0], spread[0]);
    }

    #[test]
    fn the_same_seed_makes_the_same_rooms() {
        let made = |seed| {
            let scene = build(&workload(200, 2.0, 10.0, RoomSizes::Exponential), seed);
            (0..200).map(|c| scene.topology.channels_of(c).to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
    }

    /// Publications and deliveries per second of 600 clients in 2 rooms of 30, one message a
    /// minute each: 10 messages.
    fn rates(change: impl Fn(&mut Draft)) -> (f64, f64, usize) {
        let mut draft = Draft::default();
        draft.profile.avg_users_per_room = 30.0;
        draft.profile.msgs_per_user_per_minute = 1.0;
        draft.profile.room_sizes = RoomSizes::Equal;
        draft.profile.typing_per_message = 0.0;
        draft.profile.receipts = Receipts::Off;
        draft.run.clients = Some(600);
        change(&mut draft);
        let scene = build(&draft.check().unwrap(), 1);
        let sent = scene.streams.iter().map(|stream| stream.per_s).sum();
        (sent, scene.deliveries_per_s, scene.topology.subscriptions())
    }

    #[test]
    fn what_is_said_adds_up() {
        let check = |change: &dyn Fn(&mut Draft), expect: (f64, f64, usize)| {
            let (sent, delivered, subscriptions) = rates(change);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
            assert!(near(sent, expect.0), "{sent} {expect:?}");
            assert!(near(delivered, expect.1), "{delivered} {expect:?}");
            assert_eq!(subscriptions, expect.2);
        };
        check(&|_| {}, (10.0, 300.0, 1_200));
        check(&|d| d.profile.typing_per_message = 2.0, (30.0, 900.0, 2_400));
        check(&|d| d.profile.receipts = Receipts::Broadcast, (300.0, 9_000.0, 2_400));
        check(&|d| d.profile.receipts = Receipts::Author, (300.0, 590.0, 1_800));
        // 40 rooms, 10 messages per second: a watermark for each message.
        check(&|d| d.profile.receipts = Receipts::Watermark, (20.0, 600.0, 2_400));
        let busy = |d: &mut Draft| {
            d.profile.msgs_per_user_per_minute = 60.0;
            d.profile.receipts = Receipts::Watermark;
        };
        // 600 messages per second: 40 watermarks.
        check(&busy, (640.0, 19_200.0, 2_400));
    }

    #[test]
    fn large_rooms_hear_more() {
        let scene = build(&workload(2_000, 2.0, 40.0, RoomSizes::PowerLaw(2.0)), 1);
        let rooms = scene.rooms.len() as u32;
        let messages: Vec<&Stream> =
            scene.streams.iter().filter(|stream| stream.channels.end <= rooms).collect();
        assert!(messages.len() > 3);
        for stream in messages {
            let members: u32 = stream.channels.clone().map(|c| scene.topology.size(c)).sum();
            // Two messages a minute of each user, spread over two rooms: 1/60 for a membership.
            assert!((stream.per_s - f64::from(members) / 60.0).abs() < 1e-6);
        }
    }
}
