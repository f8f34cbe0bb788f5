//! The generator: found, copied, built, and run once.

use super::Options;
use super::rows::Row;
use crate::shell::{self, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories of its source that are not needed to build it.
const NOT_COPIED: &[&str] = &["target", "results", "node_modules", ".git"];

pub struct Generator {
    bin: PathBuf,
    results: PathBuf,
}

/// One server under one load.
pub struct Run {
    pub label: String,
    pub dialect: &'static str,
    pub server: String,
    pub row: &'static Row,
}

impl Generator {
    /// Builds rtbench and `limit` unless `RTBENCH_BIN` names a directory that has them.
    pub fn prepare(source: Option<PathBuf>) -> Result<Generator> {
        let target = shell::target_dir()?;
        let results = target.join("bench-results.jsonl");
        // The generator appends, and one page tells of one run.
        let _ = std::fs::remove_file(&results);
        if let Some(bin) = std::env::var_os("RTBENCH_BIN").map(PathBuf::from) {
            if !bin.join("rtbench").is_file() || !bin.join("limit").is_file() {
                return Err(format!("RTBENCH_BIN: no rtbench and limit in {}", bin.display()));
            }
            return Ok(Generator { bin, results });
        }
        let source = source
            .or_else(|| std::env::var_os("RTBENCH_DIR").map(PathBuf::from))
            .unwrap_or_else(|| shell::root().join("../shared/rtbench"));
        if !source.join("Cargo.toml").is_file() {
            return Err(format!(
                "rtbench is not in {}: give its source by --rtbench DIR or RTBENCH_DIR",
                source.display()
            ));
        }
        // Always a copy: building writes a lock file, and the source may be read-only.
        let copy = target.join("rtbench-source");
        mirror(&source, &copy)?;
        let mut c = shell::cargo();
        c.current_dir(&copy).args(["build", "--release", "-p", "rtbench", "-p", "limit"]);
        c.env("CARGO_TARGET_DIR", target.join("rtbench"));
        shell::run(&mut c)?;
        Ok(Generator { bin: target.join("rtbench/release"), results })
    }

    /// The command of the floor for a row.
    pub fn limit(&self, row: &Row, port: u16) -> String {
        format!("{} --port {port} {}", self.bin.join("limit").display(), row.limit)
    }

    /// Where every raw result is appended.
    pub fn results(&self) -> &Path {
        &self.results
    }

    /// Runs the generator once; it starts and ends the server itself.
    pub fn run(&self, run: &Run, options: &Options) -> Result<Value> {
        let mut c = with_priority(&self.bin.join("rtbench"));
        let cpu = options.cpu.to_string();
        c.args(["--label", &run.label, "--dialect", run.dialect, "--server-cmd", &run.server]);
        c.args(["--addr", &format!("127.0.0.1:{}", options.port)]);
        c.args(["--pin-server", &cpu, "--pin-client", &cpu]);
        c.arg("--out").arg(&self.results).args(run.row.scenario).env("RUST_BACKTRACE", "0");
        if run.row.scenario.first() == Some(&"fanout") {
            let (warmup, duration) = if options.quick { ("0.3", "1") } else { ("0.5", "3") };
            c.args(["--warmup", warmup, "--duration", duration]);
        }
        let out = c.stdin(Stdio::null()).output();
        let out = out.map_err(|e| format!("rtbench did not start: {e}"))?;
        let text = String::from_utf8_lossy(&out.stdout);
        match text.lines().rev().find(|l| l.starts_with('{')) {
            Some(line) if out.status.success() => {
                serde_json::from_str(line).map_err(|e| format!("rtbench wrote no JSON: {e}"))
            }
            _ => Err(last_line(&out.stderr)),
        }
    }
}

/// What the generator said last; the hint about backtraces below a panic says nothing.
fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines = text.lines().rev().map(str::trim);
    let last = lines.find(|l| !l.is_empty() && !l.starts_with("note: "));
    last.unwrap_or("rtbench failed without a word").to_owned()
}

/// Sessions share the CPU evenly whatever their nice values, unless the session itself asks
/// for more, so the run gets a session of its own that does. Without the right to ask, or
/// without `setsid`, the figures scatter more.
fn with_priority(program: &Path) -> Command {
    if !shell::found("setsid") {
        return shell::command(program);
    }
    let mut c = shell::command("setsid");
    let ask = "echo -10 2>/dev/null >/proc/self/autogroup; exec \"$@\"";
    c.args(["--wait", "sh", "-c", ask, "sh"]).arg(program);
    c
}

/// Copies what has changed, so that cargo builds only what has changed.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    let say = |p: &Path, e: std::io::Error| format!("{}: {e}", p.display());
    std::fs::create_dir_all(to).map_err(|e| say(to, e))?;
    for entry in std::fs::read_dir(from).map_err(|e| say(from, e))?.flatten() {
        let (source, name) = (entry.path(), entry.file_name());
        let copy = to.join(&name);
        if source.is_dir() {
            if !NOT_COPIED.iter().any(|n| name == *n) {
                mirror(&source, &copy)?;
            }
            continue;
        }
        let bytes = std::fs::read(&source).map_err(|e| say(&source, e))?;
        if std::fs::read(&copy).ok().as_ref() != Some(&bytes) {
            // Not `fs::copy`: that would copy the read-only mark as well.
            std::fs::write(&copy, bytes).map_err(|e| say(&copy, e))?;
        }
    }
    Ok(())
}
