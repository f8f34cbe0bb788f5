use super::*;
use crate::measured::{
    CapacityFile, CostModel, EndedBy, Fingerprint, Measured, MemoryModel, Resource,
};
use crate::profile::{Receipts, RoomSizes, UsersAre};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn example() -> Input {
    Input::example().unwrap()
}

/// What was known of the server when the published counts were made: 50,000 frames a second and
/// 100,000 connections. Of what comes in nothing was said.
fn frames_and_connections() -> Node {
    Node::Figures(ServerCapacity { max_msgs_per_second_in: None, ..ServerCapacity::example() })
}

fn with(change: impl FnOnce(&mut WorkloadProfile)) -> Input {
    let mut input = Input { node: frames_and_connections(), ..example() };
    change(&mut input.workload);
    input
}

fn features(workload: &mut WorkloadProfile) {
    workload.typing_per_message = 1.0;
    workload.join_leave = true;
    workload.session_minutes = 30.0;
    workload.receipts = Receipts::Author;
}

#[test]
fn the_worked_example_has_one_answer() {
    let check = |input: &Input, needed, node, zone| {
        let plan = plan(input).unwrap();
        let found = (plan.servers_needed, plan.survive_one_node, plan.survive_one_zone);
        assert_eq!(found, (needed, Some(node), Some(zone)));
        assert_eq!(
            (plan.limiting_factor, plan.fanout_limited),
            (Factor::MessageFanout, Some(needed))
        );
        assert_eq!(plan.servers_to_run, node);
        plan
    };
    let chat = check(&with(|w| w.peak_multiplier = 1.0), 28, 29, 42);
    assert_eq!(chat.connection_limited, Some(15));
    assert_eq!(chat.second_factor, Some(Factor::Connections));
    check(&with(|_| ()), 55, 56, 84);
    let all = check(
        &with(|w| {
            features(w);
            w.peak_multiplier = 1.0;
        }),
        86,
        87,
        129,
    );
    assert!((all.peak.frames_per_s - 2_558_889.0).abs() < 1.0);
    assert!((all.peak.pings_per_s - 40_000.0).abs() < 1e-6);
    check(&with(features), 171, 172, 258);
}

#[test]
fn receipts_come_in_before_they_go_out() {
    // 816,667 receipts a second come in, far more than the 16,667 messages.
    let mut input = with(features);
    input.node = Node::Figures(ServerCapacity::example());
    input.workload.peak_multiplier = 1.0;
    let found = plan(&input).unwrap();
    assert_eq!((found.limiting_factor, found.ingest_limited), (Factor::MessageIngest, Some(142)));
    assert_eq!(found.fanout_limited, Some(86));
}

#[test]
fn users_on_average_grow_with_the_peak() {
    let mean = plan(&with(|w| w.concurrent_users_are = UsersAre::Mean)).unwrap();
    assert_eq!(mean.connection_limited, Some(29));
    let peak = plan(&with(|_| ())).unwrap();
    assert_eq!(peak.connection_limited, Some(15));
}

#[test]
fn the_day_has_fewer_nodes_outside_the_peak() {
    let found = plan(&with(|_| ())).unwrap();
    assert_eq!((found.day.peak_nodes, found.day.off_peak_nodes), (56, 29));
    assert_eq!(found.day.node_hours, 56.0 * 4.0 + 29.0 * 20.0);
    assert!(found.cost.total_fixed_fleet > found.cost.total);
}

#[test]
fn headroom_is_a_share() {
    // 1.5 times the demand: 816,667 * 2 / (50,000 / 1.5)
    let mut input = with(|_| ());
    input.options.headroom = Some(0.5);
    let found = plan(&input).unwrap();
    assert_eq!(found.servers_needed, 49);
    assert!(found.headroom_percent >= 50.0);
}

#[test]
fn some_loads_fit_on_no_number_of_nodes() {
    let mut input = with(|_| ());
    input.options.law = Law { sigma: 0.02, kappa: 4e-4 };
    let Err(PlanError::NoNumber(none)) = plan(&input) else { panic!("a plan") };
    assert_eq!((none.factor, none.best_nodes), (Factor::MessageFanout, 49));
    assert!(none.to_string().starts_with("no number of nodes carries this"), "{none}");
    input.options.law = Law { sigma: 0.001, kappa: 0.0 };
    assert!(plan(&input).unwrap().servers_needed > 55);
}

