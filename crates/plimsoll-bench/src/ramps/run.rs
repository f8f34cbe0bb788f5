//! One run of the ramps: where they run, in which order, and what becomes of the findings.

use super::bench::Bench;
use super::found::{Found, Heading};
use super::plan::{Plan, RampId};
use super::progress::Progress;
use super::stage::{self, Place};
use super::{
    CapacityArgs, churn, connect, fanout, idle, ingest, mixed, overload, report, scaling,
    subscriptions,
};
use crate::server;
use plimsoll_capacity::fit::KneeRules;
use plimsoll_capacity::measured;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

/// Seconds of the quick form and of the whole one, everything included.
const WHOLE_S: [f64; 2] = [300.0, 2_700.0];
/// Of each four cores one drives the load; of two or three as well.
const CORES_PER_GENERATOR: usize = 4;

/// Runs the ramps and writes the file.
pub(super) fn run(args: &CapacityArgs) -> Result<(), String> {
    if !(args.slo_p99_ms.is_finite() && args.slo_p99_ms > 0.0) {
        return Err("--slo-p99-ms must be above 0".into());
    }
    let begin = Instant::now();
    let plan = Plan::new(args.quick);
    let whole_s = if args.quick { WHOLE_S[0] } else { WHOLE_S[1] };
    let end = begin + Duration::from_secs_f64(whole_s);
    let ramps: Vec<RampId> = RampId::ALL
        .into_iter()
        .filter(|ramp| args.only.is_empty() || args.only.contains(ramp))
        .collect();
    let mut found = Found::default();
    let (place, generator_cores) = place(args, &mut found)?;
    let workers = place.workers;
    let cores = place.server_cores.len();
    let mut rules = KneeRules::new(
        args.slo_p99_ms,
        workers.min(cores) as f64,
        server::fingerprint(workers, cores).memory_bytes as f64,
    );
    rules.descriptors = server::descriptor_limit() as f64;
    rules.generator_cores = generator_cores as f64;
    let progress = Progress::new(&plan, &ramps, args.json);
    let mut bench = Bench { plan, place, rules, found, progress, end };
    for ramp in RampId::ALL {
        if ramps.contains(&ramp) {
            one(&mut bench, ramp, end);
        } else {
            bench.found.missing(format!("{} ({})", ramp.name(), ramp.subject()), "--only");
        }
    }
    scaling::run(&mut bench, end);
    bench.tell_of_disturbances();
    always_missing(&mut bench.found);
    bench.progress.end();
    let heading = Heading {
        fingerprint: server::fingerprint(workers, cores),
        measured_at: server::utc_now(),
        quick: args.quick,
        slo_p99_ms: args.slo_p99_ms,
    };
    finish(args, bench.found, heading, begin)
}

/// One ramp. What goes wrong in it is written down, and the others go on.
fn one(bench: &mut Bench, ramp: RampId, end: Instant) {
    bench.begin(ramp, end);
    let done = match ramp {
        RampId::R1 => idle::run(bench),
        RampId::R2 => connect::run(bench),
        RampId::R3 => ingest::run(bench),
        RampId::R4 => fanout::run(bench),
        RampId::R5 => subscriptions::run(bench),
        RampId::R6 => mixed::run(bench),
        RampId::R7 => overload::run(bench),
        RampId::R8 => churn::run(bench),
    };
    if let Err(why) = done {
        bench.found.missing(format!("{} ({})", ramp.name(), ramp.subject()), why);
    }
}

/// Which cores are whose. This thread, and so the fleet, moves to the generator's.
fn place(args: &CapacityArgs, found: &mut Found) -> Result<(Place, usize), String> {
    let cores = server::cores_of_this_thread();
    if cores.is_empty() {
        return Err("the system does not tell which processors there are".into());
    }
    if let Some(url) = &args.url {
        let target = stage::parse_url(url)?;
        let given = Some((target, args.server_pid));
        let all = cores.len();
        found.missing("separate cores", "a given server runs wherever it was started");
        let place = Place { given, workers: all, server_cores: cores, threads: 1, awake: false };
        return Ok((place, all));
    }
    let own = (cores.len() / CORES_PER_GENERATOR).max(1);
    let mut awake = true;
    let (server_cores, own_cores) = match cores.split_at_checked(cores.len() - own) {
        Some((server, own)) if !server.is_empty() => (server.to_vec(), own.to_vec()),
        _ => {
            let why = "there is one core: server and generator share it, and the figures are low";
            found.missing("separate cores", why);
            awake = false;
            (cores.clone(), cores.clone())
        }
    };
    server::pin_this_thread(&own_cores)?;
    let workers = args.workers.unwrap_or(server_cores.len());
    if workers == 0 {
        return Err("--workers must be at least 1".into());
    }
    let threads = own_cores.len();
    Ok((Place { given: None, workers, server_cores, threads, awake }, threads))
}

fn always_missing(found: &mut Found) {
    let loopback = "server and clients share this machine: its network card is not part of it, \
         and on loopback the sender's CPU also pays for the receiver's TCP input";
    found.missing("network card and drivers", loopback);
    found.missing("TLS handshakes", "this server does not end TLS");
    found.missing("drain", "this server has no drain");
}

fn finish(
    args: &CapacityArgs,
    found: Found,
    heading: Heading,
    begin: Instant,
) -> Result<(), String> {
    let file = found.file(heading);
    let text = measured::write(&file).map_err(|error| format!("the figures: {error}"))?;
    let out = args.out.display();
    fs::write(&args.out, text).map_err(|error| format!("{out}: {error}"))?;
    let seconds = begin.elapsed().as_secs_f64();
    let shown = if args.json {
        serde_json::json!({ "file": args.out, "seconds": seconds }).to_string()
    } else {
        format!("{}\n{out} written after {seconds:.0} s", report::table(&file))
    };
    // Whoever closed the standard output does not want to know.
    let _ = writeln!(std::io::stdout(), "{shown}");
    Ok(())
}

/// For ramps with a given server.
pub(super) fn is_own(place: &Place) -> bool {
    place.given.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: CapacityArgs,
    }

    fn parse(flags: &[&str]) -> Result<CapacityArgs, clap::Error> {
        Cli::try_parse_from([&["x"], flags].concat()).map(|cli| cli.args)
    }

    #[test]
    fn flags() {
        let args = parse(&["--quick", "--only", "R1,r4"]).unwrap();
        assert!(args.quick && args.only == [RampId::R1, RampId::R4]);
        assert_eq!(args.out.to_str(), Some("capacity.json"));
        assert!(parse(&["--only", "R9"]).is_err());
        assert!(parse(&["--server-pid", "1"]).is_err());
        assert!(parse(&["--url", "ws://127.0.0.1:1/", "--workers", "2"]).is_err());
    }

    #[test]
    fn nonsense_is_refused_before_anything_runs() {
        for flags in [["--slo-p99-ms", "0"], ["--slo-p99-ms", "nan"]] {
            assert!(run(&parse(&flags).unwrap()).unwrap_err().contains("slo"));
        }
    }
}
