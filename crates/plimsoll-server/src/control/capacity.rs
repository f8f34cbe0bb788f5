//! What this node can carry: the figures of a measured file, or the limits of the machine.

use crate::config::{Config, units};
use crate::telemetry::machine;
use plimsoll_capacity::headroom::{Lines, Load, MachineLimits, Price};
use plimsoll_capacity::measured::{self, CapacityFile, FILE_BYTES_MAX, Fingerprint};
use std::fs::File;
use std::io::{self, Read};

const BYTES_PER_MBIT: f64 = 125_000.0;

/// A file that the node does not start with.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// Not there, or not to be read.
    #[error("capacity.file: {file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("capacity.file: {file}: {source}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong.
        source: measured::ReadError,
    },
    /// Of another build or machine.
    #[error("capacity.file: {file} {source}")]
    Mismatch {
        /// The file.
        file: String,
        /// What differs.
        source: measured::Mismatch,
    },
}

/// A measured file that is in use.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path.
    pub path: String,
    /// Its figures.
    pub file: CapacityFile,
    /// What differs from this node, where that was allowed.
    pub mismatch: Option<String>,
}

/// What this node can carry, and what it costs.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// This machine and build.
    pub here: Fingerprint,
    /// The measured file; none: only the machine's limits are known.
    pub source: Option<Source>,
    /// The load lines.
    pub lines: Lines,
    /// The price of this node.
    pub price: Price,
}

/// Reads the file that `config` names, if it names one.
pub fn load(config: &Config) -> Result<Capacity, CapacityError> {
    let here = machine::fingerprint(machine::worker_count(config.server.workers));
    let source = match config.capacity.file.as_str() {
        "" => None,
        path => Some(read(path, &here, config.capacity.allow_mismatch)?),
    };
    let limits = MachineLimits {
        cores: f64::from(here.cores),
        memory_bytes: here.memory_bytes as f64,
        // Without a limit the number is the largest there is, which bounds nothing.
        descriptors: if here.descriptors == u64::MAX { 0.0 } else { here.descriptors as f64 },
        connection_limit: config.policy.client.connection_limit as f64,
    };
    let decimal = |millionths: u64| millionths as f64 / units::DECIMAL_ONE as f64;
    let price = Price {
        cost_per_hour: decimal(config.capacity.cost_per_hour_millionths),
        monthly_users_per_concurrent: decimal(
            config.capacity.monthly_users_per_concurrent_millionths,
        ),
    };
    let mut lines = Lines::new(&limits, source.as_ref().map(|source| &source.file));
    if source.is_none() {
        let c = &config.capacity;
        lines = lines
            .bounded(Load::Connections, c.connections as f64)
            .bounded(Load::Publishes, c.publishes_per_second as f64)
            .bounded(Load::Deliveries, c.deliveries_per_second as f64)
            .bounded(Load::Egress, c.egress_mbit_per_second as f64 * BYTES_PER_MBIT);
    }
    Ok(Capacity { here, source, lines, price })
}

