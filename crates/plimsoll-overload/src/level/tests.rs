use super::*;

/// A sample every 250 ms for each (score, samples); the level after each pair.
fn check(seed: u64, script: &[(f64, u64, Level)]) {
    let mut machine = Machine::new(Thresholds { jitter: 0.0, ..Thresholds::default() }, seed);
    let mut now_ms = 1_000;
    for (step, (score, samples, expect)) in script.iter().enumerate() {
        for _ in 0..*samples {
            now_ms += limits::SAMPLE_INTERVAL_MS;
            machine.sample(now_ms, reading(*score));
        }
        assert_eq!(machine.level(), *expect, "step {step} of {script:?}");
    }
}

fn reading(score: f64) -> Reading {
    Reading { score, demand: score, urgent: false }
}

use Level::{Critical, Degraded, Emergency, Normal, Warning};

#[test]
fn two_samples_up_to_the_lower_of_both() {
    check(1, &[(0.70, 1, Normal), (0.70, 1, Warning)]);
    check(1, &[(0.71, 1, Normal), (1.2, 1, Warning), (1.2, 1, Emergency)]);
    check(1, &[(1.2, 1, Normal), (0.69, 1, Normal), (1.2, 1, Normal)]);
    check(1, &[(0.69, 100, Normal), (0.86, 2, Degraded), (0.96, 2, Critical)]);
}

#[test]
fn an_urgent_sample_is_enough() {
    let mut machine = Machine::new(Thresholds::default(), 1);
    let urgent = Reading { score: 1.05, demand: 1.05, urgent: true };
    assert_eq!(machine.sample(250, urgent), Emergency);
}

#[test]
fn down_one_step_at_a_time_after_the_dwell() {
    // 10 s = 40 samples after the first quiet one.
    check(1, &[(0.72, 2, Warning), (0.61, 40, Warning), (0.61, 1, Normal)]);
    // Between exit and enter nothing happens.
    check(1, &[(0.72, 2, Warning), (0.63, 10_000, Warning)]);
    // Emergency: 20 s, then a step each 6 s.
    check(
        1,
        &[
            (1.1, 2, Emergency),
            (0.3, 80, Emergency),
            (0.3, 1, Critical),
            (0.3, 24, Degraded),
            (0.3, 24, Warning),
            (0.3, 24, Normal),
        ],
    );
    // A loud sample starts the quiet time anew.
    check(1, &[(0.72, 2, Warning), (0.3, 39, Warning), (0.65, 1, Warning), (0.3, 40, Warning)]);
}

#[test]
fn what_is_shed_holds_a_level_but_not_for_ever() {
    let mut machine = Machine::new(Thresholds::default(), 3);
    let mut now_ms = 0;
    let mut run = |machine: &mut Machine, samples: u64, demand: f64| {
        for _ in 0..samples {
            now_ms += limits::SAMPLE_INTERVAL_MS;
            machine.sample(now_ms, Reading { score: 0.5, demand, urgent: false });
        }
        machine.level()
    };
    machine.level = Degraded;
    assert_eq!(run(&mut machine, 1_100, 0.9), Degraded, "275 s");
    assert_eq!(run(&mut machine, 250, 0.9), Warning, "a trial");
    machine.level = Degraded;
    assert_eq!(run(&mut machine, 50, 0.9), Degraded);
    assert_eq!(run(&mut machine, 1, 0.76), Warning, "what is shed has become little");
}

#[test]
fn a_gap_proves_nothing() {
    let mut machine = Machine::new(Thresholds::default(), 3);
    machine.sample(250, reading(0.8));
    machine.sample(500, reading(0.8));
    machine.sample(750, reading(0.1));
    assert_eq!(machine.sample(100_000, reading(0.1)), Warning);
    assert_eq!(machine.sample(99_000, reading(0.1)), Warning, "and the clock may go back");
}

#[test]
fn not_a_number_changes_nothing() {
    check(1, &[(0.72, 2, Warning), (f64::NAN, 1_000, Warning)]);
}

#[test]
fn names_and_numbers() {
    for level in Level::ALL {
        assert_eq!(Level::parse(level.name()), Some(level));
        assert_eq!(Level::parse(&level.number().to_string()), Some(level));
    }
    assert_eq!(Level::parse("CRITICAL"), Some(Critical));
    for bad in ["5", "-1", "", "fine", "0.5"] {
        assert_eq!(Level::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn thresholds_are_checked() {
    let wrong = |change: fn(&mut Thresholds)| {
        let mut thresholds = Thresholds::default();
        change(&mut thresholds);
        thresholds.wrong()
    };
    assert_eq!(wrong(|_| ()), None);
    assert!(wrong(|t| t.enter[1] = 0.69).is_some());
    assert!(wrong(|t| t.exit[2] = 0.94).is_some());
    assert!(wrong(|t| t.exit[0] = f64::NAN).is_some());
    assert!(wrong(|t| t.enter[3] = 1.6).is_some());
    assert!(wrong(|t| t.jitter = 0.6).is_some());
    assert!(wrong(|t| t.dwell_ms = [10_000, 15_000, 30_000, 60_000]).is_some());
    let all = Thresholds::default();
    assert_eq!(all.descent_ms(Emergency), 45_600);
    assert_eq!(all.descent_ms(Warning), 12_000);
    assert_eq!(all.descent_ms(Normal), 0);
}
