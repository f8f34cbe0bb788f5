//! `plimsoll bench`: its command line.

use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Put load on a server, and judge what came of it.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

impl Bench {
    /// Runs the command: 0 = kept, 1 = broken, 2 = void.
    pub fn run(self) -> ExitCode {
        match self.command {}
    }
}