#[test]
fn nonsense_is_an_error() {
    let check = |change: fn(&mut Input), field: &str| {
        let mut input = example();
        change(&mut input);
        match plan(&input) {
            Err(PlanError::Input(errors)) => {
                assert!(errors.0.iter().any(|e| e.field == field), "{field}: {errors}");
            }
            other => panic!("{field}: {other:?}"),
        }
    };
    check(|i| i.workload.concurrent_users = 0, "concurrent_users");
    check(|i| i.workload.peak_multiplier = f64::NAN, "peak_multiplier");
    check(|i| i.options.headroom = Some(-0.1), "headroom");
    check(|i| i.options.headroom = Some(f64::INFINITY), "headroom");
    check(|i| i.options.zones = 1, "zones");
    check(|i| i.options.law.sigma = 2.0, "usl_sigma");
    check(|i| i.cost_per_hour = -1.0, "cost_per_hour");
    check(|i| i.prices.egress.cost_per_gb = f64::NAN, "egress.cost_per_gb");
    check(|i| i.node = Node::Figures(ServerCapacity::default()), "server");
    let none = ServerCapacity { max_connections: Some(0.0), ..ServerCapacity::example() };
    let mut input = example();
    input.node = Node::Figures(none);
    assert!(plan(&input).unwrap_err().to_string().contains("max_connections: 0 is not allowed"));
}

/// A capacity file with invented figures.
pub(crate) fn capacity_file() -> CapacityFile {
    let figure = |knee: f64, ended_by| Measured {
        knee,
        rated: 0.7 * knee,
        low: 0.95 * knee,
        high: 1.05 * knee,
        ended_by,
        ramp: "R0".into(),
    };
    CapacityFile {
        format: crate::measured::FORMAT,
        fingerprint: Fingerprint {
            version: "0.1.0".into(),
            cpu_model: "a processor".into(),
            cores: 2,
            memory_bytes: 4_000_000_000,
            workers: 2,
            ..Fingerprint::default()
        },
        measured_at: "2026-11-24T12:00:00Z".into(),
        quick: true,
        slo_p99_ms: 100.0,
        resources: BTreeMap::from([
            (Resource::Connections, figure(50_000.0, EndedBy::EndOfRamp)),
            (Resource::ConnectsPerS, figure(4_000.0, EndedBy::Cpu)),
            (Resource::DeliveriesPerS, figure(300_000.0, EndedBy::Cpu)),
            (Resource::EgressBytesPerS, figure(100e6, EndedBy::Cpu)),
            (Resource::RecoveriesPerS, figure(6_000.0, EndedBy::Latency)),
        ]),
        memory: Some(MemoryModel {
            base_bytes: 50e6,
            per_connection_bytes: 6_000.0,
            per_connection_kernel_bytes: 4_000.0,
            per_subscription_bytes: 300.0,
        }),
        cost: Some(CostModel {
            base_us_per_s: 1_000.0,
            connection_us_per_s: 0.5,
            connect_us: 150.0,
            publish_us: 10.0,
            delivery_us: 3.0,
            byte_us: 0.001,
            recovery_us: 20.0,
            saving: 0.0,
            r_squared: 0.99,
            worst_residual_ratio: 0.1,
        }),
        scaling: None,
        mixed: None,
        overload: Vec::new(),
        not_measured: Vec::new(),
        steps: Vec::new(),
    }
}

#[test]
fn measured_figures_are_used_as_rated() {
    let mut input = with(|w| w.session_minutes = 30.0);
    input.node = Node::Measured(Box::new(capacity_file()));
    let found = plan(&input).unwrap();
    let row = |factor| found.resources.iter().find(|r| r.factor == factor).unwrap();
    // 1 M / (0.7 * 50,000)
    assert_eq!(row(Factor::Connections).nodes, 29);
    assert!((row(Factor::Connections).target_utilisation - 0.7).abs() < 1e-12);
    // 1 M * 10 kB + 1 M * 300 B, of 0.8 * 0.7 * 4 GB - 50 MB
    assert_eq!(row(Factor::Memory).nodes, 5);
    // 0.5 s + 1,111 * (150 + 2 * 20) us + 33,333 * 10 us + 1.63 M * 3 us + 482 MB * 0.001 us,
    // of 0.8 * 0.7 * 2 s - 1 ms
    assert_eq!(row(Factor::Cpu).nodes, 6);
    assert_eq!(found.ingest_limited, None);
    // Recovering two rooms is slower than connecting.
    let bound = found.reconnect.as_ref().unwrap();
    assert!((bound.clients_per_node_per_s - 2_100.0).abs() < 1e-6, "{bound:?}");
    let warned = |part: &str| found.warnings.iter().any(|w| w.contains(part));
    assert!(warned("message ingest") && warned("quick form") && warned("not measured to the end"));
    let mut broken = capacity_file();
    broken.resources.get_mut(&Resource::Connections).unwrap().knee = 0.0;
    input.node = Node::Measured(Box::new(broken));
    assert!(matches!(plan(&input), Err(PlanError::Input(_))));
}

