//! What the kernel says of this process alone.

use crate::load::files::{Desk, Kept};
use crate::load::process::{self, Descriptors};
use crate::load::{DescriptorReadings, SLOW};
use std::path::Path;
use std::time::Instant;

/// What the kernel says of this process.
pub(super) struct Own {
    statm: Kept,
    status: Kept,
    fd: Descriptors,
    pub allowed_cores: Option<f64>,
    open: Option<f64>,
    looked: Option<Instant>,
    told_no_directory: bool,
}

impl Own {
    pub fn open(proc: &Path, desk: &mut Desk) -> Self {
        Self {
            statm: Kept::open(proc.join("self/statm"), "resident memory", desk),
            status: Kept::open(proc.join("self/status"), "cores we may run on", desk),
            fd: Descriptors::new(proc),
            allowed_cores: None,
            open: None,
            looked: None,
            told_no_directory: false,
        }
    }

    /// What is dear or seldom changes. Without the directory nothing is tried again.
    pub fn look_slowly(&mut self, now: Instant, desk: &mut Desk) {
        let is_due = self.looked.is_none_or(|at| now.saturating_duration_since(at) >= SLOW);
        if is_due {
            self.looked = Some(now);
            self.allowed_cores =
                self.status.get(desk, process::allowed_cores).map(|cores| cores as f64);
        }
        if self.told_no_directory || !(is_due || self.fd.is_cheap()) {
            return;
        }
        self.open = self.fd.open().map(|n| n as f64);
        if self.open.is_none() {
            self.told_no_directory = true;
            desk.tell("open descriptors", self.fd.path(), "cannot be read");
        }
    }

    pub fn resident_bytes(&mut self, desk: &mut Desk) -> Option<f64> {
        let pages = self.statm.get(desk, process::resident_pages)?;
        Some(pages as f64 * process::page_bytes())
    }

    pub fn descriptors(&self) -> DescriptorReadings {
        let limit = process::descriptor_limit().map(|n| n as f64);
        DescriptorReadings { open: self.open, limit }
    }
}
