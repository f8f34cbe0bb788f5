//! The promises of the load line, over seeded traces of the whole controller: 11,000 of them.
//!
//! A failing trace names its seed; the generator below is all its randomness.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use plimsoll_overload::actions::{Action, Compression, PresenceScope, Strengths};
use plimsoll_overload::controller::{Config, Controller, Outcome};
use plimsoll_overload::emergency::{Plan, Step};
use plimsoll_overload::feature::{Class, Feature};
use plimsoll_overload::gates::{ClassGate, Gates, Inputs, Levels};
use plimsoll_overload::level::{Level, Machine, Reading, Thresholds};
use plimsoll_overload::signals::{BackboneState, Rated, Resource, Signals};

const STEP_MS: u64 = 250;
const TEN_MINUTES: u64 = 2_400;
const ONE_MINUTE: u64 = 240;
const CONNECTIONS: f64 = 10_000.0;

/// xorshift64*: the generator of these tests.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, share: f64) -> bool {
        self.between(0.0, 1.0) < share
    }
}

fn rated() -> Rated {
    Rated {
        handshakes_in_flight: Some(100.0),
        egress_bytes_per_s: Some(1e8),
        connections: Some(CONNECTIONS),
        ..Rated::default()
    }
}

fn controller(seed: u64) -> Controller {
    let config = Config { rated: rated(), ..Config::default() };
    Controller::new(config, seed).expect("valid")
}

/// The signals that make these pressures, in the order of `Resource`.
fn signals(p: &[f64; 9]) -> Signals {
    Signals {
        cpu_use_ratio: Some(p[0] * 0.9),
        loop_lag_p99_ms: Some(p[1] * 20.0),
        memory_used_bytes: Some(p[2] * 0.9 * 1e9),
        memory_limit_bytes: Some(1e9),
        outbound_queued_bytes: Some(p[3] * 2e8),
        outbound_budget_bytes: Some(2e8),
        descriptors_used: Some(p[4] * 99_000.0),
        descriptors_limit: Some(100_000.0),
        handshakes_in_flight: Some(p[5] * 100.0),
        egress_bytes_per_s: Some(p[6] * 1e8),
        backbone_latency_p99_ms: Some(p[7] * 100.0),
        backbone_state: Some(BackboneState::Up),
        connections: Some(p[8] * CONNECTIONS),
        ..Signals::default()
    }
}

struct Run {
    controller: Controller,
    now_ms: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self { controller: controller(seed), now_ms: 0 }
    }

    fn step(&mut self, signals: &Signals) -> &Outcome {
        self.now_ms += STEP_MS;
        self.controller.sample(self.now_ms, signals)
    }
}

// --- the score follows what is saturated -----------------------------------------------------

#[test]
fn the_score_follows_the_saturated_resource() {
    use Resource::{Connections, Cpu, Memory, Outbound};
    let table: [(&[Resource], f64); 7] = [
        (&[Cpu], 0.4),
        (&[Memory], 0.4),
        (&[Connections], 0.4),
        (&[Outbound], 0.4),
        (&[Cpu, Memory], 0.5),
        (&[Connections, Outbound], 0.5),
        (&[], 0.4),
    ];
    for (saturated, rest) in table {
        let mut pressures = [rest; 9];
        saturated.iter().for_each(|r| pressures[*r as usize] = 1.0);
        let mut run = Run::new(1);
        (0..ONE_MINUTE).for_each(|_| _ = run.step(&signals(&pressures)));
        let outcome = run.controller.outcome();
        let expect = if saturated.is_empty() { rest } else { 1.0 };
        assert!((outcome.score - expect).abs() < 1e-6, "{saturated:?}: {}", outcome.score);
        let level = if saturated.is_empty() { Level::Normal } else { Level::Critical };
        assert!(outcome.level >= level && (outcome.level > Level::Normal) == (expect == 1.0));
        assert!(saturated.is_empty() || saturated.contains(&outcome.hot_resource.expect("hot")));
    }
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let mut pressures = [0.0; 9].map(|_| random.between(0.0, 0.6));
        let hot = Resource::ALL[random.below(9) as usize];
        let full = random.between(0.75, 1.3);
        pressures[hot as usize] = full;
        let mut run = Run::new(seed);
        (0..ONE_MINUTE).for_each(|_| _ = run.step(&signals(&pressures)));
        let outcome = run.controller.outcome();
        // These two count as Degraded at most.
        let capped = matches!(hot, Resource::Backbone | Resource::Accept);
        let expect = if capped { full.min(0.94) } else { full };
        assert!((outcome.score - expect).abs() < 1e-6, "seed {seed}, {hot:?}: {}", outcome.score);
        assert_eq!(outcome.hot_resource, Some(hot), "seed {seed}");
    }
}

