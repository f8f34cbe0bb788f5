use super::*;
use crate::spread::mix;
use AdmissionClass::{Anonymous, Rest, Resume, Top};

const HOLD_MS: u64 = 4_000;

/// Offers `each` of every class per 10 ms for ten seconds; how many of each came in.
fn storm(floor: AdmissionFloor, rate: f64, each: [u64; 4]) -> [u64; 4] {
    let mut door = Admission::new(0, rate, 1_000);
    door.steer(0, rate, 5.0, floor);
    let mut classes = BTreeMap::new();
    let mut came = [0; 4];
    let mut id = 0;
    for now_ms in (0..10_000).step_by(10) {
        for class in AdmissionClass::ALL {
            for _ in 0..each[class as usize] {
                id += 1;
                match door.offer(now_ms, id, class, HOLD_MS) {
                    Offer::Admit => came[class as usize] += 1,
                    Offer::Park { .. } => drop(classes.insert(id, class)),
                    Offer::Refuse => (),
                }
            }
        }
        for id in door.poll(now_ms).admitted {
            came[classes[&id] as usize] += 1;
        }
        assert!(door.parked() <= 1_000);
    }
    came
}

/// Those who came in over 10 s: within 6 % of `expect`, plus half a second's burst.
fn check(floor: AdmissionFloor, rate: f64, each: [u64; 4], expect: [f64; 4]) {
    let came = storm(floor, rate, each);
    for (found, expect) in came.iter().zip(expect) {
        let most = expect * 1.06 + rate * limits::ADMISSION_BURST_S;
        assert!((expect * 0.94..=most).contains(&(*found as f64)), "{floor:?} {each:?}: {came:?}");
    }
    let sum = came.iter().sum::<u64>() as f64;
    let most = rate * 10.0 + 2.0 * rate * limits::ADMISSION_BURST_S + 4.0;
    assert!(sum <= most, "{floor:?} {each:?}: {came:?} are more than {most}");
}

#[test]
fn the_budget_is_shared_and_nothing_is_wasted() {
    let all = AdmissionFloor::All;
    // Everybody wants in: each class has its share.
    check(all, 100.0, [5, 5, 5, 5], [600.0, 200.0, 150.0, 50.0]);
    // Nobody comes back: the others have it all. (Who is short, has what the pool gives first.)
    check(all, 100.0, [0, 0, 5, 0], [0.0, 0.0, 1_000.0, 0.0]);
    check(all, 100.0, [0, 0, 0, 5], [0.0, 0.0, 0.0, 1_000.0]);
    check(AdmissionFloor::ResumesAndTop, 100.0, [0, 5, 5, 5], [0.0, 1_000.0, 0.0, 0.0]);
    check(AdmissionFloor::ResumesOnly, 100.0, [5, 5, 5, 5], [1_000.0, 0.0, 0.0, 0.0]);
    // What those with a share leave, the others have, up to the minimum of 5 per second.
    check(AdmissionFloor::ResumesAndTop, 100.0, [0, 0, 5, 5], [0.0, 0.0, 50.0, 0.0]);
    check(AdmissionFloor::ResumesOnly, 100.0, [0, 0, 0, 5], [0.0, 0.0, 0.0, 50.0]);
    check(AdmissionFloor::Closed, 100.0, [5, 5, 5, 5], [1_000.0, 0.0, 0.0, 0.0]);
    assert_eq!(storm(AdmissionFloor::Closed, 100.0, [0, 5, 5, 5]), [0; 4]);
}

#[test]
fn a_floor_above_zero() {
    let mut door = Admission::new(0, 0.0, 10);
    assert_eq!(door.rate_per_s(), 1.0);
    door.steer(0, f64::NAN, f64::NAN, AdmissionFloor::Closed);
    assert_eq!(door.rate_per_s(), 1.0);
    assert_eq!(door.offer(10_000, 1, Resume, HOLD_MS), Offer::Admit);
    assert_eq!(door.offer(10_000, 2, Top, HOLD_MS), Offer::Refuse);
    door.steer(10_000, f64::INFINITY, 1.0, AdmissionFloor::All);
    assert!((0..1_000).all(|id| door.offer(20_000, id, Rest, 0) == Offer::Admit));
}

/// A door whose buckets are empty at 0.
fn shut() -> Admission {
    let mut door = Admission::new(0, 0.001, 3);
    while AdmissionClass::ALL.iter().any(|c| door.take(*c)) {}
    door
}

fn ticket(offer: Offer) -> Ticket {
    match offer {
        Offer::Park { ticket, .. } => ticket,
        other => panic!("not parked: {other:?}"),
    }
}

