//! `cargo xtask tidy`: what review should not have to look for.

mod arrows;
mod docs;
mod lengths;
mod licences;
mod source;
mod words;

use crate::shell::{self, Result};
use std::time::Instant;

/// What a check found, and what it has to say beside that.
#[derive(Default)]
pub struct Findings {
    /// Each one fails the command.
    pub problems: Vec<String>,
    /// What was not checked, or only in part.
    pub notes: Vec<String>,
}

impl Findings {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

type Check = fn() -> Result<Findings>;

const CHECKS: &[(&str, Check)] = &[
    ("fmt", fmt),
    ("files", docs::required),
    ("arrows", arrows::check),
    ("lengths", lengths::check),
    ("words", words::check),
    ("links", docs::links),
    ("metrics", docs::metrics),
    ("licences", licences::check),
    ("clippy", clippy),
];

/// `cargo xtask tidy`.
pub fn main(mut args: Vec<String>) -> Result<()> {
    let known: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    let skip = shell::choice(&mut args, "--skip", &known)?;
    shell::nothing_left(&args)?;
    run(&skip)
}

/// Runs every check, so that one sees all there is to mend, and fails if any found something.
pub fn run(skip: &[String]) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if skip.iter().any(|s| s == name) {
            println!("tidy {name:<9} skipped");
            continue;
        }
        let start = Instant::now();
        let mut found = check()?;
        let word = if found.problems.is_empty() { "ok" } else { "FAILED" };
        println!("tidy {name:<9} {word} ({:.1} s)", start.elapsed().as_secs_f64());
        for note in &found.notes {
            println!("    note: {note}");
        }
        found.problems.sort();
        for problem in &found.problems {
            println!("    {problem}");
        }
        if !found.problems.is_empty() {
            failed.push(*name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("tidy: {} failed", failed.join(", "))) }
}

fn fmt() -> Result<Findings> {
    let mut found = Findings::default();
    if shell::run(shell::cargo().args(["fmt", "--all", "--", "--check", "-l"])).is_err() {
        found.problem("`cargo fmt --all` would change files");
    }
    // The fuzz targets are a workspace of their own.
    if shell::root().join("fuzz/Cargo.toml").is_file() {
        let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--", "--check", "-l"];
        if shell::run(shell::cargo().args(fuzz)).is_err() {
            found.problem("`cargo fmt --manifest-path fuzz/Cargo.toml` would change files");
        }
    }
    Ok(found)
}

fn clippy() -> Result<Findings> {
    let mut found = Findings::default();
    let words = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    if let Err(e) = shell::run(shell::cargo().args(words)) {
        found.problem(e);
    }
    Ok(found)
}
