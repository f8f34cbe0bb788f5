//! What the nodes ask of the broker between them.

use super::load::Load;
use super::rooms::moments;
use crate::profile::{Receipts, WorkloadProfile};
use serde::{Deserialize, Serialize};

/// Share of a broker node's deliveries that is used.
pub const TARGET_BROKER: f64 = 0.60;

/// The broker at peak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Publications into it per second.
    pub publishes_per_s: f64,
    /// Its deliveries to nodes per second.
    pub deliveries_per_s: f64,
    /// Of these, what messages alone make.
    pub message_deliveries_per_s: f64,
    /// Nodes that have a member of a room, on average.
    pub nodes_per_room: f64,
    /// Deliveries per second that one broker node carries at most.
    pub capacity_per_node: f64,
    /// Share of it that is used.
    pub target_utilisation: f64,
    /// Broker nodes.
    pub nodes: u64,
}

/// Nodes that have at least one of `members`, if these are spread at random over `nodes`:
/// S (1 − (1 − 1/S)ⁿ). With more nodes a message has to reach more of them.
pub fn nodes_touched(nodes: u64, members: f64) -> f64 {
    let s = nodes.max(1) as f64;
    s * (1.0 - (1.0 - 1.0 / s).powf(members))
}

/// The broker that `nodes` nodes need; none if there is one node.
pub fn broker(
    workload: &WorkloadProfile,
    load: &Load,
    nodes: u64,
    capacity: f64,
) -> Option<Broker> {
    if nodes < 2 {
        return None;
    }
    // The room of a random author, who is one of its members.
    let sizes = moments(workload);
    let touched = nodes_touched(nodes, sizes.others + 1.0);
    let joins = if workload.join_leave { 2.0 * load.subscribes_per_s } else { 0.0 };
    // A receipt for the author goes to the one node that has the author; merged ones go from one
    // node to all that have the room.
    let (receipts_in, receipts_out) = match workload.receipts {
        Receipts::Off => (0.0, 0.0),
        Receipts::Author => (load.receipts_in_per_s, load.receipts_in_per_s),
        Receipts::Broadcast => (load.receipts_in_per_s, load.receipts_in_per_s * touched),
        Receipts::Watermark => {
            let merged = load.receipt_deliveries_per_s / (sizes.others + 1.0);
            (merged, merged * touched)
        }
    };
    let to_rooms = load.messages_in_per_s + load.typing_in_per_s + joins;
    let deliveries = to_rooms * touched + receipts_out;
    let used = capacity * TARGET_BROKER;
    let broker_nodes = (deliveries / used - 1e-9).ceil().max(1.0);
    Some(Broker {
        publishes_per_s: to_rooms + receipts_in,
        deliveries_per_s: deliveries,
        message_deliveries_per_s: load.messages_in_per_s * touched,
        nodes_per_room: touched,
        capacity_per_node: capacity,
        target_utilisation: TARGET_BROKER,
        nodes: broker_nodes as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load::load;

    #[test]
    fn more_nodes_make_more_work_for_the_broker() {
        let example = WorkloadProfile { peak_multiplier: 1.0, ..WorkloadProfile::default() };
        let check = |nodes, touched: f64, deliveries: f64, brokers| {
            assert!((nodes_touched(nodes, 50.0) - touched).abs() < 0.05);
            let found = broker(&example, &load(&example, true), nodes, 650_000.0).unwrap();
            assert!((found.deliveries_per_s / deliveries - 1.0).abs() < 0.005, "{found:?}");
            assert_eq!(found.nodes, brokers);
        };
        check(17, 16.2, 270_000.0, 1);
        check(51, 32.1, 534_000.0, 2);
        assert_eq!(broker(&example, &load(&example, true), 1, 650_000.0), None);
        assert_eq!(nodes_touched(1, 50.0), 1.0);
    }
}
