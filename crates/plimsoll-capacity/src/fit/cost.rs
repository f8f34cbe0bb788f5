//! What a connection, a publication, a delivery and the rest cost in CPU time.

use super::nnls;
use crate::measured::{CostModel, Step};

/// A model is kept above this share of explained variance.
pub const COST_R_SQUARED_MIN: f64 = 0.97;
/// And below this worst residual, as a share of the measured value.
pub const COST_WORST_RESIDUAL_MAX: f64 = 0.15;
/// Two hundredths of a core. A step that used less is judged as if it had used this: the machine's
/// own noise is a larger share of it than any bound on residuals.
pub const QUIET_US_PER_S: f64 = 20_000.0;
/// Figures that are fitted: a step more than these is the least that can show an error.
const COEFFICIENTS: usize = 7;
/// Values of `saving` that are tried, from none up to just below the most there can be.
const SAVINGS: u32 = 40;

/// What goes on in a second: the inputs of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Connections at one time.
    pub connections: f64,
    /// Connects per second.
    pub connects_per_s: f64,
    /// Publications per second.
    pub publishes_per_s: f64,
    /// Deliveries per second.
    pub deliveries_per_s: f64,
    /// Bytes delivered per second.
    pub bytes_per_s: f64,
    /// Subscribes with recovery per second.
    pub recoveries_per_s: f64,
}

impl From<&Step> for Rates {
    fn from(step: &Step) -> Self {
        Self {
            connections: step.connections,
            connects_per_s: step.connects_per_s,
            publishes_per_s: step.publishes_per_s,
            deliveries_per_s: step.deliveries_per_s,
            bytes_per_s: step.bytes_per_s,
            recoveries_per_s: step.recoveries_per_s,
        }
    }
}

impl CostModel {
    /// CPU microseconds per second that these rates cost.
    pub fn predict(&self, rates: &Rates) -> f64 {
        let demand = self.demand(rates);
        demand / (1.0 + self.saving * demand)
    }

    /// The demand that takes so many CPU microseconds per second: the inverse of what
    /// [`CostModel::predict`] does with it. Infinite when no demand takes so many.
    pub fn demand_at(&self, cpu_us_per_s: f64) -> f64 {
        let left = 1.0 - self.saving * cpu_us_per_s;
        if left > 0.0 { cpu_us_per_s / left } else { f64::INFINITY }
    }

    /// The sum of all costs as they are on a node that is nearly idle.
    fn demand(&self, rates: &Rates) -> f64 {
        self.base_us_per_s
            + self.connection_us_per_s * rates.connections
            + self.connect_us * rates.connects_per_s
            + self.publish_us * rates.publishes_per_s
            + self.delivery_us * rates.deliveries_per_s
            + self.byte_us * rates.bytes_per_s
            + self.recovery_us * rates.recoveries_per_s
    }
}

/// The figures give no model that one may use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct NoModel {
    /// Why, for people.
    pub why: String,
    /// The best that was found, to look at; all zero when there was nothing to fit.
    pub best: CostModel,
}

/// Fits `CPU = demand / (1 + saving × demand)` with `demand = base + Σ cost × rate` to the steps of
/// a server with so many cores, with no cost below zero. Relative errors count, so that the small
/// steps of one ramp are not drowned by the large ones of another.
///
/// For each of some values of `saving` the costs are fitted to `demand` as it follows from the CPU
/// time, and the best is kept.
///
/// Costs of things that always come together (deliveries and their bytes, when every step had the
/// same payload) cannot be told apart: their sum is right and its parts are not.
pub fn cost(steps: &[Step], cores: f64) -> Result<CostModel, NoModel> {
    let nothing = |why: String| NoModel { why, best: CostModel::default() };
    if steps.len() <= COEFFICIENTS {
        let n = steps.len();
        return Err(nothing(format!("{COEFFICIENTS} costs cannot be fitted to {n} steps")));
    }
    let per_us = 1.0 / (1e6 * cores.max(1.0));
    let tried = (0..SAVINGS).map(|n| f64::from(n) / f64::from(SAVINGS) * per_us);
    let found = tried.filter_map(|saving| with_saving(steps, saving));
    let Some((model, at, _)) = found.min_by(|a, b| a.2.total_cmp(&b.2)) else {
        return Err(nothing("a step has a figure that is not a number".into()));
    };
    let (r_squared, percent) = (model.r_squared, model.worst_residual_ratio * 100.0);
    let step = steps.get(at).map(|s| format!("{} at {:.0}", s.ramp, s.offered)).unwrap_or_default();
    let why = if r_squared <= COST_R_SQUARED_MIN {
        format!("the model explains too little: R² = {r_squared:.3}, needs {COST_R_SQUARED_MIN}")
    } else if model.worst_residual_ratio >= COST_WORST_RESIDUAL_MAX {
        let most = COST_WORST_RESIDUAL_MAX * 100.0;
        format!("the model misses step {step} by {percent:.0} %, allowed are {most:.0} %")
    } else {
        return Ok(model);
    };
    Err(NoModel { why, best: model })
}

