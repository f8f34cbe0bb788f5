//! Parsers of the controllers' files, versions 1 and 2. `None` means: not in the form we know.
//! "No limit" is infinity, so that the smallest of several limits needs no special case.

use crate::load::parse::{keyed, lines, number, words};

/// No limit in version 1 is the largest multiple of a page: anything from 1 EiB on is none.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Cores by `cpu.max` (version 2): `quota period` or `max period`.
pub fn cpu_max(text: &[u8]) -> Option<f64> {
    let mut words = words(text);
    let (quota, period) = (words.next()?, number(words.next()?)?);
    if quota == b"max" {
        return Some(f64::INFINITY);
    }
    let quota = number(quota)?;
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// Microseconds by `cpu.cfs_quota_us` (version 1); a negative number means no limit.
pub fn cfs_quota_us(text: &[u8]) -> Option<f64> {
    match text.trim_ascii().strip_prefix(b"-") {
        Some(rest) => number(rest).map(|_| f64::INFINITY),
        None => number(text).filter(|n| *n > 0).map(|n| n as f64),
    }
}

/// `cpu.stat` of either version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// Processor time used, in microseconds (version 2).
    pub usage_us: Option<u64>,
    /// Periods of the quota in which something ran.
    pub periods: Option<u64>,
    /// Periods in which the quota ran out.
    pub throttled_periods: Option<u64>,
    /// Time stopped, added over cores, in microseconds.
    pub throttled_us: Option<u64>,
}

/// Parses `cpu.stat`.
pub fn cpu_stat(text: &[u8]) -> Option<CpuStat> {
    let stat = CpuStat {
        usage_us: keyed(text, "usage_usec"),
        periods: keyed(text, "nr_periods"),
        throttled_periods: keyed(text, "nr_throttled"),
        // Version 1 counts in nanoseconds.
        throttled_us: keyed(text, "throttled_usec")
            .or_else(|| Some(keyed(text, "throttled_time")? / 1_000)),
    };
    (stat != CpuStat::default()).then_some(stat)
}

/// Bytes by `memory.max`, `memory.high` (version 2) or `memory.limit_in_bytes` (version 1).
pub fn memory_limit(text: &[u8]) -> Option<f64> {
    if text.trim_ascii() == b"max" {
        return Some(f64::INFINITY);
    }
    number(text).map(|n| if n >= NO_LIMIT_BYTES { f64::INFINITY } else { n as f64 })
}

/// What we use of `memory.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// Page cache that is dropped first, in bytes.
    pub inactive_file: Option<u64>,
    /// Socket buffers in bytes (version 2).
    pub sock: Option<u64>,
    /// Kernel objects in bytes (version 2).
    pub slab: Option<u64>,
}

/// Parses `memory.stat` of either version. Version 1 counts children in `total_` lines, as its
/// `memory.usage_in_bytes` does.
pub fn memory_stat(text: &[u8]) -> Option<MemoryStat> {
    let stat = MemoryStat {
        inactive_file: keyed(text, "total_inactive_file").or_else(|| keyed(text, "inactive_file")),
        sock: keyed(text, "sock"),
        slab: keyed(text, "slab"),
    };
    (stat != MemoryStat::default()).then_some(stat)
}

/// What we use of `memory.events` (version 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Times `memory.high` was passed and tasks were slowed down.
    pub high: Option<u64>,
    /// Times `memory.max` was about to be passed.
    pub max: Option<u64>,
    /// Times nothing could be freed.
    pub oom: Option<u64>,
}

/// Parses `memory.events`.
pub fn memory_events(text: &[u8]) -> Option<MemoryEvents> {
    let events = MemoryEvents {
        high: keyed(text, "high"),
        max: keyed(text, "max"),
        oom: keyed(text, "oom"),
    };
    (events != MemoryEvents::default()).then_some(events)
}

/// Times the limit was hit, from `memory.failcnt` (version 1).
pub fn hits(text: &[u8]) -> Option<MemoryEvents> {
    number(text).map(|max| MemoryEvents { max: Some(max), ..Default::default() })
}

/// Tasks killed for want of memory, from `memory.oom_control` (version 1).
pub fn oom_kills(text: &[u8]) -> Option<MemoryEvents> {
    keyed(text, "oom_kill").map(|oom| MemoryEvents { oom: Some(oom), ..Default::default() })
}

/// `cpu.pressure` or `memory.pressure`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: PressureLine,
    /// All tasks waited; older kernels have no such line for the processor.
    pub full: Option<PressureLine>,
}

/// One line of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PressureLine {
    /// Share of the last 10 s, 0 to 1.
    pub average_10s: f64,
    /// Microseconds since the cgroup was made.
    pub total_us: u64,
}

/// Parses a pressure file.
pub fn pressure(text: &[u8]) -> Option<Pressure> {
    Some(Pressure { some: pressure_line(text, b"some")?, full: pressure_line(text, b"full") })
}

