//! Documentation that must exist, links that must lead somewhere, metrics that must be real.

use super::Findings;
use crate::shell::{self, Result};
use std::path::{Component, Path, PathBuf};

const REQUIRED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "STYLE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "deny.toml",
    ".ci/run",
    "docs/README.md",
    "docs/adr/0000-template.md",
    "docs/concepts/channels-and-namespaces.md",
    "docs/concepts/history-and-recovery.md",
    "docs/concepts/protocol.md",
    "docs/guides/authentication.md",
    "docs/guides/configuration.md",
    "docs/guides/getting-started.md",
    "docs/guides/http-api.md",
    "docs/guides/operations.md",
    "docs/concepts/ledger.md",
    "docs/concepts/load-line.md",
    "docs/guides/benchmarking.md",
    "docs/guides/capacity-planning.md",
    "docs/reference/config.md",
    "docs/reference/levels.md",
];

/// The tables that declare every metric once.
const METRIC_TABLES: [&str; 2] = [
    "crates/plimsoll-server/src/telemetry/metrics.rs",
    "crates/plimsoll-server/src/telemetry/metrics/backbone.rs",
];

/// Files that must exist.
pub fn required() -> Result<Findings> {
    let mut found = Findings::default();
    for file in REQUIRED {
        if !shell::root().join(file).is_file() {
            found.problem(format!("{file}: is missing"));
        }
    }
    Ok(found)
}

/// Relative links of every page.
pub fn links() -> Result<Findings> {
    let mut found = Findings::default();
    for file in shell::files()?.iter().filter(|f| f.ends_with(".md")) {
        for target in targets(&shell::read(file)) {
            if let Some(problem) = follow(file, &target) {
                found.problem(format!("{file}: {problem}"));
            }
        }
    }
    Ok(found)
}

/// What stands in the round brackets of `[text](target)`, outside code.
fn targets(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let prose = prose(text);
    let mut rest = prose.as_str();
    while let Some(at) = rest.find("](") {
        rest = &rest[at + 2..];
        let Some(end) = rest.find(')') else { break };
        all.push(rest[..end].split_whitespace().next().unwrap_or_default().to_owned());
    }
    all
}

fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // Every second piece between backticks is code.
            kept.extend(line.split('`').step_by(2));
            kept.push('\n');
        }
    }
    kept
}

fn follow(file: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let page = if path.is_empty() {
        PathBuf::from(file)
    } else {
        normal(&Path::new(file).parent().unwrap_or(Path::new("")).join(path))?
    };
    let full = shell::root().join(&page);
    if !full.exists() {
        return Some(format!("the link {target} leads nowhere"));
    }
    let text = std::fs::read_to_string(&full).unwrap_or_default();
    if !anchor.is_empty() && !headings(&text).iter().any(|h| h == anchor) {
        return Some(format!("the link {target} names no heading"));
    }
    None
}

/// Without `..`, so that a link out of the repository is nothing even where it exists here.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                if !clean.pop() {
                    return Some(PathBuf::from("outside-of-the-repository"));
                }
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Some(clean)
}

/// The anchors that hosting sites give to headings.
fn headings(text: &str) -> Vec<String> {
    let titles = text.lines().filter(|l| l.starts_with('#'));
    let slug = |title: &str| -> String {
        title
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    titles.map(slug).collect()
}

/// Metric names in pages, alerts and dashboards.
pub fn metrics() -> Result<Findings> {
    let mut found = Findings::default();
    let tables: Vec<String> = METRIC_TABLES.iter().map(|t| shell::read(t)).collect();
    let known: Vec<String> = tables.iter().flat_map(|t| declared(t)).collect();
    if tables.iter().all(String::is_empty) {
        found.note("no metric table yet: names were not checked");
        return Ok(found);
    }
    if known.is_empty() {
        found.problem("the tables declare no metric that this check can read");
        return Ok(found);
    }
    let crates = shell::files()?;
    let crates: Vec<String> = crates
        .iter()
        .filter_map(|f| f.strip_prefix("crates/")?.split('/').next())
        .map(|c| c.replace('-', "_"))
        .collect();
    for file in shell::files()? {
        let place = ["docs/", "deploy/", "README.md", "ARCHITECTURE.md"];
        if !place.iter().any(|p| file.starts_with(p)) {
            continue;
        }
        for (line, name) in mentioned(&shell::read(&file)) {
            if !known.iter().any(|k| matches(k, &name)) && !crates.contains(&name) {
                found.problem(format!("{file}:{line}: no metric is called `{name}`"));
            }
        }
    }
    Ok(found)
}

/// The names in the table: its texts that are nothing but a metric's name.
fn declared(table: &str) -> Vec<String> {
    let table = table.split("#[cfg(test)]").next().unwrap_or_default();
    let texts = table.split('"').skip(1).step_by(2);
    let is_name = |t: &&str| {
        let ours = t.starts_with("realtime_") || t.starts_with("plimsoll_");
        ours && t.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    texts.filter(is_name).map(str::to_owned).collect()
}

fn matches(known: &str, name: &str) -> bool {
    // A histogram is one entry of the table and three series.
    known == name
        || ["_bucket", "_sum", "_count"].iter().any(|s| name.strip_suffix(s) == Some(known))
}

fn mentioned(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|w| w.starts_with("realtime_") || w.starts_with("plimsoll_")) {
            // `realtime_*` stands for all of them.
            if !word.ends_with('_') {
                all.push((i + 1, word.to_owned()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_outside_code_are_found() {
        let text = "[a](b.md) `[no](x)` [c](d.md#e \"t\")\n```\n[no](y)\n```\n[f](#g)";
        assert_eq!(targets(text), ["b.md", "d.md#e", "#g"]);
    }

    #[test]
    fn links_are_followed() {
        assert_eq!(follow("README.md", "https://example.org/x"), None);
        assert_eq!(follow("xtask/Cargo.toml", "src/main.rs"), None);
        assert!(follow("README.md", "no/such/page.md").is_some());
        assert!(follow("README.md", "../outside.md").is_some());
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(headings("# A b\n## What `it` costs: now\n"), ["a-b", "what-it-costs-now"]);
    }

    #[test]
    fn metric_names_are_compared() {
        let table = "gauge(\"realtime_x\", \"Help about realtime_x.\", f), name: \"plimsoll_y\"\n\
                     #[cfg(test)]\n\"plimsoll_z\"";
        let known = declared(table);
        assert_eq!(known, ["realtime_x", "plimsoll_y"]);
        assert!(matches("realtime_x", "realtime_x_bucket"));
        assert!(!matches("realtime_x", "realtime_x_total"));
        let text = "`realtime_x_sum{a=\"b\"}` and realtime_* and plimsoll_z";
        assert_eq!(mentioned(text), [(1, "realtime_x_sum".into()), (1, "plimsoll_z".into())]);
    }
}
