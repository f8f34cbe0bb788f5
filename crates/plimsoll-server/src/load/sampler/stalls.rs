//! Pressure stall information.

use super::Counter;
use crate::load::cgroup::{self, Group};
use crate::load::files::{Desk, Kept};
use crate::load::{Stall, StallReadings};
use std::time::Instant;

/// Pressure stall information of our own cgroup.
pub(super) struct Stalls {
    cpu: Kept,
    memory: Kept,
    totals: [Counter; 3],
}

impl Stalls {
    pub fn open(group: &Group, desk: &mut Desk) -> Self {
        let mut kept = |name, signal| Kept::open(group.own().join(name), signal, desk);
        Self {
            cpu: kept("cpu.pressure", "processor stalls of our cgroup"),
            memory: kept("memory.pressure", "memory stalls of our cgroup"),
            totals: Default::default(),
        }
    }

    pub fn sample(&mut self, now: Instant, desk: &mut Desk) -> StallReadings {
        let cpu = self.cpu.get(desk, cgroup::pressure);
        let memory = self.memory.get(desk, cgroup::pressure);
        let stall = |line: Option<cgroup::PressureLine>, total: &mut Counter| Stall {
            // The kernel adds up at other moments than we read.
            ratio: total.rate(line.map(|l| l.total_us), now).map(|r| r.min(1.0)),
            average_10s: line.map(|l| l.average_10s),
        };
        let [cpu_some, memory_some, memory_full] = &mut self.totals;
        StallReadings {
            cpu_some: stall(cpu.map(|p| p.some), cpu_some),
            memory_some: stall(memory.map(|p| p.some), memory_some),
            memory_full: stall(memory.and_then(|p| p.full), memory_full),
        }
    }
}