fn read(path: &str, here: &Fingerprint, allow_mismatch: bool) -> Result<Source, CapacityError> {
    let unreadable = |source| CapacityError::Unreadable { file: path.to_owned(), source };
    let mut text = String::new();
    // One byte beyond the bound shows that there is more; a device has no end.
    let opened = File::open(path).map_err(unreadable)?;
    opened.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    let file = measured::read(&text)
        .map_err(|source| CapacityError::Invalid { file: path.to_owned(), source })?;
    let mismatch = match file.fits(here) {
        Ok(()) => None,
        Err(mismatch) if allow_mismatch => Some(mismatch.differences_text()),
        Err(source) => return Err(CapacityError::Mismatch { file: path.to_owned(), source }),
    };
    Ok(Source { path: path.to_owned(), file, mismatch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_capacity::measured::{EndedBy, FORMAT, Measured, Resource};

    /// A file for this machine, with `change` applied.
    fn written(change: impl FnOnce(&mut CapacityFile)) -> String {
        let figure = Measured {
            knee: 1_000.0,
            rated: 700.0,
            low: 900.0,
            high: 1_100.0,
            ended_by: EndedBy::Latency,
            ramp: "R1".into(),
        };
        let mut file = CapacityFile {
            format: FORMAT,
            fingerprint: machine::fingerprint(1),
            measured_at: "2026-01-02T03:04:05Z".into(),
            quick: true,
            slo_p99_ms: 100.0,
            resources: [(Resource::Connections, figure)].into(),
            memory: None,
            cost: None,
            scaling: None,
            mixed: None,
            overload: Vec::new(),
            not_measured: Vec::new(),
            steps: Vec::new(),
        };
        change(&mut file);
        measured::write(&file).unwrap()
    }

    fn loaded(text: &str, allow_mismatch: bool) -> Result<Capacity, String> {
        let name = format!("plimsoll-capacity-{}-{:x}.json", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let mut config = Config::default();
        config.server.workers = 1;
        config.capacity.file = path.to_string_lossy().into_owned();
        config.capacity.allow_mismatch = allow_mismatch;
        config.capacity.cost_per_hour_millionths = 500_000;
        let result = load(&config).map_err(|error| error.to_string());
        std::fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn a_file_of_this_machine_counts() {
        let capacity = loaded(&written(|_| ()), false).unwrap();
        assert_eq!(capacity.lines.of(Load::Connections), Some(700.0));
        assert_eq!(capacity.price.cost_per_hour, 0.5);
        assert_eq!(capacity.price.monthly_users_per_concurrent, 20.0);
        let source = capacity.source.unwrap();
        assert_eq!((source.mismatch, source.file.quick), (None, true));
    }

    #[test]
    fn a_file_of_another_machine_counts_only_if_told() {
        let other = written(|file| file.fingerprint.cores += 1);
        let error = loaded(&other, false).unwrap_err();
        let told = ["capacity.file: ", "cores", "capacity.allow_mismatch = true"];
        assert!(told.iter().all(|part| error.contains(part)), "{error}");
        let capacity = loaded(&other, true).unwrap();
        let mismatch = capacity.source.unwrap().mismatch.unwrap();
        assert!(mismatch.starts_with("cores"), "{mismatch}");
        assert_eq!(capacity.lines.of(Load::Connections), Some(700.0));
    }

    #[test]
    fn a_bad_file_never_counts() {
        let bad = written(|_| ()).replace("\"knee\": 1000.0", "\"knee\": 5");
        for allow in [false, true] {
            let error = loaded(&bad, allow).unwrap_err();
            assert!(error.contains("connections.rated: is 700, above the knee of 5"), "{error}");
            assert!(loaded("{}", allow).unwrap_err().contains("not a capacity file"));
        }
        let mut config = Config::default();
        config.capacity.file = "/no/such/capacity.json".into();
        let error = load(&config).unwrap_err().to_string();
        assert!(error.starts_with("capacity.file: /no/such/capacity.json: No such"), "{error}");
    }

    #[test]
    fn without_a_file_the_machine_bounds() {
        let mut config = Config::default();
        config.policy.client.connection_limit = 50;
        let capacity = load(&config).unwrap();
        assert_eq!(capacity.lines.of(Load::Connections), Some(50.0));
        assert_eq!(capacity.lines.of(Load::Deliveries), None);
        let cores = f64::from(capacity.here.cores);
        assert_eq!(capacity.lines.of(Load::Cpu), Some(0.8 * cores));
    }

    #[test]
    fn configured_rates_count_where_nothing_was_measured() {
        let mut config = Config::default();
        config.policy.client.connection_limit = 50;
        config.capacity.connections = 40;
        config.capacity.deliveries_per_second = 1_000;
        config.capacity.egress_mbit_per_second = 8;
        let lines = load(&config).unwrap().lines;
        assert_eq!(lines.of(Load::Connections), Some(40.0));
        assert_eq!(lines.of(Load::Publishes), None);
        assert_eq!(lines.of(Load::Deliveries), Some(1_000.0));
        assert_eq!(lines.of(Load::Egress), Some(1_000_000.0));
        config.capacity.connections = 60;
        assert_eq!(load(&config).unwrap().lines.of(Load::Connections), Some(50.0));
    }
}
