//! The commands of the project: test, tidy, bench, brokers, docgen.
//!
//! Written in Rust so that they need no shell dialect and are checked like the rest.

mod bench;
mod brokers;
mod docgen;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  tidy     format, lints, arrows, lengths, words, licences, docs: seconds once it is built
             --skip CHECK[,CHECK]
  test     the whole test command; tidy is its first step
             --only STEP[,STEP]  --skip STEP[,STEP]  --list
  bench    the price of a delivery against bare writes; writes docs/benchmarks.md
             --rtbench DIR  --quick  --reps N  --only ROW[,ROW]  --port P  --cpu N  --list
  brokers  gets the servers that tests start, into target/brokers
  docgen   writes what is generated: configuration keys, the plan of the measured machine";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let command = if args.is_empty() { String::new() } else { args.remove(0) };
    let outcome = match command.as_str() {
        "tidy" => tidy::main(args),
        "test" => test::main(args),
        "bench" => bench::main(args),
        "brokers" => brokers::main(args),
        "docgen" => docgen::main(args),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}
