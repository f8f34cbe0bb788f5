//! From the text of `capacity.json` to figures that can be trusted, and back.

use super::{CapacityFile, CostModel, FORMAT, Measured, MemoryModel, Resource, Step, Usl};
use serde::Deserialize;

/// Bytes of a file. A thousand steps take half a MiB.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Steps of a file; eight ramps have some hundred.
const STEPS_MAX: usize = 10_000;
/// Things that a file may say it did not measure.
const NOT_MEASURED_MAX: usize = 100;
/// Overloads that a file tells of; a ramp tries four.
const OVERLOADS_MAX: usize = 100;
/// Bytes of any text of a file.
const TEXT_BYTES_MAX: usize = 1_024;
/// Cores and workers no machine has; only keeps out nonsense.
const CORES_MAX: u32 = 65_536;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Longer than any real one.
    #[error("has {bytes} bytes, at most {FILE_BYTES_MAX} are read")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// Of another version of the form.
    #[error("is of format {found}, this version reads format {FORMAT}")]
    Format {
        /// What it says.
        found: u64,
    },
    /// Not the JSON it should be.
    #[error("is not a capacity file: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that cannot be.
    #[error("{path}: {problem}")]
    Value {
        /// Path of the value, as `resources.connections.knee`.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The part of a file that says how to read the rest.
#[derive(Deserialize)]
struct Head {
    format: u64,
}

/// Reads and checks a file. All that it says is then finite and in its range.
pub fn read(text: &str) -> Result<CapacityFile, ReadError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge { bytes: text.len() });
    }
    let Head { format } = serde_json::from_str(text)?;
    if format != u64::from(FORMAT) {
        return Err(ReadError::Format { found: format });
    }
    let file: CapacityFile = serde_json::from_str(text)?;
    check(&file)?;
    Ok(file)
}

/// The text of a file, for people too. What [`read`] would refuse is not written: JSON has no
/// text for a figure that is not finite.
pub fn write(file: &CapacityFile) -> Result<String, ReadError> {
    check(file)?;
    Ok(serde_json::to_string_pretty(file)? + "\n")
}

fn fail<T>(path: impl Into<String>, problem: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError::Value { path: path.into(), problem: problem.into() })
}

/// `value` is a number of `least` or more.
fn at_least(path: &str, least: f64, value: f64) -> Result<(), ReadError> {
    match value.is_finite() && value >= least {
        true => Ok(()),
        false => fail(path, format!("is {value}, must be a number from {least} up")),
    }
}

fn above_zero(path: &str, value: f64) -> Result<(), ReadError> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => fail(path, format!("is {value}, must be a number above 0")),
    }
}

fn finite(path: &str, value: f64) -> Result<(), ReadError> {
    if value.is_finite() { Ok(()) } else { fail(path, format!("is {value}, must be a number")) }
}

fn text(path: &str, value: &str) -> Result<(), ReadError> {
    match value.len() <= TEXT_BYTES_MAX {
        true => Ok(()),
        false => fail(path, format!("is longer than {TEXT_BYTES_MAX} bytes")),
    }
}

fn count(path: &str, value: usize, most: usize) -> Result<(), ReadError> {
    match value <= most {
        true => Ok(()),
        false => fail(path, format!("has {value} entries, at most {most} are read")),
    }
}

fn check(file: &CapacityFile) -> Result<(), ReadError> {
    if file.format != FORMAT {
        return Err(ReadError::Format { found: u64::from(file.format) });
    }
    let print = &file.fingerprint;
    let texts = [
        ("fingerprint.version", &print.version),
        ("fingerprint.cpu_model", &print.cpu_model),
        ("fingerprint.kernel", &print.kernel),
        ("measured_at", &file.measured_at),
    ];
    texts.iter().try_for_each(|(path, value)| text(path, value))?;
    let counts = [("fingerprint.cores", print.cores), ("fingerprint.workers", print.workers)];
    for (path, value) in counts {
        if !(1..=CORES_MAX).contains(&value) {
            return fail(path, format!("is {value}, must be 1 to {CORES_MAX}"));
        }
    }
    above_zero("fingerprint.memory_bytes", print.memory_bytes as f64)?;
    above_zero("slo_p99_ms", file.slo_p99_ms)?;
    file.resources.iter().try_for_each(|(resource, figure)| measured(*resource, figure))?;
    file.memory.iter().try_for_each(memory)?;
    file.cost.iter().try_for_each(cost)?;
    file.scaling.iter().try_for_each(scaling)?;
    if let Some(mixed) = &file.mixed {
        at_least("mixed.predicted_us_per_s", 0.0, mixed.predicted_us_per_s)?;
        above_zero("mixed.measured_us_per_s", mixed.measured_us_per_s)?;
        finite("mixed.error_ratio", mixed.error_ratio)?;
    }
    count("overload", file.overload.len(), OVERLOADS_MAX)?;
    for overload in &file.overload {
        above_zero("overload.factor", overload.factor)?;
        at_least("overload.goodput_ratio", 0.0, overload.goodput_ratio)?;
        at_least("overload.recovery_s", 0.0, overload.recovery_s.unwrap_or_default())?;
    }
    count("not_measured", file.not_measured.len(), NOT_MEASURED_MAX)?;
    for missing in &file.not_measured {
        text("not_measured", &missing.what)?;
        text("not_measured", &missing.why)?;
    }
    count("steps", file.steps.len(), STEPS_MAX)?;
    file.steps.iter().enumerate().try_for_each(|(at, one)| step(at, one))
}

