//! What is shown while the ramps run: a bar for people, lines of JSON for machines.

use super::plan::{Plan, RampId};
use indicatif::{ProgressBar, ProgressStyle};
use plimsoll_capacity::measured::{EndedBy, Step};
use std::collections::BTreeMap;
use std::io::Write;

/// Shows how far the run is.
#[derive(Debug)]
pub struct Progress {
    /// None: lines of JSON.
    bar: Option<ProgressBar>,
    /// Seconds of the bar before each ramp.
    begins: BTreeMap<RampId, u64>,
    shown: String,
}

impl Progress {
    /// For these ramps; `json`: lines on standard output instead of a bar on standard error.
    pub fn new(plan: &Plan, ramps: &[RampId], json: bool) -> Self {
        let mut sum = 0.0;
        let mut begins = BTreeMap::new();
        for ramp in ramps {
            begins.insert(*ramp, sum as u64);
            sum += plan.budget_s(*ramp);
        }
        let bar = (!json).then(|| {
            let bar = ProgressBar::new(sum as u64);
            let style = ProgressStyle::with_template("{bar:24} {elapsed:>5}  {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, begins, shown: String::new() }
    }

    /// A ramp begins.
    pub fn ramp(&mut self, ramp: RampId) {
        self.shown = format!("{} {}", ramp.name(), ramp.subject());
        if let Some(bar) = &self.bar {
            bar.set_position(self.begins.get(&ramp).copied().unwrap_or_default());
            bar.set_message(self.shown.clone());
        } else {
            line(&serde_json::json!({ "ramp": ramp.name(), "subject": ramp.subject() }));
        }
    }

    /// A step was measured.
    pub fn step(&mut self, step: &Step, broken: Option<EndedBy>) {
        let Some(bar) = &self.bar else {
            line(&serde_json::json!({ "step": step, "broken": broken }));
            return;
        };
        let cpu = step.server_cpu_us_per_s / 1e4;
        let broken = broken.map(|why| format!("  over: {}", super::report::reason(why)));
        bar.set_message(format!(
            "{}: {:.0}, p99 {:.1} ms, server {cpu:.0} % of a core{}",
            self.shown,
            step.offered,
            step.p99_ms,
            broken.unwrap_or_default()
        ));
        bar.tick();
    }

    /// All is done.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(value: &serde_json::Value) {
    // Whoever closed the standard output does not want to know.
    let _ = writeln!(std::io::stdout(), "{value}");
}
