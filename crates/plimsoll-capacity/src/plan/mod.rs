//! From a workload and a node to one answer.
//!
//! 1. [`rooms`] and [`load`]: what the workload asks for each second, at peak and else;
//! 2. [`limits`]: what one node has of each resource, and the share of it that is used;
//! 3. [`scaling`] and [`counts`]: how many nodes that makes, and with some of them lost;
//! 4. [`broker`] and [`cost`]: what stands around the nodes, a day, a month's money;
//! 5. [`assumptions`]: everything the answer stands on, in words.

pub mod assumptions;
pub mod broker;
pub mod cost;
pub mod counts;
pub mod draft;
pub mod json;
pub mod limits;
pub mod load;
pub mod rooms;
pub mod scaling;

use crate::prices::Prices;
use crate::profile::{InputErrors, PRICE_MAX, ServerCapacity, WorkloadProfile};
use crate::sensitivity;
use assumptions::Assumption;
use broker::Broker;
use cost::{Bill, Cost, Day};
use counts::{Counting, Counts, Hours, RECONNECT_TARGET_S, Reconnect};
use limits::{Factor, Limit, Node, NotPlanned};
use load::{Load, Wire};
use scaling::Law;
use serde::{Deserialize, Serialize};

/// Version of a plan's JSON form.
pub const FORMAT: u32 = 1;
/// Most headroom: a node used to a hundredth is a mistake.
const HEADROOM_MAX: f64 = 100.0;
/// Most zones.
const ZONES_MAX: u64 = 100;

/// What may be lost without anybody noticing more than a reconnect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Survive {
    /// Nothing.
    Nothing,
    /// One node.
    #[default]
    Node,
    /// One zone.
    Zone,
}

impl Survive {
    /// Name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Node => "one node",
            Self::Zone => "one zone",
        }
    }
}

/// How to plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// What may be lost.
    pub survive: Survive,
    /// Zones the nodes stand in, evenly; at least 2.
    pub zones: u64,
    /// Overrules the shares that are used: 0.5 uses 1/1.5 of everything.
    pub headroom: Option<f64>,
    /// How nodes add up.
    pub law: Law,
}

impl Default for Options {
    fn default() -> Self {
        Self { survive: Survive::Node, zones: 3, headroom: None, law: Law::LINEAR }
    }
}

/// Everything a plan is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// What is asked for.
    pub workload: WorkloadProfile,
    /// What a node carries.
    pub node: Node,
    /// What things cost.
    pub prices: Prices,
    /// Price of a node per hour, whatever its name.
    pub cost_per_hour: f64,
    /// How to plan.
    pub options: Options,
    /// Where the input is from, for people.
    pub notes: Vec<Assumption>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Something in the input is out of range.
    #[error("{0}")]
    Input(#[from] InputErrors),
    /// The input is good, but no number of nodes carries it.
    #[error("{0}")]
    NoNumber(#[from] NoNumber),
}

/// No number of nodes carries the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no number of nodes carries this: {} needs {demand:.0} {}, and {most:.0} is the most \
         ({why})", factor.label(), factor.unit())]
#[serde(deny_unknown_fields)]
pub struct NoNumber {
    /// What there is not enough of.
    pub factor: Factor,
    /// Demand, in the factor's unit.
    pub demand: f64,
    /// The most that nodes carry together, at the share that is used.
    pub most: f64,
    /// Nodes with which that is so.
    pub best_nodes: u64,
    /// Why.
    pub why: String,
}

/// One resource of a plan, at peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRow {
    /// Which.
    pub factor: Factor,
    /// Unit of demand and capacity.
    pub unit: String,
    /// What the workload needs.
    pub demand: f64,
    /// What one node has.
    pub capacity_per_node: f64,
    /// Share of it that is used at most.
    pub target_utilisation: f64,
    /// What one node gives to load at that share.
    pub usable_per_node: f64,
    /// Nodes for this resource alone.
    pub nodes: u64,
    /// Share used with the nodes to run.
    pub utilisation: f64,
    /// Share used when one of them is lost; none if there is only one.
    pub utilisation_node_lost: Option<f64>,
    /// Where the capacity is from.
    pub origin: String,
}