fn measured(resource: Resource, figure: &Measured) -> Result<(), ReadError> {
    let path = |name: &str| format!("resources.{}.{name}", resource.name());
    above_zero(&path("knee"), figure.knee)?;
    above_zero(&path("rated"), figure.rated)?;
    if figure.rated > figure.knee {
        let problem = format!("is {}, above the knee of {}", figure.rated, figure.knee);
        return fail(path("rated"), problem);
    }
    finite(&path("low"), figure.low)?;
    finite(&path("high"), figure.high)?;
    if figure.low > figure.high {
        return fail(path("low"), format!("is {}, above high, {}", figure.low, figure.high));
    }
    text(&path("ramp"), &figure.ramp)
}

fn memory(model: &MemoryModel) -> Result<(), ReadError> {
    let all = [
        ("memory.base_bytes", model.base_bytes),
        ("memory.per_connection_bytes", model.per_connection_bytes),
        ("memory.per_connection_kernel_bytes", model.per_connection_kernel_bytes),
        ("memory.per_subscription_bytes", model.per_subscription_bytes),
    ];
    all.iter().try_for_each(|(path, value)| at_least(path, 0.0, *value))
}

fn cost(model: &CostModel) -> Result<(), ReadError> {
    let all = [
        ("cost.base_us_per_s", model.base_us_per_s),
        ("cost.connection_us_per_s", model.connection_us_per_s),
        ("cost.connect_us", model.connect_us),
        ("cost.publish_us", model.publish_us),
        ("cost.delivery_us", model.delivery_us),
        ("cost.byte_us", model.byte_us),
        ("cost.recovery_us", model.recovery_us),
        ("cost.saving", model.saving),
        ("cost.worst_residual_ratio", model.worst_residual_ratio),
    ];
    all.iter().try_for_each(|(path, value)| at_least(path, 0.0, *value))?;
    finite("cost.r_squared", model.r_squared)
}

fn scaling(law: &Usl) -> Result<(), ReadError> {
    above_zero("scaling.lambda", law.lambda)?;
    at_least("scaling.sigma", 0.0, law.sigma)?;
    at_least("scaling.kappa", 0.0, law.kappa)?;
    at_least("scaling.largest_n", 1.0, law.largest_n)?;
    law.errors.iter().try_for_each(|error| at_least("scaling.errors", 0.0, *error))
}

fn step(at: usize, step: &Step) -> Result<(), ReadError> {
    let path = |name: &str| format!("steps[{at}].{name}");
    text(&path("ramp"), &step.ramp)?;
    let all = [
        ("offered", step.offered),
        ("reached", step.reached),
        ("seconds", step.seconds),
        ("connections", step.connections),
        ("subscriptions", step.subscriptions),
        ("connects_per_s", step.connects_per_s),
        ("publishes_per_s", step.publishes_per_s),
        ("deliveries_per_s", step.deliveries_per_s),
        ("bytes_per_s", step.bytes_per_s),
        ("recoveries_per_s", step.recoveries_per_s),
        ("server_cpu_us_per_s", step.server_cpu_us_per_s),
        ("throttled_us_per_s", step.throttled_us_per_s),
        ("waited_us_per_s", step.waited_us_per_s),
        ("generator_cpu_us_per_s", step.generator_cpu_us_per_s),
        ("server_rss_bytes", step.server_rss_bytes),
        ("p50_ms", step.p50_ms),
        ("p99_ms", step.p99_ms),
        ("generator_late_p99_ms", step.generator_late_p99_ms),
    ];
    all.iter().try_for_each(|(name, value)| at_least(&path(name), 0.0, *value))?;
    step.drift_ms_per_s.iter().try_for_each(|value| finite(&path("drift_ms_per_s"), *value))
}

impl Resource {
    /// The name it has in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectsPerS => "connects_per_s",
            Self::PublishesPerS => "publishes_per_s",
            Self::DeliveriesPerS => "deliveries_per_s",
            Self::EgressBytesPerS => "egress_bytes_per_s",
            Self::SubscribesPerS => "subscribes_per_s",
            Self::RecoveriesPerS => "recoveries_per_s",
            Self::ReconnectsPerS => "reconnects_per_s",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn figure(knee: f64) -> Measured {
        Measured {
            knee,
            rated: 0.7 * knee,
            low: 0.9 * knee,
            high: 1.1 * knee,
            ended_by: EndedBy::Latency,
            ramp: "R4".into(),
        }
    }

