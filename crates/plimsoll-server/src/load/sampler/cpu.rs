//! Processor time of our cgroup and of this process.

use super::{Counter, Own, ratio, smallest, tightest};
use crate::load::cgroup::{self, CpuStat, Group, Version};
use crate::load::files::{Desk, Kept};
use crate::load::{Configured, CpuReadings, parse, process};
use std::path::Path;
use std::time::Instant;

/// The cgroup's processor time. Quota and throttling are those of the level with the smallest
/// quota, use is our own.
pub(super) struct Cpu {
    quota: Option<Quota>,
    throttling: Option<Kept>,
    usage: Option<Usage>,
    process: Counter,
    cgroup: Counter,
    periods: Counter,
    throttled: Counter,
    throttled_us: Counter,
}

enum Quota {
    Two(Kept),
    /// Quota and period.
    One(Kept, Kept),
}

impl Quota {
    fn open(dir: &Path, version: Version, desk: &mut Desk) -> Self {
        let mut kept = |name| Kept::open(dir.join(name), "processor quota", desk);
        match version {
            Version::Two => Self::Two(kept("cpu.max")),
            Version::One => Self::One(kept("cpu.cfs_quota_us"), kept("cpu.cfs_period_us")),
        }
    }

    /// Cores; infinity without a quota.
    fn read(&mut self, desk: &mut Desk) -> Option<f64> {
        match self {
            Self::Two(kept) => kept.get(desk, cgroup::cpu_max),
            Self::One(quota, period) => {
                let quota = quota.get(desk, cgroup::cfs_quota_us)?;
                let period = period.get(desk, |t| parse::number(t).filter(|p| *p > 0))?;
                Some(quota / period as f64)
            }
        }
    }
}

enum Usage {
    /// `cpu.stat`.
    Two(Kept),
    /// `cpuacct.usage`, in nanoseconds.
    One(Kept),
}

impl Cpu {
    pub fn open(cpu: Option<&Group>, cpuacct: Option<&Group>, desk: &mut Desk) -> Self {
        // Levels without the controller have no such file; that is not worth a notice.
        let mut silent = Desk::new();
        let binding = cpu.map(|group| {
            let quota = |dir: &Path| Quota::open(dir, group.version, &mut silent).read(&mut silent);
            (tightest(group, quota), group.version)
        });
        let usage = cpuacct.map(|group| {
            let kept = |name, desk| {
                Kept::open(group.own().join(name), "processor use of our cgroup", desk)
            };
            match group.version {
                Version::Two => Usage::Two(kept("cpu.stat", desk)),
                Version::One => Usage::One(kept("cpuacct.usage", desk)),
            }
        });
        Self {
            quota: binding.map(|(dir, version)| Quota::open(dir, version, desk)),
            throttling: binding
                .map(|(dir, _)| Kept::open(dir.join("cpu.stat"), "processor throttling", desk)),
            usage,
            process: Counter::default(),
            cgroup: Counter::default(),
            periods: Counter::default(),
            throttled: Counter::default(),
            throttled_us: Counter::default(),
        }
    }

    pub fn sample(
        &mut self,
        now: Instant,
        desk: &mut Desk,
        own: &mut Own,
        configured: Configured,
    ) -> CpuReadings {
        let stat: CpuStat = self
            .throttling
            .as_mut()
            .and_then(|k| k.get(desk, cgroup::cpu_stat))
            .unwrap_or_default();
        let usage_us = match &mut self.usage {
            Some(Usage::Two(kept)) => kept.get(desk, cgroup::cpu_stat).and_then(|s| s.usage_us),
            Some(Usage::One(kept)) => kept.get(desk, parse::number).map(|ns| ns / 1_000),
            None => None,
        };
        let quota_cores = self.quota.as_mut().and_then(|q| q.read(desk)).filter(|q| q.is_finite());
        let process_cores = self.process.rate(Some(process::cpu_us()), now);
        let cgroup_cores = self.cgroup.rate(usage_us, now);
        let limit_cores = smallest([quota_cores, own.allowed_cores, configured.cpu_cores]);
        let by_cgroup = cgroup_cores.filter(|_| quota_cores.is_some());
        CpuReadings {
            process_cores,
            cgroup_cores,
            quota_cores,
            allowed_cores: own.allowed_cores,
            limit_cores,
            used_ratio: ratio(by_cgroup.or(process_cores), limit_cores),
            periods: self.periods.grown(stat.periods, now),
            throttled_periods: self.throttled.grown(stat.throttled_periods, now),
            throttled_s: self.throttled_us.grown(stat.throttled_us, now).map(|us| us / 1e6),
        }
    }
}