#[test]
fn newest_first_and_higher_class_first() {
    let mut door = shut();
    for (id, class) in [(1, Rest), (2, Resume), (3, Rest)] {
        ticket(door.offer(0, id, class, HOLD_MS));
    }
    door.pool = 1.0;
    assert_eq!(door.poll(1).admitted, [2]);
    door.pool = 1.0;
    assert_eq!(door.poll(2).admitted, [3]);
    assert_eq!(door.poll(3_999), Polled::default());
    assert_eq!(door.poll(4_000).expired, [1]);
    assert_eq!(door.next_deadline_ms(4_000), None);
}

#[test]
fn a_full_room_gives_up_the_oldest_of_the_lowest() {
    let mut door = shut();
    for (id, class) in [(1, Anonymous), (2, Rest), (3, Anonymous)] {
        ticket(door.offer(0, id, class, HOLD_MS));
    }
    let park = |door: &mut Admission, id, class| match door.offer(0, id, class, HOLD_MS) {
        Offer::Park { instead_of, .. } => instead_of,
        other => panic!("{other:?}"),
    };
    assert_eq!(park(&mut door, 4, Anonymous), Some(1));
    assert_eq!(park(&mut door, 5, Resume), Some(3));
    assert_eq!(park(&mut door, 6, Resume), Some(4));
    assert_eq!(park(&mut door, 7, Top), Some(2));
    assert_eq!(door.offer(0, 8, Rest, HOLD_MS), Offer::Refuse);
    assert_eq!(door.offer(0, 9, Top, 0), Offer::Refuse, "it cannot wait");
}

#[test]
fn who_goes_away_is_forgotten() {
    let mut door = shut();
    let one = ticket(door.offer(0, 1, Rest, HOLD_MS));
    assert!(door.withdraw(one) && !door.withdraw(one));
    assert_eq!((door.parked(), door.next_deadline_ms(0)), (0, None));
}

#[test]
fn deadlines_say_when_to_ask_again() {
    let mut door = shut();
    ticket(door.offer(0, 1, Rest, HOLD_MS));
    assert_eq!(door.next_deadline_ms(0), Some(50));
    assert_eq!(door.next_deadline_ms(3_990), Some(4_000));
    door.steer(0, 500.0, 1.0, AdmissionFloor::Closed);
    assert_eq!(door.next_deadline_ms(0), Some(4_000), "it can only expire");
    door.steer(0, 500.0, 1.0, AdmissionFloor::All);
    assert_eq!(door.next_deadline_ms(0), Some(2));
    ticket(door.offer(0, 2, Resume, u64::MAX));
    assert_eq!(door.deadlines.last().map(|d| d.0), Some(limits::PARKED_MS_MAX));
}

/// Random offers, polls, withdrawals and steering: everybody gets exactly one answer, the room
/// keeps its bound, and no more come in than the budget allows.
#[test]
fn everybody_gets_one_answer() {
    for seed in 0..300_u64 {
        let mut random = (0..).map(|n: u64| mix(seed << 32 | n));
        let mut next = |n: u64| random.next().unwrap_or_default() % n;
        let room = next(30) as usize + 1;
        let mut door = Admission::new(0, 50.0, room);
        let mut open = BTreeMap::new();
        let (mut now_ms, mut came, mut budget) = (0, 0.0, 50.0 + 4.0);
        let mut rate = 50.0;
        for id in 0..400 {
            let step_ms = next(40);
            now_ms += step_ms;
            budget += rate * step_ms as f64 / 1_000.0;
            let class = AdmissionClass::ALL[next(4) as usize];
            match door.offer(now_ms, id, class, next(2_000)) {
                Offer::Admit => came += 1.0,
                Offer::Park { ticket, instead_of, .. } => {
                    assert!(instead_of.is_none_or(|gone| open.remove(&gone).is_some()));
                    open.insert(id, ticket);
                }
                Offer::Refuse => (),
            }
            if next(3) == 0 {
                let polled = door.poll(now_ms);
                came += polled.admitted.len() as f64;
                for id in polled.admitted.iter().chain(&polled.expired) {
                    assert!(open.remove(id).is_some(), "seed {seed}: {id} twice");
                }
            }
            if next(10) == 0
                && let Some((_, ticket)) = open.pop_first()
            {
                assert!(door.withdraw(ticket));
            }
            if next(50) == 0 {
                rate = [1.0, 20.0, 50.0][next(3) as usize];
                let floors = [AdmissionFloor::All, AdmissionFloor::ResumesAndTop];
                door.steer(now_ms, rate, 1.0, floors[next(2) as usize]);
            }
            assert_eq!(door.parked(), open.len());
            assert!(door.parked() <= room);
            assert!(came <= budget, "seed {seed}: {came} came, budget {budget}");
        }
        let rest = door.poll(now_ms + limits::PARKED_MS_MAX);
        assert_eq!(rest.admitted.len() + rest.expired.len(), open.len());
    }
}
