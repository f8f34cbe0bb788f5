//! Sentences and rows that the table and the page share.

use super::number::{count, grouped, money, percent, scaled, short};
use crate::plan::{Plan, Survive};
use crate::sensitivity::{Answer, Row};

/// The answer in one line.
pub fn headline(plan: &Plan) -> String {
    format!("Run {}.", count(plan.servers_to_run, "node"))
}

/// What the answer is made of.
pub fn because(plan: &Plan) -> String {
    let needed = plan.servers_needed;
    let carry = format!(
        "{} carr{} the peak",
        grouped(needed as f64),
        if needed == 1 { "ies" } else { "y" }
    );
    let more = plan.servers_to_run - needed.min(plan.servers_to_run);
    let why = match plan.survive {
        Survive::Nothing => "so that clients are back in time",
        Survive::Node if plan.raised_for_reconnects => {
            "so that one node may be lost and its clients are back in time"
        }
        Survive::Node => "so that one node may be lost",
        Survive::Zone if plan.raised_for_reconnects => {
            "so that one zone may be lost and its clients are back in time"
        }
        Survive::Zone => "so that one zone may be lost",
    };
    if more == 0 {
        format!("{carry}, and none may be lost.")
    } else {
        format!("{carry}, {} more {why}.", grouped(more as f64))
    }
}

/// What limits.
pub fn limited_by(plan: &Plan) -> String {
    let first = plan.limiting_factor.label();
    match plan.second_factor {
        Some(second) => format!("{first}, then {}", second.label()),
        None => first.to_owned(),
    }
}

/// The real headroom.
pub fn headroom(plan: &Plan) -> String {
    // A load of nearly nothing leaves a headroom nobody needs to know.
    if plan.headroom_percent > 100_000.0 {
        return "more than a thousandfold".to_owned();
    }
    let room = percent(plan.headroom_percent / 100.0);
    format!("{room} more load until the first resource ({}) is full", plan.headroom_factor.label())
}

/// Resources: name, demand, what a node has, share used, nodes, in use, in use with one lost.
pub const RESOURCE_HEAD: [&str; 7] =
    ["resource", "demand at peak", "one node has", "used to", "nodes", "in use", "one node lost"];

/// Rows under [`RESOURCE_HEAD`].
pub fn resources(plan: &Plan) -> Vec<Vec<String>> {
    let row = |r: &crate::plan::ResourceRow| {
        vec![
            r.factor.label().to_owned(),
            format!("{} {}", scaled(r.demand), r.unit),
            scaled(r.capacity_per_node),
            percent(r.target_utilisation),
            grouped(r.nodes as f64),
            percent(r.utilisation),
            r.utilisation_node_lost.map_or("-".to_owned(), percent),
        ]
    };
    plan.resources.iter().map(row).collect()
}

/// What goes out each second: name, at peak, in other hours.
pub const LOAD_HEAD: [&str; 3] = ["each second", "at peak", "other hours"];

/// Rows under [`LOAD_HEAD`]; features that are off have none.
pub fn load(plan: &Plan) -> Vec<Vec<String>> {
    let (peak, off) = (&plan.peak, &plan.off_peak);
    let all = [
        ("messages in", peak.messages_in_per_s, off.messages_in_per_s),
        ("typing in", peak.typing_in_per_s, off.typing_in_per_s),
        ("receipts in", peak.receipts_in_per_s, off.receipts_in_per_s),
        ("new connections", peak.connects_per_s, off.connects_per_s),
        ("message deliveries", peak.message_deliveries_per_s, off.message_deliveries_per_s),
        ("typing deliveries", peak.typing_deliveries_per_s, off.typing_deliveries_per_s),
        ("joins and leaves", peak.join_leave_deliveries_per_s, off.join_leave_deliveries_per_s),
        ("receipt deliveries", peak.receipt_deliveries_per_s, off.receipt_deliveries_per_s),
        ("frames written", peak.frames_per_s, off.frames_per_s),
        ("pings (not in frames)", peak.pings_per_s, off.pings_per_s),
        ("Mbit on the wire", peak.wire_bytes_per_s * 8e-6, off.wire_bytes_per_s * 8e-6),
    ];
    let some = all.into_iter().filter(|(_, peak, _)| *peak > 0.0);
    some.map(|(name, peak, off)| vec![name.to_owned(), scaled(peak), scaled(off)]).collect()
}

