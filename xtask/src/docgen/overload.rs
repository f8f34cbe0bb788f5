//! What a node does beyond its knee, from stored summaries of `plimsoll bench`.

use super::grouped;
use crate::shell::{self, Result};
use serde_json::Value;
use std::fmt::Write;

/// A row of a table: what it says, and the figure of a step.
type Row = (&'static str, &'static str);

const BEYOND: &[Row] = &[
    ("publications offered/s", "offered_per_s"),
    ("acknowledged/s", "acknowledged_per_s"),
    ("refused/s (error 111)", "refused_per_s"),
    ("deliveries/s", "deliveries_per_s"),
    ("goodput / knee", "goodput_ratio"),
    ("delivery p50, ms", "latency_p50_ms"),
    ("delivery p99, ms", "latency_p99_ms"),
    ("a bystander's reply p99, ms", "reply_p99_ms"),
    ("connections closed", "closes"),
    ("memory, most, MB", "rss_mb_max"),
    ("highest level", "level_max"),
    ("until a level, s", "until_level_s"),
    ("notices heard by a client", "notices"),
    ("Normal again after, s", "back_s"),
    ("generator late p99, ms", "late_p99_ms"),
];

const SLOW: &[Row] = &[
    ("deliveries/s to good readers", "deliveries_per_s"),
    ("delivery p50, ms", "latency_p50_ms"),
    ("delivery p99, ms", "latency_p99_ms"),
    ("server CPU, cores", "server_cores"),
    ("bad readers that came", "bad_came"),
    ("bad readers cut", "bad_cut"),
    ("memory, most, MB", "rss_mb_max"),
    ("memory by the formula, MB", "rss_formula_mb"),
];

const STORM: &[Row] = &[
    ("all back after, ms", "back_all_ms"),
    ("that over N / rate", "back_ratio"),
    ("tries per client", "attempts_per_client"),
    ("tries/s, most", "attempts_per_s_max"),
    ("subscriptions recovered", "recovered"),
    ("not recovered", "not_recovered"),
    ("who stayed: p99 before, ms", "stayed_calm_p99_ms"),
    ("who stayed: p99 in the storm, ms", "stayed_storm_p99_ms"),
];

/// Libraries whose habits the storms have.
const LIBRARIES: [&str; 4] = ["centrifuge-js", "pusher-js", "phoenix", "socket.io"];

/// The section.
pub fn section() -> Result<String> {
    let mut text = String::new();
    for line in ["on", "off"] {
        let summary = stored(&format!("overload-{line}"))?;
        let _ = writeln!(text, "\nWith the load line {line}: {}\n", first_note(&summary));
        let steps = summary["steps"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> = steps.iter().map(|s| name_of(s, "step")).collect();
        table(&mut text, &names, &steps, BEYOND);
        let kept = summary["notes"].as_array().into_iter().flatten();
        let kept: Vec<&str> =
            kept.filter_map(Value::as_str).filter(|n| n.contains("ledger is")).collect();
        let _ = writeln!(text, "\n{}", kept.join(" "));
        let missed: Vec<&str> =
            summary["because"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !missed.is_empty() {
            let _ = writeln!(text, "\nMissed:\n\n- {}", missed.join("\n- "));
        }
    }
    let slow = stored("slow")?;
    text.push_str("\nReaders that never read, in one room with as many good ones:\n\n");
    let steps = slow["steps"].as_array().cloned().unwrap_or_default();
    let names: Vec<String> = steps.iter().map(|s| name_of(s, "step")).collect();
    table(&mut text, &names, &steps, SLOW);
    let _ = writeln!(text, "\n{} Verdict: {}.", first_note(&slow), name_of(&slow, "verdict"));
    text.push_str(
        "\n15,000 clients dropped at once, 3,000 connects per second let in, 500 clients that \
         stay and talk:\n\n",
    );
    let storms: Result<Vec<Value>> =
        LIBRARIES.iter().map(|library| stored(&format!("storm-{library}"))).collect();
    let storms = storms?;
    let steps: Vec<Value> = storms.iter().map(|s| s["steps"][0].clone()).collect();
    let names: Vec<String> = LIBRARIES.iter().map(|&name| name.to_owned()).collect();
    table(&mut text, &names, &steps, STORM);
    let verdicts: Vec<String> = storms.iter().map(|s| name_of(s, "verdict")).collect();
    let _ = writeln!(text, "\nVerdicts: {}.", verdicts.join(", "));
    Ok(text)
}

fn stored(name: &str) -> Result<Value> {
    let file = format!("docs/data/{name}.json");
    serde_json::from_str(&shell::read(&file)).map_err(|e| format!("{file}: {e}"))
}

fn name_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn first_note(summary: &Value) -> &str {
    summary["notes"][0].as_str().unwrap_or_default()
}

fn table(text: &mut String, names: &[String], steps: &[Value], rows: &[Row]) {
    let _ = writeln!(text, "| | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
    for (label, key) in rows {
        let cells: Vec<String> = steps.iter().map(|step| cell(&step[*key])).collect();
        let _ = writeln!(text, "| {label} | {} |", cells.join(" | "));
    }
}

/// Three digits that count; what was not measured is a dash.
fn cell(value: &Value) -> String {
    let Some(number) = value.as_f64() else { return "–".into() };
    match number.abs() {
        n if n >= 100.0 || number.fract() == 0.0 => grouped(number),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_a_column_for_each_step() {
        let steps = [json!({"a": 1.234, "b": 5}), json!({"a": 12_345.6})];
        let mut text = String::new();
        table(&mut text, &["x".into(), "y".into()], &steps, &[("A", "a"), ("B", "b")]);
        let expect = "| | x | y |\n|---|---|---|\n| A | 1.23 | 12,346 |\n| B | 5 | – |\n";
        assert_eq!(text, expect);
    }
}
