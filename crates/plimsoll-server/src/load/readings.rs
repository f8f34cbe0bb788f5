//! What one sample says.

/// One sample. A field is `None` where the system does not say it; a field that counts *since the
/// last sample* is `None` in the first one, and never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readings {
    /// Processor time.
    pub cpu: CpuReadings,
    /// Memory.
    pub memory: MemoryReadings,
    /// Waiting for the processor or for memory, in our own cgroup.
    pub stalls: StallReadings,
    /// File descriptors.
    pub descriptors: DescriptorReadings,
    /// The kernel's network tables. They cover this network namespace.
    pub network: NetworkReadings,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuReadings {
    /// Cores this process kept busy since the last sample.
    pub process_cores: Option<f64>,
    /// Cores our cgroup kept busy since the last sample; `None` without one of our own.
    pub cgroup_cores: Option<f64>,
    /// Cores by the tightest quota; `None` without a quota.
    pub quota_cores: Option<f64>,
    /// Cores this process may run on.
    pub allowed_cores: Option<f64>,
    /// The smallest of quota, allowed and configured cores.
    pub limit_cores: Option<f64>,
    /// Use over `limit_cores`. Under a quota the cgroup's use counts, since all of it draws on the
    /// quota, else this process's. May be a little above 1.
    pub used_ratio: Option<f64>,
    /// Periods of the quota since the last sample. A period is 100 ms unless set: sum several
    /// samples before making a ratio.
    pub periods: Option<f64>,
    /// Those of `periods` in which the quota ran out.
    pub throttled_periods: Option<f64>,
    /// Seconds of being stopped since the last sample, added over cores, so it can exceed the
    /// time between samples.
    pub throttled_s: Option<f64>,
}

/// Memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryReadings {
    /// Resident bytes of this process. The kernel's share for sockets is not in it.
    pub resident_bytes: Option<f64>,
    /// Bytes charged to our cgroup, with page cache and kernel memory.
    pub cgroup_bytes: Option<f64>,
    /// Page cache of our cgroup that the kernel drops first.
    pub inactive_file_bytes: Option<f64>,
    /// What counts. Under a cgroup's limit it is `cgroup_bytes - inactive_file_bytes`, since all
    /// of that draws on the limit. Else a cgroup may hold anything, so it is what this process can
    /// have of it at most: resident bytes with the sockets and kernel objects of the cgroup.
    pub used_bytes: Option<f64>,
    /// The smallest of the cgroups' limits and the configured one; `None` if there is none.
    pub limit_bytes: Option<f64>,
    /// `used_bytes` over `limit_bytes`; may pass 1 under a configured limit.
    pub used_ratio: Option<f64>,
    /// Memory of the machine: the last limit, shared with everybody on it.
    pub machine_bytes: Option<f64>,
    /// Socket buffers charged to our cgroup. Version 1 counts them only where they are limited,
    /// and says 0 elsewhere.
    pub socket_bytes: Option<f64>,
    /// Kernel objects charged to our cgroup (version 2 only).
    pub slab_bytes: Option<f64>,
    /// Times `memory.high` was passed since the last sample. Page cache alone can do this: look
    /// at `used_bytes` too.
    pub high_events: Option<f64>,
    /// Times the hard limit was hit since the last sample. Page cache alone can do this too.
    pub max_events: Option<f64>,
    /// Times the kernel ran out of memory in the cgroup (version 1: killed for it) since the last
    /// sample.
    pub oom_events: Option<f64>,
}

/// Share of time in which tasks of our cgroup waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StallReadings {
    /// At least one task waited for a core.
    pub cpu_some: Stall,
    /// At least one task waited for memory.
    pub memory_some: Stall,
    /// All tasks waited for memory.
    pub memory_full: Stall,
}

/// One line of pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Share of the time since the last sample, 0 to 1.
    pub ratio: Option<f64>,
    /// The kernel's running average over 10 s, 0 to 1.
    pub average_10s: Option<f64>,
}

/// File descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DescriptorReadings {
    /// Open descriptors of this process. Up to 5 s old on kernels before 6.2.
    pub open: Option<f64>,
    /// The soft limit; `None` without one.
    pub limit: Option<f64>,
}

/// The kernel's network tables.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NetworkReadings {
    /// Bytes of TCP buffers of the whole system.
    pub tcp_memory_bytes: Option<f64>,
    /// Connections that found an accept queue full since the last sample.
    pub listen_overflows: Option<f64>,
    /// Connections dropped by listeners since the last sample, overflows among them.
    pub listen_drops: Option<f64>,
    /// TCP segments sent since the last sample, without repetitions.
    pub segments_out: Option<f64>,
    /// TCP segments sent again since the last sample.
    pub segments_again: Option<f64>,
}
