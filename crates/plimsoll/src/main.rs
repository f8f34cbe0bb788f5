//! Plimsoll: a real-time messaging server that knows its load line.

mod cli;
mod plan;
mod serve;
mod status;

use std::process::ExitCode;

use clap::Parser;

/// Gives memory back after a crowd has left, and tells what is resident.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
