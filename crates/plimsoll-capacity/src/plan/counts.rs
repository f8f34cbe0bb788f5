//! From limits to numbers of nodes, with some of them lost.

use super::limits::{Factor, Limit};
use super::scaling::{Law, NODES_MAX, carried};
use super::{NoNumber, Survive};

/// Share of a node's capacity that survivors may use until the lost node is back.
pub const SURVIVORS_SHARE: f64 = 0.85;
/// Seconds within which all clients of what was lost should be back.
pub const RECONNECT_TARGET_S: f64 = 30.0;

/// Which of the two demands of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// At peak.
    Peak,
    /// The rest of the day.
    OffPeak,
}

/// How the survivors take the clients back.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// Clients per second that one node takes.
    pub per_node: f64,
    /// All clients.
    pub clients: f64,
}

/// What the counts are made of.
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    /// Limits of a node.
    pub limits: &'a [Limit],
    /// How nodes add up.
    pub law: Law,
    /// Zones.
    pub zones: u64,
    /// How clients come back, if that is known.
    pub reconnect: Option<Reconnect>,
}

/// Numbers of nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// For each limit.
    pub each: Vec<u64>,
    /// For all: the largest of them, at least 1.
    pub needed: u64,
    /// One more than is needed to carry the load, and more if survivors would be too full.
    pub survive_node: Option<u64>,
    /// So many that the other zones carry the load.
    pub survive_zone: Option<u64>,
    /// What to run.
    pub to_run: u64,
    /// Whether `to_run` is more than its count above, so that clients are back in time.
    pub raised_for_reconnects: bool,
}

impl Counting<'_> {
    /// The law of a factor.
    pub fn law(&self, factor: Factor) -> Law {
        if factor.is_shared() { self.law } else { Law::LINEAR }
    }

    /// The counts, or why there is none.
    pub fn counts(&self, hours: Hours, survive: Survive) -> Result<Counts, NoNumber> {
        let mut each = Vec::new();
        for limit in self.limits {
            let nodes = self.nodes(limit, hours, limit.target);
            each.push(nodes.ok_or_else(|| self.no_number(limit, hours))?);
        }
        let needed = each.iter().copied().max().unwrap_or_default().max(1);
        // With a law that falls, the most that one resource needs may be too many for another.
        for limit in self.limits {
            if !self.carries(limit, hours, limit.target, needed) {
                return Err(self.no_number(limit, hours));
            }
        }
        let survive_node = self.with_a_node_lost(hours, needed);
        let survive_zone = self.with_a_zone_lost(hours, needed);
        let counted = match survive {
            Survive::Nothing => Some(needed),
            Survive::Node => survive_node,
            Survive::Zone => survive_zone,
        };
        let raised = counted.map(|n| n.max(self.for_reconnects(survive)));
        let to_run = raised.filter(|n| self.all_carry(hours, *n));
        let Some(to_run) = to_run else {
            return Err(self.no_spare(survive, needed));
        };
        let raised_for_reconnects = Some(to_run) != counted;
        Ok(Counts { each, needed, survive_node, survive_zone, to_run, raised_for_reconnects })
    }

    fn nodes(&self, limit: &Limit, hours: Hours, share: f64) -> Option<u64> {
        self.law(limit.factor).nodes(demand(limit, hours), limit.usable(share))
    }

    fn carries(&self, limit: &Limit, hours: Hours, share: f64, nodes: u64) -> bool {
        let multiple = self.law(limit.factor).multiple(nodes);
        carried(demand(limit, hours), limit.usable(share) * multiple)
    }

    fn all_carry(&self, hours: Hours, nodes: u64) -> bool {
        let fits = nodes <= NODES_MAX;
        fits && self.limits.iter().all(|limit| self.carries(limit, hours, limit.target, nodes))
    }

    fn with_a_node_lost(&self, hours: Hours, needed: u64) -> Option<u64> {
        let mut survivors = needed;
        for limit in self.limits {
            survivors = survivors.max(self.nodes(limit, hours, SURVIVORS_SHARE)?);
        }
        let enough = |limit| self.carries(limit, hours, SURVIVORS_SHARE, survivors);
        let nodes = survivors + 1;
        (self.limits.iter().all(enough) && self.all_carry(hours, nodes)).then_some(nodes)
    }

    fn with_a_zone_lost(&self, hours: Hours, needed: u64) -> Option<u64> {
        let others = self.zones.saturating_sub(1).max(1);
        let in_a_zone = needed.div_ceil(others);
        let nodes = self.zones * in_a_zone;
        let left = others * in_a_zone;
        (self.all_carry(hours, left) && self.all_carry(hours, nodes)).then_some(nodes)
    }

    /// Nodes with which the clients of what is lost are back in time.
    fn for_reconnects(&self, survive: Survive) -> u64 {
        let Some(Reconnect { per_node, clients }) = self.reconnect else { return 0 };
        let x = clients / (RECONNECT_TARGET_S * per_node);
        match survive {
            Survive::Nothing => 0,
            // n (n − 1) ≥ x
            Survive::Node => ceil(f64::midpoint(1.0, (1.0 + 4.0 * x).sqrt())),
            // n (Z − 1) ≥ x, in whole zones
            Survive::Zone => {
                let others = self.zones.saturating_sub(1).max(1);
                ceil(x / others as f64).next_multiple_of(self.zones.max(1))
            }
        }
    }

    fn no_number(&self, limit: &Limit, hours: Hours) -> NoNumber {
        let law = self.law(limit.factor);
        let best = law.best();
        let most = (limit.usable(limit.target) * law.multiple(best)).max(0.0);
        let demand = demand(limit, hours);
        let why = if limit.usable(limit.target) <= 0.0 {
            "a node without any load already uses more than its share".to_owned()
        } else if self.law == Law::LINEAR || !limit.factor.is_shared() || best == NODES_MAX {
            format!("a plan of more than {NODES_MAX} nodes is no plan, or the law allows no more")
        } else {
            format!(
                "by the scalability law (sigma {}, kappa {}) the most is reached with {best} \
                 nodes, and more do less",
                law.sigma, law.kappa
            )
        };
        NoNumber { factor: limit.factor, demand, most, best_nodes: best, why }
    }

    fn no_spare(&self, survive: Survive, needed: u64) -> NoNumber {
        let (factor, demand, most) =
            self.limits.first().map_or((Factor::Connections, 0.0, 0.0), |limit| {
                (limit.factor, limit.demand[0], limit.usable(limit.target))
            });
        // The shared resource with the least left is the one that a further node does not help.
        let least = self.limits.iter().filter(|l| l.factor.is_shared()).map(|l| {
            let most = l.usable(l.target) * self.law.multiple(needed);
            (l.factor, l.demand[0], most)
        });
        let (factor, demand, most) = least
            .min_by(|a, b| (a.2 / a.1.max(1e-9)).total_cmp(&(b.2 / b.1.max(1e-9))))
            .unwrap_or((factor, demand, most));
        let what = survive.label();
        let why = format!(
            "{needed} nodes carry the load, but none can be added so that {what} may be lost"
        );
        NoNumber { factor, demand, most, best_nodes: self.law.best(), why }
    }
}

