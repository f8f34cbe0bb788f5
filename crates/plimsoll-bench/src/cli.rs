//! `plimsoll bench`: its command line.

use crate::fleet;
use crate::ramps::CapacityArgs;
use crate::scenarios::backbone::BackboneArgs;
use crate::scenarios::cluster::ClusterArgs;
use crate::scenarios::connect::ConnectArgs;
use crate::scenarios::fanout::FanoutArgs;
use crate::scenarios::idle::IdleArgs;
use crate::scenarios::overload::OverloadArgs;
use crate::scenarios::run::RunArgs;
use crate::scenarios::slow::SlowArgs;
use crate::scenarios::storm::StormArgs;
use crate::scenarios::verify::VerifyArgs;
use crate::scenarios::{Common, conclude};
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Put load on a server, and judge what came of it.
///
/// Every run ends with a verdict, which is the exit code as well: 0 = kept, 1 = broken, 2 = void
/// (too little happened to tell, or it could not be run).
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<RunArgs>),
    Cluster(Box<ClusterArgs>),
    Backbone(BackboneArgs),
    Connect(ConnectArgs),
    Fanout(FanoutArgs),
    Storm(StormArgs),
    Overload(OverloadArgs),
    Slow(SlowArgs),
    Idle(IdleArgs),
    Verify(VerifyArgs),
    Capacity(CapacityArgs),
    /// A process of a fleet: started by another one, not by people.
    #[command(hide = true)]
    Agent,
}

impl Bench {
    /// Runs the command: 0 = kept, 1 = broken, 2 = void.
    pub fn run(self) -> ExitCode {
        let (scenario, json, result) = match self.command {
            Command::Run(args) => ("run", json(&args.common), args.execute()),
            Command::Cluster(args) => ("cluster", json(&args.common), args.execute()),
            Command::Backbone(args) => ("backbone", args.json, args.execute()),
            Command::Connect(args) => ("connect", json(&args.common), args.execute()),
            Command::Fanout(args) => ("fanout", json(&args.common), args.execute()),
            Command::Storm(args) => ("storm", json(&args.common), args.execute()),
            Command::Overload(args) => ("overload", json(&args.common), args.execute()),
            Command::Slow(args) => ("slow", json(&args.common), args.execute()),
            Command::Idle(args) => ("idle", json(&args.common), args.execute()),
            Command::Verify(args) => ("verify", args.json, args.execute()),
            Command::Capacity(args) => return args.run(),
            Command::Agent => return fleet::agent(),
        };
        conclude(scenario, json, result)
    }
}

fn json(common: &Common) -> bool {
    common.json
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Bench,
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        for line in [
            "run --clients 5000 --duration 5m",
            "run --workload w.toml --users 10 --room-sizes power_law:2 --receipts author",
            "run --ledger run.plimsoll --no-history --json --reconnect paced:5000",
            "cluster --backbone redis_cluster --fault cluster-master-kill --stay 0s --json",
            "cluster --nodes 2 --backbone jetstream --broker-bin /nowhere --fault partition:9s",
            "run --url ws://127.0.0.1:1 --url ws://127.0.0.1:2 --server-pid 3 --server-pid 4",
            "backbone --backbone redis --backbone memory --batches 1,16 --duration 1s --json",
            "connect --clients 100 --rate 50",
            "fanout --rates 1000,saturated --rooms 10 --subscribers 10",
            "storm --reconnect phoenix --rounds 1",
            "overload --line off --factors 2,10 --duration 5s",
            "slow --good 50 --bad 10 --duration 5s",
            "storm --line on --accepts-per-s 500 --established 100",
            "idle --steps 10,20 --hold 1s",
            "verify run.plimsoll",
        ] {
            let words = ["plimsoll"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in [
            "",
            "cluster --fault x",
            "verify",
            "storm --reconnect x",
            "fanout --rates -1",
            "idle --hold 0s",
        ] {
            let words = ["plimsoll"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
