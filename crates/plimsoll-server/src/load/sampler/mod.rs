//! Reads all signals, and makes differences from what counts upwards.

mod cpu;
mod memory;
mod network;
mod own;
mod stalls;

use super::cgroup::{self, Group};
use super::files::Desk;
use super::{Configured, Notice, Paths, Readings};
use cpu::Cpu;
use memory::Memory;
use network::Network;
use own::Own;
use stalls::Stalls;
use std::path::Path;
use std::time::Instant;

/// Reads the signals of one process. One thread owns it.
pub struct Sampler {
    desk: Desk,
    configured: Configured,
    cpu: Cpu,
    memory: Memory,
    stalls: Option<Stalls>,
    own: Own,
    network: Network,
}

impl Sampler {
    /// Finds out what there is and opens it. What is missing stands in the notices.
    pub fn new(paths: &Paths, configured: Configured) -> Self {
        let mut desk = Desk::new();
        let found = cgroup::find(paths);
        let missing = [
            ("processor quota of a cgroup of our own", found.cpu.is_none()),
            ("memory of a cgroup of our own", found.memory.is_none()),
            ("pressure stalls of a cgroup of our own", found.unified.is_none()),
        ];
        for (signal, _) in missing.into_iter().filter(|(_, is_missing)| *is_missing) {
            desk.tell(signal, &paths.cgroup, "this process has none here");
        }
        Self {
            configured,
            cpu: Cpu::open(found.cpu.as_ref(), found.cpuacct.as_ref(), &mut desk),
            memory: Memory::open(found.memory.as_ref(), &paths.proc, &mut desk),
            stalls: found.unified.as_ref().map(|g| Stalls::open(g, &mut desk)),
            own: Own::open(&paths.proc, &mut desk),
            network: Network::open(&paths.proc, &mut desk),
            desk,
        }
    }

    /// Takes a sample. `now` must not go back; if it does, what needs a time is `None`.
    pub fn sample(&mut self, now: Instant) -> Readings {
        let desk = &mut self.desk;
        self.own.look_slowly(now, desk);
        Readings {
            cpu: self.cpu.sample(now, desk, &mut self.own, self.configured),
            memory: self.memory.sample(now, desk, &mut self.own, self.configured),
            stalls: self.stalls.as_mut().map(|s| s.sample(now, desk)).unwrap_or_default(),
            descriptors: self.own.descriptors(),
            network: self.network.sample(now, desk),
        }
    }

    /// What was found missing since the last call, each file once.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.desk.notices)
    }
}

/// A number that counts upwards, and when it was read.
#[derive(Default)]
pub(super) struct Counter(Option<(u64, Instant)>);

/// How much a counter grew, and in how many seconds.
#[derive(Clone, Copy)]
pub(super) struct Growth {
    pub by: f64,
    pub seconds: f64,
}

impl Counter {
    /// Growth since the last value that was there. A counter that went back was started anew, and
    /// what it counted before that is not known: it did not grow.
    pub fn step(&mut self, value: Option<u64>, now: Instant) -> Option<Growth> {
        let value = value?;
        let (last, at) = self.0.replace((value, now))?;
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        Some(Growth { by: value.saturating_sub(last) as f64, seconds })
    }

    /// The growth alone.
    fn grown(&mut self, value: Option<u64>, now: Instant) -> Option<f64> {
        self.step(value, now).map(|g| g.by)
    }

    /// Growth in seconds of a counter of microseconds, for each second.
    fn rate(&mut self, value_us: Option<u64>, now: Instant) -> Option<f64> {
        let growth = self.step(value_us, now).filter(|g| g.seconds > 0.0)?;
        Some(growth.by / 1e6 / growth.seconds)
    }
}

/// The level with the smallest limit; the nearest of several, our own if there is none.
fn tightest(group: &Group, mut limit: impl FnMut(&Path) -> Option<f64>) -> &Path {
    let mut best = (f64::INFINITY, group.own());
    for dir in &group.levels {
        if let Some(found) = limit(dir).filter(|l| *l < best.0) {
            best = (found, dir);
        }
    }
    best.1
}

fn smallest<const N: usize>(limits: [Option<f64>; N]) -> Option<f64> {
    limits.into_iter().flatten().filter(|l| l.is_finite()).min_by(f64::total_cmp)
}

fn ratio(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    Some(part? / whole.filter(|w| *w > 0.0)?)
}
