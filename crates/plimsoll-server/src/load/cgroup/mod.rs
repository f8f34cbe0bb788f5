//! Our own control group: where it is, and what its files say.

mod files;
mod find;

pub use files::{
    CpuStat, MemoryEvents, MemoryStat, Pressure, PressureLine, cfs_quota_us, cpu_max, cpu_stat,
    hits, memory_events, memory_limit, memory_stat, oom_kills, pressure,
};
pub use find::{Found, Group, Hierarchy, USUAL_MOUNT, Version, find, hierarchies};
