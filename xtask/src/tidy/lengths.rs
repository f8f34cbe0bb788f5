//! How long functions, files and lines may be.

use super::{Findings, source};
use crate::shell::{self, Result};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;
/// A word of this length (a key, a digest, an address) cannot be broken, so its line may be long.
const UNBREAKABLE: usize = 60;

/// Files that may be longer than the rest because they are data, each with its reason.
const TABLES: &[(&str, &str)] = &[];

/// Prose flows and its tables have long rows, and so do style sheets and scripts of tests; code and
/// configuration are read side by side.
const MEASURED: &[&str] = &["rs", "toml", "sh", "py"];

/// The check.
pub fn check() -> Result<Findings> {
    let mut found = Findings::default();
    let all = shell::files()?;
    for (table, _reason) in TABLES {
        if !all.iter().any(|f| f == table) {
            found.problem(format!("{table}: is listed as a table but does not exist"));
        }
    }
    for file in &all {
        let extension = file.rsplit_once('.').map_or("", |(_, e)| e);
        if !MEASURED.contains(&extension) {
            continue;
        }
        let text = shell::read(file);
        columns(file, &text, &mut found);
        if extension == "rs" {
            rust(file, &text, &mut found);
        }
    }
    Ok(found)
}

fn columns(file: &str, text: &str, found: &mut Findings) {
    for (i, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        let breakable = !line.split([' ', '"']).any(|w| w.chars().count() >= UNBREAKABLE);
        if columns > COLUMNS_MAX && breakable {
            found.problem(format!("{file}:{}: {columns} columns > {COLUMNS_MAX}", i + 1));
        }
    }
}

fn rust(file: &str, text: &str, found: &mut Findings) {
    // A test module that was moved out of its file is measured like one inside: not at all.
    if file.ends_with("/tests.rs") || file.ends_with("_tests.rs") {
        return;
    }
    let shipped = before_tests(text);
    for f in source::functions(&source::blank(&shipped)) {
        if f.lines > FUNCTION_LINES_MAX {
            let (line, name, lines) = (f.line, &f.name, f.lines);
            found.problem(format!("{file}:{line}: fn {name} has {lines} lines > 70"));
        }
    }
    let lines = shipped.lines().count();
    let exempt = is_test_file(file) || TABLES.iter().any(|(t, _)| t == &file);
    if lines > FILE_LINES_MAX && !exempt {
        found.problem(format!("{file}: {lines} lines before its tests > {FILE_LINES_MAX}"));
    }
}

/// Tests may be long, and so may this tool, which nobody has to read to know the server.
fn is_test_file(file: &str) -> bool {
    file.starts_with("xtask/") || file.starts_with("conformance/") || file.contains("/tests/")
}

/// The part of a file above its inline test module.
fn before_tests(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        let module = pair[1].starts_with("mod ") && pair[1].ends_with('{');
        pair[0].starts_with("#[cfg(") && pair[0].contains("test") && module
    });
    lines[..tests.unwrap_or(lines.len())].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(file: &str, text: &str) -> Vec<String> {
        let mut found = Findings::default();
        columns(file, text, &mut found);
        rust(file, text, &mut found);
        found.problems
    }

    #[test]
    fn a_function_of_71_lines_is_too_long() {
        let ok = format!("fn a() {{\n{}}}\n", "b();\n".repeat(68));
        let long = format!("fn a() {{\n{}}}\n", "b();\n".repeat(69));
        assert!(problems("a.rs", &ok).is_empty());
        assert_eq!(problems("a.rs", &long), ["a.rs:1: fn a has 71 lines > 70"]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(problems("a.rs", &tests).is_empty());
        assert!(problems("a/tests.rs", &long).is_empty());
    }

    #[test]
    fn a_file_is_measured_above_its_tests() {
        let text = "const A: u8 = 1;\n".repeat(501);
        assert_eq!(problems("a.rs", &text), ["a.rs: 501 lines before its tests > 500"]);
        assert!(problems("crates/x/tests/a.rs", &text).is_empty());
        let text = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert!(problems("a.rs", &text).is_empty());
    }

    #[test]
    fn a_line_that_can_be_broken_must_be() {
        assert_eq!(problems("a.rs", &"// a".repeat(26)), ["a.rs:1: 104 columns > 100"]);
        assert!(problems("a.rs", &format!("const A: &str = \"{}\";", "x".repeat(99))).is_empty());
    }
}
