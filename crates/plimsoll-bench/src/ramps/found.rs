//! What the ramps found, and the file that is made of it. Pure.

use super::plan::RampId;
use plimsoll_capacity::fit;
use plimsoll_capacity::measured::{
    CapacityFile, CostModel, FORMAT, Fingerprint, Measured, MemoryModel, NotMeasured, Overload,
    Prediction, Resource, Step, Usl,
};
use std::collections::BTreeMap;

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Every step.
    pub steps: Vec<Step>,
    /// Which of them the cost model is fitted to.
    pub fitting: Vec<usize>,
    /// Knees.
    pub resources: BTreeMap<Resource, Measured>,
    /// Resident bytes of the server without connections, and for each.
    pub memory_base_and_connection: Option<(f64, f64)>,
    /// Bytes of the kernel for each connection.
    pub kernel_connection: Option<f64>,
    /// Resident bytes for each subscription beyond the first.
    pub memory_subscription: Option<f64>,
    /// What things cost.
    pub cost: Option<CostModel>,
    /// Scaling over workers.
    pub scaling: Option<Usl>,
    /// The check of the cost model.
    pub mixed: Option<Prediction>,
    /// Loads beyond the knee.
    pub overload: Vec<Overload>,
    /// What could not be measured.
    pub not_measured: Vec<NotMeasured>,
}

/// What the file says of the run itself.
#[derive(Clone, Debug)]
pub struct Heading {
    /// Machine and build.
    pub fingerprint: Fingerprint,
    /// RFC 3339.
    pub measured_at: String,
    /// Whether it was the quick form.
    pub quick: bool,
    /// Bound of p99.
    pub slo_p99_ms: f64,
}

impl Found {
    /// Something could not be measured.
    pub fn missing(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.not_measured.push(NotMeasured { what: what.into(), why: why.into() });
    }

    /// A knee, or that there is none.
    pub fn resource(&mut self, resource: Resource, measured: Option<Measured>, ramp: RampId) {
        match measured {
            Some(measured) => {
                self.resources.insert(resource, measured);
            }
            None => self.missing(
                name(resource),
                format!("{}: not even the smallest load kept the rules in time", ramp.name()),
            ),
        }
    }

    /// Fits the cost model to the steps so far that are good for it. A model that explains them
    /// too badly is not kept for the file; as the best there is it comes back all the same.
    pub fn fit_cost(&mut self, cores: f64) -> Result<CostModel, String> {
        let steps: Vec<Step> =
            self.fitting.iter().filter_map(|at| self.steps.get(*at)).cloned().collect();
        match fit::cost(&steps, cores) {
            Ok(cost) => {
                self.cost = Some(cost);
                Ok(cost)
            }
            Err(no) if no.best == CostModel::default() => Err(no.why),
            Err(no) => {
                self.missing("cost model", no.why);
                Ok(no.best)
            }
        }
    }

    /// The file.
    pub fn file(self, heading: Heading) -> CapacityFile {
        let memory = self.memory();
        let mut not_measured = self.not_measured;
        if memory.is_none() {
            let why = "needs R1 and R5, and a server whose process is known";
            not_measured.push(NotMeasured { what: "memory model".into(), why: why.into() });
        }
        CapacityFile {
            format: FORMAT,
            fingerprint: heading.fingerprint,
            measured_at: heading.measured_at,
            quick: heading.quick,
            slo_p99_ms: heading.slo_p99_ms,
            resources: self.resources,
            memory,
            cost: self.cost,
            scaling: self.scaling,
            mixed: self.mixed,
            overload: self.overload,
            not_measured,
            steps: self.steps,
        }
    }

    fn memory(&self) -> Option<MemoryModel> {
        let (base, connection) = self.memory_base_and_connection?;
        Some(MemoryModel {
            base_bytes: base,
            per_connection_bytes: connection,
            per_connection_kernel_bytes: self.kernel_connection?,
            per_subscription_bytes: self.memory_subscription?,
        })
    }
}

