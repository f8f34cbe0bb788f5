//! Everything a plan stands on, in words, and what should not be overlooked.

use super::limits::{Factor, Node, TARGET_CONNECTIONS, TARGET_OF_KNEE, TARGET_RATES};
use super::load::{PING_BYTES, SMALL_PAYLOAD_BYTES};
use super::rooms::moments;
use super::scaling::Law;
use super::{Input, Plan, Survive};
use crate::profile::{Receipts, RoomSizes, UsersAre};
use crate::report::number::{count, grouped, money, percent, scaled, short};
use serde::{Deserialize, Serialize};

/// Connections of a process beyond which descriptors and kernel memory want a look.
const CONNECTIONS_UNUSUAL: f64 = 1_000_000.0;

/// One thing a plan stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assumption {
    /// What it is about, in a word or two.
    pub about: String,
    /// What is assumed.
    pub says: String,
}

impl Assumption {
    /// One.
    pub fn new(about: &str, says: impl Into<String>) -> Self {
        Self { about: about.to_owned(), says: says.into() }
    }
}

/// All of them.
pub fn all(input: &Input, plan: &Plan) -> Vec<Assumption> {
    let mut all = input.notes.clone();
    people(input, plan, &mut all);
    features(input, plan, &mut all);
    wire(input, plan, &mut all);
    nodes(input, plan, &mut all);
    around(input, plan, &mut all);
    all
}

fn people(input: &Input, plan: &Plan, all: &mut Vec<Assumption>) {
    let w = &input.workload;
    let (users, times) = (grouped(w.concurrent_users as f64), short(w.peak_multiplier));
    let hours = short(w.daily_peak_duration_hours);
    all.push(Assumption::new(
        "users",
        match w.concurrent_users_are {
            UsersAre::Peak => format!(
                "{users} connections at the peak, and taken to be there all day. For {hours} h a \
                 day each of them does {times} times its average"
            ),
            UsersAre::Mean => format!(
                "{users} connections on average. For {hours} h a day there are {times} times as \
                 many, and they do {times} times as much together"
            ),
        },
    ));
    all.push(Assumption::new(
        "messages",
        format!(
            "{} a minute from each, of {} bytes, on average over the day",
            short(w.msgs_per_user_per_minute),
            short(w.avg_message_bytes)
        ),
    ));
    let sizes = moments(w);
    let mean = short(w.avg_users_per_room);
    let spread = match w.room_sizes {
        RoomSizes::Equal => format!("all of {mean} members"),
        RoomSizes::Exponential => format!("{mean} members on average, sizes fall exponentially"),
        RoomSizes::PowerLaw(exponent) => format!(
            "{mean} members on average, by a power law with exponent {exponent}, from {} to {}",
            short(sizes.smallest),
            grouped(sizes.largest)
        ),
    };
    all.push(Assumption::new(
        "rooms",
        format!(
            "{} rooms, {spread}; each user is in {}. Members write in proportion to their number, \
             so a message reaches {} others on average",
            scaled(plan.peak.rooms),
            short(w.avg_rooms_per_user),
            short(sizes.others)
        ),
    ));
    let own = 1.0 / sizes.others.max(1.0);
    all.push(Assumption::new(
        "author's copy",
        if w.author_sees_own {
            "authors get what they publish, as subscribers of their room".to_owned()
        } else {
            format!(
                "authors get no copy of their own. Where they do (author_sees_own), messages and \
                 typing make {} more deliveries",
                percent(own)
            )
        },
    ));
}

fn features(input: &Input, plan: &Plan, all: &mut Vec<Assumption>) {
    let (w, peak) = (&input.workload, &plan.peak);
    let typing = if w.typing_per_message > 0.0 {
        let each = short(w.typing_per_message);
        format!("events for each message: {each}, sent to the whole room")
    } else {
        "none".to_owned()
    };
    all.push(Assumption::new("typing", typing));
    let read = scaled(peak.receipts_in_per_s);
    all.push(Assumption::new(
        "receipts",
        match w.receipts {
            Receipts::Off => "none".to_owned(),
            Receipts::Broadcast => format!(
                "every reader's goes to the whole room; {read}/s come in and count as publications"
            ),
            Receipts::Author => format!(
                "every reader's goes to the author only; {read}/s come in and count as publications"
            ),
            Receipts::Watermark => format!(
                "readers' are merged into one for each room and second; {read}/s come in and count \
                 as publications"
            ),
        },
    ));
    let session = if w.session_minutes > 0.0 {
        format!(
            "sessions of {} min: {}/s come and as many go at peak",
            short(w.session_minutes),
            scaled(peak.connects_per_s)
        )
    } else {
        "nobody comes or goes (session_minutes is 0), so connecting is not planned for".to_owned()
    };
    let told = if w.join_leave { "; rooms are told of each" } else { "; rooms are not told" };
    all.push(Assumption::new("coming and going", format!("{session}{told}")));
    let pings = if w.ping_interval_seconds > 0.0 {
        format!(
            "every {} s: {}/s out and as many pongs in. They are in the bytes, not in the frames",
            short(w.ping_interval_seconds),
            scaled(peak.pings_per_s)
        )
    } else {
        "none".to_owned()
    };
    all.push(Assumption::new("heartbeats", pings));
}

