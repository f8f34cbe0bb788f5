//! What one node has of each resource, and how much of it a plan uses.

use super::load::Load;
use crate::measured::{CapacityFile, EndedBy, Measured, Resource};
use crate::profile::{InputErrors, ServerCapacity};
use serde::{Deserialize, Serialize};

/// Share of a node's connections that is used: they come in waves.
pub const TARGET_CONNECTIONS: f64 = 0.70;
/// Share of a node's rates (in, out, bytes): queues grow long before a rate is at its end.
pub const TARGET_RATES: f64 = 0.60;
/// Share of a knee that is used; `rated` in a capacity file has it in it.
pub const TARGET_OF_KNEE: f64 = 0.70;
/// Processor and memory are full for us here: the ramps end at these shares as well.
pub const FULL_SHARE: f64 = 0.80;

/// What may limit a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// Connections at one time.
    Connections,
    /// New connections per second.
    ConnectRate,
    /// Publications per second.
    MessageIngest,
    /// Deliveries (socket writes) per second.
    MessageFanout,
    /// Bits per second to clients.
    Bandwidth,
    /// Subscribes per second.
    Subscribes,
    /// Bytes of memory.
    Memory,
    /// Processor time.
    Cpu,
}

impl Factor {
    /// All, in the order of a report.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::ConnectRate,
        Self::MessageIngest,
        Self::MessageFanout,
        Self::Bandwidth,
        Self::Subscribes,
        Self::Memory,
        Self::Cpu,
    ];

    /// Name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectRate => "connect rate",
            Self::MessageIngest => "message ingest",
            Self::MessageFanout => "message fan-out",
            Self::Bandwidth => "bandwidth",
            Self::Subscribes => "subscribes",
            Self::Memory => "memory",
            Self::Cpu => "processor",
        }
    }

    /// Unit of demand and capacity.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectRate => "connects/s",
            Self::MessageIngest => "publications/s",
            Self::MessageFanout => "frames/s",
            Self::Bandwidth => "Mbit/s",
            Self::Subscribes => "subscribes/s",
            Self::Memory => "MB",
            Self::Cpu => "CPU ms/s",
        }
    }

    /// Whether nodes that wait for each other get less of it. Connections, memory and the network
    /// interface of a node belong to it alone.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Connections | Self::Memory | Self::Bandwidth)
    }
}

/// One resource of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Which.
    pub factor: Factor,
    /// What a node has of it, in the factor's unit.
    pub capacity: f64,
    /// What a node needs of it without any load.
    pub reserved: f64,
    /// Share of `capacity` to use.
    pub target: f64,
    /// What the whole load needs of it: at peak, and in other hours.
    pub demand: [f64; 2],
    /// Where the figure is from, for people.
    pub origin: String,
}

impl Limit {
    /// What of it serves load when a share of it is used.
    pub fn usable(&self, share: f64) -> f64 {
        self.capacity * share - self.reserved
    }
}

/// A resource that nothing is known about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotPlanned {
    /// Which.
    pub factor: Factor,
    /// Why.
    pub why: String,
}

/// Where a node's figures come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Given by hand.
    Figures(ServerCapacity),
    /// Measured.
    Measured(Box<CapacityFile>),
}

/// All that is known about a node, and all that is not.
pub type Known = (Vec<Limit>, Vec<NotPlanned>);

/// The limits of `node` for a load; `headroom` overrules the shares: 0.5 is two thirds.
pub fn limits(node: &Node, loads: [&Load; 2], headroom: Option<f64>) -> Result<Known, InputErrors> {
    let target = headroom.map(|h| 1.0 / (1.0 + h));
    let (limits, unknown) = match node {
        Node::Figures(figures) => {
            figures.check()?;
            given(figures, loads, target)
        }
        Node::Measured(file) => {
            check_file(file)?;
            measured(file, loads, target)
        }
    };
    if limits.is_empty() {
        let mut found = InputErrors::default();
        let allowed = "a capacity file, or at least one of max_connections, \
                       max_msgs_per_second_in, max_msgs_per_second_out, max_bandwidth_mbps";
        found.add("server", "nothing that limits a node".into(), allowed.into());
        return Err(found);
    }
    Ok((limits, unknown))
}

