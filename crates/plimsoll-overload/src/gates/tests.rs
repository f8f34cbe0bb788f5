use super::*;
use crate::signals::Pressures;

fn inputs(level: Level) -> Inputs {
    Inputs {
        levels: Levels::all(level),
        strengths: Strengths::default(),
        compression: Compression::Configured,
        accepts_per_s: 1_000.0,
        accepts_per_s_min: 10.0,
        accept_new_connections: true,
        plan: Plan::default(),
        storm: false,
    }
}

fn check(level: Level, feature: Feature, expect: FeatureState) {
    let gates = Gates::new(&inputs(level));
    assert_eq!(gates.state(feature), expect, "{feature:?} at {level:?}");
    assert_eq!(gates.allows(Some(feature)), expect != FeatureState::Off);
}

#[test]
fn each_level_as_in_its_table() {
    use FeatureState::{Off, On, Reduced};
    let table = [
        (Feature::Typing, [On, Reduced, Off, Off, Off]),
        (Feature::Presence, [On, Reduced, Reduced, Off, Off]),
        (Feature::Receipts, [On, Reduced, Reduced, Reduced, Off]),
        (Feature::Previews, [On, Off, Off, Off, Off]),
        (Feature::History, [On, Reduced, Reduced, Off, Off]),
        (Feature::Connections, [On, On, Reduced, Reduced, Off]),
        (Feature::Apis, [On, On, Off, Off, Off]),
        (Feature::Recovery, [On, On, On, Reduced, Reduced]),
    ];
    for (feature, states) in table {
        for (level, expect) in Level::ALL.into_iter().zip(states) {
            check(level, feature, expect);
        }
    }
}

#[test]
fn the_core_is_always_allowed() {
    for level in Level::ALL {
        let mut given = inputs(level);
        Action::ALL.iter().for_each(|a| given.strengths.set(*a, 1.0));
        given.plan = Plan::with(&[Step::CutPublishing]);
        given.accept_new_connections = false;
        let gates = Gates::new(&given);
        assert!(gates.allows(None) && gates.allows(Feature::parse("publish")));
        assert!(gates.allows(Some(Feature::Recovery)));
        assert_eq!(gates.class(Class::Control), ClassGate::Pass);
        assert_eq!(gates.class(Class::Durable), ClassGate::Pass);
        assert!(gates.publish_factor >= 0.2 && gates.accepts_per_s >= 10.0);
    }
}

#[test]
fn a_full_table_of_connections_switches_no_feature_off() {
    let levels =
        Levels { overall: Level::Emergency, admission: Level::Emergency, work: Level::Normal };
    let mut pressures = Pressures::default();
    pressures.set(Resource::Connections, Some(1.2));
    let strengths = Strengths::of(&pressures);
    let gates = Gates::new(&Inputs { levels, strengths, ..inputs(Level::Normal) });
    for feature in Feature::ALL {
        let expect = match feature {
            Feature::Connections => FeatureState::Off,
            _ => FeatureState::On,
        };
        assert_eq!(gates.state(feature), expect, "{feature:?}");
    }
    assert_eq!(gates.accepts_per_s, 10.0);
    assert_eq!(gates.batching_window_ms, 0);
    assert!(gates.idle_timeout_ms(600_000) == 2_000);
}

#[test]
fn dials_and_levels_the_stricter_wins() {
    let mut given = inputs(Level::Warning);
    given.strengths.set(Action::WidenBatching, 0.5);
    given.strengths.set(Action::LimitEphemeral, 0.5);
    given.strengths.set(Action::PresenceScope, 0.6);
    given.strengths.set(Action::HistoryPage, 0.9);
    given.strengths.set(Action::PublishRate, 0.5);
    let gates = Gates::new(&given);
    assert_eq!(gates.batching_window_ms, 50);
    assert_eq!(gates.typing, Some(TypingGate { interval_ms: 33_000, members_max: 200 }));
    assert_eq!((gates.presence, gates.presence_interval_ms), (PresenceScope::Counts, 10_000));
    assert_eq!(gates.history_rows, 30);
    assert_eq!(gates.publish_factor, 1.0, "on at Warning");
    assert_eq!(gates.class(Class::State), ClassGate::Conflate { interval_ms: 10_000 });
    assert_eq!(gates.class(Class::Ephemeral), ClassGate::Slow { factor: 5.5 });
    given.levels = Levels::all(Level::Critical);
    assert!((Gates::new(&given).publish_factor - 0.55).abs() < 1e-6, "the dial");
    given.strengths.set(Action::PublishRate, 1.0);
    assert_eq!(Gates::new(&given).publish_factor, 0.5, "and the floor of the level");
    given.plan = Plan::with(&[Step::CutPublishing]);
    assert_eq!(Gates::new(&given).publish_factor, 0.2);
}