fn wire(input: &Input, plan: &Plan, all: &mut Vec<Assumption>) {
    let (w, wire) = (&input.workload, &plan.wire);
    let batch = if w.deliveries_per_frame > 1.0 {
        format!("{} messages in a frame", short(w.deliveries_per_frame))
    } else {
        "each message in its own frame".to_owned()
    };
    let tls = if w.tls {
        format!("TLS {}", short(wire.tls_bytes))
    } else {
        "no TLS at the node".to_owned()
    };
    all.push(Assumption::new(
        "bytes on the wire",
        format!(
            "{batch}: payload {} + envelope {} + WebSocket header {} + {tls} + TCP/IP {} = {} \
             bytes",
            short(wire.payload_bytes),
            short(wire.envelope_bytes),
            short(wire.websocket_bytes),
            short(wire.tcp_ip_bytes),
            short(wire.total_bytes)
        ),
    ));
    all.push(Assumption::new(
        "small events",
        format!(
            "typing, joins, leaves and receipts have {} bytes of payload and the same envelope; a \
             ping has {}; nothing is compressed",
            short(SMALL_PAYLOAD_BYTES),
            short(PING_BYTES)
        ),
    ));
}

fn nodes(input: &Input, plan: &Plan, all: &mut Vec<Assumption>) {
    let source = match &input.node {
        Node::Figures(_) => "its figures were given by hand, not measured".to_owned(),
        Node::Measured(file) => {
            let print = &file.fingerprint;
            let form = if file.quick { " (quick form)" } else { "" };
            format!(
                "measured{form} on {}: version {}, {}, {}, {}",
                file.measured_at,
                print.version,
                print.cpu_model,
                count(print.cores.into(), "core"),
                count(print.workers.into(), "worker"),
            )
        }
    };
    all.push(Assumption::new("a node", source));
    all.push(Assumption::new("used of a node", shares(input)));
    let law = input.options.law;
    all.push(Assumption::new(
        "scaling",
        if law == Law::LINEAR {
            "N nodes carry N times what one does; the price of it is at the broker".to_owned()
        } else {
            format!(
                "rates follow the scalability law with sigma {} and kappa {}, best with {}; \
                 connections, memory and bandwidth are linear",
                law.sigma,
                law.kappa,
                count(law.best(), "node")
            )
        },
    ));
    let lost = match input.options.survive {
        Survive::Nothing => "no node may be lost at peak".to_owned(),
        Survive::Node => {
            "one node may be lost at peak; the others are then used to at most 85 %".to_owned()
        }
        Survive::Zone => format!(
            "one of {} zones may be lost at peak; the others carry the load as planned",
            input.options.zones
        ),
    };
    all.push(Assumption::new("losses", lost));
    let back = match &plan.reconnect {
        None => "no connect rate is known, so no bound is given".to_owned(),
        Some(bound) => format!(
            "each node takes back {}/s ({}), and all should be back within {} s",
            scaled(bound.clients_per_node_per_s),
            bound.origin,
            short(bound.target_s)
        ),
    };
    all.push(Assumption::new("reconnects", back));
    all.push(Assumption::new(
        "not in it",
        "nodes for a rolling restart (about a quarter more while it lasts), the history's memory, \
         and peaks of seconds above the hour's",
    ));
}

fn shares(input: &Input) -> String {
    match (input.options.headroom, &input.node) {
        (Some(headroom), _) => format!(
            "{} of everything: headroom {headroom} means 1 / (1 + {headroom})",
            percent(1.0 / (1.0 + headroom))
        ),
        (None, Node::Measured(_)) => format!(
            "the rated figures: {} of the load at which the node began to fail. No further share \
             is taken off",
            percent(TARGET_OF_KNEE)
        ),
        (None, Node::Figures(_)) => format!(
            "{} of its connections and {} of its rates and bandwidth",
            percent(TARGET_CONNECTIONS),
            percent(TARGET_RATES)
        ),
    }
}

