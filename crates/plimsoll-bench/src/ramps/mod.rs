//! `plimsoll bench capacity`: what one node carries, from steps to `capacity.json`.
//!
//! Each ramp raises one thing until a rule is broken ([`bench::broken`]), looks for the knee by
//! bisection ([`climb`]), and writes every step down. The cost model is fitted to the steps below
//! the knees, and checked against a mixed load that it was not fitted to.

mod bench;
mod churn;
mod climb;
mod connect;
mod fanout;
mod found;
mod idle;
mod ingest;
mod mixed;
mod overload;
mod plan;
mod progress;
mod report;
mod run;
mod scaling;
mod stage;
mod subscriptions;
mod window;

use clap::Args;
use plan::RampId;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure what a node of this machine carries, and write it to a file for `plimsoll plan` and
/// for the server.
#[derive(Debug, Args)]
pub struct CapacityArgs {
    /// Where to write the figures.
    #[arg(long, default_value = "capacity.json")]
    out: PathBuf,
    /// Fewer and shorter steps: five minutes at most instead of 45.
    #[arg(long)]
    quick: bool,
    /// A server that runs already, as ws://127.0.0.1:8000/connection/websocket. It must let
    /// everybody in, and have namespaces `room` (with history and recovery) and `live`. Without
    /// this a server is started for each ramp.
    #[arg(long)]
    url: Option<String>,
    /// Process of that server, if it is on this machine: for its CPU and memory.
    #[arg(long, requires = "url")]
    server_pid: Option<u32>,
    /// Worker threads of the server that is started. Default: one for each of its cores.
    #[arg(long, conflicts_with = "url")]
    workers: Option<usize>,
    /// Bound of the latency's 99th percentile in milliseconds: what a person takes for at once.
    /// It also bounds how far a step may be pushed before it counts as over the knee.
    #[arg(long, default_value_t = 100.0)]
    slo_p99_ms: f64,
    /// Only these ramps, as R1,R4. What needs the others is then left out.
    #[arg(long, value_delimiter = ',', value_parser = RampId::parse)]
    only: Vec<RampId>,
    /// Lines of JSON on standard output instead of a progress bar and a table.
    #[arg(long)]
    json: bool,
}

impl CapacityArgs {
    /// Runs the ramps: 0 = the file is written, 2 = it is not.
    pub fn run(self) -> ExitCode {
        match run::run(&self) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench capacity: {error}");
                ExitCode::from(2)
            }
        }
    }
}
