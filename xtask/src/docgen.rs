//! Documentation that is generated from the program.

mod backbone;
mod overload;

use crate::shell::{self, Result};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// The generated page, relative to the top.
pub const CONFIG_PAGE: &str = "docs/reference/config.md";
/// A measured machine, for the examples of the documentation.
const CAPACITY: &str = "docs/data/capacity.json";
/// Pages with a section about it.
const CAPACITY_PAGES: [&str; 2] = ["docs/benchmarks.md", "docs/guides/capacity-planning.md"];
/// The page with what happens beyond the knee, and the summaries it is made of: `plimsoll bench
/// overload`, `slow` and `storm` with `--json`, their last lines.
const OVERLOAD_PAGE: &str = "docs/benchmarks.md";
const OVERLOAD_BEGIN: &str = "<!-- generated: beyond the knee -->";
/// On the same page: what a broker costs.
const BACKBONE_BEGIN: &str = "<!-- generated: the way between nodes -->";
/// Around that section.
const BEGIN: &str = "<!-- generated: worked example -->";
const END: &str = "<!-- /generated -->";

/// `cargo xtask docgen`.
pub fn main(args: Vec<String>) -> Result<()> {
    shell::nothing_left(&args)?;
    write(&shell::release_binary()?)
}

/// Writes everything that is generated.
pub fn write(binary: &Path) -> Result<()> {
    for (page, text) in wanted(binary)? {
        let file = shell::root().join(&page);
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        std::fs::write(&file, text).map_err(|e| format!("{page}: {e}"))?;
        println!("wrote {page}");
    }
    Ok(())
}

/// Whether the pages in the repository are what this binary makes.
pub fn check(binary: &Path) -> Result<()> {
    for (page, wanted) in wanted(binary)? {
        let found = shell::read(&page);
        if found != wanted {
            let at = wanted.lines().zip(found.lines()).position(|(a, b)| a != b);
            let line = at.unwrap_or_else(|| wanted.lines().count().min(found.lines().count())) + 1;
            return Err(format!(
                "{page} is not what the program makes (first at line {line}): run \
                 `cargo xtask docgen` and commit the page"
            ));
        }
        println!("{page} is what the program makes");
    }
    Ok(())
}

/// Every page that is generated, whole or in part, as it should be.
fn wanted(binary: &Path) -> Result<Vec<(String, String)>> {
    let config = shell::capture(shell::command(binary).arg("config-doc"))?;
    let mut pages = vec![(CONFIG_PAGE.to_owned(), config)];
    let section = capacity_section(binary)?;
    for page in CAPACITY_PAGES {
        let mut text = with_section(page, &shell::read(page), BEGIN, &section)?;
        if page == OVERLOAD_PAGE {
            text = with_section(page, &text, OVERLOAD_BEGIN, &overload::section()?)?;
            text = with_section(page, &text, BACKBONE_BEGIN, &backbone::section()?)?;
        }
        pages.push((page.to_owned(), text));
    }
    Ok(pages)
}

fn with_section(page: &str, text: &str, begin: &str, section: &str) -> Result<String> {
    let parts = text.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| format!("{page}: no {begin} … {END}"))?;
    Ok(format!("{before}{begin}\n{section}{END}{after}"))
}

/// What the machine carries, and the plan of the worked example with it.
fn capacity_section(binary: &Path) -> Result<String> {
    let file = shell::root().join(CAPACITY);
    let data = shell::read(CAPACITY);
    let data: Value = serde_json::from_str(&data).map_err(|e| format!("{CAPACITY}: {e}"))?;
    let plan = shell::capture(shell::command(binary).args(["plan", "--capacity"]).arg(file))?;
    let of = &data["fingerprint"];
    let form = if data["quick"] == true { "the quick form" } else { "the whole form" };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\nMeasured {} by {form} of `plimsoll bench capacity`: {}, {} core(s) and {} worker(s) for \
         the server.\n\n| resource | knee | rated (0.7 ×) | what ended it |\n|---|---|---|---|",
        data["measured_at"].as_str().unwrap_or_default(),
        of["cpu_model"].as_str().unwrap_or_default(),
        of["cores"],
        of["workers"],
    );
    for (name, m) in data["resources"].as_object().into_iter().flatten() {
        let round = |key: &str| grouped(m[key].as_f64().unwrap_or_default());
        let ended = m["ended_by"].as_str().unwrap_or_default().replace('_', " ");
        let name = name.replace("_per_s", " per second").replace('_', " ");
        let _ = writeln!(text, "| {name} | {} | {} | {ended} |", round("knee"), round("rated"));
    }
    if let Some(m) = data["memory"].as_object() {
        let bytes = |key: &str| grouped(m[key].as_f64().unwrap_or_default());
        let _ = writeln!(
            text,
            "\nMemory: {} bytes for each connection, {} more in the kernel, {} for each further \
             subscription.",
            bytes("per_connection_bytes"),
            bytes("per_connection_kernel_bytes"),
            bytes("per_subscription_bytes")
        );
    }
    mixed(&data, &mut text);
    let _ = writeln!(text, "\n```text\n$ plimsoll plan --capacity capacity.json\n{plan}```");
    Ok(text)
}

fn mixed(data: &Value, text: &mut String) {
    let percent = |key: &str, of: &Value| 100.0 * of[key].as_f64().unwrap_or_default();
    if !data["mixed"].is_null() {
        let off = percent("error_ratio", &data["mixed"]);
        let _ = writeln!(text, "\nThe cost model was {off:+.1} % off for the mixed load.");
    }
    if data["cost"].is_null() {
        text.push_str("It is left out of the file: it did not explain the steps well enough.\n");
    }
}

/// `1234567` as `1,234,567`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The empty section, for a page that is written anew.
pub fn empty_section() -> String {
    format!(
        "\n## What a node of this machine carries\n\n{BEGIN}\n{END}\n\n## Beyond the knee\n\n\
         {OVERLOAD_BEGIN}\n{END}\n\n## The way between nodes\n\n{BACKBONE_BEGIN}\n{END}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_replaced_and_nothing_else() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let made = with_section("p", &page, BEGIN, "new\n").unwrap();
        assert_eq!(made, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(with_section("p", &made, BEGIN, "new\n").unwrap(), made);
        assert!(with_section("p", "a", BEGIN, "new").unwrap_err().starts_with("p: "));
    }

    #[test]
    fn numbers_are_grouped() {
        for (value, expect) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1e7, "10,000,000")]
        {
            assert_eq!(grouped(value), expect);
        }
    }
}