fn pressure_line(text: &[u8], first: &[u8]) -> Option<PressureLine> {
    let line = lines(text).find(|l| words(l).next() == Some(first))?;
    let value = |key: &[u8]| words(line).find_map(|w| w.strip_prefix(key));
    let percent: f64 = std::str::from_utf8(value(b"avg10=")?).ok()?.parse().ok()?;
    if !(0.0..=100.0).contains(&percent) {
        return None;
    }
    Some(PressureLine { average_10s: percent / 100.0, total_us: number(value(b"total=")?)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotas() {
        let check = |text: &str, expect| assert_eq!(cpu_max(text.as_bytes()), expect, "{text:?}");
        check("max 100000\n", Some(f64::INFINITY));
        check("150000 100000\n", Some(1.5));
        check("18446744073709551615 1", Some(u64::MAX as f64));
        for bad in ["", "max", "100000", "0 100000", "100000 0", "-1 100000", "a b"] {
            check(bad, None);
        }
        let check = |text: &str, expect| assert_eq!(cfs_quota_us(text.as_bytes()), expect);
        check("-1\n", Some(f64::INFINITY));
        check("50000\n", Some(50_000.0));
        for bad in ["", "-", "0", "max", "--1"] {
            check(bad, None);
        }
    }

    #[test]
    fn cpu_stat_of_both_versions() {
        let two = b"usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_periods 5\nnr_throttled 2\n\
            throttled_usec 3000\nnr_bursts 0\nburst_usec 0\n";
        let expect = CpuStat {
            usage_us: Some(100),
            periods: Some(5),
            throttled_periods: Some(2),
            throttled_us: Some(3_000),
        };
        assert_eq!(cpu_stat(two), Some(expect));
        let one = b"nr_periods 5\nnr_throttled 2\nthrottled_time 3000999\n";
        assert_eq!(cpu_stat(one), Some(CpuStat { usage_us: None, ..expect }));
        let without_controller = b"usage_usec 7\nuser_usec 5\nsystem_usec 2\n";
        let expect = CpuStat { usage_us: Some(7), ..Default::default() };
        assert_eq!(cpu_stat(without_controller), Some(expect));
        assert_eq!(cpu_stat(b"usage_usec -7\n"), None);
        assert_eq!(cpu_stat(b""), None);
    }

    #[test]
    fn memory_limits() {
        let check = |text: &str, expect| assert_eq!(memory_limit(text.as_bytes()), expect);
        check("max\n", Some(f64::INFINITY));
        check("9223372036854771712\n", Some(f64::INFINITY));
        check("9223372036854710272\n", Some(f64::INFINITY));
        check("536870912\n", Some(536_870_912.0));
        check("0\n", Some(0.0));
        for bad in ["", "-1", "512M", "99999999999999999999999"] {
            check(bad, None);
        }
    }

    #[test]
    fn memory_stat_of_both_versions() {
        let two = b"anon 9\nfile 8\nsock 4096\nslab_reclaimable 1\nslab 77\ninactive_file 5\n";
        let expect = MemoryStat { inactive_file: Some(5), sock: Some(4_096), slab: Some(77) };
        assert_eq!(memory_stat(two), Some(expect));
        let one = b"cache 9\ninactive_file 5\ntotal_cache 9\ntotal_inactive_file 6\n";
        let expect = MemoryStat { inactive_file: Some(6), ..Default::default() };
        assert_eq!(memory_stat(one), Some(expect));
        assert_eq!(memory_stat(b"cache 9\n"), None);
    }

    #[test]
    fn events() {
        let two = b"low 0\nhigh 3\nmax 2\noom 1\noom_kill 9\noom_group_kill 0\n";
        let expect = MemoryEvents { high: Some(3), max: Some(2), oom: Some(1) };
        assert_eq!(memory_events(two), Some(expect));
        assert_eq!(memory_events(b"oom_kill 9\n"), None);
        assert_eq!(hits(b"12\n"), Some(MemoryEvents { max: Some(12), ..Default::default() }));
        let kills = oom_kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
        assert_eq!(kills, Some(MemoryEvents { oom: Some(4), ..Default::default() }));
        assert_eq!(oom_kills(b"oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn pressure_files() {
        let text = b"some avg10=12.50 avg60=1.92 avg300=1.50 total=3324872541\n\
            full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let some = PressureLine { average_10s: 0.125, total_us: 3_324_872_541 };
        let full = Some(PressureLine { average_10s: 0.0, total_us: 0 });
        assert_eq!(pressure(text), Some(Pressure { some, full }));
        let old = b"some avg10=12.50 avg60=1.92 avg300=1.50 total=3324872541\n";
        assert_eq!(pressure(old), Some(Pressure { some, full: None }));
        for bad in [
            "",
            "some",
            "full avg10=0 total=1",
            "some avg10=nan total=1",
            "some avg10=101 total=1",
            "some avg10=-1 total=1",
            "some avg10=1 total=x",
        ] {
            assert_eq!(pressure(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            run_all(&text);
        }

        #[test]
        fn anything_that_looks_alike(
            text in "(some|full|avg10=|total=|high|max|sock|usage_usec|[0-9]{1,25}|[ .\n-]){0,40}"
        ) {
            run_all(text.as_bytes());
        }
    }

    fn run_all(text: &[u8]) {
        for limit in [cpu_max(text), cfs_quota_us(text), memory_limit(text)] {
            assert!(limit.is_none_or(|l| l >= 0.0));
        }
        let _ = (cpu_stat(text), memory_stat(text), memory_events(text), hits(text));
        let _ = (oom_kills(text), pressure(text));
    }
}