/// Seconds until the clients of what was lost are back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconnectBound {
    /// Clients per second that one node takes back.
    pub clients_per_node_per_s: f64,
    /// Where that is from.
    pub origin: String,
    /// After one node was lost; none if there is only one.
    pub node_lost_s: Option<f64>,
    /// After one zone was lost; none if nothing is left then.
    pub zone_lost_s: Option<f64>,
    /// What it should be at most.
    pub target_s: f64,
}

/// The machine of a capacity file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredOn {
    /// When, RFC 3339.
    pub measured_at: String,
    /// Version of the server.
    pub version: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// Cores the server could use.
    pub cores: u32,
    /// Its worker threads.
    pub workers: u32,
    /// Whether it was the quick form.
    pub quick: bool,
}

/// The answer. The first names are those that dashboards and scripts may rely on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this form.
    pub format: u32,
    /// `full`.
    pub model: String,
    /// Fewest nodes that carry the peak at the shares that are used.
    pub servers_needed: u64,
    /// Nodes to run at peak: with what may be lost. This is the answer.
    pub servers_to_run: u64,
    /// What limits.
    pub limiting_factor: Factor,
    /// What would limit next; none if there is one resource only.
    pub second_factor: Option<Factor>,
    /// How much the load may grow until the first resource is full, with the nodes to run.
    pub headroom_percent: f64,
    /// The resource that is full first.
    pub headroom_factor: Factor,
    /// Money of a month of 720 hours, with nodes that follow the day.
    pub estimated_monthly_cost: f64,
    /// Nodes for connections alone; none if that is unknown, as for the next three.
    pub connection_limited: Option<u64>,
    /// Nodes for publications alone.
    pub ingest_limited: Option<u64>,
    /// Nodes for deliveries alone.
    pub fanout_limited: Option<u64>,
    /// Nodes for bandwidth alone.
    pub bandwidth_limited: Option<u64>,
    /// Nodes so that one may be lost; none if no number does.
    pub survive_one_node: Option<u64>,
    /// Nodes so that one zone may be lost; none if no number does.
    pub survive_one_zone: Option<u64>,
    /// What `servers_to_run` survives.
    pub survive: Survive,
    /// Zones.
    pub zones: u64,
    /// Whether nodes were added so that clients are back in time.
    pub raised_for_reconnects: bool,
    /// Every resource, the most limiting first.
    pub resources: Vec<ResourceRow>,
    /// Resources that nothing is known about.
    pub not_planned: Vec<NotPlanned>,
    /// One second at peak.
    pub peak: Load,
    /// One second of the other hours.
    pub off_peak: Load,
    /// One frame of messages.
    pub wire: Wire,
    /// Others in the room of a random author: the fan-out of a message.
    pub fan_out: f64,
    /// After a loss; none if no connect rate is known.
    pub reconnect: Option<ReconnectBound>,
    /// The broker; none for a single node.
    pub broker: Option<Broker>,
    /// Nodes over the day.
    pub day: Day,
    /// Money of a month.
    pub cost: Cost,
    /// What was asked for.
    pub workload: WorkloadProfile,
    /// The node by its figures, if it was given by hand.
    pub server: Option<ServerCapacity>,
    /// The machine that was measured, if one was.
    pub measured_on: Option<MeasuredOn>,
    /// Everything the answer stands on.
    pub assumptions: Vec<Assumption>,
    /// What should not be overlooked.
    pub warnings: Vec<String>,
    /// How the answer moves with each input; empty unless it was asked for.
    pub sensitivity: Vec<sensitivity::Row>,
}

