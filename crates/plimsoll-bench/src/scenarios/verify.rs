//! `bench verify`: judges the books of a run again.

use super::about;
use super::run::judged;
use crate::ledger::Ledger;
use crate::report::Summary;
use clap::Args;
use std::path::PathBuf;

/// Judge a stored run again.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// What `bench run --ledger` wrote.
    pub file: PathBuf,
    /// The summary as a line of JSON.
    #[arg(long)]
    pub json: bool,
}

impl VerifyArgs {
    /// Runs it.
    pub fn execute(&self) -> Result<Summary, String> {
        let ledger = Ledger::load(&self.file).map_err(about(self.file.display()))?;
        let mut summary = Summary::of("verify");
        summary.notes.push(format!("Run: {}.", ledger.run.name));
        judged(&mut summary, &ledger);
        Ok(summary)
    }
}