// --- no flapping -------------------------------------------------------------------------------

/// A load held at `at`, varying by ± 0.02 in one of four ways.
fn held(random: &mut Random, shape: u64, n: u64, at: f64) -> f64 {
    at + match shape {
        0 => random.between(-0.02, 0.02),
        1 => 0.02 * if n.is_multiple_of(2) { 1.0 } else { -1.0 },
        2 => 0.02 * (n as f64 / 40.0).sin(),
        _ => 0.02 * if (n / 60).is_multiple_of(2) { 1.0 } else { -1.0 },
    }
}

fn thresholds() -> impl Iterator<Item = f64> {
    let all = Thresholds::default();
    all.enter.into_iter().chain(all.exit)
}

#[test]
fn a_held_load_changes_the_level_six_times_in_ten_minutes_at_most() {
    // The machine alone: no average takes the edge off. From calm, and from an Emergency.
    let mut most = 0;
    for seed in 0..250_u64 {
        for at in thresholds() {
            let mut random = Random::new(seed);
            let mut machine = Machine::new(Thresholds::default(), seed);
            let start = if seed.is_multiple_of(2) { 0.3 } else { 1.2 };
            let mut changes = 0;
            for n in 0..TEN_MINUTES + 8 {
                let score = if n < 8 { start } else { held(&mut random, seed / 2 % 4, n, at) };
                let before = machine.level();
                let reading = Reading { score, demand: score, urgent: false };
                let after = machine.sample((n + 1) * STEP_MS, reading);
                changes += u32::from(n >= 8 && before != after);
            }
            assert!(changes <= 6, "seed {seed} at {at}: {changes} changes");
            most = most.max(changes);
        }
    }
    assert!(most >= 3, "these traces change levels at all: {most}");
}

#[test]
fn a_held_load_of_any_resource_does_not_flap() {
    for seed in 0..100_u64 {
        let mut random = Random::new(seed);
        let at = thresholds().nth(random.below(8) as usize).expect("eight");
        let hot = random.below(9) as usize;
        let mut run = Run::new(seed);
        for n in 0..TEN_MINUTES {
            let mut pressures = [0.3; 9];
            pressures[hot] = held(&mut random, seed % 4, n, at);
            run.step(&signals(&pressures));
        }
        let changes = run.controller.outcome().transitions_total;
        assert!(changes <= 6, "seed {seed}, {hot} at {at}: {changes} changes");
    }
}

/// A node whose CPU does what the gates let through of what is offered.
struct Plant {
    durable: f64,
    ephemeral: f64,
    state: f64,
    history: f64,
    /// Publication limits bind (many writers at their limit), or do not.
    limits_bind: bool,
}

impl Plant {
    fn new(random: &mut Random) -> Self {
        let offered = random.between(0.6, 2.0);
        let parts = [0.0; 4].map(|_| random.between(0.05, 1.0));
        let sum: f64 = parts.iter().sum::<f64>() + 1.0;
        let [ephemeral, state, history, _] = parts.map(|part| offered * part / sum);
        let durable = offered - ephemeral - state - history;
        Self { durable, ephemeral, state, history, limits_bind: random.chance(0.5) }
    }

    fn offered(&self) -> f64 {
        self.durable + self.ephemeral + self.state + self.history
    }

    fn served(&self, gates: &Gates) -> f64 {
        let durable = if self.limits_bind { f64::from(gates.publish_factor) } else { 1.0 };
        let ephemeral = gates.ephemeral_factor.map_or(0.0, |factor| 1.0 / f64::from(factor));
        let state = match gates.presence {
            PresenceScope::Full => 1.0,
            PresenceScope::Batched => 0.5,
            PresenceScope::Counts => 0.1,
            PresenceScope::Off => 0.0,
        };
        let history = f64::from(gates.history_rows) / 300.0;
        self.durable * durable
            + self.ephemeral * ephemeral
            + self.state * state
            + self.history * history
    }
}

#[test]
fn shedding_does_not_make_the_level_swing() {
    for seed in 0..200_u64 {
        let mut random = Random::new(seed);
        let plant = Plant::new(&mut random);
        let mut run = Run::new(seed);
        for _ in 0..TEN_MINUTES {
            let served = plant.served(&run.controller.outcome().gates);
            let mut pressures = [0.3; 9];
            pressures[0] = (served + random.between(-0.02, 0.02)).min(1.11);
            let shed_ratio = Some(1.0 - served / plant.offered());
            run.step(&Signals { shed_ratio, ..signals(&pressures) });
        }
        let changes = run.controller.outcome().transitions_total;
        assert!(changes <= 6, "seed {seed}, offered {}: {changes}", plant.offered());
        for _ in 0..ONE_MINUTE {
            run.step(&Signals { shed_ratio: Some(0.0), ..signals(&[0.3; 9]) });
        }
        let level = run.controller.outcome().level;
        assert_eq!(level, Level::Normal, "seed {seed}, offered {}", plant.offered());
    }
}

