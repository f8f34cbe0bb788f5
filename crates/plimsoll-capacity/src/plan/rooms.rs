//! Sizes of rooms, as those see them who send into them.
//!
//! Members send, so a room of a thousand sends twenty times what a room of fifty does, and reaches
//! twenty times as many. The fan-out of a message is therefore F = E[n²]/E[n] − 1 and not E[n] − 1.

use crate::profile::{RoomSizes, WorkloadProfile};

/// What matters of the sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Mean number of others in the room of a random member: F.
    pub others: f64,
    /// Mean of the square of that number, for what is quadratic.
    pub others_squared: f64,
    /// Smallest room.
    pub smallest: f64,
    /// Largest room.
    pub largest: f64,
}

/// The moments of a workload's rooms.
pub fn moments(workload: &WorkloadProfile) -> Moments {
    let mean = workload.avg_users_per_room;
    match workload.room_sizes {
        RoomSizes::Equal => Moments {
            others: mean - 1.0,
            others_squared: (mean - 1.0) * (mean - 1.0),
            smallest: mean,
            largest: mean,
        },
        RoomSizes::Exponential => geometric(mean, workload.concurrent_users as f64),
        RoomSizes::PowerLaw(exponent) => power_law(workload, exponent),
    }
}

/// The geometric distribution on 1, 2, …: the exponential one in whole numbers.
fn geometric(mean: f64, users: f64) -> Moments {
    let p = 1.0 / mean;
    let second = (2.0 - p) / (p * p);
    let third = (6.0 - 6.0 * p + p * p) / (p * p * p);
    biased([mean, second, third], 1.0, users)
}

/// A density ∝ n^−a between the smallest room and the largest that one can expect among this many
/// rooms (a share of 1/2 of a room is larger), but no room of more than all users.
fn power_law(workload: &WorkloadProfile, exponent: f64) -> Moments {
    let users = workload.concurrent_users as f64;
    let mean = workload.avg_users_per_room;
    let rooms = (users * workload.avg_rooms_per_user / mean).max(1.0);
    let spread = (2.0 * rooms).powf(1.0 / (exponent - 1.0));
    let largest = |smallest: f64| (smallest * spread).clamp(smallest, users.max(smallest));
    let moment = |power: f64, a: f64, b: f64| integral(power - exponent, a, b);
    let mean_of = |a: f64, b: f64| {
        if b <= a { a } else { moment(1.0, a, b) / moment(0.0, a, b) }
    };
    let (mut low, mut high) = (1.0, largest(1.0));
    if mean_of(low, high) <= mean {
        low = halve(1.0, mean, |a| mean_of(a, largest(a)) < mean);
        high = largest(low);
    } else {
        // Even the smallest rooms of one member leave the mean too high: the large ones shrink.
        high = halve(1.0, high, |b| mean_of(1.0, b) < mean);
    }
    if high <= low {
        return biased([low, low * low, low * low * low], low, low);
    }
    let whole = moment(0.0, low, high);
    let all = [1.0, 2.0, 3.0].map(|power| moment(power, low, high) / whole);
    biased(all, low, high)
}

/// Where `below` stops to hold, between `low` and `high`.
fn halve(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    // 200 halvings leave nothing of an interval of such numbers.
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// ∫ x^power dx from `a` to `b`.
fn integral(power: f64, a: f64, b: f64) -> f64 {
    let e = power + 1.0;
    if e.abs() < 1e-9 { (b / a).ln() } else { (b.powf(e) - a.powf(e)) / e }
}

/// From the moments of the size to those of the others, weighted by members.
fn biased([mean, second, third]: [f64; 3], smallest: f64, largest: f64) -> Moments {
    let others = (second / mean - 1.0).max(0.0);
    let others_squared = (third / mean - 2.0 * second / mean + 1.0).max(others * others);
    Moments { others, others_squared, smallest, largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sizes: RoomSizes, mean: f64) -> Moments {
        moments(&WorkloadProfile {
            room_sizes: sizes,
            avg_users_per_room: mean,
            ..WorkloadProfile::default()
        })
    }

    #[test]
    fn equal_rooms_have_one_less_than_their_size() {
        let fifty = of(RoomSizes::Equal, 50.0);
        assert_eq!((fifty.others, fifty.others_squared), (49.0, 2401.0));
        assert_eq!(of(RoomSizes::Equal, 1.0).others, 0.0);
    }

    #[test]
    fn an_exponential_doubles_the_fan_out() {
        // Summed by hand over P(n) = p (1 − p)^(n − 1).
        let (p, mut sums) = (1.0 / 50.0, [0.0; 3]);
        for n in 1..20_000 {
            let share = p * f64::powi(1.0 - p, n - 1);
            let size = f64::from(n);
            sums[0] += share * size;
            sums[1] += share * size * (size - 1.0);
            sums[2] += share * size * (size - 1.0) * (size - 1.0);
        }
        let found = of(RoomSizes::Exponential, 50.0);
        assert!((found.others - sums[1] / sums[0]).abs() < 1e-6, "{found:?}");
        assert!((found.others_squared - sums[2] / sums[0]).abs() < 1e-3, "{found:?}");
        assert!((found.others - 98.0).abs() < 1e-9);
    }

    #[test]
    fn a_power_law_keeps_its_mean_and_reaches_farther() {
        for exponent in [1.5, 2.0, 2.5, 3.0, 4.0] {
            for mean in [1.0, 1.5, 10.0, 50.0, 5_000.0] {
                let found = of(RoomSizes::PowerLaw(exponent), mean);
                assert!(found.smallest >= 1.0 && found.largest <= 1e6, "{exponent} {found:?}");
                assert!(found.others >= mean - 1.0 - 1e-6, "{exponent} {mean} {found:?}");
                let square = found.others * found.others;
                assert!(found.others_squared >= square - 1e-6 && found.others_squared.is_finite());
            }
        }
        let (heavy, light) =
            (of(RoomSizes::PowerLaw(2.2), 50.0), of(RoomSizes::PowerLaw(3.5), 50.0));
        assert!(heavy.others > 3.0 * light.others, "{heavy:?} {light:?}");
    }
}
