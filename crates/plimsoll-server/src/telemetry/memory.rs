//! What this process uses, as the kernel says.

/// Bytes of one page; every Linux that runs this has 4 KiB pages or says otherwise here.
fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// Resident bytes; 0 where `/proc` is missing.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or_default() * page_bytes()
}

/// User and system time in seconds.
pub fn cpu_seconds() -> f64 {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9
}

/// Open descriptors; 0 where `/proc` is missing.
pub fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64)
}
