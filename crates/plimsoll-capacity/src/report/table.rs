//! A plan as plain text.

use super::words;
use crate::plan::Plan;
use crate::simple::SimplePlan;
use std::fmt::Write;

/// Columns that sentences are broken at.
const COLUMNS: usize = 96;
/// Spaces before a row.
const INDENT: &str = "  ";

/// The plan as text.
pub fn table(plan: &Plan) -> String {
    let money = |v| super::number::money(v, &plan.cost.currency);
    let mut out = format!("{} {}\n\n", words::headline(plan), words::because(plan));
    let summary = [
        ["limited by".to_owned(), words::limited_by(plan)],
        ["real headroom".to_owned(), words::headroom(plan)],
        ["cost".to_owned(), format!("{} a month", money(plan.estimated_monthly_cost))],
    ];
    rows(&mut out, None, &summary.map(Vec::from), 2);
    rows(&mut out, Some(&words::RESOURCE_HEAD), &words::resources(plan), 1);
    for unknown in &plan.not_planned {
        let (what, why) = (unknown.factor.label(), &unknown.why);
        let _ = writeln!(out, "{INDENT}{what}: not planned for, {why}");
    }
    section(&mut out, "Load");
    rows(&mut out, Some(&words::LOAD_HEAD), &words::load(plan), 1);
    section(&mut out, "Losses, broker and day");
    rows(&mut out, None, &words::around(plan), 2);
    section(&mut out, "Cost of a month");
    rows(&mut out, None, &words::cost(plan), 1);
    out.push('\n');
    rows(&mut out, None, &words::unit_costs(plan), 1);
    if !plan.sensitivity.is_empty() {
        section(&mut out, "If one input changes (largest effect first)");
        rows(&mut out, Some(&words::SENSITIVITY_HEAD), &words::sensitivity(plan), 1);
    }
    if !plan.warnings.is_empty() {
        section(&mut out, "Mind");
        for warning in &plan.warnings {
            paragraph(&mut out, "-", warning, 1);
        }
    }
    section(&mut out, "Assumptions");
    let widest = plan.assumptions.iter().map(|a| a.about.chars().count()).max();
    for assumption in &plan.assumptions {
        paragraph(&mut out, &assumption.about, &assumption.says, widest.unwrap_or_default());
    }
    out
}

/// The simple plan as text.
pub fn simple(plan: &SimplePlan, currency: &str) -> String {
    let nodes = super::number::count(plan.servers_needed, "server");
    let mut out = format!("{nodes} by the simple formula. `--model full` counts the rest.\n\n");
    let short = super::number::short;
    let summary = [
        ("limited by", plan.limiting_factor.label().to_owned()),
        ("headroom asked for", super::number::percent(plan.headroom_percent / 100.0)),
        ("cost of a month", super::number::money(plan.estimated_monthly_cost, currency)),
        ("servers for connections", short(plan.connection_limited)),
        ("servers for messages in", short(plan.ingest_limited)),
        ("servers for messages out", short(plan.fanout_limited)),
        ("servers for bandwidth", short(plan.bandwidth_limited)),
    ];
    let summary = summary.map(|(name, value)| vec![name.to_owned(), value]);
    rows(&mut out, None, &summary, 2);
    out
}

fn section(out: &mut String, title: &str) {
    let _ = writeln!(out, "\n{title}");
}

/// Rows in columns: the first `left` to the left, the others to the right.
fn rows(out: &mut String, head: Option<&[&str]>, rows: &[Vec<String>], left: usize) {
    let head: Vec<String> = head.unwrap_or_default().iter().map(|h| (*h).to_owned()).collect();
    let lines: Vec<&Vec<String>> =
        (!head.is_empty()).then_some(&head).into_iter().chain(rows).collect();
    let columns = lines.iter().map(|line| line.len()).max().unwrap_or_default();
    let width = |at: usize| {
        lines.iter().filter_map(|line| line.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        let mut text = String::from(INDENT);
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let gap = if at > 0 { "   " } else { "" };
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            if at < left {
                let _ = write!(text, "{gap}{cell}{padding}");
            } else {
                let _ = write!(text, "{gap}{padding}{cell}");
            }
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
}

/// A name, and beside it a sentence that may need more than one line.
fn paragraph(out: &mut String, name: &str, says: &str, width: usize) {
    let room = COLUMNS.saturating_sub(INDENT.len() + width + 2).max(20);
    let mut line = String::new();
    let mut name = name;
    let mut flush = |line: &mut String| {
        let _ = writeln!(out, "{INDENT}{name:width$}  {line}");
        name = "";
        line.clear();
    };
    for word in says.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            flush(&mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    flush(&mut line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Input, plan};
    use crate::profile::{ServerCapacity, WorkloadProfile};

    #[test]
    fn the_table_has_the_answer_first_and_every_assumption() {
        let input = Input::example().unwrap();
        let plan = plan(&input).unwrap();
        let text = table(&plan);
        let first = "Run 56 nodes. 55 carry the peak, 1 more so that one node may be lost.";
        assert_eq!(text.lines().next(), Some(first));
        for assumption in &plan.assumptions {
            assert!(text.contains(&format!("\n  {}", assumption.about)), "{assumption:?}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= 110 && line.trim_end() == line, "{line:?}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf "));
    }

    #[test]
    fn columns_are_aligned() {
        let mut out = String::new();
        let cells = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        rows(&mut out, Some(&["name", "n"]), &[cells("a", "1,000"), cells("bcdef", "1")], 1);
        assert_eq!(out, "  name        n\n  a       1,000\n  bcdef       1\n");
        let mut out = String::new();
        paragraph(&mut out, "x", &"word ".repeat(30), 3);
        assert!(out.lines().count() > 1 && out.lines().all(|l| l.len() <= COLUMNS));
        assert!(out.lines().nth(1).unwrap().starts_with("       word"));
    }

    #[test]
    fn the_simple_plan_says_its_answer() {
        let example = (WorkloadProfile::default(), ServerCapacity::example());
        let plan = crate::simple::plan(&example.0, &example.1, 0.5).unwrap();
        let text = simple(&plan, "USD");
        assert!(text.starts_with("51 servers") && text.contains("$18,360"), "{text}");
    }
}