/// What stands around: name, value.
pub fn around(plan: &Plan) -> Vec<Vec<String>> {
    let nodes = |n: Option<u64>| n.map_or("no number".to_owned(), |n| count(n, "node"));
    let mut rows = vec![
        ("carry the peak".to_owned(), count(plan.servers_needed, "node")),
        ("survive one node".to_owned(), nodes(plan.survive_one_node)),
        (format!("survive 1 of {} zones", plan.zones), nodes(plan.survive_one_zone)),
    ];
    if let Some(bound) = &plan.reconnect {
        let back = |s: Option<f64>| match s {
            None => "nothing is left".to_owned(),
            Some(s) if s < 1.0 => "within 1 s".to_owned(),
            Some(s) => format!("within {} s", short(s)),
        };
        rows.push(("back after a node is lost".into(), back(bound.node_lost_s)));
        rows.push(("back after a zone is lost".into(), back(bound.zone_lost_s)));
    }
    if let Some(broker) = &plan.broker {
        let says = format!(
            "{}, {}/s in, {}/s out",
            count(broker.nodes, "node"),
            scaled(broker.publishes_per_s),
            scaled(broker.deliveries_per_s)
        );
        rows.push(("broker".into(), says));
    }
    let day = &plan.day;
    rows.push((
        "a day".into(),
        format!(
            "{} for {} h, {} for {} h: {} node-hours",
            count(day.peak_nodes, "node"),
            short(day.peak_hours),
            grouped(day.off_peak_nodes as f64),
            short(24.0 - day.peak_hours),
            grouped(day.node_hours)
        ),
    ));
    rows.into_iter().map(|(name, value)| vec![name, value]).collect()
}

/// A month's money: name, value, share.
pub fn cost(plan: &Plan) -> Vec<Vec<String>> {
    let cost = &plan.cost;
    let part = |name: &str, value: f64| {
        let share = if cost.total > 0.0 { value / cost.total } else { 0.0 };
        vec![name.to_owned(), money(value, &cost.currency), percent(share)]
    };
    vec![
        part("nodes", cost.nodes),
        part("broker", cost.broker),
        part("load balancers", cost.load_balancer),
        part("egress", cost.egress),
        part("monitoring", cost.monitoring),
        part("a month", cost.total),
    ]
}

/// What one of something costs: name, value.
pub fn unit_costs(plan: &Plan) -> Vec<Vec<String>> {
    let cost = &plan.cost;
    let price = |value| money(value, &cost.currency);
    let million = cost.per_million_deliveries.map_or("-".to_owned(), price);
    let all = [
        ("a connection, for a month", price(cost.per_connection)),
        ("a million deliveries", million),
        ("a monthly active user", price(cost.per_monthly_user)),
        ("a month, if the peak's nodes run all day", price(cost.total_fixed_fleet)),
    ];
    all.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

/// Sensitivity: name, halved, as planned, doubled.
pub const SENSITIVITY_HEAD: [&str; 4] = ["input", "half of it", "as planned", "twice of it"];

/// Rows under [`SENSITIVITY_HEAD`].
pub fn sensitivity(plan: &Plan) -> Vec<Vec<String>> {
    let currency = &plan.cost.currency;
    let says = |answer: &Option<Answer>| match answer {
        None => "out of range".to_owned(),
        Some(Answer { nodes: Some(nodes), monthly_cost: Some(cost), .. }) => {
            format!("{}, {}", count(*nodes, "node"), money(*cost, currency))
        }
        Some(_) => "no number of nodes".to_owned(),
    };
    let row = |r: &Row| vec![r.input.clone(), says(&r.halved), short(r.value), says(&r.doubled)];
    plan.sensitivity.iter().map(row).collect()
}