fn given(figures: &ServerCapacity, loads: [&Load; 2], target: Option<f64>) -> Known {
    let (mut limits, mut unknown) = (Vec::new(), Vec::new());
    let rates = target.unwrap_or(TARGET_RATES);
    let held = target.unwrap_or(TARGET_CONNECTIONS);
    let all = [
        (Factor::Connections, figures.max_connections, held),
        (Factor::ConnectRate, figures.max_connects_per_second, target.unwrap_or(TARGET_OF_KNEE)),
        (Factor::MessageIngest, figures.max_msgs_per_second_in, rates),
        (Factor::MessageFanout, figures.max_msgs_per_second_out, rates),
        (Factor::Bandwidth, figures.max_bandwidth_mbps, rates),
    ];
    for (factor, capacity, target) in all {
        match capacity {
            Some(capacity) => limits.push(Limit {
                factor,
                capacity,
                reserved: 0.0,
                target,
                demand: loads.map(|load| simple_demand(factor, load, false)),
                origin: "given, not measured".into(),
            }),
            None => unknown.push(NotPlanned { factor, why: "no figure was given".into() }),
        }
    }
    for factor in [Factor::Memory, Factor::Cpu] {
        unknown.push(NotPlanned { factor, why: "needs a measured capacity.json".into() });
    }
    (limits, unknown)
}

fn measured(file: &CapacityFile, loads: [&Load; 2], target: Option<f64>) -> Known {
    let (mut limits, mut unknown) = (Vec::new(), Vec::new());
    let all = [
        (Factor::Connections, Resource::Connections, 1.0),
        (Factor::ConnectRate, Resource::ConnectsPerS, 1.0),
        (Factor::MessageIngest, Resource::PublishesPerS, 1.0),
        (Factor::MessageFanout, Resource::DeliveriesPerS, 1.0),
        (Factor::Bandwidth, Resource::EgressBytesPerS, 8e-6),
        (Factor::Subscribes, Resource::SubscribesPerS, 1.0),
    ];
    for (factor, resource, unit) in all {
        match file.resources.get(&resource) {
            Some(figure) => limits.push(Limit {
                factor,
                capacity: figure.knee * unit,
                reserved: 0.0,
                target: target.unwrap_or(figure.rated / figure.knee),
                demand: loads.map(|load| simple_demand(factor, load, true)),
                origin: origin(figure, unit),
            }),
            None => unknown.push(NotPlanned { factor, why: "the capacity file has none".into() }),
        }
    }
    let target = target.unwrap_or(TARGET_OF_KNEE);
    match memory(file, loads, target) {
        Some(limit) => limits.push(limit),
        None => unknown.push(NotPlanned {
            factor: Factor::Memory,
            why: "the capacity file has no memory model, or no size of memory".into(),
        }),
    }
    match cpu(file, loads, target) {
        Some(limit) => limits.push(limit),
        None => unknown.push(NotPlanned {
            factor: Factor::Cpu,
            why: "the capacity file has no cost model, or no number of cores".into(),
        }),
    }
    (limits, unknown)
}

/// Demand for what is counted directly.
fn simple_demand(factor: Factor, load: &Load, without_tcp: bool) -> f64 {
    match factor {
        Factor::Connections => load.connections,
        Factor::ConnectRate => load.connects_per_s,
        Factor::MessageIngest => load.ingest_per_s,
        Factor::MessageFanout => load.frames_per_s,
        // The ramp counts the bytes that were written to sockets; a figure of an interface has
        // the headers in it.
        Factor::Bandwidth if without_tcp => load.socket_bytes_per_s * 8e-6,
        Factor::Bandwidth => load.wire_bytes_per_s * 8e-6,
        Factor::Subscribes => load.subscribes_per_s,
        Factor::Memory | Factor::Cpu => 0.0,
    }
}

fn origin(figure: &Measured, unit: f64) -> String {
    use crate::report::number::short;
    let bound = match figure.ended_by {
        EndedBy::Generator | EndedBy::EndOfRamp => ", a lower bound",
        _ => "",
    };
    let (low, high) = (short(figure.low * unit), short(figure.high * unit));
    format!("measured by {}, 95 % between {low} and {high}{bound}", figure.ramp)
}

fn memory(file: &CapacityFile, loads: [&Load; 2], target: f64) -> Option<Limit> {
    let model = file.memory?;
    let bytes = file.fingerprint.memory_bytes;
    let of_connection = model.per_connection_bytes + model.per_connection_kernel_bytes;
    let demand = |load: &Load| {
        let beyond_first = (load.subscriptions - load.connections).max(0.0);
        let all = load.connections * of_connection + beyond_first * model.per_subscription_bytes;
        all / 1e6
    };
    (bytes > 0).then(|| Limit {
        factor: Factor::Memory,
        capacity: bytes as f64 * FULL_SHARE / 1e6,
        reserved: model.base_bytes / 1e6,
        target,
        demand: loads.map(demand),
        origin: format!("{:.0} % of the measured machine's memory", FULL_SHARE * 100.0),
    })
}