fn around(input: &Input, plan: &Plan, all: &mut Vec<Assumption>) {
    let prices = &input.prices;
    let broker = match &plan.broker {
        None => "none: a single node needs none".to_owned(),
        Some(b) => format!(
            "members of a room are spread at random, so a message goes to {} of {} nodes. A \
             broker node ({}) delivers {}/s, used to {}",
            short(b.nodes_per_room),
            plan.servers_to_run,
            prices.broker.name,
            grouped(b.capacity_per_node),
            percent(b.target_utilisation)
        ),
    };
    all.push(Assumption::new("broker", broker));
    let (w, cost) = (&input.workload, &plan.cost);
    all.push(Assumption::new(
        "a day",
        format!(
            "{} h with the peak's nodes, {} h with fewer, which somebody or something must start \
             and stop. If all run all day the month costs {}",
            short(plan.day.peak_hours),
            short(24.0 - plan.day.peak_hours),
            money(cost.total_fixed_fleet, &cost.currency)
        ),
    ));
    let price = |value| money(value, &cost.currency);
    all.push(Assumption::new(
        "prices",
        format!(
            "of {}: node {}/h, broker node {}/h, balancer {}/h in each of {} zones and {}/GB, \
             egress {}/GB, monitoring {} for each node and hour; a month has 720 h",
            prices.date,
            price(cost.node_per_hour),
            price(prices.broker.cost_per_hour),
            price(prices.load_balancer.cost_per_hour),
            input.options.zones,
            price(prices.load_balancer.cost_per_gb),
            price(prices.egress.cost_per_gb),
            price(prices.monitoring.cost_per_node_hour)
        ),
    ));
    all.push(Assumption::new(
        "monthly users",
        format!("{} for each concurrent one", short(w.monthly_users_per_concurrent)),
    ));
}

/// What should not be overlooked.
pub fn warnings(input: &Input, plan: &Plan) -> Vec<String> {
    let mut all = Vec::new();
    if input.workload.receipts == Receipts::Broadcast {
        all.push(
            "receipts are broadcast: that grows with the square of the rooms' size. Send them to \
             the author, or merge them (receipts = \"author\" or \"watermark\")"
                .to_owned(),
        );
    }
    let missing: Vec<&str> = (plan.not_planned.iter())
        .filter(|n| !matches!(n.factor, Factor::Memory | Factor::Cpu | Factor::Subscribes))
        .filter(|n| n.factor != Factor::ConnectRate || plan.peak.connects_per_s > 0.0)
        .map(|n| n.factor.label())
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        all.push(format!("nothing is known of a node's {missing}: the plan may be too small"));
    }
    if let Some(bound) = &plan.reconnect {
        let late = |s: Option<f64>| s.filter(|s| *s > bound.target_s * 1.001);
        if let Some(s) = late(bound.node_lost_s) {
            all.push(format!("after a node is lost, its clients need {} s to be back", short(s)));
        }
        if let Some(s) = late(bound.zone_lost_s) {
            all.push(format!("after a zone is lost, its clients need {} s to be back", short(s)));
        }
    }
    let each = plan.peak.connections / plan.servers_to_run as f64;
    if each > CONNECTIONS_UNUSUAL {
        all.push(format!("{} connections on a node: has anybody seen that?", scaled(each)));
    }
    if let Node::Measured(file) = &input.node {
        measured_warnings(file, input, plan, &mut all);
    }
    all
}

fn measured_warnings(
    file: &crate::measured::CapacityFile,
    input: &Input,
    plan: &Plan,
    all: &mut Vec<String>,
) {
    let bounds: Vec<&str> = (plan.resources.iter())
        .filter(|r| r.origin.ends_with("a lower bound"))
        .map(|r| r.factor.label())
        .collect();
    if !bounds.is_empty() {
        let bounds = bounds.join(", ");
        all.push(format!("not measured to the end, so a node may carry more: {bounds}"));
    }
    if file.quick {
        all.push("the capacity file is of the quick form: measure fully before you buy".into());
    }
    if let Some(law) = file.scaling
        && input.options.law != Law::LINEAR
        && plan.servers_to_run as f64 > 2.0 * law.largest_n
    {
        all.push(format!(
            "the scalability law was measured up to {}; {} nodes are beyond twice that",
            short(law.largest_n),
            plan.servers_to_run
        ));
    }
    if let Some(mixed) = file.mixed
        && mixed.error_ratio.abs() > 0.10
    {
        all.push(format!(
            "the cost model missed the mixed load by {}: take the processor's row with care",
            percent(mixed.error_ratio.abs())
        ));
    }
}
