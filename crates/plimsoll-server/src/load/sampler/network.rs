//! The kernel's network tables.

use super::Counter;
use crate::load::files::{Desk, Kept};
use crate::load::{NetworkReadings, process};
use std::path::Path;
use std::time::Instant;

/// The network tables.
pub(super) struct Network {
    sockstat: Kept,
    netstat: Kept,
    snmp: Kept,
    overflows: Counter,
    drops: Counter,
    out: Counter,
    again: Counter,
}

impl Network {
    pub fn open(proc: &Path, desk: &mut Desk) -> Self {
        let mut kept = |name, signal| Kept::open(proc.join("self/net").join(name), signal, desk);
        Self {
            sockstat: kept("sockstat", "memory of TCP"),
            netstat: kept("netstat", "connections dropped by listeners"),
            snmp: kept("snmp", "TCP segments sent again"),
            overflows: Counter::default(),
            drops: Counter::default(),
            out: Counter::default(),
            again: Counter::default(),
        }
    }

    pub fn sample(&mut self, now: Instant, desk: &mut Desk) -> NetworkReadings {
        let pages = self.sockstat.get(desk, process::tcp_pages);
        let listens = self.netstat.get(desk, process::listens);
        let segments = self.snmp.get(desk, process::segments);
        NetworkReadings {
            tcp_memory_bytes: pages.map(|p| p as f64 * process::page_bytes()),
            listen_overflows: self.overflows.grown(listens.map(|l| l.overflows), now),
            listen_drops: self.drops.grown(listens.map(|l| l.drops), now),
            segments_out: self.out.grown(segments.map(|s| s.out), now),
            segments_again: self.again.grown(segments.map(|s| s.again), now),
        }
    }
}
