//! What machine this is, and how much of it there is to use.

use plimsoll_capacity::measured::Fingerprint;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine and this build, for a server with so many workers on so many processors.
pub fn fingerprint(workers: usize, cores: usize) -> Fingerprint {
    Fingerprint {
        version: env!("CARGO_PKG_VERSION").into(),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        workers: u32::try_from(workers).unwrap_or(u32::MAX),
        descriptors: descriptor_limit(),
        ..Fingerprint::of_machine(|file| fs::read_to_string(file).ok())
    }
}

/// Descriptors this process, and those it starts, may have open.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Now, RFC 3339 in UTC.
pub fn utc_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs())
}

/// A file of the control group of a process: of version 2, or of a controller of version 1.
pub(super) fn cgroup_file(pid: u32, controller: &str, file: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    cgroup_directories(&groups, controller)
        .iter()
        .find_map(|directory| fs::read_to_string(format!("{directory}/{file}")).ok())
}

fn cgroup_directories(groups: &str, controller: &str) -> Vec<String> {
    let root = "/sys/fs/cgroup";
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_end_matches('/');
        if names.is_empty() {
            // In a container the own group is often mounted as the root.
            found.extend([format!("{root}{path}"), format!("{root}/unified{path}"), root.into()]);
        } else if names.split(',').any(|name| name == controller) {
            found.extend([format!("{root}/{controller}{path}"), format!("{root}/{controller}")]);
        }
    }
    found
}

/// The number after `name` at the start of a line.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Civil date from days (the algorithm of H. Hinnant, "chrono-compatible low-level date
/// algorithms"): years begin in March, so that the leap day is the last of its year.
fn rfc3339(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let print = fingerprint(2, 1);
        assert_eq!((print.workers, print.cores), (2, 1));
        assert_eq!(print.version, env!("CARGO_PKG_VERSION"));
        assert!(!print.cpu_model.is_empty() && !print.kernel.is_empty());
        assert!(print.memory_bytes > 1 << 20 && print.descriptors > 0);
    }

    #[test]
    fn dates() {
        let check = |seconds, expect: &str| assert_eq!(rfc3339(seconds), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_709_251_199, "2024-02-29T23:59:59Z");
        check(1_735_689_599, "2024-12-31T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
    }

    #[test]
    fn groups_of_both_versions() {
        let one = "4:memory:/a/b\n2:cpu,cpuacct:/\n";
        let roots = ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory"];
        assert_eq!(cgroup_directories(one, "memory"), roots);
        assert_eq!(cgroup_directories(one, "cpu")[0], "/sys/fs/cgroup/cpu");
        let two = cgroup_directories("0::/a\n", "cpu");
        assert_eq!(two, ["/sys/fs/cgroup/a", "/sys/fs/cgroup/unified/a", "/sys/fs/cgroup"]);
        assert!(cgroup_directories("nonsense\n", "cpu").is_empty());
    }

    #[test]
    fn numbers() {
        assert_eq!(number("a 1\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(number("VmRSS: many\n", "VmRSS:"), None);
    }
}
