//! What the machine and this process say about the load: files of the kernel and a clock, read
//! four times a second on the control thread.
//!
//! [`cgroup`] and [`process`] hold parsers that know no file, [`Sampler`] reads and makes
//! differences, [`lag`] is written by the workers. None of these decides anything: pressures,
//! levels and actions are made by `plimsoll-overload`. [`watch`] brings both together: readings go
//! in, gates for the workers come out, and people are told ([`webhook`]).
//!
//! *Use* is that of our own cgroup, or of this process where it has none of its own. *Limits*, and
//! the events at them, are those of the tightest cgroup above us that we can see, because that one
//! stops us. Figures of the whole host are never taken for ours: they say what neighbours do.

mod alerts;
pub mod cgroup;
mod files;
pub mod lag;
mod parse;
pub mod process;
mod rated;
mod readings;
mod sampler;
pub mod signals;
#[cfg(test)]
mod tests;
pub mod watch;
pub mod webhook;

pub use readings::{
    CpuReadings, DescriptorReadings, MemoryReadings, NetworkReadings, Readings, Stall,
    StallReadings,
};
pub use sampler::Sampler;

use std::path::PathBuf;
use std::time::Duration;

/// Between two looks at what is dear or hardly changes: the directory of descriptors, the set of
/// cores.
const SLOW: Duration = Duration::from_secs(5);

/// Where the kernel's files are; tests have a tree of their own.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `/proc`.
    pub proc: PathBuf,
    /// What stands for `/sys/fs/cgroup` of the mount table.
    pub cgroup: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { proc: "/proc".into(), cgroup: cgroup::USUAL_MOUNT.into() }
    }
}

/// Limits an operator set; the smallest of these and the system's holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Configured {
    /// Bytes of memory this node may take.
    pub memory_bytes: Option<u64>,
    /// Cores this node may take.
    pub cpu_cores: Option<f64>,
}

/// A signal that is not there, told once; to be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{signal}: {}: {reason}", path.display())]
pub struct Notice {
    /// What is not known, in words for an operator.
    pub signal: &'static str,
    /// The file that would say it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}