/// The best model with this saving, its worst step, and the sum of its squared relative errors.
fn with_saving(steps: &[Step], saving: f64) -> Option<(CostModel, usize, f64)> {
    let rows: Vec<Vec<f64>> = steps.iter().map(|step| row(&Rates::from(step)).to_vec()).collect();
    let used: Vec<f64> = steps.iter().map(|step| step.server_cpu_us_per_s).collect();
    // Of a step that used more than this saving allows, nothing can be said.
    let left: Vec<f64> = used.iter().map(|used| 1.0 - saving * used).collect();
    if !left.iter().all(|left| *left > 0.0) {
        return None;
    }
    let demands: Vec<f64> = used.iter().zip(&left).map(|(used, left)| used / left).collect();
    // An error of the demand is one of the CPU time by its derivative, the square of `left`.
    let relative = |(used, left): (&f64, &f64)| left * left / used.max(QUIET_US_PER_S);
    let weights: Vec<f64> = used.iter().zip(&left).map(relative).collect();
    let fit = nnls::solve_weighted(&rows, &demands, &weights)?;
    let [base, connection, connect, publish, delivery, byte, recovery] = coefficients(&fit);
    let mut model = CostModel {
        base_us_per_s: base,
        connection_us_per_s: connection,
        connect_us: connect,
        publish_us: publish,
        delivery_us: delivery,
        byte_us: byte,
        recovery_us: recovery,
        saving,
        r_squared: 0.0,
        worst_residual_ratio: 0.0,
    };
    let mean = used.iter().sum::<f64>() / used.len() as f64;
    let (mut missed, mut spread, mut sum) = (0.0, 0.0, 0.0);
    let mut worst = (0, 0.0);
    for (at, (step, used)) in steps.iter().zip(&used).enumerate() {
        let error = model.predict(&Rates::from(step)) - used;
        let ratio = error.abs() / used.max(QUIET_US_PER_S);
        missed += error * error;
        spread += (used - mean) * (used - mean);
        sum += ratio * ratio;
        if ratio > worst.1 {
            worst = (at, ratio);
        }
    }
    model.r_squared = if spread > 0.0 { 1.0 - missed / spread } else { 0.0 };
    model.worst_residual_ratio = worst.1;
    Some((model, worst.0, sum))
}

fn row(rates: &Rates) -> [f64; COEFFICIENTS] {
    [
        1.0,
        rates.connections,
        rates.connects_per_s,
        rates.publishes_per_s,
        rates.deliveries_per_s,
        rates.bytes_per_s,
        rates.recoveries_per_s,
    ]
}

