//! From results to a page.

use super::rows::{Bar, Row};
use super::rtbench::{Generator, Run};
use super::{Measured, Options, Series, WORKERS};
use crate::shell::{self, Result};
use serde_json::Value;
use std::fmt::Write;

/// Median and range of a figure over the repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let mid = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[mid]
        } else {
            f64::midpoint(values[mid - 1], values[mid])
        };
        Some(Spread { median, min, max })
    }

    fn shown(&self, digits: usize) -> String {
        let Spread { median, min, max } = self;
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

fn figure(row: &Row, result: &Value) -> Option<f64> {
    row.field.iter().try_fold(result, |v, key| v.get(key))?.as_f64()
}

fn figures(row: &Row, series: &Series) -> Vec<f64> {
    series.iter().filter_map(|r| figure(row, r.as_ref().ok()?)).collect()
}

/// Ratios of what was measured side by side, one for each repetition where both worked.
fn ratios(row: &Row, ours: &Series, limit: &Series) -> Vec<f64> {
    let pairs = ours.iter().zip(limit);
    let ratio = |(a, b): (&std::result::Result<Value, _>, &std::result::Result<Value, _>)| {
        let (a, b) = (figure(row, a.as_ref().ok()?)?, figure(row, b.as_ref().ok()?)?);
        (b > 0.0).then_some(a / b)
    };
    pairs.filter_map(ratio).collect()
}

/// What went wrong besides the price: a delivery lost or late in order makes the price void.
fn faults(series: &Series) -> Vec<String> {
    let mut all = Vec::new();
    for result in series {
        match result {
            Err(e) => all.push(format!("a run failed: {e}")),
            Ok(v) => {
                for key in ["lost", "out_of_order", "refused", "closed", "failures"] {
                    if let Some(n) = v.get(key).and_then(Value::as_u64).filter(|n| *n > 0) {
                        all.push(format!("{key} {n}"));
                    }
                }
            }
        }
    }
    all
}

/// The value that is held against the bar, and whether it passes.
fn verdict(m: &Measured, ours: &Series) -> (Option<Spread>, bool) {
    let (spread, bar) = match m.row.bar {
        Bar::Ratio(bar) => (Spread::of(ratios(m.row, ours, &m.limit)), bar),
        Bar::Absolute(bar) => (Spread::of(figures(m.row, ours)), bar),
    };
    let passes = spread.is_some_and(|s| s.median <= bar) && faults(ours).is_empty();
    (spread, passes)
}

/// One line while measuring.
pub fn progress(rep: usize, run: &Run, result: &Result<Value>) {
    let text = match result {
        Ok(v) => match figure(run.row, v) {
            Some(n) => format!("{n:.3} {}", run.row.unit),
            None => "no figure in the result".to_owned(),
        },
        Err(e) => format!("FAILED: {e}"),
    };
    println!("{} {:<12} {:<12} {text}", rep + 1, run.row.id, run.label);
}

/// The whole page.
pub fn page(all: &[Measured], options: &Options, generator: &Generator) -> String {
    let mut text = heading(options);
    let names: String = WORKERS.iter().map(|w| format!(" plimsoll, {w} |")).collect();
    let _ = writeln!(text, "| figure | bar |{names}");
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(WORKERS.len()));
    for m in all {
        let (bar, digits) = match m.row.bar {
            Bar::Ratio(bar) => {
                let floor = format!("limit {}", m.row.limit);
                (format!("≤ {bar:.2} × `{}`", floor.trim()), 2)
            }
            Bar::Absolute(bar) => (format!("≤ {bar:.0} {}", m.row.unit), 0),
        };
        let cells: String = m.ours.iter().map(|s| cell(m, s, digits)).collect();
        let _ = writeln!(text, "| {} | {bar} |{cells}", m.row.title);
    }
    text.push_str("\nColumns: workers. Values: median (lowest–highest) over the repetitions; a ");
    text.push_str("ratio is\ntaken between runs that followed each other.\n");
    absolute(all, &mut text);
    misses(all, &mut text);
    let name = generator.results().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let _ = writeln!(text, "\nRaw results: `{name}` in the target directory of that run.");
    text.push_str(&crate::docgen::empty_section());
    text
}

fn cell(m: &Measured, ours: &Series, digits: usize) -> String {
    match verdict(m, ours) {
        (Some(s), passes) => {
            format!(" {} {} |", s.shown(digits), if passes { "pass" } else { "**miss**" })
        }
        (None, _) => " **not measured** |".to_owned(),
    }
}

