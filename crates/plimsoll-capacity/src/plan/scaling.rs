//! How many nodes carry a load: linear, or by the Universal Scalability Law.

use serde::{Deserialize, Serialize};

/// Most nodes of a plan. A plan for more is a mistake in its input.
pub const NODES_MAX: u64 = 1_000_000;

/// N nodes do `N / (1 + σ(N−1) + κN(N−1))` times what one does.
///
/// Gunther's Universal Scalability Law: σ is contention for something shared, κ the price of
/// keeping all in step with all. With κ > 0 there is a number of nodes after which more do less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// Contention, 0 to 1.
    pub sigma: f64,
    /// Coherence, 0 to 1.
    pub kappa: f64,
}

impl Law {
    /// Nothing shared: N nodes do N times as much.
    pub const LINEAR: Self = Self { sigma: 0.0, kappa: 0.0 };

    /// What `nodes` do, as a multiple of what one does.
    pub fn multiple(&self, nodes: u64) -> f64 {
        let n = nodes as f64;
        let others = (n - 1.0).max(0.0);
        n / (1.0 + self.sigma * others + self.kappa * n * others)
    }

    /// The number of nodes that does the most, at most [`NODES_MAX`].
    pub fn best(&self) -> u64 {
        if self.kappa <= 0.0 {
            return NODES_MAX;
        }
        let top = ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt();
        let low = (top.min(NODES_MAX as f64) as u64).max(1);
        let high = (low + 1).min(NODES_MAX);
        if self.multiple(high) > self.multiple(low) { high } else { low }
    }

    /// Fewest nodes that carry `demand` if one carries `per_node`; none if no number does.
    pub fn nodes(&self, demand: f64, per_node: f64) -> Option<u64> {
        if demand <= 0.0 {
            return Some(0);
        }
        if per_node <= 0.0 {
            return None;
        }
        let carries = |n: u64| carried(demand, per_node * self.multiple(n));
        let (mut low, mut high) = (0, self.best());
        if !carries(high) {
            return None;
        }
        // Up to its best the law only rises.
        while high - low > 1 {
            let middle = u64::midpoint(low, high);
            if carries(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high)
    }
}

/// Whether `capacity` is enough for `demand`, but for what floating-point numbers add to a quotient
/// that is a whole number on paper.
pub fn carried(demand: f64, capacity: f64) -> bool {
    demand <= capacity * (1.0 + 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_laws_give_known_counts() {
        // 2.38 M frames per second, 50,000 for each node.
        let check = |sigma, kappa, nodes| {
            assert_eq!(Law { sigma, kappa }.nodes(2_380_000.0, 50_000.0), nodes, "{sigma} {kappa}");
        };
        check(0.0, 0.0, Some(48));
        check(0.005, 0.0, Some(63));
        check(0.01, 1e-5, Some(99));
        check(0.02, 4e-4, None);
        let peak = Law { sigma: 0.02, kappa: 4e-4 };
        assert_eq!(peak.best(), 49);
        assert!((50_000.0 * peak.multiple(peak.best()) - 845_000.0).abs() < 1_000.0);
        assert_eq!(Law { sigma: 1.0, kappa: 0.0 }.nodes(2.0, 1.0), None);
        assert_eq!(Law::LINEAR.nodes(50.0 * 1e6, 1.0), None);
        assert_eq!(Law::LINEAR.nodes(0.0, 1.0), Some(0));
        assert_eq!(Law::LINEAR.nodes(1.0, 0.0), None);
    }

    proptest! {
        #[test]
        fn the_count_is_the_fewest_that_carries(
            sigma in 0.0..1.0_f64, kappa in 0.0..0.01_f64, demand in 1.0..1e4_f64
        ) {
            let law = Law { sigma, kappa };
            match law.nodes(demand, 10.0) {
                Some(n) => {
                    prop_assert!(carried(demand, 10.0 * law.multiple(n)));
                    prop_assert!(n == 1 || !carried(demand, 10.0 * law.multiple(n - 1)));
                }
                None => prop_assert!(
                    (1..2_000).all(|n| !carried(demand, 10.0 * law.multiple(n)))
                ),
            }
        }
    }
}
