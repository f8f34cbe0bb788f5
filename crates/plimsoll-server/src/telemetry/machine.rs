//! What machine this is, and how much of it there is to use.

use crate::load::process;
use plimsoll_capacity::measured::Fingerprint;
use std::fs;

/// Workers for a configured number, 0 = one per core.
pub fn worker_count(configured: usize) -> usize {
    let wanted = match configured {
        0 => cores(),
        n => n,
    };
    wanted.min(plimsoll_core::limits::WORKERS_MAX)
}

/// This machine and build, for a node with so many workers. A bench writes the same into its file.
pub fn fingerprint(workers: usize) -> Fingerprint {
    Fingerprint {
        version: env!("CARGO_PKG_VERSION").into(),
        cores: u32::try_from(cores()).unwrap_or(u32::MAX),
        workers: u32::try_from(workers).unwrap_or(u32::MAX),
        descriptors: process::descriptor_limit().unwrap_or(u64::MAX),
        ..Fingerprint::of_machine(|file| fs::read_to_string(file).ok())
    }
}

/// Cores this process may use, by affinity and quota.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let here = fingerprint(3);
        assert_eq!((here.workers, here.version.as_str()), (3, env!("CARGO_PKG_VERSION")));
        assert!(here.cores > 0 && here.memory_bytes > 1 << 20 && here.descriptors > 0, "{here:?}");
        assert!(!here.cpu_model.is_empty() && !here.kernel.is_empty(), "{here:?}");
        assert_eq!(worker_count(2), 2);
        assert_eq!(worker_count(usize::MAX), plimsoll_core::limits::WORKERS_MAX);
        assert!(worker_count(0) > 0);
    }
}