fn coefficients(fit: &nnls::Fit) -> [f64; COEFFICIENTS] {
    let mut all = [0.0; COEFFICIENTS];
    all.iter_mut().zip(&fit.coefficients).for_each(|(to, from)| *to = *from);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: CostModel = CostModel {
        base_us_per_s: 3_000.0,
        connection_us_per_s: 1.5,
        connect_us: 90.0,
        publish_us: 12.0,
        delivery_us: 2.5,
        byte_us: 0.002,
        recovery_us: 40.0,
        saving: 0.0,
        r_squared: 1.0,
        worst_residual_ratio: 0.0,
    };

    /// Ramps of one thing at a time, as they are measured, with `noise` as relative error.
    fn ramps(noise: f64) -> Vec<Step> {
        let mut steps = Vec::new();
        for i in 1..=6u32 {
            let x = f64::from(i);
            let step = |ramp: &str, rates: Rates| Step {
                ramp: ramp.into(),
                offered: x,
                connections: rates.connections,
                connects_per_s: rates.connects_per_s,
                publishes_per_s: rates.publishes_per_s,
                deliveries_per_s: rates.deliveries_per_s,
                bytes_per_s: rates.bytes_per_s,
                recoveries_per_s: rates.recoveries_per_s,
                server_cpu_us_per_s: TRUTH.predict(&rates)
                    * (1.0 + noise * if i % 2 == 0 { 1.0 } else { -1.0 }),
                ..Step::default()
            };
            let of = Rates::default();
            let fan_out = |payload: f64| Rates {
                connections: 2_000.0,
                publishes_per_s: 10.0 * x,
                deliveries_per_s: 20_000.0 * x,
                bytes_per_s: 20_000.0 * x * payload,
                ..of
            };
            steps.extend([
                step("R1", Rates { connections: 5_000.0 * x, ..of }),
                step("R2", Rates { connections: 1_000.0, connects_per_s: 500.0 * x, ..of }),
                step("R3", Rates { connections: 500.0, publishes_per_s: 4_000.0 * x, ..of }),
                step("R4", fan_out(100.0)),
                step("R4", fan_out(2_000.0)),
                step("R5", Rates { connections: 500.0, recoveries_per_s: 800.0 * x, ..of }),
            ]);
        }
        steps
    }

    #[test]
    fn costs_are_found_in_clean_and_in_noisy_steps() {
        let check = |noise: f64, within: f64| {
            let found = cost(&ramps(noise), 1.0).unwrap();
            for (found, truth) in [
                (found.connection_us_per_s, TRUTH.connection_us_per_s),
                (found.connect_us, TRUTH.connect_us),
                (found.publish_us, TRUTH.publish_us),
                (found.delivery_us, TRUTH.delivery_us),
                (found.byte_us, TRUTH.byte_us),
                (found.recovery_us, TRUTH.recovery_us),
            ] {
                assert!((found / truth - 1.0).abs() < within, "{found} for {truth}");
            }
            assert!(found.r_squared > 0.97 && found.worst_residual_ratio < 0.15);
        };
        check(0.0, 1e-6);
        check(0.03, 0.10);
    }

    #[test]
    fn what_is_not_linear_gives_no_model() {
        let mut steps = ramps(0.0);
        for step in &mut steps {
            if step.ramp == "R3" {
                step.server_cpu_us_per_s *= step.offered;
            }
        }
        let error = cost(&steps, 1.0).unwrap_err();
        assert!(error.best.connect_us > 0.0, "{error:?}");
        assert!(error.why.contains("explains too little") || error.why.contains("R3"), "{error}");
        assert!(cost(&steps[..7], 1.0).unwrap_err().why.contains("7 steps"));
        steps[0].connections = f64::NAN;
        assert!(cost(&steps, 1.0).unwrap_err().why.contains("not a number"));
    }

    #[test]
    fn the_noise_of_quiet_steps_does_not_count() {
        let mut steps = ramps(0.0);
        // An idle step that used twice what it should: 2,000 µs are nothing.
        steps.push(Step { server_cpu_us_per_s: 5_500.0, ..Step::default() });
        assert!(cost(&steps, 1.0).is_ok());
    }

    #[test]
    fn prediction() {
        let rates = Rates {
            connections: 1.0,
            connects_per_s: 10.0,
            publishes_per_s: 100.0,
            deliveries_per_s: 1_000.0,
            bytes_per_s: 10_000.0,
            recoveries_per_s: 1.0,
        };
        let expect = 3_000.0 + 1.5 + 900.0 + 1_200.0 + 2_500.0 + 20.0 + 40.0;
        assert!((TRUTH.predict(&rates) - expect).abs() < 1e-9);
    }

    #[test]
    fn what_a_busy_node_saves_is_found() {
        let truth = CostModel { saving: 0.6e-6, ..TRUTH };
        let mut steps = ramps(0.0);
        for step in &mut steps {
            step.server_cpu_us_per_s = truth.predict(&Rates::from(&*step));
        }
        let found = cost(&steps, 1.0).unwrap();
        assert!((found.saving / truth.saving - 1.0).abs() < 1e-6, "{found:?}");
        assert!((found.delivery_us / truth.delivery_us - 1.0).abs() < 1e-6, "{found:?}");
        let rates = Rates { deliveries_per_s: 1e5, ..Rates::default() };
        let demand = found.demand_at(found.predict(&rates));
        assert!((demand - 253_000.0).abs() < 1.0, "{demand}");
        assert_eq!(found.demand_at(2e6), f64::INFINITY);
        assert_eq!(TRUTH.demand_at(2e6), 2e6);
    }
}
