//! `cargo xtask test`: all tests, in one order, with one verdict.

use crate::shell::{self, Result};
use crate::{brokers, docgen, tidy};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Tests counted in a runner's output.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Counts) -> Result<()>,
}

/// Quick ones first: who broke the format need not wait for the fuzzer.
const STEPS: &[Step] = &[
    Step { name: "tidy", about: "format, lints, arrows, lengths, words, docs", run: tidy_step },
    Step { name: "brokers", about: "the servers that tests start", run: brokers_step },
    Step { name: "unit", about: "unit and property tests of every crate", run: unit },
    Step { name: "build", about: "the release binary", run: build },
    Step { name: "config-doc", about: "the reference page is the program's", run: config_doc },
    Step { name: "loom", about: "model checks of what threads share", run: loom },
    Step { name: "conformance", about: "faults, bad input and the ledger", run: conformance },
    Step { name: "js", about: "the real JavaScript client and a browser", run: js },
    Step { name: "autobahn", about: "the WebSocket conformance cases", run: autobahn },
    Step { name: "fuzz", about: "every fuzz target for 30 seconds", run: fuzz },
];

struct Done {
    name: &'static str,
    time: Duration,
    counts: Counts,
    failed: bool,
}

/// `cargo xtask test`.
pub fn main(mut args: Vec<String>) -> Result<()> {
    let known: Vec<&str> = STEPS.iter().map(|s| s.name).collect();
    let only = shell::choice(&mut args, "--only", &known)?;
    let skip = shell::choice(&mut args, "--skip", &known)?;
    let list = shell::flag(&mut args, "--list");
    shell::nothing_left(&args)?;
    let chosen = |s: &&Step| {
        (only.is_empty() || only.iter().any(|o| o == s.name)) && !skip.iter().any(|o| o == s.name)
    };
    let steps: Vec<&Step> = STEPS.iter().filter(chosen).collect();
    if list {
        for step in steps {
            println!("{:<12} {}", step.name, step.about);
        }
        return Ok(());
    }
    let mut done: Vec<Done> = Vec::new();
    let mut failure = None;
    for step in steps {
        println!("\n=== {}: {}", step.name, step.about);
        let start = Instant::now();
        let mut counts = Counts::default();
        let outcome = (step.run)(&mut counts);
        let failed = outcome.is_err();
        done.push(Done { name: step.name, time: start.elapsed(), counts, failed });
        if let Err(e) = outcome {
            failure = Some(format!("step `{}` failed: {e}", step.name));
            break;
        }
    }
    summary(&done);
    match failure {
        Some(sentence) => Err(sentence),
        None => Ok(()),
    }
}

fn summary(done: &[Done]) {
    println!("\nstep          seconds   passed   failed");
    let mut all = Counts::default();
    for step in STEPS {
        let Some(d) = done.iter().find(|d| d.name == step.name) else {
            println!("{:<12}  not run", step.name);
            continue;
        };
        let seconds = d.time.as_secs_f64();
        let word = if d.failed { "   FAILED" } else { "" };
        let Counts { passed, failed, .. } = d.counts;
        println!("{:<12} {seconds:>8.1} {passed:>8} {failed:>8}{word}", d.name);
        all.add(d.counts);
    }
    if all.ignored > 0 {
        println!("{} ignored", all.ignored);
    }
    println!("{} passed, {} failed", all.passed, all.failed);
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Adds what a line of a runner says: cargo's and node's summaries, or `N passed, N failed`
    /// at the end of a script of ours.
    fn see(&mut self, line: &str) {
        let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("test result: ") {
            for part in rest.split([';', '.']) {
                match part.trim().split_once(' ') {
                    Some((n, "passed")) => self.passed += number(n),
                    Some((n, "failed")) => self.failed += number(n),
                    Some((n, "ignored")) => self.ignored += number(n),
                    _ => {}
                }
            }
            return;
        }
        let node = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "));
        match node.and_then(|l| l.split_once(' ')) {
            Some(("pass", n)) => self.passed += number(n),
            Some(("fail", n)) => self.failed += number(n),
            Some(("skipped" | "todo", n)) => self.ignored += number(n),
            _ => {}
        }
        if let Some((passed, failed)) = line.split_once(" passed, ") {
            let passed = passed.rsplit(' ').next().unwrap_or_default();
            let Some((failed, "failed")) = failed.split_once(' ') else { return };
            self.passed += number(passed);
            self.failed += number(failed);
        }
    }
}

/// Runs a test runner and counts. A run that tested nothing has not passed.
fn counted(c: &mut Command, counts: &mut Counts) -> Result<()> {
    let text = shell::shown(c);
    shell::tee(c, |line| counts.see(line))?;
    if counts.failed > 0 {
        return Err(format!("`{text}` ended well, but counted {} failures", counts.failed));
    }
    if counts.passed == 0 {
        return Err(format!("`{text}` ended well, but no test was seen to pass"));
    }
    Ok(())
}

