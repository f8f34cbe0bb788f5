//! A day's nodes, and a month's money.

use super::load::Load;
use crate::prices::Prices;
use crate::profile::WorkloadProfile;
use serde::{Deserialize, Serialize};

/// Hours of a month: 30 days.
pub const HOURS_PER_MONTH: f64 = 720.0;
const HOURS_PER_DAY: f64 = 24.0;
const DAYS_PER_MONTH: f64 = 30.0;
const SECONDS_PER_HOUR: f64 = 3_600.0;

/// Nodes over a day.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    /// Hours at peak.
    pub peak_hours: f64,
    /// Nodes then.
    pub peak_nodes: u64,
    /// Nodes in the other hours.
    pub off_peak_nodes: u64,
    /// Node-hours of a day.
    pub node_hours: f64,
    /// The same if the peak's nodes run all day.
    pub node_hours_fixed: f64,
}

impl Day {
    /// Peak and the rest.
    pub fn of(peak_hours: f64, peak_nodes: u64, off_peak_nodes: u64) -> Self {
        let (peak, off) = (peak_nodes as f64, off_peak_nodes as f64);
        Self {
            peak_hours,
            peak_nodes,
            off_peak_nodes,
            node_hours: peak * peak_hours + off * (HOURS_PER_DAY - peak_hours),
            node_hours_fixed: peak * HOURS_PER_DAY,
        }
    }
}

/// What one hour costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HourCost {
    /// Nodes.
    pub nodes: f64,
    /// Traffic to the internet.
    pub egress: f64,
    /// Broker, balancers and monitoring.
    pub other: f64,
}

/// Money of a month of 720 hours, in the currency of the prices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// ISO code.
    pub currency: String,
    /// Price of a node per hour.
    pub node_per_hour: f64,
    /// Nodes.
    pub nodes: f64,
    /// Broker.
    pub broker: f64,
    /// Load balancers.
    pub load_balancer: f64,
    /// Traffic to the internet.
    pub egress: f64,
    /// Monitoring.
    pub monitoring: f64,
    /// All together.
    pub total: f64,
    /// All together, if the peak's nodes run all day.
    pub total_fixed_fleet: f64,
    /// An hour at peak.
    pub peak_hour: HourCost,
    /// Another hour.
    pub off_peak_hour: HourCost,
    /// Gigabytes (10⁹ bytes) to clients.
    pub egress_gb: f64,
    /// Deliveries.
    pub deliveries: f64,
    /// For each connection that is there all month.
    pub per_connection: f64,
    /// For each million deliveries; none if nothing is delivered.
    pub per_million_deliveries: Option<f64>,
    /// For each monthly active user.
    pub per_monthly_user: f64,
}

/// What the cost is made of.
#[derive(Clone, Copy, Debug)]
pub struct Bill<'a> {
    /// Workload.
    pub workload: &'a WorkloadProfile,
    /// Load at peak, and in other hours.
    pub loads: [&'a Load; 2],
    /// Nodes over the day.
    pub day: &'a Day,
    /// Broker nodes; they run all day.
    pub broker_nodes: u64,
    /// Zones: one balancer in each.
    pub zones: u64,
    /// Prices.
    pub prices: &'a Prices,
    /// Price of a node per hour.
    pub node_per_hour: f64,
}

impl Bill<'_> {
    /// The cost.
    pub fn cost(&self) -> Cost {
        let Self { workload, loads: [peak, off_peak], day, prices, .. } = *self;
        let off_hours = HOURS_PER_DAY - day.peak_hours;
        let month =
            |peak: f64, off: f64| (peak * day.peak_hours + off * off_hours) * DAYS_PER_MONTH;
        let gb = |load: &Load| load.wire_bytes_per_s * SECONDS_PER_HOUR / 1e9;
        let sent = |load: &Load| load.deliveries_per_s * SECONDS_PER_HOUR;
        let egress_gb = month(gb(peak), gb(off_peak));
        let deliveries = month(sent(peak), sent(off_peak));
        let node_hours = day.node_hours * DAYS_PER_MONTH;
        let nodes = node_hours * self.node_per_hour;
        let monitoring = node_hours * prices.monitoring.cost_per_node_hour;
        let broker_per_hour = self.broker_nodes as f64 * prices.broker.cost_per_hour;
        let balancers_per_hour = self.zones as f64 * prices.load_balancer.cost_per_hour;
        let egress = egress_gb * prices.egress.cost_per_gb;
        let broker = broker_per_hour * HOURS_PER_MONTH;
        let per_gb = prices.load_balancer.cost_per_gb;
        let load_balancer = balancers_per_hour * HOURS_PER_MONTH + egress_gb * per_gb;
        let total = nodes + broker + load_balancer + egress + monitoring;
        let more_hours = (day.node_hours_fixed - day.node_hours) * DAYS_PER_MONTH;
        let per_node_hour = self.node_per_hour + prices.monitoring.cost_per_node_hour;
        let hour = |count: u64, load: &Load| HourCost {
            nodes: count as f64 * self.node_per_hour,
            egress: gb(load) * prices.egress.cost_per_gb,
            other: broker_per_hour
                + balancers_per_hour
                + gb(load) * per_gb
                + count as f64 * prices.monitoring.cost_per_node_hour,
        };
        let users = workload.concurrent_users as f64;
        Cost {
            currency: prices.currency.clone(),
            node_per_hour: self.node_per_hour,
            nodes,
            broker,
            load_balancer,
            egress,
            monitoring,
            total,
            total_fixed_fleet: total + more_hours * per_node_hour,
            peak_hour: hour(day.peak_nodes, peak),
            off_peak_hour: hour(day.off_peak_nodes, off_peak),
            egress_gb,
            deliveries,
            per_connection: total / users,
            per_million_deliveries: (deliveries > 0.0).then(|| total / deliveries * 1e6),
            per_monthly_user: total / (users * workload.monthly_users_per_concurrent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load::load;
    use crate::prices::EMBEDDED;

    #[test]
    fn a_month_is_the_sum_of_its_hours() {
        let workload = WorkloadProfile::default();
        let (peak, off) = (load(&workload, true), load(&workload, false));
        let (day, prices) = (Day::of(4.0, 56, 29), Prices::read(EMBEDDED).unwrap());
        let bill = Bill {
            workload: &workload,
            loads: [&peak, &off],
            day: &day,
            broker_nodes: 2,
            zones: 3,
            prices: &prices,
            node_per_hour: 0.5,
        };
        let cost = bill.cost();
        assert_eq!(day.node_hours, 804.0);
        assert!((cost.nodes - 804.0 * 30.0 * 0.5).abs() < 1e-6);
        let hour = |h: HourCost| h.nodes + h.egress + h.other;
        let hours = hour(cost.peak_hour) * 4.0 + hour(cost.off_peak_hour) * 20.0;
        assert!((hours * 30.0 / cost.total - 1.0).abs() < 1e-9);
        let parts = cost.nodes + cost.broker + cost.load_balancer + cost.egress + cost.monitoring;
        assert!((parts / cost.total - 1.0).abs() < 1e-12);
        let fixed = cost.total + (56.0 * 24.0 - 804.0) * 30.0 * 0.52;
        assert!((cost.total_fixed_fleet / fixed - 1.0).abs() < 1e-12);
        assert!((cost.per_connection - cost.total / 1e6).abs() < 1e-12);
        assert!((cost.per_monthly_user * 20.0 / cost.per_connection - 1.0).abs() < 1e-12);
    }
}