fn receipts() -> impl Strategy<Value = Receipts> {
    use Receipts::{Author, Broadcast, Off, Watermark};
    prop_oneof![Just(Off), Just(Broadcast), Just(Author), Just(Watermark)]
}

fn sizes() -> impl Strategy<Value = RoomSizes> {
    prop_oneof![
        Just(RoomSizes::Equal),
        Just(RoomSizes::Exponential),
        (1.5..4.0_f64).prop_map(RoomSizes::PowerLaw)
    ]
}

prop_compose! {
    fn workloads()(
        concurrent_users in 100..5_000_000_u64,
        rooms in 1.0..20.0_f64,
        room in 1.0..100.0_f64,
        messages in 0.0..60.0_f64,
        bytes in 0.0..5_000.0_f64,
        peak_multiplier in 1.0..5.0_f64,
        hours in 0.0..24.0_f64,
        (mean, join_leave, tls, own) in any::<(bool, bool, bool, bool)>(),
        room_sizes in sizes(),
        receipts in receipts(),
        typing in 0.0..3.0_f64,
        session in prop_oneof![Just(0.0), 1.0..600.0_f64],
        ping in prop_oneof![Just(0.0), 5.0..120.0_f64],
        batch in 1.0..20.0_f64,
    ) -> WorkloadProfile {
        WorkloadProfile {
            concurrent_users,
            avg_rooms_per_user: rooms,
            avg_users_per_room: room,
            msgs_per_user_per_minute: messages,
            avg_message_bytes: bytes,
            peak_multiplier,
            daily_peak_duration_hours: hours,
            concurrent_users_are: if mean { UsersAre::Mean } else { UsersAre::Peak },
            room_sizes,
            typing_per_message: typing,
            receipts,
            join_leave,
            session_minutes: session,
            ping_interval_seconds: ping,
            deliveries_per_frame: batch,
            author_sees_own: own,
            tls,
            monthly_users_per_concurrent: 20.0,
        }
    }
}

fn nodes() -> impl Strategy<Value = Node> {
    prop_oneof![
        Just(Node::Figures(ServerCapacity::example())),
        Just(Node::Measured(Box::new(capacity_file()))),
    ]
}

prop_compose! {
    fn inputs()(
        workload in workloads(),
        node in nodes(),
        headroom in prop::option::of(0.0..2.0_f64),
        survive in prop_oneof![Just(Survive::Nothing), Just(Survive::Node), Just(Survive::Zone)],
        zones in 2..5_u64,
    ) -> Input {
        let options = Options { survive, zones, headroom, law: Law::LINEAR };
        Input { workload, node, options, ..example() }
    }
}