fn absolute(all: &[Measured], text: &mut String) {
    let names: String = WORKERS.iter().map(|w| format!(" plimsoll, {w} |")).collect();
    let _ = write!(text, "\n## Absolute values\n\n| figure | unit | limit |{names}\n|---|---|---|");
    let _ = writeln!(text, "{}", "---|".repeat(WORKERS.len()));
    for m in all {
        let digits = if matches!(m.row.bar, Bar::Absolute(_)) { 0 } else { 3 };
        let _ = write!(text, "| {} | {} |", m.row.title, m.row.unit);
        for series in std::iter::once(&m.limit).chain(&m.ours) {
            let shown = Spread::of(figures(m.row, series)).map(|s| s.shown(digits));
            let _ = write!(text, " {} |", shown.unwrap_or_else(|| "–".to_owned()));
        }
        text.push('\n');
    }
}

fn misses(all: &[Measured], text: &mut String) {
    text.push_str("\n## What missed\n\n");
    let before = text.len();
    for m in all {
        for (series, workers) in m.ours.iter().zip(WORKERS) {
            let (spread, passes) = verdict(m, series);
            if passes {
                continue;
            }
            let bar = match m.row.bar {
                Bar::Ratio(bar) => format!("{bar:.2} ×"),
                Bar::Absolute(bar) => format!("{bar:.0} {}", m.row.unit),
            };
            let got = spread.map_or("nothing".to_owned(), |s| format!("{:.2}", s.median));
            let _ = write!(text, "- {}, {workers} worker(s): {got}, bar {bar}", m.row.title);
            for fault in faults(series) {
                let _ = write!(text, "; {fault}");
            }
            text.push('\n');
        }
        for fault in faults(&m.limit) {
            let _ = writeln!(text, "- {}: with `limit`, {fault}", m.row.title);
        }
    }
    if text.len() == before {
        text.push_str("Nothing: every bar was met.\n");
    }
}

fn heading(options: &Options) -> String {
    let said = |program: &str, args: &[&str]| {
        let text = shell::capture(shell::command(program).args(args)).unwrap_or_default();
        text.trim().to_owned()
    };
    let mut commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    if !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        commit.push_str(" with uncommitted changes");
    }
    let mut command = format!("cargo xtask bench --reps {}", options.reps);
    if options.quick {
        command.push_str(" --quick");
    }
    if !options.only.is_empty() {
        let _ = write!(command, " --only {}", options.only.join(","));
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# Benchmarks\n\n\
         Written by `{command}`, not by hand.\n\n\
         `limit` is a program that does nothing but write a ready-made frame to every\n\
         subscriber, one `send(2)` for each: what the plain writes alone cost on this machine.\n\
         Server and generator share one core, so that the price of a delivery does not\n\
         depend on where the host runs its virtual CPUs; only the ratio within one run counts.\n\
         Payloads are 200 bytes. The protocol is the JSON client protocol, clients are not\n\
         authenticated. The bars were set for one worker. The second column shows what two\n\
         workers on the same core cost; it does not show what a second core gains.\n\n\
         - Date: {}\n- Commit: {commit}\n- Machine: {}, {cores} core(s), Linux {}\n\n",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        cpu_model(),
        said("uname", &["-r"]),
    )
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("model name"));
    let name = line.and_then(|l| l.split_once(": ")).map(|(_, name)| name.to_owned());
    name.unwrap_or_else(|| "unknown CPU".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::rows::ROWS;
    use super::*;
    use serde_json::json;

    fn series(values: &[f64]) -> Series {
        values.iter().map(|v| Ok(json!({"cpu_us_per_delivery": v, "lost": 0}))).collect()
    }

    fn measured(limit: &[f64], ours: Series) -> Measured {
        Measured { row: &ROWS[0], limit: series(limit), ours: vec![ours] }
    }

    #[test]
    fn the_median_of_paired_ratios_is_held_against_the_bar() {
        // The machine was twice as slow in the second repetition, for both.
        let m = measured(&[3.0, 6.0, 3.0], series(&[3.03, 6.0, 3.06]));
        let (spread, passes) = verdict(&m, &m.ours[0]);
        let spread = spread.unwrap();
        assert!((spread.median - 1.01).abs() < 1e-9 && (spread.max - 1.02).abs() < 1e-9);
        assert!(passes);
        let m = measured(&[3.0, 3.0, 3.0], series(&[3.3, 3.3, 3.0]));
        assert!(!verdict(&m, &m.ours[0]).1);
    }

    #[test]
    fn a_lost_delivery_or_a_failed_run_is_a_miss() {
        let lost = vec![Ok(json!({"cpu_us_per_delivery": 1.0, "lost": 2}))];
        let m = measured(&[3.0], lost);
        assert!(!verdict(&m, &m.ours[0]).1);
        let mut text = String::new();
        misses(&[m], &mut text);
        assert!(text.contains("lost 2"), "{text}");
        let m = measured(&[3.0], vec![Err("no answer".to_owned())]);
        assert_eq!(verdict(&m, &m.ours[0]), (None, false));
    }

    #[test]
    fn spreads() {
        assert_eq!(Spread::of(vec![]), None);
        let s = Spread::of(vec![2.0, 1.0, 4.0, 3.0]).unwrap();
        assert_eq!(s.shown(1), "2.5 (1.0–4.0)");
    }
}