/// A resource in words.
pub fn name(resource: Resource) -> &'static str {
    match resource {
        Resource::Connections => "connections",
        Resource::ConnectsPerS => "connects per second",
        Resource::PublishesPerS => "publications per second",
        Resource::DeliveriesPerS => "deliveries per second",
        Resource::EgressBytesPerS => "egress bytes per second",
        Resource::SubscribesPerS => "subscribes per second",
        Resource::RecoveriesPerS => "recoveries per second",
        Resource::ReconnectsPerS => "reconnects per second",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_capacity::measured::{self, EndedBy};

    fn heading() -> Heading {
        Heading {
            fingerprint: Fingerprint { version: "1.2.3".into(), ..Fingerprint::default() },
            measured_at: "2026-01-01T00:00:00Z".into(),
            quick: true,
            slo_p99_ms: 100.0,
        }
    }

    /// Steps of a server with known costs.
    fn steps() -> Vec<Step> {
        let mut made = Vec::new();
        for n in 1..=20 {
            let n = f64::from(n);
            let mut step = Step {
                connections: 100.0 * (n % 5.0),
                connects_per_s: 10.0 * (n % 3.0),
                publishes_per_s: 50.0 * n,
                deliveries_per_s: 900.0 * n + 500.0 * (n % 4.0),
                bytes_per_s: 300_000.0 * (n % 7.0),
                recoveries_per_s: 20.0 * (n % 2.0),
                ..Step::default()
            };
            step.server_cpu_us_per_s = 1_000.0
                + 2.0 * step.connections
                + 60.0 * step.connects_per_s
                + 9.0 * step.publishes_per_s
                + 4.0 * step.deliveries_per_s
                + 0.002 * step.bytes_per_s
                + 7.0 * step.recoveries_per_s;
            made.push(step);
        }
        made
    }

    #[test]
    fn an_empty_run_says_what_is_missing() {
        let mut found = Found::default();
        found.resource(Resource::DeliveriesPerS, None, RampId::R4);
        assert!(found.fit_cost(1.0).is_err());
        let file = found.file(heading());
        assert!(file.resources.is_empty() && file.memory.is_none() && file.cost.is_none());
        let missing: Vec<&str> = file.not_measured.iter().map(|not| not.what.as_str()).collect();
        assert_eq!(missing, ["deliveries per second", "memory model"]);
        assert!(file.not_measured[0].why.contains("R4"));
    }

    #[test]
    fn the_file_holds_what_was_found() {
        let mut found = Found { steps: steps(), ..Found::default() };
        found.fitting = (0..found.steps.len()).collect();
        let cost = found.fit_cost(1.0).unwrap();
        assert!((cost.delivery_us - 4.0).abs() < 0.01, "{cost:?}");
        found.memory_base_and_connection = Some((1e7, 500.0));
        found.kernel_connection = Some(5_000.0);
        found.memory_subscription = Some(40.0);
        let knee = Measured {
            knee: 10.0,
            rated: 7.0,
            low: 9.0,
            high: 11.0,
            ended_by: EndedBy::Cpu,
            ramp: "R3".into(),
        };
        found.resource(Resource::PublishesPerS, Some(knee.clone()), RampId::R3);
        let file = found.file(heading());
        assert_eq!(file.resources.get(&Resource::PublishesPerS), Some(&knee));
        assert_eq!(file.memory.unwrap().per_subscription_bytes, 40.0);
        assert_eq!((file.format, file.quick, file.steps.len()), (FORMAT, true, 20));
        let file = CapacityFile {
            fingerprint: Fingerprint { cores: 1, workers: 1, memory_bytes: 1, ..file.fingerprint },
            ..file
        };
        let text = measured::write(&file).unwrap();
        assert_eq!(measured::read(&text).unwrap().resources, file.resources);
    }

    #[test]
    fn a_bad_model_is_not_kept() {
        let mut found = Found { steps: steps(), ..Found::default() };
        for (at, step) in found.steps.iter_mut().enumerate() {
            step.server_cpu_us_per_s *= if at % 2 == 0 { 3.0 } else { 1.0 };
        }
        found.fitting = (0..found.steps.len()).collect();
        assert!(found.fit_cost(1.0).unwrap().delivery_us > 0.0);
        assert_eq!(found.cost, None);
        assert_eq!(found.not_measured[0].what, "cost model");
    }

    #[test]
    fn only_good_steps_are_fitted() {
        let mut found = Found { steps: steps(), ..Found::default() };
        let wrong = Step { server_cpu_us_per_s: 9e9, ..Step::default() };
        found.steps.insert(0, wrong);
        found.fitting = (1..found.steps.len()).collect();
        assert!(found.fit_cost(1.0).unwrap().r_squared > 0.99);
    }
}
