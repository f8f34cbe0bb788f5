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

/// Fits `CPU = base + Σ cost × rate` to the steps, with no cost below zero. Relative errors count,
/// so that the small steps of one ramp are not drowned by the large ones of another.
///
/// Costs of things that always come together (deliveries and their bytes, when every step had the
/// same payload) cannot be told apart: their sum is right and its parts are not.
pub fn cost(steps: &[Step]) -> Result<CostModel, NoModel> {
    let nothing = |why: String| NoModel { why, best: CostModel::default() };
    if steps.len() <= COEFFICIENTS {
        let n = steps.len();
        return Err(nothing(format!("{COEFFICIENTS} costs cannot be fitted to {n} steps")));
    }
    let rows: Vec<Vec<f64>> = steps.iter().map(|step| row(&Rates::from(step)).to_vec()).collect();
    let y: Vec<f64> = steps.iter().map(|step| step.server_cpu_us_per_s).collect();
    let weights: Vec<f64> = y.iter().map(|y| 1.0 / y.max(QUIET_US_PER_S)).collect();
    let fit = nnls::solve_weighted(&rows, &y, &weights)
        .ok_or_else(|| nothing("a step has a figure that is not a number".into()))?;
    let worst = fit.residuals.iter().zip(&weights).map(|(r, w)| (r * w).abs()).enumerate();
    let (at, worst) = worst.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
    let [base, connection, connect, publish, delivery, byte, recovery] = coefficients(&fit);
    let model = CostModel {
        base_us_per_s: base,
        connection_us_per_s: connection,
        connect_us: connect,
        publish_us: publish,
        delivery_us: delivery,
        byte_us: byte,
        recovery_us: recovery,
        r_squared: fit.r_squared,
        worst_residual_ratio: worst,
    };
    let (r_squared, percent) = (fit.r_squared, worst * 100.0);
    let step = steps.get(at).map(|s| format!("{} at {}", s.ramp, s.offered)).unwrap_or_default();
    let why = if r_squared <= COST_R_SQUARED_MIN {
        format!("the model explains too little: R² = {r_squared:.3}, needs {COST_R_SQUARED_MIN}")
    } else if worst >= COST_WORST_RESIDUAL_MAX {
        let most = COST_WORST_RESIDUAL_MAX * 100.0;
        format!("the model misses step {step} by {percent:.0} %, allowed are {most:.0} %")
    } else {
        return Ok(model);
    };
    Err(NoModel { why, best: model })
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
            let found = cost(&ramps(noise)).unwrap();
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
        let error = cost(&steps).unwrap_err();
        assert!(error.best.connect_us > 0.0, "{error:?}");
        assert!(error.why.contains("explains too little") || error.why.contains("R3"), "{error}");
        assert!(cost(&steps[..7]).unwrap_err().why.contains("7 steps"));
        steps[0].connections = f64::NAN;
        assert!(cost(&steps).unwrap_err().why.contains("not a number"));
    }

    #[test]
    fn the_noise_of_quiet_steps_does_not_count() {
        let mut steps = ramps(0.0);
        // An idle step that used twice what it should: 2,000 µs are nothing.
        steps.push(Step { server_cpu_us_per_s: 5_500.0, ..Step::default() });
        assert!(cost(&steps).is_ok());
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
}