// --- and back ----------------------------------------------------------------------------------

/// One step of a load that jumps, climbs and falls.
fn wander(random: &mut Random, pressures: &mut [f64; 9], top: f64) {
    for p in pressures.iter_mut() {
        if random.chance(0.02) {
            *p = random.between(0.0, top);
        } else {
            *p = (*p + random.between(-0.05, 0.05)).clamp(0.0, top);
        }
    }
}

fn events(random: &mut Random, signals: &mut Signals) {
    let mut event = || Some(f64::from(u8::from(random.chance(0.005))));
    signals.memory_high_events = event();
    signals.memory_max_events = event();
    signals.memory_oom_events = event();
    signals.memory_stall_percent = Some(random.between(0.0, 20.0));
    signals.throttled_ratio = Some(random.between(0.0, 0.3));
    signals.shed_ratio = Some(random.between(0.0, 1.0));
    let states = [BackboneState::Up, BackboneState::Probing, BackboneState::Down];
    signals.backbone_state = Some(states[random.below(3) as usize]);
}

#[test]
fn back_to_normal_within_a_minute() {
    let mut from = [0_u32; 5];
    for seed in 0..3_000_u64 {
        let mut random = Random::new(seed);
        let mut run = Run::new(seed);
        let mut pressures = [0.5; 9];
        let top = [0.8, 0.9, 1.0, 3.0][random.below(4) as usize];
        for _ in 0..4 + random.below(100) {
            wander(&mut random, &mut pressures, top);
            let mut loaded = signals(&pressures);
            if top > 1.0 {
                events(&mut random, &mut loaded);
            }
            run.step(&loaded);
        }
        from[run.controller.outcome().level as usize] += 1;
        let calm = pressures.map(|_| random.between(0.0, 0.6));
        let mut back_after_ms = None;
        for n in 1..=ONE_MINUTE {
            let outcome = run.step(&Signals { shed_ratio: Some(0.0), ..signals(&calm) });
            if outcome.level == Level::Normal && outcome.gates.work_level == Level::Normal {
                back_after_ms = back_after_ms.or(Some(n * STEP_MS));
            } else {
                assert_eq!(back_after_ms, None, "seed {seed}: it came back");
            }
        }
        assert!(back_after_ms.is_some(), "seed {seed}: {:?}", run.controller.outcome());
    }
    assert!(from.iter().skip(1).all(|n| *n > 100), "levels at the end of the load: {from:?}");
}

// --- what never happens ------------------------------------------------------------------------

fn never(seed: u64, before: Level, outcome: &Outcome) {
    let gates = &outcome.gates;
    assert!(gates.allows(Some(Feature::Recovery)), "seed {seed}: recovery is off");
    assert!(gates.allows(None) && gates.allows(Feature::parse("chat")), "seed {seed}");
    assert_eq!(gates.class(Class::Durable), ClassGate::Pass);
    assert_eq!(gates.class(Class::Control), ClassGate::Pass);
    assert!(gates.accepts_per_s >= Config::default().accepts_per_s_min, "seed {seed}");
    assert!((0.2..=1.0).contains(&gates.publish_factor), "seed {seed}");
    assert!(gates.work_level <= outcome.level, "seed {seed}");
    assert!(outcome.level as u8 + 1 >= before as u8, "seed {seed}: two steps down at once");
    for (_, strength) in outcome.strengths.iter() {
        assert!((0.0..=1.0).contains(&strength), "seed {seed}");
    }
    let closing = [Resource::Memory, Resource::Descriptors, Resource::Connections];
    let p = outcome.pressures.highest(&closing).map_or(0.0, |(_, p)| p);
    if p < 0.85 {
        assert_eq!(
            gates.idle_timeout_ms(300_000),
            300_000,
            "seed {seed}: closed for another's sake"
        );
    }
    assert!(p >= 1.0 || !outcome.plan.close_idle, "seed {seed}");
}

#[test]
fn whatever_the_load_the_core_stays() {
    for seed in 0..2_000_u64 {
        let mut random = Random::new(seed);
        let mut run = Run::new(seed);
        let mut pressures = [0.5; 9];
        for _ in 0..200 {
            wander(&mut random, &mut pressures, 3.0);
            pressures[8] = pressures[8].min(1.0);
            let mut loaded = signals(&pressures);
            events(&mut random, &mut loaded);
            let before = run.controller.outcome().level;
            never(seed, before, run.step(&loaded));
        }
    }
}

