//! What counts as rated load here: measured figures where there are some.

use crate::control::capacity::Capacity;
use plimsoll_capacity::headroom::Load;
use plimsoll_capacity::measured::{CapacityFile, EndedBy, Resource};
use plimsoll_core::limits;
use plimsoll_overload::signals::Rated;

/// Between these the use of the processor at a knee is believed. A knee below was made by
/// something else, and above nothing is left for the rest of the machine.
const CPU_USE: (f64, f64) = (0.50, 0.95);

/// The ramp of deliveries.
const DELIVERIES_RAMP: &str = "R4";

/// Rated load for the controller of a node with so many workers and this pace of connects.
pub fn rated(capacity: &Capacity, workers: usize, accepts_per_s: f64) -> Rated {
    let default = Rated::default();
    let file = capacity.source.as_ref().map(|source| &source.file);
    Rated {
        cpu_use_ratio: file.and_then(cpu_use_at_knee).unwrap_or(default.cpu_use_ratio),
        egress_bytes_per_s: capacity.lines.of(Load::Egress),
        connections: capacity.lines.of(Load::Connections),
        // More than the pace takes in while a client waits is more than can be served in time.
        handshakes_in_flight: Some(accepts_per_s * seconds(limits::COMMAND_MS)),
        handshakes_parked: Some(
            (accepts_per_s * seconds(limits::PARKED_CONNECT_MS))
                .min((workers * limits::PARKED_CONNECTS_MAX) as f64),
        ),
        ..default
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// Share of its cores that the server used in the step at the knee of deliveries.
fn cpu_use_at_knee(file: &CapacityFile) -> Option<f64> {
    let figure = file.resources.get(&Resource::DeliveriesPerS)?;
    if matches!(figure.ended_by, EndedBy::Generator | EndedBy::EndOfRamp) {
        // The knee is somewhere above.
        return None;
    }
    let within = |reached: f64| reached <= figure.knee * 1.001;
    let steps = file.steps.iter().filter(|step| step.ramp == DELIVERIES_RAMP);
    let at_knee = steps
        .filter(|step| within(step.deliveries_per_s))
        .max_by(|a, b| a.deliveries_per_s.total_cmp(&b.deliveries_per_s))?;
    // A step far below the knee says nothing of it.
    let near = at_knee.deliveries_per_s >= 0.8 * figure.knee;
    let cores = f64::from(file.fingerprint.cores);
    let ratio = at_knee.server_cpu_us_per_s / 1e6 / cores;
    (near && ratio.is_finite() && ratio > 0.0).then(|| ratio.clamp(CPU_USE.0, CPU_USE.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::capacity;
    use plimsoll_capacity::measured::{Measured, Step};

    fn file(ended_by: EndedBy, steps: &[(f64, f64)]) -> CapacityFile {
        let figure = Measured {
            knee: 100_000.0,
            rated: 70_000.0,
            low: 90_000.0,
            high: 110_000.0,
            ended_by,
            ramp: DELIVERIES_RAMP.into(),
        };
        let mut file = CapacityFile::default();
        file.fingerprint.cores = 2;
        file.resources.insert(Resource::DeliveriesPerS, figure);
        file.steps = steps
            .iter()
            .map(|(deliveries, cores)| Step {
                ramp: DELIVERIES_RAMP.into(),
                deliveries_per_s: *deliveries,
                server_cpu_us_per_s: cores * 1e6,
                ..Step::default()
            })
            .collect();
        file
    }

    #[test]
    fn the_step_at_the_knee_counts() {
        let check = |ended_by, steps: &[(f64, f64)], expect: Option<f64>| {
            assert_eq!(cpu_use_at_knee(&file(ended_by, steps)), expect, "{steps:?}");
        };
        let steps = [(50_000.0, 0.8), (100_000.0, 1.5), (120_000.0, 1.9)];
        check(EndedBy::Latency, &steps, Some(0.75));
        check(EndedBy::EndOfRamp, &steps, None);
        check(EndedBy::Cpu, &[(50_000.0, 0.8)], None);
        check(EndedBy::Cpu, &[(99_000.0, 2.0)], Some(0.95));
        check(EndedBy::Cpu, &[(99_000.0, 0.2)], Some(0.50));
        check(EndedBy::Cpu, &[], None);
        assert_eq!(cpu_use_at_knee(&CapacityFile::default()), None);
    }

    #[test]
    fn without_a_file() {
        let mut config = Config::default();
        config.policy.client.connection_limit = 50;
        let rated = rated(&capacity::load(&config).unwrap(), 2, 100.0);
        let handshakes = (rated.handshakes_in_flight, rated.handshakes_parked);
        assert_eq!(handshakes, (Some(500.0), Some(400.0)));
        assert_eq!((rated.connections, rated.egress_bytes_per_s), (Some(50.0), None));
        assert_eq!(rated.cpu_use_ratio, Rated::default().cpu_use_ratio);
    }
}