    /// A file with something of everything.
    pub(crate) fn sample() -> CapacityFile {
        CapacityFile {
            format: FORMAT,
            fingerprint: Fingerprint {
                version: "0.1.0".into(),
                cpu_model: "Fast 3".into(),
                cores: 2,
                memory_bytes: 8_000_000_000,
                kernel: "6.1".into(),
                workers: 2,
                descriptors: 20_000,
            },
            measured_at: "2026-01-02T03:04:05Z".into(),
            quick: true,
            slo_p99_ms: 100.0,
            resources: [
                (Resource::Connections, figure(10_000.0)),
                (Resource::DeliveriesPerS, figure(200_000.0)),
            ]
            .into(),
            memory: Some(MemoryModel {
                base_bytes: 2e7,
                per_connection_bytes: 1_500.0,
                per_connection_kernel_bytes: 4_096.0,
                per_subscription_bytes: 0.0,
            }),
            cost: Some(CostModel { delivery_us: 2.5, r_squared: 0.99, ..CostModel::default() }),
            scaling: Some(Usl {
                lambda: 1e5,
                sigma: 0.01,
                kappa: 0.0,
                errors: [0.0; 3],
                largest_n: 2.0,
            }),
            mixed: Some(Prediction {
                predicted_us_per_s: 9e5,
                measured_us_per_s: 1e6,
                error_ratio: -0.1,
            }),
            overload: vec![Overload { factor: 2.0, goodput_ratio: 0.9, recovery_s: None }],
            not_measured: vec![NotMeasured { what: "TLS".into(), why: "no certificate".into() }],
            steps: vec![Step { ramp: "R4".into(), offered: 1.0, ..Step::default() }],
        }
    }

    #[test]
    fn written_and_read() {
        let text = write(&sample()).unwrap();
        assert_eq!(read(&text).unwrap(), sample());
        assert!(text.contains("\"deliveries_per_s\": {") && text.ends_with("}\n"), "{text}");
        for resource in sample().resources.keys() {
            let named = serde_json::to_string(resource).unwrap();
            assert_eq!(named, format!("\"{}\"", resource.name()));
        }
    }

    #[test]
    fn bad_files_are_told() {
        let text = write(&sample()).unwrap();
        let check = |from: &str, to: &str, told: &str| {
            assert!(text.contains(from), "{from}");
            let error = read(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        };
        check("\"format\": 1", "\"format\": 2", "format 2, this version reads format 1");
        check("\"format\": 1", "\"format\": true", "not a capacity file");
        check("\"quick\": true", "\"quick\": 1", "not a capacity file");
        check("\"knee\": 10000.0", "\"knee\": null", "not a capacity file");
        check("\"knee\": 10000.0", "\"knee\": 1e999", "not a capacity file");
        check("\"knee\": 10000.0", "\"knee\": -1", "resources.connections.knee: is -1, must be");
        check("\"knee\": 10000.0", "\"knee\": 6999", "connections.rated: is 7000, above the knee");
        check("\"low\": 9000.0", "\"low\": 90000.0", "connections.low: is 90000, above high");
        check("\"cores\": 2", "\"cores\": 0", "fingerprint.cores: is 0");
        check("\"workers\": 2", "\"workers\": 70000", "fingerprint.workers: is 70000");
        check("\"slo_p99_ms\": 100.0", "\"slo_p99_ms\": 0", "slo_p99_ms: is 0, must be");
        check("\"delivery_us\": 2.5", "\"delivery_us\": -2.5", "cost.delivery_us: is -2.5");
        check("\"lambda\": 100000.0", "\"lambda\": 0.0", "scaling.lambda: is 0");
        check("\"factor\": 2.0", "\"factor\": 0", "overload.factor: is 0");
        check("\"offered\": 1.0", "\"offered\": -1.0", "steps[0].offered: is -1");
        check("\"connections\": {", "\"luck\": {", "not a capacity file");
        check("Fast 3", &"x".repeat(TEXT_BYTES_MAX + 1), "fingerprint.cpu_model: is longer");
        assert!(read("").unwrap_err().to_string().contains("not a capacity file"));
        let huge = " ".repeat(FILE_BYTES_MAX + 1);
        assert!(matches!(read(&huge), Err(ReadError::TooLarge { .. })));
        let many = CapacityFile { steps: vec![Step::default(); STEPS_MAX + 1], ..sample() };
        assert!(write(&many).unwrap_err().to_string().contains("steps: has 10001 entries"));
    }

    #[test]
    fn what_cannot_be_read_is_not_written() {
        let mut file = sample();
        file.slo_p99_ms = f64::NAN;
        assert!(write(&file).unwrap_err().to_string().contains("slo_p99_ms: is NaN"));
        let other = CapacityFile { format: 2, ..sample() };
        assert!(matches!(write(&other), Err(ReadError::Format { found: 2 })));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(at in 0usize..4_000, with in "\\PC{0,3}") {
            let mut text = write(&sample()).unwrap();
            let at = at.min(text.len());
            text.insert_str(at, &with);
            if let Ok(file) = read(&text) {
                prop_assert!(write(&file).is_ok());
            }
        }
    }
}