#[test]
fn nonsense_changes_nothing_for_the_worse() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300, 1e-300, 0.5];
    for seed in 0..700_u64 {
        let mut random = Random::new(seed);
        let mut controller = controller(seed);
        for _ in 0..60 {
            let mut any = || random.chance(0.7).then(|| odd[random.below(8) as usize]);
            let given = Signals {
                cpu_use_ratio: any(),
                throttled_ratio: any(),
                cpu_stall_percent: any(),
                loop_lag_p99_ms: any(),
                memory_used_bytes: any(),
                memory_limit_bytes: any(),
                memory_high_events: any(),
                memory_max_events: any(),
                memory_oom_events: any(),
                memory_stall_percent: any(),
                outbound_queued_bytes: any(),
                outbound_budget_bytes: any(),
                oldest_frame_age_p99_ms: any(),
                descriptors_used: any(),
                descriptors_limit: any(),
                handshakes_in_flight: any(),
                handshakes_parked: any(),
                egress_bytes_per_s: any(),
                backbone_latency_p99_ms: any(),
                backbone_state: None,
                connections: any(),
                shed_ratio: any(),
                connects_total: None,
                connects_back_total: None,
            };
            // A clock that jumps, also backwards.
            let now_ms = random.below(1_000_000);
            let before = controller.outcome().level;
            let outcome = controller.sample(now_ms, &given);
            assert!(outcome.score.is_finite() && outcome.shed_ratio.is_finite(), "seed {seed}");
            never(seed, before, outcome);
        }
    }
}

// --- a higher level never allows more ----------------------------------------------------------

fn gates(level: Level, strengths: Strengths, accept_new_connections: bool, cut: bool) -> Gates {
    Gates::new(&Inputs {
        levels: Levels::all(level),
        strengths,
        compression: Compression::Configured,
        accepts_per_s: 500.0,
        accepts_per_s_min: 5.0,
        accept_new_connections,
        plan: if cut { Plan::with(&[Step::CutPublishing]) } else { Plan::default() },
        storm: false,
    })
}

/// Whether `b` allows nothing that `a` does not.
fn no_looser(a: &Gates, b: &Gates) -> bool {
    let typing = match (a.typing, b.typing) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(a), Some(b)) => a.interval_ms <= b.interval_ms && a.members_max >= b.members_max,
    };
    let factor = |f: Option<f32>| f.unwrap_or(f32::INFINITY);
    let shed =
        |g: &Gates| g.shed_queues.map_or((0, u32::MAX), |s| (s.queues_per_pass, s.bytes_min));
    Feature::ALL.iter().all(|f| a.state(*f) <= b.state(*f))
        && typing
        && factor(a.ephemeral_factor) <= factor(b.ephemeral_factor)
        && a.publish_factor >= b.publish_factor
        && a.recovery_paced <= b.recovery_paced
        && a.history_rows >= b.history_rows
        && a.history_interval_ms <= b.history_interval_ms
        && a.presence <= b.presence
        && a.presence_interval_ms <= b.presence_interval_ms
        && a.receipts <= b.receipts
        && a.admission <= b.admission
        && a.accepts_per_s >= b.accepts_per_s
        && a.idle_timeout_ms(600_000) >= b.idle_timeout_ms(600_000)
        && a.batching_window_ms <= b.batching_window_ms
        && shed(a).0 <= shed(b).0
        && shed(a).1 >= shed(b).1
}

#[test]
fn a_higher_level_never_allows_more() {
    for seed in 0..1_000_u64 {
        let mut random = Random::new(seed);
        let (mut low, mut high) = (Strengths::default(), Strengths::default());
        for action in Action::ALL {
            let one = random.between(-0.3, 1.3);
            low.set(action, one);
            high.set(action, one + random.between(0.0, 0.5));
        }
        let (accept, cut) = (random.chance(0.5), random.chance(0.2));
        let all = Level::ALL.map(|level| gates(level, low, accept, cut));
        for (a, b) in all.iter().zip(&all[1..]) {
            assert!(no_looser(a, b), "seed {seed}: {:?} allows more than {:?}", b, a);
        }
        for level in Level::ALL {
            let (a, b) = (gates(level, low, accept, cut), gates(level, high, accept, cut));
            assert!(no_looser(&a, &b), "seed {seed}: {b:?} allows more than {a:?}");
            assert!(no_looser(&a, &gates(level, low, false, true)), "seed {seed}: overrides");
        }
    }
}
