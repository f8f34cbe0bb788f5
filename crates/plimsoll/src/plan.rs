//! `plimsoll plan`: from a workload to nodes, headroom and cost.

use clap::Args;
use std::process::ExitCode;

/// Plan how many nodes a workload needs, and what they cost.
#[derive(Debug, Args)]
pub struct Plan {}

impl Plan {
    /// Prints the plan.
    pub fn run(self) -> Result<ExitCode, String> {
        Err("not built".into())
    }
}