#[test]
fn nobody_new_still_means_that_sessions_come_back() {
    let closed = Inputs { accept_new_connections: false, ..inputs(Level::Normal) };
    let gates = Gates::new(&closed);
    assert_eq!(gates.admission, AdmissionFloor::Closed);
    assert_eq!(gates.accepts_per_s, 1_000.0);
    let never = Inputs { accepts_per_s_min: 0.0, ..inputs(Level::Emergency) };
    assert!(Gates::new(&never).accepts_per_s > 0.0);
}

#[test]
fn compression_is_off_in_an_emergency_unless_the_lines_are_full() {
    let at = |level, compression| Gates::new(&Inputs { compression, ..inputs(level) }).compression;
    assert_eq!(at(Level::Critical, Compression::Configured), Compression::Configured);
    assert_eq!(at(Level::Emergency, Compression::Configured), Compression::Off);
    assert_eq!(at(Level::Emergency, Compression::On), Compression::On);
}

#[test]
fn open_gates_are_open() {
    let gates = Gates::default();
    assert!(Feature::ALL.iter().all(|f| gates.state(*f) == FeatureState::On));
    assert!(gates.accepts_per_s > 1e12);
    assert!(LEVELS.iter().zip(Level::ALL).all(|(row, level)| row.level == level));
    assert!(size_of::<Gates>() <= 128, "cheap to copy: {}", size_of::<Gates>());
}

#[test]
fn each_emergency_step_is_a_gate() {
    let with =
        |step: Step| Gates::new(&Inputs { plan: Plan::with(&[step]), ..inputs(Level::Normal) });
    let ephemeral = with(Step::StopEphemeral);
    assert_eq!((ephemeral.typing, ephemeral.ephemeral_factor), (None, None));
    assert_eq!((ephemeral.presence, ephemeral.previews), (PresenceScope::Off, false));
    let paced = with(Step::PaceAccepts);
    assert_eq!((paced.admission, paced.accepts_per_s), (AdmissionFloor::ResumesOnly, 10.0));
    let relieved = with(Step::RelieveCpu);
    assert_eq!((relieved.compression, relieved.batching_window_ms), (Compression::Off, 100));
    assert!(with(Step::DropCaches).drop_caches && with(Step::CatchUp).catch_up);
    assert!(with(Step::ShrinkReadBuffers).shrink_read_buffers);
    let shed = with(Step::ShedQueues).shed_queues.map(|s| (s.queues_per_pass, s.bytes_min));
    assert_eq!(shed, Some((50, 32 * 1024)));
    assert_eq!(with(Step::CutPublishing).publish_factor, 0.2);
    for step in [Step::CloseIdle, Step::Page] {
        assert_eq!(with(step), Gates::new(&inputs(Level::Normal)), "{step:?} is no gate");
    }
}

#[test]
fn in_a_storm_history_is_as_one_level_higher() {
    for (at, level) in Level::ALL.into_iter().enumerate() {
        let gates = Gates::new(&Inputs { storm: true, ..inputs(level) });
        let above = Gates::new(&inputs(Level::ALL[(at + 1).min(4)]));
        let history = |g: &Gates| (g.history_rows, g.history_interval_ms);
        assert_eq!(history(&gates), history(&above), "{level:?}");
        let (rows, ms) = history(&above);
        let back =
            Gates { history_rows: rows, history_interval_ms: ms, ..Gates::new(&inputs(level)) };
        assert_eq!(gates, back, "nothing else");
    }
}
