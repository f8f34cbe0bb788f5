//! `cargo xtask bench`: what a delivery, a connection and a reconnect cost, against a program
//! that only writes (`limit`), in the same run.
//!
//! The generator, rtbench, is a tool of its own and not part of this repository.

mod report;
mod rows;
mod rtbench;

use crate::shell::{self, Result};
use rows::{ROWS, Row};
use rtbench::{Generator, Run};
use serde_json::Value;
use std::path::PathBuf;

/// What is measured beside `limit`: workers of the server.
const WORKERS: [u32; 2] = [1, 2];

/// How to measure.
pub struct Options {
    reps: usize,
    quick: bool,
    only: Vec<String>,
    port: u16,
    cpu: u32,
}

/// One server's results for one row, in order of repetition; a failed run leaves its sentence.
pub type Series = Vec<std::result::Result<Value, String>>;

/// A row with what was measured: `limit` first, then each of `WORKERS`.
pub struct Measured {
    row: &'static Row,
    limit: Series,
    ours: Vec<Series>,
}

/// `cargo xtask bench`.
pub fn main(mut args: Vec<String>) -> Result<()> {
    let known: Vec<&str> = ROWS.iter().map(|r| r.id).collect();
    let rtbench = shell::option(&mut args, "--rtbench")?;
    let reps = number(&mut args, "--reps")?.unwrap_or(3) as usize;
    let port = number(&mut args, "--port")?.unwrap_or(9000);
    let cpu = number(&mut args, "--cpu")?.unwrap_or(1);
    let only = shell::choice(&mut args, "--only", &known)?;
    let quick = shell::flag(&mut args, "--quick");
    let list = shell::flag(&mut args, "--list");
    shell::nothing_left(&args)?;
    if list {
        ROWS.iter().for_each(|r| println!("{:<14} {}", r.id, r.title));
        return Ok(());
    }
    let port = u16::try_from(port).map_err(|_| "--port: no such port".to_owned())?;
    let options = Options { reps: reps.max(1), quick, only, port, cpu };
    let generator = Generator::prepare(rtbench.map(PathBuf::from))?;
    let server = shell::release_binary()?;
    let config = write_config()?;
    let ours = |workers: u32| {
        format!(
            "{} serve --config {} --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:0 \
             --workers {workers}",
            server.display(),
            config.display()
        )
    };
    let commands: Vec<String> = WORKERS.iter().map(|w| ours(*w)).collect();
    let measured = measure(&generator, &options, &commands)?;
    let page = report::page(&measured, &options, &generator);
    println!("{page}");
    keep(&page, &options)
}

fn number(args: &mut Vec<String>, name: &str) -> Result<Option<u32>> {
    let text = shell::option(args, name)?;
    text.map(|t| t.parse().map_err(|_| format!("{name}: `{t}` is no number"))).transpose()
}

/// Everything allowed and no rate limit: the generator is one client that publishes at once
/// what thousands would.
fn write_config() -> Result<PathBuf> {
    let file = shell::target_dir()?.join("bench.toml");
    let text = "[client]\ninsecure = true\nmessage_rate_limit = 0\n";
    std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(file)
}

/// Interleaved: the machine's speed drifts over minutes, so what is compared is measured
/// within seconds of each other, in turning order.
fn measure(generator: &Generator, options: &Options, ours: &[String]) -> Result<Vec<Measured>> {
    let chosen =
        |r: &&'static Row| options.only.is_empty() || options.only.iter().any(|o| o == r.id);
    let empty = |row| Measured { row, limit: Vec::new(), ours: vec![Vec::new(); ours.len()] };
    let mut all: Vec<Measured> = ROWS.iter().filter(chosen).map(empty).collect();
    for rep in 0..options.reps {
        for m in &mut all {
            let mut order: Vec<usize> = (0..=ours.len()).collect();
            if rep % 2 == 1 {
                order.reverse();
            }
            for who in order {
                let (label, dialect, server) = match who.checked_sub(1) {
                    None => ("limit".to_owned(), "raw", generator.limit(m.row, options.port)),
                    Some(i) => {
                        let label = format!("plimsoll-w{}", WORKERS[i]);
                        (label, "centrifugo", ours[i].clone())
                    }
                };
                let run = Run { label, dialect, server, row: m.row };
                let result = generator.run(&run, options);
                report::progress(rep, &run, &result);
                match who.checked_sub(1) {
                    None => m.limit.push(result),
                    Some(i) => m.ours[i].push(result),
                }
            }
        }
    }
    Ok(all)
}

/// Only a whole run may replace the page in the repository.
fn keep(page: &str, options: &Options) -> Result<()> {
    let whole = !options.quick && options.only.is_empty() && options.reps >= 3;
    let file = if whole {
        shell::root().join("docs/benchmarks.md")
    } else {
        shell::target_dir()?.join("benchmarks.md")
    };
    std::fs::write(&file, page).map_err(|e| format!("{}: {e}", file.display()))?;
    println!("wrote {}", file.display());
    if whole {
        return crate::docgen::write(&shell::release_binary()?);
    }
    println!("(a whole run, with 3 repetitions or more, writes docs/benchmarks.md)");
    Ok(())
}