fn tidy_step(_: &mut Counts) -> Result<()> {
    tidy::run(&[])
}

fn brokers_step(_: &mut Counts) -> Result<()> {
    brokers::run()
}

fn unit(counts: &mut Counts) -> Result<()> {
    let words = ["test", "--workspace", "--exclude", "plimsoll-conformance", "--no-fail-fast"];
    counted(shell::cargo().args(words), counts)
}

fn build(_: &mut Counts) -> Result<()> {
    let binary = shell::release_binary()?;
    let version = shell::capture(shell::command(&binary).arg("--version"))?;
    println!("{}", version.trim());
    Ok(())
}

fn config_doc(_: &mut Counts) -> Result<()> {
    docgen::check(&shell::release_binary()?)
}

/// The models are a crate of their own: with `--cfg loom` tokio leaves out its sockets, and the
/// server could not be built.
fn loom(counts: &mut Counts) -> Result<()> {
    let mut c = shell::cargo();
    c.args(["test", "--release", "--package", "plimsoll-models"]);
    // Own directory: other flags would make cargo build everything anew at each change of step.
    c.env("CARGO_TARGET_DIR", shell::target_dir()?.join("loom"));
    c.env("RUSTFLAGS", "--cfg loom");
    // Fat LTO buys nothing here and costs minutes.
    c.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    counted(&mut c, counts)
}

fn conformance(counts: &mut Counts) -> Result<()> {
    let binary = shell::release_binary()?;
    let mut c = shell::cargo();
    c.args(["test", "--release", "--package", "plimsoll-conformance", "--no-fail-fast"]);
    c.env("PLIMSOLL_BIN", binary);
    // The clients are not what is measured: link them quickly.
    c.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    c.env("CARGO_TARGET_DIR", shell::target_dir()?.join("conformance"));
    counted(&mut c, counts)
}

fn js(counts: &mut Counts) -> Result<()> {
    for program in ["node", "npm"] {
        if !shell::found(program) {
            shell::apt(&["nodejs", "npm"], &format!("`{program}` is needed: install Node.js"))?;
        }
    }
    let browsers = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    if !browsers.iter().any(|b| shell::found(b)) {
        shell::apt(&["chromium"], "a Chromium or Chrome browser is needed: install `chromium`")?;
    }
    counted(script("conformance/js/run.sh")?.env("PLIMSOLL_BIN", shell::release_binary()?), counts)
}

fn autobahn(counts: &mut Counts) -> Result<()> {
    let venv = |module: &str| {
        let probe = format!("import {module}");
        shell::capture(shell::command("python3").args(["-c", &probe])).is_ok()
    };
    // Debian splits venv: without ensurepip it exists but cannot make an environment.
    if !venv("venv") || !venv("ensurepip") {
        shell::apt(
            &["python3-venv"],
            "Python 3 with its `venv` module is needed: install `python3-venv`",
        )?;
    }
    // It builds its own echo server, on the codec of production.
    counted(&mut script("conformance/autobahn/run.sh")?, counts)
}

fn fuzz(counts: &mut Counts) -> Result<()> {
    if !shell::found("c++") {
        shell::apt(&["g++"], "a C++ compiler is needed to build the fuzzer: install `g++`")?;
    }
    // The script installs `cargo-fuzz` itself where it is missing.
    counted(script("fuzz/run.sh")?.arg("30"), counts)
}

fn script(path: &str) -> Result<Command> {
    let file: PathBuf = shell::root().join(path);
    if !file.is_file() {
        return Err(format!("{path} is missing"));
    }
    let mut c = shell::command("bash");
    c.arg(path);
    Ok(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, passed: u64, failed: u64, ignored: u64) {
        let mut counts = Counts::default();
        output.lines().for_each(|l| counts.see(l));
        assert_eq!(counts, Counts { passed, failed, ignored }, "{output}");
    }

    #[test]
    fn results_of_all_runners_are_counted() {
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out\n\
             test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            16,
            2,
            1,
        );
        check("# tests 9\n# pass 7\n# fail 1\n# skipped 1", 7, 1, 1);
        check("ℹ pass 3\nℹ fail 0", 3, 0, 0);
        check("autobahn: 247 passed, 0 failed", 247, 0, 0);
        check("running 3 tests\ntest a ... ok\nall passed, I hope", 0, 0, 0);
    }

    #[test]
    fn a_runner_that_tested_nothing_has_failed() {
        let mut counts = Counts::default();
        let outcome = counted(shell::command("sh").args(["-c", "exit 0"]), &mut counts);
        assert!(outcome.unwrap_err().contains("no test was seen to pass"));
    }
}