impl Input {
    /// The worked example.
    pub fn example() -> Result<Self, crate::prices::PricesError> {
        Ok(Self {
            workload: WorkloadProfile::default(),
            node: Node::Figures(ServerCapacity::example()),
            prices: Prices::read(crate::prices::EMBEDDED)?,
            cost_per_hour: 0.5,
            options: Options::default(),
            notes: Vec::new(),
        })
    }

    /// Whether everything but the node is in range; the node is checked when its limits are made.
    pub fn check(&self) -> Result<(), InputErrors> {
        let mut found = InputErrors::default();
        for part in [self.workload.check(), self.prices.check()] {
            if let Err(errors) = part {
                found.0.extend(errors.0);
            }
        }
        let options = &self.options;
        if let Some(headroom) = options.headroom {
            found.within("headroom", headroom, 0.0, HEADROOM_MAX);
        }
        if !(2..=ZONES_MAX).contains(&options.zones) {
            let allowed = format!("a whole number from 2 to {ZONES_MAX}");
            found.add("zones", options.zones.to_string(), allowed);
        }
        found.within("usl_sigma", options.law.sigma, 0.0, 1.0);
        found.within("usl_kappa", options.law.kappa, 0.0, 1.0);
        found.within("cost_per_hour", self.cost_per_hour, 0.0, PRICE_MAX);
        found.none()
    }
}

/// The plan for `input`.
pub fn plan(input: &Input) -> Result<Plan, PlanError> {
    input.check()?;
    let (workload, options) = (&input.workload, &input.options);
    let (peak, off_peak) = (load::load(workload, true), load::load(workload, false));
    let (limits, not_planned) = limits::limits(&input.node, [&peak, &off_peak], options.headroom)?;
    let rate = limits::reconnect_rate(&input.node, workload.avg_rooms_per_user, options.headroom);
    let counting = Counting {
        limits: &limits,
        law: options.law,
        zones: options.zones,
        reconnect: rate.as_ref().map(|r| Reconnect { per_node: r.0, clients: peak.connections }),
    };
    let at_peak = counting.counts(Hours::Peak, options.survive)?;
    let off = counting.counts(Hours::OffPeak, options.survive)?;
    let nodes = at_peak.to_run;
    let day = Day::of(workload.daily_peak_duration_hours, nodes, off.to_run.min(nodes));
    let capacity = input.prices.broker.deliveries_per_second;
    let broker = broker::broker(workload, &peak, nodes, capacity);
    let bill = Bill {
        workload,
        loads: [&peak, &off_peak],
        day: &day,
        broker_nodes: broker.map_or(0, |b| b.nodes),
        zones: options.zones,
        prices: &input.prices,
        node_per_hour: input.cost_per_hour,
    };
    let cost = bill.cost();
    let resources = rows(&counting, &at_peak);
    let mut plan = Plan {
        reconnect: rate.map(|rate| reconnect_bound(rate, &peak, nodes, options.zones)),
        ..assemble(input, &at_peak, resources, Parts { peak, off_peak, day, cost, broker })
    };
    plan.not_planned = not_planned;
    plan.assumptions = assumptions::all(input, &plan);
    plan.warnings = assumptions::warnings(input, &plan);
    Ok(plan)
}

/// Parts of a plan that are ready.
struct Parts {
    peak: Load,
    off_peak: Load,
    day: Day,
    cost: Cost,
    broker: Option<Broker>,
}

