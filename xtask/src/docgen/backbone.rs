//! What a broker costs, from the stored summary of `plimsoll bench backbone`.

use super::grouped;
use crate::shell::{self, Result};
use serde_json::Value;
use std::fmt::Write;

const FILE: &str = "docs/data/backbone.json";

/// Columns of the table: what they say, and the figure of a step.
const COLUMNS: &[(&str, &str)] = &[
    ("published/s", "published_per_s"),
    ("deliveries/s", "deliveries_per_s"),
    ("p50, ms", "latency_p50_ms"),
    ("p99, ms", "latency_p99_ms"),
    ("nodes' CPU, µs each", "nodes_us_per_publication"),
    ("broker's CPU, µs each", "broker_us_per_publication"),
];

/// The section: one row for each part, CPU for each publication.
pub fn section() -> Result<String> {
    let summary: Value =
        serde_json::from_str(&shell::read(FILE)).map_err(|e| format!("{FILE}: {e}"))?;
    let note = summary["notes"][0].as_str().unwrap_or_default();
    let mut text = format!("\n{note} Verdict: {}.\n\n", summary["verdict"].as_str().unwrap_or("?"));
    let labels: Vec<&str> = COLUMNS.iter().map(|(label, _)| *label).collect();
    let _ = writeln!(text, "| | {} |", labels.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(COLUMNS.len()));
    for step in summary["steps"].as_array().into_iter().flatten() {
        let cells: Vec<String> = COLUMNS.iter().map(|(_, key)| cell(&step[*key])).collect();
        let name = step["step"].as_str().unwrap_or_default();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text.push('\n');
    Ok(text)
}

fn cell(value: &Value) -> String {
    match value.as_f64() {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => grouped(value),
        Some(value) => format!("{value:.2}"),
    }
}
