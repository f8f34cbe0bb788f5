//! Values of metrics as Prometheus' text has them.

use crate::telemetry::stats::{CellOf, Histogram, WorkerStats};
use std::fmt::Write;
use std::sync::Arc;

/// The sum of a figure over the workers.
pub(super) fn sum(workers: &[Arc<WorkerStats>], cell: CellOf) -> u64 {
    workers.iter().map(|w| cell(w).get()).sum()
}

/// One histogram of parts that are added up.
pub(super) fn write_histogram<'a>(
    out: &mut String,
    name: &str,
    mut parts: impl Iterator<Item = &'a Histogram>,
) -> std::fmt::Result {
    let Some(first) = parts.next() else { return Ok(()) };
    let bounds = first.bounds();
    let mut counts: Vec<u64> = first.counts().collect();
    let mut total = first.sum();
    for part in parts {
        for (count, n) in counts.iter_mut().zip(part.counts()) {
            *count += n;
        }
        total += part.sum();
    }
    let mut below = 0;
    for (bound, count) in bounds.iter().zip(&counts) {
        below += count;
        writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}")?;
    }
    let all: u64 = counts.iter().sum();
    writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {total}\n{name}_count {all}")
}

/// A number as Prometheus writes it.
pub(super) fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".into() } else { value.to_string() }
}