fn demand(limit: &Limit, hours: Hours) -> f64 {
    let [peak, off_peak] = limit.demand;
    match hours {
        Hours::Peak => peak,
        Hours::OffPeak => off_peak,
    }
}

/// The next whole number, but not for what a quotient has too much.
fn ceil(value: f64) -> u64 {
    (value - 1e-9).ceil().clamp(0.0, (NODES_MAX + 1) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(factor: Factor, capacity: f64, target: f64, demand: f64) -> Limit {
        let demand = [demand, demand / 2.0];
        Limit { factor, capacity, reserved: 0.0, target, demand, origin: String::new() }
    }

    fn counting(limits: &[Limit]) -> Counting<'_> {
        Counting { limits, law: Law::LINEAR, zones: 3, reconnect: None }
    }

    #[test]
    fn survivors_must_not_be_too_full() {
        // With no headroom at all 10 nodes are full: 12 survivors at 85 %, and one more.
        let full = [limit(Factor::Connections, 100.0, 1.0, 1_000.0)];
        let counts = counting(&full).counts(Hours::Peak, Survive::Node).unwrap();
        assert_eq!((counts.needed, counts.survive_node, counts.to_run), (10, Some(13), 13));
        let usual = [limit(Factor::Connections, 100.0, 0.7, 1_000.0)];
        let counts = counting(&usual).counts(Hours::Peak, Survive::Zone).unwrap();
        assert_eq!(
            (counts.needed, counts.survive_node, counts.survive_zone),
            (15, Some(16), Some(24))
        );
        assert_eq!(counts.to_run, 24);
        let off = counting(&usual).counts(Hours::OffPeak, Survive::Nothing).unwrap();
        assert_eq!((off.needed, off.to_run), (8, 8));
    }

    #[test]
    fn clients_must_be_back_in_time() {
        let limits = [limit(Factor::Connections, 100_000.0, 0.7, 1e6)];
        let check = |per_node, survive, to_run, raised| {
            let reconnect = Some(Reconnect { per_node, clients: 1e6 });
            let counts = Counting { reconnect, ..counting(&limits) };
            let counts = counts.counts(Hours::Peak, survive).unwrap();
            assert_eq!((counts.to_run, counts.raised_for_reconnects), (to_run, raised));
        };
        check(5_000.0, Survive::Node, 16, false);
        // n (n - 1) >= 1e6 / (30 * 50) = 666.7
        check(50.0, Survive::Node, 27, true);
        // 2 n >= 1e6 / (30 * 200) = 166.7, in threes
        check(200.0, Survive::Zone, 84, true);
        check(50.0, Survive::Nothing, 15, false);
    }

    #[test]
    fn a_law_that_falls_leaves_nothing_to_spare() {
        let law = Law { sigma: 0.02, kappa: 4e-4 };
        let limits = [limit(Factor::MessageFanout, 100.0, 1.0, 100.0 * law.multiple(49))];
        let counts = Counting { law, ..counting(&limits) };
        assert_eq!(counts.counts(Hours::Peak, Survive::Nothing).unwrap().to_run, 49);
        let none = counts.counts(Hours::Peak, Survive::Node).unwrap_err();
        assert_eq!(none.factor, Factor::MessageFanout);
        let more = [limit(Factor::MessageFanout, 100.0, 1.0, 2_000.0)];
        let counts = Counting { law, ..counting(&more) };
        let none = counts.counts(Hours::Peak, Survive::Nothing).unwrap_err();
        assert_eq!(none.best_nodes, 49);
        assert!(none.to_string().contains("no number of nodes"), "{none}");
    }
}
