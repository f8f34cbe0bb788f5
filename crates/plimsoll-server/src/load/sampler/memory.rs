//! Memory of our cgroup and of this process.

use super::{Counter, Own, ratio, smallest, tightest};
use crate::load::cgroup::{self, Group, MemoryEvents, Version};
use crate::load::files::{Desk, Kept};
use crate::load::{Configured, MemoryReadings, parse, process};
use std::path::Path;
use std::time::Instant;

/// The cgroup's memory. Limits and the events at them are those of the level with the smallest
/// limit, use is our own.
pub(super) struct Memory {
    limits: Vec<Kept>,
    events: Vec<(Kept, ParseEvents)>,
    usage: Option<Kept>,
    stat: Option<Kept>,
    /// Version 1 has it in a file of its own.
    socket: Option<Kept>,
    machine_bytes: Option<f64>,
    high: Counter,
    max: Counter,
    oom: Counter,
}

type ParseEvents = fn(&[u8]) -> Option<MemoryEvents>;

/// Names that differ between the versions.
struct MemoryFiles {
    limits: &'static [&'static str],
    events: &'static [(&'static str, ParseEvents)],
    usage: &'static str,
    socket: Option<&'static str>,
}

const MEMORY_TWO: MemoryFiles = MemoryFiles {
    limits: &["memory.max", "memory.high"],
    events: &[("memory.events", cgroup::memory_events)],
    usage: "memory.current",
    socket: None,
};

const MEMORY_ONE: MemoryFiles = MemoryFiles {
    limits: &["memory.limit_in_bytes"],
    events: &[("memory.failcnt", cgroup::hits), ("memory.oom_control", cgroup::oom_kills)],
    usage: "memory.usage_in_bytes",
    socket: Some("memory.kmem.tcp.usage_in_bytes"),
};

impl Memory {
    pub fn open(group: Option<&Group>, proc: &Path, desk: &mut Desk) -> Self {
        let meminfo = proc.join("meminfo");
        let machine = desk.once(&meminfo, process::machine_bytes);
        if machine.is_none() {
            desk.tell("memory of the machine", &meminfo, "cannot be read");
        }
        let mut memory = Self {
            limits: Vec::new(),
            events: Vec::new(),
            usage: None,
            stat: None,
            socket: None,
            machine_bytes: machine.map(|b| b as f64),
            high: Counter::default(),
            max: Counter::default(),
            oom: Counter::default(),
        };
        if let Some(group) = group {
            memory.open_group(group, desk);
        }
        memory
    }

    fn open_group(&mut self, group: &Group, desk: &mut Desk) {
        let files = match group.version {
            Version::Two => &MEMORY_TWO,
            Version::One => &MEMORY_ONE,
        };
        let mut silent = Desk::new();
        let binding = tightest(group, |dir| {
            let limits =
                files.limits.iter().map(|f| silent.once(&dir.join(f), cgroup::memory_limit));
            limits.flatten().min_by(f64::total_cmp)
        });
        for name in files.limits {
            self.limits.push(Kept::open(binding.join(name), "memory limit", desk));
        }
        for (name, parse) in files.events {
            let kept = Kept::open(binding.join(name), "events at the memory limit", desk);
            self.events.push((kept, *parse));
        }
        let own = group.own();
        self.usage = Some(Kept::open(own.join(files.usage), "memory of our cgroup", desk));
        self.stat = Some(Kept::open(own.join("memory.stat"), "kinds of memory", desk));
        self.socket = files.socket.map(|f| Kept::open(own.join(f), "memory of sockets", desk));
    }

    pub fn sample(
        &mut self,
        now: Instant,
        desk: &mut Desk,
        own: &mut Own,
        configured: Configured,
    ) -> MemoryReadings {
        let limits = self.limits.iter_mut().filter_map(|k| k.get(desk, cgroup::memory_limit));
        let cgroup_limit = limits.min_by(f64::total_cmp);
        let usage = self.usage.as_mut().and_then(|k| k.get(desk, parse::number));
        let stat = self.stat.as_mut().and_then(|k| k.get(desk, cgroup::memory_stat));
        let stat = stat.unwrap_or_default();
        let socket = self.socket.as_mut().and_then(|k| k.get(desk, parse::number)).or(stat.sock);
        let events = self.read_events(desk);
        let resident_bytes = own.resident_bytes(desk);
        let float = |n: Option<u64>| n.map(|n| n as f64);
        let limit_bytes = smallest([cgroup_limit, float(configured.memory_bytes)]);
        let in_cgroup = usage.map(|u| u.saturating_sub(stat.inactive_file.unwrap_or(0)) as f64);
        let of_process = resident_bytes
            .map(|r| r + float(socket).unwrap_or(0.0) + float(stat.slab).unwrap_or(0.0));
        let used_bytes = match cgroup_limit {
            Some(limit) if limit.is_finite() => in_cgroup.or(of_process),
            _ => smallest([in_cgroup, of_process]),
        };
        MemoryReadings {
            resident_bytes,
            cgroup_bytes: float(usage),
            inactive_file_bytes: float(stat.inactive_file),
            used_bytes,
            limit_bytes,
            used_ratio: ratio(used_bytes, limit_bytes),
            machine_bytes: self.machine_bytes,
            socket_bytes: float(socket),
            slab_bytes: float(stat.slab),
            high_events: self.high.grown(events.high, now),
            max_events: self.max.grown(events.max, now),
            oom_events: self.oom.grown(events.oom, now),
        }
    }

    fn read_events(&mut self, desk: &mut Desk) -> MemoryEvents {
        let mut all = MemoryEvents::default();
        for (kept, parse) in &mut self.events {
            let some = kept.get(desk, *parse).unwrap_or_default();
            all.high = all.high.or(some.high);
            all.max = all.max.or(some.max);
            all.oom = all.oom.or(some.oom);
        }
        all
    }
}
