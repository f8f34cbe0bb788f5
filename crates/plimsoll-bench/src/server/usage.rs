//! What a process uses, and what the kernel holds for its sockets.

use super::machine::{cgroup_file, number};
use crate::clock;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use std::fs;

/// What a process used so far, and uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of the reading, microseconds of [`crate::clock`].
    pub at_us: u64,
    /// CPU time of all its threads so far, ended ones too, in microseconds.
    ///
    /// By the process's CPU clock: exact to the microsecond. `/proc/PID/stat` counts in ticks of
    /// 10 ms, and `schedstat` leaves out ended threads and, for a thread that is running just
    /// now, what it used since its last tick. On loopback the sender also pays for the receiver's
    /// TCP input, so this holds more than a network card would leave to the server.
    pub cpu_us: u64,
    /// Microseconds its threads were ready to run so far, while something else had the processor.
    /// Without those of threads that have ended.
    pub waited_us: u64,
    /// Bytes of it that are in memory.
    pub rss_bytes: u64,
    /// Descriptors it has open.
    pub descriptors: u64,
    /// Bytes the kernel has in TCP buffers, of the whole machine.
    pub tcp_buffer_bytes: u64,
    /// Bytes the kernel has in slabs (sockets, files, dentries), of the whole machine.
    pub slab_bytes: u64,
    /// Microseconds its control group was stopped so far, for having used its share of the
    /// processors; none when no control group tells.
    pub throttled_us: Option<u64>,
}

impl Usage {
    /// Reads it; an error when the process is gone, or of another user.
    pub fn of(pid: u32) -> Result<Self, String> {
        let gone = |what: &str| format!("process {pid}: {what}");
        let raw = i32::try_from(pid).map_err(|_| gone("no such number"))?;
        let clock = clock_getcpuclockid(Pid::from_raw(raw)).map_err(|e| gone(e.desc()))?;
        let used = clock.now().map_err(|e| gone(e.desc()))?;
        let seconds = u64::try_from(used.tv_sec()).unwrap_or_default();
        let nanos = u64::try_from(used.tv_nsec()).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(|error| gone(&error.to_string()))?;
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let page = rustix::param::page_size() as u64;
        Ok(Self {
            at_us: clock::now_us(),
            cpu_us: seconds * 1_000_000 + nanos / 1_000,
            waited_us: waited_us(pid),
            rss_bytes: 1024 * number(&status, "VmRSS:").unwrap_or_default(),
            descriptors: files.map(|files| files.count() as u64).unwrap_or_default(),
            tcp_buffer_bytes: page * tcp_pages(&sockets).unwrap_or_default(),
            slab_bytes: 1024 * number(&memory, "Slab:").unwrap_or_default(),
            throttled_us: cgroup_file(pid, "cpu", "cpu.stat").and_then(|t| throttled_us(&t)),
        })
    }

    /// This process and another one together. What is of the whole machine is not added.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            at_us: self.at_us.max(other.at_us),
            cpu_us: self.cpu_us + other.cpu_us,
            waited_us: self.waited_us + other.waited_us,
            rss_bytes: self.rss_bytes + other.rss_bytes,
            descriptors: self.descriptors + other.descriptors,
            throttled_us: self.throttled_us.zip(other.throttled_us).map(|(a, b)| a + b),
            ..*other
        }
    }

    /// CPU microseconds per second between an earlier reading and this one.
    pub fn cpu_us_per_s(&self, before: &Self) -> f64 {
        let seconds = self.at_us.saturating_sub(before.at_us) as f64 / 1e6;
        if seconds > 0.0 { self.cpu_us.saturating_sub(before.cpu_us) as f64 / seconds } else { 0.0 }
    }

    /// Bytes the kernel holds, of the whole machine: buffers and slabs.
    pub fn kernel_bytes(&self) -> u64 {
        self.tcp_buffer_bytes + self.slab_bytes
    }
}

/// What several processes use; none if that is not known of one of them, or there is none.
pub fn sum(all: impl IntoIterator<Item = Option<Usage>>) -> Option<Usage> {
    let mut all = all.into_iter();
    let first = all.next()??;
    all.try_fold(first, |sum, more| Some(sum.and(&more?)))
}

/// The second figure of each thread's `schedstat`, which counts nanoseconds.
fn waited_us(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let nanos = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    nanos.sum::<u64>() / 1_000
}

/// Of `cpu.stat`: version 2 counts microseconds, version 1 nanoseconds.
fn throttled_us(stat: &str) -> Option<u64> {
    let nanos = || number(stat, "throttled_time").map(|nanos| nanos / 1_000);
    number(stat, "throttled_usec").or_else(nanos)
}

/// `mem` of the line `TCP:` of `/proc/net/sockstat`, in pages.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        let mut sum = 0u64;
        while clock::process_cpu_us() < before.cpu_us + 2_000 {
            sum = sum.wrapping_add(1);
        }
        let after = Usage::of(pid).unwrap();
        assert!(after.cpu_us >= before.cpu_us + 2_000, "{before:?} {after:?} {sum}");
        assert!(after.at_us > before.at_us && after.cpu_us_per_s(&before) > 0.0);
        assert!(after.rss_bytes > 100_000 && after.descriptors >= 3);
        assert_eq!(after.cpu_us_per_s(&after), 0.0);
    }

    #[test]
    fn no_process_no_usage() {
        assert!(Usage::of(u32::MAX).is_err());
        assert!(Usage::of(i32::MAX as u32).is_err());
    }

    #[test]
    fn both_versions_tell_of_throttling() {
        let check = |text, expect| assert_eq!(throttled_us(text), expect, "{text}");
        check("nr_throttled 3\nthrottled_usec 1500\n", Some(1_500));
        check("nr_throttled 3\nthrottled_time 1500000\n", Some(1_500));
        check("usage_usec 7\n", None);
    }

    #[test]
    fn pages_of_tcp() {
        let text = "sockets: used 15\nTCP: inuse 1 orphan 0 tw 1 alloc 1 mem 63\nUDP: mem 7\n";
        assert_eq!(tcp_pages(text), Some(63));
        assert_eq!(tcp_pages("UDP: mem 7\n"), None);
        assert_eq!(tcp_pages("TCP: inuse 1 mem\n"), None);
    }
}
