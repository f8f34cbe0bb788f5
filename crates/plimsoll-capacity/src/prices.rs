//! What things cost: one dated table, which anybody can replace by their own.

use crate::profile::{InputErrors, PRICE_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The table that is used when no other is given.
pub const EMBEDDED: &str = include_str!("prices.toml");

/// Prices. Money is in `currency`; per hour, or per gigabyte (10⁹ bytes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When they were looked up, as `2026-11-24`.
    pub date: String,
    /// ISO code of the currency, as `USD`.
    pub currency: String,
    /// The node of a plan that names none.
    pub default_node: String,
    /// Nodes by name, per hour.
    pub nodes: BTreeMap<String, f64>,
    /// A node of the broker.
    pub broker: BrokerPrice,
    /// A load balancer; there is one in each zone.
    pub load_balancer: BalancerPrice,
    /// Traffic to the internet.
    pub egress: EgressPrice,
    /// Watching it.
    pub monitoring: MonitoringPrice,
}

/// A node of the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerPrice {
    /// What it is, for people.
    pub name: String,
    /// Per hour.
    pub cost_per_hour: f64,
    /// Deliveries per second that one of it carries at most.
    pub deliveries_per_second: f64,
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancerPrice {
    /// Per hour.
    pub cost_per_hour: f64,
    /// For each gigabyte that passes it.
    pub cost_per_gb: f64,
}

/// Traffic to the internet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressPrice {
    /// For each gigabyte.
    pub cost_per_gb: f64,
}

/// Watching it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitoringPrice {
    /// For each node and hour.
    pub cost_per_node_hour: f64,
}

/// Why a table of prices cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricesError {
    /// It is not TOML, or not of this form.
    #[error("{0}")]
    Form(String),
    /// A figure is out of range.
    #[error("{0}")]
    Value(#[from] InputErrors),
}

impl Prices {
    /// The table in `text` (TOML).
    pub fn read(text: &str) -> Result<Self, PricesError> {
        let prices: Self =
            toml::from_str(text).map_err(|e| PricesError::Form(e.to_string().trim().to_owned()))?;
        prices.check()?;
        Ok(prices)
    }

    /// Whether every figure is in range; all that are not.
    pub fn check(&self) -> Result<(), InputErrors> {
        let mut found = InputErrors::default();
        let mut price = |field: &str, value| found.within(field, value, 0.0, PRICE_MAX);
        price("broker.cost_per_hour", self.broker.cost_per_hour);
        price("load_balancer.cost_per_hour", self.load_balancer.cost_per_hour);
        price("load_balancer.cost_per_gb", self.load_balancer.cost_per_gb);
        price("egress.cost_per_gb", self.egress.cost_per_gb);
        price("monitoring.cost_per_node_hour", self.monitoring.cost_per_node_hour);
        for (name, cost) in &self.nodes {
            price(&format!("nodes.{name}"), *cost);
        }
        let carried = self.broker.deliveries_per_second;
        found.within("broker.deliveries_per_second", carried, 1.0, 1e12);
        if !self.nodes.contains_key(&self.default_node) {
            let allowed = format!("a name of [nodes]: {}", self.node_names());
            found.add("default_node", format!("{:?}", self.default_node), allowed);
        }
        let letters =
            self.currency.len() == 3 && self.currency.bytes().all(|b| b.is_ascii_uppercase());
        if !letters {
            found.add("currency", format!("{:?}", self.currency), "three letters, as USD".into());
        }
        found.none()
    }

    /// Price per hour of the node of this name.
    pub fn node(&self, name: &str) -> Result<f64, InputErrors> {
        self.nodes.get(name).copied().ok_or_else(|| {
            let mut found = InputErrors::default();
            found.add("node", format!("{name:?}"), format!("one of {}", self.node_names()));
            found
        })
    }

    fn node_names(&self) -> String {
        self.nodes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_table_is_good_and_dated() {
        let prices = Prices::read(EMBEDDED).unwrap();
        assert_eq!(prices.node(&prices.default_node).unwrap(), 0.5);
        assert_eq!(prices.date.len(), "2026-11-24".len());
        assert!(prices.node("golden").unwrap_err().to_string().contains("example, large"));
    }

    #[test]
    fn a_bad_table_is_told() {
        let check = |from: &str, to: &str, part: &str| {
            assert!(EMBEDDED.contains(from), "{from}");
            let error = Prices::read(&EMBEDDED.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("\"USD\"", "\"dollars\"", "currency");
        check("cost_per_gb = 0.05", "cost_per_gb = -0.05", "egress.cost_per_gb: -0.05");
        check("cost_per_gb = 0.05", "cost_per_gb = nan", "egress.cost_per_gb: NaN");
        check("example = 0.50", "sample = 0.50", "default_node");
        check("650_000", "0", "broker.deliveries_per_second: 0");
        check("[egress]", "[ingress]", "ingress");
    }
}
