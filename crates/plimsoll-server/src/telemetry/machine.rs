//! What machine this is, and how much of it there is to use.

use plimsoll_capacity::measured::Fingerprint;
use std::fs;
use std::path::PathBuf;

/// Where control groups are mounted, nearly everywhere.
const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

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
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Fingerprint {
        version: env!("CARGO_PKG_VERSION").into(),
        cpu_model: Fingerprint::cpu_model_of(&cpus).unwrap_or(std::env::consts::ARCH).into(),
        cores: u32::try_from(cores()).unwrap_or(u32::MAX),
        memory_bytes: memory_limit_bytes(),
        kernel: kernel.trim().into(),
        workers: u32::try_from(workers).unwrap_or(u32::MAX),
        descriptors: descriptor_limit(),
    }
}

/// Cores this process may use, by affinity and quota.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Descriptors this process may open.
fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Bytes of memory there are: of the machine, or of our control group if it has a smaller limit.
/// 0 where `/proc` is missing.
fn memory_limit_bytes() -> u64 {
    let machine = memory_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = cgroup_limits(&groups).into_iter().filter_map(|file| {
        // "max" and the like are no limit.
        fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.chain(machine).min().unwrap_or_default()
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Files that may hold the memory limit, from the text of `/proc/self/cgroup`. In a container the
/// own group is often mounted as the root.
fn cgroup_limits(groups: &str) -> Vec<PathBuf> {
    let lines = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?.trim_end_matches('/')))
    });
    let mut files = Vec::new();
    for (controllers, path) in lines {
        if controllers.is_empty() {
            files.push(format!("{CGROUP_MOUNT}{path}/memory.max").into());
            files.push(format!("{CGROUP_MOUNT}/memory.max").into());
        } else if controllers.split(',').any(|name| name == "memory") {
            let mount = format!("{CGROUP_MOUNT}/memory");
            files.push(format!("{mount}{path}/memory.limit_in_bytes").into());
            files.push(format!("{mount}/memory.limit_in_bytes").into());
        }
    }
    files
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

    #[test]
    fn texts_of_the_kernel() {
        let meminfo = "MemTotal:       8000 kB\nMemFree: 1 kB\n";
        assert_eq!(memory_total(meminfo), Some(8_192_000));
        assert_eq!(memory_total("MemTotal: lots\n"), None);
        let check = |groups: &str, expect: &[&str]| {
            let expect: Vec<PathBuf> =
                expect.iter().map(|file| format!("{CGROUP_MOUNT}/{file}").into()).collect();
            assert_eq!(cgroup_limits(groups), expect, "{groups}");
        };
        check("0::/a/b\n", &["a/b/memory.max", "memory.max"]);
        check("0::/\n", &["memory.max", "memory.max"]);
        let one = ["memory/a/memory.limit_in_bytes", "memory/memory.limit_in_bytes"];
        check("9:cpu,cpuacct:/x\n4:memory:/a\n", &one);
        check("nonsense\n\n", &[]);
    }
}