fn cpu(file: &CapacityFile, loads: [&Load; 2], target: f64) -> Option<Limit> {
    let model = file.cost?;
    let cores = file.fingerprint.cores;
    let demand = |load: &Load| {
        let us = load.connections * model.connection_us_per_s
            + load.connects_per_s * model.connect_us
            + load.ingest_per_s * model.publish_us
            + load.deliveries_per_s * model.delivery_us
            + load.socket_bytes_per_s * model.byte_us
            + load.subscribes_per_s * model.recovery_us;
        us / 1e3
    };
    // What a busy node saves is in its capacity: demand is told as that of an idle one.
    let capacity = model.demand_at(f64::from(cores) * 1e6 * FULL_SHARE) / 1e3;
    (cores > 0 && capacity.is_finite()).then(|| Limit {
        factor: Factor::Cpu,
        capacity,
        reserved: model.base_us_per_s / 1e3,
        target,
        demand: loads.map(demand),
        origin: format!("{:.0} % of {cores} cores, by the cost model", FULL_SHARE * 100.0),
    })
}

/// A capacity file is written by a program, but it is a file: it may hold anything.
fn check_file(file: &CapacityFile) -> Result<(), InputErrors> {
    let mut found = InputErrors::default();
    for (resource, figure) in &file.resources {
        let name = |part| format!("capacity.resources.{resource:?}.{part}");
        found.within(&name("knee"), figure.knee, 1e-3, 1e15);
        if figure.knee > 0.0 {
            found.within(&name("rated"), figure.rated, figure.knee * 1e-3, figure.knee);
        }
        found.within(&name("low"), figure.low, 0.0, 1e15);
        found.within(&name("high"), figure.high, 0.0, 1e15);
    }
    if let Some(m) = file.memory {
        let bytes = [
            ("base_bytes", m.base_bytes),
            ("per_connection_bytes", m.per_connection_bytes),
            ("per_connection_kernel_bytes", m.per_connection_kernel_bytes),
            ("per_subscription_bytes", m.per_subscription_bytes),
        ];
        for (part, value) in bytes {
            found.within(&format!("capacity.memory.{part}"), value, 0.0, 1e12);
        }
    }
    if let Some(c) = file.cost {
        let times = [
            ("base_us_per_s", c.base_us_per_s),
            ("connection_us_per_s", c.connection_us_per_s),
            ("connect_us", c.connect_us),
            ("publish_us", c.publish_us),
            ("delivery_us", c.delivery_us),
            ("byte_us", c.byte_us),
            ("recovery_us", c.recovery_us),
            ("saving", c.saving),
        ];
        for (part, value) in times {
            found.within(&format!("capacity.cost.{part}"), value, 0.0, 1e9);
        }
    }
    found.none()
}

/// Clients that one node can take back per second after others were lost: the least of what is
/// known of connecting, recovering and reconnecting, at the share that is used.
pub fn reconnect_rate(
    node: &Node,
    rooms_per_user: f64,
    headroom: Option<f64>,
) -> Option<(f64, String)> {
    let target = headroom.map(|h| 1.0 / (1.0 + h));
    match node {
        Node::Figures(figures) => {
            let share = target.unwrap_or(TARGET_OF_KNEE);
            let rate = figures.max_connects_per_second? * share;
            Some((rate, "max_connects_per_second".into()))
        }
        Node::Measured(file) => {
            let rate = |resource: Resource, per_client: f64, name: &str| {
                let figure = file.resources.get(&resource)?;
                let used = target.map_or(figure.rated, |t| figure.knee * t);
                Some((used / per_client, name.to_owned()))
            };
            let connects = rate(Resource::ConnectsPerS, 1.0, "the measured connect rate");
            let each = rooms_per_user.max(1.0);
            let recovers = rate(Resource::RecoveriesPerS, each, "the measured recoveries");
            let returns = rate(Resource::ReconnectsPerS, 1.0, "the measured reconnects");
            let all = [connects, recovers, returns].into_iter().flatten();
            all.min_by(|a, b| a.0.total_cmp(&b.0))
        }
    }
}