/// Nodes of a plan; more than any for a load that no number carries.
fn nodes_of(input: &Input) -> (u64, u64) {
    match plan(input) {
        Ok(plan) => (plan.servers_needed, plan.servers_to_run),
        Err(PlanError::NoNumber(_)) => (u64::MAX, u64::MAX),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #[test]
    fn more_load_never_needs_fewer_nodes(input in inputs(), by in 1.0..4.0_f64) {
        let base = nodes_of(&input);
        let more = |change: &dyn Fn(&mut WorkloadProfile)| {
            let mut changed = input.clone();
            change(&mut changed.workload);
            nodes_of(&changed)
        };
        let all = [
            more(&|w| w.concurrent_users = (w.concurrent_users as f64 * by) as u64),
            more(&|w| w.avg_rooms_per_user *= by),
            more(&|w| w.msgs_per_user_per_minute *= by),
            more(&|w| w.avg_message_bytes *= by),
            more(&|w| w.peak_multiplier *= by),
            more(&|w| w.typing_per_message *= by),
            more(&|w| w.session_minutes /= by),
            more(&|w| w.author_sees_own = true),
        ];
        for found in all {
            prop_assert!(found.0 >= base.0 && found.1 >= base.1, "{found:?} {base:?}");
        }
        if !matches!(input.workload.room_sizes, RoomSizes::PowerLaw(_)) {
            let users = input.workload.concurrent_users as f64;
            let found = more(&|w| w.avg_users_per_room = (w.avg_users_per_room * by).min(users));
            prop_assert!(found.0 >= base.0 && found.1 >= base.1, "{found:?} {base:?}");
        }
    }

    #[test]
    fn a_plan_carries_its_load(input in inputs()) {
        let Ok(plan) = plan(&input) else { return Ok(()) };
        prop_assert!(plan.headroom_percent >= 0.0);
        prop_assert!(plan.servers_to_run >= plan.servers_needed);
        prop_assert!(plan.day.off_peak_nodes <= plan.day.peak_nodes);
        prop_assert!(plan.survive_one_node.is_none_or(|n| n > plan.servers_needed));
        if let Some(zones) = plan.survive_one_zone {
            prop_assert!(zones % plan.zones == 0);
            prop_assert!(zones / plan.zones * (plan.zones - 1) >= plan.servers_needed);
        }
        for row in &plan.resources {
            let carried = row.nodes as f64 * row.usable_per_node;
            prop_assert!(carried * (1.0 + 1e-6) >= row.demand, "{row:?}");
            prop_assert!(row.nodes <= plan.servers_needed && row.utilisation <= 1.0 + 1e-6);
            if plan.survive == Survive::Node {
                prop_assert!(row.utilisation_node_lost.unwrap() <= 0.85 + 1e-6, "{row:?}");
            }
        }
        let first = plan.resources.first().unwrap();
        prop_assert!(first.nodes == plan.servers_needed || plan.servers_needed == 1);
    }

    #[test]
    fn a_plan_survives_json(input in inputs()) {
        let Ok(mut plan) = plan(&input) else { return Ok(()) };
        plan.sensitivity = sensitivity::sensitivity(&input, &plan);
        // A figure that is no number would become null, and be refused here.
        let text = plan.to_json().unwrap();
        let read = Plan::from_json(&text).unwrap();
        prop_assert_eq!(read.to_json().unwrap(), text);
        prop_assert_eq!(read.servers_to_run, plan.servers_to_run);
    }

    #[test]
    fn any_number_is_an_answer_or_an_error(
        users in any::<u64>(), a in any::<f64>(), b in any::<f64>(), c in any::<f64>(),
        d in any::<f64>(), e in any::<f64>(), f in any::<f64>(),
    ) {
        let mut input = example();
        let w = &mut input.workload;
        w.concurrent_users = users;
        [w.avg_rooms_per_user, w.avg_users_per_room, w.msgs_per_user_per_minute] = [a, b, c];
        [w.avg_message_bytes, w.peak_multiplier, w.session_minutes] = [d, e, f];
        if let Ok(found) = plan(&input) {
            prop_assert!(Plan::from_json(&found.to_json().unwrap()).is_ok());
        }
    }

    #[test]
    fn extreme_input_in_range_is_an_answer_or_an_error(
        users in 1..=crate::profile::USERS_MAX, rooms in -3.0..5.0_f64, room in 0.0..10.0_f64,
        messages in -6.0..4.7_f64, out in -3.0..12.0_f64, sizes in sizes(),
        session in -2.0..5.0_f64,
    ) {
        let mut input = example();
        let w = &mut input.workload;
        w.concurrent_users = users;
        w.avg_rooms_per_user = 10_f64.powf(rooms);
        w.avg_users_per_room = 10_f64.powf(room).clamp(1.0, (users as f64).max(1.0));
        w.msgs_per_user_per_minute = 10_f64.powf(messages);
        w.session_minutes = 10_f64.powf(session);
        w.room_sizes = sizes;
        w.join_leave = true;
        w.receipts = Receipts::Broadcast;
        let mut server = ServerCapacity::example();
        server.max_msgs_per_second_out = Some(10_f64.powf(out));
        server.max_connects_per_second = Some(10_f64.powf(out));
        input.node = Node::Figures(server);
        if let Ok(found) = plan(&input) {
            prop_assert!(Plan::from_json(&found.to_json().unwrap()).is_ok());
            prop_assert!(found.headroom_percent >= 0.0);
        }
    }
}