fn assemble(input: &Input, counts: &Counts, resources: Vec<ResourceRow>, parts: Parts) -> Plan {
    let of = |factor| resources.iter().find(|r| r.factor == factor).map(|r| r.nodes);
    let first = resources.first().map_or(Factor::Connections, |r| r.factor);
    // The resource that is full first is not always the one with the most nodes: shares differ.
    let fullest = resources.iter().max_by(|a, b| a.utilisation.total_cmp(&b.utilisation));
    let growth = fullest.map_or(0.0, |r| (1.0 / r.utilisation.max(1e-9) - 1.0).max(0.0));
    Plan {
        format: FORMAT,
        model: "full".into(),
        servers_needed: counts.needed,
        servers_to_run: counts.to_run,
        limiting_factor: first,
        second_factor: resources.get(1).map(|r| r.factor),
        headroom_percent: growth * 100.0,
        headroom_factor: fullest.map_or(first, |r| r.factor),
        estimated_monthly_cost: parts.cost.total,
        connection_limited: of(Factor::Connections),
        ingest_limited: of(Factor::MessageIngest),
        fanout_limited: of(Factor::MessageFanout),
        bandwidth_limited: of(Factor::Bandwidth),
        survive_one_node: counts.survive_node,
        survive_one_zone: counts.survive_zone,
        survive: input.options.survive,
        zones: input.options.zones,
        raised_for_reconnects: counts.raised_for_reconnects,
        not_planned: Vec::new(),
        wire: load::message_wire(&input.workload),
        fan_out: rooms::moments(&input.workload).others,
        reconnect: None,
        peak: parts.peak,
        off_peak: parts.off_peak,
        broker: parts.broker,
        day: parts.day,
        cost: parts.cost,
        workload: input.workload.clone(),
        server: match &input.node {
            Node::Figures(figures) => Some(*figures),
            Node::Measured(_) => None,
        },
        measured_on: measured_on(&input.node),
        assumptions: Vec::new(),
        warnings: Vec::new(),
        sensitivity: Vec::new(),
        resources,
    }
}

fn measured_on(node: &Node) -> Option<MeasuredOn> {
    let Node::Measured(file) = node else { return None };
    let print = &file.fingerprint;
    Some(MeasuredOn {
        measured_at: file.measured_at.clone(),
        version: print.version.clone(),
        cpu_model: print.cpu_model.clone(),
        cores: print.cores,
        workers: print.workers,
        quick: file.quick,
    })
}

/// The resources at peak, the most limiting first.
fn rows(counting: &Counting<'_>, counts: &Counts) -> Vec<ResourceRow> {
    let mut rows: Vec<ResourceRow> = (counting.limits.iter().zip(&counts.each))
        .map(|(limit, nodes)| row(limit, *nodes, counting, counts.to_run))
        .collect();
    let pressure = |r: &ResourceRow| r.demand / r.usable_per_node;
    rows.sort_by(|a, b| (b.nodes.cmp(&a.nodes)).then(pressure(b).total_cmp(&pressure(a))));
    rows
}

fn row(limit: &Limit, nodes: u64, counting: &Counting<'_>, to_run: u64) -> ResourceRow {
    let law = counting.law(limit.factor);
    let [demand, _] = limit.demand;
    let used = |n: u64| {
        let each = demand / law.multiple(n) + limit.reserved;
        each / limit.capacity
    };
    ResourceRow {
        factor: limit.factor,
        unit: limit.factor.unit().into(),
        demand,
        capacity_per_node: limit.capacity,
        target_utilisation: limit.target,
        usable_per_node: limit.usable(limit.target),
        nodes,
        utilisation: used(to_run),
        utilisation_node_lost: (to_run > 1).then(|| used(to_run - 1)),
        origin: limit.origin.clone(),
    }
}

fn reconnect_bound(
    (per_node, origin): (f64, String),
    peak: &Load,
    nodes: u64,
    zones: u64,
) -> ReconnectBound {
    let n = nodes as f64;
    // The fullest zone has one node more than the emptiest if they do not divide evenly.
    let lost = nodes.div_ceil(zones) as f64;
    let left = (n - lost).max(0.0);
    let back = |lost: f64, left: f64| peak.connections * lost / n / (left * per_node);
    ReconnectBound {
        clients_per_node_per_s: per_node,
        origin,
        node_lost_s: (nodes > 1).then(|| back(1.0, n - 1.0)),
        zone_lost_s: (left > 0.0).then(|| back(lost, left)),
        target_s: RECONNECT_TARGET_S,
    }
}

#[cfg(test)]
mod tests;
